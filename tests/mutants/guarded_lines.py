# SPDX-License-Identifier: Apache-2.0
"""The guarded lines of the store: each entry breaks one, and names a test that must fail then.

Orders that docs/formats/diff-area.md and the store's own comments promise. `old` has to be found
exactly once in its file: an entry that no longer fits its code says so instead of passing.
"""

from collections import namedtuple

Mutant = namedtuple("Mutant", "name file old new program case")

CRASH = "cow_crash_test"
UNIT = "cow_test"
CHANGES = "changes_crash_test"
CUT = "a power cut at any disk operation costs no flushed write and no persistent snapshot"
KILL = "kill -9 at any disk operation costs nothing that had completed"
RANDOM = "power cuts and kills of random loads cost nothing that was promised"
TABLE = "a power cut at any operation of a growing snapshot table loses no snapshot"
BLOB = "a power cut at any operation of a blob's change leaves the old one or the new one"
WINDOW = "a power cut at any operation of a recovery window leaves the snapshot whole or gone"
REVERT = "a power cut at any operation of a revert loses no write that was flushed since"
SHRINK = "a power cut at any operation of lowering the maximum leaves one of the two"
FAULT = "a cut at any operation of a fault costs no snapshot"
SHARED = "a power cut while old content is shared costs nothing that was promised"
MOVE = "a move cut by a power failure leaves one area in force, with everything"
CHECKPOINT = "making, using and removing a checkpoint is cut at every operation"
CHECKPOINTS = "a power cut at any operation makes no checkpoint miss a change"

