// SPDX-License-Identifier: Apache-2.0
#include "provider/guardian/restart_policy.h"

#include "tests/support/catch.h"

namespace umbra::guardian {
namespace {

using namespace std::chrono_literals;
using What = Verdict::What;

constexpr Ending kKilled{.status = 137, .by_signal = true};

TEST_CASE("a clean exit of umbra-cowd ends the unit", "[guardian]") {
  RestartPolicy policy({});
  policy.said_hello();
  const auto verdict = policy.ended(TimePoint{}, {.status = 0});
  CHECK(verdict.what == What::exit);
  CHECK(verdict.status == 0);
}

TEST_CASE("a refusal before the first hello is passed on, a crash is not", "[guardian]") {
  RestartPolicy policy({});
  const auto verdict = policy.ended(TimePoint{}, {.status = 2});
  CHECK(verdict.what == What::exit);
  CHECK(verdict.status == 2);
  CHECK(policy.ended(TimePoint{}, kKilled).what == What::restart);
}

TEST_CASE("while the unit is stopped nothing is restarted", "[guardian]") {
  RestartPolicy policy({});
  policy.said_hello();
  policy.stopping();
  const auto verdict = policy.ended(TimePoint{}, kKilled);
  CHECK(verdict.what == What::exit);
  CHECK(verdict.status == 137);
}

TEST_CASE("pauses grow from none to the maximum, then the guardian gives up", "[guardian]") {
  RestartPolicy policy({.failures_max = 8, .window = 60s, .pause_step = 100ms, .pause_max = 1s});
  policy.said_hello();
  TimePoint now{};
  for (const auto pause : {0ms, 100ms, 200ms, 400ms, 800ms, 1000ms, 1000ms}) {
    const auto verdict = policy.ended(now += 1s, kKilled);
    CHECK(verdict.what == What::restart);
    CHECK(verdict.pause == pause);
  }
  CHECK(policy.ended(now += 1s, {.status = 1}).what == What::give_up);
}

TEST_CASE("failures that lie a window apart never add up", "[guardian]") {
  RestartPolicy policy({.failures_max = 2, .window = 60s});
  policy.said_hello();
  TimePoint now{};
  for (int i = 0; i < 100; ++i) {
    const auto verdict = policy.ended(now += 61s, kKilled);
    CHECK(verdict.what == What::restart);
    CHECK(verdict.pause == 0ms);
  }
}

}  // namespace
}  // namespace umbra::guardian
