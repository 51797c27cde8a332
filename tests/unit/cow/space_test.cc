// SPDX-License-Identifier: Apache-2.0
//
// A diff area that fills up and gets free again: it grows, the oldest snapshots go, freed space is
// given back, and everybody who should know is told.
#include <set>

#include "provider/format/diff_area.h"
#include "tests/support/space_world.h"

using namespace umbra;
using namespace umbra::test;
using cow::EventKind;

namespace {

constexpr std::uint64_t kChunk = kSpaceChunk;
constexpr std::uint64_t kSegmentChunks = kSpaceSegmentChunks;

}  // namespace

TEST_CASE("when the diff area is full the oldest snapshots go, one at a time",
          "[cow][space]"
          "[vss:VSS_PROTECTION_LEVEL.ORIGINAL_VOLUME]") {
  SpaceWorld world(big_chunks(4, 4));
  world.open();
  const SnapshotId first = world.take(true);
  world.overwrite(0, kSegmentChunks);  // A segment that only the first one needs.
  const SnapshotId second = world.take(true);
  world.overwrite(0, kSegmentChunks);
  const SnapshotId third = world.take(true);
  world.overwrite(0, 2 * kSegmentChunks);
  CHECK(world.told.count(EventKind::overflow) == 0);
  CHECK(world.volume->list().size() == 3);
  world.overwrite(2 * kSegmentChunks, 3 * kSegmentChunks);
  CHECK_FALSE(world.has(first));
  CHECK(world.has(second));
  CHECK(world.has(third));
  world.images.erase(first);
  world.check_all();
  CHECK(world.told.count(EventKind::overflow) == 1);
  REQUIRE(world.told.count(EventKind::snapshot_deleted) == 1);
  const cow::Event deleted = world.told.of(EventKind::snapshot_deleted).front();
  CHECK(deleted.snapshot == first);
  CHECK(deleted.removal == cow::Removal::evicted);
  CHECK(deleted.volume == world.volume_id);
  CHECK(world.volume->statistics().snapshots_evicted == 1);
  CHECK(world.volume->statistics().state == "ok");
  world.overwrite(3 * kSegmentChunks, 4 * kSegmentChunks);
  CHECK_FALSE(world.has(second));
  CHECK(world.told.count(EventKind::overflow) == 2);
  world.images.erase(second);
  world.check_all();
  CHECK(world.told.count(EventKind::snapshot_lost) == 0);
  world.reopen_after_power_cut();
  CHECK(world.volume->list().size() == 1);
  world.check_snapshot(third);
  // Of itself the newest takes up all: it is lost, and the write goes through.
  world.overwrite(4 * kSegmentChunks, 5 * kSegmentChunks);
  CHECK(world.has(third));
  CHECK(world.volume->statistics().snapshots_lost == 1);
  CHECK(world.told.count(EventKind::snapshot_lost) == 1);
}

TEST_CASE("an oldest snapshot that cannot be deleted does not keep the writes waiting",
          "[cow][space]") {
  SpaceWorld world(big_chunks(2, 2));
  world.open();
  (void)world.take(true);
  world.overwrite(0, kSegmentChunks);
  const SnapshotId newest = world.take(true);
  world.overwrite(0, kSegmentChunks);
  int failures = 1;  // Of the write of the slot.
  world.diff.fault = [&](const block::Request& request) {
    const bool slot = request.op == block::Op::write && request.offset_bytes >= 128U << 10U &&
                      request.offset_bytes < format::kSegmentsOffset;
    return slot && failures-- > 0 ? EIO : 0;
  };
  world.overwrite(kSegmentChunks, kSegmentChunks + 1);
  CHECK(world.volume->list().size() == 2);
  CHECK(world.volume->statistics().snapshots_evicted == 0);
  Image seen;
  CHECK(world.read_snapshot(newest, seen) == EIO);  // Lost instead.
}

