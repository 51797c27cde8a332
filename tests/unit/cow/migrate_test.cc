// SPDX-License-Identifier: Apache-2.0
//
// Moving a diff area: what is moved, what a failure leaves, what damage becomes. That exactly one
// of the two areas is in force at every moment is tests/crash/migrate_crash_test.cc.
#include "provider/cow/migrate.h"

#include <atomic>
#include <thread>

#include "provider/format/diff_area.h"
#include "tests/support/cow_world.h"
#include "tests/support/seed.h"

using namespace umbra;
using namespace umbra::test;

namespace {

constexpr auto kAnyProgress = [](const cow::MigrateProgress&) { return true; };

// A volume with two snapshots, one of which has all of its chunks in the diff area.
struct World : CowWorld {
  World() : CowWorld(seed()), target(machine, 0) {
    target.size_bytes_max = diff_bytes(8);
    open();
    first = take(true);
    for (std::uint64_t at = 0; at < options.origin_bytes; at += 64U << 10U) {
      REQUIRE(write(at, 64U << 10U) == 0);
    }
    second = take(false);
    REQUIRE(write(0, 4096) == 0);
  }

  [[nodiscard]] Result<cow::MigrateReport> migrate(
      const cow::OnMigrateProgress& progress = kAnyProgress) {
    cow::MigrateOptions move;
    move.hold_max = std::chrono::seconds(30);
    move.from_path = "/from";
    move.to_path = "/to";
    return volume->migrate(target, move, progress);
  }
  [[nodiscard]] Status open_on(SimDisk& disk) {
    auto opened = cow::Volume::open(origin, disk, open_options());
    if (!opened) return fail(opened.error());
    volume = std::move(*opened);
    return {};
  }
  void check() {
    Image seen;
    REQUIRE(read(volume->live(), seen) == 0);
    check_same(seen, twin, "live");
    for (const auto& [id, image] : images) {
      REQUIRE(read_snapshot(id, seen) == 0);
      check_same(seen, image, "snapshot");
    }
  }

  SimDisk target;
  SnapshotId first;
  SnapshotId second;
};

}  // namespace

TEST_CASE("a moved diff area has everything, and the old one says where it went", "[cow]") {
  World world;
  const auto report = world.migrate();
  INFO((report ? std::string() : report.error().to_string()));
  REQUIRE(report);
  CHECK(report->settled);
  CHECK(report->source_left);
  CHECK(report->done.bytes_damaged == 0);
  CHECK(report->done.bytes_copied >= report->done.bytes_total);
  world.check();
  const std::uint64_t before = world.machine.operations();
  REQUIRE(world.write(512U << 10U, 64U << 10U) == 0);  // Preserved on the new one.
  CHECK(world.machine.operations() > before);
  const SnapshotId third = world.take(true);
  world.check();
  REQUIRE(world.volume->close());
  world.volume.reset();

  const Status old = world.open_on(world.diff);
  REQUIRE_FALSE(old);
  CHECK(old.error().code == Errc::diff_area_foreign);
  CHECK(old.error().context == "it was moved to /to: use that one");
  CHECK(cow::inspect_diff_area(world.diff)->moved_to == "/to");
  REQUIRE(world.open_on(world.target));
  CHECK(world.volume->list().size() == 3);
  world.check();
  world.remove(third);
  world.remove(world.first);
  world.check();
}

TEST_CASE("a diff area that was moved away can be moved back", "[cow]") {
  World world;
  REQUIRE(world.migrate());
  REQUIRE(world.write(128U << 10U, 64U << 10U) == 0);
  const SnapshotId third = world.take(true);
  REQUIRE(world.write(0, 64U << 10U) == 0);
  const auto back = world.volume->migrate(world.diff, {.to_path = "/from"}, kAnyProgress);
  INFO((back ? std::string() : back.error().to_string()));
  REQUIRE(back);
  world.check();
  world.volume.reset();
  CHECK_FALSE(world.open_on(world.target));
  REQUIRE(world.open_on(world.diff));
  world.check();
  world.remove(third);
}

