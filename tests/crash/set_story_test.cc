// SPDX-License-Identifier: Apache-2.0
//
// No half sets. Volumes of the real store, each with an origin and a diff area of its own, one
// power supply; a story of sets that overlap in them; and a machine that dies before any disk
// operation of it, and again before any disk operation of the recovery.
//
// Method: the story runs once to count its disk operations, then once per operation with the cut
// exactly there. After recovery every set is whole, each copy equal to what its volume held at the
// set's instant, or gone. What was reported created is whole, what was reported aborted or deleted
// is gone. Only the deletion of a created set goes copy by copy: one that was asked for and not yet
// reported may leave some copies, each of them right.

#include <algorithm>
#include <cstring>
#include <numeric>
#include <optional>

#include "tests/support/catch.h"
#include "tests/support/seed.h"
#include "tests/support/store_world.h"

namespace {

using namespace umbra;
using namespace umbra::test;

constexpr std::size_t kChunk = cow::kChunkBytesMin;
constexpr std::size_t kChunks = StoreWorld::kOriginBytes / kChunk;
constexpr std::uint64_t kNever = ~std::uint64_t{0};

struct MadeSet {
  struct Member {
    std::size_t volume = 0;
    SnapshotId id;
    std::string image;  // What the volume held at the instant.
  };
  SnapshotSetId id = SnapshotSetId::random();
  SessionId session = SessionId::random();
  std::uint32_t attributes = 0;
  std::vector<Member> members;
  bool created = false;  // Reported.
  bool gone = false;     // Abort or deletion was reported.
  bool deletion_asked_for = false;
};

// What happened in all runs of a test: one that never met a case has proved nothing about it.
struct Seen {
  std::size_t gone = 0, rolled_forward = 0, waited = 0, partly_deleted = 0, recoveries_cut = 0;
};

class Story {
 public:
  Story(std::uint64_t seed, std::size_t volumes) : world(seed), random_(seed ^ volumes) {
    for (std::size_t v = 0; v < volumes; ++v) world.add("v" + std::to_string(v));
    twins_.assign(volumes, std::string(StoreWorld::kOriginBytes, '\0'));
  }

  /// Until the machine dies before disk operation `at` of the story. True: it got to the end.
  bool tell(std::uint64_t at) {
    world.machine.cut_at(at == kNever ? kNever : world.machine.operations() + at);
    return steps();
  }

  StoreWorld world;
  std::vector<MadeSet> sets;

 private:
  [[nodiscard]] std::size_t last() const { return world.disks.size() - 1; }
  [[nodiscard]] std::vector<std::size_t> all() const {
    std::vector<std::size_t> every(world.disks.size());
    std::iota(every.begin(), every.end(), std::size_t{0});
    return every;
  }

  bool steps() {
    const std::vector<std::size_t> ends{0, last()};
    std::vector<std::size_t> but_first = all();
    but_first.erase(but_first.begin());
    return write_some() && make(all(), context::kAppRollback) && write_some() &&
           make(ends, context::kBackup) && write_some() && abandon(but_first) && write_some() &&
           make(ends, context::kNasRollback, 0) && write_some() &&
           make(all(), context::kAppRollback) && write_some();
  }

  // A few chunks of every volume; unflushed.
  bool write_some() {
    for (std::size_t v = 0; v < world.disks.size(); ++v) {
      for (int i = 0; i < 3; ++i) {
        const std::size_t offset = random_.below(kChunks) * kChunk;
        const std::string bytes(512, static_cast<char>('A' + random_.below(26)));
        if (!world.write_while_powered(*world.disks[v], offset, bytes)) return false;
        twins_[v].replace(offset, bytes.size(), bytes);
      }
    }
    return true;
  }

  MadeSet& begin(const std::vector<std::size_t>& volumes, std::uint32_t attributes) {
    sets.emplace_back();
    auto& set = sets.back();
    set.attributes = attributes;
    for (const auto v : volumes) set.members.push_back({v, SnapshotId::random(), {}});
    return set;
  }

