// SPDX-License-Identifier: Apache-2.0
//
// Scrub of an attached volume: superblocks, snapshot table, blobs, both places of the index, and
// all data that snapshots need, with one read in flight.
//
// Metadata that exists twice is mended where one place is damaged; what the volume knows by itself
// (superblocks, snapshots' slots) also where both are. Preserved data exists once: what is damaged
// there is reported. Nothing is written between hold() and release().
//
// Locks: table_mutex_ for one piece of the table, or one blob, at a time; none over reads of
// segments. A segment that is being looked at is pinned, as by one more live record: it cannot be
// used again meanwhile, so that a group that is damaged in one place can be written there anew.
// Groups that have not completed are left alone.
#include "provider/cow/scrub_pass.h"

#include <algorithm>

namespace umbra::cow {

namespace {

constexpr Duration kPaceSlice = std::chrono::milliseconds(50);  // A close waits no longer for us.
constexpr std::size_t kSnapshotsNamed = 3;                      // In an event's text.

}  // namespace

Volume::Impl::ScrubPass::ScrubPass(Impl& impl, const ScrubProgress& progress,
                                   std::uint64_t bytes_per_second)
    : impl_(impl),
      view_(impl.area_view()),
      reader_(view_),
      progress_(progress),
      rate_(bytes_per_second),
      begun_(impl.clock_.now()) {
  impl_.reads_.fetch_add(1);
}

Volume::Impl::ScrubPass::~ScrubPass() {
  impl_.reads_.fetch_sub(1);
  impl_.reads_.notify_all();
}

Result<CheckReport> Volume::Impl::ScrubPass::run() {
  std::uint64_t segments = 0;
  {
    const std::lock_guard lock(impl_.mutex_);
    segments = impl_.segments_.count();
    report_.snapshots = impl_.snapshots_.size();
    report_.snapshots_lost = impl_.lost_count_;
  }
  if (Status looked = look_at_tables(); !looked) return fail(looked.error());
  for (std::uint64_t i = 0; i < segments && report_.complete; ++i) {
    const auto segment = static_cast<std::uint32_t>(i);
    if (impl_.closed_.load()) return fail(Errc::bad_state, "the volume is closed");
    if (!pin(segment)) continue;
    const Status looked = look_at(segment);
    unpin(segment);
    if (!looked) return fail(looked.error());
  }
  if (report_.complete) judge_missing_ends();
  if (impl_.closed_.load()) return fail(Errc::bad_state, "the volume is closed");
  return std::move(report_);
}

bool Volume::Impl::ScrubPass::go_on(std::uint64_t bytes) {
  if (impl_.closed_.load()) return false;
  const std::uint64_t total = impl_.map_.record_count() * view_.layout.chunk_bytes;
  if (progress_ && !progress_(done_, std::max(total, done_))) report_.complete = false;
  if (!report_.complete) return false;
  pace();
  done_ += bytes;
  return !impl_.closed_.load();
}

// Waits until the bytes so far are due.
void Volume::Impl::ScrubPass::pace() {
  if (rate_ == 0) return;
  const std::chrono::duration<double> due(static_cast<double>(done_) / static_cast<double>(rate_));
  const TimePoint until = begun_ + std::chrono::duration_cast<Duration>(due);
  for (;;) {
    const Duration rest = until - impl_.clock_.now();
    if (rest <= Duration::zero() || impl_.closed_.load()) return;
    if (progress_ &&
        !progress_(done_, std::max(done_, impl_.map_.record_count() * view_.layout.chunk_bytes))) {
      report_.complete = false;
      return;
    }
    std::unique_lock lock(impl_.mutex_);
    (void)impl_.idle_.wait_for(lock, std::min(rest, kPaceSlice),
                               [this] { return impl_.closed_.load(); });
  }
}

bool Volume::Impl::ScrubPass::begin_mending() {
  const std::lock_guard lock(impl_.mutex_);
  if (impl_.holds_ > 0 || impl_.closed_.load()) return false;
  ++impl_.busy_;  // quiesce() and close() wait for it.
  return true;
}

void Volume::Impl::ScrubPass::mend(std::uint64_t offset_bytes, std::string what,
                                   const std::function<Status()>& write) {
  Finding finding{Finding::Kind::repairable, offset_bytes, std::move(what), {}};
  if (begin_mending()) {
    const Status written = write();
    impl_.end_busy();
    if (written) {
      finding.kind = Finding::Kind::repaired;
      impl_.metadata_repairs_.fetch_add(1);
    }
  }
  report_.add(std::move(finding));
}

// --- the index, and preserved data -----------------------------------------------------------

bool Volume::Impl::ScrubPass::pin(std::uint32_t segment) {
  const std::lock_guard lock(impl_.mutex_);
  completed_ = impl_.completed_sequence_;
  return !impl_.segments_.is_aside(segment) && impl_.segments_.pin(segment);
}

void Volume::Impl::ScrubPass::unpin(std::uint32_t segment) {
  Batch* list = nullptr;
  {
    const std::lock_guard lock(impl_.mutex_);
    if (impl_.segments_.drop(segment)) impl_.note_space();
    list = impl_.form_batches();
  }
  impl_.start(list);
}

Status Volume::Impl::ScrubPass::look_at(std::uint32_t segment) {
  (void)impl_.take_checksums(segment);  // What has none yet is not looked at below.
  IndexScan scan;
  if (const Status scanned = scan_segment(view_, segment, reader_, true, scan); !scanned) {
    report_.add({Finding::Kind::damage, view_.layout.unit_offset(segment, 0, 0),
                 "an index that cannot be read: " + scanned.error().to_string(),
                 living_up_to(format::kEpochMax)});
    return {};
  }
  const std::uint64_t generation = impl_.segments_.generation(segment);
  for (const IndexGap& gap : scan.gaps) {
    if (gap.sequence > completed_ || gap.generation != generation) continue;
    if (gap.tail) {
      missing_ends_.push_back(gap);
    } else {
      found_gap(gap);
    }
  }
  for (const FoundGroup& found : scan.groups) {
    const format::GroupHeader& header = found.group.header;
    const bool ours = header.generation == generation && header.sequence <= completed_;
    if (!ours) continue;
    if (header.unit == 0) first_sequences_.insert(header.sequence);
    if (found.missing != 0) mend_group(found);
    if (header.is_void()) continue;
    ++report_.groups;
    report_.records += header.count;
    if (header.kind == format::GroupKind::reverted) continue;
    if (Status verified = verify(found.group); !verified || !report_.complete) return verified;
  }
  return {};
}

void Volume::Impl::ScrubPass::found_gap(const IndexGap& gap) {
  report_.add({Finding::Kind::damage, view_.layout.unit_offset(gap.segment, gap.unit, 0),
               "a part of the index is damaged in both places: when it is opened again, these "
               "snapshots will be lost",
               living_up_to(gap.epoch_max)});
}

void Volume::Impl::ScrubPass::mend_group(const FoundGroup& found) {
  const std::uint32_t place = (found.missing & 1U) != 0 ? 0 : 1;
  const format::GroupHeader& header = found.group.header;
  mend(view_.layout.unit_offset(header.segment, header.unit, place),
       "a group of the index is damaged in one of its two places", [&] {
         return write_group_at(impl_.diff_, view_.layout, view_.area, found.group, {&place, 1});
       });
}

// As judge_tails(): where nothing but the end itself can be missing, it is said again.
void Volume::Impl::ScrubPass::judge_missing_ends() {
  const std::uint32_t most = view_.layout.group_units(view_.batch_chunks);
  for (const IndexGap& gap : missing_ends_) {
    const bool full = view_.layout.index_units - gap.unit <= most;
    const bool only_the_end = !full && first_sequences_.count(gap.sequence + 1) != 0;
    if (!pin(gap.segment)) continue;
    const bool still = impl_.segments_.generation(gap.segment) == gap.generation;
    if (still && !only_the_end) found_gap(gap);
    if (still && only_the_end) {
      mend(view_.layout.unit_offset(gap.segment, gap.unit, 0),
           "the end of a segment's index is damaged in both places", [&] {
             constexpr std::uint32_t kBoth[] = {0, 1};
             format::Group end;
             end.header.kind = format::GroupKind::end;
             end.header.generation = gap.generation;
             end.header.sequence = gap.sequence;
             end.header.segment = gap.segment;
             end.header.unit = static_cast<std::uint16_t>(gap.unit);
             end.header.units = 1;
             return write_group_at(impl_.diff_, view_.layout, view_.area, end, kBoth);
           });
    }
    unpin(gap.segment);
  }
}

std::vector<SnapshotId> Volume::Impl::ScrubPass::living_up_to(std::uint64_t epoch) const {
  const std::lock_guard lock(impl_.mutex_);
  std::vector<SnapshotId> ids;
  for (auto it = impl_.living_.begin(); it != impl_.living_.end() && *it <= epoch; ++it) {
    ids.push_back(impl_.snapshots_.at(*it)->slot.id);
  }
  return ids;
}

std::shared_ptr<Snapshot> Volume::Impl::ScrubPass::written_to(std::uint64_t epoch) const {
  const std::lock_guard lock(impl_.mutex_);
  const auto it = impl_.snapshots_.find(epoch);
  const bool shown = it != impl_.snapshots_.end() && !it->second->slot.lost;
  return shown && it->second->overlay() != nullptr ? it->second : nullptr;
}

bool Volume::Impl::ScrubPass::is_current(const format::Group& group, std::uint32_t record,
                                         std::uint32_t slot) const {
  const std::uint64_t chunk = group.chunks[record];
  const auto is_here = [&](const Home& home) {
    return home.segment == group.header.segment && home.slot == slot &&
           home.kind == Home::Kind::data;
  };
  if (group.header.kind == format::GroupKind::overlay) {
    const auto snapshot = written_to(group.header.epoch);
    const auto home = snapshot != nullptr ? snapshot->overlay()->find(chunk) : std::nullopt;
    return home && is_here(*home);
  }
  const auto known = impl_.map_.find(chunk, group.header.epoch);
  return known && known->epoch == group.header.epoch && is_here(known->home);
}

Status Volume::Impl::ScrubPass::verify(const format::Group& group) {
  std::vector<std::uint32_t> slots(group.header.count);
  std::uint32_t slot = group.header.first_slot;
  for (std::uint32_t i = 0; i < group.header.count; ++i) {
    slots[i] = slot;
    if (!format::has_data(group.flags[i])) continue;
    const bool unchecked = (group.flags[i] & format::kEntryUnchecked) != 0;
    if (unchecked && is_current(group, i, slot)) ++report_.chunks_unchecked;
    ++slot;
  }
  const auto verified = verify_group(
      impl_.diff_, view_.layout, group,
      [&](std::uint32_t record) { return is_current(group, record, slots[record]); },
      [&](std::uint64_t bytes) {
        if (!go_on(bytes)) return false;
        report_.chunks_verified += bytes / view_.layout.chunk_bytes;
        return true;
      },
      [&](std::uint32_t record, std::uint64_t offset_bytes) {
        // What was removed meanwhile is nobody's loss.
        if (is_current(group, record, slots[record])) found_damage(group, record, offset_bytes);
      });
  return verified ? Status{} : Status(fail(verified.error()));
}

void Volume::Impl::ScrubPass::found_damage(const format::Group& group, std::uint32_t record,
                                           std::uint64_t offset_bytes) {
  const std::uint64_t chunk = group.chunks[record];
  Finding finding{Finding::Kind::damage,
                  offset_bytes,
                  "preserved data of chunk " + std::to_string(chunk) + " is damaged",
                  {}};
  if (group.header.kind == format::GroupKind::overlay) {
    if (const auto snapshot = written_to(group.header.epoch)) {
      finding.snapshots.push_back(impl_.slot_of(*snapshot).id);
    }
  } else {
    const std::lock_guard lock(impl_.mutex_);
    for (auto it = impl_.living_.upper_bound(group.header.epoch); it != impl_.living_.begin();) {
      --it;
      const auto known = impl_.map_.find(chunk, *it);
      if (!known || known->epoch != group.header.epoch) break;
      const std::shared_ptr<Snapshot>& snapshot = impl_.snapshots_.at(*it);
      // What was written to it hides the record.
      const Overlay* overlay = snapshot->overlay();
      if (overlay != nullptr && overlay->find(chunk)) continue;
      if (snapshot->shows_nothing_of(chunk)) continue;
      finding.snapshots.push_back(snapshot->slot.id);
    }
  }
  if (finding.snapshots.empty()) return;
  impl_.checksum_failures_.fetch_add(1);
  impl_.log_.error("preserved data is damaged", {{"volume", impl_.id().to_string()},
                                                 {"chunk", chunk},
                                                 {"snapshots", finding.snapshots.size()}});
  report_.add(std::move(finding));
}

// --- what comes of it ------------------------------------------------------------------------

void Volume::Impl::note_scrub(const CheckReport& report) {
  const std::lock_guard lock(mutex_);
  if (report.damaged == 0) {
    if (report.complete) scrub_trouble_.clear();
    return;
  }
  scrub_trouble_ = "damaged in " + std::to_string(report.damaged) +
                   (report.damaged == 1 ? " place" : " places") + ", found by scrub";
  Event event;
  event.kind = EventKind::damage_found;
  event.text = std::to_string(report.damaged) +
               " damaged places; shadow copies that have lost data: " +
               std::to_string(report.snapshots_damaged.size());
  for (std::size_t i = 0; i < std::min(report.snapshots_damaged.size(), kSnapshotsNamed); ++i) {
    event.text += (i == 0 ? ": " : ", ") + report.snapshots_damaged[i].to_string();
  }
  tell(std::move(event));
}

Result<CheckReport> Volume::Impl::scrub(const ScrubProgress& progress,
                                        std::uint64_t bytes_per_second) {
  auto report = ScrubPass(*this, progress, bytes_per_second).run();
  if (report) note_scrub(*report);
  return report;
}

}  // namespace umbra::cow
