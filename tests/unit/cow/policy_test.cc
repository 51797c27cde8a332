// SPDX-License-Identifier: Apache-2.0
//
// Which comes first, the volume or its copies: protection level and its faults, retention locks,
// another maximum.
#include "provider/cow/migrate.h"
#include "provider/format/diff_area.h"
#include "tests/support/space_world.h"

using namespace umbra;
using namespace umbra::test;
using cow::EventKind;
using cow::Fault;
using cow::ProtectionLevel;

namespace {

constexpr std::uint64_t kChunk = kSpaceChunk;
constexpr std::uint64_t kSegmentChunks = kSpaceSegmentChunks;
constexpr std::int64_t kSecond = 10'000'000;  // FILETIME ticks.
constexpr std::int64_t kDay = 86'400;

void check_offline(SpaceWorld& world, Fault fault) {
  const cow::Protection protection = world.volume->protection();
  CHECK(protection.offline);
  CHECK(protection.fault == fault);
  CHECK(protection.fault_filetime != 0);
  CHECK(world.write(0, kSector) == EIO);
  CHECK(world.run(block::Op::flush) == EIO);
  Image seen;
  CHECK(world.read(world.volume->live(), seen, 0, kSector) == EIO);
  CHECK(world.volume->statistics().snapshots_lost == 0);
  for (const auto& [id, image] : world.images) world.check_snapshot(id);
}

void lock(SpaceWorld& world, const SnapshotId& id, std::int64_t seconds) {
  REQUIRE(world.volume->set_retention({30 * kDay, 0}));
  REQUIRE(world.volume->retain(id, world.clock.wall_filetime() + seconds * kSecond));
}

}  // namespace

TEST_CASE("at protection level snapshot a full diff area costs the volume, not its copies",
          "[cow][policy]"
          "[vss:VSS_PROTECTION_LEVEL.SNAPSHOT][vss:VSS_PROTECTION_FAULT.DIFF_AREA_FULL]") {
  SpaceWorld world(big_chunks(2, 2));
  world.open();
  REQUIRE(world.volume->set_protection_level(ProtectionLevel::snapshot));
  (void)world.take(true);
  world.overwrite(0, kSegmentChunks);
  (void)world.take(true);
  world.overwrite(0, kSegmentChunks);
  CHECK(world.overwrite_one(kSegmentChunks) == EIO);
  check_offline(world, Fault::diff_area_full);
  REQUIRE(world.told.count(EventKind::protection_fault) == 1);
  CHECK(world.told.of(EventKind::protection_fault).front().fault == Fault::diff_area_full);
  CHECK(world.told.count(EventKind::snapshot_deleted) == 0);
  // It survives a restart, and is not left by the level.
  world.machine.cut_power();
  world.volume.reset();
  world.machine.power_on();
  world.boot_id = Guid::random();
  world.open();
  check_offline(world, Fault::diff_area_full);
  CHECK(world.volume->set_protection_level(ProtectionLevel::original_volume).error().code ==
        Errc::bad_state);
  REQUIRE(world.volume->set_protection_level(ProtectionLevel::snapshot));
  // Cleared without room, it comes back; with room, all goes on.
  REQUIRE(world.volume->clear_protection_fault());
  CHECK_FALSE(world.volume->protection().offline);
  world.twin = world.origin.bytes();
  CHECK(world.overwrite_one(2 * kSegmentChunks) == EIO);
  CHECK(world.volume->protection().offline);
  world.diff.size_bytes_max = world.diff_bytes(20);
  REQUIRE(world.volume->set_diff_maximum(world.diff_bytes(20)));
  world.machine.run_until_idle();
  REQUIRE(world.volume->clear_protection_fault());
  REQUIRE(world.volume->clear_protection_fault());  // No fault: nothing happens.
  world.overwrite(0, 3 * kSegmentChunks);
  world.check_all();
  CHECK(world.volume->statistics().state == "ok");
}