TEST_CASE("remove returns at once; its space comes in the background, and stops for a close",
          "[cow][space]") {
  SpaceWorld world(big_chunks(4, 4));
  world.open();
  const SnapshotId old = world.take(true);
  world.overwrite(0, 2 * kSegmentChunks);
  const std::uint64_t used = world.volume->statistics().diff_used_bytes;
  world.remove(old);
  CHECK(world.volume->statistics().records == 2 * kSegmentChunks);
  CHECK(world.volume->statistics().diff_used_bytes == used);
  SECTION("by itself") {
    world.machine.run_until_idle();
    CHECK(world.volume->statistics().records == 0);
    CHECK(world.volume->statistics().diff_used_bytes < used);
  }
  SECTION("after a close before it began") {
    REQUIRE(world.volume->close());
    world.machine.run_until_idle();
    CHECK(world.volume->statistics().records == 2 * kSegmentChunks);
    world.volume.reset();
    world.open();
    CHECK(world.volume->statistics().records == 0);
  }
  SECTION("after a power cut before it began") {
    world.reopen_after_power_cut();
    CHECK(world.volume->statistics().records == 0);
  }
  (void)world.take(true);
  world.overwrite(0, 3 * kSegmentChunks);
  world.check_all();
}

TEST_CASE("data of free segments is given back to the host, and taken again before it is used",
          "[cow][space]") {
  SpaceWorld world(big_chunks(2, 20));  // What it was made with is not given back.
  const format::Layout layout = format::Layout::of(kChunk, 512);
  std::set<std::uint64_t> punched;
  bool held = false;
  world.diff.fault = [&](const block::Request& request) {
    if (request.op == block::Op::discard) {
      CHECK_FALSE(held);
      CHECK(request.size_bytes == kSegmentChunks * kChunk);  // All of the data, not the index.
      CHECK((request.offset_bytes - layout.data_offset - format::kSegmentsOffset) %
                layout.segment_bytes ==
            0);
      punched.insert(request.offset_bytes);
    } else if (request.op == block::Op::write) {
      CHECK(punched.count(request.offset_bytes) == 0);
    }
    return 0;
  };
  world.diff.host = [&](std::uint64_t offset_bytes, std::uint64_t) {
    punched.erase(offset_bytes);
    return true;
  };
  world.open();
  const SnapshotId kept = world.take(true);
  world.overwrite(0, kSegmentChunks);
  std::vector<SnapshotId> others;
  for (int i = 0; i < 3; ++i) {
    others.push_back(world.take(true));
    world.overwrite(0, 5 * kSegmentChunks);
  }
  CHECK(punched.empty());
  world.volume->hold();
  REQUIRE(world.volume->drain(Duration::zero()));
  held = true;
  for (const SnapshotId& id : others) world.remove(id);
  world.machine.run_until_idle();
  CHECK(punched.empty());
  held = false;
  world.volume->release();
  world.machine.run_until_idle();
  const cow::Statistics statistics = world.volume->statistics();
  CHECK(punched.size() >= 5);
  CHECK(statistics.diff_punched_bytes == punched.size() * layout.segment_bytes);
  CHECK(statistics.diff_ready_bytes >= 8 * layout.segment_bytes);
  world.check_all();
  const bool reopened = GENERATE(false, true);
  if (reopened) world.reopen_after_power_cut();
  world.check_snapshot(kept);
  for (int i = 0; i < 2; ++i) {
    (void)world.take(true);
    world.overwrite(0, 6 * kSegmentChunks);
  }
  CHECK(world.has(kept));
  world.check_all();
}

TEST_CASE("a host that is full stops growth; it is tried again, and at once when something went",
          "[cow][space]") {
  SpaceWorld world(big_chunks(2, 12));
  world.diff.size_bytes_max = world.diff_bytes(2);
  world.open();
  const SnapshotId first = world.take(true);
  world.overwrite(0, kSegmentChunks);
  const SnapshotId second = world.take(true);
  world.overwrite(0, kSegmentChunks);
  CHECK(world.told.count(EventKind::grow_failed) == 1);  // Not once per attempt.
  world.diff.size_bytes_max = world.diff_bytes(12);
  SECTION("by the clock") {
    world.clock.advance(std::chrono::seconds(100));
    world.executor.elapse();
    world.machine.run_until_idle();
    CHECK(world.told.count(EventKind::grown) >= 1);
    world.overwrite(0, 4 * kSegmentChunks);
    CHECK(world.has(first));
  }
  SECTION("after a delete") {
    world.remove(first);
    world.images.erase(first);
    world.machine.run_until_idle();
    world.overwrite(0, 4 * kSegmentChunks);
    CHECK(world.told.count(EventKind::grown) >= 1);
  }
  CHECK(world.has(second));
  world.check_all();
}

