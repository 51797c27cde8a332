// SPDX-License-Identifier: Apache-2.0
//
// The bytes of a diff area: the only place that encodes and decodes them. Little-endian, versioned;
// docs/formats/diff-area.md is the specification. Nothing here knows when a structure is written.
//
//   superblock | superblock | snapshot table | segment | segment | ...
//   segment:  index (groups of records, rewritten only to add checksums) | its copy | data slots
//        or:  unused                                              | unused   | more snapshot table
//        or:  unused                                              | unused   | blobs
//
// Decoding is total: any bytes give a value or a reason, and every number of a decoded value is
// within the bounds of the layout.

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "umbra/ids.h"
#include "umbra/result.h"

namespace umbra::format {

inline constexpr std::uint32_t kDiffAreaVersion = 3;
inline constexpr std::uint32_t kBlockBytes = 4096;  // Superblock, snapshot slot, checksum granule.
inline constexpr std::uint64_t kSuperblockOffsets[2] = {0, 64U << 10U};
inline constexpr std::uint64_t kTableOffset = 128U << 10U;
inline constexpr std::uint32_t kTableSlots = 512;  // Before the segments; more are in segments.
inline constexpr std::uint32_t kTableSegmentsMax = 511;
/// What every layout has room for.
inline constexpr std::uint32_t kSnapshotsMax = kTableSlots * (1 + kTableSegmentsMax);
inline constexpr std::uint64_t kSegmentsOffset =
    kTableOffset + std::uint64_t{kTableSlots} * 2 * kBlockBytes;
inline constexpr std::uint32_t kMembersMax = 64;
inline constexpr std::uint32_t kGroupHeaderBytes = 72;
inline constexpr std::size_t kFingerprintBytes = 512;
/// A blob of up to this many bytes lies in its table slot; a larger one in segments.
inline constexpr std::size_t kBlobInlineMax = kBlockBytes - 4 - 120;
inline constexpr std::size_t kBlobExtentsMax = kBlobInlineMax / 8;
inline constexpr std::uint64_t kBlobBytesMax = std::uint64_t{1} << 30U;
/// Larger numbers than these are damage: nobody counts so far.
inline constexpr std::uint64_t kEpochMax = (std::uint64_t{1} << 56U) - 2;
inline constexpr std::uint64_t kSequenceMax = std::uint64_t{1} << 62U;
inline constexpr std::uint64_t kOpenCountMax = std::uint64_t{1} << 30U;

// --- layout ----------------------------------------------------------------------------------

/// Everything that follows from the chunk size and the unit; the same on every machine.
struct Layout {
  std::uint32_t chunk_bytes = 0;
  std::uint32_t unit_bytes = 0;  // Of the index: the diff device's sector, at least 512.
  std::uint32_t checksums_per_chunk = 0;
  std::uint32_t entry_bytes = 0;
  std::uint32_t slots = 0;        // Per segment.
  std::uint32_t index_units = 0;  // Per segment: enough if every group has one record.
  std::uint32_t index_bytes = 0;  // Of one of the two copies, padded to kBlockBytes.
  std::uint32_t data_offset = 0;  // In the segment.
  std::uint32_t table_slots = 0;  // Snapshot slots of a segment that is part of the table.
  std::uint64_t segment_bytes = 0;

