// SPDX-License-Identifier: Apache-2.0
//
// Purpose: a diff area is moved under load, and the power fails, or the process dies, at every disk
// operation: is exactly one of the two areas in force, and has it everything?
// Method: as cow_crash_test.cc. After the cut settle_move() is asked which area counts; it is cut
// itself, and so is the open that follows. The other area must refuse to be opened, before and
// after. Normal runs take a sample of the cuts in the copying and every one in the switch,
// UMBRA_LONG=1 takes every one. For cuts in the switch, the settling too is cut at each of its
// operations.
#include "provider/cow/migrate.h"

#include <algorithm>
#include <optional>

#include "tests/support/cow_load.h"
#include "tests/support/seed.h"

using namespace umbra;
using namespace umbra::test;

namespace {

constexpr std::uint64_t kActionsBefore = 150;
constexpr std::uint64_t kActionsAfter = 60;
constexpr std::uint64_t kSampleShort = 40;
constexpr std::uint64_t kSettleCutMax = 4;
constexpr std::uint64_t kRecoveryCutMax = 12;
constexpr std::uint64_t kMarksOperations = 12;  // Three marks, in two places each, with a flush.

enum class Death { power_cut, kill };

CowWorldOptions small_world(bool sharing) {
  CowWorldOptions options;
  options.reflink = sharing;
  options.origin_bytes = 256U << 10U;
  options.chunk_bytes = 4U << 10U;
  options.segments = 2;
  options.segments_max = 4;
  return options;
}

CowLoadOptions stamped_load() {
  CowLoadOptions options;
  options.zeroes_and_discards = false;
  options.write_bytes_max = 24U << 10U;
  options.snapshots_max = 4;
  return options;
}

struct Run {
  Run(std::uint64_t seed_, Death death_, bool sharing)
      : world(seed_, small_world(sharing)),
        target(world.machine, 0),
        load(world, seed_ + 1, stamped_load()),
        death(death_) {
    target.size_bytes_max = world.diff_bytes(8);
    world.open();
    act(kActionsBefore);
    load.settle();
  }

  void act(std::uint64_t actions) {
    for (std::uint64_t i = 0; i < actions && world.machine.powered(); ++i) load.act();
  }

