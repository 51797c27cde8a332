// SPDX-License-Identifier: Apache-2.0
//
// The store alone, as `umbra-bench micro` has it: memory per record, and opening again.
#include "bench/micro/empty_volume.h"
#include "bench/scenarios/scenarios.h"

namespace umbra::bench {
namespace {

Outcome ram(Context& context) {
  const std::uint64_t count = context.size(1'000'000, 4096);
  Outcome outcome;
  for (std::size_t rep = 0; rep < context.reps; ++rep) {
    outcome.values.push_back(ram_bytes_per_chunk(count, context.options.seed + rep));
    check_interrupted();
  }
  outcome.baseline =
      std::to_string(count) + " chunks of 16 KiB at random, one snapshot; the data itself";
  outcome.medium = "no payload is kept";
  outcome.digest = static_cast<std::uint32_t>(count);
  return outcome;
}

Outcome reopen(Context& context) {
  const std::uint64_t count = context.size(10'000'000, 4096);
  Outcome outcome;
  outcome.values = reopen_seconds_per_10m(count, context.reps, context.options.seed);
  outcome.baseline = std::to_string(count) + " chunks of 4 KiB without payload, after kill -9";
  outcome.medium = "index in RAM (warm)";
  outcome.digest = static_cast<std::uint32_t>(count);
  return outcome;
}

}  // namespace

std::vector<Scenario> memory_scenarios() {
  return {
      {"ram_bytes_per_chunk", "bytes", Target{8, false}, 5,
       "resident bytes per preserved chunk, bitmaps and buffers included, a million at random",
       ram},
      {"reopen_s_per_10m_chunks", "s", Target{2, false}, 5,
       "opening after kill -9, ten million records, index in memory", reopen},
  };
}

}  // namespace umbra::bench
