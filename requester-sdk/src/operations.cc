// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "requester-sdk/src/operations.h"

#include <algorithm>
#include <utility>

namespace umbra::requester {
namespace {

using namespace std::chrono_literals;

// How long umbrad keeps one operation.wait: the time that a cancel() or a progress report may take.
constexpr std::chrono::milliseconds kWaitSlice = 200ms;
// A reply to it that is this much later means that umbrad hangs.
constexpr std::chrono::milliseconds kWaitGrace = 30s;

// For the cancel of what nobody holds any more: it is sent by a destructor.
constexpr std::chrono::milliseconds kAbandonLimit = 5s;

Error in_call(std::string_view call, Error error) {
  return std::move(fail(std::move(error), call).value());
}

}  // namespace

Result<rpc::OperationStatus> Operations::wait(std::string_view call, std::uint32_t operation,
                                              std::chrono::milliseconds limit,
                                              const OnProgress& progress,
                                              const OnFailure& on_failure) {
  const TimePoint begin = link_.now();
  TimePoint deadline = begin + limit;
  std::string why_cancelled;
  const rpc::WaitOperation slice{operation, static_cast<std::uint32_t>(kWaitSlice.count())};
  while (true) {
    auto status =
        link_.call<rpc::OperationStatus>("operation.wait", slice, kWaitSlice + kWaitGrace);
    if (!status) return fail(in_call(call, status.error()));
    if (status->status == Errc::async_finished) return status;
    if (status->status != Errc::async_pending) {
      std::string context = status->context;
      if (!why_cancelled.empty()) context = why_cancelled + ": " + context;
      const Errc code = status->status;
      if (on_failure) on_failure(std::move(*status));
      return fail(code, std::string(call) + ": " + context);
    }
    const TimePoint now = link_.now();
    if (progress) {
      progress({call, status->phase,
                std::chrono::duration_cast<std::chrono::milliseconds>(now - begin)});
    }
    if (why_cancelled.empty()) {
      const bool asked = take_cancel();
      if (!asked && now < deadline) continue;
      why_cancelled = asked ? "cancelled by the caller"
                            : "not finished in " + std::to_string(limit.count()) + " ms";
      deadline = now + kUndoLimit;
      const auto sent = link_.call<rpc::OperationStatus>("operation.cancel", slice);
      // It may just have finished: the next wait tells.
      if (!sent && !link_.is_open()) return fail(in_call(call, sent.error()));
    } else if (now >= deadline) {
      return fail(Errc::coordinator_lost,
                  std::string(call) + ": " + why_cancelled + ", and umbrad does not end it");
    }
  }
}

// --- handles -------------------------------------------------------------------------------------

Operations::~Operations() {
  if (watched_) watched_->owner = nullptr;
  for (const auto& one : observed_)
    if (const auto shared = one.lock()) shared->owner = nullptr;
}

AsyncOperation Operations::watch(std::string_view call, std::uint32_t operation,
                                 bool cancel_if_abandoned, OnFailure ended) {
  if (watched_) watched_->owner = nullptr;  // It has ended: umbrad would not have begun another.
  watched_ = std::make_shared<AsyncOperation::Shared>();
  watched_->owner = this;
  watched_->call = call;
  watched_->operation = operation;
  watched_->cancel_if_abandoned = cancel_if_abandoned;
  watched_->ended = std::move(ended);
  return AsyncOperation(watched_);
}

AsyncOperation Operations::observe(std::string_view call, Look look) {
  std::erase_if(observed_, [](const auto& one) { return one.expired(); });
  auto shared = std::make_shared<AsyncOperation::Shared>();
  shared->owner = this;
  shared->call = call;
  shared->look = std::move(look);
  observed_.push_back(shared);
  return AsyncOperation(std::move(shared));
}

std::string Operations::still_running() {
  if (!watched_ || watched_->last.code != Errc::async_pending) return {};
  const auto status = look(*watched_, 0ms);
  if (!status || status->code != Errc::async_pending) return {};
  return watched_->call;
}

Result<AsyncStatus> Operations::look(AsyncOperation::Shared& shared,
                                     std::chrono::milliseconds slice) {
  if (shared.last.code != Errc::async_pending) return shared.last;
  if (shared.look) {
    auto seen = shared.look(slice);
    if (!seen) return fail(in_call(shared.call, seen.error()));
    return shared.last = std::move(*seen);
  }
  const rpc::WaitOperation message{shared.operation, static_cast<std::uint32_t>(slice.count())};
  auto status = link_.call<rpc::OperationStatus>(
      slice > 0ms ? "operation.wait" : "operation.status", message, slice + kWaitGrace);
  if (!status) return fail(in_call(shared.call, status.error()));
  shared.last = {status->status, status->context, status->phase};
  if (shared.last.code != Errc::async_pending && shared.ended) {
    const auto ended = std::exchange(shared.ended, nullptr);
    ended(std::move(*status));
  }
  return shared.last;
}

Result<Errc> Operations::cancel(AsyncOperation::Shared& shared) {
  if (shared.last.code != Errc::async_pending) return shared.last.code;
  const rpc::WaitOperation message{shared.operation, 0};
  const auto sent = link_.call<rpc::OperationStatus>("operation.cancel", message);
  if (!sent) return fail(in_call(shared.call, sent.error()));
  // It may have ended before the cancel came, or at once because of it.
  if (sent->status != Errc::async_pending && sent->status != Errc::async_cancelled) {
    const auto seen = look(shared, 0ms);
    return seen ? Result<Errc>(seen->code) : fail(seen.error());
  }
  return Errc::ok;
}

void Operations::abandon(AsyncOperation::Shared& shared) noexcept {
  if (!shared.cancel_if_abandoned || shared.last.code != Errc::async_pending) return;
  // If umbrad cannot be told the link is closed, which ends the session and the creation with it.
  const rpc::WaitOperation message{shared.operation, 0};
  const auto sent = link_.call<rpc::OperationStatus>("operation.cancel", message, kAbandonLimit);
  static_cast<void>(sent);
}

AsyncOperation::AsyncOperation(std::shared_ptr<Shared> shared) noexcept
    : shared_(std::move(shared)) {}
AsyncOperation::AsyncOperation(AsyncOperation&&) noexcept = default;

AsyncOperation& AsyncOperation::operator=(AsyncOperation&& other) noexcept {
  if (this == &other) return *this;
  if (shared_ && shared_->owner != nullptr) shared_->owner->abandon(*shared_);
  shared_ = std::move(other.shared_);
  return *this;
}

AsyncOperation::~AsyncOperation() {
  if (shared_ && shared_->owner != nullptr) shared_->owner->abandon(*shared_);
}

Result<AsyncStatus> AsyncOperation::query_status() {
  if (shared_->last.code != Errc::async_pending) return shared_->last;
  if (shared_->owner == nullptr)
    return fail(Errc::coordinator_lost, shared_->call + ": its session is over");
  return shared_->owner->look(*shared_, 0ms);
}

Result<AsyncStatus> AsyncOperation::wait() { return wait(std::chrono::milliseconds::max()); }

Result<AsyncStatus> AsyncOperation::wait(std::chrono::milliseconds limit) {
  if (limit < 0ms) return fail(Errc::invalid_argument, "wait: the limit must not be negative");
  auto left = limit;
  shared_->waiting.store(true);
  auto status = query_status();
  while (status && status->code == Errc::async_pending && left > 0ms) {
    if (shared_->owner == nullptr) {
      status = fail(Errc::coordinator_lost, shared_->call + ": its session is over");
      break;
    }
    if (shared_->cancel.exchange(false)) {
      if (const auto sent = shared_->owner->cancel(*shared_); !sent) status = fail(sent.error());
      if (!status) break;
    }
    const auto slice = std::min(left, kWaitSlice);
    status = shared_->owner->look(*shared_, slice);
    // umbrad keeps the wait that long, or it has ended.
    left -= slice;
  }
  shared_->waiting.store(false);
  // Asked for after the last look: nobody else will pass it on.
  if (shared_->cancel.exchange(false) && shared_->owner != nullptr && status) {
    const auto sent = shared_->owner->cancel(*shared_);
    if (!sent) return fail(sent.error());
  }
  return status;
}

Result<Errc> AsyncOperation::cancel() {
  if (shared_->look) {  // Nobody is asked to end it.
    const bool known = !shared_->waiting.load();
    if (known && shared_->last.code != Errc::async_pending) return shared_->last.code;
    if (known && shared_->owner == nullptr)
      return fail(Errc::coordinator_lost, shared_->call + ": its session is over");
    return fail(Errc::bad_state, shared_->call + ": what it watches cannot be cancelled");
  }
  // Said first, looked for afterwards: whoever leaves wait() does it the other way round, so that
  // one of the two passes it on.
  shared_->cancel.store(true);
  if (shared_->waiting.load()) return Errc::ok;
  if (!shared_->cancel.exchange(false)) return Errc::ok;
  if (shared_->last.code != Errc::async_pending) return shared_->last.code;
  if (shared_->owner == nullptr)
    return fail(Errc::coordinator_lost, shared_->call + ": its session is over");
  return shared_->owner->cancel(*shared_);
}

}  // namespace umbra::requester
