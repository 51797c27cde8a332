// SPDX-License-Identifier: Apache-2.0
//
// Old content that is shared with the origin instead of copied: what is written to the diff area,
// in which order, the checksums that come later, and the host that has no space for what sharing
// promises.
#include <optional>

#include "provider/cow/check.h"
#include "provider/format/diff_area.h"
#include "tests/support/cow_load.h"
#include "tests/support/space_world.h"

using namespace umbra;
using namespace umbra::test;

namespace {

constexpr std::uint64_t kChunk = 16U << 10U;

CowWorldOptions sharing() {
  CowWorldOptions options;
  options.reflink = true;
  return options;
}

CowWorldOptions roomy(std::uint64_t segments, std::uint64_t segments_max,
                      std::uint64_t chunks = 96) {
  CowWorldOptions options = big_chunks(segments, segments_max, chunks);
  options.reflink = true;
  return options;
}

// What the diff area is asked to do, in order: 's' share, 'w' write, 'f' flush.
struct Order {
  explicit Order(CowWorld& world_) : world(world_) {
    world.diff.fault = [this](const block::Request& request) {
      if (request.op == block::Op::share) text += 's';
      if (request.op == block::Op::write) {
        text += 'w';
        written += request.size_bytes;
      }
      if (request.op == block::Op::flush) text += 'f';
      return refuse && request.op == block::Op::share ? error : 0;
    };
  }
  ~Order() { world.diff.fault = nullptr; }
  Order(const Order&) = delete;
  Order& operator=(const Order&) = delete;

  CowWorld& world;
  std::string text;
  std::uint64_t written = 0;
  bool refuse = false;
  int error = EXDEV;
};

// Reads everything, checked, and what open() and check() make of it.
void check_everywhere(CowWorld& world) {
  world.check_all();
  world.reopen();
  world.check_all();
}

// One of the two places of the first segment's index.
void spoil_index(CowWorld& world, std::uint32_t place) {
  const format::Layout layout = format::Layout::of(kChunk, 512);
  const auto at = static_cast<std::ptrdiff_t>(layout.unit_offset(0, 0, place));
  std::fill_n(world.diff.bytes().begin() + at, layout.index_bytes, std::byte{0x77});
  world.diff.settle();
}

void take_checksums(CowWorld& world) {
  for (int i = 0; i < 64; ++i) {
    world.executor.elapse();
    world.machine.run_until_idle();
  }
}

std::uint64_t unchecked(CowWorld& world) {
  cow::CheckOptions options;
  options.boot_id = world.boot_id;
  options.data = true;
  const auto report = cow::check(world.diff, options);
  REQUIRE(report);
  CHECK(report->damaged == 0);
  return report->chunks_unchecked;
}

}  // namespace

TEST_CASE("a shared chunk is not written to the diff area and is shown", "[cow]") {
  CowWorld world(1, sharing());
  world.open();
  CHECK(world.volume->statistics().reflink);
  (void)world.take(true);
  {
    const Order order(world);
    REQUIRE(world.write(4 * kChunk, 8 * kChunk) == 0);
    // The index, in two places, only after what it names is durable.
    CHECK(order.text == "sfwwf");
    CHECK(order.written < kChunk);
  }
  CHECK(world.volume->statistics().chunks_shared == 8);
  CHECK(world.volume->statistics().chunks_preserved == 8);
  check_everywhere(world);
}

TEST_CASE("for an auto-release snapshot nothing is flushed, and the index is still last", "[cow]") {
  CowWorld world(2, sharing());
  world.open();
  (void)world.take(false);
  const Order order(world);
  REQUIRE(world.write(0, kChunk) == 0);
  REQUIRE(world.write(7 * kChunk, kSector) == 0);
  CHECK(order.text == "swwsww");
  world.check_all();
}

TEST_CASE("the last part of a chunk is copied", "[cow]") {
  CowWorldOptions options = sharing();
  options.origin_bytes += 1536;
  CowWorld world(3, options);
  world.open();
  (void)world.take(true);
  const Order order(world);
  REQUIRE(world.write(options.origin_bytes - 1024, 1024) == 0);
  CHECK(order.text.find('s') == std::string::npos);
  CHECK(world.volume->statistics().chunks_shared == 0);
  world.check_all();
}

