// SPDX-License-Identifier: Apache-2.0
#include "provider/format/diff_area.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "engine/platform/assert.h"
#include "engine/platform/crc32c.h"

namespace umbra::format {
namespace {

constexpr std::array<char, 8> kSuperblockMagic = {'U', 'M', 'B', 'R', 'A', 'D', 'I', 'F'};
constexpr std::uint32_t kSlotMagic = 0x504E5355U;   // "USNP"
constexpr std::uint32_t kGroupMagic = 0x50524755U;  // "UGRP"
constexpr std::uint16_t kGroupDurable = 1;
constexpr std::uint32_t kCleanFlag = 1;
constexpr std::uint8_t kLostFlag = 1;
constexpr std::uint8_t kPersistentFlag = 2;
constexpr std::uint8_t kRecoveringFlag = 4;
constexpr std::size_t kChecksumAt = kBlockBytes - 4;
constexpr std::size_t kGroupChecksumAt = 68;
constexpr std::size_t kEntryFixedBytes = 12;
constexpr std::size_t kMembersAt = 120;
constexpr std::size_t kRetainAt = kMembersAt + std::size_t{16} * kMembersMax;
constexpr std::size_t kBlobAt = 120;
constexpr std::size_t kBlobExtentBytes = 8;
constexpr std::size_t kTableSegmentsAt = 120;
constexpr std::size_t kSettingsAt = 2176;
constexpr std::size_t kUsesAt = 2240;
constexpr std::size_t kFingerprintAt = 2304;
constexpr std::size_t kRevertAt = 2816;
constexpr std::uint32_t kSettingReflink = 1;
constexpr std::uint32_t kSettingPunchingRefused = 2;
constexpr std::uint32_t kSettingExplicitAssociation = 4;
constexpr std::uint32_t kSettingsKnown = 7;
constexpr std::uint32_t kRevertUnderWay = 1;
constexpr std::uint32_t kRevertDamaged = 2;
constexpr std::uint32_t kEntryFlagsKnown = kEntryZeroes | kEntryChanged | kEntryUnchecked;
static_assert(kTableSegmentsAt + std::size_t{4} * kTableSegmentsMax <= kSettingsAt);
static_assert(kFingerprintAt + kFingerprintBytes == kRevertAt);
static_assert(kRetainAt == 1144);
static_assert(kBlobAt + kBlobInlineMax == kChecksumAt);
constexpr std::size_t kMoveAt = 2944;
constexpr std::size_t kMovePathAt = kMoveAt + 24;
static_assert(kMovePathAt + kMovePathMax <= kChecksumAt);

constexpr std::uint64_t kSegmentDataBytes = 4U << 20U;
constexpr std::uint64_t kSlotsMin = 16;
constexpr std::uint64_t kSlotsMax = 1024;

template <class T>
void put(std::span<std::byte> out, std::size_t at, T value) noexcept {
  for (std::size_t i = 0; i < sizeof(T); ++i) {
    out[at + i] = static_cast<std::byte>(static_cast<std::uint64_t>(value) >> (8 * i));
  }
}
template <class T>
[[nodiscard]] T get(std::span<const std::byte> in, std::size_t at) noexcept {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < sizeof(T); ++i) {
    value |= static_cast<std::uint64_t>(in[at + i]) << (8 * i);
  }
  return static_cast<T>(value);
}
void put_guid(std::span<std::byte> out, std::size_t at, const Guid& guid) noexcept {
  std::memcpy(out.data() + at, guid.bytes.data(), guid.bytes.size());
}
[[nodiscard]] Guid get_guid(std::span<const std::byte> in, std::size_t at) noexcept {
  Guid guid;
  std::memcpy(guid.bytes.data(), in.data() + at, guid.bytes.size());
  return guid;
}
template <class IdType>
[[nodiscard]] IdType get_id(std::span<const std::byte> in, std::size_t at) noexcept {
  return IdType{get_guid(in, at)};
}

void seal(std::span<std::byte> block) noexcept {
  put(block, kChecksumAt, crc32c(block.first(kChecksumAt)));
}
[[nodiscard]] bool sealed(std::span<const std::byte> block) noexcept {
  return get<std::uint32_t>(block, kChecksumAt) == crc32c(block.first(kChecksumAt));
}

// The checksum of a group covers its bytes with the checksum field as zero.
[[nodiscard]] std::uint32_t group_checksum(std::span<const std::byte> used) noexcept {
  constexpr std::array<std::byte, 4> kZero{};
  std::uint32_t crc = crc32c(used.first(kGroupChecksumAt));
  crc = crc32c(kZero, crc);
  return crc32c(used.subspan(kGroupChecksumAt + 4), crc);
}

}  // namespace

