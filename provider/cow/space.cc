// SPDX-License-Identifier: Apache-2.0
//
// The space of a diff area that fills up.
//
// Ahead: each time a segment is taken into use, the rate of the last seconds says how much should
// be ready; if it is less than half of that, a job on the executor makes it so: it allocates what
// was given back to the host, then makes the file larger, within the maximum and within what the
// host has beyond that which a sparse origin on it may still want.
//
// Full: a copy that finds no segment waits. In this order: for growth; for the records of snapshots
// that went already; for the oldest snapshot to be deleted, durably, one at a time, until it fits.
// The newest is not deleted: if it alone is too much it is lost. Nor is the wait without bound
// (kSpaceWaitMax): after that, whoever needs the copy is lost. A growth that failed is tried again
// after a while, and at once when something was deleted or the maximum was changed.
#include <algorithm>

#include "engine/platform/assert.h"
#include "provider/cow/core.h"

namespace umbra::cow {

// --- ahead of the writes -----------------------------------------------------------------------

std::uint64_t Volume::Impl::grow_step_bytes() const noexcept {
  return std::max(options_.grow_step_bytes, 2 * layout_.segment_bytes);
}

std::uint64_t Volume::Impl::space_limit() const noexcept {
  const std::uint64_t maximum = diff_maximum_.load();
  if (!space_.host_limit) return maximum;
  return maximum == 0 ? *space_.host_limit : std::min(maximum, *space_.host_limit);
}

void Volume::Impl::note_space() noexcept {
  const std::uint64_t rate =
      options_.grow_ahead_seconds == 0 ? 0 : space_.rate.bytes_per_second(clock_.now());
  space_.ahead_bytes =
      ahead_bytes(rate * options_.grow_ahead_seconds / kAheadSeconds, grow_step_bytes());
  const std::uint64_t least = kSegmentsAhead * layout_.segment_bytes;
  const bool scarce = rate > 0 && ready_bytes() < space_.ahead_bytes / 2;
  if (scarce || ready_bytes() < least) (void)post_grow();
  note_thresholds();
  if (segments_.free_count() > 0) space_.full = false;
  if (segments_.has_dead_shared() && !unsharing_failed_) post_reclaim();
}

void Volume::Impl::note_thresholds() noexcept {
  while (const auto crossed = space_.thresholds.next(used_bytes(), space_limit())) {
    Event event;
    event.kind = crossed->upwards ? EventKind::threshold_crossed : EventKind::threshold_left;
    event.percent = crossed->percent;
    tell(std::move(event));
  }
}

bool Volume::Impl::post_grow() noexcept {
  if (growing_) return true;
  if (space_.stopping) return false;
  const std::uint64_t maximum = diff_maximum_.load();
  const bool may_be_larger = !space_.fixed_size && segments_.count() < kSegmentsMax &&
                             (maximum == 0 || layout_.segments_in(maximum) > segments_.count());
  const bool may_allocate = segments_.bare_count() > 0 && allocated_below_maximum();
  if (!may_be_larger && !may_allocate) return false;
  if (!space_.growth.over(clock_.now())) {
    post_tick();
    return false;
  }
  growing_ = true;
  post(&Impl::grow);
  return true;
}

void Volume::Impl::grow() {
  (void)extend();
  Batch* list = nullptr;
  {
    const std::lock_guard lock(mutex_);
    growing_ = false;
    list = form_batches();
  }
  start(list);
}

bool Volume::Impl::make_room() {
  bool waiting = false;
  {
    const std::lock_guard lock(mutex_);
    waiting = !space_.unpruned.empty();
  }
  prune_all();
  while (unshare_one(true)) {
  }
  return waiting || extend();
}

bool Volume::Impl::extend() {
  const std::lock_guard grow(grow_mutex_);
  std::uint64_t wanted = 0;
  std::uint64_t ready = 0;
  {
    const std::lock_guard lock(mutex_);
    ready = ready_bytes();
    wanted = std::max(space_.ahead_bytes, ready + grow_step_bytes());
  }
  if (allocate_bare(ready + layout_.segment_bytes, wanted)) return true;
  Growth growth;
  growth.size_bytes = diff_.geometry().size_bytes;
  growth.wanted_bytes = wanted - ready;
  growth.least_bytes =
      layout_.segment_offset(layout_.segments_in(growth.size_bytes) + 1) - growth.size_bytes;
  growth.maximum_bytes = diff_maximum_.load();
  if (host_space_ != nullptr) {
    if (const auto room = host_space_->room()) growth.host = *room;
  }
  const GrowthDecision decision = decide_growth(growth);
  const Status grown =
      decision.size_bytes
          ? diff_.resize(*decision.size_bytes)
          : Status(fail(Errc::insufficient_storage,
                        decision.by_host ? "the host has no room to spare" : "maximum reached"));
  note_growth(growth, grown, decision.by_host);
  return grown.has_value();
}

void Volume::Impl::note_growth(const Growth& growth, const Status& grown, bool by_host) {
  const bool by_maximum =
      !grown && growth.maximum_bytes != 0 && !by_host &&
      layout_.segments_in(growth.maximum_bytes) <= layout_.segments_in(growth.size_bytes);
  const bool fixed = !grown && grown.error().code == Errc::not_supported;
  const std::lock_guard lock(mutex_);
  space_.fixed_size = space_.fixed_size || fixed;
  if (growth.host) {
    space_.host_limit = growth.size_bytes + growth.host->for_us();
    note_thresholds();
  }
  Event event;
  if (grown) {
    segments_.grow_to(layout_.segments_in(diff_.geometry().size_bytes));
    space_.growth.reset();
    event.kind = EventKind::grown;
    event.limit_bytes = diff_.geometry().size_bytes;
    tell(std::move(event));
    return;
  }
  if (by_maximum || fixed) return;
  if (!space_.growth.pending()) {
    log_.warning("diff area cannot grow; it will be tried again",
                 {{"volume", id().to_string()}, {"error", grown.error().to_string()}});
    event.kind = EventKind::grow_failed;
    event.text = grown.error().to_string();
    tell(std::move(event));
  }
  space_.growth.failed(clock_.now());
  post_tick();
}

bool Volume::Impl::allocate_bare(std::uint64_t least_bytes, std::uint64_t wanted_bytes) {
  for (;;) {
    std::uint32_t segment = 0;
    {
      const std::lock_guard lock(mutex_);
      if (ready_bytes() >= wanted_bytes) return true;
      if (!allocated_below_maximum()) return ready_bytes() >= least_bytes;
      const auto taken = segments_.take_bare();
      if (!taken) return ready_bytes() >= least_bytes;
      segment = *taken;
    }
    const std::uint64_t at = layout_.slot_offset(segment, 0);
    const Status allocated = diff_.allocate(at, layout_.segment_offset(segment + 1) - at);
    const std::lock_guard lock(mutex_);
    if (allocated) {
      segments_.put_ready(segment);
      continue;
    }
    segments_.put_bare(segment);
    return ready_bytes() >= least_bytes;
  }
}

// --- full --------------------------------------------------------------------------------------

void Volume::Impl::out_of_space() noexcept {
  const TimePoint now = clock_.now();
  if (!space_.starved_since) space_.starved_since = now;
  const bool patient = now - *space_.starved_since < kSpaceWaitMax;
  Fault fault = Fault::grow_too_slow;
  if (patient) {
    // Each of these comes back here if need be.
    if (growing_ || space_.evicting || post_grow() || post_look()) return;
    if (segments_.has_dead_shared() && !unsharing_failed_) {
      post_reclaim();
      return;
    }
    if (!space_.full) {
      space_.full = true;
      Event event;
      event.kind = EventKind::overflow;
      tell(std::move(event));
    }
    if (space_.pruning || !space_.unpruned.empty() || evictable() != nullptr) {
      space_.evicting = true;
      post(&Impl::evict);
      return;
    }
    fault = space_.growth.pending() ? Fault::grow_failed : Fault::diff_area_full;
  }
  space_.starved_since.reset();
  if (failing_.head == nullptr) failing_fault_ = fault;
  while (Copy* copy = claimed_.pop()) failing_.push(*copy);
  if (trouble_.empty()) trouble_ = "diff area is full";
  post_losses();
}

std::shared_ptr<Snapshot> Volume::Impl::evictable() noexcept {
  if (space_.eviction_failed || protects_.load()) return nullptr;
  for (auto it = living_.begin(); it != living_.end() && std::next(it) != living_.end(); ++it) {
    const auto& snapshot = snapshots_.at(*it);
    if (!is_retained(snapshot->slot)) return snapshot;
  }
  return nullptr;
}

void Volume::Impl::evict() {
  const auto still_wanted = [this] {
    const std::lock_guard lock(mutex_);
    return claimed_.head != nullptr;
  };
  while (still_wanted() && prune_some()) {
  }
  std::shared_ptr<Snapshot> oldest;
  {
    const std::lock_guard lock(mutex_);
    if (claimed_.head != nullptr && segments_.free_count() == 0) oldest = evictable();
  }
  if (oldest) {
    const SnapshotId snapshot = slot_of(*oldest).id;
    const Status removed = remove(snapshot, true, {Removal::evicted, "umbra-cowd"});
    if (removed) {
      log_.warning("the diff area is full: its oldest snapshot was deleted",
                   {{"volume", id().to_string()}, {"snapshot", snapshot.to_string()}});
      snapshots_evicted_.fetch_add(1);
    } else if (removed.error().code != Errc::object_not_found) {
      log_.error("the diff area is full, and its oldest snapshot cannot be deleted",
                 {{"volume", id().to_string()},
                  {"snapshot", snapshot.to_string()},
                  {"error", removed.error().to_string()}});
      const std::lock_guard lock(mutex_);
      space_.eviction_failed = true;
    }
    while (still_wanted() && prune_some()) {
    }
  }
  Batch* list = nullptr;
  {
    const std::lock_guard lock(mutex_);
    space_.evicting = false;
    list = form_batches();  // Comes back if it is still too little.
  }
  start(list);
}

// --- events ------------------------------------------------------------------------------------

void Volume::Impl::tell(Event event) noexcept {
  if (options_.events == nullptr) return;
  event.volume = superblock_.volume_id;
  event.time_filetime = clock_.wall_filetime();
  event.used_bytes = used_bytes();
  if (event.limit_bytes == 0) event.limit_bytes = space_limit();
  if (space_.events.size() == kEventsMax) {
    ++space_.events_dropped;
    return;
  }
  event.events_dropped = std::exchange(space_.events_dropped, 0);
  space_.events.push_back(std::move(event));
  post_events();
}

void Volume::Impl::tell_of(EventKind kind, const Snapshot& snapshot, const RemovalCause& cause,
                           std::string text, Fault fault) noexcept {
  Event event;
  event.kind = kind;
  event.fault = fault;
  event.snapshot = snapshot.slot.id;
  event.set = snapshot.slot.set_id;
  event.removal = cause.reason;
  event.who = cause.who;
  event.text = std::move(text);
  tell(std::move(event));
}

void Volume::Impl::post_events() noexcept {
  if (space_.events.empty() || space_.telling || holds_ > 0 || closed_.load()) return;
  space_.telling = true;
  post(&Impl::deliver_events);
}

void Volume::Impl::deliver_events() {
  for (;;) {
    Event event;
    {
      const std::lock_guard lock(mutex_);
      if (space_.events.empty() || holds_ > 0) {
        space_.telling = false;
        return;
      }
      event = std::move(space_.events.front());
      space_.events.pop_front();
    }
    options_.events->on_event(event);
  }
}

void Volume::Impl::flush_events() noexcept {
  std::deque<Event> left;
  {
    const std::lock_guard lock(mutex_);
    left = std::exchange(space_.events, {});
  }
  for (const Event& event : left) options_.events->on_event(event);
}

// --- while in trouble --------------------------------------------------------------------------

void Volume::Impl::post_tick() noexcept {
  if (space_.ticking || space_.stopping || closed_.load()) return;
  space_.ticking = true;
  executor_->post_after(kTickInterval, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->tick();
  });
}

