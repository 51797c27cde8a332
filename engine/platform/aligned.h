// SPDX-License-Identifier: Apache-2.0 OR MIT
#pragma once

#include <cstddef>
#include <memory>

namespace umbra {

/// Memory for device I/O: aligned for O_DIRECT, and for pages.
struct AlignedFree {
  void operator()(std::byte* memory) const noexcept;
};
using AlignedBuffer = std::unique_ptr<std::byte[], AlignedFree>;
/// Its contents are indeterminate.
[[nodiscard]] AlignedBuffer make_aligned(std::size_t size_bytes);
[[nodiscard]] AlignedBuffer make_aligned_zeroes(std::size_t size_bytes);

}  // namespace umbra
