// SPDX-License-Identifier: Apache-2.0
//
// A device that is replaced while it is in use: who waits, who does not, what is marked. The disks
// are scheduled ones: a request is in flight until the test lets a step happen.
#include "provider/cow/movable_device.h"

#include "tests/support/catch.h"
#include "tests/support/seed.h"
#include "tests/support/sim_disk.h"

using namespace umbra;
using namespace umbra::test;
using cow::MovableDevice;

namespace {

constexpr std::uint64_t kPart = MovableDevice::kPartBytes;

struct World {
  World() : machine(seed()), before(machine, 16 * kPart), after(machine, 16 * kPart) {
    before.size_bytes_max = 1024 * kPart;
    machine.set_scheduled(true);
  }

  struct Io {
    block::Request request;
    std::vector<std::byte> bytes;
    bool done = false;
  };
  static void complete(block::Request& request) noexcept {
    static_cast<Io*>(request.owner)->done = true;
  }
  void begin(Io& io, block::Op op, std::uint64_t offset_bytes, std::uint8_t value = 0) {
    io.bytes.assign(4096, std::byte{value});
    io.done = false;
    io.request = {};
    io.request.op = op;
    io.request.offset_bytes = offset_bytes;
    io.request.size_bytes = op == block::Op::flush ? 0 : io.bytes.size();
    io.request.buffer = io.bytes.data();
    io.request.complete = complete;
    io.request.owner = &io;
    device.submit(io.request);
  }
  void start_tracking(std::uint64_t size_bytes = 64 * kPart) {
    REQUIRE(device.park(Duration::zero()));
    device.start_tracking(size_bytes);
    device.unpark();
  }

  SimMachine machine;
  SimDisk before;
  SimDisk after;
  MovableDevice device{before};
};

}  // namespace

TEST_CASE("writes and flushes wait while a device is replaced, reads do not", "[cow]") {
  World world;
  REQUIRE(world.device.park(Duration::zero()));
  World::Io write;
  World::Io flush;
  World::Io read;
  world.begin(write, block::Op::write, 0, 7);
  world.begin(flush, block::Op::flush, 0);
  world.begin(read, block::Op::read, 0, 9);
  world.machine.run_until_idle();
  CHECK(read.done);
  CHECK(read.bytes[0] == std::byte{0});
  CHECK_FALSE(write.done);
  CHECK_FALSE(flush.done);
  world.device.replace(world.after);
  world.device.unpark();
  world.machine.run_until_idle();
  CHECK(write.done);
  CHECK(flush.done);
  CHECK(world.before.bytes()[0] == std::byte{0});
  CHECK(world.after.bytes()[0] == std::byte{7});
  world.begin(read, block::Op::read, 0);
  world.machine.run_until_idle();
  CHECK(read.bytes[0] == std::byte{7});
}

TEST_CASE("nothing waits any more after what is in flight has not ended in time", "[cow]") {
  World world;
  World::Io slow;
  World::Io late;
  world.begin(slow, block::Op::write, 0, 1);
  CHECK_FALSE(world.device.park(Duration::zero()));
  world.begin(late, block::Op::write, kPart, 2);
  world.machine.run_until_idle();
  CHECK(slow.done);
  CHECK(late.done);
  CHECK(world.device.park(Duration::zero()));
  world.device.unpark();
}

TEST_CASE("the device before may go once its reads have ended", "[cow]") {
  World world;
  World::Io read;
  world.begin(read, block::Op::read, 0);
  REQUIRE(world.device.park(Duration::zero()));
  world.device.replace(world.after);
  world.device.unpark();
  CHECK_FALSE(world.device.left(Duration::zero()));
  World::Io other;
  world.begin(other, block::Op::read, 0);  // On the new one: nobody waits for it.
  REQUIRE(world.machine.step_one(
      [&world](const SimDisk& disk, const block::Request&) { return &disk == &world.before; }));
  CHECK(read.done);
  CHECK(world.device.left(Duration::zero()));
  world.machine.run_until_idle();
}

TEST_CASE("what is written is marked when it is submitted and again when it completes", "[cow]") {
  World world;
  World::Io early;
  world.begin(early, block::Op::write, 9 * kPart, 1);
  world.machine.run_until_idle();
  world.start_tracking();
  CHECK(world.device.marked_bytes() == 0);  // Not what came before.
  World::Io write;
  world.begin(write, block::Op::write, 3 * kPart - 2048, 1);  // Over two parts.
  const auto run = world.device.take_marked(0, 8);
  REQUIRE(run);
  CHECK(run->first == 2);
  CHECK(run->count == 2);
  CHECK_FALSE(world.device.take_marked(0, 8));
  world.machine.run_until_idle();  // It may have landed after those parts were copied.
  CHECK(world.device.marked_bytes() == 2 * kPart);
  world.begin(write, block::Op::read, 0);
  world.begin(early, block::Op::flush, 0);
  world.machine.run_until_idle();
  CHECK(world.device.marked_bytes() == 2 * kPart);
  world.device.stop_tracking();
}

TEST_CASE("marks are taken in runs of at most what is asked for", "[cow]") {
  World world;
  world.start_tracking(200 * kPart);
  world.device.mark(60 * kPart, 70 * kPart);
  world.device.mark(199 * kPart, 1);
  world.device.mark(200 * kPart, kPart);  // Beyond what is tracked.
  CHECK(world.device.marked_bytes() == 71 * kPart);
  std::vector<std::pair<std::uint64_t, std::uint64_t>> runs;
  std::uint64_t part = 0;
  while (const auto run = world.device.take_marked(part, 64)) {
    runs.emplace_back(run->first, run->count);
    part = run->first + run->count;
  }
  CHECK(runs == std::vector<std::pair<std::uint64_t, std::uint64_t>>{{60, 64}, {124, 6}, {199, 1}});
  CHECK(world.device.marked_bytes() == 0);
}

TEST_CASE("while a device is tracked it does not grow beyond that", "[cow]") {
  World world;
  world.start_tracking(32 * kPart);
  const SimMachine::Inline waits(world.machine);
  CHECK(world.device.resize(32 * kPart));
  CHECK(world.device.resize(33 * kPart).error().code == Errc::insufficient_storage);
  world.device.stop_tracking();
  CHECK(world.device.resize(33 * kPart));
}
