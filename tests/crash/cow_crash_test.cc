// SPDX-License-Identifier: Apache-2.0
//
// Purpose: what survives when the power fails, or the process dies, at every disk operation?
// Method: a load with a fixed seed is run once to count the operations that change a disk. Then it
// is run again for each of them, and cut there. The volume is opened again, with a second cut at a
// random operation of the recovery, and must show every flushed write and every persistent snapshot
// that was confirmed; then the load goes on, is cut a second time, and all of it must hold again:
// nothing that the first recovery left behind may come back.
// Random loads differ in what they are made of: recovery windows and reverts, a maximum of the diff
// area that changes, moves of the diff area, syncs of the origin or of the diff area that fail once
// or from then on, and then lose what they should have made durable. A cut in a move is followed by
// one in its settling, or in the recovery after that. Normal runs take a sample of the cuts,
// UMBRA_LONG=1 takes every one, and 100,000 of random loads (UMBRA_CUTS=N: another number). The
// growth of the snapshot table, which takes 512 snapshots to get to, is cut at every operation in
// any case.
#include <algorithm>
#include <cstdlib>

#include "provider/format/diff_area.h"
#include "tests/support/cow_load.h"
#include "tests/support/memory_lost_store.h"
#include "tests/support/seed.h"

using namespace umbra;
using namespace umbra::test;

namespace {

constexpr std::uint64_t kActions = 400;  // Of one load, before the first cut.
constexpr std::uint64_t kSampleShort = 60;
constexpr std::uint64_t kRecoveryCutMax = 12;
constexpr std::uint64_t kRandomCutMax = 600;
constexpr std::uint64_t kRandomCutsShort = 60;
constexpr std::uint64_t kRandomCutsLong = 100'000;

enum class Death { power_cut, kill };

CowWorldOptions small_world(bool shares = false) {
  CowWorldOptions options;
  options.reflink = shares;
  options.origin_bytes = 256U << 10U;
  options.chunk_bytes = 4U << 10U;
  options.segments = 2;
  options.segments_max = 8;
  return options;
}

// What a load is made of.
struct Recipe {
  bool history = true;  // Recovery windows, and reverts where no block is exempt.
  bool free_blocks = false;
  bool resizes = false;
  bool syncs_fail = false;
  bool shares = false;  // Old content is shared, not copied.
  bool moves = false;   // Of the diff area.
};
constexpr Recipe kReverts;
constexpr Recipe kFreeBlocks{true, true, false, false, false, false};
constexpr Recipe kShares{true, false, false, false, true, false};

CowLoadOptions stamped_load(const Recipe& recipe = {}) {
  CowLoadOptions options;
  options.zeroes_and_discards = false;  // Every sector then says which write it shows.
  options.write_bytes_max = 24U << 10U;
  options.snapshots_max = 4;
  options.windows = options.live_reads = recipe.history;
  options.reverts = recipe.history;
  options.free_blocks = recipe.free_blocks;
  options.moves = recipe.moves;
  if (recipe.resizes) {
    options.segments_least = 2;
    options.segments_most = 10;
  }
  return options;
}

struct Run {
  Run(std::uint64_t seed_, Death death_, const Recipe& recipe_ = {})
      : world(seed_, small_world(recipe_.shares)),
        load(world, seed_ + 1, stamped_load(recipe_)),
        death(death_),
        recipe(recipe_) {
    lost_store.machine = &world.machine;
    world.lost_store = &lost_store;
    // Where the area is moved to, sharing may be possible or not.
    world.spare.can_share = recipe.shares && world.machine.prng().chance(1, 2);
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
    for (SimDisk* disk : {&world.origin, &world.diff, &world.spare}) {
      disk->fault = nullptr;
      disk->failed_flush_drops = false;
    }
    if (death == Death::power_cut) world.boot_id = Guid::random();
  }

  void act_until_dead(std::uint64_t actions) {
    const std::uint64_t failing_at =
        recipe.syncs_fail ? world.machine.prng().below(actions) : actions;
    for (std::uint64_t i = 0; i < actions && world.machine.powered(); ++i) {
      if (i == failing_at) fail_syncs();
      load.act();
    }
  }

  /// Of one disk, once or from now on. A revert would end with it, and its writes.
  void fail_syncs() {
    if (world.volume->revert_status().under_way) return;
    load.syncs_fail();
    Prng& prng = world.machine.prng();
    SimDisk& disk = prng.chance(1, 2) ? world.origin : *world.area;
    // What is in the page cache outlives a killed process, durable or not.
    disk.failed_flush_drops = death == Death::power_cut;
    std::uint64_t times = prng.chance(1, 2) ? 1 : ~std::uint64_t{0};
    disk.fault = [times](const block::Request& request) mutable {
      if (request.op != block::Op::flush || times == 0) return 0;
      --times;
      return EIO;
    };
  }

  /// Opens again, dying once more at a random operation of the recovery first. True: within it.
  bool recover() {
    world.machine.cut_at(world.machine.prng().below(kRecoveryCutMax));
    Status opened = load.settle_move();
    if (opened) opened = world.try_open();
    if (opened) {
      REQUIRE(world.machine.powered());
    } else {
      REQUIRE(opened.error().code == Errc::io_error);
    }
    die();
    open();
    return !opened;
  }
  void open() {
    REQUIRE(load.settle_move());
    load.check_one_in_force();
    world.open();
  }