  bool prepare(MadeSet& set) {
    auto& provider = *world.provider;
    for (const auto& member : set.members) {
      VolumeRef volume;
      volume.id = world.disks[member.volume]->id;
      const auto added =
          provider.begin_prepare_snapshot({set.id, member.id, volume, set.attributes, set.session});
      if (!added) return false;
    }
    return provider.end_prepare_snapshots(set.id) && provider.pre_commit_snapshots(set.id);
  }

  bool commit(MadeSet& set) {
    if (!world.provider->flush_commit_release(set.id, {})) return false;
    for (auto& member : set.members) member.image = twins_[member.volume];
    // Live writes that need a preserve before anything of the commit is durable. Nobody waits: a
    // volume whose diff area is dead holds its writes.
    for (std::size_t v = 0; v < world.disks.size(); ++v) {
      const std::size_t offset = random_.below(kChunks) * kChunk;
      world.start_write(*world.disks[v], offset, std::string(512, '*'));
      twins_[v].replace(offset, 512, std::string(512, '*'));
    }
    std::vector<SnapshotId> ids;
    for (const auto& member : set.members) ids.push_back(member.id);
    return world.provider->post_commit_snapshots(set.id, ids).has_value();
  }

  /// `victim`: a set that is deleted while this one is made.
  bool make(const std::vector<std::size_t>& volumes, std::uint32_t attributes,
            std::optional<std::size_t> victim = {}) {
    auto& set = begin(volumes, attributes);
    auto& provider = *world.provider;
    if (!prepare(set) || !commit(set)) return false;
    if (victim && !remove(sets[*victim])) return false;
    set.created = provider.pre_final_commit_snapshots(set.id) &&
                  provider.post_final_commit_snapshots(set.id) && provider.confirm_set(set.id);
    return set.created;
  }

  bool remove(MadeSet& set) {
    set.deletion_asked_for = true;
    set.gone =
        world.provider->delete_snapshots(set.id, ObjectType::snapshot_set, true).status.has_value();
    return set.gone;
  }

  bool abandon(const std::vector<std::size_t>& volumes) {
    auto& set = begin(volumes, context::kAppRollback);
    if (!prepare(set) || !commit(set)) return false;
    world.provider->abort_snapshots(set.id);
    set.gone = world.machine.powered();
    return set.gone;
  }

  Prng random_;
  std::vector<std::string> twins_;
};

struct Crash {
  std::uint64_t seed = 0;
  std::size_t volumes = 2;
  bool power = true;
  std::uint64_t at = kNever;
  std::vector<std::uint64_t> recovery_at;  // The first recovery dies here, the second there, ...
  bool one_is_absent = false;              // One volume comes back late.
};

class Recovery {
 public:
  Recovery(Story& story, const Crash& crash, Seen& seen)
      : story_(story),
        world_(story.world),
        crash_(crash),
        seen_(seen),
        random_(crash.seed * 31 + crash.at) {}

  /// How many disk operations the undisturbed recovery took.
  std::uint64_t run() {
    world_.die(crash_.power);
    for (const auto at : crash_.recovery_at) {
      world_.machine.cut_at(at);
      if (come_back(order()) && world_.machine.powered()) break;  // It had fewer operations.
      ++seen_.recoveries_cut;
      world_.die(crash_.power);
    }
    world_.machine.cut_at(kNever);
    const auto volumes = order();
    if (world_.is_attached()) {
      // Nothing to do: a recovery that was to be cut got to its end.
    } else if (crash_.one_is_absent) {
      const std::vector<std::size_t> first(volumes.begin(), volumes.end() - 1);
      for (const auto v : first) world_.attach(*world_.disks[v]);
      check_while_absent();
      world_.attach(*world_.disks[volumes.back()]);
      world_.provider->all_volumes_attached();
    } else {
      REQUIRE(come_back(volumes));
    }
    const auto operations = world_.machine.operations();
    for (const auto& set : story_.sets) check(set);
    return operations;
  }

