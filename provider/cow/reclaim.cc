// SPDX-License-Identifier: Apache-2.0
//
// The space of what went. A snapshot that was deleted or lost leaves its epoch in unpruned; a job
// on the volume's executor looks at the records of these epochs, a few thousand at a time, and
// drops those that nobody resolves to. Segments without records are free: some stay ready, the data
// of the others is given back to the host, one segment at a time.
//
// Why that is right at any time: a removal is durable before its epoch comes here, and what a
// living snapshot resolves to is never dropped. An interrupted look is begun anew; after a restart
// open() looks at everything, and takes every free segment for one that may have been punched.
//
// Only data is punched, not the index: half an index that is gone would look like damage. The index
// of a free segment names records that nobody needs, whose data is never looked at, or at most
// found not to match, which drops them.
//
// Nothing is punched while writes are held: release() goes on with it.
#include <vector>

#include "engine/platform/assert.h"
#include "provider/cow/core.h"

namespace umbra::cow {
namespace {

constexpr int kStepsPerJob = 8;  // Then others on the executor have their turn.

}  // namespace

void Volume::Impl::note_unpruned(std::uint64_t epoch) noexcept {
  space_.unpruned.insert(epoch);
  post_reclaim();
}

void Volume::Impl::post_reclaim() noexcept {
  if (space_.reclaiming || space_.stopping || closed_.load()) return;
  space_.reclaiming = true;
  post(&Impl::reclaim);
}

void Volume::Impl::reclaim() {
  for (int step = 0; step < kStepsPerJob; ++step) {
    if (prune_some() || unshare_one(false) || punch_one()) continue;
    const std::lock_guard lock(mutex_);
    space_.reclaiming = false;
    // Somebody may have come since the look.
    if (!space_.unpruned.empty()) post_reclaim();
    return;
  }
  const std::lock_guard lock(mutex_);
  space_.reclaiming = false;
  post_reclaim();
}

bool Volume::Impl::prune_some() {
  const std::lock_guard reclaim(reclaim_mutex_);
  if (!prune_work_) {
    const std::lock_guard lock(mutex_);
    if (space_.unpruned.empty() || space_.stopping || closed_.load()) return false;
    const std::uint64_t first = *space_.unpruned.begin();
    space_.unpruned.erase(space_.unpruned.begin());
    // Snapshots that come later have higher epochs; one that goes meanwhile is looked at after.
    space_.pruning = true;
    prune_work_ = PruneWork{{first, 0}, live_above(first), live_below(first + 1)};
  }
  std::vector<Home> dropped;  // Page locks are leaves: the segments are told afterwards.
  if (!map_.prune_step(prune_work_->at, prune_work_->end, prune_work_->newest,
                       [&](Home home) { dropped.push_back(home); })) {
    prune_work_.reset();
  }
  Batch* list = nullptr;
  {
    const std::lock_guard lock(mutex_);
    space_.pruning = prune_work_.has_value();
    for (const Home home : dropped) (void)segments_.drop(home.segment);
    if (!dropped.empty()) note_space();
    list = form_batches();
  }
  start(list);
  return true;
}

void Volume::Impl::prune_all() {
  while (prune_some()) {
  }
}

bool Volume::Impl::punch_one() {
  std::uint32_t segment = 0;
  {
    const std::lock_guard lock(mutex_);
    if (space_.stopping || closed_.load()) return false;
    if (space_.no_punching && !over_maximum()) return false;
    space_.punch_waits = holds_ > 0;
    if (space_.punch_waits) return false;
    const std::uint64_t keep =
        2 * std::max(space_.ahead_bytes, kSegmentsAhead * layout_.segment_bytes);
    const bool initial = segments_.count() - segments_.bare_count() <= space_.initial_segments;
    if (!over_maximum() && (initial || ready_bytes() <= keep)) return false;
    const auto taken = segments_.take_to_punch(over_maximum());
    if (!taken) return false;
    segment = *taken;
    if (space_.no_punching) {  // At least nothing more is written there.
      segments_.put_bare(segment);
      return true;
    }
  }
  block::Request discard;
  discard.op = block::Op::discard;
  discard.offset_bytes = layout_.slot_offset(segment, 0);
  discard.size_bytes = layout_.segment_offset(segment + 1) - discard.offset_bytes;
  const int error = block::run(diff_, discard);
  const std::lock_guard lock(mutex_);
  if (error == 0) {
    segments_.put_bare(segment);
    return true;
  }
  segments_.put_ready(segment);
  space_.no_punching = true;  // Until the next open.
  return false;
}

}  // namespace umbra::cow