  void check() {
    load.check_live_after_crash(death == Death::kill);
    load.check_snapshots_after_crash(death == Death::kill);
  }

  MemoryLostStore lost_store;
  CowWorld world;
  CowLoad load;
  Death death;
  Recipe recipe;
};

std::uint64_t count_operations(std::uint64_t seed_value, Death death, const Recipe& recipe) {
  Run run(seed_value, death, recipe);
  run.world.open();
  run.act_until_dead(kActions);
  const std::uint64_t operations = run.world.machine.operations();
  CHECK((run.world.diff.times_shared + run.world.spare.times_shared > 0) == recipe.shares);
  run.die();
  return operations;
}

struct Cuts {
  std::uint64_t all = 0;  // How often it died in the middle of something.
  std::uint64_t in_moves = 0;
};

Cuts cut_and_check(std::uint64_t seed_value, Death death, std::uint64_t cut,
                   const Recipe& recipe = {}, bool surely = true) {
  INFO("cut at operation "
       << cut << ", seed " << seed_value << (death == Death::kill ? ", kill" : ", power")
       << (recipe.history ? ", history" : "") << (recipe.free_blocks ? ", free blocks" : "")
       << (recipe.resizes ? ", resizes" : "") << (recipe.syncs_fail ? ", syncs fail" : "")
       << (recipe.shares ? ", sharing" : "") << (recipe.moves ? ", moves" : ""));
  Run run(seed_value, death, recipe);
  run.world.machine.cut_at(cut);
  if (run.world.try_open()) run.act_until_dead(kActions);
  if (surely) REQUIRE_FALSE(run.world.machine.powered());
  run.die();
  const std::uint64_t in_moves = run.load.moves_cut;
  const bool in_recovery = run.recover();
  run.check();
  run.act_until_dead(kActions / 4);
  run.die();  // Between two operations, with requests in flight.
  run.open();
  run.check();
  run.load.settle();
  run.load.check_all();
  const SimMachine::Inline waits(run.world.machine);
  REQUIRE(run.world.volume->close());
  return {in_recovery ? 3U : 2U, in_moves};
}

void every_cut(Death death, const Recipe& recipe) {
  // The formatting of the world is not part of the load: the counter starts at its end.
  const std::uint64_t formatted = Run(seed(), death).world.machine.operations();
  const std::uint64_t end = count_operations(seed(), death, recipe);
  REQUIRE(end > formatted + 100);
  const std::uint64_t step =
      long_run() ? 1 : std::max<std::uint64_t>(1, (end - formatted) / kSampleShort);
  for (std::uint64_t cut = formatted + seed() % step; cut < end; cut += step) {
    (void)cut_and_check(seed(), death, cut, recipe);
  }
}

// Every run another load, cut somewhere.
void random_cuts(std::uint64_t wanted) {
  const std::uint64_t formatted = Run(seed(), Death::kill).world.machine.operations();
  Cuts cuts;
  std::uint64_t runs = 0;
  for (; cuts.all < wanted; ++runs) {
    Prng prng(seed() + runs);
    const Death death = prng.chance(3, 4) ? Death::power_cut : Death::kill;
    const Recipe recipe{prng.chance(2, 3), prng.chance(1, 3), prng.chance(1, 3),
                        prng.chance(1, 3), prng.chance(1, 3), prng.chance(1, 3)};
    const Cuts more =
        cut_and_check(prng.next(), death, formatted + prng.below(kRandomCutMax), recipe, false);
    cuts.all += more.all;
    cuts.in_moves += more.in_moves;
  }
  if (wanted > kRandomCutsShort)
    WARN(cuts.all << " cuts in " << runs << " runs, each of a load of its own, " << cuts.in_moves
                  << " of them in moves, seed " << seed());
}

// --- the snapshot table grows ---

// An area whose table has no free slot, as bytes: every run starts from it.
struct FullTable {
  FullTable() {
    CowWorld world(seed(), table_world());
    world.open();
    for (std::uint32_t i = 0; i < format::kTableSlots; ++i) {
      if (i % 4 == 0) REQUIRE(world.write(i % 32 * kSector, kSector) == 0);
      const SnapshotId id = world.take(true);
      shown[id] = world.images.at(id);
      world.images.clear();
    }
    volume_id = world.volume_id;
    boot_id = world.boot_id;
    world.volume.reset();
    origin = world.origin.bytes();
    diff = world.diff.bytes();
    // What an earlier use left in the segments that are free now.
    const format::Layout layout = format::Layout::of(table_world().chunk_bytes, 512);
    for (std::uint64_t segment = 1; segment < layout.segments_in(diff.size()); ++segment) {
      const auto at = static_cast<std::ptrdiff_t>(layout.slot_offset(segment, 0));
      const auto end = static_cast<std::ptrdiff_t>(layout.segment_offset(segment + 1));
      std::fill(diff.begin() + at, diff.begin() + end, std::byte{0xA5});
    }
  }
  static CowWorldOptions table_world() {
    CowWorldOptions options = small_world();
    options.origin_bytes = 16U << 10U;
    options.segments_max = 4;
    return options;
  }