 private:
  std::vector<std::size_t> order() {
    std::vector<std::size_t> volumes(world_.disks.size());
    std::iota(volumes.begin(), volumes.end(), std::size_t{0});
    for (auto i = volumes.size(); i > 1; --i) std::swap(volumes[i - 1], volumes[random_.below(i)]);
    return volumes;
  }
  bool come_back(const std::vector<std::size_t>& volumes) {
    for (const auto v : volumes)
      if (!world_.try_attach(*world_.disks[v])) return false;
    world_.provider->all_volumes_attached();
    return true;
  }

  std::size_t shown(const MadeSet& set, bool incomplete) {
    const auto list = world_.provider->query_snapshots(incomplete);
    REQUIRE(list);
    return static_cast<std::size_t>(std::count_if(
        list->begin(), list->end(), [&](const auto& copy) { return copy.set_id == set.id; }));
  }

  [[nodiscard]] bool survives(const MadeSet& set) const {
    return is_persistent(set.attributes) || !crash_.power;
  }

  // Created members are shown; prepared ones wait only if no created sibling is seen.
  void check_while_absent() {
    for (const auto& set : story_.sets) {
      const auto created = shown(set, false);
      const auto listed = shown(set, true);
      INFO("set of " << set.members.size() << ": " << created << " created, " << listed
                     << " listed");
      CHECK((created == 0 || created == listed));
      if (created == 0 && listed > 0) {
        CHECK(!set.created);
        ++seen_.waited;
      }
    }
  }

  void check(const MadeSet& set) {
    const auto copies = shown(set, false);
    INFO("set of " << set.members.size() << ", attributes " << set.attributes << ", created "
                   << set.created << ", gone " << set.gone << ", copies " << copies);
    CHECK(shown(set, true) == copies);  // Nothing waits any more.
    const bool half = copies != 0 && copies != set.members.size();
    if (!survives(set) || set.gone) {
      CHECK(copies == 0);
    } else if (set.deletion_asked_for) {
      if (half) ++seen_.partly_deleted;
    } else {
      CHECK(!half);
      CHECK((!set.created || copies != 0));
      if (!set.created) ++(copies == 0 ? seen_.gone : seen_.rolled_forward);
    }
    const auto list = world_.provider->query_snapshots(false);
    REQUIRE(list);
    for (const auto& copy : *list) {
      if (copy.set_id != set.id) continue;
      const auto member = std::find_if(set.members.begin(), set.members.end(),
                                       [&](const auto& one) { return one.id == copy.snapshot_id; });
      REQUIRE(member != set.members.end());
      CHECK(!copy.lost);
      // Not compared by CHECK: nobody wants to read 64 KiB twice.
      const auto content = world_.surfaces.read(copy.snapshot_id, 0, StoreWorld::kOriginBytes);
      REQUIRE(content);
      const bool is_the_instant = *content == member->image;
      CHECK(is_the_instant);
    }
  }