// --- layout ----------------------------------------------------------------------------------

Layout Layout::of(std::uint32_t chunk_bytes, std::uint32_t unit_bytes) noexcept {
  Layout layout;
  layout.chunk_bytes = chunk_bytes;
  layout.unit_bytes = unit_bytes;
  layout.checksums_per_chunk = chunk_bytes / kBlockBytes;
  layout.entry_bytes =
      static_cast<std::uint32_t>(kEntryFixedBytes) + 4 * layout.checksums_per_chunk;
  layout.slots = static_cast<std::uint32_t>(
      std::clamp<std::uint64_t>(kSegmentDataBytes / chunk_bytes, kSlotsMin, kSlotsMax));
  layout.index_units = layout.slots * layout.group_units(1);
  layout.index_bytes =
      (layout.index_units * unit_bytes + kBlockBytes - 1) / kBlockBytes * kBlockBytes;
  layout.data_offset = 2 * layout.index_bytes;
  layout.table_slots = layout.slots * (chunk_bytes / kBlockBytes) / 2;
  layout.segment_bytes = layout.data_offset + std::uint64_t{layout.slots} * chunk_bytes;
  return layout;
}

std::uint32_t Layout::group_units(std::uint32_t count) const noexcept {
  return (kGroupHeaderBytes + count * entry_bytes + unit_bytes - 1) / unit_bytes;
}

std::uint64_t Layout::table_offset(std::span<const std::uint32_t> table_segments,
                                   std::uint32_t slot, std::uint32_t copy) const noexcept {
  const auto place = [copy](std::uint32_t index) {
    return (std::uint64_t{index} * 2 + copy) * kBlockBytes;
  };
  if (slot < kTableSlots) return kTableOffset + place(slot);
  const std::uint32_t rest = slot - kTableSlots;
  UMBRA_ASSERT(copy < 2 && rest / table_slots < table_segments.size());
  return segment_offset(table_segments[rest / table_slots]) + data_offset +
         place(rest % table_slots);
}

// --- superblock ------------------------------------------------------------------------------

