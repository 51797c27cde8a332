// SPDX-License-Identifier: Apache-2.0
//
// How the cost of a first write grows: with the volume, the chunk, the requests in flight. (With
// the number of snapshots: first_write_512_vs_1.)
#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "bench/scenarios/compare.h"
#include "bench/scenarios/scenarios.h"
#include "bench/umbra/world.h"

namespace umbra::bench {
namespace {

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20U;

using Copies = UmbraVolume::Copies;

struct Point {
  double x = 0;
  std::string name;
  VolumeShape volume;
  Shape shape;
};

// Each point is pairs of its own, under a snapshot and without. The key's figure is the last
// point's ratio, the others are beside it; the lines are microseconds of each write.
Outcome sweep(Context& context, const std::string& x, const std::vector<Point>& points) {
  Outcome outcome;
  Series under{"first writes", x, "us", {}};
  Series without{"without a snapshot", x, "us", {}};
  for (const Point& point : points) {
    UmbraVolume a(context.world, point.volume, Copies::auto_release);
    UmbraVolume b(context.world, point.volume, Copies::none);
    Driver ours(a, point.volume.size_bytes, context.options.seed);
    Driver theirs(b, point.volume.size_bytes, context.options.seed + 1);
    const Pairs pairs = run_pairs(
        context.reps, [&] { return ours.first_write(point.shape); },
        [&] { return theirs.first_write(point.shape); });
    under.points.emplace_back(point.x, summarise(pairs.a).median * 1e6);
    without.points.emplace_back(point.x, summarise(pairs.b).median * 1e6);
    outcome.medium = a.medium();
    outcome.digest =
        both(outcome.digest, both(ours.verify(point.shape), theirs.verify(point.shape)));
    Outcome one;
    set_pairs(one, pairs, point.name + ", without a snapshot");
    if (&point == &points.back()) {
      outcome.values = one.values;
      outcome.baseline = one.baseline;
    } else {
      outcome.beside.push_back({point.name, one.values, one.baseline});
    }
  }
  outcome.series = {std::move(under), std::move(without)};
  return outcome;
}

Shape shape_of(Context& context) {
  Shape shape;
  shape.request_bytes = 4096;
  shape.writes_max = context.size(4096, 64);
  return shape;
}

Outcome by_volume_size(Context& context) {
  std::vector<Point> points;
  for (const std::uint64_t mib : {64U, 256U, 1024U}) {
    Point point{static_cast<double>(mib), std::to_string(mib) + " MiB", {}, shape_of(context)};
    point.volume.size_bytes = context.size(mib * kMiB, mib * kMiB / 64);
    point.volume.copies = 1;
    point.shape.stride_bytes = 16U << 10U;
    points.push_back(std::move(point));
  }
  return sweep(context, "volume, MiB", points);
}

Outcome by_chunk(Context& context) {
  std::vector<Point> points;
  for (const std::uint32_t kib : {4U, 16U, 64U, 256U}) {
    Point point{static_cast<double>(kib),
                "chunks of " + std::to_string(kib) + " KiB",
                {},
                shape_of(context)};
    point.volume.size_bytes = context.size(256 * kMiB, 2 * kMiB);
    point.volume.chunk_bytes = kib << 10U;
    point.shape.stride_bytes = point.volume.chunk_bytes;
    point.shape.writes_max = context.size(1024, 8);
    points.push_back(std::move(point));
  }
  return sweep(context, "chunk, KiB", points);
}

Outcome by_depth(Context& context) {
  std::vector<Point> points;
  for (const std::size_t depth : {1U, 4U, 16U, 64U}) {
    Point point{
        static_cast<double>(depth), std::to_string(depth) + " in flight", {}, shape_of(context)};
    point.volume.size_bytes = context.size(64 * kMiB, kMiB);
    point.shape.stride_bytes = 16U << 10U;
    point.shape.depth = depth;
    points.push_back(std::move(point));
  }
  return sweep(context, "requests in flight", points);
}

}  // namespace

std::vector<Scenario> growth_scenarios() {
  return {
      {"first_write_by_volume_size", "ratio", std::nullopt, 7,
       "4 KiB first writes, 4096 at random in 64 to 1024 MiB / without a snapshot", by_volume_size},
      {"first_write_by_chunk", "ratio", std::nullopt, 7,
       "one write of 4 KiB to each of 1024 chunks of 4 to 256 KiB / without a snapshot", by_chunk},
      {"first_write_by_depth", "ratio", std::nullopt, 7,
       "4 KiB first writes, 1 to 64 in flight / without a snapshot", by_depth},
  };
}

}  // namespace umbra::bench
