// SPDX-License-Identifier: Apache-2.0
//
// The recovery window: what is written to a snapshot belongs to it alone, and is there for ever or,
// with the snapshot, not at all.
#include "tests/support/cow_world.h"

using namespace umbra;
using namespace umbra::test;

namespace {

constexpr std::uint64_t kChunk = 16U << 10U;

struct Window {
  Window(CowWorld& world_, bool persistent) : world(world_) {
    id = world.take_unconfirmed(persistent);
    {
      const SimMachine::Inline waits(world.machine);
      REQUIRE(world.volume->begin_recovery(id));
    }
    auto opened = world.volume->open_for_recovery(id);
    REQUIRE(opened);
    device = *opened;
  }
  int write(std::uint64_t offset_bytes, std::uint64_t size_bytes) {
    return world.write_posted(*device, world.images.at(id), offset_bytes, size_bytes);
  }
  Status end() {
    const SimMachine::Inline waits(world.machine);
    return world.volume->end_recovery(id);
  }
  Status confirm() {
    const SimMachine::Inline waits(world.machine);
    return world.volume->confirm(id);
  }

  CowWorld& world;
  SnapshotId id;
  std::shared_ptr<block::Device> device;
};

}  // namespace

TEST_CASE("what is written in the window belongs to the snapshot alone",
          "[cow]"
          "[vss:rule.auto-recovery-window]") {
  for (const bool persistent : {true, false}) {
    CowWorld world(1);
    world.open();
    (void)world.take(true);
    REQUIRE(world.write(3 * kChunk, 4 * kChunk) == 0);
    Window window(world, persistent);
    CHECK_FALSE(window.device->geometry().read_only);
    REQUIRE(window.write(3 * kChunk + kSector, kSector) == 0);  // A part of a chunk.
    REQUIRE(window.write(9 * kChunk, 3 * kChunk) == 0);
    REQUIRE(window.write(10 * kChunk + kSector, kChunk) == 0);  // Again, over two chunks.
    world.check_all();
    // The live volume preserves the same chunks for its snapshots as ever.
    REQUIRE(world.write(3 * kChunk, kChunk) == 0);
    REQUIRE(world.write(10 * kChunk, kSector) == 0);
    world.check_all();
    REQUIRE(world.run_posted(*window.device, block::Op::write_zeroes, 20 * kChunk, kChunk) == 0);
    Image& image = world.images.at(window.id);
    std::fill_n(image.begin() + 20 * kChunk, kChunk, std::byte{0});
    REQUIRE(window.end());
    REQUIRE(window.confirm());
    world.check_all();
    (void)world.take(true);
    REQUIRE(world.write(9 * kChunk, 12 * kChunk) == 0);
    world.check_all();
    world.reopen();
    world.check_all();
    world.remove(window.id, true);
    world.check_all();
  }
}

TEST_CASE("after the window the snapshot is read-only for ever",
          "[cow]"
          "[vss:rule.auto-recovery-window]") {
  CowWorld world(2);
  world.open();
  Window window(world, true);
  REQUIRE(window.write(0, kSector) == 0);
  REQUIRE(window.end());
  CHECK(window.write(kSector, kSector) == EROFS);
  REQUIRE(window.end());  // Nothing to do.
  REQUIRE(window.confirm());
  {
    const SimMachine::Inline waits(world.machine);
    CHECK(world.volume->begin_recovery(window.id).error().code == Errc::bad_state);
  }
  CHECK(world.volume->open_for_recovery(window.id).error().code == Errc::bad_state);
  const auto device = world.volume->open_snapshot(window.id);
  REQUIRE(device);
  CHECK((*device)->geometry().read_only);
  CHECK(world.write_posted(**device, world.twin, 0, kSector) == EROFS);
  world.check_all();
}

TEST_CASE("only the newest snapshot has a window, and nothing is prepared meanwhile", "[cow]") {
  CowWorld world(3);
  world.open();
  const SnapshotId older = world.take(true);
  Window window(world, false);
  const SimMachine::Inline waits(world.machine);
  CHECK(world.volume->begin_recovery(older).error().code == Errc::bad_state);
  CHECK(world.volume->begin_recovery(SnapshotId::random()).error().code == Errc::object_not_found);
  REQUIRE(world.volume->begin_recovery(window.id));
  cow::PrepareRequest request;
  request.id = world.next_id();
  CHECK(world.volume->prepare(request).error().code == Errc::bad_state);
  REQUIRE(window.end());
  REQUIRE(world.volume->prepare(request));
  REQUIRE(world.volume->remove(request.id, false));
}