namespace {

void put_settings(std::span<std::byte> out, const Settings& settings) noexcept {
  put(out, kSettingsAt, settings.protection_level);
  put(out, kSettingsAt + 4, settings.fault);
  put(out, kSettingsAt + 8, settings.fault_filetime);
  put(out, kSettingsAt + 16, settings.diff_bytes_initial);
  const std::uint32_t flags = (settings.reflink ? kSettingReflink : 0U) |
                              (settings.punching_refused ? kSettingPunchingRefused : 0U) |
                              (settings.explicit_association ? kSettingExplicitAssociation : 0U);
  put(out, kSettingsAt + 24, flags);
  put(out, kSettingsAt + 28, settings.snapshots_max);
  put(out, kSettingsAt + 32, settings.retention_longest_seconds);
  put(out, kSettingsAt + 40, settings.highest_filetime);
  put(out, kSettingsAt + 48, settings.retention_reserve_bytes);
  for (std::size_t i = 0; i < settings.threshold_percents.size(); ++i) {
    put(out, kSettingsAt + 56 + i, settings.threshold_percents[i]);
  }
}

[[nodiscard]] bool get_settings(std::span<const std::byte> in, Settings& settings) noexcept {
  settings.protection_level = get<std::uint32_t>(in, kSettingsAt);
  settings.fault = get<std::uint32_t>(in, kSettingsAt + 4);
  settings.fault_filetime = get<std::int64_t>(in, kSettingsAt + 8);
  settings.diff_bytes_initial = get<std::uint64_t>(in, kSettingsAt + 16);
  const auto flags = get<std::uint32_t>(in, kSettingsAt + 24);
  settings.reflink = (flags & kSettingReflink) != 0;
  settings.punching_refused = (flags & kSettingPunchingRefused) != 0;
  settings.explicit_association = (flags & kSettingExplicitAssociation) != 0;
  settings.snapshots_max = get<std::uint32_t>(in, kSettingsAt + 28);
  settings.retention_longest_seconds = get<std::int64_t>(in, kSettingsAt + 32);
  settings.highest_filetime = get<std::int64_t>(in, kSettingsAt + 40);
  settings.retention_reserve_bytes = get<std::uint64_t>(in, kSettingsAt + 48);
  for (std::size_t i = 0; i < settings.threshold_percents.size(); ++i) {
    settings.threshold_percents[i] = get<std::uint8_t>(in, kSettingsAt + 56 + i);
  }
  const auto& percents = settings.threshold_percents;
  return settings.protection_level <= 1 && (flags & ~kSettingsKnown) == 0 &&
         settings.retention_longest_seconds >= 0 &&
         std::is_sorted(percents.begin(), percents.end()) && percents.front() > 0 &&
         percents.back() <= 100;
}

void put_revert(std::span<std::byte> out, const RevertState& revert) noexcept {
  put_guid(out, kRevertAt, revert.snapshot);
  put(out, kRevertAt + 16, revert.next_chunk);
  put(out, kRevertAt + 24,
      (revert.under_way ? kRevertUnderWay : 0U) | (revert.damaged ? kRevertDamaged : 0U));
  put(out, kRevertAt + 32, revert.epoch);
}

[[nodiscard]] bool get_revert(std::span<const std::byte> in, std::uint64_t chunk_count,
                              RevertState& revert) noexcept {
  revert.snapshot = get_id<SnapshotId>(in, kRevertAt);
  revert.next_chunk = get<std::uint64_t>(in, kRevertAt + 16);
  const auto flags = get<std::uint32_t>(in, kRevertAt + 24);
  revert.under_way = (flags & kRevertUnderWay) != 0;
  revert.damaged = (flags & kRevertDamaged) != 0;
  revert.epoch = get<std::uint64_t>(in, kRevertAt + 32);
  return (flags & ~(kRevertUnderWay | kRevertDamaged)) == 0 && revert.next_chunk <= chunk_count &&
         revert.epoch <= kEpochMax;
}

void put_move(std::span<std::byte> out, const Move& move) noexcept {
  const std::size_t length = std::min(move.path.size(), kMovePathMax);
  put(out, kMoveAt, static_cast<std::uint32_t>(move.state));
  put(out, kMoveAt + 4, static_cast<std::uint32_t>(length));
  put_guid(out, kMoveAt + 8, move.id);
  std::memcpy(out.data() + kMovePathAt, move.path.data(), length);
}

// False: values that make no sense.
[[nodiscard]] bool get_move(std::span<const std::byte> in, Move& move) {
  const auto state = get<std::uint32_t>(in, kMoveAt);
  const auto length = get<std::uint32_t>(in, kMoveAt + 4);
  if (state > static_cast<std::uint32_t>(MoveState::moved) || length > kMovePathMax) return false;
  move.state = static_cast<MoveState>(state);
  move.id = get_guid(in, kMoveAt + 8);
  move.path.resize(length);
  std::memcpy(move.path.data(), in.data() + kMovePathAt, length);
  return true;
}

}  // namespace

