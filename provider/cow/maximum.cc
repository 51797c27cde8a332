// SPDX-License-Identifier: Apache-2.0
//
// A new maximum for the diff area of an open volume. It is written first, so that nothing grows
// beyond it meanwhile; then the oldest snapshots are deleted, one at a time and durably, until what
// is in use fits. Cut anywhere, the former or the new maximum counts and some of the oldest are
// gone, or none; the call can be repeated. The file does not become shorter: what is free in it is
// used again.

#include <string>

#include "provider/cow/core.h"

namespace umbra::cow {

Result<MaximumChange> Volume::Impl::set_diff_maximum(std::uint64_t bytes) {
  if (bytes != 0 && bytes < diff_bytes_min(layout_.chunk_bytes)) {
    return fail(Errc::insufficient_storage,
                "a diff area needs a maximum of at least " +
                    std::to_string(diff_bytes_min(layout_.chunk_bytes)) + " bytes");
  }
  const Association kept{bytes, kept_association().is_explicit};
  if (Status written = keep_association(kept); !written) return fail(written.error());
  diff_maximum_.store(bytes);
  MaximumChange change;
  const auto oldest_too_much = [&]() -> std::shared_ptr<Snapshot> {
    const std::lock_guard lock(mutex_);
    if (bytes == 0 || segments_.used_count() <= layout_.segments_in(bytes)) return nullptr;
    return living_.empty() ? nullptr : snapshots_.at(*living_.begin());
  };
  for (prune_all(); const auto oldest = oldest_too_much(); prune_all()) {
    const SnapshotId snapshot = slot_of(*oldest).id;
    const Status removed = remove(snapshot, true, {Removal::shrunk, {}});
    if (removed) {
      change.deleted.push_back(snapshot);
    } else if (removed.error().code != Errc::object_not_found) {
      return fail(removed.error(), "the maximum is lower now, but more than that is in use");
    }
  }
  Batch* list = nullptr;
  {
    const std::lock_guard lock(mutex_);
    space_.growth.reset();  // It may have been the former maximum that failed it.
    note_space();
    change.diff_bytes = diff_.geometry().size_bytes;
    change.used_bytes = used_bytes();
    list = form_batches();
  }
  start(list);
  return change;
}

}  // namespace umbra::cow
