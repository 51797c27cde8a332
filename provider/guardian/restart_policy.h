// SPDX-License-Identifier: Apache-2.0
//
// What to do when umbra-cowd has ended. Pure: times are passed in.
//
//   a clean exit (status 0)                        exit with 0
//   any end while the unit is being stopped        exit with its status
//   a status before the first hello ever           exit with it: a wrong option stays wrong
//   otherwise a failure: fewer than `failures_max` in `window`   restart after a growing pause
//                        as many                                  give up

#pragma once

#include <chrono>
#include <deque>

#include "engine/platform/clock.h"

namespace umbra::guardian {

struct RestartLimits {
  int failures_max = 5;
  std::chrono::milliseconds window{60'000};
  std::chrono::milliseconds pause_step{
      100};  // Before the second restart; doubles. The first: none.
  std::chrono::milliseconds pause_max{2'000};
};

/// How a process ended: by exit status, or by a signal (`status` is then 128 + signal).
struct Ending {
  int status = 0;
  bool by_signal = false;
};

struct Verdict {
  enum class What : std::uint8_t { exit, restart, give_up };
  What what = What::exit;
  int status = 0;                      // exit.
  std::chrono::milliseconds pause{0};  // restart.
};

class RestartPolicy {
 public:
  explicit RestartPolicy(RestartLimits limits) : limits_(limits) {}

  /// umbra-cowd has said hello: from now on its ends are failures to recover from.
  void said_hello() { said_hello_ = true; }
  /// The unit is being stopped.
  void stopping() { stopping_ = true; }
  [[nodiscard]] bool is_stopping() const { return stopping_; }

  [[nodiscard]] Verdict ended(TimePoint now, Ending ending);

 private:
  RestartLimits limits_;
  bool said_hello_ = false;
  bool stopping_ = false;
  std::deque<TimePoint> failures_;
};

}  // namespace umbra::guardian