TEST_CASE("what cannot be shared is copied, also when that turns out late", "[cow]") {
  CowWorld world(4, sharing());
  world.open();
  (void)world.take(true);
  {
    Order order(world);
    order.refuse = true;
    order.error = EIO;  // This time only.
    REQUIRE(world.write(0, 2 * kChunk) == 0);
    CHECK(order.text == "swwwf");
    CHECK(world.volume->statistics().reflink);
    order.error = EXDEV;
    REQUIRE(world.write(4 * kChunk, kChunk) == 0);
    CHECK_FALSE(world.volume->statistics().reflink);
    order.text.clear();
    REQUIRE(world.write(6 * kChunk, kChunk) == 0);
    CHECK(order.text == "wwwf");
  }
  CHECK(world.volume->statistics().snapshots_lost == 0);
  CHECK(world.volume->statistics().chunks_shared == 0);
  check_everywhere(world);
}

TEST_CASE("where nothing can be shared, asking for it copies, and the check says why", "[cow]") {
  CowWorld world(5, sharing());
  world.diff.can_share = false;
  const Status possible = cow::check_sharing(world.origin, world.diff, kChunk);
  REQUIRE_FALSE(possible);
  CHECK(possible.error().code == Errc::not_supported);
  world.open();
  CHECK_FALSE(world.volume->statistics().reflink);
  (void)world.take(true);
  REQUIRE(world.write(0, kChunk) == 0);
  world.check_all();
}

TEST_CASE("checksums of shared chunks are taken later, and then verified", "[cow]") {
  CowWorld world(6, sharing());
  world.open();
  const SnapshotId id = world.take(true);
  REQUIRE(world.write(0, 8 * kChunk) == 0);
  CHECK(unchecked(world) == 8);
  // Until then what is damaged is served: nobody can tell.
  take_checksums(world);
  CHECK(unchecked(world) == 0);
  world.check_all();
  const bool reopened = GENERATE(false, true);
  if (reopened) world.reopen();
  world.check_all();
  const format::Layout layout = format::Layout::of(kChunk, 512);
  world.diff.bytes()[layout.slot_offset(0, 3) + 5000] ^= std::byte{1};
  Image seen;
  CHECK(world.read_snapshot(id, seen) == EIO);
  CHECK(world.volume->statistics().checksum_failures == 1);
}

TEST_CASE("scrub takes the checksums that are missing first", "[cow]") {
  CowWorld world(7, sharing());
  world.open();
  (void)world.take(true);
  REQUIRE(world.write(0, 8 * kChunk) == 0);
  const auto report = world.volume->scrub(nullptr);
  REQUIRE(report);
  CHECK(report->chunks_verified == 8);
  CHECK(unchecked(world) == 0);
  check_everywhere(world);
}

TEST_CASE("checksums wait for the end of a hold, and of what is being copied", "[cow]") {
  CowWorld world(8, sharing());
  world.open();
  (void)world.take(true);
  REQUIRE(world.write(0, 8 * kChunk) == 0);
  world.volume->hold();
  const std::uint64_t before = world.machine.operations();
  take_checksums(world);
  CHECK(world.machine.operations() == before);
  world.volume->release();
  take_checksums(world);
  CHECK(unchecked(world) == 0);
}

TEST_CASE("a power cut while checksums are written loses neither records nor data", "[cow]") {
  const auto [power, spoiled] = GENERATE(table<bool, std::optional<std::uint32_t>>(
      {{true, std::nullopt}, {false, std::nullopt}, {true, 0U}, {true, 1U}}));
  const std::uint64_t rounds = long_run() ? 8 : 2;
  for (std::uint64_t round = 0; round < rounds; ++round) {
    for (std::uint64_t cut = 0;; ++cut) {
      INFO("cut " << cut << (power ? ", power" : ", kill") << ", round " << round
                  << (spoiled ? ", one place is damaged" : ""));
      CowWorld world(seed() + 100 * round + cut, sharing());
      world.open();
      (void)world.take(true);
      for (std::uint64_t at = 0; at < 12; at += 3) REQUIRE(world.write(at * kChunk, kChunk) == 0);
      // A group of more than one unit, which can be torn.
      REQUIRE(world.write(16 * kChunk, 40 * kChunk) == 0);
      REQUIRE(world.run(block::Op::flush) == 0);
      if (spoiled) spoil_index(world, *spoiled);
      world.machine.cut_at(world.machine.operations() + cut);
      take_checksums(world);
      const bool was_cut = !world.machine.powered();
      if (power) {
        world.machine.cut_power();
      } else {
        world.machine.kill();
      }
      world.volume.reset();
      world.machine.power_on();
      if (power) world.boot_id = Guid::random();
      world.open();
      CHECK(world.volume->statistics().snapshots_lost == 0);
      world.check_all();
      take_checksums(world);
      CHECK(unchecked(world) == 0);
      world.check_all();
      if (!was_cut) break;
    }
  }
}

