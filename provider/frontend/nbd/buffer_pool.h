// SPDX-License-Identifier: Apache-2.0
//
// Payload buffers of one connection: page-aligned, power-of-two sizes, kept for reuse up to
// kCachedBytesMax each, under a budget in bytes. Not thread-safe: the connection's lock guards it.
//
// The budget counts what is handed out and what is kept; acquire() frees kept buffers of other
// sizes before it gives up. A request that is bigger than the budget never succeeds: the owner's
// limits must exclude it.

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace umbra::nbd {

class BufferPool {
 public:
  static constexpr std::size_t kAlignment = 4096;
  static constexpr std::size_t kCachedBytesMax = 1U << 20U;

  struct Buffer {
    std::byte* data = nullptr;
    std::size_t capacity = 0;
  };

  explicit BufferPool(std::size_t budget_bytes) : budget_bytes_(budget_bytes) {}
  ~BufferPool();
  BufferPool(const BufferPool&) = delete;
  BufferPool& operator=(const BufferPool&) = delete;

  /// At least `size` bytes; data is null if the budget is used up for now.
  [[nodiscard]] Buffer acquire(std::size_t size);
  void release(Buffer buffer) noexcept;

  [[nodiscard]] std::size_t used_bytes() const noexcept { return used_bytes_; }

 private:
  static constexpr std::size_t kClassCount = 9;  // 4 KiB to 1 MiB.
  bool make_room(std::size_t size) noexcept;

  std::size_t budget_bytes_;
  std::size_t used_bytes_ = 0;  // Handed out and kept.
  std::array<std::vector<std::byte*>, kClassCount> kept_;
};

}  // namespace umbra::nbd
