// SPDX-License-Identifier: Apache-2.0
#include "bench/harness/drift.h"

#include "bench/harness/pairs.h"
#include "engine/platform/assert.h"

namespace umbra::bench {

Drift drift_of(const Samples& samples) {
  UMBRA_ASSERT(!samples.empty());
  const double begin = samples.front().first;
  const double quarter = (samples.back().first - begin) / 4;
  std::vector<double> first;
  std::vector<double> last;
  double mean_at = 0;
  double mean = 0;
  const auto count = static_cast<double>(samples.size());
  for (const auto& [at, value] : samples) {
    if (at <= begin + quarter) first.push_back(value);
    if (at >= begin + 3 * quarter) last.push_back(value);
    mean_at += at / count;
    mean += value / count;
  }
  double along = 0;
  double square = 0;
  for (const auto& [at, value] : samples) {
    along += (at - mean_at) * (value - mean);
    square += (at - mean_at) * (at - mean_at);
  }
  constexpr double kHour = 3600;
  return {summarise(first).median, summarise(last).median, square > 0 ? along / square * kHour : 0};
}

}  // namespace umbra::bench
