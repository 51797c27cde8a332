// SPDX-License-Identifier: Apache-2.0
//
// A clock that stands still until the test moves it.
#pragma once

#include <atomic>
#include <cstdint>

#include "engine/platform/clock.h"

namespace umbra::test {

/// Threads: any.
class ManualClock final : public Clock {
 public:
  [[nodiscard]] TimePoint now() const noexcept override { return TimePoint{Duration{now_.load()}}; }
  [[nodiscard]] std::int64_t wall_filetime() const noexcept override {
    return kEpochFiletime + now_.load() / 100;
  }
  void advance(Duration by) noexcept { now_ += by.count(); }

 private:
  static constexpr std::int64_t kEpochFiletime = 133'000'000'000'000'000;
  std::atomic<std::int64_t> now_{1};
};

}  // namespace umbra::test
