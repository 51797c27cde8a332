// SPDX-License-Identifier: Apache-2.0
//
// Purpose: what survives a cut at every disk operation of a full diff area that deletes its oldest
// snapshots, of a maximum that is lowered, and of a fault?
// Method: each story is run once to count the operations that change a disk, then once per
// operation and cut there, by power and by kill -9; of the two long ones normal runs cut every
// third, another third with each seed. Afterwards every snapshot that is there shows what it
// showed, those that went are the oldest ones, and what the story was told is done is done.
#include <functional>
#include <set>

#include "tests/support/space_world.h"

using namespace umbra;
using namespace umbra::test;

namespace {

struct Told {
  std::set<SnapshotId> gone;  // For certain.
  bool faulted = false;
};
constexpr std::uint64_t kStepShort = 3;

using Story = std::function<void(SpaceWorld&, const std::vector<SnapshotId>&, Told&)>;

CowWorldOptions small() { return big_chunks(4, 4, 48); }

std::vector<SnapshotId> three_snapshots(SpaceWorld& world) {
  std::vector<SnapshotId> snapshots;
  for (int i = 0; i < 3; ++i) {
    snapshots.push_back(world.take(true));
    world.overwrite(0, kSpaceSegmentChunks);
  }
  REQUIRE(world.run(block::Op::flush) == 0);
  return snapshots;
}

// False: it was not cut any more.
bool cut_and_check(const Story& story, std::uint64_t cut, bool kill) {
  INFO("cut at operation " << cut << (kill ? ", kill -9" : ", power"));
  SpaceWorld world(small());
  world.open();
  const std::vector<SnapshotId> snapshots = three_snapshots(world);
  Told told;
  world.machine.cut_at(world.machine.operations() + cut);
  story(world, snapshots, told);
  const bool was_cut = !world.machine.powered();
  for (int again = 0; again < 2; ++again) {  // The second time in the recovery.
    if (kill) {
      world.machine.kill();
    } else {
      world.machine.cut_power();
    }
    world.volume.reset();
    world.machine.power_on();
    if (!kill) world.boot_id = Guid::random();
    if (again == 0) {
      world.machine.cut_at(world.machine.prng().below(12));
      (void)world.try_open();
    }
  }
  world.open();
  std::size_t oldest = 0;
  while (oldest < snapshots.size() && !world.has(snapshots[oldest])) ++oldest;
  for (std::size_t i = 0; i < snapshots.size(); ++i) {
    INFO("snapshot " << i << " of " << snapshots.size());
    REQUIRE(world.has(snapshots[i]) == (i >= oldest));
    if (told.gone.count(snapshots[i]) != 0) REQUIRE(i < oldest);
    if (i >= oldest) world.check_snapshot(snapshots[i]);
  }
  CHECK(world.volume->statistics().snapshots_lost == 0);
  if (told.faulted) CHECK(world.volume->protection().offline);
  return was_cut;
}

void cut_everywhere(std::uint64_t step_short, const Story& story) {
  const std::uint64_t step = long_run() ? 1 : step_short;
  for (const bool kill : {false, true}) {
    std::uint64_t cut = seed() % step;
    while (cut_and_check(story, cut, kill)) cut += step;
    INFO(cut << " operations");
    CHECK(cut > 4);
  }
}

}  // namespace

TEST_CASE("a cut at any operation of an eviction leaves the snapshots that are left right",
          "[cow][crash]") {
  cut_everywhere(kStepShort,
                 [](SpaceWorld& world, const std::vector<SnapshotId>& snapshots, Told& told) {
                   for (std::uint64_t chunk = kSpaceSegmentChunks;
                        chunk < 2 * kSpaceSegmentChunks + 2 && world.machine.powered(); ++chunk) {
                     (void)world.overwrite_one(chunk);
                   }
                   if (!world.machine.powered()) return;
                   REQUIRE_FALSE(world.has(snapshots[0]));
                   told.gone.insert(snapshots[0]);
                 });
}

TEST_CASE("a cut at any operation of a shrink leaves the snapshots that are left right",
          "[cow][crash]") {
  cut_everywhere(1, [](SpaceWorld& world, const std::vector<SnapshotId>&, Told& told) {
    const SimMachine::Inline waits(world.machine);
    const auto done = world.volume->set_diff_maximum(world.diff_bytes(2));
    if (!done) {
      REQUIRE_FALSE(world.machine.powered());
      return;
    }
    REQUIRE_FALSE(done->deleted.empty());
    told.gone.insert(done->deleted.begin(), done->deleted.end());
  });
}

TEST_CASE("a cut at any operation of a fault costs no snapshot", "[cow][crash]") {
  cut_everywhere(kStepShort, [](SpaceWorld& world, const std::vector<SnapshotId>&, Told& told) {
    if (!world.volume->set_protection_level(cow::ProtectionLevel::snapshot)) return;
    for (std::uint64_t chunk = kSpaceSegmentChunks;
         chunk < 3 * kSpaceSegmentChunks && world.machine.powered(); ++chunk) {
      if (world.overwrite_one(chunk) != 0) break;
    }
    world.machine.run_until_idle();
    told.faulted = world.machine.powered();
    if (told.faulted) REQUIRE(world.volume->protection().offline);
  });
}