TEST_CASE("a crash in the window ends the snapshot and nothing else", "[cow]") {
  CowWorld world(4);
  world.open();
  const SnapshotId older = world.take(true);
  REQUIRE(world.write(0, 2 * kChunk) == 0);
  Window window(world, true);
  REQUIRE(window.write(0, 3 * kChunk) == 0);
  REQUIRE(world.write(kChunk, 4 * kChunk) == 0);
  world.images.erase(window.id);
  window.device.reset();
  world.volume.reset();
  world.open();
  REQUIRE(world.volume->list().size() == 1);
  world.check_all();
  // The room is free again with the older one.
  world.remove(older);
  world.machine.run_until_idle();
  CHECK(world.volume->statistics().records == 0);
  CHECK(world.volume->statistics().diff_used_bytes == 0);
}

TEST_CASE("a removed snapshot gives back what was written to it", "[cow]") {
  CowWorld world(5);
  world.open();
  const std::uint64_t before = world.volume->statistics().diff_used_bytes;
  Window window(world, true);
  // Each round takes the place of the one before: more than the area could hold at once.
  for (int round = 0; round < 40; ++round) {
    REQUIRE(window.write(0, 32 * kChunk) == 0);
    REQUIRE(window.write(32 * kChunk, 32 * kChunk) == 0);
  }
  world.check_all();
  REQUIRE(window.end());
  REQUIRE(window.confirm());
  window.device.reset();
  world.reopen();
  world.check_all();
  world.remove(window.id);
  world.machine.run_until_idle();
  world.reopen();
  CHECK(world.volume->statistics().diff_used_bytes == before);
}

TEST_CASE("a full diff area fails the write to the snapshot and loses nothing", "[cow]") {
  CowWorldOptions options;
  options.segments = options.segments_max = 2;
  options.origin_bytes = 16U << 20U;
  CowWorld world(6, options);
  world.open();
  Window window(world, true);
  int error = 0;
  for (std::uint64_t at = 0; at < options.origin_bytes && error == 0; at += kChunk) {
    error = window.write(at, kChunk);
  }
  CHECK(error == ENOSPC);
  world.check_all();
  REQUIRE(window.end());
  REQUIRE(window.confirm());
  world.check_all();
  world.reopen();
  world.check_all();
}

TEST_CASE("what could not be kept fails the end of the window", "[cow]") {
  CowWorld world(7);
  world.open();
  (void)world.take(true);
  Window window(world, true);
  world.diff.fault = [](const block::Request& request) {
    return request.op == block::Op::write ? EIO : 0;
  };
  CHECK(window.write(0, kChunk) == EIO);
  world.diff.fault = nullptr;
  CHECK(window.end().error().code == Errc::autorecovery_failed);
  world.remove(window.id, true);
  world.check_all();
}

TEST_CASE("writes to a snapshot wait while the volume is held", "[cow]") {
  CowWorld world(8);
  world.open();
  Window window(world, true);
  world.volume->hold();
  REQUIRE(world.volume->drain(Duration::zero()));
  REQUIRE(world.volume->quiesce(Duration::zero()));
  bool written = false;
  world.diff.fault = [&](const block::Request& request) {
    written = written || request.op != block::Op::read;
    return 0;
  };
  Image bytes(kSector);
  block::Request request;
  request.op = block::Op::write;
  request.size_bytes = kSector;
  request.buffer = bytes.data();
  bool completed = false;
  request.owner = &completed;
  request.complete = [](block::Request& done) noexcept { *static_cast<bool*>(done.owner) = true; };
  window.device->submit(request);
  world.machine.run_until_idle();
  CHECK_FALSE(written);
  CHECK_FALSE(completed);
  world.volume->release();
  world.machine.run_until_idle();
  CHECK(completed);
  CHECK(request.error == 0);
}
