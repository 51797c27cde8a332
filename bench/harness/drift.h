// SPDX-License-Identifier: Apache-2.0
//
// Whether a figure stays where it is: of samples along the time of a long run.
#pragma once

#include <utility>
#include <vector>

namespace umbra::bench {

/// Seconds since the begin, and the figure then.
using Samples = std::vector<std::pair<double, double>>;

struct Drift {
  double first_quarter = 0;   // Median of the first quarter of the time.
  double last_quarter = 0;    // And of the last.
  double slope_per_hour = 0;  // Of the line with the least squares through all.
};
/// Of at least one sample, in the order of time. Both quarters have one: the first and the last
/// sample.
[[nodiscard]] Drift drift_of(const Samples& samples);

}  // namespace umbra::bench
