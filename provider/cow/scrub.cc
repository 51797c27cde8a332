// SPDX-License-Identifier: Apache-2.0
//
// Scrub of an attached volume: reads what snapshots need, segment by segment, one read in flight,
// and no lock held over it. A segment that is being looked at is pinned, as by one more live
// record: it cannot be used again meanwhile, so that a group that is damaged in one place can be
// written there anew. Groups that have not completed are left alone, and nothing is written between
// hold() and release().
#include <algorithm>

#include "provider/cow/checker.h"
#include "provider/cow/core.h"

namespace umbra::cow {

// A read that shut_down() waits for.
class Volume::Impl::ScrubPass {
 public:
  ScrubPass(Impl& impl, const ScrubProgress& progress)
      : impl_(impl), view_(impl.area_view()), reader_(view_), progress_(progress) {
    impl_.reads_.fetch_add(1);
  }
  ~ScrubPass() {
    impl_.reads_.fetch_sub(1);
    impl_.reads_.notify_all();
  }
  ScrubPass(const ScrubPass&) = delete;
  ScrubPass& operator=(const ScrubPass&) = delete;

  [[nodiscard]] Result<CheckReport> run();

 private:
  [[nodiscard]] bool pin(std::uint32_t segment);
  void unpin(std::uint32_t segment);
  [[nodiscard]] Status look_at(std::uint32_t segment);
  void mend(const FoundGroup& found);
  [[nodiscard]] bool is_current(const format::Group& group, std::uint32_t record,
                                std::uint32_t slot) const;
  void found_damage(const format::Group& group, std::uint32_t record, std::uint64_t offset_bytes);
  [[nodiscard]] Status verify(const format::Group& group);

