// SPDX-License-Identifier: Apache-2.0
#include "tests/sched/scheduler.h"

#include <array>
#include <cstdio>
#include <cstdlib>
#include <semaphore>
#include <thread>

#include "engine/platform/assert.h"
#include "engine/platform/prng.h"
#include "tests/support/catch.h"
#include "tests/support/seed.h"

namespace umbra::test::sched {
namespace {

// --- choosing --------------------------------------------------------------------------------

// Among `count` threads. If `current_first`, number 0 is the one that is running and could go on.
class Chooser {
 public:
  virtual ~Chooser() = default;
  [[nodiscard]] virtual std::size_t choose(std::size_t count, bool current_first) = 0;
  [[nodiscard]] virtual std::string text() const = 0;
};

// Depth first: repeats the choices of the run before up to the last one that has an alternative.
class Systematic final : public Chooser {
 public:
  explicit Systematic(std::uint32_t preemptions_max) noexcept : preemptions_max_(preemptions_max) {}

  [[nodiscard]] std::size_t choose(std::size_t count, bool current_first) override {
    if (at_ == path_.size()) {
      const bool may_preempt = !current_first || preemptions_ < preemptions_max_;
      path_.push_back({0, may_preempt ? count : 1, current_first});
    }
    const Decision& decision = path_[at_++];
    if (decision.current_first && decision.chosen > 0) ++preemptions_;
    return decision.chosen;
  }
  // False: there is none.
  [[nodiscard]] bool next() {
    at_ = 0;
    preemptions_ = 0;
    while (!path_.empty() && path_.back().chosen + 1 == path_.back().count) path_.pop_back();
    if (path_.empty()) return false;
    ++path_.back().chosen;
    return true;
  }
  [[nodiscard]] std::string text() const override {
    std::string out = "systematic, choices other than the first:";
    for (std::size_t i = 0; i < path_.size(); ++i) {
      if (path_[i].chosen == 0) continue;
      out += " " + std::to_string(i) + ":" + std::to_string(path_[i].chosen);
    }
    return out;
  }

 private:
  struct Decision {
    std::size_t chosen = 0;
    std::size_t count = 0;
    bool current_first = false;
  };
  std::uint32_t preemptions_max_;
  std::vector<Decision> path_;
  std::size_t at_ = 0;
  std::uint32_t preemptions_ = 0;
};

// Each run draws how restless it is.
class Random final : public Chooser {
 public:
  explicit Random(std::uint64_t seed) noexcept
      : seed_(seed), prng_(seed), one_in_(std::uint64_t{2} << prng_.below(6)) {}

  [[nodiscard]] std::size_t choose(std::size_t count, bool current_first) override {
    if (current_first && !prng_.chance(1, one_in_)) return 0;
    return prng_.below(count);
  }
  [[nodiscard]] std::string text() const override {
    return "random, stream " + std::to_string(seed_);
  }

 private:
  std::uint64_t seed_;
  Prng prng_;
  std::uint64_t one_in_;
};

// --- running ---------------------------------------------------------------------------------

class Scheduler;

struct Worker {
  Scheduler* scheduler = nullptr;
  std::size_t index = 0;
  std::binary_semaphore go{0};
  std::function<void()> body;
  std::thread thread;
  // Written by the one that runs.
  bool alive = false;
  Ready ready = nullptr;  // Null: can go on.
  const void* what = nullptr;
  bool has_limit = false;
  bool limit_reached = false;
};

thread_local Worker* g_worker = nullptr;

// Its threads stay for all runs: the store spreads threads over counters in the order in which they
// come, and that has to be the same in every run.
class Scheduler {
 public:
  Scheduler() {
    for (std::size_t i = 0; i < workers_.size(); ++i) {
      Worker& worker = workers_[i];
      worker.scheduler = this;
      worker.index = i;
      worker.thread = std::thread([this, &worker] { live(worker); });
    }
  }
  ~Scheduler() {
    stopping_ = true;
    for (Worker& worker : workers_) worker.go.release();
    for (Worker& worker : workers_) worker.thread.join();
  }
  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;

