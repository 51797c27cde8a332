// SPDX-License-Identifier: Apache-2.0
//
// A set over two volumes of the real store, and a machine that dies before every single disk
// operation of its making: afterwards the set is whole or gone, and what is whole is right.

#include "tests/support/catch.h"
#include "tests/support/seed.h"
#include "tests/support/store_world.h"

namespace {

using namespace umbra;
using namespace umbra::test;

constexpr std::size_t kBlock = 512;
std::string block_of(char fill) { return std::string(kBlock, fill); }

struct Made {
  SnapshotSetId set = SnapshotSetId::random();
  std::vector<SnapshotId> snapshots;
};

Status make_set(StoreWorld& world, Made& made, std::uint32_t attributes) {
  auto& provider = *world.provider;
  for (auto& each : world.disks) {
    VolumeRef volume;
    volume.id = each->id;
    made.snapshots.push_back(SnapshotId::random());
    const auto added = provider.begin_prepare_snapshot(
        {made.set, made.snapshots.back(), volume, attributes, SessionId::random()});
    if (!added) return added;
  }
  if (auto status = provider.end_prepare_snapshots(made.set); !status) return status;
  if (auto status = provider.pre_commit_snapshots(made.set); !status) return status;
  if (auto held = provider.flush_commit_release(made.set, {}); !held) return fail(held.error());
  // A live write that needs a preserve, before anything of the commit is durable.
  world.start_write(*world.disks[0], 0, block_of('3'));
  if (auto status = provider.post_commit_snapshots(made.set, made.snapshots); !status) {
    return status;
  }
  if (auto status = provider.pre_final_commit_snapshots(made.set); !status) return status;
  if (auto status = provider.post_final_commit_snapshots(made.set); !status) return status;
  return provider.confirm_set(made.set);
}

std::size_t shown(StoreWorld& world, const SnapshotSetId& set, bool incomplete = false) {
  const auto list = world.provider->query_snapshots(incomplete);
  REQUIRE(list);
  std::size_t count = 0;
  for (const auto& copy : *list) count += copy.set_id == set ? 1U : 0U;
  return count;
}

struct Outcome {
  bool finished = false;
  bool whole = false;
};

// The machine dies before disk operation `at` of the second set.
Outcome die_at(std::uint64_t at, bool power_too) {
  StoreWorld world(seed() + at);
  world.add("a");
  world.add("b");
  for (auto& each : world.disks) REQUIRE(world.write(*each, 0, block_of('1')) == 0);
  Made older;
  REQUIRE(make_set(world, older, context::kAppRollback));
  for (auto& each : world.disks) {
    REQUIRE(world.write(*each, 0, block_of('2')) == 0);
    block::Request flush;
    flush.op = block::Op::flush;
    REQUIRE(block::run(each->volume->live(), flush) == 0);
  }
  world.machine.cut_at(world.machine.operations() + at);
  Made set;
  Outcome outcome;
  outcome.finished = make_set(world, set, context::kAppRollback).has_value();
  world.die_and_restart(power_too);
  const std::size_t copies = shown(world, set.set);
  CHECK((copies == 0 || copies == 2));
  CHECK(shown(world, set.set, true) == copies);
  outcome.whole = copies == 2;
  if (outcome.finished) CHECK(outcome.whole);
  if (outcome.whole) {
    for (const auto& id : set.snapshots) {
      CHECK(world.surfaces.read(id, 0, kBlock) == block_of('2'));
    }
  }
  // The older set is not touched by any of this.
  REQUIRE(shown(world, older.set) == 2);
  CHECK(world.surfaces.read(older.snapshots[1], 0, kBlock) == block_of('1'));
  // And there is room for the next one.
  Made next;
  CHECK(make_set(world, next, context::kAppRollback));
  return outcome;
}

void die_everywhere(bool power_too) {
  std::uint64_t at = 0;
  std::size_t gone = 0;
  std::size_t forward = 0;
  for (Outcome outcome; !outcome.finished; ++at) {
    INFO("dies before operation " << at);
    outcome = die_at(at, power_too);
    if (!outcome.whole) ++gone;
    if (outcome.whole && !outcome.finished) ++forward;
  }
  CHECK(gone > 10);
  CHECK(forward > 0);  // Somewhere between the two confirmations.
}

TEST_CASE("a power cut before any disk operation of a set leaves it whole or gone", "[crash]") {
  die_everywhere(true);
}

TEST_CASE("a kill before any disk operation of a set leaves it whole or gone", "[crash]") {
  die_everywhere(false);
}

TEST_CASE("a power cut ends auto-release copies, a kill does not", "[crash]") {
  for (const bool power_too : {true, false}) {
    StoreWorld world(seed());
    world.add("a");
    world.add("b");
    Made set;
    REQUIRE(make_set(world, set, context::kBackup));
    world.die_and_restart(power_too);
    CHECK(shown(world, set.set) == (power_too ? 0 : 2));
  }
}

TEST_CASE("a volume of a half-made set that comes back alone shows nothing of it", "[crash]") {
  std::size_t waited = 0;
  for (std::uint64_t at = 0;; ++at) {
    StoreWorld trial(seed());
    trial.add("a");
    trial.add("b");
    trial.machine.cut_at(trial.machine.operations() + at);
    Made made;
    (void)make_set(trial, made, context::kAppRollback);
    trial.die(false);
    trial.attach(*trial.disks[0]);
    const std::size_t alone = shown(trial, made.set);
    const std::size_t waiting = shown(trial, made.set, true);
    if (waiting == 0) continue;  // Not yet post-committed.
    if (alone == 1) break;       // Confirmed: always shown.
    ++waited;
    trial.attach(*trial.disks[1]);
    trial.provider->all_volumes_attached();
    CHECK(shown(trial, made.set) == 0);
    CHECK(shown(trial, made.set, true) == 0);
  }
  CHECK(waited > 0);
}

}  // namespace
