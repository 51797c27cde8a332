// SPDX-License-Identifier: Apache-2.0
//
// Purpose: what survives when the power fails, or the process dies, at every disk operation?
// Method: a load with a fixed seed is run once to count the operations that change a disk. Then it
// is run again for each of them, and cut there. The volume is opened again, with a second cut at a
// random operation of the recovery, and must show every flushed write and every persistent snapshot
// that was confirmed; then the load goes on, is cut a second time, and all of it must hold again:
// nothing that the first recovery left behind may come back.
// Normal runs take a sample of the cuts, UMBRA_LONG=1 takes every one.
#include "tests/support/cow_load.h"
#include "tests/support/seed.h"

using namespace umbra;
using namespace umbra::test;

namespace {

constexpr std::uint64_t kActions = 400;  // Of one load, before the first cut.
constexpr std::uint64_t kSampleShort = 120;
constexpr std::uint64_t kRecoveryCutMax = 12;

enum class Death { power_cut, kill };

CowWorldOptions small_world() {
  CowWorldOptions options;
  options.origin_bytes = 256U << 10U;
  options.chunk_bytes = 4U << 10U;
  options.segments = 2;
  options.segments_max = 8;
  return options;
}

CowLoadOptions stamped_load() {
  CowLoadOptions options;
  options.zeroes_and_discards = false;  // Every sector then says which write it shows.
  options.write_bytes_max = 24U << 10U;
  options.snapshots_max = 4;
  return options;
}

struct Run {
  Run(std::uint64_t seed_, Death death_)
      : world(seed_, small_world()), load(world, seed_ + 1, stamped_load()), death(death_) {}

  void die() {
    if (death == Death::kill) {
      world.machine.kill();
    } else {
      world.machine.cut_power();
    }
    world.volume.reset();
    load.crashed();
    world.machine.power_on();
    if (death == Death::power_cut) world.boot_id = Guid::random();
  }

  void act_until_dead(std::uint64_t actions) {
    for (std::uint64_t i = 0; i < actions && world.machine.powered(); ++i) load.act();
  }

  /// Opens again, dying once more at a random operation of the recovery first.
  void recover() {
    world.machine.cut_at(world.machine.prng().below(kRecoveryCutMax));
    if (const Status opened = world.try_open(); opened) {
      REQUIRE(world.machine.powered());
    } else {
      REQUIRE(opened.error().code == Errc::io_error);
    }
    die();
    world.open();
  }

  void check() {
    load.check_live_after_crash(death == Death::kill);
    load.check_snapshots_after_crash(death == Death::kill);
  }

  CowWorld world;
  CowLoad load;
  Death death;
};

std::uint64_t count_operations(std::uint64_t seed_value, Death death) {
  Run run(seed_value, death);
  run.world.open();
  run.act_until_dead(kActions);
  const std::uint64_t operations = run.world.machine.operations();
  run.die();
  return operations;
}

void cut_and_check(std::uint64_t seed_value, Death death, std::uint64_t cut) {
  INFO("cut at operation " << cut);
  Run run(seed_value, death);
  run.world.machine.cut_at(cut);
  if (run.world.try_open()) run.act_until_dead(kActions);
  REQUIRE_FALSE(run.world.machine.powered());
  run.die();
  run.recover();
  run.check();
  run.act_until_dead(kActions / 4);
  run.die();
  run.world.open();
  run.check();
  run.load.settle();
  const SimMachine::Inline waits(run.world.machine);
  REQUIRE(run.world.volume->close());
}

void every_cut(Death death) {
  // The formatting of the world is not part of the load: the counter starts at its end.
  const std::uint64_t formatted = Run(seed(), death).world.machine.operations();
  const std::uint64_t end = count_operations(seed(), death);
  REQUIRE(end > formatted + 100);
  const std::uint64_t step =
      long_run() ? 1 : std::max<std::uint64_t>(1, (end - formatted) / kSampleShort);
  for (std::uint64_t cut = formatted + seed() % step; cut < end; cut += step) {
    cut_and_check(seed(), death, cut);
  }
}

}  // namespace

TEST_CASE("a power cut at any disk operation costs no flushed write and no persistent snapshot",
          "[cow][crash]") {
  every_cut(Death::power_cut);
}

TEST_CASE("kill -9 at any disk operation costs nothing that had completed", "[cow][crash]") {
  every_cut(Death::kill);
}
