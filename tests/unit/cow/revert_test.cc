// SPDX-License-Identifier: Apache-2.0
//
// Revert: at once for whoever uses the volume, in the background for the origin.
#include "provider/format/diff_area.h"
#include "tests/support/cow_events.h"
#include "tests/support/cow_world.h"

using namespace umbra;
using namespace umbra::test;

namespace {

constexpr std::uint64_t kChunk = 16U << 10U;

Status begin(CowWorld& world, const SnapshotId& id) {
  // A volume whose diff area is growing is not quiet.
  if (!world.volume->revert_status().under_way) world.machine.run_until_idle();
  const SimMachine::Inline waits(world.machine);
  return world.volume->begin_revert(id);
}

// An older snapshot, the one to go back to, and a newer one, with writes after each.
struct Story {
  explicit Story(CowWorld& world_) : world(world_) {
    world.open();
    older = world.take(true);
    REQUIRE(world.write(0, 6 * kChunk) == 0);
    target = world.take(true);
    REQUIRE(world.write(4 * kChunk, 8 * kChunk) == 0);
    newer = world.take(true);
    REQUIRE(world.write(10 * kChunk, 12 * kChunk) == 0);
    REQUIRE(world.write(30 * kChunk + kSector, kSector) == 0);
  }
  void revert() {
    REQUIRE(begin(world, target));
    world.twin = world.images.at(target);
    world.images.erase(newer);
  }

  CowWorld& world;
  SnapshotId older;
  SnapshotId target;
  SnapshotId newer;
};

}  // namespace

TEST_CASE("a reverted volume shows the snapshot at once and its origin holds it soon", "[cow]") {
  CowWorld world(1);
  Story story(world);
  story.revert();
  // Before anything was copied.
  CHECK(world.volume->revert_status().under_way);
  CHECK(world.volume->revert_status().bytes_done == 0);
  CHECK(world.origin.bytes() != world.twin);
  world.check_all();
  CHECK(world.volume->list().size() == 2);
  world.machine.run_until_idle();
  CHECK_FALSE(world.volume->revert_status().under_way);
  CHECK(world.origin.bytes() == world.twin);
  world.check_all();
  // Life goes on.
  REQUIRE(world.write(4 * kChunk, 30 * kChunk) == 0);
  (void)world.take(true);
  REQUIRE(world.write(5 * kChunk, 3 * kChunk) == 0);
  world.check_all();
  world.reopen();
  world.check_all();
}

TEST_CASE("what a revert deletes is told with who asked for it", "[cow]") {
  // The work may be begun by the release of the writes, before begin_revert() goes on.
  for (std::uint64_t i = 0; i < 16; ++i) {
    RecordedEvents events;
    CowWorld world(100 + i);
    world.events = &events;
    Story story(world);
    world.machine.run_until_idle();
    {
      const SimMachine::Inline waits(world.machine);
      REQUIRE(world.volume->begin_revert(story.target, "an operator"));
    }
    world.machine.run_until_idle();
    const auto deleted = events.of(cow::EventKind::snapshot_deleted);
    REQUIRE(deleted.size() == 1);
    CHECK(deleted[0].who == "an operator");
  }
}

TEST_CASE("what is written during a revert stays written", "[cow]") {
  CowWorld world(2);
  Story story(world);
  story.revert();
  block::Device& live = world.volume->live();
  // Of what is not reverted yet a discard does nothing.
  REQUIRE(world.run_posted(live, block::Op::discard, 20 * kChunk, kChunk) == 0);
  world.check_all();
  REQUIRE(world.write_posted(live, world.twin, 10 * kChunk + kSector, kSector) == 0);
  REQUIRE(world.write_posted(live, world.twin, 3 * kChunk, 4 * kChunk + kSector) == 0);
  REQUIRE(world.write_posted(live, world.twin, 40 * kChunk, kChunk) == 0);  // Had not changed.
  REQUIRE(world.run_posted(live, block::Op::write_zeroes, 30 * kChunk, kChunk) == 0);
  std::fill_n(world.twin.begin() + 30 * kChunk, kChunk, std::byte{0});
  world.check_all();
  world.machine.run_until_idle();
  CHECK_FALSE(world.volume->revert_status().under_way);
  CHECK(world.origin.bytes() == world.twin);
  world.check_all();
  world.reopen();
  world.check_all();
}