void encode(const Superblock& superblock, Block out) noexcept {
  std::fill(out.begin(), out.end(), std::byte{0});
  std::memcpy(out.data(), kSuperblockMagic.data(), kSuperblockMagic.size());
  put(out, 8, kDiffAreaVersion);
  put(out, 12, kBlockBytes);
  put_guid(out, 16, superblock.area_id);
  put_guid(out, 32, superblock.volume_id);
  put(out, 48, superblock.origin_bytes);
  put(out, 56, superblock.chunk_bytes);
  put(out, 60, superblock.unit_bytes);
  put(out, 64, superblock.diff_bytes_max);
  put(out, 72, superblock.sequence);
  put(out, 80, superblock.open_count);
  put(out, 88, superblock.trusted_sequence);
  put_guid(out, 96, superblock.boot_id);
  put(out, 112, superblock.clean ? kCleanFlag : 0U);
  UMBRA_ASSERT(superblock.table_segments.size() <= kTableSegmentsMax);
  put(out, 116, static_cast<std::uint32_t>(superblock.table_segments.size()));
  std::size_t at = kTableSegmentsAt;
  for (const std::uint32_t segment : superblock.table_segments) {
    put(out, at, segment);
    at += 4;
  }
  put_settings(out, superblock.settings);
  std::copy(superblock.fingerprint.begin(), superblock.fingerprint.end(),
            out.begin() + kFingerprintAt);
  put(out, kUsesAt, superblock.uses.segments);
  put(out, kUsesAt + 8, superblock.uses.generations);
  put_revert(out, superblock.revert);
  put_move(out, superblock.move);
  seal(out);
}

Result<Superblock> decode_superblock(ConstBlock bytes) {
  if (std::memcmp(bytes.data(), kSuperblockMagic.data(), kSuperblockMagic.size()) != 0) {
    return fail(Errc::diff_area_foreign, "no superblock");
  }
  const auto version = get<std::uint32_t>(bytes, 8);
  if (version != kDiffAreaVersion) {
    return fail(Errc::diff_area_version,
                "the diff area has format version " + std::to_string(version) +
                    ", this program knows only " + std::to_string(kDiffAreaVersion) +
                    ": use its snapshots with the program that made them, or attach with force to "
                    "make it anew without them (the origin is complete without its diff area)");
  }
  if (!sealed(bytes)) return fail(Errc::diff_area_corrupt, "superblock checksum");
  Superblock superblock;
  superblock.area_id = get_guid(bytes, 16);
  superblock.volume_id = get_id<VolumeId>(bytes, 32);
  superblock.origin_bytes = get<std::uint64_t>(bytes, 48);
  superblock.chunk_bytes = get<std::uint32_t>(bytes, 56);
  superblock.unit_bytes = get<std::uint32_t>(bytes, 60);
  superblock.diff_bytes_max = get<std::uint64_t>(bytes, 64);
  superblock.sequence = get<std::uint64_t>(bytes, 72);
  superblock.open_count = get<std::uint64_t>(bytes, 80);
  superblock.trusted_sequence = get<std::uint64_t>(bytes, 88);
  superblock.boot_id = get_guid(bytes, 96);
  superblock.clean = (get<std::uint32_t>(bytes, 112) & kCleanFlag) != 0;
  const auto table_segments = get<std::uint32_t>(bytes, 116);
  const bool sane =
      std::has_single_bit(superblock.chunk_bytes) && superblock.chunk_bytes >= kBlockBytes &&
      superblock.chunk_bytes <= (1U << 20U) && std::has_single_bit(superblock.unit_bytes) &&
      superblock.unit_bytes >= 512 && superblock.unit_bytes <= kBlockBytes &&
      superblock.origin_bytes > 0 && superblock.origin_bytes <= (std::uint64_t{1} << 62U) &&
      superblock.open_count <= kOpenCountMax && superblock.trusted_sequence <= kSequenceMax &&
      table_segments <= kTableSegmentsMax && get_move(bytes, superblock.move);
  if (!sane) return fail(Errc::diff_area_corrupt, "superblock values");
  const std::uint64_t chunk_count =
      (superblock.origin_bytes + superblock.chunk_bytes - 1) / superblock.chunk_bytes;
  if (!get_settings(bytes, superblock.settings)) {
    return fail(Errc::diff_area_corrupt, "superblock settings");
  }
  if (!get_revert(bytes, chunk_count, superblock.revert)) {
    return fail(Errc::diff_area_corrupt, "superblock state of a revert");
  }
  superblock.uses.segments = get<std::uint64_t>(bytes, kUsesAt);
  superblock.uses.generations = get<std::uint64_t>(bytes, kUsesAt + 8);
  std::copy_n(bytes.begin() + kFingerprintAt, kFingerprintBytes, superblock.fingerprint.begin());
  for (std::size_t i = 0; i < table_segments; ++i) {
    superblock.table_segments.push_back(get<std::uint32_t>(bytes, kTableSegmentsAt + 4 * i));
  }
  return superblock;
}