TEST_CASE("each thing that can go wrong with a copy is a fault of its own",
          "[cow][policy]"
          "[vss:VSS_PROTECTION_FAULT.COW_READ_FAILURE]"
          "[vss:VSS_PROTECTION_FAULT.COW_WRITE_FAILURE]") {
  SpaceWorld world(big_chunks(4, 4));
  world.open();
  REQUIRE(world.volume->set_protection_level(ProtectionLevel::snapshot));
  (void)world.take(true);
  world.overwrite(0, 1);
  Fault fault = Fault::none;
  bool over = false;
  SECTION("the origin cannot be read") {
    fault = Fault::cow_read_failure;
    world.origin.fault = [&](const block::Request& request) {
      return request.op == block::Op::read && !over ? EIO : 0;
    };
  }
  SECTION("the diff area cannot be written") {
    fault = Fault::cow_write_failure;
    world.diff.fault = [&](const block::Request& request) {
      const bool segment = request.offset_bytes >= format::kSegmentsOffset;
      return request.op == block::Op::write && segment && !over ? EIO : 0;
    };
  }
  CHECK(world.overwrite_one(kSegmentChunks) == EIO);
  over = true;
  check_offline(world, fault);
  REQUIRE(world.volume->clear_protection_fault());
  world.overwrite(kSegmentChunks, kSegmentChunks + 2);
  world.check_all();
}

TEST_CASE("a diff area that cannot be flushed is a fault of its own, until it is attached anew",
          "[cow][policy][vss:VSS_PROTECTION_FAULT.IO_FAILURE]") {
  SpaceWorld world(big_chunks(4, 4));
  world.open();
  REQUIRE(world.volume->set_protection_level(ProtectionLevel::snapshot));
  (void)world.take(true);
  world.overwrite(0, 1);
  bool over = false;
  world.diff.fault = [&](const block::Request& request) {
    return request.op == block::Op::flush && !over ? EIO : 0;
  };
  CHECK(world.overwrite_one(kSegmentChunks) == EIO);
  check_offline(world, Fault::io_failure);
  REQUIRE(world.told.count(EventKind::protection_fault) == 1);
  CHECK(world.told.of(EventKind::protection_fault).front().fault == Fault::io_failure);
  over = true;  // What the failed flush was for may be lost: no later one makes up for it.
  CHECK(world.volume->clear_protection_fault().error().code == Errc::io_error);
  world.machine.cut_power();
  world.volume.reset();
  world.machine.power_on();
  world.open();
  REQUIRE(world.volume->clear_protection_fault());
  world.twin = world.origin.bytes();
  world.overwrite(kSegmentChunks, kSegmentChunks + 2);
  world.check_all();
}

TEST_CASE("space that the host does not give, or gives too late, is a fault of its own",
          "[cow][policy]"
          "[vss:VSS_PROTECTION_FAULT.GROW_FAILED][vss:VSS_PROTECTION_FAULT.GROW_TOO_SLOW]") {
  SpaceWorld world(big_chunks(2, 12));
  world.diff.size_bytes_max = world.diff_bytes(2);  // The host is full.
  world.open();
  REQUIRE(world.volume->set_protection_level(ProtectionLevel::snapshot));
  (void)world.take(true);
  world.overwrite(0, kSegmentChunks);
  (void)world.take(true);
  world.overwrite(0, kSegmentChunks);
  REQUIRE(world.told.count(EventKind::grow_failed) == 1);
  Fault fault = Fault::grow_failed;
  SECTION("it has no room") { CHECK(world.overwrite_one(kSegmentChunks) == EIO); }
  SECTION("it has room again, but takes longer than a write may wait") {
    fault = Fault::grow_too_slow;
    world.clock.advance(std::chrono::seconds(100));  // It is tried again.
    world.diff.size_bytes_max = world.diff_bytes(12);
    const auto& first = world.submit(kSegmentChunks);
    CHECK_FALSE(first.completed);
    world.clock.advance(std::chrono::seconds(31));
    const auto& second = world.submit(kSegmentChunks + 1);
    world.machine.run_until_idle();
    CHECK(first.request.error == EIO);
    CHECK(second.request.error == EIO);
  }
  check_offline(world, fault);
  REQUIRE(world.told.count(EventKind::protection_fault) == 1);
  CHECK(world.told.of(EventKind::protection_fault).front().fault == fault);
  world.diff.size_bytes_max = world.diff_bytes(12);
  REQUIRE(world.volume->clear_protection_fault());
  world.twin = world.origin.bytes();
  world.overwrite(kSegmentChunks, 2 * kSegmentChunks);
  world.check_all();
}

