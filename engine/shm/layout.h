// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// A view: where each chunk of one snapshot is, in memory that umbra-cowd writes and readers map
// read-only. docs/formats/shm.md is the reference.
//
//   0             header, kHeaderBytes
//   homes         8 bytes for each chunk: Home
//   checksums     4 bytes for each granule: CRC-32C, of chunks whose home says so
//
// Who writes: checksums, then the home (release). Who reads: the home (acquire), then the
// checksums. A home changes from origin to its place, which stays; then at most from unchecked to
// checked. State changes from valid to ended, once.

#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "umbra/ids.h"
#include "umbra/result.h"

namespace umbra::shm {

inline constexpr std::uint64_t kMagic = 0x57454956'41524D55;  // "UMRAVIEW", little-endian.
inline constexpr std::uint32_t kVersion = 1;
inline constexpr std::uint64_t kHeaderBytes = 4096;
inline constexpr std::uint32_t kGranuleBytes = 4096;
inline constexpr std::uint64_t kChunkBytesMax = 1U << 20U;

/// A word of the header, and of the page that says whether umbra-cowd lives.
enum class State : std::uint32_t { ended = 0, valid = 1 };
inline constexpr std::uint64_t kStateOffset = 16;
inline constexpr std::uint64_t kLifeBytes = 4096;  // Of the page; State is its first word.

struct Layout {
  SnapshotId snapshot;
  std::uint64_t volume_bytes = 0;
  std::uint32_t chunk_bytes = 0;  // A power of two; the last chunk may be a part.
  // Of offset, memory and (but for the end of the volume) size of reads; powers of two.
  std::uint32_t origin_alignment_bytes = 1;
  std::uint32_t diff_alignment_bytes = 1;

  [[nodiscard]] std::uint64_t chunk_count() const noexcept {
    return (volume_bytes + chunk_bytes - 1) / chunk_bytes;
  }
  [[nodiscard]] std::uint32_t checksums_per_chunk() const noexcept {
    return chunk_bytes / kGranuleBytes;
  }
  [[nodiscard]] static constexpr std::uint64_t homes_offset() noexcept { return kHeaderBytes; }
  [[nodiscard]] std::uint64_t checksums_offset() const noexcept;
  [[nodiscard]] std::uint64_t total_bytes() const noexcept;  // A multiple of 4096.
};

/// Where a chunk is.
struct Home {
  enum class Kind : std::uint8_t { origin = 0, data = 1, zeroes = 2 };
  Kind kind = Kind::origin;
  bool unchecked = false;          // data: no checksums are known.
  std::uint64_t offset_bytes = 0;  // data: in the diff area, a multiple of kGranuleBytes.

  [[nodiscard]] std::uint64_t word() const noexcept;
  /// Total: what is no home of this version is one of kind data with an offset that is refused by
  /// whoever reads there, or of another kind.
  [[nodiscard]] static Home of(std::uint64_t word) noexcept;
  friend bool operator==(const Home&, const Home&) = default;
};

/// Writes the header, with state valid; homes and checksums are zero already. `memory` has
/// layout.total_bytes().
void format_view(const Layout& layout, std::span<std::byte> memory) noexcept;
/// Errors: version_mismatch; protocol_violation (no view, or its sizes do not agree with each other
/// or with the memory).
[[nodiscard]] Result<Layout> parse_view(std::span<const std::byte> memory);

/// The parts of mapped memory, for both sides. Threads: any; all access is atomic.
class View {
 public:
  /// `memory` is page-aligned and stays.
  View(const Layout& layout, std::span<std::byte> memory) noexcept
      : layout_(layout), memory_(memory.data()) {}

  [[nodiscard]] const Layout& layout() const noexcept { return layout_; }
  [[nodiscard]] std::atomic<std::uint32_t>& state() const noexcept {
    return *reinterpret_cast<std::atomic<std::uint32_t>*>(memory_ + kStateOffset);
  }
  [[nodiscard]] std::atomic<std::uint64_t>& home(std::uint64_t chunk) const noexcept {
    return *reinterpret_cast<std::atomic<std::uint64_t>*>(memory_ + Layout::homes_offset() +
                                                          chunk * sizeof(std::uint64_t));
  }
  [[nodiscard]] std::atomic<std::uint32_t>* checksums(std::uint64_t chunk) const noexcept {
    return reinterpret_cast<std::atomic<std::uint32_t>*>(memory_ + layout_.checksums_offset() +
                                                         chunk * layout_.checksums_per_chunk() *
                                                             sizeof(std::uint32_t));
  }

 private:
  Layout layout_;
  std::byte* memory_;
};
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);
static_assert(std::atomic<std::uint32_t>::is_always_lock_free);

}  // namespace umbra::shm
