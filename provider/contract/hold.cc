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
    : freezer_(freezer), clock_(clock), setup_(std::move(setup)), taken_(setup_.layers.size()) {
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
  Status status;
  for (std::size_t layer = 0; status && layer < setup_.layers.size(); ++layer) {
    if (is_cancelled()) break;
    status = freeze(layer);
    if (status) status = shut_and_drain(layer);
  }
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
  release_all();
  return status;
}

bool Hold::is_cancelled() {
  const std::lock_guard lock(mutex_);
  return cancel_asked_;
}

// The freezer knows one freeze by one id: each layer but the last, mostly the only one, has an id
// of its own.
SnapshotSetId Hold::freeze_id(std::size_t layer) const noexcept {
  Guid id = setup_.set;
  id.bytes[15] ^= static_cast<std::uint8_t>(setup_.layers.size() - 1 - layer);
  return SnapshotSetId{id};
}

Status Hold::freeze(std::size_t layer) {
  const auto& devices = setup_.layers[layer].devices;
  if (devices.empty()) return {};
  const auto whole = [](Duration time) {
    return std::chrono::duration_cast<std::chrono::milliseconds>(time);
  };
  const TimePoint now = layer == 0 ? lease_begin_ : clock_.now();
  const auto rest = setup_.limits.flush - whole(now - setup_.called);
  if (rest.count() <= 0) {
    return fail(Errc::flush_writes_timeout,
                "flushing took longer than " + millis_text(setup_.limits.flush));
  }
  const auto lease = whole(lease_end() - now);
  if (lease.count() <= 0) {
    return fail(Errc::hold_writes_timeout,
                "freezing took longer than " + millis_text(setup_.limits.hold));
  }
  const Status status =
      freezer_.freeze(freeze_id(layer), devices, rest, lease, freeze_stop_.get_token());
  taken_[layer].frozen = status.has_value();
  return status;
}

Status Hold::shut_and_drain(std::size_t layer) {
  const auto& members = setup_.layers[layer].members;
  if (layer == 0) gate_begin_ = clock_.now();
  for (const auto& member : members) {
    member.volume->hold();
    ++taken_[layer].gates_shut;
  }
  const bool carried = layer + 1 < setup_.layers.size();
  const bool window_first = window_end() < lease_end();
  const TimePoint deadline = std::min(window_end(), lease_end());
  const auto rest = [&] { return std::max(deadline - clock_.now(), Duration{0}); };
  for (const auto& member : members) {
    if (rest() > Duration{0} && member.volume->drain(rest()) &&
        (!carried || member.volume->quiesce(rest()))) {
      continue;
    }
    if (window_first) {
      return fail(Errc::writererror_timeout, "the smallest freeze window, " +
                                                 millis_text(setup_.limits.window) +
                                                 ", ended before the commit");
    }
    return fail(Errc::hold_writes_timeout, "writes in flight to '" + member.name +
                                               "' did not end within " +
                                               millis_text(setup_.limits.hold));
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
  for (const auto& layer : setup_.layers) {
    for (const auto& member : layer.members) {
      if (!member.snapshot.is_nil()) member.volume->commit(member.snapshot, creation_filetime);
    }
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
  if (thawed_ != TimePoint{}) report.freeze = micros(thawed_ - lease_begin_);
  return report;
}

std::vector<FreeExtent> Hold::take_free() {
  const std::lock_guard lock(mutex_);
  return std::exchange(free_, {});
}

void Hold::cancel() noexcept {
  (void)freeze_stop_.request_stop();
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
  release_all();
}

// The reverse of begin(). A dependant's gate opens when its host is thawed: what waited behind it
// would wait inside the frozen file system otherwise, where it cannot be killed.
void Hold::release_all() noexcept {
  for (std::size_t layer = setup_.layers.size(); layer-- > 0;) {
    open_gates(layer);
    if (layer == 0 && setup_.on_gates_open) std::exchange(setup_.on_gates_open, nullptr)();
    if (taken_[layer].frozen) thaw(layer);
  }
  if (setup_.after_thaw) {
    std::exchange(setup_.after_thaw, nullptr)(GateTimes{gate_begin_, gate_end_});
  }
  const std::lock_guard lock(mutex_);
  state_ = State::ended;
  changed_.notify_all();
}

void Hold::open_gates(std::size_t layer) noexcept {
  auto& shut = taken_[layer].gates_shut;
  if (shut == 0) return;
  for (; shut > 0; --shut) setup_.layers[layer].members[shut - 1].volume->release();
  gate_end_ = clock_.now();
}

void Hold::thaw(std::size_t layer) noexcept {
  auto thawed = freezer_.thaw(freeze_id(layer));
  thawed_ = clock_.now();
  if (thawed) free_.insert(free_.end(), thawed->free.begin(), thawed->free.end());
  if (!thaw_status_) return;  // The first story is the best.
  if (!thawed) {
    thaw_status_ = fail(thawed.error(), "thawing");
  } else if (!thawed->held_throughout) {
    thaw_status_ =
        fail(Errc::hold_writes_timeout, "a file system was thawed before the release" +
                                            (thawed->why.empty() ? "" : ": " + thawed->why));
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