// --- snapshot table --------------------------------------------------------------------------

namespace {

void put_blob(std::span<std::byte> out, const Blob& blob) noexcept {
  UMBRA_ASSERT(blob.bytes.size() <= kBlobInlineMax && blob.extents.size() <= kBlobExtentsMax);
  UMBRA_ASSERT(blob.extents.empty() ? blob.bytes.size() == blob.size_bytes : blob.bytes.empty());
  put(out, 30, static_cast<std::uint16_t>(blob.extents.size()));
  put_guid(out, 32, blob.key);
  put(out, 48, blob.kind);
  put(out, 52, blob.checksum);
  put(out, 56, blob.size_bytes);
  std::copy(blob.bytes.begin(), blob.bytes.end(), out.begin() + kBlobAt);
  std::size_t at = kBlobAt;
  for (const BlobExtent& extent : blob.extents) {
    put(out, at, extent.segment);
    put(out, at + 4, extent.first_slot);
    put(out, at + 6, extent.count);
    at += kBlobExtentBytes;
  }
}

[[nodiscard]] bool get_blob(std::span<const std::byte> in, Blob& blob) {
  const auto extents = get<std::uint16_t>(in, 30);
  blob.key = get_guid(in, 32);
  blob.kind = get<std::uint32_t>(in, 48);
  blob.checksum = get<std::uint32_t>(in, 52);
  blob.size_bytes = get<std::uint64_t>(in, 56);
  if (extents > kBlobExtentsMax || blob.size_bytes > kBlobBytesMax) return false;
  if (extents == 0) {
    if (blob.size_bytes > kBlobInlineMax) return false;
    const auto bytes = in.subspan(kBlobAt, blob.size_bytes);
    blob.bytes.assign(bytes.begin(), bytes.end());
    return crc32c(bytes) == blob.checksum;
  }
  for (std::size_t i = 0; i < extents; ++i) {
    const std::size_t at = kBlobAt + i * kBlobExtentBytes;
    blob.extents.push_back({get<std::uint32_t>(in, at), get<std::uint16_t>(in, at + 4),
                            get<std::uint16_t>(in, at + 6)});
  }
  return true;
}

}  // namespace

void encode(const SnapshotSlot& slot, std::uint64_t area, Block out) noexcept {
  UMBRA_ASSERT(slot.members.size() <= kMembersMax);
  std::fill(out.begin(), out.end(), std::byte{0});
  put(out, 0, kSlotMagic);
  put(out, 4, kDiffAreaVersion);
  put(out, 8, slot.sequence);
  put(out, 16, area);
  put(out, 24, slot.index);
  put(out, 28, static_cast<std::uint8_t>(slot.state));
  put(out, 96, slot.epoch);
  if (slot.state == SlotState::blob) {
    put_blob(out, slot.blob);
    seal(out);
    return;
  }
  const unsigned flags = (slot.lost ? kLostFlag : 0U) | (slot.persistent ? kPersistentFlag : 0U) |
                         (slot.recovering ? kRecoveringFlag : 0U);
  put(out, 29, static_cast<std::uint8_t>(flags));
  put(out, 30, static_cast<std::uint16_t>(slot.members.size()));
  put_guid(out, 32, slot.id);
  put_guid(out, 48, slot.set_id);
  put_guid(out, 64, slot.session_id);
  put_guid(out, 80, slot.boot_id);
  put(out, 104, slot.creation_filetime);
  put(out, 112, slot.attributes);
  for (std::size_t i = 0; i < slot.members.size(); ++i) {
    put_guid(out, kMembersAt + 16 * i, slot.members[i]);
  }
  put(out, kRetainAt, slot.retain_until_filetime);
  seal(out);
}

