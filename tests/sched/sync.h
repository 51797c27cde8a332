// SPDX-License-Identifier: Apache-2.0
//
// What provider/cow/sync.h names in the build of the store that the scheduler explores. The values
// are plain: only one thread runs at a time, and the scheduler orders one after the other.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <mutex>
#include <utility>

#include "tests/sched/scheduler.h"

namespace umbra::cow::sync {

namespace sched = test::sched;

// Two, so that looking at all of them does not take most of the points.
inline constexpr std::size_t kShards = 2;

template <class T>
class Atomic {
 public:
  constexpr Atomic() noexcept = default;
  // NOLINTNEXTLINE(google-explicit-constructor): as std::atomic.
  constexpr Atomic(T value) noexcept : value_(value) {}
  Atomic(const Atomic&) = delete;
  Atomic& operator=(const Atomic&) = delete;

  [[nodiscard]] T load(std::memory_order /*order*/ = std::memory_order_seq_cst) const noexcept {
    sched::point();
    return value_;
  }
  void store(T value, std::memory_order /*order*/ = std::memory_order_seq_cst) noexcept {
    sched::point();
    value_ = value;
  }
  T exchange(T value, std::memory_order /*order*/ = std::memory_order_seq_cst) noexcept {
    sched::point();
    return std::exchange(value_, value);
  }
  bool compare_exchange_strong(T& expected, T desired,
                               std::memory_order /*order*/ = std::memory_order_seq_cst) noexcept {
    sched::point();
    if (value_ == expected) {
      value_ = desired;
      return true;
    }
    expected = value_;
    return false;
  }
  bool compare_exchange_weak(T& expected, T desired,
                             std::memory_order order = std::memory_order_seq_cst) noexcept {
    return compare_exchange_strong(expected, desired, order);
  }
  T fetch_add(T more, std::memory_order /*order*/ = std::memory_order_seq_cst) noexcept {
    sched::point();
    return std::exchange(value_, static_cast<T>(value_ + more));
  }
  T fetch_sub(T less, std::memory_order /*order*/ = std::memory_order_seq_cst) noexcept {
    sched::point();
    return std::exchange(value_, static_cast<T>(value_ - less));
  }
  T fetch_or(T bits, std::memory_order /*order*/ = std::memory_order_seq_cst) noexcept {
    sched::point();
    return std::exchange(value_, static_cast<T>(value_ | bits));
  }
  T fetch_and(T bits, std::memory_order /*order*/ = std::memory_order_seq_cst) noexcept {
    sched::point();
    return std::exchange(value_, static_cast<T>(value_ & bits));
  }
  void wait(T old, std::memory_order /*order*/ = std::memory_order_seq_cst) const noexcept {
    sched::wait_until([this, &old]() noexcept { return value_ != old; });
  }
  void notify_all() noexcept {}  // wait() looks at the value.
  void notify_one() noexcept {}

 private:
  T value_{};
};

class Mutex {
 public:
  Mutex() noexcept = default;
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;

  void lock() noexcept {
    sched::wait_until([this]() noexcept { return !locked_; });
    locked_ = true;
  }
  [[nodiscard]] bool try_lock() noexcept {
    sched::point();
    return !std::exchange(locked_, true);
  }
  void unlock() noexcept { locked_ = false; }

 private:
  bool locked_ = false;
};

class ConditionVariable {
 public:
  // Wakes everybody, which the standard's may do as well.
  void notify_all() noexcept { ++notified_; }
  void notify_one() noexcept { ++notified_; }

  template <class Predicate>
  void wait(std::unique_lock<Mutex>& lock, Predicate predicate) noexcept {
    while (!predicate()) {
      const std::uint64_t seen = notified_;
      lock.unlock();
      sched::wait_until([this, seen]() noexcept { return notified_ != seen; });
      lock.lock();
    }
  }
  template <class Limit, class Predicate>
  bool wait_for(std::unique_lock<Mutex>& lock, const Limit& limit, Predicate predicate) noexcept {
    bool in_time = true;
    while (!predicate()) {
      if (!in_time) return false;
      const Notified notified{*this, notified_};
      lock.unlock();
      in_time = sched::wait_until_or_limit(
          [](const void* what) noexcept {
            const auto& since = *static_cast<const Notified*>(what);
            return since.variable.notified_ != since.seen;
          },
          &notified, limit <= Limit::zero());
      lock.lock();
    }
    return true;
  }
  template <class Clock, class Length, class Predicate>
  bool wait_until(std::unique_lock<Mutex>& lock,
                  const std::chrono::time_point<Clock, Length>& /*limit*/,
                  Predicate predicate) noexcept {
    return wait_for(lock, std::chrono::seconds(1), std::move(predicate));
  }

 private:
  struct Notified {
    const ConditionVariable& variable;
    std::uint64_t seen;
  };
  std::uint64_t notified_ = 0;
};

}  // namespace umbra::cow::sync