  [[nodiscard]] static Layout of(std::uint32_t chunk_bytes, std::uint32_t unit_bytes) noexcept;
  /// Units of a group of `count` records.
  [[nodiscard]] std::uint32_t group_units(std::uint32_t count) const noexcept;
  [[nodiscard]] std::uint64_t segment_offset(std::uint64_t segment) const noexcept {
    return kSegmentsOffset + segment * segment_bytes;
  }
  [[nodiscard]] std::uint64_t slot_offset(std::uint64_t segment,
                                          std::uint32_t slot) const noexcept {
    return segment_offset(segment) + data_offset + std::uint64_t{slot} * chunk_bytes;
  }
  /// Of the index's copy 0 or 1.
  [[nodiscard]] std::uint64_t unit_offset(std::uint64_t segment, std::uint32_t unit,
                                          std::uint32_t copy) const noexcept {
    return segment_offset(segment) + std::uint64_t{copy} * index_bytes +
           std::uint64_t{unit} * unit_bytes;
  }
  /// Of copy 0 or 1 of a snapshot's slot. `table_segments` are those of the superblock.
  [[nodiscard]] std::uint64_t table_offset(std::span<const std::uint32_t> table_segments,
                                           std::uint32_t slot, std::uint32_t copy) const noexcept;
  [[nodiscard]] std::uint64_t segments_in(std::uint64_t diff_bytes) const noexcept {
    return diff_bytes < kSegmentsOffset ? 0 : (diff_bytes - kSegmentsOffset) / segment_bytes;
  }
};

// --- superblock ------------------------------------------------------------------------------

/// What the volume's owner has chosen, and what has to be remembered beside it.
struct Settings {
  std::uint32_t protection_level = 0;  // VSS_PROTECTION_LEVEL: 0 original volume, 1 snapshot.
  std::uint32_t fault = 0;             // VSS_PROTECTION_FAULT; 0: none.
  std::int64_t fault_filetime = 0;
  std::uint64_t diff_bytes_initial = 0;
  bool reflink = false;                        // Chunks may be preserved by sharing blocks.
  bool punching_refused = false;               // The host cannot give space back.
  bool explicit_association = false;           // Somebody asked for this diff area, not a default.
  std::uint32_t snapshots_max = 0;             // 0: not set.
  std::int64_t retention_longest_seconds = 0;  // 0: no retention lock can be set.
  std::int64_t highest_filetime = 0;           // Highest time ever seen: clocks may be set back.
  std::uint64_t retention_reserve_bytes = 0;
  std::array<std::uint8_t, 3> threshold_percents = {80, 90, 95};  // Ascending, at most 100.
  friend bool operator==(const Settings&, const Settings&) = default;
};

/// A revert that is under way: chunks below next_chunk are done.
struct RevertState {
  bool under_way = false;
  SnapshotId snapshot;
  std::uint64_t next_chunk = 0;
  std::uint64_t epoch = 0;  // Records and marks of this and later epochs were made since its start.
  bool damaged = false;     // Records that it needs were found damaged: it cannot go on.
  friend bool operator==(const RevertState&, const RevertState&) = default;
};

/// A diff area that goes to another device, or comes from one. Both have one area id.
enum class MoveState : std::uint32_t {
  none = 0,      // In force.
  arriving = 1,  // Not in force: perhaps not complete; unless the other one says "moved".
  moved = 2,     // Not in force any more.
};

struct Move {
  MoveState state = MoveState::none;
  Guid id;           // Of the move, in both.
  std::string path;  // Of the other one, for people; cut off after kMovePathMax bytes.
  friend bool operator==(const Move&, const Move&) = default;
};
inline constexpr std::size_t kMovePathMax = 1024;

/// Segments whose index shows a use, and the sum of the generations of these uses (it may wrap).
struct Uses {
  std::uint64_t segments = 0;
  std::uint64_t generations = 0;