TEST_CASE("growth leaves alone what a sparse origin on the same host may still want",
          "[cow][space]") {
  struct Host final : cow::HostSpace {
    Result<cow::HostRoom> room() override { return left; }
    cow::HostRoom left;
  } host;
  SpaceWorld world(big_chunks(2, 12));
  world.host_space = &host;
  host.left = {100U << 20U, 100U << 20U};
  world.open();
  (void)world.take(true);
  world.overwrite(0, 2 * kSegmentChunks);
  CHECK(world.diff.geometry().size_bytes == world.diff_bytes(2));
  CHECK(world.told.count(EventKind::grow_failed) == 1);
  CHECK(world.told.of(EventKind::threshold_crossed).size() == 3);  // Of what the host gives.
  host.left.promised_bytes = 0;
  world.clock.advance(std::chrono::seconds(100));
  world.executor.elapse();
  world.machine.run_until_idle();
  CHECK(world.diff.geometry().size_bytes > world.diff_bytes(2));
  CHECK(world.told.count(EventKind::threshold_left) == 3);
  world.overwrite(0, 3 * kSegmentChunks);
  CHECK(world.volume->statistics().snapshots_lost == 0);
}

TEST_CASE("fast writes make the diff area grow by more at a time", "[cow][space]") {
  SpaceWorld world(big_chunks(2, 40));
  cow::OpenOptions options = world.open_options();
  options.grow_ahead_seconds = 10;
  {
    const SimMachine::Inline waits(world.machine);
    auto opened = cow::Volume::open(world.origin, world.diff, options);
    REQUIRE(opened);
    world.volume = std::move(*opened);
  }
  const std::uint64_t segment = format::Layout::of(kChunk, 512).segment_bytes;
  (void)world.take(true);
  world.overwrite(0, 1);  // One segment in this second: ten are wanted.
  CHECK(world.volume->statistics().diff_ready_bytes >= 10 * segment);
  CHECK(world.volume->statistics().diff_ready_bytes <= 13 * segment);
}

TEST_CASE("thresholds of the maximum are told once, and again after they were left",
          "[cow][space]") {
  SpaceWorld world(big_chunks(20, 20));
  world.open();
  const SnapshotId old = world.take(true);
  world.overwrite(0, 5 * kSegmentChunks);
  const SnapshotId middle = world.take(true);
  world.overwrite(0, 6 * kSegmentChunks);
  (void)world.take(true);
  world.overwrite(0, 4 * kSegmentChunks);
  CHECK(world.told.count(EventKind::threshold_crossed) == 0);  // 15 of 20, and a bit.
  world.overwrite(4 * kSegmentChunks, 5 * kSegmentChunks + 1);
  REQUIRE(world.told.count(EventKind::threshold_crossed) == 1);
  const cow::Event crossed = world.told.of(EventKind::threshold_crossed).front();
  CHECK(crossed.percent == 80);
  CHECK(crossed.used_bytes * 100 >= 80 * crossed.limit_bytes * 99 / 100);
  world.volume->hold();
  REQUIRE(world.volume->drain(Duration::zero()));
  world.remove(middle);
  world.remove(old);
  world.machine.run_until_idle();
  CHECK(world.told.count(EventKind::snapshot_deleted) == 0);  // Not while writes are held.
  world.volume->release();
  world.machine.run_until_idle();
  CHECK(world.told.count(EventKind::snapshot_deleted) == 2);
  CHECK(world.told.count(EventKind::threshold_left) == 1);
}

TEST_CASE("held writes are tried again by the clock, and told", "[cow][space]") {
  SpaceWorld world(big_chunks(4, 4));
  world.open();
  (void)world.take(true);
  world.diff.fault = [](const block::Request& request) {
    return request.op == block::Op::read ? 0 : EIO;
  };
  const auto& write = world.submit(0);
  world.machine.run_until_idle();
  CHECK_FALSE(write.completed);
  CHECK(world.told.count(EventKind::writes_held) == 1);
  world.executor.elapse();
  world.machine.run_until_idle();
  CHECK_FALSE(write.completed);
  CHECK(world.told.count(EventKind::writes_held) == 1);
  world.diff.fault = nullptr;
  world.executor.elapse();
  world.machine.run_until_idle();
  CHECK(write.completed);
  CHECK(write.request.error == 0);
  CHECK(world.told.count(EventKind::writes_released) == 1);
  CHECK(world.told.count(EventKind::snapshot_lost) == 1);
}
