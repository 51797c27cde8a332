// SPDX-License-Identifier: Apache-2.0

#include "provider/contract/hold.h"

#include <algorithm>
#include <string>

namespace umbra::contract {

namespace {

std::chrono::microseconds micros(Duration duration) {
  return std::chrono::duration_cast<std::chrono::microseconds>(std::max(duration, Duration{0}));
}

std::string millis_text(std::chrono::milliseconds duration) {
  return std::to_string(duration.count()) + " ms";
}

}  // namespace

Hold::Hold(Freezer& freezer, const Clock& clock, Setup setup)
    : freezer_(freezer), clock_(clock), setup_(std::move(setup)) {
  // Started before anything is frozen: nothing that could need memory comes later.
  watcher_ = std::thread([this] { watch_lease(); });
}

Hold::~Hold() {
  cancel();
  watcher_.join();
}

Status Hold::begin() {
  {
    const std::lock_guard lock(mutex_);
    if (cancel_asked_) return fail(Errc::bad_state, "the set was aborted");
    state_ = State::starting;
    lease_begin_ = clock_.now();
  }
  if (setup_.before_freeze) std::exchange(setup_.before_freeze, nullptr)();
  Status status = freeze();
  const bool frozen = status && !setup_.devices.empty();
  if (status) status = shut_and_drain();
  std::unique_lock lock(mutex_);
  if (status && cancel_asked_) status = fail(Errc::bad_state, "the set was aborted");
  if (status) {
    state_ = State::held;
    changed_.notify_all();
    return status;
  }
  state_ = State::ending;
  cause_ = Cause::cancelled;
  lock.unlock();
  release_all(frozen);
  return status;
}

Status Hold::freeze() {
  if (setup_.devices.empty()) return {};
  const auto spent =
      std::chrono::duration_cast<std::chrono::milliseconds>(lease_begin_ - setup_.called);
  const auto rest = setup_.limits.flush - spent;
  if (rest.count() <= 0) {
    return fail(Errc::flush_writes_timeout,
                "flushing took longer than " + millis_text(setup_.limits.flush));
  }
  return freezer_.freeze(setup_.set, setup_.devices, rest, setup_.limits.hold);
}

Status Hold::shut_and_drain() {
  gate_begin_ = clock_.now();
  for (const auto& member : setup_.members) {
    member.volume->hold();
    ++gates_shut_;
  }
  const bool window_first = window_end() < lease_end();
  const TimePoint deadline = std::min(window_end(), lease_end());
  for (const auto& member : setup_.members) {
    const Duration rest = deadline - clock_.now();
    if (rest > Duration{0} && member.volume->drain(rest)) continue;
    if (window_first) {
      return fail(Errc::writererror_timeout, "the smallest freeze window, " +
                                                 millis_text(setup_.limits.window) +
                                                 ", ended before the commit");
    }
    return fail(Errc::hold_writes_timeout,
                "writes in flight did not end within " + millis_text(setup_.limits.hold));
  }
  return {};
}

Status Hold::commit(std::int64_t creation_filetime) {
  const std::lock_guard lock(mutex_);
  if (state_ != State::held || clock_.now() >= lease_end()) {
    return fail(Errc::hold_writes_timeout,
                "the hold of " + millis_text(setup_.limits.hold) + " had ended before the commit");
  }
  if (clock_.now() >= window_end()) {
    return fail(Errc::writererror_timeout, "the smallest freeze window, " +
                                               millis_text(setup_.limits.window) +
                                               ", ended before the commit");
  }
  for (const auto& member : setup_.members) {
    member.volume->commit(member.snapshot, creation_filetime);
  }
  return {};
}

void Hold::linger(std::chrono::milliseconds duration) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, duration, [this] { return state_ != State::held; });
}

Result<HoldReport> Hold::end() {
  finish(Cause::caller);
  const std::lock_guard lock(mutex_);
  if (cause_ == Cause::cancelled) return fail(Errc::bad_state, "the set was aborted");
  if (cause_ == Cause::lease) {
    return fail(Errc::hold_writes_timeout, "the hold ended by itself after " +
                                               millis_text(setup_.limits.hold) +
                                               ", before it was released");
  }
  if (!thaw_status_) return fail(thaw_status_.error());
  HoldReport report;
  report.flush = micros(gate_begin_ - setup_.called);
  report.gate = micros(gate_end_ - gate_begin_);
  if (!setup_.devices.empty()) report.freeze = micros(thawed_ - lease_begin_);
  return report;
}

void Hold::cancel() noexcept {
  {
    std::unique_lock lock(mutex_);
    cancel_asked_ = true;
    changed_.notify_all();
    if (state_ == State::idle) {
      state_ = State::ended;
      cause_ = Cause::cancelled;
      return;
    }
    // begin() sees the wish at its next step and unwinds, or reaches `held`.
    changed_.wait(lock, [this] { return state_ != State::starting; });
  }
  finish(Cause::cancelled);
}

void Hold::finish(Cause cause) noexcept {
  std::unique_lock lock(mutex_);
  if (state_ != State::held) {
    wait_ended(lock);
    return;
  }
  state_ = State::ending;
  // A release that comes after the lease has ended is one too late, whoever noticed it first.
  cause_ = cause == Cause::caller && clock_.now() >= lease_end() ? Cause::lease : cause;
  changed_.notify_all();
  lock.unlock();
  release_all(!setup_.devices.empty());
}

void Hold::release_all(bool frozen) noexcept {
  open_gates();
  if (frozen) thaw();
  if (setup_.after_thaw) {
    std::exchange(setup_.after_thaw, nullptr)(GateTimes{gate_begin_, gate_end_});
  }
  const std::lock_guard lock(mutex_);
  state_ = State::ended;
  changed_.notify_all();
}

void Hold::open_gates() noexcept {
  if (gates_shut_ > 0) {
    for (; gates_shut_ > 0; --gates_shut_) setup_.members[gates_shut_ - 1].volume->release();
    gate_end_ = clock_.now();
  }
  if (setup_.on_gates_open) std::exchange(setup_.on_gates_open, nullptr)();
}

void Hold::thaw() noexcept {
  const auto frozen_throughout = freezer_.thaw(setup_.set);
  thawed_ = clock_.now();
  if (!frozen_throughout) {
    thaw_status_ = fail(frozen_throughout.error(), "thawing");
  } else if (!*frozen_throughout) {
    thaw_status_ = fail(Errc::hold_writes_timeout, "a file system was thawed before the release");
  }
}

void Hold::wait_ended(std::unique_lock<std::mutex>& lock) {
  changed_.wait(lock, [this] { return state_ == State::ended || state_ == State::idle; });
}

void Hold::watch_lease() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return state_ == State::held || state_ == State::ended; });
  while (state_ == State::held) {
    const Duration rest = lease_end() - clock_.now();
    if (rest <= Duration{0}) {
      lock.unlock();
      finish(Cause::lease);
      return;
    }
    changed_.wait_for(lock, rest);
  }
}

}  // namespace umbra::contract