TEST_CASE("what is known of the space is of the device that the diff area moved to", "[cow]") {
  struct Host final : cow::HostSpace {
    Result<cow::HostRoom> room() override {
      ++asked;
      return cow::HostRoom{std::uint64_t{1} << 40U, 0};
    }
    int asked = 0;
  } host;
  World world;
  SimDisk larger(world.machine, world.diff_bytes(5));
  cow::MigrateOptions move;
  move.host_space = &host;
  REQUIRE(world.volume->migrate(larger, move, kAnyProgress));
  // What is larger than before is used, without growing.
  const std::uint64_t allocated = world.volume->statistics().diff_allocated_bytes;
  CHECK(allocated >= world.diff_bytes(5) - 4096);
  larger.size_bytes_max = world.diff_bytes(8);
  for (int round = 0; round < 12; ++round) {
    (void)world.take(true);
    for (std::uint64_t at = 0; at < world.options.origin_bytes; at += 64U << 10U) {
      REQUIRE(world.write(at, 64U << 10U) == 0);
    }
    world.machine.run_until_idle();
  }
  CHECK(host.asked > 0);
  world.volume.reset();
}

TEST_CASE("what is written while a diff area is moved is moved too", "[cow]") {
  World world;
  std::uint64_t calls = 0;
  std::vector<SnapshotId> taken;
  const auto report = world.migrate([&](const cow::MigrateProgress& progress) {
    if (progress.passes > 2) return true;
    ++calls;
    REQUIRE(world.write(calls * 37 % 63 * (16U << 10U), 16U << 10U) == 0);
    if (calls % 5 == 1 && taken.size() < 8) taken.push_back(world.take(calls % 2 == 0));
    if (calls % 7 == 3 && !taken.empty()) {
      world.remove(taken.back());
      taken.pop_back();
    }
    return true;
  });
  INFO((report ? std::string() : report.error().to_string()));
  REQUIRE(report);
  CHECK(calls > 20);
  world.check();
  REQUIRE(world.volume->close());
  world.volume.reset();
  REQUIRE(world.open_on(world.target));
  world.check();
}

TEST_CASE("a move that fails at any operation of the target leaves the old area in force",
          "[cow]") {
  for (const int error : {EIO, ENOSPC}) {
    for (std::uint64_t fail_at = 0;; fail_at = fail_at < 8 ? fail_at + 1 : fail_at * 5 / 4) {
      World world;
      std::uint64_t operation = 0;
      world.target.fault = [&](const block::Request& request) {
        return request.op != block::Op::read && operation++ == fail_at ? error : 0;
      };
      const auto report = world.migrate();
      INFO("operation " << fail_at << " of " << operation << " errno " << error);
      world.target.fault = nullptr;
      world.check();
      if (report && report->settled) {
        REQUIRE(operation <= fail_at);
        break;
      }
      REQUIRE(world.write(256U << 10U, 64U << 10U) == 0);
      world.volume.reset();
      const auto side = cow::settle_move(world.diff, world.target);
      REQUIRE(side);
      // Once the old area has said that it was moved, the failure comes too late.
      const bool late = report.has_value();
      CHECK((*side == cow::MoveSide::target) == late);
      CHECK_FALSE(world.open_on(late ? world.diff : world.target));
      REQUIRE(world.open_on(late ? world.target : world.diff));
      world.check();
    }
  }
}

