// SPDX-License-Identifier: Apache-2.0
//
// A deterministic scheduler for real threads: one runs at a time, and before each operation on a
// type of tests/sched/sync.h, or at each point() of a test, the next one is chosen. The same
// choices give the same run.
//
// explore() runs a story under many choices:
//   - systematically: every schedule with at most `preemptions_max` switches away from a thread
//   that
//     could have gone on (switches where a thread blocks or ends are free, and all are tried). Most
//     concurrency bugs need one or two such switches;
//   - at random, from a seed, with no bound on switches.
//
// What it does not see: orders that only a weak memory model allows (TSan is asked about those),
// and whatever happens between two points; code that blocks on anything else hangs the run.
//
// Waits with a time limit end by their limit only when nobody else can go on: no clock is looked
// at.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace umbra::test::sched {

/// A place where the scheduler may let another thread go on. Nothing in threads it did not start.
void point() noexcept;

using Ready = bool (*)(const void* what) noexcept;
/// Goes on when `ready(what)`; at once if it is. In threads of others it has to be ready at once.
void wait_until(Ready ready, const void* what) noexcept;
/// The same; false if the limit had to end it. `at_once`: the limit is zero.
[[nodiscard]] bool wait_until_or_limit(Ready ready, const void* what, bool at_once) noexcept;

template <class Predicate>
void wait_until(const Predicate& predicate) noexcept {
  wait_until([](const void* what) noexcept { return (*static_cast<const Predicate*>(what))(); },
             &predicate);
}

/// One small scenario, made anew for every schedule: set up by its constructor and judged by
/// check() in the thread of explore(), where points do nothing.
class Story {
 public:
  virtual ~Story() = default;
  /// What runs side by side. At most kThreadsMax.
  [[nodiscard]] virtual std::vector<std::function<void()>> threads() = 0;
  virtual void check() = 0;
};

inline constexpr std::size_t kThreadsMax = 5;

struct Plan {
  std::uint32_t preemptions_max = 2;
  std::uint64_t systematic_max = 200'000;  // Schedules; the report says if these were not enough.
  std::uint64_t random = 500;
};

struct Report {
  std::uint64_t systematic = 0;
  bool complete = false;  // All schedules within the bound were run.
  std::uint64_t random = 0;
  std::uint64_t points_max = 0;  // Of one run.
  [[nodiscard]] std::string text() const;
};

/// Fails the test case (INFO names the schedule) as soon as a check does. Every thread waiting for
/// something that never comes is a failure too: it prints the schedule and aborts.
[[nodiscard]] Report explore(const Plan& plan, const std::function<std::unique_ptr<Story>()>& make);

}  // namespace umbra::test::sched