void Volume::Impl::tick() {
  const std::lock_guard lock(mutex_);
  space_.ticking = false;
  if (space_.stopping || closed_.load()) return;
  const bool growth_waits = space_.growth.pending() && !growing_;
  if (holds_ == 0) {
    if (space_.suspect || fault_unsaved_) post(&Impl::look_after);
    if (failing_.head != nullptr) post_losses();
    if (growth_waits && space_.growth.over(clock_.now())) (void)post_grow();
  }
  if (failing_.head != nullptr || growth_waits || space_.suspect || fault_unsaved_) post_tick();
}

void Volume::Impl::suspect_diff() noexcept {
  space_.suspect = true;
  post_tick();
}

// A read of a superblock says whether the device is there at all; what it holds is not looked at.
void Volume::Impl::look_after() {
  save_fault();
  const AlignedBuffer block = make_aligned(format::kBlockBytes);
  block::Request read;
  read.op = block::Op::read;
  read.offset_bytes = format::kSuperblockOffsets[0];
  read.size_bytes = format::kBlockBytes;
  read.buffer = block.get();
  const int error = block::run(diff_, read);
  const std::lock_guard lock(mutex_);
  space_.suspect = error != 0;
  const bool gone = error != 0;
  if (gone == space_.gone) return;
  space_.gone = gone;
  Event event;
  event.kind = gone ? EventKind::diff_area_gone : EventKind::diff_area_back;
  if (gone) event.text = "errno " + std::to_string(error);
  tell(std::move(event));
  if (gone) return;
  space_.growth.reset();
  space_.eviction_failed = false;
  if (failing_.head != nullptr) post_losses();
}

}  // namespace umbra::cow
