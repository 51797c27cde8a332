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
TABLE_KILL = "kill -9 at any operation of a growing snapshot table loses no snapshot"
BLOB = "a power cut at any operation of a blob's change leaves the old one or the new one"
BLOB_LEFT = "what a blob has left is used only when both copies of its slot say so"
WINDOW = "a power cut at any operation of a recovery window leaves the snapshot whole or gone"
REVERT = "a power cut at any operation of a revert loses no write that was flushed since"
REVERT_KILL = "kill -9 at any operation of a revert loses no write that had completed"
SHRINK = "a power cut at any operation of lowering the maximum leaves one of the two"
FAULT = "a cut at any operation of a fault costs no snapshot"
SHARED = "a power cut while old content is shared costs nothing that was promised"
MOVE = "a move cut by a power failure leaves one area in force, with everything"
DAMAGE = "what damage costs is lost for good, wherever the open that finds it is cut"
CHECKPOINT = "making, using and removing a checkpoint is cut at every operation"
VIEW = "a home is told before the origin is written, and its place is left alone"
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
    Mutant("confirm: created is durable", COW + "control.cc",
           "  slot.state = SlotState::created;\n"
           "  if (Status written = write_slot(slot); !written) return written;",
           "  slot.state = SlotState::created;", CRASH, CUT),
    Mutant("remove: durable before its space is free", COW + "control.cc",
           "  slot.state = SlotState::free;\n"
           "  if (Status written = write_slot(slot); !written) return written;",
           "  slot.state = SlotState::free;", CRASH,
           "a cut at any operation of an eviction leaves the snapshots that are left right"),
    Mutant("slots: a flush between the two copies", COW + "control.cc",
           "  if (Status flushed = flush_diff(); !flushed) return flushed;\n"
           "  for (const format::SnapshotSlot& slot : slots) {",
           "  for (const format::SnapshotSlot& slot : slots) {", CRASH, TABLE),
    Mutant("slots: the durable copy is not overwritten", COW + "control.cc",
           "    place.copy ^= 1U;\n"
           "    // What the first copy says is durable: that this one is not written costs only the spare.\n"
           "    if (const Status written = write_slot_copy(slot, place.copy); !written) {",
           "    if (const Status written = write_slot_copy(slot, place.copy ^ 1U); !written) {",
           UNIT, "a power cut in a slot's next write leaves what was said of it before, or after"),
    Mutant("superblock: a flush between the two places", COW + "control.cc",
           "    if (Status flushed = flush_diff(); !flushed) return flushed;\n  }\n  return {};",
           "  }\n  return {};", CRASH, REVERT),
    Mutant("superblock: the newest one is not overwritten", COW + "control.cc",
           "format::kSuperblockOffsets[superblock_.sequence % 2]",
           "format::kSuperblockOffsets[0]", CRASH, TABLE),
    Mutant("superblock: after a failed write the same place again", COW + "control.cc",
           "      --superblock_.sequence;", "      ", UNIT,
           "a superblock that could not be written does not cost the good one"),
    Mutant("losses: durable before the origin write", COW + "control.cc",
           "  Status status = write_slots(slots);\n", "  Status status;\n", CRASH, RANDOM),
    Mutant("flush: one beside a failed one, of the diff area", COW + "control.cc",
           "  if (error == 0 && diff_flush_failed_.load()) error = EIO;\n", "",
           UNIT, "a snapshot is not told durable whose flush went well beside one that failed"),
    Mutant("flush: one beside a failed one, of the origin", COW + "control.cc",
           "  if (error == 0 && origin_flush_failed_.load()) error = EIO;  // As in flush_diff().\n", "",
           UNIT, "a snapshot is not told durable whose flush went well beside one that failed"),
    Mutant("flush: one beside a failed one, a user's", COW + "live_path.cc",
           "  } else if (impl.origin_flush_failed_.load()) {", "  } else if (false) {",
           UNIT, "of flushes side by side none is believed after one has failed"),
    Mutant("flush: one beside a failed one, a preserve's", COW + "preserve.cc",
           "    if (done.error != 0 || impl.diff_flush_failed_.load()) {", "    if (done.error != 0) {",
           UNIT, "a copy whose flush went well beside one that failed is not believed"),
    # --- the table and blobs ---
    Mutant("table: a segment is cleared durably before it is named", COW + "control.cc",
           "  return flush_diff();\n}\n\nStatus Volume::Impl::grow_table",
           "  return {};\n}\n\nStatus Volume::Impl::grow_table", CRASH, TABLE),
    Mutant("table: a segment is named", COW + "control.cc",
           "  if (Status written = write_superblock(false); !written) return written;\n"
           "  const auto known = ", "  const auto known = ", CRASH, TABLE_KILL),
    Mutant("blob: its bytes before its name", COW + "blobs.cc",
           "    if (written) written = impl_.flush_diff();\n", "", CRASH, BLOB),
    Mutant("blob: both copies of its slot before its old bytes are free", COW + "blobs.cc",
           "  if (Status flushed = impl_.flush_diff(); flushed) release(before);\n",
           "  release(before);\n", CRASH, BLOB_LEFT),
    Mutant("blob: both copies of its slot before a removed one's bytes are free", COW + "blobs.cc",
           "  if (Status flushed = impl_.flush_diff(); flushed) release(gone.extents);\n",
           "  release(gone.extents);\n", CRASH, BLOB_LEFT),
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
    Mutant("revert: the cursor before the writes behind it", COW + "revert.cc",
           "    superblock_.revert.next_chunk = revert.cursor;\n"
           "    if (Status written = write_superblock(false); !written) return written;\n",
           "    superblock_.revert.next_chunk = revert.cursor;\n",
           UNIT, "a write to what a long revert has come past outlives a crash"),
    Mutant("revert: a mark before the write that waits for it", COW + "revert.cc",
           "  if (Status flushed = flush_diff(); !flushed) return flushed;\n"
           "  for (const std::uint64_t chunk : revert.chunks) Revert::clear(revert.guarded, chunk);",
           "  for (const std::uint64_t chunk : revert.chunks) Revert::clear(revert.guarded, chunk);",
           CRASH, REVERT),
    Mutant("revert: its end before anything relies on it", COW + "revert.cc",
           "    if (Status written = write_superblock(false); !written) {\n"
           "      superblock_.revert = before;",
           "    if (Status written; !written) {\n      superblock_.revert = before;", CRASH, REVERT_KILL),
    # --- open() ---
    Mutant("open: after a power cut only durable groups are trusted", COW + "recovery_index.cc",
           "scan.same_boot ? header.completed_sequence : header.durable_sequence",
           "header.completed_sequence", CRASH, CUT),
    Mutant("open: data of the last groups is compared", COW + "recovery_index.cc",
           "    if (*whole) continue;", "    if (*whole || !*whole) continue;", CRASH, CUT),
    Mutant("open: gaps are covered", COW + "recovery_index.cc",
           "    if (Status written = write_group(cover, gap.tail ? 1 : 2); !written) return written;\n", "",
           CRASH, RANDOM),
    Mutant("open: what is kept is flushed before it is trusted", COW + "recovery_index.cc",
           "  return flush_diff();\n", "  return {};\n", CRASH, RANDOM),
    Mutant("open: what it ends is durable", COW + "recovery.cc",
           "const Status written = write_slots(scan.slots_to_write);", "const Status written;",
           UNIT, DAMAGE),
    Mutant("open: what damage costs before its gap is covered", COW + "recovery.cc",
           "  if (Status settled = settle_stages(scan); !settled) return settled;\n"
           "  if (Status voided = void_gaps(scan); !voided) return voided;\n",
           "  if (Status voided = void_gaps(scan); !voided) return voided;\n"
           "  if (Status settled = settle_stages(scan); !settled) return settled;\n", UNIT, DAMAGE),
    Mutant("open: what damage means for a revert before its gap is covered", COW + "recovery.cc",
           "  return changed ? write_superblock(superblock_.clean) : Status{};", "  return {};",
           UNIT, "a revert that damage has met stops for good, wherever the open that finds it is cut"),
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
    Mutant("changes: the origin before a checkpoint", COW + "changes.cc",
           "  Status saved = flush_origin();\n", "  Status saved;\n", CHANGES, CHECKPOINT),
    Mutant("exempt: durable before it shows", COW + "exempt.cc",
           "  if (Status put = blobs_->put(BlobKind::exemption, id, bytes); !put) return put;\n", "",
           CRASH, KILL),
    Mutant("exempt: not what an older snapshot needs", COW + "exempt.cc",
           "  if (before) leave_out_needed(exemption->free, *before);\n", "", CRASH, CUT),
    Mutant("exempt: an older record is none of the one before", COW + "exempt.cc",
           "map_.changed(page, snapshot.epoch, ~std::uint64_t{0})",
           "map_.changed(page, 0, ~std::uint64_t{0})", CRASH, CUT),
    Mutant("exempt: the newest snapshot only", COW + "exempt.cc",
           "                     (*snapshot)->epoch == epoch_ && (*snapshot)->exemption() == nullptr;",
           "                     (*snapshot)->exemption() == nullptr;",
           UNIT, "a list that comes late, twice, or for another copy is refused"),
    Mutant("exempt: never a part of a chunk", COW + "exempt.cc",
           "const std::uint64_t first = (begin + chunk_bytes - 1) / chunk_bytes;",
           "const std::uint64_t first = begin / chunk_bytes;",
           UNIT, "a chunk is free if all of its bytes are, in ranges of any order"),
    Mutant("exempt: the snapshot goes before its list", COW + "control.cc",
           "  slot.state = SlotState::free;\n"
           "  if (Status written = write_slot(slot); !written) return written;\n"
           "  free_slots_.push_back(slot.index);\n",
           "  if (snapshot->exemption() != nullptr) forget_exemption(*snapshot);\n"
           "  slot.state = SlotState::free;\n"
           "  if (Status written = write_slot(slot); !written) return written;\n"
           "  free_slots_.push_back(slot.index);\n", CRASH, RANDOM),
    Mutant("exempt: a list that cannot be read costs its snapshot", COW + "exempt.cc",
           "      unknown.push_back(key);\n", "",
           UNIT, "the exemption goes with its copy, and a damaged one costs the copy"),
    Mutant("mount: noted before the write", COW + "origin_watch.cc",
           "    if (kept) kept = write_superblock(false);\n", "",
           UNIT, "a power cut at any operation of mounting does not look like somebody else's mount"),
    # --- views ---
    Mutant("view: told before the write", COW + "preserve.cc",
           "    tell_watches({batch.chunks.data(), place.count});\n", "", UNIT, VIEW),
    Mutant("view: ended before its space is free", COW + "control.cc",
           "  end_watches(snapshot.get());\n", "", UNIT, VIEW),
    Mutant("view: ended with its diff area", COW + "migrate.cc",
           "    impl_.end_watches();\n", "", UNIT, "a view ends with what it stands on"),
]
