// SPDX-License-Identifier: Apache-2.0
//
// Copies that are none: a chunk's old content is kept by letting the diff area share its blocks
// with the origin (block::Op::share). Opt-in.
//
//   share -> (flush) -> write index -> (flush) -> publish -> resume
//
// The order is stricter than that of preserve.cc, since such a record has no checksums that would
// tell, after a crash, whether its data arrived: the index is written only after the sharing has
// completed, and after it is durable where a persistent snapshot could need it. A record that is
// found has its data.
//
// Space. A write to a block that is shared takes a new one, although the origin had its space all
// along. So as much as is shared lies ready in the diff area, promised and not used for records
// (segments.h); without that, chunks are copied. If a live write meets ENOSPC all the same, it
// waits for the executor, which gives back, one step at a time, until the write succeeds: what is
// shared in free segments, what is promised, then the oldest snapshot, at last the newest, which
// is lost. Then nothing is shared any more, and the origin is as if it had never been. A write to
// what the origin itself never had space for (a hole) fails, as it would without snapshots.
//
// How much is shared is known as a bound: all of it when it is made, less when a look at the device
// says so, zero when it was given back.
#include <algorithm>
#include <array>
#include <cerrno>

#include "provider/cow/core.h"
#include "provider/cow/revert.h"

namespace umbra::cow {
namespace {

[[nodiscard]] bool is_refusal(int error) noexcept {
  return error == EXDEV || error == EOPNOTSUPP || error == EINVAL || error == ENOTTY ||
         error == EPERM || error == ENOSYS;
}

}  // namespace

Status check_sharing(block::Device& origin, block::Device& diff, std::uint32_t chunk_bytes) {
  const auto unit = diff.share_unit(origin);
  if (!unit) return fail(unit.error());
  const format::Layout layout = format::Layout::of(chunk_bytes, diff.geometry().block_bytes);
  // Where every slot of every segment begins.
  const bool fits = *unit != 0 && chunk_bytes % *unit == 0 &&
                    layout.slot_offset(0, 0) % *unit == 0 && layout.segment_bytes % *unit == 0;
  if (fits) return {};
  return fail(Errc::not_supported, "the file system shares blocks of " + std::to_string(*unit) +
                                       " bytes only, which the diff area's chunks of " +
                                       std::to_string(chunk_bytes) +
                                       " do not fit; attach with --preserve copy");
}

void Volume::Impl::find_shared() {
  format::Settings& settings = superblock_.settings;
  if (!settings.reflink && !options_.reflink) return;
  for (std::uint64_t i = 0; settings.reflink && i < segments_.count(); ++i) {
    const auto segment = static_cast<std::uint32_t>(i);
    const std::uint64_t at = layout_.slot_offset(segment, 0);
    segments_.restore_shared(segment,
                             diff_.shared_bytes(at, layout_.segment_offset(segment + 1) - at));
  }
  was_shared_.store(segments_.shared_bytes() > 0);
  bool can = options_.reflink;
  if (can) {
    if (const Status checked = check_sharing(origin_, diff_, layout_.chunk_bytes); !checked) {
      can = false;
      log_.warning("old data is copied: it cannot be shared with the origin",
                   {{"volume", id().to_string()}, {"error", checked.error().to_string()}});
    }
  }
  sharing_.store(can);
  settings.reflink = can || segments_.shared_bytes() > 0;
}

// --- preserving ------------------------------------------------------------------------------

bool Volume::Impl::begin_sharing(Batch& batch) noexcept {
  if (!sharing_.load()) return false;
  const std::uint64_t last = batch.chunks[batch.place.count - 1];
  // A part of a chunk, and zeroes behind it, is nothing to share.
  if ((last + 1) * layout_.chunk_bytes > origin_geometry_.size_bytes) return false;
  if (!segments_.may_share(batch.place.count)) return false;
  segments_.place_data(batch.place, batch.place.count);
  segments_.begin_share(batch.place);
  was_shared_.store(true);
  note_space();  // What is promised is not ready for records any more.
  return true;
}

void Volume::Impl::start_shares(Batch& batch) noexcept {
  RequestQueue queue;
  std::uint32_t runs = 0;
  const std::uint32_t count = batch.place.count;
  for (std::uint32_t i = 0; i < count;) {
    const std::uint32_t end = end_of_run({batch.chunks.data(), count}, i);
    block::Request& share = batch.reads[runs++];
    share = {};
    share.op = block::Op::share;
    share.source = &origin_;
    share.source_offset_bytes = batch.chunks[i] * layout_.chunk_bytes;
    share.offset_bytes = layout_.slot_offset(batch.place.segment, batch.place.first_slot + i);
    share.size_bytes = std::uint64_t{end - i} * layout_.chunk_bytes;
    share.owner = &batch;
    share.complete = [](block::Request& done) noexcept {
      auto& owner = *static_cast<Batch*>(done.owner);
      if (done.error != 0) owner.error.store(done.error);
      if (owner.outstanding.fetch_sub(1) == 1) owner.impl->shares_done(owner);
    };
    queue.push(share);
    i = end;
  }
  batch.outstanding.store(runs);
  diff_.submit(*queue.take());
}

void Volume::Impl::shares_done(Batch& batch) noexcept {
  {
    const std::lock_guard lock(mutex_);
    segments_.end_share(batch.place.segment);
  }
  if (const int error = batch.error.exchange(0); error != 0) {
    if (is_refusal(error)) stop_sharing(error);
    batch.sharing = false;  // Copied, to the slots that it has.
    start_reads(batch);
    return;
  }
  const std::uint32_t count = batch.place.count;
  std::fill_n(batch.flags.begin(), count, format::kEntryUnchecked);
  std::fill_n(batch.checksums.begin(), std::size_t{count} * layout_.checksums_per_chunk, 0);
  chunks_shared_.fetch_add(count, std::memory_order_relaxed);
  if (batch.durable) {
    flush_then(batch, &Impl::write_shared);
  } else {
    write_shared(batch);
  }
}

void Volume::Impl::write_shared(Batch& batch) noexcept { write_batch(batch, 0); }

void Volume::Impl::stop_sharing(int error) noexcept {
  if (!sharing_.exchange(false)) return;
  log_.warning("old data is copied from now on: it could not be shared with the origin",
               {{"volume", id().to_string()}, {"errno", error}});
}

// --- space -----------------------------------------------------------------------------------

// Zeroing, not a discard: that may do nothing.
int Volume::Impl::punch(std::uint32_t segment) noexcept {
  block::Request zeroes;
  zeroes.op = block::Op::write_zeroes;
  zeroes.offset_bytes = layout_.slot_offset(segment, 0);
  zeroes.size_bytes = layout_.segment_offset(segment + 1) - zeroes.offset_bytes;
  return block::run(diff_, zeroes);
}

bool Volume::Impl::unshare_one(bool in_hold) {
  std::optional<std::uint32_t> freed;
  std::optional<std::uint32_t> ended;
  {
    const std::lock_guard lock(mutex_);
    if (space_.stopping || closed_.load() || unsharing_failed_) return false;
    if (!segments_.has_dead_shared()) return false;
    if (!in_hold && holds_ > 0) {
      space_.punch_waits = true;
      return false;
    }
    freed = segments_.take_freed_shared();
    if (!freed) ended = segments_.take_ended_shared();
  }
  if (!freed && !ended) return false;
  const int error = punch(freed ? *freed : *ended);
  Batch* list = nullptr;
  {
    const std::lock_guard lock(mutex_);
    if (ended) {
      segments_.end_punch(*ended, error == 0);
    } else if (error == 0) {
      segments_.put_bare(*freed);
    } else {
      segments_.put_shared(*freed);
    }
    unsharing_failed_ = unsharing_failed_ || error != 0;
    note_space();
    list = form_batches();
  }
  start(list);
  return error == 0;
}

bool Volume::Impl::post_look() noexcept {
  if (looking_) return true;
  if (looked_ || segments_.shared_bytes() == 0) return false;
  looking_ = true;
  post(&Impl::look_at_shared);
  return true;
}

void Volume::Impl::look_at_all_shared() {
  std::uint64_t count = 0;
  {
    const std::lock_guard lock(mutex_);
    count = segments_.count();
  }
  for (std::uint64_t i = 0; i < count; ++i) look_at_shared(static_cast<std::uint32_t>(i));
}

void Volume::Impl::look_at_shared() {
  look_at_all_shared();
  Batch* list = nullptr;
  {
    const std::lock_guard lock(mutex_);
    looking_ = false;
    looked_ = true;
    list = form_batches();
  }
  start(list);
}

void Volume::Impl::look_at_shared(std::uint32_t segment) {
  std::optional<Segments::Look> look;
  {
    const std::lock_guard lock(mutex_);
    if (segment < segments_.count()) look = segments_.begin_look(segment);
  }
  if (!look) return;
  const std::uint64_t at = layout_.slot_offset(segment, 0);
  const std::uint64_t bytes = diff_.shared_bytes(at, layout_.segment_offset(segment + 1) - at);
  const std::lock_guard lock(mutex_);
  segments_.end_look(*look, bytes);
}

void Volume::Impl::settle_shared() {
  if (!was_shared_.load()) return;
  look_at_all_shared();
  while (unshare_one(true)) {
  }
}

// --- the origin meets ENOSPC -----------------------------------------------------------------

bool Volume::Impl::waits_for_relief(block::Request& request) noexcept {
  const std::lock_guard lock(mutex_);
  if (closed_.load() || space_.stopping) return false;
  unrelieved_.push(request);
  if (!relieving_) {
    relieving_ = true;
    post(&Impl::relieve_origin);
  }
  return true;
}

void Volume::Impl::relieve_origin() {
  RequestQueue waiting;
  {
    const std::lock_guard lock(mutex_);
    waiting.append(unrelieved_);
  }
  bool ours = false;
  RequestQueue again;
  RequestQueue refused;
  while (block::Request* request = waiting.pop()) {
    std::array<block::Extent, 16> extents;
    const std::size_t known = origin_.extents(request->offset_bytes, request->size_bytes, extents);
    const bool hole = std::any_of(extents.begin(), extents.begin() + known,
                                  [](const block::Extent& each) { return each.hole; });
    const bool shared = origin_.shared_bytes(request->offset_bytes, request->size_bytes) > 0;
    ours = ours || shared;
    // What is neither had space of its own since the write failed.
    (hole && !shared ? refused : again).push(*request);
  }
  Relief relief = Relief::given;
  if (ours && !give_back_promised()) relief = give_up_oldest();
  if (relief == Relief::none) refused.append(again);
  {
    const std::lock_guard lock(mutex_);
    if (relief == Relief::later) unrelieved_.append(again);
    relieving_ = relief == Relief::later || !unrelieved_.empty();
    if (relief == Relief::later) {
      executor_->post_after(kTickInterval, [weak = weak_from_this()] {
        if (const auto self = weak.lock()) self->post(&Impl::relieve_origin);
      });
    } else if (relieving_) {
      post(&Impl::relieve_origin);
    }
  }
  for (block::Request* request = refused.take(); request != nullptr;) {
    block::Request* const next = std::exchange(request->next, nullptr);
    block::finish(*request, ENOSPC);
    request = next;
  }
  resume(again);
}

bool Volume::Impl::give_back_promised() {
  if (unshare_one(true)) return true;
  std::uint32_t segment = 0;
  {
    const std::lock_guard lock(mutex_);
    if (segments_.shared_bytes() == 0) return false;
    const auto taken = segments_.take_to_punch(true);
    if (!taken) return false;
    segment = *taken;
    space_.growth.failed(clock_.now());  // Not at once taken again.
  }
  const int error = punch(segment);
  const std::lock_guard lock(mutex_);
  if (error == 0) {
    segments_.put_bare(segment);
  } else {
    segments_.put_ready(segment);
  }
  return error == 0;
}

Volume::Impl::Relief Volume::Impl::give_up_oldest() {
  std::shared_ptr<Snapshot> victim;
  bool newest = false;
  bool protects = false;
  std::uint64_t shared = 0;
  {
    const std::lock_guard lock(mutex_);
    shared = segments_.shared_bytes();
    if (shared == 0) return Relief::none;
    for (auto it = living_.begin(); it != living_.end() && victim == nullptr; ++it) {
      const auto& snapshot = snapshots_.at(*it);
      if (is_retained(snapshot->slot)) continue;
      if (revert_ != nullptr && revert_->target == snapshot) continue;
      victim = snapshot;
      newest = std::next(it) == living_.end();
    }
    protects = !living_.empty() && (victim == nullptr || protects_.load());
  }
  if (protects) {
    raise_fault(Fault::diff_area_full);  // Who waits gets EIO.
    return Relief::given;
  }
  if (victim != nullptr) {
    const SnapshotId snapshot = slot_of(*victim).id;
    const Status gone =
        newest ? mark_lost({victim}) : remove(snapshot, true, {Removal::evicted, "umbra-cowd"});
    if (!gone && gone.error().code != Errc::object_not_found) return Relief::later;
    log_.error("the host has no space for the blocks that the origin shares with a snapshot",
               {{"volume", id().to_string()},
                {"snapshot", snapshot.to_string()},
                {"outcome", newest ? "lost" : "deleted"}});
    const std::lock_guard lock(mutex_);
    if (newest) {
      note_unpruned(victim->epoch);
      tell_of(EventKind::snapshot_lost, *victim, {}, "the host of the diff area is full");
    } else {
      snapshots_evicted_.fetch_add(1);
    }
  }
  prune_all();
  {
    const std::lock_guard lock(mutex_);
    segments_.close_if_unused();
  }
  while (unshare_one(true)) {
  }
  const std::lock_guard lock(mutex_);
  return victim != nullptr || segments_.shared_bytes() < shared ? Relief::given : Relief::none;
}

}  // namespace umbra::cow
