// SPDX-License-Identifier: Apache-2.0
#include "provider/frontend/nbd/buffer_pool.h"

#include <bit>
#include <cstdlib>

#include "engine/platform/assert.h"

namespace umbra::nbd {
namespace {

std::size_t class_of(std::size_t capacity) {
  return static_cast<std::size_t>(std::countr_zero(capacity / BufferPool::kAlignment));
}

}  // namespace

BufferPool::~BufferPool() { (void)make_room(budget_bytes_ + 1); }

BufferPool::Buffer BufferPool::acquire(std::size_t size) {
  const std::size_t capacity = size <= kAlignment ? kAlignment : std::bit_ceil(size);
  if (capacity <= kCachedBytesMax) {
    auto& kept = kept_[class_of(capacity)];
    if (!kept.empty()) {
      std::byte* data = kept.back();
      kept.pop_back();
      return {data, capacity};
    }
  }
  if (used_bytes_ + capacity > budget_bytes_ && !make_room(capacity)) return {};
  auto* data = static_cast<std::byte*>(std::aligned_alloc(kAlignment, capacity));
  UMBRA_ASSERT(data != nullptr);  // Out of memory: the guardian starts a successor.
  used_bytes_ += capacity;
  return {data, capacity};
}

void BufferPool::release(Buffer buffer) noexcept {
  if (buffer.data == nullptr) return;
  if (buffer.capacity <= kCachedBytesMax) {
    auto& kept = kept_[class_of(buffer.capacity)];
    kept.push_back(buffer.data);
    return;
  }
  std::free(buffer.data);
  used_bytes_ -= buffer.capacity;
}

// Frees kept buffers, big ones first, until `size` fits.
bool BufferPool::make_room(std::size_t size) noexcept {
  for (std::size_t i = kClassCount; i-- > 0;) {
    while (!kept_[i].empty()) {
      if (used_bytes_ + size <= budget_bytes_) return true;
      std::free(kept_[i].back());
      kept_[i].pop_back();
      used_bytes_ -= kAlignment << i;
    }
  }
  return used_bytes_ + size <= budget_bytes_;
}

}  // namespace umbra::nbd
