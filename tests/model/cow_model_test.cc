// SPDX-License-Identifier: Apache-2.0
//
// The store against a naive twin (tests/support/cow_load.h): any sequence of operations, any order
// of completions, reopened in order or after kill -9 in between. Between two openings a run is made
// of what a draw of weights says (a swarm): some operations are left out, others dominate.
#include "provider/format/diff_area.h"
#include "tests/support/cow_load.h"
#include "tests/support/seed.h"

using namespace umbra;
using namespace umbra::test;

namespace {

// Of operations that had an effect; completions are not counted.
constexpr std::uint64_t kOperationsShort = 60'000;
constexpr std::uint64_t kOperationsLong = 4'000'000;
constexpr std::uint64_t kActionsPerOpen = 2'000;

void take_many(CowWorld& world, CowLoad& load, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    const SnapshotId id = world.take(true);
    if (i % 8 == 0) {
      const SimMachine::Inline waits(world.machine);
      REQUIRE(world.write(i % 16 * kSector, kSector) == 0);
    }
    world.machine.run_until_idle();
    load.known[id] = {std::make_shared<const Image>(world.images.at(id)), true, true};
    world.images.clear();
  }
}

void run_model(const CowWorldOptions& world_options, const CowLoadOptions& load_options,
               std::uint64_t stream, std::uint64_t operations, bool losses_allowed,
               std::size_t snapshots_before = 0) {
  CowWorld world(seed() + stream, world_options);
  CowLoad load(world, seed() * 3 + stream, load_options);
  world.open();
  take_many(world, load, snapshots_before);
  std::uint64_t opened = 1;
  for (; load.operations() < operations; ++opened) {
    load.draw_weights();
    for (std::uint64_t i = 0; i < kActionsPerOpen; ++i) load.act();
    load.settle();
    load.check_all();
    const cow::Statistics statistics = world.volume->statistics();
    INFO("state: " << statistics.state);
    CHECK(statistics.checksum_failures == 0);
    CHECK_FALSE(statistics.writes_held);
    if (!losses_allowed) REQUIRE(statistics.snapshots_lost == 0);
    if (world.machine.prng().chance(1, 2)) {
      const SimMachine::Inline waits(world.machine);
      REQUIRE(world.volume->close());
    }
    world.volume.reset();
    world.machine.run_until_idle();
    world.open();
    load.check_all();
    load.crashed();
  }
  if (!long_run()) return;
  const CowWeights& n = load.counts();
  WARN(load.operations() << " operations (" << n[0] << " writes, " << n[1] << " zeroes, " << n[2]
                         << " discards, " << n[3] << " flushes, " << n[4] << " reads of snapshots, "
                         << n[5] << " snapshots, " << n[6] << " removals), opened " << opened
                         << " times");
}

}  // namespace

TEST_CASE("the store agrees with a full copy per snapshot, for any sequence", "[cow][model]") {
  const std::uint64_t operations = long_run() ? kOperationsLong : kOperationsShort;
  CowWorldOptions options;
  options.segments_max = 24;
  run_model(options, {}, 1, operations, false);
}

TEST_CASE("the store agrees with its twin where free blocks are exempt", "[cow][model][exempt]") {
  const std::uint64_t operations = (long_run() ? kOperationsLong : kOperationsShort) / 2;
  CowWorldOptions options;
  options.segments_max = 24;
  CowLoadOptions load;
  load.free_blocks = true;
  run_model(options, load, 6, operations, false);
}

TEST_CASE("the store agrees with its twin at the smallest and at a large granule", "[cow][model]") {
  const std::uint64_t operations = (long_run() ? kOperationsLong : kOperationsShort) / 4;
  CowWorldOptions options;
  options.segments_max = 24;
  options.chunk_bytes = 4U << 10U;
  options.origin_bytes = (1U << 20U) + 1536;  // The last chunk is a part.
  run_model(options, {}, 2, operations, false);
  options.chunk_bytes = 256U << 10U;
  CowLoadOptions load;
  load.snapshots_max = 3;
  run_model(options, load, 3, operations / 4, false);
}

TEST_CASE("in a diff area that is too small snapshots are lost, never wrong", "[cow][model]") {
  const std::uint64_t operations = (long_run() ? kOperationsLong : kOperationsShort) / 4;
  CowWorldOptions options;
  options.chunk_bytes = 256U << 10U;
  options.origin_bytes = 16U << 20U;
  options.segments = 2;
  options.segments_max = 3;
  CowLoadOptions load;
  load.write_bytes_max = 512U << 10U;
  run_model(options, load, 4, operations / 4, true);
}

TEST_CASE("the store agrees with its twin while the snapshot table grows", "[cow][model]") {
  CowWorldOptions options;
  options.origin_bytes = 64U << 10U;
  options.chunk_bytes = 4U << 10U;
  options.segments_max = 16;
  CowLoadOptions load;
  load.write_bytes_max = 24U << 10U;
  load.snapshots_max = 600;
  const std::size_t before = format::kTableSlots - 2;
  const std::uint64_t operations = long_run() ? kOperationsLong / 8 : kActionsPerOpen * 6;
  run_model(options, load, 5, operations, false, before);
}
