// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>

namespace umbra::cow {

/// Memory for device I/O: aligned for O_DIRECT.
struct AlignedFree {
  void operator()(std::byte* memory) const noexcept;
};
using AlignedBuffer = std::unique_ptr<std::byte[], AlignedFree>;
[[nodiscard]] AlignedBuffer make_aligned(std::size_t size_bytes);

}  // namespace umbra::cow