  /// The load goes on between the steps of the move.
  Result<cow::MigrateReport> migrate() {
    const SimMachine::Inline waits(world.machine);
    cow::MigrateOptions options;
    options.hold_max = std::chrono::seconds(30);
    options.to_path = "/target";
    return world.volume->migrate(target, options, [this](const cow::MigrateProgress& progress) {
      const SimMachine::Queueing load_is_queued(world.machine);
      act(2);
      while (load.holding() && world.machine.powered()) load.act();
      // Nothing may be in flight at the switch: nobody would complete it.
      if (progress.bytes_copied >= progress.bytes_total) world.machine.run_until_idle();
      // A hold that the cut has met ends never, and would be waited for.
      return world.machine.powered() || !load.holding();
    });
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

  [[nodiscard]] Status try_open(SimDisk& disk) {
    const SimMachine::Inline waits(world.machine);
    auto opened = cow::Volume::open(world.origin, disk, world.open_options());
    if (!opened) return fail(opened.error());
    world.volume = std::move(*opened);
    return {};
  }

  /// Cut at operation `cut` of it, then again without a cut.
  SimDisk& settle(std::uint64_t cut) {
    const SimMachine::Inline waits(world.machine);
    world.machine.cut_at(world.machine.operations() + cut);
    const auto said = cow::settle_move(world.diff, target);
    if (!said) REQUIRE(said.error().code == Errc::io_error);
    settled_uncut = world.machine.powered();
    die();
    const auto side = cow::settle_move(world.diff, target);
    REQUIRE(side);
    if (said) REQUIRE(*said == *side);
    return *side == cow::MoveSide::target ? target : world.diff;
  }

  void recover(std::optional<std::uint64_t> settle_cut = std::nullopt) {
    {
      const Status from = try_open(world.diff);
      world.volume.reset();
      const Status to = try_open(target);
      world.volume.reset();
      REQUIRE((!from || !to));
    }
    SimDisk& in_force =
        settle(settle_cut ? *settle_cut : world.machine.prng().below(kSettleCutMax));
    SimDisk& other = &in_force == &target ? world.diff : target;
    REQUIRE_FALSE(try_open(other));
    world.machine.cut_at(world.machine.operations() + world.machine.prng().below(kRecoveryCutMax));
    if (const Status opened = try_open(in_force); !opened) {
      REQUIRE(opened.error().code == Errc::io_error);
    }
    die();
    const Status opened = try_open(in_force);
    INFO((opened ? std::string() : opened.error().to_string()));
    REQUIRE(opened);
    moved = &in_force == &target;
  }

  void check() {
    load.check_live_after_crash(death == Death::kill);
    load.check_snapshots_after_crash(death == Death::kill);
  }

  CowWorld world;
  SimDisk target;
  CowLoad load;
  Death death;
  bool moved = false;
  bool settled_uncut = false;
};

struct Operations {
  std::uint64_t begin = 0;
  std::uint64_t copied = 0;  // What follows is the switch, and what the load did meanwhile.
  std::uint64_t end = 0;
};

Operations count_operations(Death death, bool sharing) {
  Run run(seed(), death, sharing);
  Operations operations;
  operations.begin = run.world.machine.operations();
  std::uint64_t target_writes = 0;
  run.target.fault = [&](const block::Request& request) {
    // The superblocks are written for the first time before the copying.
    if (request.op == block::Op::write && request.offset_bytes <= (64U << 10U) &&
        ++target_writes == 3) {
      operations.copied = run.world.machine.operations();
    }
    return 0;
  };
  const auto report = run.migrate();
  INFO((report ? std::string() : report.error().to_string()));
  REQUIRE(report);
  run.target.fault = nullptr;
  operations.end = run.world.machine.operations();
  run.load.settle();
  run.load.check_all();
  run.die();
  return operations;
}

/// True: the move was complete.
bool cut_and_check(Death death, bool sharing, std::uint64_t cut) {
  INFO("cut at operation " << cut);
  Run run(seed(), death, sharing);
  run.world.machine.cut_at(cut);
  (void)run.migrate();
  REQUIRE_FALSE(run.world.machine.powered());
  run.die();
  run.recover();
  run.check();
  run.act(kActionsAfter);
  run.die();
  REQUIRE(run.try_open(run.moved ? run.target : run.world.diff));
  run.check();
  run.load.settle();
  const SimMachine::Inline waits(run.world.machine);
  REQUIRE(run.world.volume->close());
  return run.moved;
}

struct Settled {
  std::uint64_t to_source = 0;
  std::uint64_t to_target = 0;
};

// Cut in the switch, and in the settling at each of its operations.
Settled cut_settling(Death death, std::uint64_t cut) {
  Settled settled;
  for (std::uint64_t settle_cut = 0;; ++settle_cut) {
    INFO("cut at operation " << cut << ", then at " << settle_cut << " of the settling");
    Run run(seed(), death, false);
    run.world.machine.cut_at(cut);
    (void)run.migrate();
    run.die();
    run.recover(settle_cut);
    run.check();
    ++(run.moved ? settled.to_target : settled.to_source);
    run.load.settle();
    run.load.check_all();
    if (run.settled_uncut) return settled;
  }
}

void every_settling(Death death) {
  const Operations operations = count_operations(death, false);
  Settled all;
  bool cut_both = false;
  // Short: the marks, whose writes and flushes are the last of the move.
  const std::uint64_t first = long_run() ? operations.copied : operations.end - kMarksOperations;
  for (std::uint64_t cut = first; cut < operations.end; ++cut) {
    const Settled more = cut_settling(death, cut);
    // What the cut has left is settled one way, however often that is cut.
    CHECK((more.to_source == 0 || more.to_target == 0));
    cut_both = cut_both || more.to_source > 1;
    all.to_source += more.to_source;
    all.to_target += more.to_target;
  }
  CHECK(cut_both);
  CHECK(all.to_source > 0);
  CHECK(all.to_target > 1);
}

// With `sharing` the area that is left shares its old content with the origin; the new one cannot.
void every_cut(Death death, bool sharing) {
  const Operations operations = count_operations(death, sharing);
  REQUIRE(operations.copied > operations.begin + 50);
  REQUIRE(operations.end >= operations.copied + 11);
  const std::uint64_t copying = operations.copied - operations.begin;
  const std::uint64_t sample = sharing ? kSampleShort / 8 : kSampleShort;
  const std::uint64_t step = long_run() ? 1 : std::max<std::uint64_t>(1, copying / sample);
  bool moved = false;
  for (std::uint64_t cut = operations.begin + seed() % step; cut < operations.copied; cut += step) {
    moved = cut_and_check(death, sharing, cut) || moved;
  }
  CHECK_FALSE(moved);
  bool stayed = false;
  for (std::uint64_t cut = operations.copied; cut < operations.end; ++cut) {
    const bool now = cut_and_check(death, sharing, cut);
    stayed = stayed || !now;
    moved = moved || now;
  }
  CHECK(stayed);
  CHECK(moved);
}

}  // namespace

TEST_CASE("a move cut by a power failure leaves one area in force, with everything", "[crash]") {
  every_cut(Death::power_cut, false);
}

TEST_CASE("a move cut by a kill leaves one area in force, with everything", "[crash]") {
  every_cut(Death::kill, false);
}

TEST_CASE("a move away from an area that shares is cut as well", "[crash]") {
  every_cut(Death::power_cut, true);
}

TEST_CASE("what a cut move has left is settled the same way, however often that is cut",
          "[crash]") {
  every_settling(Death::power_cut);
  every_settling(Death::kill);
}
