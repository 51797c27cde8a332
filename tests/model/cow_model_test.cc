// SPDX-License-Identifier: Apache-2.0
//
// The store against a naive twin (tests/support/cow_load.h): any sequence of operations, any order
// of completions. In between the volume is reopened, in order or not, at rest or with whatever is
// half done: a snapshot that is being made, its recovery window, a revert, work that waits. Between
// two openings a run is made of what a draw of weights says (a swarm): some operations are left
// out, others dominate.
#include <cstdlib>

#include "provider/cow/check.h"
#include "provider/format/diff_area.h"
#include "tests/support/change_watch.h"
#include "tests/support/seed.h"

using namespace umbra;
using namespace umbra::test;

namespace {

// Of operations that had an effect; completions are not counted. UMBRA_OPERATIONS=N: another
// number, of each run.
constexpr std::uint64_t kOperationsShort = 60'000;
constexpr std::uint64_t kOperationsLong = 4'000'000;
constexpr std::uint64_t kActionsPerOpen = 2'000;

// Of one run; the more it costs, the smaller its share.
std::uint64_t operations_of(std::uint64_t share) {
  const char* const wanted = std::getenv("UMBRA_OPERATIONS");
  if (wanted != nullptr) return std::strtoull(wanted, nullptr, 10);
  return (long_run() ? kOperationsLong : kOperationsShort) / share;
}

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

enum class Losses { none, allowed };

// Whatever order its requests completed in: what no byte was spoilt of is not called damaged.
void check_sound(CowWorld& world) {
  cow::CheckOptions options;
  options.data = world.machine.prng().chance(1, 4);
  options.boot_id = world.boot_id;
  const SimMachine::Inline waits(world.machine);
  const auto report = cow::check(*world.area, options);
  INFO((report ? std::string() : report.error().to_string()));
  REQUIRE(report);
  for (const cow::Finding& finding : report->findings) {
    INFO(finding.offset_bytes << ": " << finding.what);
    REQUIRE(finding.kind != cow::Finding::Kind::damage);
  }
}

void reopen(CowWorld& world, CowLoad& load) {
  Prng& prng = world.machine.prng();
  if (prng.chance(1, 2)) {
    load.settle();
    load.check_all();
  } else {
    load.settle_disks();
  }
  const cow::Statistics statistics = world.volume->statistics();
  INFO("state: " << statistics.state);
  CHECK(statistics.checksum_failures == 0);
  CHECK_FALSE(statistics.writes_held);
  if (prng.chance(1, 2)) {
    const SimMachine::Inline waits(world.machine);
    REQUIRE(world.volume->close());
  }
  world.volume.reset();
  world.machine.run_until_idle();
  load.crashed();
  check_sound(world);
  world.open();
  load.reopened();
  load.check_all();
}

void report(const CowLoad& load, std::uint64_t opened, const ChangeWatch& watch) {
  std::string made_of;
  for (std::size_t i = 0; i < kCowActionNames.size(); ++i) {
    made_of += (i == 0 ? "" : ", ") + std::to_string(load.counts()[i]) + " " + kCowActionNames[i];
  }
  WARN(load.operations() << " operations (" << made_of << "), " << watch.pairs
                         << " pairs of points compared with what changed, opened " << opened
                         << " times, seed " << seed());
}

void run_model(CowWorld& world, const CowLoadOptions& load_options, std::uint64_t stream,
               std::uint64_t operations, Losses losses, std::size_t snapshots_before = 0) {
  CowLoad load(world, seed() * 3 + stream, load_options);
  ChangeWatch watch(world, load, seed() * 5 + stream);
  world.open();
  if (load_options.retention) {
    const SimMachine::Inline waits(world.machine);
    REQUIRE(world.volume->set_retention({.longest_seconds = 1'000'000, .reserve_bytes = 0}));
  }
  take_many(world, load, snapshots_before);
  const bool watched = snapshots_before == 0;
  std::uint64_t opened = 1;
  for (; load.operations() < operations; ++opened) {
    load.draw_weights();
    for (std::uint64_t i = 0; i < kActionsPerOpen; ++i) {
      load.act();
      if (watched) watch.act();
    }
    reopen(world, load);
    if (watched) watch.check(world.twin);
    if (losses == Losses::none) REQUIRE(world.volume->statistics().snapshots_lost == 0);
  }
  if (load.operations() > 2 * kOperationsShort) report(load, opened, watch);
}

void run_model(const CowWorldOptions& world_options, const CowLoadOptions& load_options,
               std::uint64_t stream, std::uint64_t operations, Losses losses,
               std::size_t snapshots_before = 0) {
  CowWorld world(seed() + stream, world_options);
  run_model(world, load_options, stream, operations, losses, snapshots_before);
}

// All that a volume with room can do.
CowLoadOptions everything() {
  CowLoadOptions options;
  options.live_reads = options.windows = options.reverts = options.stopped_reverts = true;
  options.segments_least = 24;
  options.segments_most = 32;
  return options;
}

}  // namespace

