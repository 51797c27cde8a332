// SPDX-License-Identifier: Apache-2.0
//
// The first write to each chunk under a snapshot, beside the same server without one, and beside
// itself in other company.
#include <algorithm>
#include <string>
#include <vector>

#include "bench/harness/failure.h"
#include "bench/scenarios/compare.h"
#include "bench/scenarios/scenarios.h"
#include "bench/umbra/world.h"

namespace umbra::bench {
namespace {

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20U;

constexpr std::chrono::seconds kOthersLimit{600};

using Copies = UmbraVolume::Copies;

VolumeShape volume_of(std::uint64_t size_bytes, std::uint32_t chunk_bytes = 16U << 10U) {
  VolumeShape shape;
  shape.size_bytes = size_bytes;
  shape.chunk_bytes = chunk_bytes;
  return shape;
}

Outcome against(Context& context, const VolumeShape& volume, Copies ours, Copies theirs,
                const Shape& shape) {
  UmbraVolume a(context.world, volume, ours);
  UmbraVolume b(context.world, volume, theirs);
  return compare_first_writes(context, a, b, volume.size_bytes, shape);
}

Outcome first_write(Context& context) {
  return against(context, volume_of(context.size(128 * kMiB, 2 * kMiB)), Copies::auto_release,
                 Copies::none, {});
}

Outcome first_write_4k(Context& context) {
  Shape shape;
  shape.request_bytes = 4096;
  shape.depth = 32;
  return against(context, volume_of(context.size(64 * kMiB, kMiB), 4096), Copies::auto_release,
                 Copies::none, shape);
}

// The key's own figure at depth 32; with one request at a time beside it.
Outcome first_write_persistent(Context& context) {
  Shape shape;
  shape.depth = 32;
  shape.flush_every = 32;
  const VolumeShape volume = volume_of(context.size(64 * kMiB, 2 * kMiB));
  Outcome outcome = against(context, volume, Copies::persistent, Copies::none, shape);
  shape.depth = 1;
  const Outcome alone = against(context, volume, Copies::persistent, Copies::none, shape);
  outcome.beside.push_back({"one request at a time", alone.values, alone.baseline});
  outcome.digest = both(outcome.digest, alone.digest);
  return outcome;
}

Outcome mixed_epochs(Context& context) {
  Shape shape;
  shape.depth = 32;
  shape.flush_every = 32;
  return against(context, volume_of(context.size(64 * kMiB, 2 * kMiB)),
                 Copies::auto_release_over_persistent, Copies::persistent, shape);
}

Pairs below_against_none(Context& context, std::size_t below, Outcome& outcome) {
  const VolumeShape volume = volume_of(context.size(64 * kMiB, 2 * kMiB));
  UmbraVolume many(context.world, volume, Copies::persistent);
  UmbraVolume one(context.world, volume, Copies::persistent);
  Driver ours(many, volume.size_bytes, context.options.seed);
  Driver theirs(one, volume.size_bytes, context.options.seed + 1);
  if (take_many(many, ours, below, 4, kOthersLimit) < below) {
    throw Skipped(std::to_string(below) + " copies are not made within " +
                  std::to_string(kOthersLimit.count()) + " s");
  }
  const Pairs pairs = run_pairs(
      context.reps, [&] { return ours.first_write({}); }, [&] { return theirs.first_write({}); });
  outcome.medium = many.medium();
  outcome.digest = both(outcome.digest, both(ours.verify({}), theirs.verify({})));
  return pairs;
}

// The measured copy is the newest of them; all are persistent, so that both sides do the same.
Outcome first_write_512(Context& context) {
  Outcome outcome;
  Series series{"first writes with N snapshots", "snapshots", "speed beside 1 snapshot", {}};
  series.points.emplace_back(1, 1);
  const std::vector<std::size_t> counts =
      context.options.smoke ? std::vector<std::size_t>{4} : std::vector<std::size_t>{8, 64, 512};
  for (const std::size_t count : counts) {
    const Pairs pairs = below_against_none(context, count - 1, outcome);
    series.points.emplace_back(static_cast<double>(count), pairs.speed().median);
    if (count == counts.back()) {
      set_pairs(outcome, pairs, "with 1 persistent snapshot");
    } else {
      outcome.beside.push_back({std::to_string(count) + " snapshots", pairs.ratios()});
    }
  }
  outcome.series.push_back(std::move(series));
  return outcome;
}

}  // namespace

std::vector<Scenario> first_write_scenarios() {
  return {
      {"first_write_vs_plain", "ratio", Target{0.65}, 20,
       "16 KiB random first writes, depth 16, auto-release snapshot / the same server without",
       first_write},
      {"first_write_4k_vs_plain", "ratio", Target{0.55}, 20,
       "4 KiB random first writes, chunks of 4 KiB, depth 32 / without a snapshot", first_write_4k},
      {"first_write_persistent_vs_plain", "ratio", Target{0.60}, 20,
       "persistent snapshot, a flush every 32 writes on both sides, depth 32 / without",
       first_write_persistent},
      {"first_write_mixed_epochs", "ratio", Target{0.95}, 20,
       "auto-release snapshot above a persistent one / the persistent one alone", mixed_epochs},
      {"first_write_512_vs_1", "ratio", Target{0.95}, 20,
       "first writes with 512 snapshots on the volume / with 1; 8 and 64 beside it",
       first_write_512},
  };
}

}  // namespace umbra::bench
