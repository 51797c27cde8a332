// SPDX-License-Identifier: Apache-2.0
#include "engine/rpc/event_log.h"

#include "tests/support/catch.h"

namespace {

using namespace umbra;
using namespace umbra::rpc;

ProviderEvent named(const std::string& name) {
  ProviderEvent event;
  event.name = name;
  return event;
}

TEST_CASE("events are numbered and read once by each reader") {
  EventLog log;
  CHECK(log.read(0, 10).events.empty());
  CHECK(log.add(named("a")) == 1);
  CHECK(log.add(named("b")) == 2);
  const auto first = log.read(0, 1);
  REQUIRE(first.events.size() == 1);
  CHECK(first.events[0].name == "a");
  CHECK(first.next == 1);
  const auto second = log.read(first.next, 10);
  REQUIRE(second.events.size() == 1);
  CHECK(second.events[0].sequence == 2);
  CHECK(log.read(second.next, 10).events.empty());
}

TEST_CASE("a slow reader is told how many it missed") {
  EventLog log(3);
  for (int i = 0; i < 10; ++i) log.add(named(std::to_string(i)));
  const auto page = log.read(2, 10);
  CHECK(page.lost == 5);  // 3 to 7.
  REQUIRE(page.events.size() == 3);
  CHECK(page.events[0].name == "7");
  CHECK(log.read(7, 10).lost == 0);
}

TEST_CASE("a number that was never given is the end of the log") {
  EventLog log;
  log.add(named("a"));
  const auto page = log.read(~std::uint64_t{0}, 10);
  CHECK(page.events.empty());
  CHECK(page.next == 1);
  CHECK(page.lost == 0);
}

TEST_CASE("the listener hears of each event until it is taken away") {
  EventLog log;
  int heard = 0;
  log.listen([&] { ++heard; });
  log.add(named("a"));
  log.listen(nullptr);
  log.add(named("b"));
  CHECK(heard == 1);
}

}  // namespace
