// SPDX-License-Identifier: Apache-2.0
#include "provider/cow/space_plan.h"

#include <algorithm>

namespace umbra::cow {
namespace {

[[nodiscard]] std::int64_t second_of(TimePoint now) noexcept {
  return std::chrono::duration_cast<std::chrono::seconds>(now.time_since_epoch()).count();
}

}  // namespace

void WriteRate::note(TimePoint now, std::uint64_t bytes) noexcept {
  const std::int64_t number = second_of(now);
  Second& second = seconds_[static_cast<std::size_t>(number) % kSeconds];
  if (second.number != number) second = {number, 0};
  second.bytes += bytes;
}

std::uint64_t WriteRate::bytes_per_second(TimePoint now) const noexcept {
  const std::int64_t number = second_of(now);
  std::uint64_t most = 0;
  for (const Second& second : seconds_) {
    const bool recent =
        second.number >= 0 && number - second.number < static_cast<std::int64_t>(kSeconds);
    if (recent) most = std::max(most, second.bytes);
  }
  return most;
}

std::uint64_t ahead_bytes(std::uint64_t rate, std::uint64_t step_bytes) noexcept {
  const std::uint64_t most = std::max(step_bytes, kAheadBytesMax);
  if (rate >= most / kAheadSeconds) return most;
  return std::max(rate * kAheadSeconds, step_bytes);
}

GrowthDecision decide_growth(const Growth& growth) noexcept {
  std::uint64_t add = std::max(growth.wanted_bytes, growth.least_bytes);
  if (growth.maximum_bytes != 0) {
    const std::uint64_t left =
        growth.maximum_bytes > growth.size_bytes ? growth.maximum_bytes - growth.size_bytes : 0;
    add = std::min(add, left);
    if (add < growth.least_bytes) return {};
  }
  if (growth.host) {
    add = std::min(add, growth.host->for_us());
    if (add < growth.least_bytes) return {std::nullopt, true};
  }
  return {growth.size_bytes + add, false};
}

std::optional<Thresholds::Crossed> Thresholds::next(std::uint64_t used,
                                                    std::uint64_t limit) noexcept {
  if (limit == 0) return std::nullopt;
  const double percent = 100.0 * static_cast<double>(used) / static_cast<double>(limit);
  for (std::size_t i = 0; i < kCount; ++i) {
    if (percents_[i] == 0 || crossed_[i] || percent < percents_[i]) continue;
    crossed_[i] = true;
    return Crossed{percents_[i], true};
  }
  for (std::size_t i = kCount; i-- > 0;) {
    if (!crossed_[i] || percent + kHysteresisPercent > percents_[i]) continue;
    crossed_[i] = false;
    return Crossed{percents_[i], false};
  }
  return std::nullopt;
}

void Backoff::failed(TimePoint now) noexcept {
  constexpr Duration kFirst = std::chrono::seconds(1);
  constexpr Duration kLongest = std::chrono::seconds(60);
  since_ = now;
  wait_ = wait_ == Duration::zero() ? kFirst : std::min(2 * wait_, kLongest);
}

}  // namespace umbra::cow