TEST_CASE("damaged metadata that costs a copy is a fault, met by the next start",
          "[cow][policy][vss:VSS_PROTECTION_FAULT.META_DATA_CORRUPTION]") {
  SpaceWorld world(big_chunks(4, 4));
  world.open();
  const bool protects = GENERATE(true, false);
  if (protects) REQUIRE(world.volume->set_protection_level(ProtectionLevel::snapshot));
  const SnapshotId damaged = world.take(true);
  world.overwrite(0, 2);
  const SnapshotId whole = world.take(true);
  world.overwrite(0, 2);
  REQUIRE(world.volume->close());
  world.volume.reset();
  const format::Layout layout = format::Layout::of(kChunk, 512);
  for (std::uint32_t copy = 0; copy < 2; ++copy)
    world.diff.bytes()[layout.unit_offset(0, 0, copy) + 30] ^= std::byte{1};
  world.open();
  const auto check = [&] {
    const cow::Protection protection = world.volume->protection();
    CHECK(protection.offline == protects);
    CHECK(protection.fault == (protects ? Fault::meta_data_corruption : Fault::none));
    CHECK((protection.fault_filetime != 0) == protects);
    CHECK(world.run(block::Op::flush) == (protects ? EIO : 0));
    Image seen;
    CHECK(world.read_snapshot(damaged, seen) == EIO);
    world.check_snapshot(whole);
  };
  check();
  world.reopen_after_power_cut();
  check();
  REQUIRE(world.volume->clear_protection_fault());
  world.images.erase(damaged);
  world.overwrite(2, 4);
  world.reopen_after_power_cut();  // What is known to be lost is no new fault.
  CHECK_FALSE(world.volume->protection().offline);
  world.check_all();
}

TEST_CASE("a fault that cannot be written is met again after a restart, and nothing is lost",
          "[cow][policy]") {
  SpaceWorld world(big_chunks(4, 4));
  world.open();
  REQUIRE(world.volume->set_protection_level(ProtectionLevel::snapshot));
  (void)world.take(true);
  world.overwrite(0, 1);
  world.diff.fault = [](const block::Request& request) {
    return request.op == block::Op::read ? 0 : EIO;
  };
  CHECK(world.overwrite_one(1) == EIO);
  check_offline(world, Fault::cow_write_failure);
  CHECK_FALSE(world.volume->clear_protection_fault());
  SECTION("it is written when the diff area works again") {
    world.diff.fault = nullptr;
    world.executor.elapse();
    world.machine.run_until_idle();
    world.reopen_after_power_cut();
    check_offline(world, Fault::cow_write_failure);
  }
  SECTION("it is not written any more") {
    world.machine.kill();
    world.volume.reset();
    world.machine.power_on();
    world.diff.fault = nullptr;
    world.open();
    CHECK_FALSE(world.volume->protection().offline);
    world.overwrite(1, 2);
    world.check_all();
  }
}

