// SPDX-License-Identifier: Apache-2.0
//
// Moving a diff area to another file or block device while its volume is in use: Volume::migrate().
//
// Guarantees:
//   1. At every moment, and after a crash at any disk operation, exactly one of the two areas is in
//      force: the other one cannot be opened. settle_move() tells which, and finishes the move if
//      the crash left that to do.
//   2. Until the switch the old area is complete: whatever fails, it stays in force, and the
//      snapshots are as if nobody had tried.
//   3. Damage is moved as damage. What does not match its checksum is counted, copied as it is and
//      does not match afterwards either; nothing that was wrong becomes right to read.
//
// How it is decided which one is in force: the new area says "arriving" and the number of the move
// from before its first byte is copied, and cannot be opened so. When it is complete and durable,
// the old one is made to say "moved" with the same number: that one superblock is the switch. Then
// the new one drops its mark.
//
// Both areas keep the same area id, so what is copied needs no change; segments keep their places.

#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>

#include "engine/platform/block.h"
#include "engine/platform/clock.h"
#include "umbra/result.h"

namespace umbra::cow {

class HostSpace;  // volume.h

struct MigrateOptions {
  bool force = false;  ///< Overwrite whatever is in the target.
  /// Of the first pass over everything; what was written meanwhile is copied as fast as it can be,
  /// else the copy might never catch up. 0: no limit.
  std::uint64_t bytes_per_second_max = 0;
  /// Writes that need the diff area wait no longer than this for the last part to be copied; the
  /// marks of the switch come on top (six superblocks, each with its flush).
  Duration hold_max = std::chrono::seconds(2);
  std::string from_path{};  ///< For people who find the new area half made.
  std::string to_path{};    ///< For people who find the old area.
  /// Of what the target lies on, from the switch on; outlives the volume. Null: nobody is asked.
  HostSpace* host_space = nullptr;
};

struct MigrateProgress {
  std::uint64_t bytes_total = 0;    ///< Of the first pass.
  std::uint64_t bytes_copied = 0;   ///< In all passes; may become more than the total.
  std::uint64_t bytes_damaged = 0;  ///< Preserved data that did not match its checksum.
  std::uint32_t passes = 0;
};
/// False: give up. Called between two steps, outside all locks.
using OnMigrateProgress = std::function<bool(const MigrateProgress&)>;

struct MigrateReport {
  MigrateProgress done;
  Duration held{};  ///< For how long writes that needed the diff area had to wait.
  /// False: the target is in force and in use, but still says that it is arriving, since its last
  /// write failed: keep the old device, and call settle_move() before the next open().
  bool settled = true;
  /// False: reads are still in flight on the old device; it has to outlive the volume.
  bool source_left = true;
};

enum class MoveSide : std::uint8_t {
  source,  ///< The old area is in force; the target is worth nothing.
  target,  ///< The move is complete.
};

/// After a restart, before either is opened: which area is in force, of a move from `source` to
/// `target` that may have been under way. Finishes the move if only that is left to do. Blocks.
/// A target that is worth nothing is made to be no diff area any more, unless a cut has torn its
/// very first mark: whose that was nothing tells, and the next move to it needs `force`. Errors:
/// those of inspect_diff_area(), of the source; io_error (nothing changed that matters; ask again).
[[nodiscard]] Result<MoveSide> settle_move(block::ResizableDevice& source,
                                           block::ResizableDevice& target);

}  // namespace umbra::cow
