// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "engine/platform/aligned.h"

#include <cstring>
#include <new>

namespace umbra {
namespace {

constexpr std::align_val_t kAlignment{4096};

}  // namespace

void AlignedFree::operator()(std::byte* memory) const noexcept {
  ::operator delete[](memory, kAlignment);
}

AlignedBuffer make_aligned(std::size_t size_bytes) {
  return AlignedBuffer(static_cast<std::byte*>(::operator new[](size_bytes, kAlignment)));
}

AlignedBuffer make_aligned_zeroes(std::size_t size_bytes) {
  AlignedBuffer buffer = make_aligned(size_bytes);
  std::memset(buffer.get(), 0, size_bytes);
  return buffer;
}

}  // namespace umbra
