// SPDX-License-Identifier: Apache-2.0
//
// Measuring one thing beside another: short runs of both in turn (A B, B A, A B, ...), so that
// whatever drifts on the machine drifts under both, and a ratio of each pair.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

namespace umbra::bench {

struct Summary {
  double median = 0;
  double min = 0;
  double max = 0;
};
/// Of at least one value.
[[nodiscard]] Summary summarise(std::vector<double> values);

struct Bounds {
  double low = 0;
  double high = 0;
};
/// What the true median is above, and what it is below, each with at least 95 % confidence,
/// whatever the values' distribution: order statistics, by the binomial distribution of how many of
/// independent values fall below the median. Nothing for fewer than five values, of which nothing
/// can be said so.
[[nodiscard]] std::optional<Bounds> median_bounds(std::vector<double> values);

/// The value that `fraction` (0 to 1) of all are not above. Of at least one; reorders them.
[[nodiscard]] std::uint32_t quantile(std::vector<std::uint32_t>& values, double fraction);

/// Seconds that one run took per operation.
using Run = std::function<double()>;

struct Pairs {
  std::vector<double> a;
  std::vector<double> b;
  /// How fast A is beside B, of each pair: above 1, A is faster.
  [[nodiscard]] std::vector<double> ratios() const;
  [[nodiscard]] Summary speed() const { return summarise(ratios()); }
};

/// One run of each first, which does not count: memory is touched, files are there.
[[nodiscard]] Pairs run_pairs(std::size_t pairs, const Run& a, const Run& b);

/// A clock for intervals.
[[nodiscard]] double now_seconds() noexcept;

}  // namespace umbra::bench