  /// Returns how many points there were.
  std::uint64_t run(std::vector<std::function<void()>> bodies, Chooser& chooser) {
    UMBRA_ASSERT(bodies.size() <= workers_.size());
    chooser_ = &chooser;
    points_ = 0;
    for (std::size_t i = 0; i < bodies.size(); ++i) {
      workers_[i].body = std::move(bodies[i]);
      workers_[i].alive = true;
      workers_[i].ready = nullptr;
    }
    Worker* const first = pick(nullptr);
    if (first == nullptr) return 0;
    first->go.release();
    done_.acquire();
    return points_;
  }

  void yield(Worker& self) noexcept {
    Worker* const next = pick(&self);
    UMBRA_ASSERT(next != nullptr);
    if (next == &self) return;
    next->go.release();
    self.go.acquire();
  }

 private:
  void live(Worker& self) {
    g_worker = &self;
    for (;;) {
      self.go.acquire();
      if (stopping_) return;
      self.body();
      self.body = nullptr;
      self.alive = false;
      Worker* const next = pick(nullptr);
      (next != nullptr ? next->go : done_).release();
    }
  }

  // Null: all have ended.
  Worker* pick(Worker* current) noexcept {
    ++points_;
    std::array<Worker*, kThreadsMax> can{};
    std::size_t count = 0;
    if (current != nullptr && can_go_on(*current)) can[count++] = current;
    const bool current_first = count == 1;
    bool any_alive = false;
    for (Worker& worker : workers_) {
      any_alive = any_alive || worker.alive;
      if (&worker != current && worker.alive && can_go_on(worker)) can[count++] = &worker;
    }
    if (!any_alive) return nullptr;
    if (count == 0) return at_limit();
    return count == 1 ? can[0] : can[chooser_->choose(count, current_first)];
  }

  static bool can_go_on(const Worker& worker) noexcept {
    return worker.ready == nullptr || worker.ready(worker.what);
  }

  Worker* at_limit() noexcept {
    for (Worker& worker : workers_) {
      if (!worker.alive || !worker.has_limit) continue;
      worker.limit_reached = true;
      return &worker;
    }
    (void)std::fprintf(stderr, "every thread waits for something that never comes; schedule: %s\n",
                       chooser_->text().c_str());
    std::abort();
  }

  std::array<Worker, kThreadsMax> workers_;
  std::binary_semaphore done_{0};
  Chooser* chooser_ = nullptr;
  std::uint64_t points_ = 0;
  bool stopping_ = false;
};

void run_one(Scheduler& scheduler, Chooser& chooser, Report& report,
             const std::function<std::unique_ptr<Story>()>& make) {
  const std::unique_ptr<Story> story = make();
  const std::uint64_t points = scheduler.run(story->threads(), chooser);
  report.points_max = std::max(report.points_max, points);
  INFO("schedule: " << chooser.text());
  story->check();
}

}  // namespace

void point() noexcept {
  if (g_worker != nullptr) g_worker->scheduler->yield(*g_worker);
}

void wait_until(Ready ready, const void* what) noexcept {
  if (g_worker == nullptr) {
    UMBRA_ASSERT(ready(what));
    return;
  }
  g_worker->ready = ready;
  g_worker->what = what;
  g_worker->scheduler->yield(*g_worker);
  g_worker->ready = nullptr;
}

bool wait_until_or_limit(Ready ready, const void* what, bool at_once) noexcept {
  if (g_worker == nullptr || at_once) {
    point();
    return ready(what);
  }
  g_worker->has_limit = true;
  wait_until(ready, what);
  g_worker->has_limit = false;
  return !std::exchange(g_worker->limit_reached, false);
}

std::string Report::text() const {
  return std::to_string(systematic) + (complete ? " schedules, all" : " schedules, not all") +
         " within the bound; " + std::to_string(random) + " random ones; at most " +
         std::to_string(points_max) + " points";
}

Report explore(const Plan& plan, const std::function<std::unique_ptr<Story>()>& make) {
  static Scheduler scheduler;
  Report report;
  Systematic systematic(plan.preemptions_max);
  while (report.systematic < plan.systematic_max && !report.complete) {
    run_one(scheduler, systematic, report, make);
    ++report.systematic;
    report.complete = !systematic.next();
  }
  for (; report.random < plan.random; ++report.random) {
    Random random(seed() + report.random);
    run_one(scheduler, random, report, make);
  }
  return report;
}

}  // namespace umbra::test::sched
