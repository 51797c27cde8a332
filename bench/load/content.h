// SPDX-License-Identifier: Apache-2.0
//
// What a volume has to hold: which write each 4 KiB of it is from. Every byte follows from place,
// write and seed, so that whatever is read back can be compared in full.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace umbra::bench {

inline constexpr std::uint64_t kGranule = 4096;

/// One digest of two, in this order; equal ones do not cancel each other out.
[[nodiscard]] constexpr std::uint32_t both(std::uint32_t one, std::uint32_t other) noexcept {
  return one * 16'777'619U ^ other;
}

/// Copies are what a snapshot of the moment has to show. Threads: one at a time.
class Content {
 public:
  Content(std::uint64_t size_bytes, std::uint64_t seed);

  [[nodiscard]] std::uint64_t size_bytes() const noexcept { return versions_.size() * kGranule; }
  /// What is written from now on is told from all before.
  void begin_writes() noexcept { ++version_; }
  /// From now on it holds what `older`, a copy of it, does. Numbers of writes go on.
  void become(const Content& older) { versions_ = older.versions_; }
  /// Fills a buffer with what prepare() needs to be there only once.
  void prepare_buffer(std::span<std::byte> buffer) const;
  /// Makes a prepared buffer the next write of [offset, offset + size), which counts as done.
  /// Multiples of kGranule.
  void write(std::uint64_t offset_bytes, std::span<std::byte> buffer);
  /// Whether the first bytes of each granule are the right ones: cheap enough to be timed.
  [[nodiscard]] bool looks_right(std::uint64_t offset_bytes,
                                 std::span<const std::byte> bytes) const noexcept;
  /// Compares everything. Throws Failed, naming `what` and the place. The digest of the bytes on
  /// top of `digest`.
  [[nodiscard]] std::uint32_t check(std::uint64_t offset_bytes, std::span<const std::byte> bytes,
                                    std::uint32_t digest, const std::string& what) const;
  /// The same where it is only known that each granule is from a write between `earliest`'s and
  /// ours: what a copy shows that was made while writes went on. Both of one seed.
  [[nodiscard]] std::uint32_t check_since(const Content& earliest, std::uint64_t offset_bytes,
                                          std::span<const std::byte> bytes, std::uint32_t digest,
                                          const std::string& what) const;
  /// Notes that granules there are from the newest write that `newer` knows of.
  void follow(const Content& newer, std::uint64_t offset_bytes, std::uint64_t size_bytes);

 private:
  struct Stamp {
    std::uint32_t granule;
    std::uint32_t version;
    std::uint64_t seed;
  };
  [[nodiscard]] Stamp stamp(std::uint64_t granule) const noexcept {
    return {static_cast<std::uint32_t>(granule), versions_[granule], seed_};
  }

  std::uint64_t seed_;
  std::uint32_t version_ = 0;
  std::vector<std::uint32_t> versions_;  // By granule; 0: never written.
  std::array<std::byte, kGranule> pattern_;
};

}  // namespace umbra::bench