TEST_CASE("a move that fails at the old area's superblock leaves one area in force", "[cow]") {
  // One or more of the operations in the switch fail: the word "moved", and taking it back.
  for (std::uint64_t fail_at = 0; fail_at < 5; ++fail_at) {
    for (std::uint64_t failures = 1; failures < 4; ++failures) {
      INFO("operation " << fail_at << ", " << failures << " of them");
      World world;
      std::uint64_t operation = 0;
      world.diff.fault = [&](const block::Request& request) {
        if (request.op == block::Op::read) return 0;
        const std::uint64_t number = operation++;
        return number >= fail_at && number < fail_at + failures ? EIO : 0;
      };
      const auto report = world.migrate();
      world.diff.fault = nullptr;
      if (fail_at == 4) {
        CHECK(report);
      }
      world.check();
      REQUIRE(world.write(256U << 10U, 64U << 10U) == 0);
      world.check();
      world.volume.reset();
      const auto side = cow::settle_move(world.diff, world.target);
      REQUIRE(side);
      CHECK((*side == cow::MoveSide::target) == report.has_value());
      REQUIRE(world.open_on(*side == cow::MoveSide::target ? world.target : world.diff));
      world.check();
    }
  }
}

TEST_CASE("if neither area takes the last word, no snapshot is believed", "[cow]") {
  World world;
  // The old one never says anything again; the new one takes no more than "arriving".
  const std::uint64_t writes_before = 4;
  std::uint64_t written = 0;
  bool switching = false;
  world.diff.fault = [&](const block::Request& request) {
    if (request.op == block::Op::read || request.offset_bytes > (64U << 10U)) return 0;
    switching = request.op == block::Op::write || switching;
    return request.op == block::Op::write ? EIO : 0;
  };
  world.target.fault = [&](const block::Request& request) {
    if (!switching || request.op == block::Op::read) return 0;
    return ++written <= writes_before - writes_before ? 0 : EIO;
  };
  const auto report = world.migrate();
  CHECK_FALSE(report);
  for (const auto& record : world.volume->list()) CHECK(record.lost);
  Image seen;
  REQUIRE(world.read(world.volume->live(), seen) == 0);
  CowWorld::check_same(seen, world.twin, "live");
}

TEST_CASE("a move can be given up, and what stands in the way is named", "[cow]") {
  World world;
  std::uint64_t calls = 0;
  const auto given_up = world.migrate([&](const cow::MigrateProgress&) { return ++calls < 10; });
  CHECK(given_up.error().code == Errc::bad_state);
  world.check();
  CHECK_FALSE(world.open_on(world.target));

  SECTION("a target that is not empty") {
    world.target.bytes()[5000] = std::byte{1};
    CHECK(world.migrate().error().code == Errc::diff_area_foreign);
    CHECK(world.target.bytes()[5000] == std::byte{1});
  }
  SECTION("a target that is a diff area") {
    cow::FormatOptions format;
    format.volume_id = VolumeId::random();
    format.diff_bytes_initial = world.diff_bytes(2);
    REQUIRE(cow::format_diff_area(world.origin, world.target, format));
    CHECK(world.migrate().error().code == Errc::object_already_exists);
  }
  SECTION("a target that is too small") {
    SimDisk small(world.machine, 0);
    small.size_bytes_max = world.diff_bytes(2);
    CHECK(world.volume->migrate(small, {}, kAnyProgress).error().code ==
          Errc::insufficient_storage);
  }
  world.check();
}

TEST_CASE("a move that waits for its rate can be given up", "[cow]") {
  World world;
  cow::MigrateOptions move;
  move.bytes_per_second_max = 1;  // It would take years.
  constexpr std::uint64_t kTableBytes =
      std::uint64_t{format::kTableSlots} * 2 * format::kBlockBytes;
  int asked = 0;
  const auto report =
      world.volume->migrate(world.target, move, [&](const cow::MigrateProgress& progress) {
        return progress.bytes_copied <= kTableBytes || ++asked < 3;
      });
  REQUIRE_FALSE(report);
  CHECK(report.error().code == Errc::bad_state);
  CHECK(asked == 3);
  world.check();
}

