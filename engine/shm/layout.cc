// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "engine/shm/layout.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <string>

namespace umbra::shm {
namespace {

constexpr std::uint64_t kPageBytes = 4096;
constexpr std::uint64_t kVolumeBytesMax = std::uint64_t{1} << 60U;
constexpr std::uint32_t kAlignmentBytesMax = kGranuleBytes;
constexpr unsigned kKindShift = 62;
constexpr unsigned kUncheckedShift = 61;
constexpr std::uint64_t kOffsetMask = (std::uint64_t{1} << 60U) - 1;

// Of the header.
struct Wire {
  std::uint64_t magic;
  std::uint32_t version;
  std::uint32_t header_bytes;
  std::uint32_t state;
  std::uint32_t chunk_bytes;
  std::uint32_t granule_bytes;
  std::uint32_t origin_alignment_bytes;
  std::uint32_t diff_alignment_bytes;
  std::uint32_t reserved;
  std::uint64_t volume_bytes;
  std::uint64_t chunk_count;
  std::uint64_t homes_offset;
  std::uint64_t checksums_offset;
  std::uint64_t total_bytes;
  std::uint8_t snapshot[16];
};
static_assert(sizeof(Wire) == 96 && offsetof(Wire, state) == kStateOffset);

[[nodiscard]] std::uint64_t whole_pages(std::uint64_t bytes) noexcept {
  return (bytes + kPageBytes - 1) / kPageBytes * kPageBytes;
}

[[nodiscard]] bool is_alignment(std::uint32_t bytes) noexcept {
  return std::has_single_bit(bytes) && bytes <= kAlignmentBytesMax;
}

}  // namespace

std::uint64_t Layout::checksums_offset() const noexcept {
  return whole_pages(homes_offset() + chunk_count() * sizeof(std::uint64_t));
}

std::uint64_t Layout::total_bytes() const noexcept {
  return whole_pages(checksums_offset() +
                     chunk_count() * checksums_per_chunk() * sizeof(std::uint32_t));
}

std::uint64_t Home::word() const noexcept {
  return std::uint64_t{static_cast<std::uint8_t>(kind)} << kKindShift |
         std::uint64_t{unchecked} << kUncheckedShift | (offset_bytes & kOffsetMask);
}

Home Home::of(std::uint64_t word) noexcept {
  Home home;
  const auto kind = static_cast<std::uint8_t>(word >> kKindShift);
  home.kind =
      kind <= static_cast<std::uint8_t>(Kind::zeroes) ? static_cast<Kind>(kind) : Kind::data;
  if (home.kind != Kind::data) return home;
  home.unchecked = (word >> kUncheckedShift & 1U) != 0;
  home.offset_bytes = word & kOffsetMask;
  return home;
}

void format_view(const Layout& layout, std::span<std::byte> memory) noexcept {
  Wire wire{};
  wire.magic = kMagic;
  wire.version = kVersion;
  wire.header_bytes = kHeaderBytes;
  wire.state = static_cast<std::uint32_t>(State::valid);
  wire.chunk_bytes = layout.chunk_bytes;
  wire.granule_bytes = kGranuleBytes;
  wire.origin_alignment_bytes = layout.origin_alignment_bytes;
  wire.diff_alignment_bytes = layout.diff_alignment_bytes;
  wire.volume_bytes = layout.volume_bytes;
  wire.chunk_count = layout.chunk_count();
  wire.homes_offset = Layout::homes_offset();
  wire.checksums_offset = layout.checksums_offset();
  wire.total_bytes = layout.total_bytes();
  std::copy(layout.snapshot.bytes.begin(), layout.snapshot.bytes.end(), wire.snapshot);
  std::memcpy(memory.data(), &wire, sizeof wire);
}

Result<Layout> parse_view(std::span<const std::byte> memory) {
  Wire wire{};
  if (memory.size() < kHeaderBytes)
    return fail(Errc::protocol_violation, "a view without a header");
  std::memcpy(&wire, memory.data(), sizeof wire);
  if (wire.magic != kMagic) return fail(Errc::protocol_violation, "this is no view of a snapshot");
  if (wire.version != kVersion) {
    return fail(Errc::version_mismatch, "a view of version " + std::to_string(wire.version) +
                                            "; this program reads version " +
                                            std::to_string(kVersion));
  }
  Layout layout;
  layout.volume_bytes = wire.volume_bytes;
  layout.chunk_bytes = wire.chunk_bytes;
  layout.origin_alignment_bytes = wire.origin_alignment_bytes;
  layout.diff_alignment_bytes = wire.diff_alignment_bytes;
  std::copy(std::begin(wire.snapshot), std::end(wire.snapshot), layout.snapshot.bytes.begin());
  const bool sane = wire.header_bytes == kHeaderBytes && wire.granule_bytes == kGranuleBytes &&
                    std::has_single_bit(wire.chunk_bytes) && wire.chunk_bytes >= kGranuleBytes &&
                    wire.chunk_bytes <= kChunkBytesMax && wire.volume_bytes > 0 &&
                    wire.volume_bytes <= kVolumeBytesMax &&
                    is_alignment(wire.origin_alignment_bytes) &&
                    is_alignment(wire.diff_alignment_bytes);
  if (!sane || wire.chunk_count != layout.chunk_count() ||
      wire.homes_offset != Layout::homes_offset() ||
      wire.checksums_offset != layout.checksums_offset() ||
      wire.total_bytes != layout.total_bytes() || wire.total_bytes > memory.size()) {
    return fail(Errc::protocol_violation, "a view whose sizes do not agree with each other");
  }
  return layout;
}

}  // namespace umbra::shm
