// SPDX-License-Identifier: Apache-2.0
//
// Of CowLoad (cow_load.h, which includes this): making snapshots, step by step, and removing them.
#pragma once

#include "provider/format/diff_area.h"
#include "tests/support/cow_load.h"

namespace umbra::test {

inline void CowLoad::advance_snapshot() {
  const SimMachine::Inline waits(world_.machine);
  cow::Volume& volume = *world_.volume;
  switch (stage_) {
    case Stage::none: {
      if (known.size() >= options_.snapshots_max) return;
      cow::PrepareRequest request;
      request.id = making_ = world_.next_id();
      making_persistent_ = request.persistent = prng_.chance(1, 2);
      if (volume.prepare(request)) stage_ = Stage::prepared;
      count(CowAction::snapshot);
      break;
    }
    case Stage::prepared:
      volume.hold();
      stage_ = Stage::held;
      break;
    case Stage::held:
      if (!volume.drain(Duration::zero())) return;
      volume.commit(making_, 1);
      known[making_] = {
          std::make_shared<const Image>(world_.twin), making_persistent_, false, {}, ++orders_, 0};
      volume.release();
      stage_ = Stage::committed;
      break;
    case Stage::committed: post_commit_snapshot(); break;
    case Stage::window:
      if (close_window()) confirm_snapshot();
      break;
  }
}

// Large sets too: a slot that names many members is more than one sector, and can be torn.
inline void CowLoad::post_commit_snapshot() {
  std::vector<SnapshotId>& members = known.at(making_).members;
  members = {making_};
  if (prng_.chance(1, 3)) {
    for (auto more = prng_.below(format::kMembersMax); more > 0; --more)
      members.push_back(world_.next_id());
  }
  if (!world_.volume->post_commit(making_, members) || !exempt_some()) {
    abort_snapshot();
  } else if (weight(static_cast<std::size_t>(CowAction::window)) == 0 || !open_window()) {
    confirm_snapshot();
  }
}

inline void CowLoad::confirm_snapshot() {
  stage_ = Stage::none;
  if (world_.volume->confirm(making_)) {
    known.at(making_).created = true;
  } else {
    abort_snapshot();
  }
}

// As a provider would abort the set.
inline void CowLoad::abort_snapshot() {
  stage_ = Stage::none;
  if (!world_.machine.powered()) return;
  const bool is_there = world_.volume->find(making_).has_value();
  if (!is_there) {
    REQUIRE((world_.volume->statistics().snapshots_evicted > 0 || options_.segments_least != 0));
  } else {
    REQUIRE((is_lost(making_) || window_spoiled_ || syncs_fail_));
    const Status removed = world_.volume->remove(making_, true);
    REQUIRE((removed || syncs_fail_));
    if (!removed) {
      in_doubt_.insert(making_);
      return;
    }
  }
  known.erase(making_);
}

// False: the power went.
inline bool CowLoad::exempt_some() {
  if (!options_.free_blocks || !prng_.chance(3, 4)) return true;
  Known& snapshot = known.at(making_);
  for (auto ranges = 1 + prng_.below(4); ranges > 0; --ranges) {
    const std::uint64_t first = prng_.below(last_.size());
    const std::uint64_t count = 1 + prng_.below(last_.size() / 3);
    snapshot.free.push_back(
        {kSector * first, kSector * std::min<std::uint64_t>(count, last_.size() - first)});
  }
  const Status exempted = world_.volume->exempt_free(making_, snapshot.free);
  if (!world_.machine.powered()) return false;
  if (!exempted) {
    REQUIRE((exempted.error().code == Errc::insufficient_storage || is_lost(making_) ||
             world_.volume->statistics().snapshots_evicted > 0 || syncs_fail_));
    if (!syncs_fail_) snapshot.free.clear();  // Else it is in doubt.
    return true;
  }
  Image seen;
  if (world_.read_snapshot(making_, seen) == 0) {
    free_bytes += world_.volume->find(making_)->exempt_bytes;
    adopt_free(snapshot, seen);
  }
  return true;
}

// Each chunk that was told to be free shows zeroes from now on, or what it showed before.
inline void CowLoad::adopt_free(Known& snapshot, const Image& seen) {
  if (snapshot.free.empty()) return;
  std::vector<bool> free(last_.size());
  for (const cow::ChangedRange& range : std::exchange(snapshot.free, {})) {
    std::fill_n(free.begin() + static_cast<std::ptrdiff_t>(range.offset_bytes / kSector),
                range.size_bytes / kSector, true);
  }
  const std::uint64_t chunk_bytes = world_.options.chunk_bytes;
  auto image = std::make_shared<Image>(*snapshot.image);
  for (std::uint64_t at = 0; at < seen.size(); at += chunk_bytes) {
    const std::uint64_t end = std::min<std::uint64_t>(at + chunk_bytes, seen.size());
    const auto sectors = free.begin() + static_cast<std::ptrdiff_t>(at / kSector);
    const auto bytes = seen.begin() + static_cast<std::ptrdiff_t>(at);
    const auto stop = seen.begin() + static_cast<std::ptrdiff_t>(end);
    const auto is_free = [](bool is) { return is; };
    const auto is_zero = [](std::byte b) { return b == std::byte{0}; };
    if (std::all_of(sectors, free.begin() + static_cast<std::ptrdiff_t>(end / kSector), is_free) &&
        std::all_of(bytes, stop, is_zero)) {
      std::copy(bytes, stop, image->begin() + static_cast<std::ptrdiff_t>(at));
    }
  }
  snapshot.image = std::move(image);
}

inline void CowLoad::remove_one() {
  if (known.empty() || stage_ != Stage::none) return;
  auto it = known.begin();
  std::advance(it, static_cast<std::ptrdiff_t>(prng_.below(known.size())));
  const SnapshotId id = it->first;
  const bool locked = it->second.locked_until > world_.clock.wall_filetime();
  in_doubt_.insert(id);
  count(CowAction::remove);
  const SimMachine::Inline waits(world_.machine);
  const Status removed = world_.volume->remove(id, true);
  if (!removed && world_.machine.powered() && !syncs_fail_) {
    in_doubt_.erase(id);  // It is still there.
    const Errc why = removed.error().code;
    INFO(removed.error().to_string());
    REQUIRE((why == Errc::revert_in_progress || why == Errc::object_not_found ||
             (locked && why == Errc::access_denied)));
    if (why == Errc::object_not_found) forget_evicted();
  }
  if (!removed) return;
  REQUIRE_FALSE(locked);
  in_doubt_.erase(id);
  known.erase(id);
}

}  // namespace umbra::test
