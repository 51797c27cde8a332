// SPDX-License-Identifier: Apache-2.0

#include "engine/coordinator/creation_slot.h"

#include "tests/support/catch.h"

namespace {

using namespace umbra;
using namespace umbra::coord;
using std::chrono::seconds;

TEST_CASE("the slot goes to the first, and the others wait in order", "[coordinator]") {
  CreationSlot slot;
  const TimePoint now{};
  CHECK(slot.acquire(1, now, seconds{0}) == true);
  CHECK(slot.acquire(2, now, seconds{10}) == false);
  CHECK(slot.acquire(3, now, seconds{5}) == false);
  CHECK(slot.holder() == SlotKey{1});
  CHECK(slot.next_deadline() == now + seconds{5});
  CHECK(slot.leave(1) == SlotKey{2});
  CHECK(slot.leave(1) == std::nullopt);
  CHECK(slot.leave(2) == SlotKey{3});
  CHECK(slot.leave(3) == std::nullopt);
  CHECK(slot.holder() == std::nullopt);
}

TEST_CASE("who does not want to wait is told at once",
          "[coordinator]"
          "[vss:rule.one-creation-at-a-time][vss:VSS_E_SNAPSHOT_SET_IN_PROGRESS]") {
  CreationSlot slot;
  REQUIRE(slot.acquire(1, TimePoint{}, seconds{0}));
  const auto refused = slot.acquire(2, TimePoint{}, seconds{0});
  REQUIRE(!refused);
  CHECK(refused.error().code == Errc::snapshot_set_in_progress);
}

TEST_CASE("a place in the queue ends with its time or its owner", "[coordinator]") {
  CreationSlot slot;
  const TimePoint now{};
  REQUIRE(slot.acquire(1, now, seconds{0}));
  REQUIRE(slot.acquire(2, now, seconds{10}));
  REQUIRE(slot.acquire(3, now, seconds{20}));
  CHECK(slot.expired(now + seconds{9}).empty());
  CHECK(slot.expired(now + seconds{10}) == std::vector<SlotKey>{2});
  CHECK(slot.leave(3) == std::nullopt);
  CHECK(slot.leave(1) == std::nullopt);
  CHECK(slot.acquire(4, now, seconds{0}) == true);
}

TEST_CASE("the queue is bounded in length and in time", "[coordinator]") {
  CreationSlot slot;
  const TimePoint now{};
  REQUIRE(slot.acquire(1, now, seconds{0}));
  for (SlotKey key = 2; key < 2 + kSlotQueueMax; ++key)
    REQUIRE(slot.acquire(key, now, kSlotQueueLimitMax * 2));
  CHECK(!slot.acquire(1000, now, seconds{10}));
  CHECK(slot.next_deadline() == now + kSlotQueueLimitMax);
}

}  // namespace
