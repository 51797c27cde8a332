// SPDX-License-Identifier: Apache-2.0
//
// The recovery window: between begin_recovery() and end_recovery() a snapshot takes writes, which
// belong to it alone. They go to overlay records in the diff area and never to the origin, so the
// live volume and older snapshots, which look for ordinary records only, cannot see them.
//
// One window at a time, of the newest snapshot; nothing is prepared meanwhile. So every overlay
// record has the volume's current epoch, and groups stay in the order of their epochs.
//
// Writes are served one after the other where the volume's rare work runs: read the chunk as the
// snapshot shows it, change it, write it to a new place, drop the old one. A crash in the window
// ends the snapshot (its slot says that the window is open), so nothing has to be durable before
// end_recovery(), which flushes before it closes the window durably.
#include <cerrno>
#include <cstring>

#include "engine/platform/assert.h"
#include "provider/cow/core.h"

namespace umbra::cow {
namespace {

// What is still queued when the window is closed has been accepted and is served first.
constexpr Duration kLastWritesLimit = std::chrono::seconds(60);

}  // namespace

Status Volume::Impl::begin_recovery(const SnapshotId& id) {
  const std::lock_guard table(table_mutex_);
  const auto found = committed(id);
  if (!found) return fail(found.error());
  const std::shared_ptr<Snapshot>& snapshot = *found;
  format::SnapshotSlot slot = slot_of(*snapshot);
  if (slot.lost) return fail(Errc::snapshot_lost, "snapshot " + id.to_string());
  {
    const std::lock_guard lock(mutex_);
    if (recovering_ == snapshot && window_open_) return {};
    const bool newest = slot.state == format::SlotState::committed && !recovering_ && !prepared_ &&
                        snapshot->epoch == epoch_;
    if (!newest) {
      return fail(Errc::bad_state,
                  "only the newest snapshot takes writes, between post_commit and confirm");
    }
  }
  slot.recovering = true;
  if (Status written = write_slot(slot); !written) return written;
  const std::lock_guard lock(mutex_);
  snapshot->slot.recovering = true;
  if (snapshot->overlay() == nullptr) snapshot->give_overlay(std::make_unique<Overlay>());
  recovering_ = snapshot;
  window_open_ = true;
  window_failed_ = false;
  return {};
}

Status Volume::Impl::end_recovery(const SnapshotId& id) {
  {
    std::unique_lock lock(mutex_);
    const auto snapshot = find_snapshot(id);
    if (!snapshot) return fail(Errc::object_not_found, "snapshot " + id.to_string());
    if (recovering_ != snapshot) return {};
    window_open_ = false;
    const auto nobody_serves = [this] { return !overlay_serving_; };
    if (!idle_.wait_for(lock, kLastWritesLimit, nobody_serves)) {
      return fail(Errc::io_error, "the last writes to the snapshot do not come to an end");
    }
  }
  serve_overlay();
  const std::lock_guard table(table_mutex_);
  const auto snapshot = committed(id);
  if (!snapshot) return fail(snapshot.error());
  format::SnapshotSlot slot = slot_of(**snapshot);
  {
    const std::lock_guard lock(mutex_);
    if (!overlay_queue_.empty()) return fail(Errc::bad_state, "writes are held");
    if (window_failed_) {
      return fail(Errc::autorecovery_failed,
                  "what was written to snapshot " + id.to_string() + " could not be kept");
    }
  }
  if (slot.lost) return fail(Errc::snapshot_lost, "snapshot " + id.to_string());
  if (slot.persistent) {
    if (Status flushed = flush_diff(); !flushed) return flushed;
  }
  slot.recovering = false;
  if (Status written = write_slot(slot); !written) return written;
  const std::lock_guard lock(mutex_);
  (*snapshot)->slot.recovering = false;
  if (recovering_ == *snapshot) recovering_.reset();
  return {};
}

void Volume::Impl::submit_overlay(block::Request& request,
                                  const std::shared_ptr<Snapshot>& snapshot) noexcept {
  int error = EROFS;  // The window is over, and for ever.
  {
    const std::lock_guard lock(mutex_);
    if (closed_.load()) {
      error = EIO;
    } else if (recovering_ == snapshot && window_open_) {
      overlay_queue_.push(request);
      post_overlay();
      return;
    }
  }
  block::finish(request, error);
}

void Volume::Impl::post_overlay() noexcept {
  if (overlay_posted_ || holds_ > 0 || overlay_queue_.empty()) return;  // release() comes back.
  overlay_posted_ = true;
  post(&Impl::serve_posted_overlay);
}

void Volume::Impl::serve_posted_overlay() {
  {
    const std::lock_guard lock(mutex_);
    overlay_posted_ = false;
  }
  serve_overlay();
}

// Where the gate is shut, nothing is written: whoever has waited for quiet has frozen what the diff
// area lies on.
void Volume::Impl::serve_overlay() {
  for (;;) {
    block::Request* request = nullptr;
    std::shared_ptr<Snapshot> snapshot;
    {
      std::unique_lock lock(mutex_);
      if (overlay_serving_) return;  // Whoever serves takes this one as well.
      if (holds_ == 0) request = overlay_queue_.pop();
      if (request == nullptr) return;
      overlay_serving_ = true;
      ++busy_;
      snapshot = recovering_;
    }
    const int error = snapshot != nullptr ? write_to_overlay(*request, snapshot) : EIO;
    {
      const std::lock_guard lock(mutex_);
      overlay_serving_ = false;
      if (error == EIO) window_failed_ = true;
      if (--busy_ == 0) idle_.notify_all();
      idle_.notify_all();
    }
    block::finish(*request, error);
  }
}

int Volume::Impl::write_to_overlay(const block::Request& request,
                                   const std::shared_ptr<Snapshot>& snapshot) {
  const std::uint64_t chunk_bytes = layout_.chunk_bytes;
  const std::uint64_t end = request.offset_bytes + request.size_bytes;
  const AlignedBuffer data = make_aligned(std::size_t{batch_chunks_} * chunk_bytes);
  for (std::uint64_t first = chunk_of(request.offset_bytes); first * chunk_bytes < end;) {
    const std::uint64_t left = chunk_of(end - 1) - first + 1;
    const std::uint64_t count = std::min<std::uint64_t>(left, batch_chunks_);
    const std::uint64_t begin_bytes = first * chunk_bytes;
    const std::uint64_t shown =
        std::min(count * chunk_bytes, origin_geometry_.size_bytes - begin_bytes);
    const std::uint64_t from = std::max(begin_bytes, request.offset_bytes);
    const std::uint64_t until = std::min(begin_bytes + shown, end);
    std::memset(data.get() + shown, 0, count * chunk_bytes - shown);
    if (from != begin_bytes || until != begin_bytes + shown) {
      if (read_snapshot(snapshot, begin_bytes, {data.get(), shown}) != 0) return EIO;
    }
    if (request.op == block::Op::write) {
      std::memcpy(data.get() + (from - begin_bytes), request.buffer + (from - request.offset_bytes),
                  until - from);
    } else {
      std::memset(data.get() + (from - begin_bytes), 0, until - from);
    }
    const auto written = append_to_overlay(*snapshot, first, count, data.get());
    if (!written) return written.error().code == Errc::insufficient_storage ? ENOSPC : EIO;
    first += *written;
  }
  return 0;
}

Result<std::uint64_t> Volume::Impl::append_to_overlay(Snapshot& snapshot, std::uint64_t first,
                                                      std::uint64_t count, std::byte* data) {
  std::array<std::uint64_t, kBatchChunksMax> chunks{};
  std::array<Home, kBatchChunksMax> homes{};
  for (std::uint64_t i = 0; i < count; ++i) chunks[i] = first + i;
  OwnGroup group;
  group.kind = format::GroupKind::overlay;
  group.epoch = snapshot.epoch;
  group.durable = snapshot.slot.persistent;  // Constant.
  group.chunks = {chunks.data(), count};
  group.data = data;
  const auto written = write_own_group(group, {homes.data(), count});
  if (!written) return fail(written.error());
  const std::lock_guard lock(mutex_);
  const bool gone = snapshot.readable.load() == Snapshot::Readable::removed;
  for (std::uint32_t i = 0; i < *written; ++i) {
    // Of one that was removed meanwhile, nobody will drop what comes now.
    const std::optional<Home> old = gone ? homes[i] : snapshot.overlay()->set(chunks[i], homes[i]);
    if (old) (void)segments_.drop(old->segment);
  }
  return *written;
}

void Volume::Impl::drop_overlay(Snapshot& snapshot, RequestQueue& unserved) noexcept {
  if (recovering_.get() == &snapshot) {
    window_open_ = false;
    recovering_.reset();
    unserved.append(overlay_queue_);
  }
  if (const Overlay* overlay = snapshot.overlay()) {
    overlay->for_each([this](std::uint64_t, Home home) { (void)segments_.drop(home.segment); });
    note_space();
  }
}

}  // namespace umbra::cow
