// SPDX-License-Identifier: Apache-2.0
#include <string>
#include <vector>

#include "bench/harness/drift.h"
#include "bench/harness/failure.h"
#include "bench/harness/pairs.h"
#include "bench/harness/scenario.h"
#include "bench/load/content.h"
#include "bench/micro/bench_volume.h"
#include "engine/platform/prng.h"
#include "tests/support/catch.h"
#include "tests/support/seed.h"

using namespace umbra;

TEST_CASE("a summary is the middle and both ends", "[bench]") {
  const bench::Summary odd = bench::summarise({3, 1, 2});
  CHECK(odd.median == 2);
  CHECK(odd.min == 1);
  CHECK(odd.max == 3);
  CHECK(bench::summarise({4, 1, 2, 3}).median == 2.5);
}

TEST_CASE("pairs are run in turn, the first of each does not count", "[bench]") {
  std::string order;
  const bench::Pairs pairs = bench::run_pairs(
      3,
      [&] {
        order += 'a';
        return order.size() < 3 ? 100.0 : 2.0;
      },
      [&] {
        order += 'b';
        return order.size() < 3 ? 100.0 : 1.0;
      });
  CHECK(order ==
        "ab"
        "ab"
        "ba"
        "ab");
  CHECK(pairs.speed().median == 0.5);
  CHECK(pairs.speed().max == 0.5);
}

TEST_CASE("bounds of a median are those of the binomial distribution", "[bench]") {
  CHECK_FALSE(bench::median_bounds({}));
  CHECK_FALSE(bench::median_bounds({1, 2, 3, 4}));  // All on one side: 1 in 16.
  const auto five = bench::median_bounds({5, 4, 1, 2, 3});
  REQUIRE(five);
  CHECK(five->low == 1);
  CHECK(five->high == 5);
  // At most five of twenty below the median: 0.0207; at most six: 0.0577.
  std::vector<double> twenty;
  for (int i = 1; i <= 20; ++i) twenty.push_back(i);
  const auto bounds = bench::median_bounds(twenty);
  REQUIRE(bounds);
  CHECK(bounds->low == 6);
  CHECK(bounds->high == 15);
}

// Method: of medians of random samples, as many lie beyond a bound as it says, and not more.
TEST_CASE("bounds of a median hold as often as they say", "[bench]") {
  Prng prng(test::seed());
  CAPTURE(test::seed());
  int low_wrong = 0;
  int high_wrong = 0;
  constexpr int kRounds = 4000;
  for (int round = 0; round < kRounds; ++round) {
    std::vector<double> values;
    for (int i = 0; i < 20; ++i) values.push_back(static_cast<double>(prng.below(1'000'000)));
    const auto bounds = bench::median_bounds(values);
    low_wrong += bounds->low > 500'000 ? 1 : 0;
    high_wrong += bounds->high < 500'000 ? 1 : 0;
  }
  CHECK(low_wrong < kRounds * 5 / 100);
  CHECK(high_wrong < kRounds * 5 / 100);
  CHECK(low_wrong > kRounds / 200);  // Or the bound is one that cannot be missed.
}

TEST_CASE("a quantile is a value that was seen", "[bench]") {
  std::vector<std::uint32_t> values;
  for (std::uint32_t i = 1; i <= 100; ++i) values.push_back(101 - i);
  CHECK(bench::quantile(values, 0.5) == 50);
  CHECK(bench::quantile(values, 0.99) == 99);
  CHECK(bench::quantile(values, 0.999) == 100);
  CHECK(bench::quantile(values, 0) == 1);
}

TEST_CASE("a target is met by its bound, not by its median", "[bench]") {
  bench::Scenario scenario;
  scenario.target = bench::Target{0.9, true};
  bench::Outcome outcome;
  CHECK_FALSE(bench::is_met(scenario, outcome));  // Skipped: nothing is said.
  outcome.values = {0.8, 1, 1, 1, 1};
  CHECK(bench::is_met(scenario, outcome) == false);
  outcome.values = {0.95, 1, 1, 1, 1};
  CHECK(bench::is_met(scenario, outcome) == true);
  outcome.values = {0.95, 1, 1, 1};  // Too few for a bound.
  CHECK(bench::is_met(scenario, outcome) == false);
  scenario.target = bench::Target{10, false};
  outcome.values = {1, 2, 3, 4, 11};
  CHECK(bench::is_met(scenario, outcome) == false);
  outcome.values = {1, 2, 3, 4, 9};
  CHECK(bench::is_met(scenario, outcome) == true);
  scenario.target.reset();
  CHECK_FALSE(bench::is_met(scenario, outcome));
}

