// SPDX-License-Identifier: Apache-2.0
//
// Checkpoints beside a CowLoad, and the one question about them: is every chunk whose content
// differs between two points in time among the changed blocks? It knows a full image of each point.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "tests/support/cow_load.h"

namespace umbra::test {

/// Which chunks `changed_blocks` names, as one flag for each.
inline std::vector<bool> changed_chunks(cow::Volume& volume, const CowWorldOptions& options,
                                        const Guid& from, const std::optional<SnapshotId>& to) {
  const std::uint64_t chunk_bytes = options.chunk_bytes;
  std::vector<bool> changed((options.origin_bytes + chunk_bytes - 1) / chunk_bytes);
  std::uint64_t end = 0;
  bool first = true;
  const Status listed = volume.changed_blocks(from, to, [&](const auto& ranges) {
    for (const cow::ChangedRange& range : ranges) {
      REQUIRE(range.size_bytes > 0);
      REQUIRE(range.offset_bytes % chunk_bytes == 0);
      REQUIRE((first || range.offset_bytes > end));  // Neither overlapping nor touching.
      first = false;
      end = range.offset_bytes + range.size_bytes;
      REQUIRE(end <= options.origin_bytes);
      for (std::uint64_t at = range.offset_bytes; at < end; at += chunk_bytes) {
        changed[at / chunk_bytes] = true;
      }
    }
    return true;
  });
  INFO((listed ? std::string() : listed.error().to_string()));
  REQUIRE(listed);
  return changed;
}

inline void require_no_miss(const std::vector<bool>& changed, std::uint64_t chunk_bytes,
                            const Image& before, const Image& after) {
  for (std::size_t chunk = 0; chunk < changed.size(); ++chunk) {
    const auto begin = static_cast<std::ptrdiff_t>(chunk * chunk_bytes);
    const auto end = static_cast<std::ptrdiff_t>(
        std::min<std::uint64_t>((chunk + 1) * chunk_bytes, before.size()));
    if (changed[chunk] ||
        std::equal(before.begin() + begin, before.begin() + end, after.begin() + begin)) {
      continue;
    }
    FAIL("chunk " << chunk << " differs and is not among the changed blocks");
  }
}

class ChangeWatch {
 public:
  ChangeWatch(CowWorld& world, CowLoad& load, std::uint64_t seed)
      : world_(world), load_(load), prng_(seed) {}

  /// Sometimes makes or removes a checkpoint, in the middle of whatever is going on.
  void act() {
    if (!prng_.chance(1, 40) || !world_.machine.powered()) return;
    if (known_.size() < 4 && prng_.chance(2, 3)) {
      create();
    } else if (!known_.empty()) {
      remove();
    }
  }

  void create() {
    load_.forget_evicted();
    std::vector<SnapshotId> created;
    for (const auto& [id, snapshot] : load_.known) {
      if (snapshot.created && !load_.is_lost(id)) created.push_back(id);
    }
    if (created.empty()) return;
    cow::CheckpointRequest request;
    request.id = CheckpointId{world_.next_id()};
    request.snapshot = created[prng_.below(created.size())];
    request.name = request.id.to_string();
    known_[request.id] = {load_.known.at(request.snapshot).image, true};
    const SimMachine::Inline waits(world_.machine);
    const Status made = world_.volume->create_checkpoint(request);
    if (made) {
      known_.at(request.id).in_doubt = false;
    } else if (world_.machine.powered()) {
      INFO(made.error().to_string());
      REQUIRE(made.error().code == Errc::insufficient_storage);
      known_.erase(request.id);
    }
  }

  void remove() {
    auto it = known_.begin();
    std::advance(it, static_cast<std::ptrdiff_t>(prng_.below(known_.size())));
    it->second.in_doubt = true;
    const SimMachine::Inline waits(world_.machine);
    const Status removed = world_.volume->remove_checkpoint(it->first);
    if (removed) {
      known_.erase(it);
    } else if (world_.machine.powered()) {
      REQUIRE(removed.error().code == Errc::insufficient_storage);
      it->second.in_doubt = false;
    }
  }

  /// Every pair of points. `live` is what the volume shows; nothing is in flight.
  void check(const Image& live) {
    std::map<Guid, bool> present;
    for (const auto& record : world_.volume->list_checkpoints()) {
      INFO("checkpoint " << record.id.to_string());
      REQUIRE(known_.contains(record.id));
      known_.at(record.id).epoch = record.epoch;
      known_.at(record.id).in_doubt = false;
      present[record.id] = true;
    }
    for (auto it = known_.begin(); it != known_.end();) {
      INFO("checkpoint " << it->first.to_string());
      REQUIRE((present.contains(it->first) || it->second.in_doubt));
      it = present.contains(it->first) ? std::next(it) : known_.erase(it);
    }
    std::vector<Point> points;
    for (const auto& [id, checkpoint] : known_) {
      points.push_back({id, checkpoint.epoch, checkpoint.image, true});
    }
    for (const auto& record : world_.volume->list()) {
      if (record.lost || !load_.known.contains(record.id)) continue;
      points.push_back({record.id, record.epoch, load_.known.at(record.id).image, false});
    }
    for (const Point& from : points) {
      check_pair(from, nullptr, live);
      for (const Point& to : points) {
        if (!to.checkpoint && to.epoch >= from.epoch) check_pair(from, &to, *to.image);
      }
    }
  }

  [[nodiscard]] std::size_t size() const noexcept { return known_.size(); }
  std::uint64_t pairs = 0;  // Compared so far.
  std::uint64_t told = 0;   // Chunks that were named.

 private:
  struct Known {
    CowLoad::Shared image;
    bool in_doubt = false;  // Being made or removed when the power went.
    std::uint64_t epoch = 0;
  };
  struct Point {
    Guid id;
    std::uint64_t epoch = 0;
    CowLoad::Shared image;
    bool checkpoint = false;
  };

  void check_pair(const Point& from, const Point* to, const Image& after) {
    INFO((from.checkpoint ? "checkpoint " : "snapshot ")
         << from.id.to_string() << " of epoch " << from.epoch << " to "
         << (to != nullptr ? "epoch " + std::to_string(to->epoch) : std::string("now")));
    const auto end = to != nullptr ? std::optional(SnapshotId{to->id}) : std::nullopt;
    const auto changed = changed_chunks(*world_.volume, world_.options, from.id, end);
    require_no_miss(changed, world_.options.chunk_bytes, *from.image, after);
    ++pairs;
    told += static_cast<std::uint64_t>(std::count(changed.begin(), changed.end(), true));
  }

  CowWorld& world_;
  CowLoad& load_;
  Prng prng_;
  std::map<CheckpointId, Known> known_;
};

}  // namespace umbra::test