// --- space -------------------------------------------------------------------------------------

TEST_CASE("as much as is shared stays ready, and less when the origin was written", "[cow]") {
  SpaceWorld world(roomy(8, 32));
  world.open();
  (void)world.take(true);
  world.overwrite(0, 8);  // A sector of each: the rest of the chunk stays shared.
  const cow::Statistics one = world.volume->statistics();
  CHECK(one.chunks_shared == 8);
  CHECK(one.shared_bytes == 8 * kSpaceChunk);
  take_checksums(world);
  CHECK(world.volume->statistics().shared_bytes == 8 * (kSpaceChunk - 4096));
  for (std::uint64_t chunk = 0; chunk < 8; ++chunk) {
    REQUIRE(world.write_posted(world.volume->live(), world.twin, chunk * kSpaceChunk,
                               kSpaceChunk) == 0);
  }
  world.overwrite(8, 9);
  take_checksums(world);
  CHECK(world.volume->statistics().shared_bytes == kSpaceChunk - 4096);
  world.check_all();
}

TEST_CASE("without enough that is ready, chunks are copied", "[cow]") {
  SpaceWorld world(roomy(2, 2));
  world.open();
  (void)world.take(true);
  world.overwrite(0, 16);  // One segment; the other one is promised.
  CHECK(world.volume->statistics().chunks_shared == 16);
  // The parts that were not written are still shared: no segment may be used for more.
  const std::uint64_t shared = world.volume->statistics().chunks_shared;
  for (std::uint64_t chunk = 0; chunk < 16; ++chunk) {
    REQUIRE(world.write_posted(world.volume->live(), world.twin, chunk * kSpaceChunk,
                               kSpaceChunk) == 0);
  }
  world.overwrite(16, 24);  // A look says that nothing is shared any more.
  CHECK(world.volume->statistics().chunks_shared >= shared);
  CHECK(world.volume->statistics().snapshots_lost == 0);
  world.check_all();
}

TEST_CASE("no more is shared than lies ready, so that a full host costs no snapshot", "[cow]") {
  SpaceWorld world(roomy(3, 3));
  world.open();
  (void)world.take(true);
  // One segment is shared and one promised to it; what the third one takes is copied.
  world.overwrite(0, 32);
  CHECK(world.volume->statistics().chunks_shared == 16);
  CHECK(world.volume->statistics().chunks_preserved == 32);
  world.machine.host_free_bytes = 0;
  for (std::uint64_t chunk = 0; chunk < 32; ++chunk) {
    REQUIRE(world.write_posted(world.volume->live(), world.twin, chunk * kSpaceChunk,
                               kSpaceChunk) == 0);
  }
  CHECK(world.volume->statistics().snapshots_lost == 0);
  CHECK(world.volume->statistics().snapshots_evicted == 0);
  world.check_all();
}

TEST_CASE("on a full host live writes take what was promised to them", "[cow]") {
  SpaceWorld world(roomy(8, 8));
  world.open();
  (void)world.take(true);
  world.overwrite(0, 16);
  world.machine.host_free_bytes = 0;  // Somebody has filled it up.
  for (std::uint64_t chunk = 0; chunk < 16; ++chunk) {
    REQUIRE(world.write_posted(world.volume->live(), world.twin, chunk * kSpaceChunk,
                               kSpaceChunk) == 0);
  }
  CHECK(world.volume->statistics().snapshots_lost == 0);
  CHECK(world.volume->statistics().snapshots_evicted == 0);
  world.check_all();
  world.reopen();
  world.check_all();
}