Result<SnapshotSlot> decode_slot(ConstBlock bytes, std::uint64_t area, std::uint32_t index) {
  const auto state = get<std::uint8_t>(bytes, 28);
  const auto member_count = get<std::uint16_t>(bytes, 30);
  if (get<std::uint32_t>(bytes, 0) != kSlotMagic || !sealed(bytes) ||
      get<std::uint64_t>(bytes, 16) != area || get<std::uint32_t>(bytes, 24) != index ||
      state > static_cast<std::uint8_t>(SlotState::blob)) {
    return fail(Errc::diff_area_corrupt, "snapshot slot " + std::to_string(index));
  }
  SnapshotSlot slot;
  slot.index = index;
  slot.sequence = get<std::uint64_t>(bytes, 8);
  slot.state = static_cast<SlotState>(state);
  slot.epoch = get<std::uint64_t>(bytes, 96);
  if (slot.epoch == 0 || slot.epoch > kEpochMax) {
    return fail(Errc::diff_area_corrupt, "epoch of snapshot slot " + std::to_string(index));
  }
  if (slot.state == SlotState::blob) {
    if (get_blob(bytes, slot.blob)) return slot;
    return fail(Errc::diff_area_corrupt, "blob in snapshot slot " + std::to_string(index));
  }
  if (member_count > kMembersMax) {
    return fail(Errc::diff_area_corrupt, "members in snapshot slot " + std::to_string(index));
  }
  const auto flags = get<std::uint8_t>(bytes, 29);
  slot.lost = (flags & kLostFlag) != 0;
  slot.persistent = (flags & kPersistentFlag) != 0;
  slot.recovering = (flags & kRecoveringFlag) != 0;
  slot.id = get_id<SnapshotId>(bytes, 32);
  slot.set_id = get_id<SnapshotSetId>(bytes, 48);
  slot.session_id = get_id<SessionId>(bytes, 64);
  slot.boot_id = get_guid(bytes, 80);
  slot.creation_filetime = get<std::int64_t>(bytes, 104);
  slot.attributes = get<std::uint32_t>(bytes, 112);
  slot.retain_until_filetime = get<std::int64_t>(bytes, kRetainAt);
  for (std::size_t i = 0; i < member_count; ++i) {
    slot.members.push_back(get_id<SnapshotId>(bytes, kMembersAt + 16 * i));
  }
  return slot;
}

bool is_zero(std::span<const std::byte> bytes) noexcept {
  // The first byte is zero and every other equals the one before it: memcmp is far faster than a
  // loop, and the whole snapshot table is looked at in every open.
  return bytes.empty() || (bytes[0] == std::byte{0} &&
                           std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0);
}

// --- groups of records -----------------------------------------------------------------------

std::uint64_t area_tag(const Guid& area_id) noexcept {
  std::uint64_t tag = 0;
  for (std::size_t i = 0; i < 8; ++i) tag |= std::uint64_t{area_id.bytes[i]} << (8 * i);
  return tag;
}

void encode_group(const Layout& layout, std::uint64_t area, const GroupHeader& header,
                  std::span<const std::uint64_t> chunks, std::span<const std::uint32_t> checksums,
                  std::span<std::byte> out, std::span<const std::uint32_t> flags) noexcept {
  UMBRA_ASSERT(chunks.size() == header.count);
  UMBRA_ASSERT(flags.empty() || flags.size() == chunks.size());
  UMBRA_ASSERT(checksums.size() == chunks.size() * layout.checksums_per_chunk);
  UMBRA_ASSERT(out.size() == std::size_t{header.is_void() ? 1U : header.units} * layout.unit_bytes);
  std::fill(out.begin(), out.end(), std::byte{0});
  put(out, 0, kGroupMagic);
  put(out, 4, static_cast<std::uint16_t>(header.kind));
  put(out, 6, header.durable ? kGroupDurable : std::uint16_t{0});
  put(out, 8, area);
  put(out, 16, header.generation);
  put(out, 24, header.sequence);
  put(out, 32, header.epoch);
  put(out, 40, header.completed_sequence);
  put(out, 48, header.durable_sequence);
  put(out, 56, header.segment);
  put(out, 60, header.unit);
  put(out, 62, header.units);
  put(out, 64, header.first_slot);
  put(out, 66, header.count);
  std::size_t at = kGroupHeaderBytes;
  for (std::size_t i = 0; i < chunks.size(); ++i) {
    put(out, at, chunks[i]);
    put(out, at + 8, flags.empty() ? 0U : flags[i]);
    at += kEntryFixedBytes;
    for (std::size_t k = 0; k < layout.checksums_per_chunk; ++k, at += 4) {
      put(out, at, checksums[i * layout.checksums_per_chunk + k]);
    }
  }
  put(out, kGroupChecksumAt, group_checksum(out.first(at)));
}