  Impl& impl_;
  AreaView view_;
  IndexReader reader_;
  const ScrubProgress& progress_;
  CheckReport report_;
  std::uint64_t done_ = 0;
  std::uint64_t completed_ = 0;  // Groups up to here.
};

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

Result<CheckReport> Volume::Impl::ScrubPass::run() {
  std::uint64_t segments = 0;
  {
    const std::lock_guard lock(impl_.mutex_);
    segments = impl_.segments_.count();
    report_.snapshots = impl_.snapshots_.size();
    report_.snapshots_lost = impl_.lost_count_;
  }
  for (std::uint64_t i = 0; i < segments && report_.complete; ++i) {
    const auto segment = static_cast<std::uint32_t>(i);
    if (impl_.closed_.load()) return fail(Errc::bad_state, "the volume is closed");
    if (!pin(segment)) continue;
    const Status looked = look_at(segment);
    unpin(segment);
    if (!looked) return fail(looked.error());
  }
  return std::move(report_);
}

Status Volume::Impl::ScrubPass::look_at(std::uint32_t segment) {
  IndexScan scan;
  if (const Status scanned = scan_segment(view_, segment, reader_, true, scan); !scanned) {
    report_.add({Finding::Kind::damage,
                 view_.layout.unit_offset(segment, 0, 0),
                 "an index that cannot be read: " + scanned.error().to_string(),
                 {}});
    return {};
  }
  for (const IndexGap& gap : scan.gaps) {
    if (gap.sequence > completed_) continue;
    report_.add({Finding::Kind::damage,
                 view_.layout.unit_offset(segment, gap.unit, 0),
                 "a group of the index is damaged in both places: at the next open snapshots will "
                 "be lost by it",
                 {}});
  }
  const std::uint64_t generation = impl_.segments_.generation(segment);
  for (const FoundGroup& found : scan.groups) {
    const format::GroupHeader& header = found.group.header;
    const bool ours = header.generation == generation && header.sequence <= completed_;
    if (!ours || header.is_void()) continue;
    ++report_.groups;
    report_.records += header.count;
    if (found.missing != 0) mend(found);
    if (header.kind != format::GroupKind::records) continue;
    if (Status verified = verify(found.group); !verified || !report_.complete) return verified;
  }
  return {};
}

void Volume::Impl::ScrubPass::mend(const FoundGroup& found) {
  const std::uint32_t place = (found.missing & 1U) != 0 ? 0 : 1;
  const format::GroupHeader& header = found.group.header;
  Finding finding{Finding::Kind::repairable,
                  view_.layout.unit_offset(header.segment, header.unit, place),
                  "a group of the index is damaged in one of its two places",
                  {}};
  bool writable = false;
  {
    const std::lock_guard lock(impl_.mutex_);
    writable = impl_.holds_ == 0 && !impl_.closed_.load();
    if (writable) ++impl_.busy_;  // quiesce() and close() wait for it.
  }
  if (writable) {
    const Status written =
        write_group_at(impl_.diff_, view_.layout, view_.area, found.group, {&place, 1});
    impl_.end_busy();
    if (written) {
      finding.kind = Finding::Kind::repaired;
      impl_.metadata_repairs_.fetch_add(1);
    }
  }
  report_.add(std::move(finding));
}

bool Volume::Impl::ScrubPass::is_current(const format::Group& group, std::uint32_t record,
                                         std::uint32_t slot) const {
  const auto known = impl_.map_.find(group.chunks[record], group.header.epoch);
  return known && known->epoch == group.header.epoch &&
         known->home.segment == group.header.segment && known->home.slot == slot &&
         known->home.kind == Home::Kind::data;
}

Status Volume::Impl::ScrubPass::verify(const format::Group& group) {
  std::vector<std::uint32_t> slots(group.header.count);
  std::uint32_t slot = group.header.first_slot;
  for (std::uint32_t i = 0; i < group.header.count; ++i) {
    slots[i] = slot;
    if (format::has_data(group.flags[i])) ++slot;
  }
  const auto verified = verify_group(
      impl_.diff_, view_.layout, group,
      [&](std::uint32_t record) { return is_current(group, record, slots[record]); },
      [&](std::uint64_t bytes) {
        if (impl_.closed_.load()) return false;
        const std::uint64_t total = impl_.map_.record_count() * view_.layout.chunk_bytes;
        if (progress_ && !progress_(done_, std::max(total, done_))) return false;
        done_ += bytes;
        report_.chunks_verified += bytes / view_.layout.chunk_bytes;
        return true;
      },
      [&](std::uint32_t record, std::uint64_t offset_bytes) {
        // What was removed meanwhile is nobody's loss.
        if (is_current(group, record, slots[record])) found_damage(group, record, offset_bytes);
      });
  if (!verified) return fail(verified.error());
  report_.complete = *verified;
  return {};
}

void Volume::Impl::ScrubPass::found_damage(const format::Group& group, std::uint32_t record,
                                           std::uint64_t offset_bytes) {
  const std::uint64_t chunk = group.chunks[record];
  Finding finding{Finding::Kind::damage,
                  offset_bytes,
                  "preserved data of chunk " + std::to_string(chunk) + " is damaged",
                  {}};
  {
    const std::lock_guard lock(impl_.mutex_);
    for (auto it = impl_.living_.upper_bound(group.header.epoch); it != impl_.living_.begin();) {
      --it;
      const auto known = impl_.map_.find(chunk, *it);
      if (!known || known->epoch != group.header.epoch) break;
      finding.snapshots.push_back(impl_.snapshots_.at(*it)->slot.id);
    }
  }
  if (finding.snapshots.empty()) return;
  impl_.checksum_failures_.fetch_add(1);
  impl_.log_.error("preserved data is damaged", {{"volume", impl_.id().to_string()},
                                                 {"chunk", chunk},
                                                 {"snapshots", finding.snapshots.size()}});
  report_.add(std::move(finding));
}

Result<CheckReport> Volume::Impl::scrub(const ScrubProgress& progress) {
  return ScrubPass(*this, progress).run();
}

}  // namespace umbra::cow
