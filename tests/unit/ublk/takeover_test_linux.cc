// SPDX-License-Identifier: Apache-2.0
//
// Purpose: a server that is killed with -9 costs its clients a pause and no error.
// Method: the test is the keeper: it knows the device's number and starts one serving process after
// the other, over memory that all share. The server is killed while requests that it took are
// unanswered, so that only the kernel's giving them out again can end them.
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <memory>
#include <vector>

#include "provider/frontend/ublk/device.h"
#include "tests/support/catch.h"
#include "tests/support/seed.h"
#include "tests/support/served_memory_linux.h"
#include "tests/support/skip.h"

using namespace umbra;
using namespace umbra::ublk;
using umbra::test::in_child;
using umbra::test::kill_and_reap;
using umbra::test::ServedMemory;
using umbra::test::ServedMemoryDevice;
using umbra::test::wait_for;
using umbra::test::write_and_verify;

namespace {

constexpr std::uint64_t kMark = 0x4321;
constexpr int kNone = -1;

struct World {
  ServedMemory& memory = ServedMemory::make();
  std::atomic<int>& id = *new (::mmap(nullptr, sizeof(std::atomic<int>), PROT_READ | PROT_WRITE,
                                      MAP_SHARED | MAP_ANONYMOUS, -1, 0)) std::atomic<int>(kNone);
  Control control = Control::open().value();

  pid_t serve_new() {
    return in_child([this] {
      auto device =
          Device::create(control, kMark, std::make_shared<ServedMemoryDevice>(memory), null_log());
      if (!device || !(*device)->start()) return 1;
      id = static_cast<int>((*device)->id());
      while (true) ::pause();
    });
  }
  pid_t take_over() {
    return in_child([this] {
      auto device =
          Device::take_over(control, kMark, saved_state(static_cast<std::uint32_t>(id.load())),
                            std::make_shared<ServedMemoryDevice>(memory), null_log());
      if (!device || !(*device)->start()) return 1;
      while (true) ::pause();
    });
  }
  [[nodiscard]] std::uint32_t number() const { return static_cast<std::uint32_t>(id.load()); }
};

}  // namespace

TEST_CASE("kill -9 of the server costs its clients no error and no byte", "[ublk]") {
  if (auto reason = test::missing_ublk()) return test::skip(*reason);
  World world;
  ServedMemory& memory = world.memory;
  pid_t server = world.serve_new();
  REQUIRE(wait_for([&] { return world.id != kNone; }));
  std::vector<pid_t> writers;
  for (std::size_t i = 0; i < ServedMemory::kWriters; ++i) {
    writers.push_back(
        in_child([&, i] { return write_and_verify(block_path(world.number()), memory, i); }));
  }
  const int kills = test::long_run() ? 50 : 8;
  bool going_on = true;
  for (int i = 0; i < kills && going_on; ++i) {
    const auto before = memory.written.load();
    going_on = wait_for([&] { return memory.written >= before + 100; });
    CHECK(going_on);
    if (!going_on) break;
    const auto stalled = memory.stalled.load();
    memory.may_stall = true;
    CHECK(wait_for([&] { return memory.stalled > stalled; }));
    kill_and_reap(server);
    memory.may_stall = false;
    server = world.take_over();
  }
  memory.stop = true;
  if (!going_on) (void)world.control.stop(world.number());  // So that the writers end.
  for (const pid_t writer : writers) {
    int status = -1;
    (void)::waitpid(writer, &status, 0);
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 0);
  }
  CHECK(memory.stalled > 0);
  kill_and_reap(server);
  CHECK(remove_device(world.control, world.number()));
}

TEST_CASE("where no successor comes, stopping the device ends who waits for it", "[ublk]") {
  if (auto reason = test::missing_ublk()) return test::skip(*reason);
  World world;
  const pid_t server = world.serve_new();
  REQUIRE(wait_for([&] { return world.id != kNone; }));
  const pid_t writer =
      in_child([&] { return write_and_verify(block_path(world.number()), world.memory, 0); });
  CHECK(wait_for([&] { return world.memory.written > 50; }));
  kill_and_reap(server);
  CHECK(world.control.stop(world.number()));
  int status = -1;
  CHECK(wait_for([&] { return ::waitpid(writer, &status, WNOHANG) == writer; }));
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 1 + EIO);
  CHECK(remove_device(world.control, world.number()));
  CHECK(world.control.info(world.number()).error().code == Errc::object_not_found);
}
