// SPDX-License-Identifier: Apache-2.0
//
// When a copy fails: the snapshots that need it are lost. That is made durable first, then they
// stop counting as live, and then the write goes through; if it cannot be made durable anywhere,
// the write is held, and tried again with every tick. The origin never fails because of a snapshot.
#include <algorithm>

#include "engine/platform/assert.h"
#include "provider/cow/core.h"

namespace umbra::cow {

void Volume::Impl::fail_batch(Batch& batch, Fault fault) noexcept {
  Batch* list = nullptr;
  {
    const std::lock_guard lock(mutex_);
    if (trouble_.empty()) {
      trouble_ = "preserving a chunk failed: errno " + std::to_string(batch.error.load());
    }
    if (failing_.head == nullptr) failing_fault_ = fault;
    for (std::uint32_t i = 0; i < batch.place.count; ++i) {
      failing_.push(*batch.copies[i]);
      (void)segments_.drop(batch.place.segment);
    }
    if (batch.place.ended) end_said(*batch.place.ended, batch.sequence, false);
    // Recovery looks no further than over the groups that may be in flight: what comes after this
    // hole, and the next one, goes elsewhere.
    segments_.close(batch.place.segment);
    // Its place in the index stays empty: recovery must not take it for a damaged group, so the
    // numbers that vouch for earlier groups stop here.
    sequence_stuck_ = true;
    if (fault != Fault::cow_read_failure) suspect_diff();
    retire(batch);
    post_losses();
    list = form_batches();
  }
  start(list);
}

void Volume::Impl::post_losses() noexcept {
  if (settling_) return;
  settling_ = true;
  post(&Impl::settle_losses);
}

void Volume::Impl::settle_losses() {
  for (;;) {
    CopyQueue failed;
    std::vector<std::shared_ptr<Snapshot>> victims;
    Fault cause = Fault::none;
    Fault fault = Fault::none;  // Anything else: the copies are kept, and the volume fails.
    {
      const std::lock_guard lock(mutex_);
      if (failing_.head == nullptr) {
        settling_ = false;
        return;
      }
      failed = std::exchange(failing_, {});
      victims = victims_of(failed);
      cause = failing_fault_;
      if (must_protect(victims)) fault = cause;
    }
    if (fault != Fault::none) {
      raise_fault(fault);
      let_through(failed, {}, cause);  // What waits gets EIO.
      continue;
    }
    const Status recorded = victims.empty() ? Status{} : mark_lost(victims);
    if (!recorded) {
      hold_writes(failed, recorded.error());
      return;
    }
    let_through(failed, victims, cause);
  }
}

void Volume::Impl::hold_writes(CopyQueue& failed, const Error& why) {
  {
    const std::lock_guard lock(mutex_);
    if (!writes_held_) {
      Event event;
      event.kind = EventKind::writes_held;
      event.text = why.to_string();
      tell(std::move(event));
    }
    writes_held_ = true;
    while (Copy* copy = failed.pop()) failing_.push(*copy);
    settling_ = false;
    post_tick();
  }
  log_.error("a loss cannot be recorded; writes to unpreserved chunks are held",
             {{"volume", id().to_string()}, {"error", why.to_string()}});
}

void Volume::Impl::let_through(CopyQueue& failed,
                               const std::vector<std::shared_ptr<Snapshot>>& victims, Fault cause) {
  RequestQueue waiters;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& victim : victims) {
      note_unpruned(victim->epoch);
      tell_of(EventKind::snapshot_lost, *victim, {}, trouble_, cause);
    }
    if (std::exchange(writes_held_, false)) {
      Event event;
      event.kind = EventKind::writes_released;
      tell(std::move(event));
    }
    while (Copy* copy = failed.pop()) {
      waiters.append(copy->waiters);
      forget_copy(*copy);
    }
    waiters.append(starved_);
  }
  for (const auto& victim : victims) {
    log_.error("snapshot lost: its old data could not be kept",
               {{"volume", id().to_string()}, {"snapshot", victim->slot.id.to_string()}});
  }
  resume(waiters);
}

std::vector<std::shared_ptr<Snapshot>> Volume::Impl::victims_of(const CopyQueue& failed) const {
  std::uint64_t oldest = ~std::uint64_t{0};
  for (const Copy* copy = failed.head; copy != nullptr; copy = copy->queue_next) {
    oldest = std::min(oldest, map_.newest_epoch(copy->chunk));
  }
  std::vector<std::shared_ptr<Snapshot>> victims;
  for (auto it = living_.upper_bound(oldest); it != living_.end(); ++it) {
    const auto& snapshot = snapshots_.at(*it);
    bool needs = snapshot->exemption() == nullptr;
    for (const Copy* copy = failed.head; copy != nullptr && !needs; copy = copy->queue_next) {
      needs = *it > map_.newest_epoch(copy->chunk) && !snapshot->shows_nothing_of(copy->chunk);
    }
    if (needs) victims.push_back(snapshot);
  }
  return victims;
}

}  // namespace umbra::cow