  void add(std::uint64_t generation) noexcept {
    ++segments;
    generations += generation;
  }
  /// Some of what this counts is not in `found`: an index never shows an older use than it did.
  [[nodiscard]] bool missed_in(const Uses& found) const noexcept {
    return found.segments < segments ||
           static_cast<std::int64_t>(generations - found.generations) > 0;
  }
  friend bool operator==(const Uses&, const Uses&) = default;
};

struct Superblock {
  Guid area_id;  // Made by format; in every structure, so that older content is recognised.
  VolumeId volume_id;
  std::uint64_t origin_bytes = 0;
  std::uint32_t chunk_bytes = 0;
  std::uint32_t unit_bytes = 0;
  std::uint64_t diff_bytes_max = 0;  // 0: no bound.
  std::uint64_t sequence = 0;        // Of superblock writes: the higher valid one counts.
  std::uint64_t open_count = 0;
  std::uint64_t trusted_sequence = 0;  // Groups up to here were durable when this was written.
  Guid boot_id;                        // Of the last open.
  bool clean = false;
  // Segments that are part of the snapshot table, in the order in which they were added.
  std::vector<std::uint32_t> table_segments;
  Settings settings;
  std::array<std::byte, kFingerprintBytes> fingerprint{};  // Of the origin; all zeroes: none.
  RevertState revert;
  Move move;
  Uses uses;  // Counts if `clean`; 0 segments: nothing is known.
};

using Block = std::span<std::byte, kBlockBytes>;
using ConstBlock = std::span<const std::byte, kBlockBytes>;

void encode(const Superblock& superblock, Block out) noexcept;
/// Errors: diff_area_foreign (no magic), diff_area_version, diff_area_corrupt (checksum, or values
/// that make no sense).
[[nodiscard]] Result<Superblock> decode_superblock(ConstBlock bytes);

// --- snapshot table --------------------------------------------------------------------------

enum class SlotState : std::uint8_t {
  free = 0,
  prepared = 1,
  committed = 2,
  created = 3,
  blob = 4
};

/// Consecutive data slots of a segment that holds blobs.
struct BlobExtent {
  std::uint32_t segment = 0;
  std::uint16_t first_slot = 0;
  std::uint16_t count = 0;
  friend bool operator==(const BlobExtent&, const BlobExtent&) = default;
};

/// A named piece of metadata. Either `bytes` holds it, or it lies in `extents`, twice, each copy
/// padded to a whole number of slots.
struct Blob {
  std::uint32_t kind = 0;
  Guid key;
  std::uint64_t size_bytes = 0;
  std::uint32_t checksum = 0;  // CRC32C of its bytes.
  std::vector<std::byte> bytes;
  std::vector<BlobExtent> extents;
};

/// One slot of the snapshot table. Two copies on disk, written one after the other; the higher
/// valid sequence counts.
struct SnapshotSlot {
  std::uint32_t index = 0;
  std::uint64_t sequence = 0;
  SlotState state = SlotState::free;
  bool lost = false;
  bool persistent = false;
  bool recovering = false;  // Takes writes of its own: open() ends it, like a prepared one.
  std::uint32_t attributes = 0;
  SnapshotId id;
  SnapshotSetId set_id;
  SessionId session_id;
  Guid boot_id;
  std::uint64_t epoch = 0;  // Kept when the slot is freed: epochs are never used twice.
  std::int64_t creation_filetime = 0;
  std::int64_t retain_until_filetime = 0;  // 0: no retention lock.
  std::vector<SnapshotId> members;
  Blob blob;  // State blob: then all but index, sequence and epoch is unused.
};

void encode(const SnapshotSlot& slot, std::uint64_t area, Block out) noexcept;
/// Errors: diff_area_corrupt (also for zeroes: look at is_zero() first).
[[nodiscard]] Result<SnapshotSlot> decode_slot(ConstBlock bytes, std::uint64_t area,
                                               std::uint32_t index);
[[nodiscard]] bool is_zero(std::span<const std::byte> bytes) noexcept;

// --- groups of records -----------------------------------------------------------------------

/// The first eight bytes of the area's id.
[[nodiscard]] std::uint64_t area_tag(const Guid& area_id) noexcept;

enum class GroupKind : std::uint8_t {
  records = 1,
  none = 2,      // No records: covers units that a crash left empty or torn ("void").
  overlay = 3,   // Records of what was written to the snapshot whose epoch it carries.
  reverted = 4,  // Chunks that the revert under way is not to touch again; entries without data.
  end = 5,       // No records: the last one of a segment's use. One unit.
};

struct GroupHeader {
  GroupKind kind = GroupKind::records;
  bool durable = false;  // Its origin writes waited for a flush: a persistent snapshot needs it.
  std::uint64_t generation = 0;  // Of the segment's use; a reused segment has a higher one.
  std::uint64_t sequence = 0;    // Over the whole area, counting up.
  std::uint64_t epoch = 0;
  std::uint64_t completed_sequence = 0;  // All groups up to here had completed (kill -9).
  std::uint64_t durable_sequence = 0;    // All groups up to here were flushed (power cut).
  std::uint32_t segment = 0;
  std::uint16_t unit = 0;   // Where it starts in the segment's index.
  std::uint16_t units = 0;  // How many it covers.
  std::uint16_t first_slot = 0;
  std::uint16_t count = 0;  // Records. Those that have data lie in first_slot, first_slot + 1, ...

  /// It has no records.
  [[nodiscard]] bool is_void() const noexcept {
    return kind == GroupKind::none || kind == GroupKind::end;
  }
};

/// Of an entry; zeroes and changed exclude each other and unchecked.
inline constexpr std::uint32_t kEntryZeroes = 1;     // Reads as zeroes; takes no slot.
inline constexpr std::uint32_t kEntryChanged = 2;    // Only says that the chunk changed; no slot.
inline constexpr std::uint32_t kEntryUnchecked = 4;  // Its checksums were not taken yet.
[[nodiscard]] constexpr bool has_data(std::uint32_t entry_flags) noexcept {
  return (entry_flags & (kEntryZeroes | kEntryChanged)) == 0;
}

struct Group {
  GroupHeader header;
  std::vector<std::uint64_t> chunks;
  std::vector<std::uint32_t> checksums;  // checksums_per_chunk for each record, in order.
  std::vector<std::uint32_t> flags;      // Of each record.
};

/// `out` is units * unit_bytes long; of a void one, which has nothing but a header, one unit.
/// `flags`: of each entry, or empty if all are 0. Does not allocate.
void encode_group(const Layout& layout, std::uint64_t area, const GroupHeader& header,
                  std::span<const std::uint64_t> chunks, std::span<const std::uint32_t> checksums,
                  std::span<std::byte> out, std::span<const std::uint32_t> flags = {}) noexcept;

/// Decodes the group at the start of `bytes` (a whole number of units) if there is one that belongs
/// to `area`, `segment` and `unit`. False: there is none. Chunk numbers are below `chunk_count`.
[[nodiscard]] bool decode_group(const Layout& layout, std::uint64_t area, std::uint32_t segment,
                                std::uint32_t unit, std::uint64_t chunk_count,
                                std::span<const std::byte> bytes, Group& out);

}  // namespace umbra::format
