// SPDX-License-Identifier: Apache-2.0
#include <string>

#include "bench/harness/pairs.h"
#include "bench/micro/bench_volume.h"
#include "tests/support/catch.h"

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

TEST_CASE("a bench's digest follows from its seed, and covers what snapshots show", "[bench]") {
  bench::VolumeShape shape;
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