TEST_CASE("damage is moved as damage", "[cow]") {
  World world;
  const format::Layout layout = format::Layout::of(world.options.chunk_bytes, 512);
  // The first snapshot's chunks lie in segment 0, which is closed after opening again.
  REQUIRE(world.volume->close());
  world.volume.reset();
  world.open();
  const std::uint64_t spoiled = layout.slot_offset(0, 3);
  const std::uint64_t unreadable = layout.slot_offset(0, 5);
  world.diff.bytes()[spoiled + 100] ^= std::byte{1};
  world.diff.fault = [&](const block::Request& request) {
    const bool hit = request.op == block::Op::read && request.offset_bytes <= unreadable &&
                     unreadable < request.offset_bytes + request.size_bytes;
    return hit ? EIO : 0;
  };
  const auto report = world.migrate();
  INFO((report ? std::string() : report.error().to_string()));
  REQUIRE(report);
  CHECK(report->done.bytes_damaged == 2 * 4096);
  Image seen;
  CHECK(world.read_snapshot(world.first, seen) == EIO);
  CHECK(world.target.bytes()[spoiled + 100] == world.diff.bytes()[spoiled + 100]);
  std::uint64_t wrong = 0;
  auto device = world.volume->open_snapshot(world.first);
  REQUIRE(device);
  for (std::uint64_t at = 0; at < world.options.origin_bytes; at += 4096) {
    if (world.read(**device, seen, at, 4096) != 0) {
      ++wrong;
      continue;
    }
    const auto& image = world.images.at(world.first);
    REQUIRE(std::equal(seen.begin(), seen.end(), image.begin() + static_cast<std::ptrdiff_t>(at)));
  }
  CHECK(wrong == 2);
}

TEST_CASE("an unreadable snapshot table ends a move", "[cow]") {
  World world;
  world.diff.fault = [&](const block::Request& request) {
    return request.op == block::Op::read && request.offset_bytes >= format::kTableOffset &&
                   request.offset_bytes < format::kSegmentsOffset
               ? EIO
               : 0;
  };
  CHECK(world.migrate().error().code == Errc::io_error);
  world.diff.fault = nullptr;
  world.check();
}

// Meant for the thread sanitizer as much as for itself.
TEST_CASE("a diff area is moved back and forth under writers and readers", "[cow]") {
  World world;
  const Image image = world.images.at(world.first);
  std::atomic<bool> stop = false;
  std::atomic<bool> all_right = true;
  std::atomic<std::uint64_t> reads = 0;
  const auto run = [&](block::Device& device, block::Op op, std::uint64_t at, Image& bytes) {
    block::Request request;
    request.op = op;
    request.offset_bytes = at;
    request.size_bytes = bytes.size();
    request.buffer = bytes.data();
    if (block::run(device, request) != 0) all_right.store(false);
  };
  {
    std::jthread reader([&] {
      auto device = world.volume->open_snapshot(world.first);
      Image seen(image.size());
      while (device && !stop.load()) {
        run(**device, block::Op::read, 0, seen);
        if (seen != image) all_right.store(false);
        reads.fetch_add(1);
      }
    });
    std::jthread writer([&] {
      Image bytes(16U << 10U);
      for (std::uint64_t i = 0; !stop.load(); ++i) {
        run(world.volume->live(), i % 16 == 0 ? block::Op::flush : block::Op::write,
            i * 5 % 64 * bytes.size(), bytes);
      }
    });
    for (int round = 0; round < 4; ++round) {
      SimDisk& to = round % 2 == 0 ? world.target : world.diff;
      const auto moved = world.volume->migrate(to, {}, kAnyProgress);
      if (!moved) stop.store(true);
      INFO((moved ? std::string() : moved.error().to_string()));
      CHECK(moved);
      const SnapshotId id = world.begin(true);  // A new epoch: everything is preserved again.
      world.volume->hold();
      if (world.volume->drain(std::chrono::seconds(30))) world.volume->commit(id, 1);
      world.volume->release();
      world.finish(id);
    }
    stop.store(true);
  }
  CHECK(all_right.load());
  CHECK(reads.load() > 0);
}
