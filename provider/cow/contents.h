// SPDX-License-Identifier: Apache-2.0
//
// What a diff area holds that nobody has open, without opening it: superblocks and snapshot table
// are read, nothing is changed. For whoever is about to take such an area away: a copy in it may be
// under retention lock.
//
// What it answers is what the area says. A snapshot that the next open() would delete or find lost
// is listed as it stands in the table.

#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/platform/block.h"
#include "provider/cow/volume.h"
#include "umbra/result.h"

namespace umbra::cow {

struct AreaContents {
  DiffAreaDescription description;
  bool in_force = true;                   // False: it was moved away, or never arrived.
  std::vector<SnapshotRecord> snapshots;  // Committed and created ones, oldest first.
  std::int64_t highest_filetime = 0;      // Ever seen by the volume: clocks may be set back.
  std::uint64_t unknown_slots = 0;        // Damaged in both places: nobody knows what they held.
};

/// Blocks: reads the table. Errors: those of inspect_diff_area(); diff_area_corrupt (the table is
/// not where the superblock says); io_error.
[[nodiscard]] Result<AreaContents> read_contents(block::Device& diff);

/// Whether the area may be taken away, as of `now_filetime` or of the highest time that the volume
/// has seen, whichever is later. An area that is not in force may. Errors: access_denied (a
/// snapshot is under retention lock: says which and until when).
[[nodiscard]] Status check_retention(const AreaContents& contents, std::int64_t now_filetime);

/// Afterwards it is no diff area; durable. On failure (io_error) it may or may not be one.
[[nodiscard]] Status erase_diff_area(block::Device& diff);

/// "snapshot ID is under retention lock until 2027-01-31T23:59:59Z".
[[nodiscard]] std::string locked_text(const SnapshotId& snapshot, std::int64_t until_filetime);

}  // namespace umbra::cow
