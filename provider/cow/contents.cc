// SPDX-License-Identifier: Apache-2.0
#include "provider/cow/contents.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <optional>

#include "engine/platform/aligned.h"
#include "provider/cow/index_scan.h"
#include "provider/cow/superblocks.h"
#include "provider/format/diff_area.h"

namespace umbra::cow {
namespace {

using format::SlotState;

constexpr std::int64_t kTicksPerSecond = 10'000'000;
constexpr std::uint64_t kSlotBytes = std::uint64_t{2} * format::kBlockBytes;
constexpr std::uint32_t kSlotsAtATime = kRecoveryReadBytes / kSlotBytes;

[[nodiscard]] DiffAreaDescription describe(const format::Superblock& superblock) {
  DiffAreaDescription description;
  description.volume_id = superblock.volume_id;
  description.origin_bytes = superblock.origin_bytes;
  description.chunk_bytes = superblock.chunk_bytes;
  description.diff_bytes_max = superblock.diff_bytes_max;
  description.clean = superblock.clean;
  if (superblock.move.state == format::MoveState::moved) {
    description.moved_to = superblock.move.path;
  }
  return description;
}

// As open() judges the two copies: the newer good one counts, a first write that was cut is none.
void take_slot(std::span<const std::byte> both, std::uint64_t area, std::uint32_t index,
               AreaContents& contents) {
  std::optional<format::SnapshotSlot> newest;
  int damaged = 0;
  for (std::uint32_t copy = 0; copy < 2; ++copy) {
    const format::ConstBlock bytes(both.data() + std::size_t{copy} * format::kBlockBytes,
                                   format::kBlockBytes);
    if (format::is_zero(bytes)) continue;
    auto slot = format::decode_slot(bytes, area, index);
    if (!slot) {
      ++damaged;
    } else if (!newest || slot->sequence > newest->sequence) {
      newest = std::move(*slot);
    }
  }
  if (damaged == 2) ++contents.unknown_slots;
  if (!newest) return;
  if (newest->state != SlotState::committed && newest->state != SlotState::created) return;
  SnapshotRecord record;
  record.id = newest->id;
  record.set_id = newest->set_id;
  record.session_id = newest->session_id;
  record.attributes = newest->attributes;
  record.persistent = newest->persistent;
  record.stage = static_cast<Stage>(newest->state);
  record.lost = newest->lost;
  record.creation_filetime = newest->creation_filetime;
  record.epoch = newest->epoch;
  record.members = std::move(newest->members);
  record.retain_until_filetime = newest->retain_until_filetime;
  contents.snapshots.push_back(std::move(record));
}

}  // namespace

Result<DiffAreaDescription> inspect_diff_area(block::Device& diff) {
  const auto superblock = read_superblock(diff);
  if (!superblock) return fail(superblock.error());
  return describe(*superblock);
}

Result<AreaContents> read_contents(block::Device& diff) {
  const auto superblock = read_superblock(diff);
  if (!superblock) return fail(superblock.error());
  AreaContents contents;
  contents.description = describe(*superblock);
  contents.in_force = superblock->move.state == format::MoveState::none;
  contents.highest_filetime = superblock->settings.highest_filetime;
  const auto layout = format::Layout::of(superblock->chunk_bytes, superblock->unit_bytes);
  const std::uint64_t segments = layout.segments_in(diff.geometry().size_bytes);
  for (const std::uint32_t segment : superblock->table_segments) {
    if (segment < segments) continue;
    return fail(Errc::diff_area_corrupt,
                "the superblock names a wrong segment of the snapshot "
                "table: which copies there are is not known");
  }
  const std::uint64_t slots = std::min<std::uint64_t>(
      format::kTableSlots + std::uint64_t{layout.table_slots} * superblock->table_segments.size(),
      format::kSnapshotsMax);
  const AlignedBuffer piece = make_aligned(kRecoveryReadBytes);
  for (std::uint32_t first = 0; first < slots; first += kSlotsAtATime) {
    const Status read = read_at(diff, layout.table_offset(superblock->table_segments, first, 0),
                                {piece.get(), kRecoveryReadBytes}, "the snapshot table");
    if (!read) return fail(read.error());
    for (std::uint32_t i = 0; i < kSlotsAtATime; ++i) {
      take_slot({piece.get() + i * kSlotBytes, kSlotBytes}, format::area_tag(superblock->area_id),
                first + i, contents);
    }
  }
  std::sort(contents.snapshots.begin(), contents.snapshots.end(),
            [](const auto& a, const auto& b) { return a.epoch < b.epoch; });
  return contents;
}

Status check_retention(const AreaContents& contents, std::int64_t now_filetime) {
  if (!contents.in_force) return {};
  const std::int64_t now = std::max(now_filetime, contents.highest_filetime);
  for (const SnapshotRecord& record : contents.snapshots) {
    if (record.retain_until_filetime <= now) continue;
    return fail(Errc::access_denied, locked_text(record.id, record.retain_until_filetime));
  }
  return {};
}

Status erase_diff_area(block::Device& diff) { return erase_superblocks(diff); }

std::string locked_text(const SnapshotId& snapshot, std::int64_t until_filetime) {
  using std::chrono::days;
  using std::chrono::seconds;
  constexpr std::int64_t kUnixEpochSeconds = 11'644'473'600;
  const std::chrono::sys_seconds at{seconds(until_filetime / kTicksPerSecond - kUnixEpochSeconds)};
  const auto day = std::chrono::floor<days>(at);
  const std::chrono::year_month_day date(day);
  const std::chrono::hh_mm_ss<seconds> time(at - day);
  std::array<char, 64> text{};
  (void)std::snprintf(text.data(), text.size(), "%04d-%02u-%02uT%02d:%02d:%02dZ",
                      static_cast<int>(date.year()), static_cast<unsigned>(date.month()),
                      static_cast<unsigned>(date.day()), static_cast<int>(time.hours().count()),
                      static_cast<int>(time.minutes().count()),
                      static_cast<int>(time.seconds().count()));
  return "snapshot " + snapshot.to_string() + " is under retention lock until " + text.data();
}

}  // namespace umbra::cow
