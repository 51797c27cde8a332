// SPDX-License-Identifier: Apache-2.0
//
// The decisions about space, by themselves.
#include "provider/cow/space_plan.h"
#include "tests/support/catch.h"

using namespace umbra;
using namespace umbra::cow;

namespace {

constexpr std::uint64_t kMiB = 1U << 20U;
constexpr std::uint64_t kGiB = 1U << 30U;

[[nodiscard]] TimePoint at_second(std::int64_t second) {
  return TimePoint{std::chrono::seconds(second)};
}

}  // namespace

TEST_CASE("the write rate is that of the fastest of the last seconds", "[cow][space]") {
  WriteRate rate;
  CHECK(rate.bytes_per_second(at_second(100)) == 0);
  rate.note(at_second(100), 3 * kMiB);
  rate.note(at_second(100), 4 * kMiB);
  rate.note(at_second(101), 2 * kMiB);
  CHECK(rate.bytes_per_second(at_second(101)) == 7 * kMiB);
  CHECK(rate.bytes_per_second(at_second(107)) == 7 * kMiB);
  CHECK(rate.bytes_per_second(at_second(108)) == 2 * kMiB);
  CHECK(rate.bytes_per_second(at_second(109)) == 0);
  rate.note(at_second(108), kMiB);  // In the place of second 100.
  CHECK(rate.bytes_per_second(at_second(108)) == 2 * kMiB);
}

TEST_CASE("space ahead follows the rate, between the step and the bound", "[cow][space]") {
  CHECK(ahead_bytes(0, 64 * kMiB) == 64 * kMiB);
  CHECK(ahead_bytes(kMiB, 64 * kMiB) == 64 * kMiB);
  CHECK(ahead_bytes(100 * kMiB, 64 * kMiB) == 1000 * kMiB);
  CHECK(ahead_bytes(~std::uint64_t{0}, 64 * kMiB) == kAheadBytesMax);
  CHECK(ahead_bytes(0, 2 * kAheadBytesMax) == 2 * kAheadBytesMax);
}

TEST_CASE("growth stays within the maximum and what the host has to spare", "[cow][space]") {
  Growth growth;
  growth.size_bytes = kGiB;
  growth.wanted_bytes = 256 * kMiB;
  growth.least_bytes = 5 * kMiB;
  CHECK(*decide_growth(growth).size_bytes == kGiB + 256 * kMiB);
  growth.maximum_bytes = kGiB + 100 * kMiB;
  CHECK(*decide_growth(growth).size_bytes == kGiB + 100 * kMiB);
  growth.maximum_bytes = kGiB + 4 * kMiB;
  CHECK_FALSE(decide_growth(growth).size_bytes);
  CHECK_FALSE(decide_growth(growth).by_host);
  growth.maximum_bytes = kGiB / 2;  // Lowered since.
  CHECK_FALSE(decide_growth(growth).size_bytes);
  growth.maximum_bytes = 0;
  // A sparse origin on the same file system may still want most of what is free.
  growth.host = HostRoom{10 * kGiB, 10 * kGiB - 50 * kMiB};
  CHECK(*decide_growth(growth).size_bytes == kGiB + 50 * kMiB);
  growth.host = HostRoom{10 * kGiB, 10 * kGiB};
  CHECK_FALSE(decide_growth(growth).size_bytes);
  CHECK(decide_growth(growth).by_host);
  growth.host = HostRoom{kGiB, 10 * kGiB};
  CHECK(decide_growth(growth).by_host);
}

TEST_CASE("a threshold is crossed once, and left with some distance", "[cow][space]") {
  Thresholds thresholds;
  CHECK_FALSE(thresholds.next(99, 0));
  CHECK_FALSE(thresholds.next(79, 100));
  auto crossed = thresholds.next(96, 100);
  REQUIRE(crossed);
  CHECK(crossed->percent == 80);
  CHECK(crossed->upwards);
  CHECK(thresholds.next(96, 100)->percent == 90);
  CHECK(thresholds.next(96, 100)->percent == 95);
  CHECK_FALSE(thresholds.next(96, 100));
  CHECK_FALSE(thresholds.next(93, 100));  // Two below is not enough.
  crossed = thresholds.next(92, 100);
  REQUIRE(crossed);
  CHECK(crossed->percent == 95);
  CHECK_FALSE(crossed->upwards);
  CHECK_FALSE(thresholds.next(92, 100));
  CHECK(thresholds.next(96, 100)->upwards);
  CHECK(thresholds.next(0, 100)->percent == 95);
  CHECK(thresholds.next(0, 100)->percent == 90);
  CHECK(thresholds.next(0, 100)->percent == 80);
  CHECK_FALSE(thresholds.next(0, 100));
  thresholds.set({0, 50, 0});
  CHECK(thresholds.next(100, 100)->percent == 50);
  CHECK_FALSE(thresholds.next(100, 100));
}

TEST_CASE("what failed is tried again after 1 s, 2 s, up to a minute", "[cow][space]") {
  Backoff backoff;
  CHECK(backoff.over(at_second(0)));
  CHECK_FALSE(backoff.pending());
  std::int64_t now = 100;
  for (const std::int64_t wait : {1, 2, 4, 8, 16, 32, 60, 60}) {
    backoff.failed(at_second(now));
    CHECK(backoff.pending());
    CHECK_FALSE(backoff.over(at_second(now + wait) - std::chrono::milliseconds(1)));
    CHECK(backoff.over(at_second(now + wait)));
    now += wait;
  }
  backoff.reset();
  CHECK(backoff.over(at_second(now)));
}