COW = "provider/cow/"
MUTANTS = [
    # --- a preserve ---
    Mutant("preserve: a flush before the origin write", COW + "preserve.cc",
           "  if (batch.durable) {\n    flush_then(batch, &Impl::publish);",
           "  if (false) {\n    flush_then(batch, &Impl::publish);",
           CRASH, CUT),
    Mutant("preserve: all copies before the origin write", COW + "preserve.cc",
           "    if (copy == nullptr) copy = claim(chunk);",
           "    if (copy == nullptr) {\n      copy = claim(chunk);\n      set_done(chunk);\n    }",
           CRASH, CUT),
    Mutant("preserve: any persistent snapshot needs the flush", COW + "preserve.cc",
           "batch.durable = batch.durable || needs_flush(batch.chunks[i]);",
           "batch.durable = snapshots_.rbegin()->second->slot.persistent;", CRASH, CUT),
    Mutant("preserve: all of the data is written", COW + "preserve.cc",
           "  batch.write_data.next = &batch.write_index[0];",
           "  if (stored > 0) batch.write_data.size_bytes = layout_.chunk_bytes;\n"
           "  batch.write_data.next = &batch.write_index[0];", CRASH, CUT),
    Mutant("preserve: only what had completed before a flush is durable", COW + "preserve.cc",
           "std::max(impl.durable_sequence_, owner.durable_after_flush)",
           "impl.next_sequence_ - 1", CRASH, RANDOM),
    Mutant("preserve: groups are vouched for without a gap", COW + "preserve.cc",
           "completed_ahead_[used] == completed_sequence_ + 1",
           "completed_ahead_[used] > completed_sequence_", CRASH, KILL),
    # --- a preserve that shares ---
    Mutant("sharing: it is durable before an index says so", COW + "sharing.cc",
           "  if (batch.durable) {\n    flush_then(batch, &Impl::write_shared);",
           "  if (false) {\n    flush_then(batch, &Impl::write_shared);", CRASH, SHARED),
    Mutant("sharing: never a part of a chunk", COW + "sharing.cc",
           "  if ((last + 1) * layout_.chunk_bytes > origin_geometry_.size_bytes) return false;\n", "",
           UNIT, "the last part of a chunk is copied"),
    Mutant("sharing: as much as is shared lies ready", COW + "sharing.cc",
           "  if (!segments_.may_share(batch.place.count)) return false;\n",
           "  (void)segments_.may_share(batch.place.count);\n",
           UNIT, "no more is shared than lies ready, so that a full host costs no snapshot"),
    Mutant("sharing: what is shared in a free segment is punched", COW + "sharing.cc",
           "  const int error = punch(freed ? *freed : *ended);", "  const int error = 0;",
           UNIT, "what is shared in free segments is given back before they are used again"),
    Mutant("sharing: every extent is looked at", "engine/platform/file_share_linux.cc",
           "    if (map->fm_mapped_extents == 0) break;",
           "    if (map->fm_mapped_extents == 0 || at != offset_bytes) break;",
           "platform_test", "what is shared is counted over any number of extents"),
    Mutant("sharing: what was shared and is no more does not count", "engine/platform/file_share_linux.cc",
           "(extent.fe_flags & FIEMAP_EXTENT_SHARED) != 0 && last > first", "last > first",
           "platform_test", "files on one XFS share blocks until either is written"),
    Mutant("checksums: one place, then the other", COW + "lazy_checksums.cc",
           "    if (status) status = flush_diff();\n  }\n  for (const auto& [found, taken] : changed) {",
           "  }\n  for (const auto& [found, taken] : changed) {",
           UNIT, "a power cut while checksums are written loses neither records nor data"),
    Mutant("checksums: never the only good place first", COW + "lazy_checksums.cc",
           "((found->missing & 2U) != 0 ? 1U : 0U)", "0U",
           UNIT, "a power cut while checksums are written loses neither records nor data"),
    # --- a snapshot ---
    Mutant("post_commit: a flush of the origin", COW + "control.cc",
           "  if (slot.persistent) {\n    if (Status flushed = flush_origin()",
           "  if (false) {\n    if (Status flushed = flush_origin()", CRASH, CUT),
    Mutant("remove: durable before its space is free", COW + "control.cc",
           "  slot.state = SlotState::free;\n"
           "  if (Status written = write_slot(slot); !written) return written;",
           "  slot.state = SlotState::free;", CRASH,
           "a cut at any operation of an eviction leaves the snapshots that are left right"),
    Mutant("slots: a flush between the two copies", COW + "control.cc",
           "  if (Status flushed = flush_diff(); !flushed) return flushed;\n"
           "  for (const format::SnapshotSlot& slot : slots) {",
           "  for (const format::SnapshotSlot& slot : slots) {", CRASH, TABLE),
    Mutant("superblock: a flush between the two places", COW + "control.cc",
           "    if (Status flushed = flush_diff(); !flushed) return flushed;\n  }\n  return {};",
           "  }\n  return {};", CRASH, REVERT),
    Mutant("losses: durable before the origin write", COW + "control.cc",
           "  Status status = write_slots(slots);\n", "  Status status;\n", CRASH, RANDOM),
    # --- the table and blobs ---
    Mutant("table: a segment is cleared durably before it is named", COW + "control.cc",
           "  return flush_diff();\n}\n\nStatus Volume::Impl::grow_table",
           "  return {};\n}\n\nStatus Volume::Impl::grow_table", CRASH, TABLE),
    # --- the recovery window and revert ---
    Mutant("window: said to be open before it is", COW + "overlay.cc",
           "  slot.recovering = true;\n"
           "  if (Status written = write_slot(slot); !written) return written;",
           "  slot.recovering = true;", CRASH, WINDOW),
    Mutant("window: what was written before its end", COW + "overlay.cc",
           "    if (Status flushed = flush_diff(); !flushed) return flushed;\n", "", CRASH, WINDOW),
    Mutant("revert: named before anything shows it", COW + "revert.cc",
           "  if (Status written = write_superblock(false); !written) {\n"
           "    superblock_.revert = {};",
           "  if (Status written; !written) {\n    superblock_.revert = {};", CRASH, REVERT),
    Mutant("revert: the origin before a mark", COW + "revert.cc",
           "Status Volume::Impl::mark_reverted(Revert& revert) {\n"
           "  if (Status flushed = flush_origin(); !flushed) return flushed;",
           "Status Volume::Impl::mark_reverted(Revert& revert) {", CRASH, REVERT),
    Mutant("revert: the origin before the next chunk", COW + "revert.cc",
           "Status Volume::Impl::commit_cursor(Revert& revert) {\n"
           "  if (Status flushed = flush_origin(); !flushed) return flushed;",
           "Status Volume::Impl::commit_cursor(Revert& revert) {", CRASH, REVERT),
    # --- open() ---
    Mutant("open: after a power cut only durable groups are trusted", COW + "recovery_index.cc",
           "scan.same_boot ? header.completed_sequence : header.durable_sequence",
           "header.completed_sequence", CRASH, CUT),
    Mutant("open: data of the last groups is compared", COW + "recovery_index.cc",
           "    if (*whole) continue;", "    if (*whole || !*whole) continue;", CRASH, CUT),
    Mutant("open: gaps are covered", COW + "recovery_index.cc",
           "    if (Status written = write_group(cover, gap.tail ? 1 : 2); !written) return written;\n", "",
           CRASH, RANDOM),
    # --- space, moves, changes, the origin ---
    Mutant("maximum: durable before it deletes", COW + "resize.cc",
           "    if (Status written = write_superblock(false); !written) {\n"
           "      superblock_.diff_bytes_max = before;",
           "    if (Status written; !written) {\n      superblock_.diff_bytes_max = before;",
           CRASH, SHRINK),
    Mutant("fault: durable", COW + "policy.cc",
           "  Status written = write_superblock(false);\n"
           "  // On failure either", "  Status written;\n  // On failure either", CRASH, FAULT),
    Mutant("move: the target says that it arrives before its first byte", COW + "migrate.cc",
           "    if (Status written = write_superblocks(target_, arriving); !written) return written;\n"
           "    format::Superblock moved", "    format::Superblock moved", CRASH, MOVE),
    Mutant("move: the old area is out of force before the new one is in it", COW + "migrate.cc",
           "    if (const Status said = write_superblocks(impl_.movable_.current(), moved); !said) {",
           "    (void)write_superblocks(target_, in_force);\n"
           "    if (const Status said = write_superblocks(impl_.movable_.current(), moved); !said) {",
           CRASH, MOVE),
    Mutant("changes: noted before the write", COW + "changes.cc",
           "  Status put = blobs_->put(BlobKind::noted_changes, kNoteKey, note.bytes);",
           "  Status put;", CHANGES, CHECKPOINTS),
    Mutant("exempt: durable before it shows", COW + "exempt.cc",
           "  if (Status put = blobs_->put(BlobKind::exemption, id, bytes); !put) return put;\n", "",
           CRASH, KILL),
    Mutant("mount: noted before the write", COW + "origin_watch.cc",
           "    if (kept) kept = write_superblock(false);\n", "",
           UNIT, "a power cut at any operation of mounting does not look like somebody else's mount"),
]
