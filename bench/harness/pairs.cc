// SPDX-License-Identifier: Apache-2.0
#include "bench/harness/pairs.h"

#include <algorithm>
#include <chrono>
#include <cmath>

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

std::optional<Bounds> median_bounds(std::vector<double> values) {
  constexpr double kDoubt = 0.05;
  std::sort(values.begin(), values.end());
  const auto count = static_cast<double>(values.size());
  // Of `count` independent values at most `outside` are below the median with this probability.
  double term = std::pow(0.5, count);
  double tail = term;
  if (values.empty() || tail > kDoubt) return std::nullopt;
  std::size_t outside = 0;
  while (true) {
    const auto next = static_cast<double>(outside + 1);
    term *= (count - next + 1) / next;
    if (tail + term > kDoubt) break;
    tail += term;
    ++outside;
  }
  return Bounds{values[outside], values[values.size() - 1 - outside]};
}

std::uint32_t quantile(std::vector<std::uint32_t>& values, double fraction) {
  UMBRA_ASSERT(!values.empty());
  const auto rank =
      static_cast<std::size_t>(std::ceil(fraction * static_cast<double>(values.size())));
  const auto at = values.begin() +
                  static_cast<std::ptrdiff_t>(std::clamp<std::size_t>(rank, 1, values.size()) - 1);
  std::nth_element(values.begin(), at, values.end());
  return *at;
}

std::vector<double> Pairs::ratios() const {
  std::vector<double> ratios;
  for (std::size_t i = 0; i < a.size(); ++i) ratios.push_back(b[i] / a[i]);
  return ratios;
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