TEST_CASE("a locked snapshot is deleted by nobody before its time", "[cow][policy]") {
  SpaceWorld world(big_chunks(3, 3));
  world.open();
  const SnapshotId locked = world.take(true);
  CHECK(world.volume->retain(locked, world.clock.wall_filetime() + kSecond).error().code ==
        Errc::bad_state);  // No policy.
  lock(world, locked, 10 * kDay);
  CHECK(world.volume->retain(locked, world.clock.wall_filetime() + 31 * kDay * kSecond)
            .error()
            .code == Errc::invalid_argument);
  CHECK(
      world.volume->retain(locked, world.clock.wall_filetime() + 9 * kDay * kSecond).error().code ==
      Errc::invalid_argument);
  const SnapshotId automatic = world.take(false);
  CHECK(world.volume->retain(automatic, world.clock.wall_filetime() + kSecond).error().code ==
        Errc::unsupported_context);
  CHECK(world.volume->remove(locked, true).error().code == Errc::access_denied);
  CHECK(world.volume->list().front().retain_until_filetime != 0);

  SECTION("a full diff area takes others, then faults the volume") {
    world.overwrite(0, kSegmentChunks);
    const SnapshotId newest = world.take(true);
    world.overwrite(0, 2 * kSegmentChunks);
    CHECK(world.overwrite_one(2 * kSegmentChunks) == EIO);
    CHECK_FALSE(world.has(automatic));
    CHECK(world.has(newest));
    world.images.erase(automatic);
    check_offline(world, Fault::diff_area_full);
  }
  SECTION("the maximum cannot be lowered at its cost") {
    world.overwrite(0, 2 * kSegmentChunks + 1);  // In three segments.
    const auto refused = world.volume->set_diff_maximum(world.diff_bytes(2));
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == Errc::access_denied);
    CHECK(world.has(automatic));
    CHECK(world.volume->statistics().diff_bytes_max == world.diff_bytes(3));
  }
  SECTION("the protection level cannot be lowered") {
    REQUIRE(world.volume->set_protection_level(ProtectionLevel::snapshot));
    CHECK(world.volume->set_protection_level(ProtectionLevel::original_volume).error().code ==
          Errc::access_denied);
  }
  SECTION("a clock that is set back does not help, nor does a restart") {
    world.clock.advance(std::chrono::hours(24 * 5));
    (void)world.take(true);  // Writes no superblock; the time is kept by the close.
    REQUIRE(world.volume->close());
    world.volume.reset();
    world.clock.advance(-std::chrono::hours(24 * 5));
    world.open();
    CHECK(world.volume->remove(locked, true).error().code == Errc::access_denied);
    // The policy's longest term counts from the highest time seen.
    CHECK(world.volume->retain(locked, world.clock.wall_filetime() + 33 * kDay * kSecond));
  }
  SECTION("nor does a revert to an older one, or a move") {
    const SnapshotId newer = world.take(true);
    CHECK(world.volume->check_retention(locked).has_value());
    CHECK(world.volume->check_retention().error().code == Errc::access_denied);
    lock(world, newer, 5 * kDay);
    const auto reverted = world.volume->begin_revert(locked);
    REQUIRE_FALSE(reverted);
    CHECK(reverted.error().code == Errc::access_denied);
    CHECK(reverted.error().to_string() ==
          world.volume->check_retention(locked).error().to_string());
    CHECK_FALSE(world.volume->revert_status().under_way);
    SimDisk target(world.machine, 0);
    target.size_bytes_max = world.diff_bytes(3);
    CHECK(world.volume->migrate(target, {}, [](const cow::MigrateProgress&) { return true; })
              .error()
              .code == Errc::access_denied);
    CHECK(target.geometry().size_bytes == 0);
    world.clock.advance(std::chrono::hours(24 * 6));
    CHECK(world.volume->begin_revert(locked));
  }
  SECTION("afterwards it is one like others") {
    world.clock.advance(std::chrono::hours(24 * 11));
    CHECK(world.volume->remove(locked, true));
  }
  SECTION("none is made that would leave less than the reserve") {
    REQUIRE(world.volume->set_retention({30 * kDay, 20 * kChunk}));
    world.overwrite(0, kSegmentChunks + 1);
    cow::PrepareRequest request;
    request.id = world.next_id();
    CHECK(world.volume->prepare(request).error().code == Errc::insufficient_storage);
  }
}

TEST_CASE("thresholds are kept, and told anew when they are others", "[cow][policy]") {
  SpaceWorld world(big_chunks(10, 10));
  world.open();
  CHECK(world.volume->set_thresholds({0, 50, 60}).error().code == Errc::invalid_argument);
  CHECK(world.volume->set_thresholds({50, 40, 60}).error().code == Errc::invalid_argument);
  CHECK(world.volume->set_thresholds({50, 60, 101}).error().code == Errc::invalid_argument);
  (void)world.take(true);
  world.overwrite(0, 4 * kSegmentChunks + 1);
  CHECK(world.told.count(EventKind::threshold_crossed) == 0);
  REQUIRE(world.volume->set_thresholds({30, 95, 95}));
  world.machine.run_until_idle();
  REQUIRE(world.told.count(EventKind::threshold_crossed) == 1);
  CHECK(world.told.of(EventKind::threshold_crossed).front().percent == 30);
  REQUIRE(world.volume->close());
  world.volume.reset();
  world.told.clear();
  world.open();
  world.overwrite(5 * kSegmentChunks, 5 * kSegmentChunks + 1);
  CHECK(world.told.count(EventKind::threshold_crossed) == 1);
}

TEST_CASE("what an open ends or finds lost is told, also if it fails later", "[cow][policy]") {
  SpaceWorld world(big_chunks(3, 3));
  world.open();
  const SnapshotId automatic = world.take(false);
  const SnapshotId kept = world.take(true);
  (void)world.begin(true);  // Prepared: nobody has seen it.
  REQUIRE(world.run(block::Op::flush) == 0);
  world.machine.cut_power();
  world.volume.reset();
  world.told.clear();
  world.machine.power_on();
  world.boot_id = Guid::random();
  const auto told_it = [&] {
    REQUIRE(world.told.count(EventKind::snapshot_deleted) == 1);
    const cow::Event event = world.told.of(EventKind::snapshot_deleted).front();
    CHECK(event.snapshot == automatic);
    CHECK(event.removal == cow::Removal::recovery);
    CHECK(event.who == "umbra-cowd");
  };
  SECTION("it works") {
    world.open();
    world.machine.run_until_idle();
    told_it();
  }
  SECTION("its origin was changed") {
    world.origin.bytes()[0] ^= std::byte{1};
    world.origin.settle();
    {
      const SimMachine::Inline waits(world.machine);
      CHECK(cow::Volume::open(world.origin, world.diff, world.open_options()).error().code ==
            Errc::origin_changed);
    }
    told_it();
    world.adjust = [](cow::OpenOptions& open) { open.accept_changed_origin = true; };
    world.open();
    world.machine.run_until_idle();
    told_it();  // Once.
    REQUIRE(world.told.count(EventKind::snapshot_lost) == 1);
    CHECK(world.told.of(EventKind::snapshot_lost).front().snapshot == kept);
  }
}

