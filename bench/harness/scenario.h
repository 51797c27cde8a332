// SPDX-License-Identifier: Apache-2.0
//
// A key: what is measured, beside what, and what it should be; and what came out.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bench/harness/pairs.h"
#include "bench/harness/system.h"

namespace umbra::bench {

class World;

struct Target {
  double value = 0;
  bool at_least = true;  // Else: at most.
};

/// Microseconds of single requests, over all counted runs.
struct Latency {
  std::string of;
  double p50 = 0;
  double p99 = 0;
  double p999 = 0;
};

/// A figure beside the key's own: the other workloads of it, other sizes.
struct Beside {
  std::string name;
  std::vector<double> values;
  std::string baseline{};
};

/// A line of a plot.
struct Series {
  std::string name;
  std::string x;  // What runs along: "seconds", "snapshots".
  std::string y;
  std::vector<std::pair<double, double>> points;
};

struct Outcome {
  std::vector<double> values;  // One a repetition; empty: skipped.
  std::string skipped{};       // Why.
  std::string baseline{};      // What it is to be read beside, with its own figure.
  std::string medium{};
  std::uint32_t digest = 0;  // Of all that was read back and found right.
  std::vector<Latency> latencies{};
  std::vector<Beside> beside{};
  std::vector<Series> series{};
};

struct RunOptions {
  bool smoke = false;    // Sizes at which a figure means nothing and everything is run.
  std::size_t reps = 0;  // 0: each key's own.
  std::uint64_t seed = 1;
  std::string directory{};  // Of all files; empty: memory.
};

/// What a scenario gets. Threads: the main one.
struct Context {
  const RunOptions& options;
  World& world;  // Daemons and scratch directory, shared by all keys.
  std::size_t reps;

  [[nodiscard]] std::uint64_t size(std::uint64_t full, std::uint64_t smoke) const {
    return options.smoke ? smoke : full;
  }
};

struct Scenario {
  std::string key;
  std::string unit;  // "ratio", "us", "ms", "bytes", "s".
  std::optional<Target> target;
  std::size_t reps = 20;
  std::string what;  // For `list`, one line.
  std::function<Outcome(Context&)> run;
  bool mounts = false;  // Something, where it may.
};

/// All of them, in the order of docs/bench.md.
[[nodiscard]] const std::vector<Scenario>& scenarios();

/// Whether the outcome meets the target: its bound does, not its median. Nothing: there is no
/// target, or it was skipped.
[[nodiscard]] std::optional<bool> is_met(const Scenario& scenario, const Outcome& outcome);

/// One line of JSON, without the newline.
[[nodiscard]] std::string to_json(const Scenario& scenario, const Outcome& outcome,
                                  const RunOptions& options);
[[nodiscard]] std::string to_json(const MachineCard& card);
/// For people: one line or more, each with its newline.
[[nodiscard]] std::string to_text(const Scenario& scenario, const Outcome& outcome);
[[nodiscard]] std::string to_text(const MachineCard& card);

}  // namespace umbra::bench
