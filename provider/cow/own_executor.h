// SPDX-License-Identifier: Apache-2.0
//
// The executor of a volume that was given none. Private to provider/cow.

#pragma once

#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <thread>

#include "provider/cow/core.h"

namespace umbra::cow {

// The volume's own thread for rare, blocking work. Jobs that have not begun when it goes are
// dropped: the volume is closed by then.
class Volume::Impl::OwnExecutor final : public Executor {
 public:
  OwnExecutor() : thread_([this] { run(); }) {}
  ~OwnExecutor() override {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }
  void post(std::function<void()> job) override {
    {
      const std::lock_guard lock(mutex_);
      jobs_.push_back(std::move(job));
    }
    changed_.notify_all();
  }
  void post_after(Duration delay, std::function<void()> job) override {
    {
      const std::lock_guard lock(mutex_);
      later_.emplace(clock_.now() + delay, std::move(job));
    }
    changed_.notify_all();
  }

 private:
  void run() {
    std::unique_lock lock(mutex_);
    for (;;) {
      const auto wanted = [this] { return stopping_ || !jobs_.empty(); };
      if (later_.empty()) {
        changed_.wait(lock, [&] { return wanted() || !later_.empty(); });
      } else {
        (void)changed_.wait_for(lock, later_.begin()->first - clock_.now(), wanted);
      }
      while (!later_.empty() && later_.begin()->first <= clock_.now()) {
        jobs_.push_back(std::move(later_.begin()->second));
        later_.erase(later_.begin());
      }
      if (stopping_) return;
      if (jobs_.empty()) continue;
      std::function<void()> job = std::move(jobs_.front());
      jobs_.pop_front();
      lock.unlock();
      job();
      job = nullptr;  // It may hold the last reference to the volume's inside.
      lock.lock();
    }
  }

  sync::Mutex mutex_;
  sync::ConditionVariable changed_;
  const Clock& clock_ = system_clock();
  std::deque<std::function<void()>> jobs_;
  std::multimap<TimePoint, std::function<void()>> later_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace umbra::cow
