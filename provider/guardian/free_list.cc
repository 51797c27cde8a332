// SPDX-License-Identifier: Apache-2.0
#include "provider/guardian/free_list.h"

#include <limits>

namespace umbra::guardian {
namespace {

void put(std::span<std::byte> out, std::uint64_t value) noexcept {
  for (std::size_t i = 0; i < 8; ++i) out[i] = static_cast<std::byte>(value >> (8 * i));
}
[[nodiscard]] std::uint64_t get(std::span<const std::byte> in) noexcept {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < 8; ++i) value |= std::to_integer<std::uint64_t>(in[i]) << (8 * i);
  return value;
}

}  // namespace

void encode_free_extent(const contract::FreeExtent& extent, std::span<std::byte> out) noexcept {
  put(out.subspan(0, 8), extent.device);
  put(out.subspan(8, 8), extent.offset_bytes);
  put(out.subspan(16, 8), extent.size_bytes);
}

void encode_free_count(std::uint64_t count, std::span<std::byte> out) noexcept { put(out, count); }

Result<std::vector<contract::FreeExtent>> decode_free_list(std::span<const std::byte> bytes) {
  constexpr std::uint64_t kEndMax = std::numeric_limits<std::int64_t>::max();
  if (bytes.size() < 8) return fail(Errc::protocol_violation, "a list of free blocks is cut short");
  const std::uint64_t count = get(bytes);
  if (count > kFreeExtentsMax || count > (bytes.size() - 8) / kFreeExtentBytes) {
    return fail(Errc::protocol_violation, "a list of free blocks is longer than its bytes");
  }
  std::vector<contract::FreeExtent> extents;
  extents.reserve(count);
  for (std::size_t i = 0; i < count; ++i) {
    const auto entry = bytes.subspan(8 + i * kFreeExtentBytes, kFreeExtentBytes);
    const contract::FreeExtent extent{get(entry), get(entry.subspan(8)), get(entry.subspan(16))};
    if (extent.size_bytes == 0 || extent.size_bytes > kEndMax ||
        extent.offset_bytes > kEndMax - extent.size_bytes) {
      return fail(Errc::protocol_violation, "a free extent that cannot be");
    }
    extents.push_back(extent);
  }
  return extents;
}

}  // namespace umbra::guardian