TEST_CASE("when all that was promised is gone, snapshots go before a live write fails", "[cow]") {
  SpaceWorld world(roomy(8, 8));
  world.open();
  const SnapshotId old = world.take(true);
  world.overwrite(0, 16);
  const SnapshotId newest = world.take(true);
  world.overwrite(16, 24);
  // What was given back, somebody else takes at once.
  const bool greedy = GENERATE(true, false);
  world.machine.host_free_bytes = 0;
  world.origin.fault = [&](const block::Request& request) {
    if (greedy && request.op == block::Op::write) world.machine.host_free_bytes = 0;
    return 0;
  };
  for (std::uint64_t chunk = 0; chunk < 24; ++chunk) {
    INFO("chunk " << chunk);
    REQUIRE(world.write_posted(world.volume->live(), world.twin, chunk * kSpaceChunk,
                               kSpaceChunk) == 0);
  }
  world.machine.run_until_idle();
  world.origin.fault = nullptr;
  if (greedy) {
    CHECK_FALSE(world.has(old));
    CHECK(world.volume->statistics().snapshots_lost == 1);
    CHECK(world.volume->statistics().shared_bytes == 0);
    world.images.clear();
  }
  world.check_all();
  // Durable: it does not come back.
  world.reopen_after_power_cut();
  if (greedy) {
    REQUIRE(world.has(newest));
    CHECK(world.volume->find(newest)->lost);
  }
  world.check_all();
}

TEST_CASE("a live write to what never had space fails as it would without snapshots", "[cow]") {
  SpaceWorld world(roomy(8, 8));
  world.open();
  (void)world.take(true);
  world.overwrite(0, 4);
  // ENOSPC for another reason than sharing: nothing is given up for it, and it is not repeated for
  // ever.
  int left = 3;
  world.origin.fault = [&](const block::Request& request) {
    return request.op == block::Op::write && request.offset_bytes == 40 * kSpaceChunk && left-- > 0
               ? ENOSPC
               : 0;
  };
  REQUIRE(world.overwrite_one(40) == 0);
  CHECK(left < 0);
  world.origin.fault = nullptr;
  CHECK(world.volume->statistics().snapshots_lost == 0);
  CHECK(world.volume->statistics().snapshots_evicted == 0);
  world.check_all();
}

TEST_CASE("what is shared in free segments is given back before they are used again", "[cow]") {
  SpaceWorld world(roomy(4, 8, 64));
  world.open();
  for (int round = 0; round < 6; ++round) {
    const SnapshotId id = world.take(true);
    world.overwrite(0, 24);
    world.check_all();
    if (round == 3) {
      world.reopen();
      world.check_all();
    }
    world.remove(id);
    world.machine.run_until_idle();
  }
  take_checksums(world);
  (void)world.take(true);
  world.machine.run_until_idle();
  CHECK(world.volume->statistics().snapshots_lost == 0);
  // The segment that records go to next is kept.
  CHECK(world.volume->statistics().shared_bytes <= kSpaceSegmentChunks * kSpaceChunk);
  // And so says the host.
  CHECK(world.diff.shared_bytes(0, world.diff.geometry().size_bytes) <=
        kSpaceSegmentChunks * kSpaceChunk);
  world.overwrite(0, 24);
  world.check_all();
}

TEST_CASE("an area that was shared is known as such when it is opened for copying", "[cow]") {
  SpaceWorld world(roomy(8, 8));
  world.open();
  (void)world.take(true);
  world.overwrite(0, 8);
  world.options.reflink = false;
  world.reopen();
  CHECK_FALSE(world.volume->statistics().reflink);
  CHECK(world.volume->statistics().shared_bytes == 8 * (kSpaceChunk - 4096));
  world.machine.host_free_bytes = 0;
  for (std::uint64_t chunk = 0; chunk < 8; ++chunk) {
    REQUIRE(world.write_posted(world.volume->live(), world.twin, chunk * kSpaceChunk,
                               kSpaceChunk) == 0);
  }
  CHECK(world.volume->statistics().snapshots_lost == 0);
  world.check_all();
}
