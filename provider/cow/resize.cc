// SPDX-License-Identifier: Apache-2.0
//
// The largest size of a diff area is changed.
//
// It bounds the segments whose space is allocated. A larger maximum is written and works at once. A
// smaller one is written first, so that nothing grows meanwhile; then the oldest snapshots are
// deleted, one at a time and durably, until what is in use fits; then the end of the file that
// nobody needs is cut off, and free segments before it that are too many are given back to the
// host. Records are not moved: one that is needed near the end keeps the file long, with a hole
// before it.
//
// Cut at any point, the new maximum counts or the old one, and some of the oldest snapshots are
// gone or none; the call can be repeated. While a snapshot that is locked would have to go, nothing
// is changed.
#include <algorithm>

#include "engine/platform/assert.h"
#include "provider/cow/core.h"

namespace umbra::cow {

Result<MaximumChange> Volume::Impl::set_diff_maximum(std::uint64_t bytes, const std::string& who) {
  MaximumChange change;
  {
    const std::lock_guard table(table_mutex_);
    if (closed_.load()) return fail(Errc::bad_state, "the volume is closed");
    if (Status good = check_maximum(bytes); !good) return fail(good.error());
    const std::uint64_t before = superblock_.diff_bytes_max;
    superblock_.diff_bytes_max = bytes;
    if (Status written = write_superblock(false); !written) {
      superblock_.diff_bytes_max = before;
      return fail(written.error());
    }
    kept_maximum_ = bytes;
    const std::lock_guard lock(mutex_);
    diff_maximum_.store(bytes);
    space_.growth.reset();
    note_space();
  }
  prune_all();
  settle_shared();
  while (const auto oldest = too_much_for(bytes)) {
    const SnapshotId snapshot = slot_of(*oldest).id;
    const Status removed = remove(snapshot, true, {Removal::shrunk, who});
    if (removed) {
      change.deleted.push_back(snapshot);
    } else if (removed.error().code != Errc::object_not_found) {
      return fail(removed.error(), "the maximum is lower now, but more than that is in use");
    }
    prune_all();
    settle_shared();
  }
  if (bytes != 0) shrink_to_fit();
  Batch* list = nullptr;
  {
    const std::lock_guard lock(mutex_);
    change.diff_bytes = diff_.geometry().size_bytes;
    change.used_bytes = used_bytes();
    list = form_batches();
  }
  start(list);
  return change;
}

Status Volume::Impl::check_maximum(std::uint64_t bytes) {
  if (bytes == 0) return {};
  const std::uint64_t least = diff_bytes_min(layout_.chunk_bytes);
  if (bytes < least) {
    return fail(Errc::insufficient_storage,
                "a diff area needs a maximum of at least " + std::to_string(least) + " bytes");
  }
  const std::lock_guard lock(mutex_);
  return used_bytes() > bytes ? refuse_if_retained() : Status{};
}

std::shared_ptr<Snapshot> Volume::Impl::too_much_for(std::uint64_t bytes) const {
  const std::lock_guard lock(mutex_);
  if (bytes == 0 || used_bytes() <= bytes || living_.empty()) return nullptr;
  return snapshots_.at(*living_.begin());
}

void Volume::Impl::shrink_to_fit() {
  const std::lock_guard grow(grow_mutex_);
  std::uint64_t size = 0;
  {
    const std::lock_guard lock(mutex_);
    const std::uint64_t allowed = layout_.segments_in(diff_maximum_.load());
    if (!space_.fixed_size) size = layout_.segment_offset(segments_.cut_free_end(allowed));
    if (size >= diff_.geometry().size_bytes) size = 0;
  }
  if (size != 0) {
    // What was cut off is free and named by nothing: whichever size a crash leaves is right.
    const Status shrunk = diff_.resize(size);
    if (!shrunk && shrunk.error().code != Errc::not_supported) {
      log_.warning("the diff area's file cannot be made smaller",
                   {{"volume", id().to_string()}, {"error", shrunk.error().to_string()}});
    }
    const std::uint64_t count = layout_.segments_in(diff_.geometry().size_bytes);
    const std::lock_guard lock(mutex_);
    segments_.forget_shown_from(count);
    segments_.grow_to(count);
  }
  const std::lock_guard lock(mutex_);
  post_reclaim();  // Punches what is still too much.
}

bool Volume::Impl::over_maximum() const noexcept {
  const std::uint64_t maximum = diff_maximum_.load();
  if (maximum == 0) return false;
  return segments_.count() - segments_.bare_count() > layout_.segments_in(maximum);
}

}  // namespace umbra::cow
