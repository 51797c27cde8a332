// SPDX-License-Identifier: Apache-2.0

#include "engine/coordinator/peer_accounts.h"

#include "tests/support/catch.h"

namespace {

using namespace umbra;
using namespace umbra::coord;
using namespace std::chrono_literals;

TimePoint at(Duration time) { return TimePoint{time}; }

TEST_CASE("a bucket gives its burst at once, and then its rate", "[coordinator]") {
  TokenBucket bucket(10, 20);
  int taken = 0;
  while (bucket.take(at(5s))) ++taken;
  CHECK(taken == 20);
  CHECK(bucket.next() == at(5s + 100ms));
  CHECK(!bucket.take(at(5s + 99ms)));
  CHECK(bucket.take(at(5s + 100ms)));
  CHECK(!bucket.take(at(5s + 100ms)));
  // However long the pause, no more than the burst is saved up.
  taken = 0;
  while (bucket.take(at(3600s))) ++taken;
  CHECK(taken == 20);
}

TEST_CASE("a user has so many connections, root and umbrad's user as many as there are",
          "[coordinator]") {
  PeerAccounts accounts({2, 100, 42});
  CHECK(accounts.connect(1000));
  CHECK(accounts.connect(1000));
  CHECK(!accounts.connect(1000));
  CHECK(accounts.connect(1001));
  accounts.disconnect(1000);
  CHECK(!accounts.connect(1000));  // The refused one still counts until it is gone.
  accounts.disconnect(1000);
  accounts.disconnect(1000);
  CHECK(accounts.connect(1000));
  for (int i = 0; i < 5; ++i) {
    CHECK(accounts.connect(0));
    CHECK(accounts.connect(42));
  }
}

TEST_CASE("calls are counted for a user, whatever the connection, and not for others",
          "[coordinator]") {
  PeerAccounts accounts({2, 10, 0});
  CHECK(accounts.connect(7));
  CHECK(accounts.connect(7));
  int taken = 0;
  while (accounts.may_call(7, at(1s))) ++taken;
  CHECK(taken == 10 * static_cast<int>(kCallBurstSeconds));
  CHECK(accounts.may_call(8, at(1s)));
  CHECK(accounts.next_call(7, at(1s)) == at(1s + 100ms));
  CHECK(accounts.next_call(8, at(1s)) == at(1s));
  CHECK(accounts.next_call(9, at(1s)) == at(1s));
  // Going and coming is no way around.
  accounts.disconnect(7);
  accounts.disconnect(7);
  CHECK(accounts.connect(7));
  CHECK(!accounts.may_call(7, at(1s)));
}

TEST_CASE("refusals fill no log, and say how many were left out", "[coordinator]") {
  PeerAccounts accounts({2, 10, 0});
  CHECK(accounts.connect(7));
  std::uint64_t logged = 0;
  for (int i = 0; i < 100; ++i)
    if (accounts.log_refusal(7, at(1s))) ++logged;
  CHECK(logged == kRefusalsLoggedPerSecond);
  CHECK(accounts.log_refusal(8, at(1s)) == 0U);
  CHECK(accounts.log_refusal(7, at(10s)) == 100 - kRefusalsLoggedPerSecond);
  CHECK(accounts.log_refusal(7, at(10s)) == 0U);
}

}  // namespace