TEST_CASE("a revert goes on after a restart and leaves alone what was written since", "[cow]") {
  CowWorld world(3);
  Story story(world);
  story.revert();
  block::Device& live = world.volume->live();
  REQUIRE(world.write_posted(live, world.twin, 10 * kChunk + kSector, kSector) == 0);
  REQUIRE(world.write(50 * kChunk, kChunk) == 0);
  REQUIRE(world.volume->revert_status().under_way);
  const bool in_order = GENERATE(true, false);
  if (in_order) {
    const SimMachine::Inline waits(world.machine);
    REQUIRE(world.volume->close());
  }
  world.volume.reset();
  world.machine.run_until_idle();
  world.open();
  CHECK(world.volume->revert_status().under_way);
  CHECK(world.volume->revert_status().snapshot == story.target);
  world.check_all();
  REQUIRE(world.write_posted(world.volume->live(), world.twin, 11 * kChunk, kSector) == 0);
  world.machine.run_until_idle();
  CHECK_FALSE(world.volume->revert_status().under_way);
  CHECK(world.origin.bytes() == world.twin);
  world.check_all();
  world.reopen();
  CHECK_FALSE(world.volume->revert_status().under_way);
  world.check_all();
}

TEST_CASE("a write to what a long revert has come past outlives a crash", "[cow]") {
  constexpr std::uint64_t kLarge = 256U << 10U;
  CowWorldOptions options;
  options.chunk_bytes = kLarge;
  options.origin_bytes = 20U << 20U;  // Longer than what is reverted between two notes of it.
  options.segments = options.segments_max = 8;
  CowWorld world(10, options);
  world.open();
  const SnapshotId target = world.take(true);
  for (std::uint64_t at = 0; at < options.origin_bytes; at += kLarge) {
    REQUIRE(world.write_posted(world.volume->live(), world.twin, at, kLarge) == 0);
  }
  REQUIRE(begin(world, target));
  world.twin = world.images.at(target);
  constexpr std::uint64_t kPast = 16U << 20U;
  while (world.volume->revert_status().bytes_done < kPast) REQUIRE(world.machine.step());
  REQUIRE(world.volume->revert_status().under_way);
  REQUIRE(world.write(3 * kLarge, kSector) == 0);  // At once: nobody has to note it any more.
  REQUIRE(world.run(block::Op::flush) == 0);
  world.machine.cut_power();
  world.volume.reset();
  world.machine.power_on();
  world.boot_id = Guid::random();
  world.open();
  CHECK(world.volume->revert_status().under_way);
  world.check_all();
  world.machine.run_until_idle();
  CHECK_FALSE(world.volume->revert_status().under_way);
  world.check_all();
}

TEST_CASE("a revert goes back to what the recovery window left", "[cow]") {
  CowWorld world(4);
  world.open();
  (void)world.take(true);
  const SnapshotId id = world.take_unconfirmed(true);
  {
    const SimMachine::Inline waits(world.machine);
    REQUIRE(world.volume->begin_recovery(id));
  }
  const auto device = world.volume->open_for_recovery(id);
  REQUIRE(device);
  // One chunk that changes in the live volume too, one that does not.
  REQUIRE(world.write_posted(**device, world.images.at(id), 2 * kChunk, kChunk) == 0);
  REQUIRE(world.write_posted(**device, world.images.at(id), 8 * kChunk + kSector, kSector) == 0);
  {
    const SimMachine::Inline waits(world.machine);
    REQUIRE(world.volume->end_recovery(id));
    REQUIRE(world.volume->confirm(id));
  }
  REQUIRE(world.write(kChunk, 2 * kChunk) == 0);
  REQUIRE(begin(world, id));
  world.twin = world.images.at(id);
  world.check_all();
  world.machine.run_until_idle();
  CHECK(world.origin.bytes() == world.twin);
  world.check_all();  // The older one kept its own content of both.
  world.reopen();
  world.check_all();
}

TEST_CASE("what a revert refuses, and what it makes others refuse", "[cow]") {
  CowWorld world(5);
  world.open();
  const SnapshotId passing = world.take(false);
  const SnapshotId target = world.take(true);
  REQUIRE(world.write(0, kChunk) == 0);
  CHECK(begin(world, SnapshotId::random()).error().code == Errc::object_not_found);
  CHECK(begin(world, passing).error().code == Errc::unsupported_context);
  const SnapshotId unfinished = world.take_unconfirmed(true);
  CHECK(begin(world, unfinished).error().code == Errc::bad_state);
  CHECK(begin(world, target).error().code == Errc::bad_state);
  world.remove(unfinished);
  REQUIRE(begin(world, target));
  world.twin = world.images.at(target);
  CHECK(begin(world, target).error().code == Errc::revert_in_progress);
  const SimMachine::Inline waits(world.machine);
  cow::PrepareRequest request;
  request.id = world.next_id();
  CHECK(world.volume->prepare(request).error().code == Errc::revert_in_progress);
  CHECK(world.volume->remove(target, true).error().code == Errc::revert_in_progress);
  CHECK(world.volume->abandon_revert().error().code == Errc::bad_state);
  world.check_all();
}

