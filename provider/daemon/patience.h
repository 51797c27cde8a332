// SPDX-License-Identifier: Apache-2.0
//
// Waiting for what the system does not announce (a lock of a dying process, the last close of a
// file): asked again and again, with a bound.

#pragma once

#include <condition_variable>
#include <mutex>

#include "engine/platform/clock.h"

namespace umbra::cowd {

inline constexpr std::chrono::milliseconds kAskAgain{20};

/// Asks at least once. False: not within `limit`.
template <class Condition>
[[nodiscard]] bool wait_until(Duration limit, const Condition& holds) {
  const TimePoint deadline = system_clock().now() + limit;
  std::mutex mutex;
  std::condition_variable nobody_notifies;
  std::unique_lock lock(mutex);
  while (!holds()) {
    if (system_clock().now() >= deadline) return false;
    (void)nobody_notifies.wait_for(lock, kAskAgain);
  }
  return true;
}

}  // namespace umbra::cowd
