// SPDX-License-Identifier: Apache-2.0
//
// The bytes in which a holder hands over what file systems had free: a count (u64), then for each
// extent the volume's device number, its offset on the volume and its size (u64 each), all
// little-endian. They lie in a file without a name, whose rest is not looked at.
//
// Decoding is total: any bytes give extents or an error.

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "provider/contract/ports.h"
#include "umbra/result.h"

namespace umbra::guardian {

/// What does not fit is not exempt.
inline constexpr std::size_t kFreeExtentsMax = 65'536;
inline constexpr std::size_t kFreeExtentBytes = 24;
inline constexpr std::size_t kFreeListBytesMax = 8 + kFreeExtentsMax * kFreeExtentBytes;

/// `out` has kFreeExtentBytes.
void encode_free_extent(const contract::FreeExtent& extent, std::span<std::byte> out) noexcept;
/// `out` has 8 bytes.
void encode_free_count(std::uint64_t count, std::span<std::byte> out) noexcept;
/// Errors: protocol_violation (too short, too many, or an extent that is empty or ends beyond
/// 2^63).
[[nodiscard]] Result<std::vector<contract::FreeExtent>> decode_free_list(
    std::span<const std::byte> bytes);

}  // namespace umbra::guardian