TEST_CASE("content that is not what was written is found, to the byte", "[bench]") {
  bench::Content content(16 * bench::kGranule, 1);
  std::vector<std::byte> buffer(2 * bench::kGranule);
  content.prepare_buffer(buffer);
  content.begin_writes();
  content.write(bench::kGranule, buffer);
  const bench::Content snapshot = content;
  CHECK(content.looks_right(bench::kGranule, buffer));
  const std::uint32_t digest = content.check(bench::kGranule, buffer, 0, "it");
  CHECK(digest != 0);
  CHECK_THROWS_AS(content.check(2 * bench::kGranule, buffer, 0, "it"), bench::Failed);
  std::vector<std::byte> damaged = buffer;
  damaged.back() ^= std::byte{1};
  CHECK_THROWS_AS(content.check(bench::kGranule, damaged, 0, "it"), bench::Failed);
  content.begin_writes();
  content.write(bench::kGranule, buffer);
  CHECK_FALSE(snapshot.looks_right(bench::kGranule, buffer));  // A snapshot shows what was before.
  CHECK_THROWS_AS(snapshot.check(bench::kGranule, buffer, 0, "it"), bench::Failed);
  CHECK(content.check(bench::kGranule, buffer, 0, "it") != digest);
}

TEST_CASE("of a copy made under writes each place may be from any write in between", "[bench]") {
  bench::Content content(4 * bench::kGranule, 1);
  std::vector<std::byte> buffer(bench::kGranule);
  content.prepare_buffer(buffer);
  std::vector<std::vector<std::byte>> writes;
  std::vector<bench::Content> after;
  for (int i = 0; i < 4; ++i) {
    content.begin_writes();
    content.write(bench::kGranule, buffer);
    writes.push_back(buffer);
    after.push_back(content);
  }
  const auto check = [&](std::size_t seen) {
    return after[2].check_since(after[1], bench::kGranule, writes[seen], 0, "it");
  };
  CHECK_THROWS_AS(check(0), bench::Failed);  // Older than what was answered before.
  CHECK(check(1) != 0);
  CHECK(check(2) != 0);
  CHECK_THROWS_AS(check(3), bench::Failed);  // Younger than what was sent.
  writes[2].back() ^= std::byte{1};
  CHECK_THROWS_AS(check(2), bench::Failed);
  // Of another place, or another volume.
  CHECK_THROWS_AS(after[2].check_since(after[1], 0, writes[1], 0, "it"), bench::Failed);
  const bench::Content other(4 * bench::kGranule, 2);
  CHECK_THROWS_AS(other.check(bench::kGranule, writes[1], 0, "it"), bench::Failed);
}

TEST_CASE("what is answered follows what was sent, and a volume goes back", "[bench]") {
  bench::Content content(4 * bench::kGranule, 1);
  std::vector<std::byte> buffer(bench::kGranule);
  content.prepare_buffer(buffer);
  bench::Content answered = content;
  content.begin_writes();
  content.write(0, buffer);
  const auto first = buffer;
  const bench::Content old = content;
  CHECK_FALSE(answered.looks_right(0, buffer));
  answered.follow(content, 0, bench::kGranule);
  CHECK(answered.looks_right(0, buffer));
  content.begin_writes();
  content.write(0, buffer);
  const auto second = buffer;
  content.become(old);
  CHECK(content.looks_right(0, first));
  content.begin_writes();
  content.write(0, buffer);
  CHECK_FALSE(content.looks_right(0, second));  // Not the number of a write that was undone.
}

TEST_CASE("drift is that of the ends and of the line through all", "[bench]") {
  bench::Samples samples;
  for (int i = 0; i <= 100; ++i) samples.emplace_back(i, 10 + i * 0.5);
  samples[50].second = 35;
  const bench::Drift drift = bench::drift_of(samples);
  CHECK(drift.first_quarter == Approx(16.25));  // 10 to 22.5.
  CHECK(drift.last_quarter == Approx(53.75));
  CHECK(drift.slope_per_hour == Approx(1800).epsilon(0.01));
  const bench::Drift one = bench::drift_of({{5, 7}});
  CHECK(one.first_quarter == 7);
  CHECK(one.last_quarter == 7);
  CHECK(one.slope_per_hour == 0);
  const bench::Drift none = bench::drift_of({{0, 3}, {1, 3}, {2, 3}, {3, 3}});
  CHECK(none.slope_per_hour == 0);
}

TEST_CASE("a bench's digest follows from its seed, and covers what snapshots show", "[bench]") {
  bench::StoreShape shape;
  shape.chunks = 64;
  const auto digest = [&](std::uint64_t seed, std::uint64_t writes) {
    bench::BenchVolume volume({}, shape, seed);
    volume.take(true);
    (void)volume.write(writes);
    volume.take(false);
    (void)volume.write(shape.chunks);
    return volume.verify();
  };
  CHECK(digest(1, 32) == digest(1, 32));
  CHECK(digest(1, 32) != digest(2, 32));  // Other chunks in the newest snapshot.
  CHECK(digest(1, 32) != digest(1, 33));
}