TEST_CASE("a revert that cannot read the snapshot stops, and can be given up", "[cow]") {
  CowWorld world(6);
  Story story(world);
  story.revert();
  // The preserved chunk 10, wherever it lies: all copies of its first sector are spoilt.
  const auto first = world.images.at(story.target).begin() + 10 * kChunk;
  auto at = world.diff.bytes().begin();
  while ((at = std::search(at, world.diff.bytes().end(), first, first + kSector)) !=
         world.diff.bytes().end()) {
    *at++ ^= std::byte{1};
  }
  world.machine.run_until_idle();
  cow::RevertStatus status = world.volume->revert_status();
  CHECK(status.under_way);
  CHECK(status.stopped);
  CHECK(status.trouble.find("byte") != std::string::npos);
  // What was reverted or had not changed is usable, nothing wrong is shown.
  Image seen;
  CHECK(world.read(world.volume->live(), seen, 40 * kChunk, kChunk) == 0);
  CHECK(world.read(world.volume->live(), seen, 10 * kChunk, kChunk) == EIO);
  CHECK(world.write_posted(world.volume->live(), world.twin, 10 * kChunk, kSector) == EIO);
  world.reopen();
  world.machine.run_until_idle();
  CHECK(world.volume->revert_status().stopped);
  {
    const SimMachine::Inline waits(world.machine);
    REQUIRE(world.volume->abandon_revert());
  }
  CHECK_FALSE(world.volume->revert_status().under_way);
  CHECK(world.read(world.volume->live(), seen) == 0);
  CHECK(seen == world.origin.bytes());
  world.reopen();
  CHECK_FALSE(world.volume->revert_status().under_way);
}

TEST_CASE("a revert that damage has met stops for good, wherever the open that finds it is cut",
          "[cow]") {
  CowWorld world(9);
  Story story(world);
  story.revert();
  // A mark: what was written to this chunk since must not be reverted.
  REQUIRE(world.write_posted(world.volume->live(), world.twin, 10 * kChunk, kSector) == 0);
  REQUIRE(world.volume->revert_status().under_way);
  {
    const SimMachine::Inline waits(world.machine);
    REQUIRE(world.volume->close());
  }
  world.volume.reset();
  const format::Layout layout = format::Layout::of(kChunk, kSector);
  for (const std::uint32_t copy : {0U, 1U}) {
    world.diff.bytes()[layout.unit_offset(0, 0, copy) + 30] ^= std::byte{1};
  }
  world.diff.settle();
  world.origin.settle();
  const Image damaged = world.diff.bytes();
  bool opened = false;
  for (std::uint64_t cut = 0; !opened; ++cut) {
    INFO("cut at operation " << cut);
    world.diff.bytes() = damaged;
    world.diff.settle();
    world.machine.cut_at(world.machine.operations() + cut);
    opened = world.try_open().has_value();
    world.machine.cut_power();
    world.volume.reset();
    world.machine.power_on();
    world.boot_id = Guid::random();
    world.open();
    world.machine.run_until_idle();
    REQUIRE(world.volume->revert_status().stopped);
    Image seen;
    REQUIRE(world.read(world.volume->live(), seen, 10 * kChunk, kSector) == 0);
    CHECK(std::equal(seen.begin(), seen.end(), world.twin.begin() + 10 * kChunk));
    world.volume.reset();
  }
}

TEST_CASE("a revert that meets a failing origin goes on when it is attached again", "[cow]") {
  CowWorld world(7);
  Story story(world);
  story.revert();
  world.origin.fault = [](const block::Request& request) {
    return request.op == block::Op::write ? EIO : 0;
  };
  world.machine.run_until_idle();
  CHECK(world.volume->revert_status().stopped);
  world.check_all();  // Reads come from the snapshot as before.
  world.origin.fault = nullptr;
  world.reopen();
  world.machine.run_until_idle();
  CHECK_FALSE(world.volume->revert_status().under_way);
  CHECK(world.origin.bytes() == world.twin);
  world.check_all();
}

TEST_CASE("writes get through a revert even if the diff area has no room for them", "[cow]") {
  CowWorldOptions options;
  options.segments = options.segments_max = 2;
  options.origin_bytes = 4U << 20U;
  CowWorld world(8, options);
  world.open();
  const SnapshotId target = world.take(true);
  for (std::uint64_t at = 0; at < options.origin_bytes; at += kChunk) {
    REQUIRE(world.write(at, kChunk) == 0);  // A group each: the index is full as well.
  }
  (void)world.take(true);
  for (std::uint64_t at = 0; at < options.origin_bytes; at += kChunk) {
    REQUIRE(world.write(at, kChunk) == 0);
  }
  const Status begun = begin(world, target);
  INFO((begun ? std::string() : begun.error().to_string()));
  REQUIRE(begun);
  world.twin = world.images.at(target);
  world.images.clear();
  world.images[target] = world.twin;
  REQUIRE(world.write_posted(world.volume->live(), world.twin, 9 * kChunk + kSector, kSector) == 0);
  world.machine.run_until_idle();
  CHECK_FALSE(world.volume->revert_status().under_way);
  CHECK(world.origin.bytes() == world.twin);
  world.check_all();
}
