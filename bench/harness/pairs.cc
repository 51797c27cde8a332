// SPDX-License-Identifier: Apache-2.0
#include "bench/harness/pairs.h"

#include <algorithm>
#include <chrono>

#include "engine/platform/assert.h"

namespace umbra::bench {

Summary summarise(std::vector<double> values) {
  UMBRA_ASSERT(!values.empty());
  std::sort(values.begin(), values.end());
  const std::size_t half = values.size() / 2;
  const double median =
      values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
  return {median, values.front(), values.back()};
}

Summary Pairs::speed() const {
  std::vector<double> ratios;
  for (std::size_t i = 0; i < a.size(); ++i) ratios.push_back(b[i] / a[i]);
  return summarise(ratios);
}

Pairs run_pairs(std::size_t pairs, const Run& a, const Run& b) {
  (void)a();
  (void)b();
  Pairs result;
  for (std::size_t i = 0; i < pairs; ++i) {
    if (i % 2 == 0) result.a.push_back(a());
    result.b.push_back(b());
    if (i % 2 == 1) result.a.push_back(a());
  }
  return result;
}

double now_seconds() noexcept {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace umbra::bench