TEST_CASE("a lower maximum deletes the oldest and cuts the file; a higher one works at once",
          "[cow][policy]") {
  SpaceWorld world(big_chunks(2, 12));
  world.open();
  std::vector<SnapshotId> snapshots;
  for (int i = 0; i < 4; ++i) {
    snapshots.push_back(world.take(true));
    world.overwrite(0, 2 * kSegmentChunks);
  }
  REQUIRE(world.diff.geometry().size_bytes > world.diff_bytes(7));
  const auto lower = world.volume->set_diff_maximum(world.diff_bytes(5));
  REQUIRE(lower);
  CHECK(lower->deleted == std::vector<SnapshotId>{snapshots[0], snapshots[1]});
  CHECK(lower->used_bytes <= world.diff_bytes(5));
  world.images.erase(snapshots[0]);
  world.images.erase(snapshots[1]);
  world.machine.run_until_idle();
  CHECK(world.told.of(EventKind::snapshot_deleted).size() == 2);
  CHECK(world.told.of(EventKind::snapshot_deleted)[0].removal == cow::Removal::shrunk);
  cow::Statistics statistics = world.volume->statistics();
  CHECK(statistics.diff_bytes_max == world.diff_bytes(5));
  // What the host has to give for it is within the maximum, wherever the records lie.
  CHECK(world.diff.geometry().size_bytes - statistics.diff_punched_bytes <= world.diff_bytes(5));
  world.check_all();
  world.reopen_after_power_cut();
  world.check_all();
  CHECK(world.volume->statistics().diff_bytes_max == world.diff_bytes(5));
  world.overwrite(2 * kSegmentChunks, 3 * kSegmentChunks);  // Full, at the new maximum.
  world.overwrite(3 * kSegmentChunks, 4 * kSegmentChunks);
  CHECK_FALSE(world.has(snapshots[2]));
  world.images.erase(snapshots[2]);
  const auto higher = world.volume->set_diff_maximum(world.diff_bytes(12));
  REQUIRE(higher);
  CHECK(higher->deleted.empty());
  world.overwrite(4 * kSegmentChunks, 6 * kSegmentChunks);
  CHECK(world.has(snapshots[3]));
  world.check_all();
  CHECK(world.volume->set_diff_maximum(4096).error().code == Errc::insufficient_storage);
  REQUIRE(world.volume->set_diff_maximum(0));
  CHECK(world.volume->statistics().diff_bytes_max == 0);
}

TEST_CASE("a diff area that is gone and comes back is told, and what it kept is there",
          "[cow][policy]") {
  SpaceWorld world(big_chunks(4, 4));
  world.open();
  const SnapshotId first = world.take(false);
  world.overwrite(0, 2);
  const SnapshotId second = world.take(false);
  bool gone = true;
  world.diff.fault = [&](const block::Request&) { return gone ? EIO : 0; };
  const auto& write = world.submit(0);
  world.machine.run_until_idle();
  CHECK_FALSE(write.completed);  // Neither a copy nor the loss of one can be written.
  world.executor.elapse();
  world.machine.run_until_idle();
  CHECK(world.told.count(EventKind::diff_area_gone) == 1);
  Image seen;
  CHECK(world.read_snapshot(first, seen) == EIO);
  gone = false;
  world.executor.elapse();
  world.machine.run_until_idle();
  CHECK(world.told.count(EventKind::diff_area_back) == 1);
  world.executor.elapse();
  world.machine.run_until_idle();
  CHECK(write.completed);
  CHECK(write.request.error == 0);
  world.check_snapshot(first);  // It had its record of that chunk.
  CHECK(world.read_snapshot(second, seen) == EIO);
  world.images.erase(second);
  // No flush failed meanwhile: attaching again is not needed.
  world.twin = world.origin.bytes();
  const SnapshotId third = world.take(true);
  world.overwrite(5, 6);
  world.check_snapshot(third);
}
