// SPDX-License-Identifier: Apache-2.0
//
// Disks in memory whose own cost is a memcpy, so that what is measured above them is the store.
// They complete inside submit(). Threads: any, for requests that do not overlap.
#pragma once

#include <array>
#include <cstring>
#include <memory>
#include <vector>

#include "engine/platform/block.h"

namespace umbra::bench {

/// All of it is memory, touched beforehand.
class RamDisk final : public block::ResizableDevice {
 public:
  explicit RamDisk(std::uint64_t size_bytes) : bytes_(size_bytes, std::byte{1}) {
    std::memset(bytes_.data(), 0, bytes_.size());
  }
  [[nodiscard]] block::Geometry geometry() const noexcept override;
  void submit(block::Request& first) noexcept override;
  [[nodiscard]] Status resize(std::uint64_t size_bytes) override;

 private:
  std::vector<std::byte> bytes_;
};

/// Keeps only pages that are not all zeroes: preserving a volume of zeroes fills an index of any
/// size and no more memory than that. `forgets`: from then on nothing that is written is kept.
class SparseDisk final : public block::ResizableDevice {
 public:
  explicit SparseDisk(std::uint64_t size_bytes)
      : pages_((size_bytes + kPageBytes - 1) / kPageBytes), size_bytes_(size_bytes) {}
  bool forgets = false;
  [[nodiscard]] std::uint64_t kept_bytes() const noexcept;

  [[nodiscard]] block::Geometry geometry() const noexcept override;
  void submit(block::Request& first) noexcept override;
  [[nodiscard]] Status resize(std::uint64_t size_bytes) override;

 private:
  static constexpr std::uint64_t kPageBytes = 4096;
  using Page = std::array<std::byte, kPageBytes>;
  void read(const block::Request& request) const noexcept;
  void write(const block::Request& request);

  std::vector<std::unique_ptr<Page>> pages_;
  std::uint64_t size_bytes_;
};

}  // namespace umbra::bench