bool decode_group(const Layout& layout, std::uint64_t area, std::uint32_t segment,
                  std::uint32_t unit, std::uint64_t chunk_count, std::span<const std::byte> bytes,
                  Group& out) {
  if (bytes.size() < kGroupHeaderBytes || get<std::uint32_t>(bytes, 0) != kGroupMagic) return false;
  const auto kind = get<std::uint16_t>(bytes, 4);
  if (kind < static_cast<std::uint16_t>(GroupKind::records) ||
      kind > static_cast<std::uint16_t>(GroupKind::end)) {
    return false;
  }
  if (get<std::uint64_t>(bytes, 8) != area) return false;
  GroupHeader header;
  header.kind = static_cast<GroupKind>(kind);
  header.durable = (get<std::uint16_t>(bytes, 6) & kGroupDurable) != 0;
  header.generation = get<std::uint64_t>(bytes, 16);
  header.sequence = get<std::uint64_t>(bytes, 24);
  header.epoch = get<std::uint64_t>(bytes, 32);
  header.completed_sequence = get<std::uint64_t>(bytes, 40);
  header.durable_sequence = get<std::uint64_t>(bytes, 48);
  header.segment = get<std::uint32_t>(bytes, 56);
  header.unit = get<std::uint16_t>(bytes, 60);
  header.units = get<std::uint16_t>(bytes, 62);
  header.first_slot = get<std::uint16_t>(bytes, 64);
  header.count = get<std::uint16_t>(bytes, 66);
  const bool counted = header.generation <= kSequenceMax && header.sequence <= kSequenceMax &&
                       header.completed_sequence <= kSequenceMax &&
                       header.durable_sequence <= kSequenceMax && header.epoch <= kEpochMax &&
                       (header.is_void() || header.epoch > 0);
  if (!counted) return false;
  const bool placed = header.segment == segment && header.unit == unit && header.units > 0 &&
                      header.unit + header.units <= layout.index_units;
  if (!placed || header.is_void() != (header.count == 0)) return false;
  if (!header.is_void() && header.units != layout.group_units(header.count)) return false;
  const std::size_t used = kGroupHeaderBytes + std::size_t{header.count} * layout.entry_bytes;
  if (used > bytes.size()) return false;
  if (get<std::uint32_t>(bytes, kGroupChecksumAt) != group_checksum(bytes.first(used)))
    return false;
  out.header = header;
  out.chunks.clear();
  out.checksums.clear();
  out.flags.clear();
  std::uint32_t slots_end = header.first_slot;
  std::size_t at = kGroupHeaderBytes;
  for (std::size_t i = 0; i < header.count; ++i) {
    out.chunks.push_back(get<std::uint64_t>(bytes, at));
    const auto flags = get<std::uint32_t>(bytes, at + 8);
    const bool known = (flags & ~kEntryFlagsKnown) == 0 && (flags & (flags - 1)) == 0;
    if (out.chunks.back() >= chunk_count || !known) return false;
    out.flags.push_back(flags);
    if (has_data(flags)) ++slots_end;
    at += kEntryFixedBytes;
    for (std::size_t k = 0; k < layout.checksums_per_chunk; ++k, at += 4) {
      out.checksums.push_back(get<std::uint32_t>(bytes, at));
    }
  }
  return slots_end <= layout.slots;
}

}  // namespace umbra::format
