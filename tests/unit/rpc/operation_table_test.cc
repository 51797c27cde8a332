// SPDX-License-Identifier: Apache-2.0
#include "engine/rpc/operation_table.h"

#include <atomic>
#include <condition_variable>
#include <mutex>

#include "tests/support/catch.h"
#include "tests/support/manual_clock.h"

namespace {

using namespace umbra;
using namespace umbra::rpc;

// A door that work waits at.
class Door {
 public:
  void open() {
    const std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  void wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return open_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false;
};

// Waits for ends by watching the table.
class Ends {
 public:
  explicit Ends(OperationTable& table)
      : watch_(table.watch([this](const OperationId& id) {
          const std::lock_guard lock(mutex_);
          ended_.push_back(id);
          changed_.notify_all();
        })) {}
  void wait_for(std::size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return ended_.size() >= count; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<OperationId> ended_;
  OperationTable::Watch watch_;
};

struct World {
  test::ManualClock clock;
  OperationTable table{clock, null_log()};
  Ends ends{table};

  OperationInfo finished(OperationTable::Work work) {
    const auto id = table.start("scrub", "data", std::move(work));
    REQUIRE(id);
    ends.wait_for(++ended);
    const auto info = table.query(*id);
    REQUIRE(info);
    return *info;
  }
  std::size_t ended = 0;
};

TEST_CASE("an operation says how far it is and what came of it",
          "[vss:IVssAsync.QueryStatus][vss:VSS_S_ASYNC_PENDING][vss:VSS_S_ASYNC_FINISHED]") {
  World world;
  Door said;
  Door go_on;
  // Catch2's assertions are for the main thread only.
  bool wanted = false;
  const auto id = world.table.start("scrub", "data", [&](OperationMonitor& monitor) -> Status {
    monitor.say("reading");
    wanted = monitor.progress(3, 10);
    said.open();
    go_on.wait();
    monitor.fact("damaged_bytes", "4096");
    return {};
  });
  REQUIRE(id);
  said.wait();
  CHECK(wanted);
  const auto running = world.table.query(*id);
  REQUIRE(running);
  CHECK(running->status == Errc::async_pending);
  CHECK(running->kind == "scrub");
  CHECK(running->subject == "data");
  CHECK(running->done == 3);
  CHECK(running->total == 10);
  CHECK(running->text == "reading");
  CHECK(running->ended_filetime == 0);
  go_on.open();
  world.ends.wait_for(1);
  const auto ended = world.table.query(*id);
  REQUIRE(ended);
  CHECK(ended->status == Errc::async_finished);
  REQUIRE(ended->facts.size() == 1);
  CHECK(ended->facts[0].name == "damaged_bytes");
  CHECK(world.table.list().size() == 1);
}

TEST_CASE("a failed operation keeps its error") {
  World world;
  const auto info = world.finished([](OperationMonitor&) -> Status {
    return fail(Errc::insufficient_storage, "copies need more");
  });
  CHECK(info.status == Errc::insufficient_storage);
  CHECK(info.context == "copies need more");
}

TEST_CASE("past its point of no return an operation is not cancelled, and it is said what to do") {
  World world;
  Door begun;
  Door go_on;
  std::atomic<bool> may_go_on = false;
  const auto id = world.table.start("revert", "data", [&](OperationMonitor& monitor) -> Status {
    may_go_on = monitor.point_of_no_return("wait for it");
    begun.open();
    go_on.wait();
    if (!monitor.progress(1, 1)) return fail(Errc::async_cancelled, "");
    return {};
  });
  REQUIRE(id);
  begun.wait();
  const auto asked = world.table.cancel(*id);
  REQUIRE_FALSE(asked);
  CHECK(asked.error().code == Errc::bad_state);
  CHECK(asked.error().context.find("wait for it") != std::string::npos);
  CHECK_FALSE(world.table.query(*id)->cancelling);
  go_on.open();
  world.ends.wait_for(1);
  CHECK(may_go_on);
  CHECK(world.table.query(*id)->status == Errc::async_finished);
  CHECK(world.table.cancel(*id));  // It has ended.
}

TEST_CASE("an operation that was cancelled before its point of no return does not pass it") {
  World world;
  Door cancelled;
  std::atomic<bool> passed = true;
  const auto id = world.table.start("revert", "data", [&](OperationMonitor& monitor) -> Status {
    cancelled.wait();
    passed = monitor.point_of_no_return("wait for it");
    return fail(Errc::async_cancelled, "");
  });
  REQUIRE(id);
  REQUIRE(world.table.cancel(*id));
  cancelled.open();
  world.ends.wait_for(1);
  CHECK_FALSE(passed);
}

TEST_CASE("a cancelled operation hears of it and stays cancelled",
          "[vss:IVssAsync.Cancel][vss:VSS_S_ASYNC_CANCELLED]") {
  World world;
  Door running;
  Door cancelled;
  bool wanted = false;
  const auto id = world.table.start("migrate", "data", [&](OperationMonitor& monitor) -> Status {
    wanted = monitor.progress(0, 0);
    running.open();
    cancelled.wait();
    if (monitor.progress(1, 2)) return {};
    return fail(Errc::async_cancelled, "");
  });
  REQUIRE(id);
  running.wait();
  CHECK(wanted);
  const auto asked = world.table.cancel(*id);
  REQUIRE(asked);
  CHECK(asked->cancelling);
  cancelled.open();
  world.ends.wait_for(1);
  CHECK(world.table.query(*id)->status == Errc::async_cancelled);
  // Too late is no error and changes nothing.
  CHECK(world.table.cancel(*id)->status == Errc::async_cancelled);
  CHECK_FALSE(world.table.query(*id)->cancelling);
}

TEST_CASE("an unknown operation is not found") {
  World world;
  CHECK(world.table.query(OperationId::random()).error().code == Errc::object_not_found);
  CHECK(world.table.cancel(OperationId::random()).error().code == Errc::object_not_found);
}

TEST_CASE("operations that run and those that are kept are bounded") {
  World world;
  Door door;
  for (std::size_t i = 0; i < kOperationsRunningMax; ++i) {
    REQUIRE(world.table.start("scrub", std::to_string(i), [&](OperationMonitor&) -> Status {
      door.wait();
      return {};
    }));
  }
  const auto one_more =
      world.table.start("scrub", "x", [](OperationMonitor&) -> Status { return {}; });
  REQUIRE_FALSE(one_more);
  CHECK(one_more.error().code == Errc::limit_reached);
  door.open();
  world.ended = kOperationsRunningMax;
  world.ends.wait_for(world.ended);
  const auto first = world.table.list().front().operation_id;
  for (std::size_t i = 0; i < kOperationsKeptMax; ++i) {
    (void)world.finished([](OperationMonitor&) -> Status { return {}; });
  }
  CHECK(world.table.list().size() == kOperationsKeptMax);
  CHECK_FALSE(world.table.query(first));
}

TEST_CASE("the end of the table stops what runs") {
  test::ManualClock clock;
  Door running;
  bool stopped = false;
  {
    OperationTable table(clock, null_log());
    REQUIRE(table.start("scrub", "data", [&](OperationMonitor& monitor) -> Status {
      running.open();
      while (monitor.progress(0, 0)) {
      }
      stopped = true;
      return fail(Errc::async_cancelled, "");
    }));
    running.wait();
  }
  CHECK(stopped);
}

}  // namespace