  Story& story_;
  StoreWorld& world_;
  const Crash& crash_;
  Seen& seen_;
  Prng random_;
};

struct Ended {
  bool finished = false;
  std::uint64_t recovery_operations = 0;
};

Ended crash_and_recover(const Crash& crash, Seen& seen) {
  INFO("seed " << crash.seed << ", " << crash.volumes << " volumes, "
               << (crash.power ? "power cut" : "kill") << " before operation " << crash.at
               << ", recovery cut " << crash.recovery_at.size() << " times, one absent "
               << crash.one_is_absent);
  Story story(crash.seed, crash.volumes);
  Ended result;
  result.finished = story.tell(crash.at);
  result.recovery_operations = Recovery(story, crash, seen).run();
  return result;
}

std::uint64_t operations_of_the_story(std::uint64_t seed, std::size_t volumes) {
  Story story(seed, volumes);
  const auto before = story.world.machine.operations();
  REQUIRE(story.tell(kNever));
  return story.world.machine.operations() - before;
}

// Every `step`th operation, with `offset`.
void die_along(std::size_t volumes, bool power, std::uint64_t step, Seen& seen) {
  Prng random{seed() + volumes};
  const auto rounds = long_run() ? std::uint64_t{20} : std::uint64_t{1};
  for (std::uint64_t round = 0; round < rounds; ++round) {
    Crash crash;
    crash.seed = seed() + round;
    crash.volumes = volumes;
    crash.power = power;
    const auto operations = operations_of_the_story(crash.seed, volumes);
    for (crash.at = random.below(step); crash.at < operations; crash.at += step) {
      crash.one_is_absent = random.chance(1, 2);
      CHECK_FALSE(crash_and_recover(crash, seen).finished);
    }
  }
}

TEST_CASE("sets over 2 volumes: whole or gone after a death before any operation", "[crash]") {
  const bool power = GENERATE(true, false);
  Seen seen;
  die_along(2, power, 1, seen);
  CHECK(seen.gone > 0);
  CHECK(seen.rolled_forward > 0);
  CHECK(seen.waited > 0);
  CHECK(seen.partly_deleted > 0);
}

TEST_CASE("sets over 3 and 4 volumes: whole or gone after a death at sampled operations",
          "[crash]") {
  const bool power = GENERATE(true, false);
  const auto volumes = GENERATE(std::size_t{3}, std::size_t{4});
  Seen seen;
  die_along(volumes, power, long_run() ? 1 : 9, seen);
  CHECK(seen.gone > 0);
  if (long_run()) CHECK(seen.rolled_forward > 0);  // A sample may miss it.
}

// The recovery dies before each of its operations, and the one after it at a random one.
TEST_CASE("a recovery that is cut short again and again ends the same", "[crash]") {
  Prng random{seed()};
  const bool power = GENERATE(true, false);
  Crash crash;
  crash.seed = seed();
  crash.volumes = long_run() ? 3 : 2;
  crash.power = power;
  const auto operations = operations_of_the_story(crash.seed, crash.volumes);
  const std::uint64_t step = long_run() ? 1 : 31;
  Seen seen;
  for (crash.at = random.below(step); crash.at < operations; crash.at += step) {
    crash.recovery_at.clear();
    const auto recovery = crash_and_recover(crash, seen).recovery_operations;
    for (std::uint64_t at = 0; at < recovery; ++at) {
      crash.recovery_at = {at};
      if (random.chance(1, 2)) crash.recovery_at.push_back(random.below(recovery));
      (void)crash_and_recover(crash, seen);
    }
  }
  CHECK(seen.recoveries_cut > 0);
  if (long_run()) CHECK(seen.rolled_forward > 0);
}

TEST_CASE("a set that waits for an absent volume can be deleted, and its rest goes", "[crash]") {
  std::size_t waited = 0;
  const auto operations = operations_of_the_story(seed(), 2);
  const std::uint64_t step = long_run() ? 1 : 3;
  for (std::uint64_t at = 0; at < operations; at += step) {
    Story story(seed(), 2);
    CHECK_FALSE(story.tell(at));
    auto& world = story.world;
    world.die(false);
    world.attach(*world.disks[at % 2]);
    const auto& set = story.sets.empty() ? MadeSet{} : story.sets.back();
    const auto list = world.provider->query_snapshots(true);
    REQUIRE(list);
    const bool waits = std::any_of(list->begin(), list->end(), [&](const auto& copy) {
      return copy.set_id == set.id && copy.state != SnapshotState::created;
    });
    if (!waits) continue;
    ++waited;
    CHECK(world.provider->query_set(set.id) == SetFate::undecided);
    CHECK(world.provider->delete_snapshots(set.id, ObjectType::snapshot_set, false).deleted == 1);
    world.attach(*world.disks[1 - at % 2]);
    world.provider->all_volumes_attached();
    // Unless the other one is created already: that is always shown.
    const auto left = world.provider->query_snapshots(true);
    REQUIRE(left);
    for (const auto& copy : *left)
      CHECK((copy.set_id != set.id || copy.state == SnapshotState::created));
  }
  CHECK(waited > 0);
}

}  // namespace
