// SPDX-License-Identifier: Apache-2.0
//
// Purpose: does a checkpoint ever miss a change, when the power fails or the process dies?
// Method: a load with snapshots and checkpoints is cut at an operation, opened again with a second
// cut in the recovery, and what the volume then shows is compared with the full image of every
// point in time that is left: a chunk that differs has to be among the changed blocks. Then it goes
// on and is cut again. Making and removing a checkpoint is cut at every operation in any case, the
// load at a sample (UMBRA_LONG=1: at every one).
#include <algorithm>
#include <list>

#include "tests/support/change_watch.h"
#include "tests/support/seed.h"

using namespace umbra;
using namespace umbra::test;

namespace {

constexpr std::uint64_t kActions = 400;
constexpr std::uint64_t kSampleShort = 100;
constexpr std::uint64_t kRecoveryCutMax = 12;

enum class Death { power_cut, kill };

CowWorldOptions small_world() {
  CowWorldOptions options;
  options.origin_bytes = 512U << 10U;
  options.chunk_bytes = 4U << 10U;  // 128 chunks, 8 regions.
  options.segments = 2;
  options.segments_max = 8;
  return options;
}

CowLoadOptions stamped_load() {
  CowLoadOptions options;
  options.zeroes_and_discards = false;
  options.write_bytes_max = 16U << 10U;
  options.snapshots_max = 3;
  options.free_blocks = true;
  return options;
}

struct Run {
  Run(std::uint64_t seed_, Death death_)
      : world(seed_, small_world()),
        load(world, seed_ + 1, stamped_load()),
        watch(world, load, seed_ + 2),
        death(death_) {}

  void act_until_dead(std::uint64_t actions) {
    for (std::uint64_t i = 0; i < actions && world.machine.powered(); ++i) {
      load.act();
      watch.act();
    }
  }
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
  void recover() {
    world.machine.cut_at(world.machine.prng().below(kRecoveryCutMax));
    (void)world.try_open();
    die();
    world.open();
  }
  void check() {
    load.check_live_after_crash(death == Death::kill);
    load.check_snapshots_after_crash(death == Death::kill);
    watch.check(world.twin);
  }

  CowWorld world;
  CowLoad load;
  ChangeWatch watch;
  Death death;
};

void every_cut(Death death) {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
  {
    Run run(seed(), death);
    begin = run.world.machine.operations();
    run.world.open();
    run.act_until_dead(kActions);
    end = run.world.machine.operations();
    run.die();
  }
  REQUIRE(end > begin + 100);
  const std::uint64_t step =
      long_run() ? 1 : std::max<std::uint64_t>(1, (end - begin) / kSampleShort);
  std::uint64_t pairs = 0;
  for (std::uint64_t cut = begin + seed() % step; cut < end; cut += step) {
    INFO("cut at operation " << cut);
    Run run(seed(), death);
    run.world.machine.cut_at(cut);
    if (run.world.try_open()) run.act_until_dead(kActions);
    run.die();
    run.recover();
    run.check();
    run.act_until_dead(kActions / 2);
    run.die();
    run.world.open();
    run.check();
    run.load.settle();
    {
      const SimMachine::Inline waits(run.world.machine);
      REQUIRE(run.world.volume->close());
    }
    run.world.volume.reset();
    run.world.open();
    run.watch.check(run.world.twin);
    pairs += run.watch.pairs;
  }
  REQUIRE(pairs > 500);
}

// A volume with two checkpoints and changes after each, of which one is removed or a third is made.
struct Story {
  explicit Story(Death death_) : run(seed(), death_) {
    CowWorld& world = run.world;
    world.open();
    for (int i = 0; i < 2; ++i) {
      take();
      write(static_cast<std::uint64_t>(i) * 5);
      run.watch.create();
    }
    write(20);
    // For an auto-release one nothing was flushed yet: a checkpoint of it has to.
    write(30);
    take(false);
  }
  void take(bool persistent = true) {
    const SnapshotId id = run.world.take(persistent);
    run.world.machine.run_until_idle();
    run.load.known[id] = {std::make_shared<const Image>(run.world.images.at(id)), persistent, true};
  }
  /// Acknowledged, or still waiting when everything stands still: the power is off.
  void write(std::uint64_t chunk) {
    CowWorld& world = run.world;
    Write& write = writes.emplace_back();
    write.buffer.resize(kSector);
    stamp(write.buffer, chunk << 12U, ++world.sequence);
    write.request.op = block::Op::write;
    write.request.offset_bytes = chunk << 12U;
    write.request.size_bytes = kSector;
    write.request.buffer = write.buffer.data();
    world.volume->live().submit(write.request);
    world.machine.run_until_idle();
    if (!world.machine.powered()) return;
    std::copy(write.buffer.begin(), write.buffer.end(),
              world.twin.begin() + static_cast<std::ptrdiff_t>(chunk << 12U));
  }

  struct Write {
    block::Request request;
    Image buffer;
    Write() {
      request.complete = [](block::Request&) noexcept {};
    }
  };
  std::list<Write> writes;  // Those that wait are failed when the volume goes.
  Run run;
};

template <class Act>
void cut_everywhere(Death death, Act act) {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
  {
    Story story(death);
    begin = story.run.world.machine.operations();
    act(story);
    end = story.run.world.machine.operations();
  }
  REQUIRE(end > begin + 2);
  for (std::uint64_t cut = begin; cut < end; ++cut) {
    INFO("cut at operation " << cut << " of " << begin << " to " << end);
    Story story(death);
    story.run.world.machine.cut_at(cut);
    act(story);
    story.run.die();
    story.run.recover();
    Image live;
    REQUIRE(story.run.world.read(story.run.world.volume->live(), live) == 0);
    story.run.watch.check(live);
  }
}

}  // namespace

TEST_CASE("a power cut at any operation makes no checkpoint miss a change", "[cow][crash]") {
  every_cut(Death::power_cut);
}

TEST_CASE("kill -9 at any operation makes no checkpoint miss a change", "[cow][crash]") {
  every_cut(Death::kill);
}

TEST_CASE("making, using and removing a checkpoint is cut at every operation", "[cow][crash]") {
  for (const Death death : {Death::power_cut, Death::kill}) {
    cut_everywhere(death, [](Story& story) { story.run.watch.create(); });
    cut_everywhere(death, [](Story& story) { story.run.watch.remove(); });
    cut_everywhere(death, [](Story& story) {
      story.write(40);
      story.write(41);
      story.write(100);
    });
    cut_everywhere(death, [](Story& story) {
      const SimMachine::Inline waits(story.run.world.machine);
      (void)story.run.world.volume->close();
    });
  }
}
