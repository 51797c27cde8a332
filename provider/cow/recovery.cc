// SPDX-License-Identifier: Apache-2.0
//
// open(): from the bytes of a diff area to the map of its records.
//
// Groups are trusted up to the highest number that a later structure vouches for: "completed" after
// kill -9 (same boot: everything that completed is in the page cache), "durable" after a power cut.
// The few beyond that were in flight at the end; their data is read and compared with the checksums
// in the index. One that does not match was never published, so no origin write followed it: it is
// dropped. After a power cut only groups that a persistent snapshot could need are checked: the
// others belong to auto-release snapshots, which are gone.
//
// What was dropped, and the gaps that groups in flight left in the index, is covered with void
// groups and flushed before anything new is written: otherwise a later group would one day vouch
// for it; and every use of a segment gets its end. A gap whose number was vouched for is damage,
// and so is a missing end: which records were there is not known, so every snapshot that could
// resolve through one is lost, and durably so before anything covers the gap.
//
// Every step can be cut and repeated: nothing that a second recovery needs is changed before it is
// done. Segments that were open are not continued.
#include <algorithm>
#include <unordered_set>

#include "engine/platform/assert.h"
#include "provider/cow/blobs.h"
#include "provider/cow/recovery.h"

namespace umbra::cow {

using format::SlotState;

namespace {

constexpr unsigned kGenerationShift = 32;  // Opens above, segments taken into use below.

[[nodiscard]] Home home_of(std::uint32_t segment, std::uint32_t slot, std::uint32_t flags) {
  if ((flags & format::kEntryZeroes) != 0) return {segment, 0, Home::Kind::zeroes, false};
  if ((flags & format::kEntryChanged) != 0) return {segment, 0, Home::Kind::nothing, false};
  Home home = Home::data(segment, slot);
  home.unchecked = (flags & format::kEntryUnchecked) != 0;
  return home;
}

}  // namespace

Status Volume::Impl::recover() {
  const std::lock_guard table(table_mutex_);
  adopt_settings();
  Scan scan;
  scan.same_boot = superblock_.boot_id == options_.boot_id;
  scan.trusted = superblock_.trusted_sequence;
  scan.sequence_max = superblock_.trusted_sequence;
  segments_.grow_to(layout_.segments_in(diff_.geometry().size_bytes));
  if (Status read = read_table(scan); !read) return read;
  if (Status exempted = load_exemptions(scan.unknown_exemptions); !exempted) return exempted;
  if (Status scanned = scan_segments(scan); !scanned) return scanned;
  if (Status verified = verify_tail(scan); !verified) return verified;
  judge_gaps(scan);
  if (Status judged = judge_stages(scan); !judged) return judged;
  // What damage costs is durable before the gap that tells of it is covered; what it means for the
  // volume first of all, since nothing is concluded from snapshots that are lost already.
  if (Status settled = settle_damage(scan); !settled) return settled;
  if (Status settled = settle_stages(scan); !settled) return settled;
  if (Status voided = void_gaps(scan); !voided) return voided;
  if (Status loaded = load_changes(); !loaded) return loaded;
  load(scan);
  if (Status same = check_origin(); !same) return same;
  drop_orphaned_exemptions();
  superblock_.boot_id = options_.boot_id;
  ++superblock_.open_count;
  superblock_.trusted_sequence = completed_sequence_;
  segments_.start_generations(superblock_.open_count << kGenerationShift);
  if (Status written = write_superblock(false); !written) return written;
  {
    const std::lock_guard grow(grow_mutex_);
    (void)allocate_bare(0, kSegmentsAhead * layout_.segment_bytes);
  }
  resume_revert();
  {
    const std::lock_guard lock(mutex_);
    if (next_unchecked()) post_checksums();
  }
  if (const std::uint64_t repairs = metadata_repairs_.load(); repairs > 0) {
    log_.warning("metadata that was damaged or unfinished in one of its two places is whole again",
                 {{"volume", id().to_string()}, {"places", repairs}});
  }
  return {};
}

// --- the snapshot table ----------------------------------------------------------------------

Status Volume::Impl::read_table(Scan& scan) {
  for (const std::uint32_t segment : superblock_.table_segments) {
    if (segment >= segments_.count() || segments_.is_aside(segment)) {
      return fail(Errc::diff_area_corrupt,
                  "the superblock names a wrong segment of the snapshot table");
    }
    segments_.restore_aside(segment);
  }
  table_.resize(table_slots());
  constexpr std::uint64_t kSlotBytes = std::uint64_t{2} * format::kBlockBytes;
  constexpr std::uint32_t kAtATime = kRecoveryReadBytes / kSlotBytes;
  static_assert(format::kTableSlots % kAtATime == 0);  // Every piece lies in one place.
  const AlignedBuffer piece = make_aligned(kRecoveryReadBytes);
  for (std::uint32_t first = 0; first < table_.size(); first += kAtATime) {
    const Status read = read_at(diff_, layout_.table_offset(superblock_.table_segments, first, 0),
                                {piece.get(), kRecoveryReadBytes}, "the snapshot table");
    if (!read) return read;
    for (std::uint32_t i = 0; i < kAtATime; ++i) {
      const Status good = read_slot(first + i, {piece.get() + i * kSlotBytes, kSlotBytes}, scan);
      if (!good) return good;
    }
  }
  return {};
}

// One damaged copy is a write that was cut, or it was damaged later: the other one counts.
Status Volume::Impl::read_slot(std::uint32_t index, std::span<const std::byte> both, Scan& scan) {
  std::optional<format::SnapshotSlot> newest;
  unsigned damaged = 0;
  for (std::uint32_t copy = 0; copy < 2; ++copy) {
    const format::ConstBlock bytes(both.data() + std::size_t{copy} * format::kBlockBytes,
                                   format::kBlockBytes);
    if (format::is_zero(bytes)) continue;
    auto slot = format::decode_slot(bytes, area_, index);
    if (!slot) {
      ++damaged;
    } else if (!newest || slot->sequence > newest->sequence) {
      newest = std::move(*slot);
      table_[index].copy = copy ^ 1U;
    }
  }
  if (damaged == 2) {
    return fail(Errc::diff_area_corrupt,
                "both copies of snapshot slot " + std::to_string(index) +
                    "; the origin is complete without its diff area: attach with force to make "
                    "that anew");
  }
  if (!newest && damaged == 1) {  // The first write of a slot was cut: free, as if once used.
    newest.emplace();
    newest->index = index;
    newest->epoch = 1;
  }
  if (!newest) return {};
  table_[index].sequence = newest->sequence;
  epoch_last_ = std::max(epoch_last_, newest->epoch);
  const bool same = std::equal(both.begin(), both.begin() + format::kBlockBytes,
                               both.begin() + format::kBlockBytes, both.end());
  if (newest->state == SlotState::free) {
    if (!same) scan.slots_to_write.push_back(std::move(*newest));
    return {};
  }
  if (newest->state == SlotState::blob) {
    if (!blobs_->restore(*newest)) {  // A second one of its name.
      newest->state = SlotState::free;
      newest->blob = {};
    } else if (same) {
      return {};
    }
    scan.slots_to_write.push_back(std::move(*newest));
    return {};
  }
  if (!same) scan.epochs_to_mend.insert(newest->epoch);
  auto snapshot = std::make_shared<Snapshot>();
  snapshot->epoch = newest->epoch;
  snapshot->slot = std::move(*newest);
  if (!snapshots_.emplace(snapshot->epoch, snapshot).second ||
      !by_id_.emplace(snapshot->slot.id, snapshot).second) {
    return fail(Errc::diff_area_corrupt,
                "snapshot slot " + std::to_string(index) + " repeats an epoch or an id");
  }
  return {};
}

bool Volume::Impl::ends_at_open(const format::SnapshotSlot& slot) const noexcept {
  const bool unfinished = slot.state == SlotState::prepared || slot.recovering ||
                          (slot.state == SlotState::committed && slot.members.empty());
  return unfinished || (!slot.persistent && slot.boot_id != options_.boot_id);
}

// Which snapshots this open ends, and which it finds lost.
Status Volume::Impl::judge_stages(Scan& scan) {
  std::unordered_set<Guid> known_lost;
  if (options_.lost_store != nullptr) {
    const auto lost = options_.lost_store->list(id());
    if (!lost) return fail(lost.error());
    known_lost.insert(lost->begin(), lost->end());
  }
  metadata_repairs_.fetch_add(scan.slots_to_write.size() + scan.epochs_to_mend.size());
  known_lost.insert(scan.unknown_exemptions.begin(), scan.unknown_exemptions.end());
  for (auto it = snapshots_.begin(); it != snapshots_.end();) {
    const auto& snapshot = it->second;
    format::SnapshotSlot& slot = snapshot->slot;
    const bool ended = ends_at_open(slot);
    if (ended && slot.state != SlotState::prepared) scan.ended.push_back(snapshot);
    const bool newly_lost =
        !slot.lost && (snapshot->epoch <= scan.lost_up_to_epoch || known_lost.contains(slot.id));
    if (ended) slot.state = SlotState::free;
    if (newly_lost) {
      slot.lost = true;
      scan.lost_newly = true;
      if (!ended) scan.lost.push_back(snapshot);
      log_.error("snapshot lost: records of it are damaged or were never kept",
                 {{"volume", id().to_string()}, {"snapshot", slot.id.to_string()}});
    }
    if (ended || newly_lost || scan.epochs_to_mend.contains(snapshot->epoch)) {
      scan.slots_to_write.push_back(slot);
    }
    if (slot.lost) snapshot->readable.store(Snapshot::Readable::lost);
    if (ended) by_id_.erase(slot.id);
    it = ended ? snapshots_.erase(it) : std::next(it);
  }
  return {};
}

// What damage means for a revert and at protection level "snapshot". Durable; all else that the
// superblock says stays, for a next open to judge by.
Status Volume::Impl::settle_damage(const Scan& scan) {
  bool changed = false;
  if (superblock_.revert.under_way && !superblock_.revert.damaged) {
    const auto target = find_snapshot(superblock_.revert.snapshot);
    // What is missing may be records, or marks of what is not to be reverted again.
    const bool unknown = scan.exemption_is_unknown(superblock_.revert.snapshot);
    changed = target && (target->epoch <= scan.lost_up_to_epoch || unknown);
    superblock_.revert.damaged = changed;
  }
  format::Settings& settings = superblock_.settings;
  if (scan.lost_newly && settings.protection_level == 1 && settings.fault == 0) {
    settings.fault = static_cast<std::uint32_t>(Fault::meta_data_corruption);
    settings.fault_filetime = clock_.wall_filetime();
    adopt_settings();
    changed = true;
  }
  return changed ? write_superblock(superblock_.clean) : Status{};
}

Status Volume::Impl::settle_stages(Scan& scan) {
  if (scan.slots_to_write.empty()) return {};
  const Status written = write_slots(scan.slots_to_write);
  if (written) tell_of_stages(scan);
  return written;
}

// Also if open() fails later: it has happened.
void Volume::Impl::tell_of_stages(const Scan& scan) noexcept {
  const std::lock_guard lock(mutex_);
  for (const auto& snapshot : scan.ended) {
    const bool of_other_boot = !snapshot->slot.persistent;
    tell_of(EventKind::snapshot_deleted, *snapshot, {Removal::recovery, "umbra-cowd"},
            of_other_boot ? "the machine was started anew" : "it was not finished");
  }
  for (const auto& snapshot : scan.lost) {
    tell_of(EventKind::snapshot_lost, *snapshot, {},
            "records of it are damaged or were never kept");
  }
  if (scan.damaged_places == 0) return;
  scrub_trouble_ = scan.damage + ", found by opening; scrub looks for more";
  Event event;
  event.kind = EventKind::damage_found;
  event.text = scan.damage + " (" + std::to_string(scan.damaged_places) +
               " in all); snapshots lost: " + std::to_string(scan.lost.size());
  tell(std::move(event));
}

// --- into memory -----------------------------------------------------------------------------

bool Volume::Impl::load_record(const format::GroupHeader& header, std::uint64_t chunk, Home home,
                               std::vector<std::uint32_t>& live) {
  if (header.kind == format::GroupKind::reverted) {
    const format::RevertState& revert = superblock_.revert;
    const bool counts = revert.under_way && header.epoch == revert.epoch;
    if (counts) loaded_marks_.emplace_back(chunk, home);
    return counts;
  }
  if (header.kind != format::GroupKind::overlay) {
    return map_.insert(chunk, header.epoch, home);  // The first of a chunk and epoch counts.
  }
  // The last one counts, if whom it was written to is there.
  const auto snapshot = snapshots_.find(header.epoch);
  if (snapshot == snapshots_.end()) return false;
  const format::SnapshotSlot& slot = snapshot->second->slot;
  const bool reverted_to = superblock_.revert.under_way && superblock_.revert.snapshot == slot.id;
  if (slot.lost && !reverted_to) return false;
  const auto [at, fresh] = overlays_[header.epoch].emplace(chunk, home);
  if (fresh) return true;
  --live[at->second.segment];
  at->second = home;
  return true;
}

void Volume::Impl::load_groups(const Scan& scan, std::vector<std::uint32_t>& live) {
  std::vector<const format::Group*> order;
  order.reserve(scan.groups.size());
  for (const FoundGroup& found : scan.groups) {
    if (!found.group.header.is_void()) order.push_back(&found.group);
  }
  std::sort(order.begin(), order.end(), [](const format::Group* a, const format::Group* b) {
    return a->header.sequence < b->header.sequence;
  });
  for (const format::Group* group : order) {
    const format::GroupHeader& header = group->header;
    if (live[header.segment] == 0) segments_.restore(header.segment, header.generation);
    std::uint32_t slot = header.first_slot;
    for (std::uint32_t i = 0; i < header.count; ++i) {
      const Home home = home_of(header.segment, slot, group->flags[i]);
      if (home.kind == Home::Kind::data) ++slot;
      if (!load_record(header, group->chunks[i], home, live)) continue;
      ++live[home.segment];
      if (home.unchecked) segments_.note_unchecked(home.segment);
      if (home.kind != Home::Kind::data) continue;
      std::atomic<std::uint32_t>* sums = segments_.checksums(home);
      for (std::uint32_t k = 0; k < layout_.checksums_per_chunk; ++k) {
        sums[k].store(group->checksums[std::size_t{i} * layout_.checksums_per_chunk + k],
                      std::memory_order_relaxed);
      }
    }
  }
}

void Volume::Impl::load(const Scan& scan) {
  std::vector<std::uint32_t> live(segments_.count(), 0);
  load_groups(scan, live);
  epoch_last_ = std::max(epoch_last_, scan.epoch_max);
  epoch_ = epoch_last_;
  next_sequence_ = std::max(scan.sequence_max, scan.trusted) + 1;
  completed_sequence_ = durable_sequence_ = next_sequence_ - 1;
  load_snapshots();
  load_history();
  const auto dropped = [&](Home home) { --live[home.segment]; };
  std::uint64_t below = 0;
  while (below <= epoch_) {
    const std::uint64_t above = live_above(below);
    map_.prune(below, above, below, dropped);
    below = above;
  }
  find_shared();
  segments_.finish_restore(live);
  if (living_.empty() && !changes_.tracking()) return;
  make_copy_buffers();
  if (living_.empty()) return;
  // What is not in the log's last interval was written before that began: the next write to it has
  // to be entered.
  map_.for_each_since(*living_.rbegin(), [this](std::uint64_t chunk) {
    if (changes_.entered(chunk)) set_done(chunk);
  });
}

// What was written to snapshots goes with them; a lost one that is reverted to keeps its records.
void Volume::Impl::load_history() {
  for (const auto& [epoch, homes] : std::exchange(overlays_, {})) {
    auto overlay = std::make_unique<Overlay>();
    for (const auto& [chunk, home] : homes) (void)overlay->set(chunk, home);
    snapshots_.at(epoch)->give_overlay(std::move(overlay));
  }
  if (!superblock_.revert.under_way) return;
  const auto target = find_snapshot(superblock_.revert.snapshot);
  if (target && target->slot.lost) pinned_epoch_ = target->epoch;
}

void Volume::Impl::load_snapshots() {
  std::vector<bool> used(table_.size());
  for (const auto& [epoch, snapshot] : snapshots_) {
    const format::SnapshotSlot& slot = snapshot->slot;
    used[slot.index] = true;
    if (slot.state == SlotState::created) ++created_count_;
    if (slot.lost) {
      ++lost_count_;
      continue;
    }
    living_.insert(epoch);
    if (slot.persistent) living_persistent_.insert(epoch);
  }
  blobs_->mark_slots(used);
  for (std::size_t i = used.size(); i-- > 0;) {
    if (!used[i]) free_slots_.push_back(static_cast<std::uint32_t>(i));
  }
  use_bits();
}

}  // namespace umbra::cow
