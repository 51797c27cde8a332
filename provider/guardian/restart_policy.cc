// SPDX-License-Identifier: Apache-2.0
#include "provider/guardian/restart_policy.h"

#include <algorithm>

namespace umbra::guardian {

Verdict RestartPolicy::ended(TimePoint now, Ending ending) {
  const bool clean = ending.status == 0 && !ending.by_signal;
  const bool hopeless = !said_hello_ && !ending.by_signal;
  if (clean || stopping_ || hopeless) return {.what = Verdict::What::exit, .status = ending.status};

  while (!failures_.empty() && now - failures_.front() > limits_.window) failures_.pop_front();
  failures_.push_back(now);
  const auto count = static_cast<int>(failures_.size());
  if (count >= limits_.failures_max) return {.what = Verdict::What::give_up, .status = 1};

  auto pause = count > 1 ? limits_.pause_step : std::chrono::milliseconds{0};
  for (int i = 2; i < count && pause < limits_.pause_max; ++i) pause *= 2;
  return {.what = Verdict::What::restart, .pause = std::min(pause, limits_.pause_max)};
}

}  // namespace umbra::guardian
