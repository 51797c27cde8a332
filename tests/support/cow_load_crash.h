// SPDX-License-Identifier: Apache-2.0
//
// Of CowLoad (cow_load.h, which includes this): what has to be there after a crash, a reopening, or
// at rest.
#pragma once

#include "tests/support/cow_load.h"

namespace umbra::test {

inline bool CowLoad::must_be_there(const SnapshotId& id, const Known& snapshot,
                                   bool auto_release_too) const {
  return snapshot.created && (auto_release_too || snapshot.persistent) && !in_doubt_.contains(id) &&
         !doomed_.contains(id);
}

inline void CowLoad::check_live_after_crash(bool nothing_completed_is_lost) {
  Image seen;
  REQUIRE(world_.read(world_.volume->live(), seen) == 0);
  settle_revert_in_doubt();
  for (std::uint64_t sector = 0; sector < floor_.size(); ++sector) {
    std::uint64_t words[2] = {};
    std::memcpy(words, seen.data() + sector * kSector, sizeof words);
    // A window may have written to a part of a chunk that was free; the rest of it is zeroes.
    if (options_.free_blocks && words[0] == 0 && words[1] == 0) words[0] = sector * kSector;
    const std::uint64_t least = nothing_completed_is_lost ? last_[sector] : floor_[sector];
    if (words[0] != sector * kSector || words[1] < least || !history_[sector].contains(words[1])) {
      FAIL("live sector " << sector << " shows offset " << words[0] << " sequence " << words[1]
                          << ", at least " << least);
    }
    last_[sector] = floor_[sector] = words[1];
    history_[sector] = {words[1]};  // Nothing else comes back.
  }
  world_.twin = seen;
}

inline void CowLoad::check_snapshots_after_crash(bool auto_release_too) {
  std::set<SnapshotId> present;
  for (const cow::SnapshotRecord& record : world_.volume->list()) {
    REQUIRE(known.contains(record.id));
    INFO("snapshot " << record.id.to_string() << " epoch " << record.epoch << " persistent "
                     << record.persistent);
    present.insert(record.id);
    if (record.lost) {
      REQUIRE(syncs_fail_);
      continue;
    }
    const Known& snapshot = known.at(record.id);
    if (must_be_there(record.id, snapshot, auto_release_too)) {
      REQUIRE(record.stage == cow::Stage::created);
      if (!snapshot.members.empty()) REQUIRE(record.members == snapshot.members);
    }
    Image seen;
    REQUIRE(world_.read_snapshot(record.id, seen) == 0);
    adopt_free(known.at(record.id), seen);
    CowWorld::check_same(seen, *known.at(record.id).image, "snapshot");
  }
  // Where space is taken away, the oldest may have gone, one after the other.
  const bool may_go = options_.segments_least != 0;
  std::uint64_t oldest_left = ~std::uint64_t{0};
  for (const auto& [id, snapshot] : known) {
    if (present.contains(id) && must_be_there(id, snapshot, auto_release_too)) {
      oldest_left = std::min(oldest_left, snapshot.order);
    }
  }
  for (auto it = known.begin(); it != known.end();) {
    INFO("snapshot " << it->first.to_string());
    if (must_be_there(it->first, it->second, auto_release_too) && !present.contains(it->first)) {
      REQUIRE(may_go);
      REQUIRE(it->second.order < oldest_left);
    }
    it = present.contains(it->first) ? std::next(it) : known.erase(it);
  }
  in_doubt_.clear();
  syncs_fail_ = false;
  const SimMachine::Inline waits(world_.machine);
  for (auto it = known.begin(); it != known.end();) {
    REQUIRE(world_.volume->confirm(it->first));
    it->second.created = true;
    const bool lost = is_lost(it->first);
    if (lost) REQUIRE(world_.volume->remove(it->first, true));
    it = lost ? known.erase(it) : std::next(it);
  }
}

inline void CowLoad::check_all() {
  Image seen;
  REQUIRE(world_.read(world_.volume->live(), seen) == 0);
  CowWorld::check_same(seen, world_.twin, "live");
  forget_evicted();
  for (const auto& [id, snapshot] : known) {
    const int error = world_.read_snapshot(id, seen);
    if (error != 0) {
      REQUIRE(is_lost(id));
    } else {
      CowWorld::check_same(seen, *snapshot.image, "snapshot");
    }
  }
}

inline bool CowLoad::is_lost(const SnapshotId& id) const {
  for (const auto& record : world_.volume->list()) {
    if (record.id == id) return record.lost;
  }
  return false;
}

inline void CowLoad::forget_evicted() {
  std::set<SnapshotId> present;
  for (const auto& record : world_.volume->list()) present.insert(record.id);
  std::uint64_t gone = 0;
  std::erase_if(known, [&](const auto& entry) {
    const bool being_made =
        (stage_ == Stage::committed || stage_ == Stage::window) && entry.first == making_;
    if (being_made || present.contains(entry.first)) return false;
    if (!doomed_.contains(entry.first) && !in_doubt_.contains(entry.first)) ++gone;
    return true;
  });
  evicted_since_open_ += gone;
  evictions_seen += gone;
  REQUIRE(
      (gone_by_maximum_ || evicted_since_open_ <= world_.volume->statistics().snapshots_evicted));
}

inline void CowLoad::reopened() {
  std::set<SnapshotId> present;
  const SimMachine::Inline waits(world_.machine);
  for (const auto& record : world_.volume->list()) {
    present.insert(record.id);
    REQUIRE(known.contains(record.id));
    REQUIRE(record.retain_until_filetime == known.at(record.id).locked_until);
    REQUIRE(world_.volume->confirm(record.id));
    known.at(record.id).created = true;
  }
  std::erase_if(known, [&](const auto& entry) {
    if (present.contains(entry.first)) return false;
    INFO("snapshot " << entry.first.to_string());
    REQUIRE((!entry.second.created || doomed_.contains(entry.first)));
    return true;
  });
}

}  // namespace umbra::test
