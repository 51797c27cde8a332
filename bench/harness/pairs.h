// SPDX-License-Identifier: Apache-2.0
//
// Measuring one thing beside another: short runs of both in turn (A B, B A, A B, ...), so that
// whatever drifts on the machine drifts under both, and a ratio of each pair.
#pragma once

#include <cstddef>
#include <functional>
#include <vector>

namespace umbra::bench {

struct Summary {
  double median = 0;
  double min = 0;
  double max = 0;
};
/// Of at least one value.
[[nodiscard]] Summary summarise(std::vector<double> values);

/// Seconds that one run took per operation.
using Run = std::function<double()>;

struct Pairs {
  std::vector<double> a;
  std::vector<double> b;
  /// How fast A is beside B: above 1, A is faster.
  [[nodiscard]] Summary speed() const;
};

/// One run of each first, which does not count: memory is touched, files are there.
[[nodiscard]] Pairs run_pairs(std::size_t pairs, const Run& a, const Run& b);

/// A clock for intervals.
[[nodiscard]] double now_seconds() noexcept;

}  // namespace umbra::bench