TEST_CASE("the store agrees with a full copy per snapshot, for any sequence", "[cow][model]") {
  CowWorldOptions options;
  options.segments_max = 24;
  run_model(options, everything(), 1, operations_of(1), Losses::none);
}

TEST_CASE("the store agrees with its twin where free blocks are exempt", "[cow][model][exempt]") {
  CowWorldOptions options;
  options.segments_max = 24;
  CowLoadOptions load = everything();
  load.free_blocks = true;
  run_model(options, load, 8, operations_of(2), Losses::none);
}

TEST_CASE("the store agrees with its twin when old content is shared, not copied", "[cow][model]") {
  CowWorldOptions options;
  options.reflink = true;
  options.segments_max = 32;
  options.origin_bytes = (1U << 20U) + 1536;  // The last chunk is a part.
  CowWorld roomy(seed() + 9, options);
  run_model(roomy, everything(), 9, operations_of(2), Losses::none);
  CHECK(roomy.diff.times_shared > 0);
  // Too little space for what is shared and what is promised.
  options.chunk_bytes = 256U << 10U;
  options.origin_bytes = 16U << 20U;
  options.segments = 2;
  options.segments_max = 4;
  CowLoadOptions load = everything();
  load.write_bytes_max = 512U << 10U;
  load.segments_least = 2;
  load.segments_most = 6;
  load.stopped_reverts = false;  // A target may be lost before it is reverted to.
  bool shared = false;           // A short run's few swarms may have nothing that leads there.
  for (std::uint64_t stream = 10; !shared && stream < 20; ++stream) {
    CowWorld tight(seed() + stream, options);
    run_model(tight, load, stream, operations_of(32), Losses::allowed);
    shared = tight.diff.times_shared > 0;
  }
  CHECK(shared);
}

TEST_CASE("the store agrees with its twin at the smallest and at a large granule", "[cow][model]") {
  CowWorldOptions options;
  options.segments_max = 24;
  options.chunk_bytes = 4U << 10U;
  options.origin_bytes = (1U << 20U) + 1536;  // The last chunk is a part.
  CowLoadOptions load = everything();
  run_model(options, load, 2, operations_of(4), Losses::none);
  options.chunk_bytes = 256U << 10U;
  load.snapshots_max = 3;
  run_model(options, load, 3, operations_of(16), Losses::none);
}

TEST_CASE("locked snapshots stay, whatever is done", "[cow][model]") {
  CowWorldOptions options;
  options.segments_max = 24;
  CowLoadOptions load = everything();
  load.retention = true;
  run_model(options, load, 6, operations_of(8), Losses::none);
}

TEST_CASE("the store agrees with its twin while its diff area moves to and fro", "[cow][model]") {
  CowWorldOptions options;
  options.origin_bytes = 256U << 10U;
  options.chunk_bytes = 4U << 10U;
  options.segments = options.segments_max = 12;
  CowWorld world(seed() + 7, options);
  CowLoadOptions load = everything();
  load.write_bytes_max = 24U << 10U;
  load.segments_least = 0;  // While it moves, it does not grow.
  load.moves = true;
  run_model(world, load, 7, operations_of(8), Losses::none);
}

TEST_CASE("in a diff area that is too small snapshots are lost, never wrong", "[cow][model]") {
  CowWorldOptions options;
  options.chunk_bytes = 256U << 10U;
  options.origin_bytes = 16U << 20U;
  options.segments = 2;
  options.segments_max = 3;
  CowLoadOptions load = everything();
  load.write_bytes_max = 512U << 10U;
  load.segments_least = 2;
  load.segments_most = 5;
  load.stopped_reverts = false;  // A target may be lost before it is reverted to.
  run_model(options, load, 4, operations_of(16), Losses::allowed);
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
  const std::uint64_t operations = long_run() ? operations_of(8) : kActionsPerOpen * 6;
  run_model(options, load, 5, operations, Losses::none, before);
}
