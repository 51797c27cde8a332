// SPDX-License-Identifier: Apache-2.0
//
// Live reads and writes. The steady path of a write is: count, look at the gate, look at a bit,
// submit the caller's own request to the origin. No lock, no allocation, no copy of the payload.
// Reads and flushes pass the gate: they change nothing that a snapshot shows.
#include <cerrno>

#include "engine/platform/assert.h"
#include "provider/cow/core.h"

namespace umbra::cow {
namespace {

// Threads are spread over the counters in the order in which they come.
[[nodiscard]] std::uint64_t this_shard() noexcept {
  static std::atomic<std::uint64_t> next = 0;
  thread_local const std::uint64_t shard = next.fetch_add(1, std::memory_order_relaxed) % kShards;
  return shard;
}

}  // namespace

block::Geometry Volume::Impl::LiveDevice::geometry() const noexcept {
  return impl_.origin_geometry_;
}

std::size_t Volume::Impl::LiveDevice::extents(std::uint64_t offset_bytes, std::uint64_t size_bytes,
                                              std::span<block::Extent> out) const noexcept {
  if (impl_.closed_.load() || impl_.reverting_.load())
    return Device::extents(offset_bytes, size_bytes, out);
  return impl_.origin_.extents(offset_bytes, size_bytes, out);
}

void Volume::Impl::submit_live(block::Request& first) noexcept {
  RequestQueue forward;
  bool copies_wanted = false;
  for (block::Request* request = &first; request != nullptr;) {
    block::Request* const next = std::exchange(request->next, nullptr);
    request->error = 0;
    const bool refused =
        closed_.load(std::memory_order_relaxed) || faulted_.load(std::memory_order_relaxed);
    const int error = refused ? EIO : block::check(origin_geometry_, *request);
    if (error != 0) {
      block::finish(*request, error);
    } else if (request->op == block::Op::flush) {
      admit_flush(*request);
    } else if (request->size_bytes == 0) {
      block::finish(*request, 0);
    } else if (request->op == block::Op::read) {
      const bool split = reverting_.load() && read_through_revert(*request);
      if (!split) forward.push(*request);
    } else {
      const Verdict verdict = admit_write(*request);
      if (verdict == Verdict::forward) forward.push(*request);
      copies_wanted = copies_wanted || verdict == Verdict::waits_for_copy;
    }
    request = next;
  }
  if (block::Request* chain = forward.take()) origin_.submit(*chain);
  // After all of the chain has been looked at, so that what it needs goes in one group.
  if (copies_wanted) start_claimed();
}

void Volume::Impl::admit_flush(block::Request& request) noexcept {
  // After a failed flush nothing is known about any write since the last good one.
  if (origin_flush_failed_.load()) {
    block::finish(request, EIO);
    return;
  }
  request.passed = {request.complete, request.owner, 0};
  request.complete = flush_completed;
  request.owner = this;
  origin_.submit(request);
}

void Volume::Impl::flush_completed(block::Request& request) noexcept {
  auto& impl = *static_cast<Impl*>(request.owner);
  if (request.error != 0) {
    impl.origin_flush_failed_.store(true);
  } else if (impl.origin_flush_failed_.load()) {
    request.error = EIO;  // One that was under way beside it may have made nothing durable.
  }
  request.complete = request.passed.complete;
  request.owner = request.passed.owner;
  request.complete(request);
}

Volume::Impl::Verdict Volume::Impl::admit_write(block::Request& request) noexcept {
  for (;;) {
    // Counted before the gate and the bits are looked at: either commit() sees the count and waits,
    // or we see the gate shut (both sides sequentially consistent).
    const std::uint64_t shard = this_shard();
    in_flight_[shard].issued.fetch_add(1);
    if (gate_shut_.load()) {
      leave(shard);
      if (park_if_shut(request)) return Verdict::handled;
      continue;
    }
    if (reverting_.load()) {
      const Waits waits = waits_for_revert(request);
      if (waits != Waits::no) {
        leave(shard);
        if (waits != Waits::yes) block::finish(request, waits == Waits::failed ? EIO : 0);
        return Verdict::handled;
      }
    }
    if (request.offset_bytes < kMountBytes) {
      // What a superblock says is known from what was written; after a discard it would not be.
      const bool ignored = request.op == block::Op::discard && bits_.load() != nullptr;
      if (ignored || waits_for_mount(request)) {
        leave(shard);
        if (ignored) block::finish(request, 0);
        return Verdict::handled;
      }
    }
    const Bits* bits = bits_.load(std::memory_order_acquire);
    if (bits == nullptr || all_done(*bits, request)) {
      request.passed = {request.complete, request.owner, shard};
      request.complete = write_completed;
      request.owner = this;
      return Verdict::forward;
    }
    leave(shard);
    if (request.op == block::Op::discard && keeps_discards()) {
      // One fstrim would otherwise preserve all free space; a discard may do nothing.
      block::finish(request, 0);
      return Verdict::handled;
    }
    if (wait_for_copies(request)) return Verdict::waits_for_copy;
  }
}

// With checkpoints only, a discard is a change like any other.
bool Volume::Impl::keeps_discards() const noexcept {
  const std::lock_guard lock(mutex_);
  return !living_.empty();
}

bool Volume::Impl::all_done(const Bits& bits, const block::Request& request) const noexcept {
  const std::uint64_t last = chunk_of(request.offset_bytes + request.size_bytes - 1);
  for (std::uint64_t chunk = chunk_of(request.offset_bytes); chunk <= last; ++chunk) {
    const std::uint64_t word = bits[chunk / 64].load(std::memory_order_acquire);
    if ((word >> (chunk % 64) & 1U) == 0) return false;
  }
  return true;
}

void Volume::Impl::write_completed(block::Request& request) noexcept {
  auto& impl = *static_cast<Impl*>(request.owner);
  request.complete = request.passed.complete;
  request.owner = request.passed.owner;
  impl.leave(request.passed.word);
  if (request.error == ENOSPC && impl.was_shared_.load() && impl.waits_for_relief(request)) return;
  request.complete(request);
}

void Volume::Impl::leave(std::uint64_t shard) noexcept {
  in_flight_[shard].issued.fetch_sub(1);
  if (!gate_shut_.load()) return;
  const std::lock_guard lock(mutex_);
  drained_.notify_all();
}

bool Volume::Impl::park_if_shut(block::Request& request) noexcept {
  const std::lock_guard lock(mutex_);
  if (holds_ == 0) return false;
  parked_.push(request);
  return true;
}

void Volume::Impl::hold() noexcept {
  const std::lock_guard lock(mutex_);
  if (holds_++ == 0) quiet_ = false;
  gate_shut_.store(true);
}

bool Volume::Impl::nothing_issued() const noexcept {
  // With the gate shut, a counter rises only for the moment in which its writer looks at the gate.
  for (const Shard& shard : in_flight_) {
    if (shard.issued.load() != 0) return false;
  }
  return true;
}

bool Volume::Impl::drain(Duration limit) noexcept {
  std::unique_lock lock(mutex_);
  UMBRA_ASSERT(holds_ > 0);
  // Kept, for a later look would count those who are just finding the gate shut.
  quiet_ = quiet_ || drained_.wait_for(lock, limit, [this] { return nothing_issued(); });
  return quiet_;
}

bool Volume::Impl::quiesce(Duration limit) noexcept {
  std::unique_lock lock(mutex_);
  UMBRA_ASSERT(holds_ > 0 && quiet_);
  // Nobody claims a copy behind a shut gate. What was claimed before and has not begun counts, and
  // so do jobs that were posted.
  return idle_.wait_for(lock, limit, [this] {
    return busy_ == 0 && claimed_.head == nullptr && !growing_ && !settling_ && !noting_ &&
           !noting_mount_;
  });
}

void Volume::Impl::release() noexcept {
  RequestQueue waiting;
  {
    const std::lock_guard lock(mutex_);
    UMBRA_ASSERT(holds_ > 0);
    if (--holds_ > 0) return;
    gate_shut_.store(false);
    waiting.append(parked_);
    // What waited for the end of the hold.
    post_events();
    if (std::exchange(space_.punch_waits, false)) post_reclaim();
    post_overlay();
    post_revert();
  }
  resume(waiting);
}

void Volume::Impl::resume(RequestQueue& waiters) noexcept {
  if (block::Request* chain = waiters.take()) submit_live(*chain);
}

void Volume::Impl::fail_chain(block::Request* chain, int error) noexcept {
  while (chain != nullptr) {
    block::Request* const next = std::exchange(chain->next, nullptr);
    block::finish(*chain, error);
    chain = next;
  }
}

}  // namespace umbra::cow