  VolumeId volume_id;
  Guid boot_id;
  Image origin;
  Image diff;
  std::map<SnapshotId, Image> shown;
};

struct TableRun {
  TableRun(const FullTable& full, Death death_)
      : world(seed(), FullTable::table_world()), death(death_) {
    world.volume_id = full.volume_id;
    world.boot_id = full.boot_id;
    world.origin.bytes() = full.origin;
    world.diff.bytes() = full.diff;
    world.origin.settle();
    world.diff.settle();
    world.twin = full.origin;
    world.images = full.shown;
    world.open();
    for (std::uint32_t i = 0; i < format::kTableSlots; ++i) (void)world.next_id();
  }

  /// False: it was cut before it was confirmed.
  bool try_to_take(bool persistent = true) {
    cow::PrepareRequest request;
    request.id = made = world.next_id();
    request.persistent = persistent;
    if (!world.volume->prepare(request)) return false;
    world.volume->hold();
    REQUIRE(world.volume->drain(Duration::zero()));
    world.volume->commit(made, 1);
    world.volume->release();
    // Of a set so large that its slot is more than one sector, and can be torn.
    std::vector<SnapshotId> members(60, made);
    return world.volume->post_commit(made, members) && world.volume->confirm(made);
  }

  void die_and_open() {
    for (int again = 0; again < 2; ++again) {  // The second time in the recovery.
      if (death == Death::kill) {
        world.machine.kill();
      } else {
        world.machine.cut_power();
      }
      world.volume.reset();
      world.machine.power_on();
      if (death == Death::power_cut) world.boot_id = Guid::random();
      if (again == 0) {
        world.machine.cut_at(world.machine.prng().below(kRecoveryCutMax));
        (void)world.try_open();
      }
    }
    world.open();
  }

  CowWorld world;
  Death death;
  SnapshotId made;
};

// An auto-release snapshot outlives a kill. Nothing but its own growth writes the superblock.
void cut_growth(Death death, bool persistent = true) {
  const FullTable full;
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
  {
    TableRun run(full, death);
    begin = run.world.machine.operations();
    REQUIRE(run.try_to_take(persistent));
    end = run.world.machine.operations();
  }
  REQUIRE(end - begin > 16);                            // Clearing, naming, and the slot itself.
  for (std::uint64_t cut = begin; cut <= end; ++cut) {  // The last one: when all is done.
    INFO("cut at operation " << cut << " of " << begin << " to " << end);
    TableRun run(full, death);
    run.world.machine.cut_at(cut);
    const bool confirmed = run.try_to_take(persistent);
    const SnapshotId first = run.made;
    run.die_and_open();
    const auto records = run.world.volume->list();
    const bool there = std::any_of(records.begin(), records.end(),
                                   [&](const auto& record) { return record.id == first; });
    REQUIRE((there || !confirmed));
    if (there) run.world.images[first] = run.world.twin;
    REQUIRE(records.size() == run.world.images.size());
    run.world.check_all();
    // The next one grows the table, or what has become of the first attempt is used.
    REQUIRE(run.try_to_take());
    run.world.images[run.made] = run.world.twin;
    REQUIRE(run.world.write(0, 8 * kSector) == 0);
    REQUIRE(run.world.run(block::Op::flush) == 0);
    run.die_and_open();
    REQUIRE(run.world.volume->list().size() == run.world.images.size());
    run.world.check_all();
  }
}

}  // namespace

TEST_CASE("a power cut at any operation of a growing snapshot table loses no snapshot",
          "[cow][crash]") {
  cut_growth(Death::power_cut);
}

TEST_CASE("kill -9 at any operation of a growing snapshot table loses no snapshot",
          "[cow][crash]") {
  cut_growth(Death::kill);
  cut_growth(Death::kill, false);
}

TEST_CASE("a power cut at any disk operation costs no flushed write and no persistent snapshot",
          "[cow][crash]") {
  every_cut(Death::power_cut, kReverts);
  every_cut(Death::power_cut, kFreeBlocks);
}

TEST_CASE("kill -9 at any disk operation costs nothing that had completed", "[cow][crash]") {
  every_cut(Death::kill, kReverts);
  every_cut(Death::kill, kFreeBlocks);
}

TEST_CASE("a power cut while old content is shared costs nothing that was promised",
          "[cow][crash]") {
  every_cut(Death::power_cut, kShares);
}

TEST_CASE("kill -9 while old content is shared costs nothing that had completed", "[cow][crash]") {
  every_cut(Death::kill, kShares);
}

TEST_CASE("power cuts and kills of random loads cost nothing that was promised", "[cow][crash]") {
  const char* const wanted = std::getenv("UMBRA_CUTS");
  random_cuts(wanted != nullptr ? std::strtoull(wanted, nullptr, 10)
              : long_run()      ? kRandomCutsLong
                                : kRandomCutsShort);
}
