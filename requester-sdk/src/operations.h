// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// Asynchronous operations of umbrad as blocking calls with a time limit, progress and a way to
// cancel: what backup and restore sessions have in common.

#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "requester-sdk/src/link.h"
#include "umbra/requester/async.h"

namespace umbra::requester {

class Operations {
 public:
  /// Of one that failed, before it is thrown away.
  using OnFailure = std::function<void(rpc::OperationStatus status)>;

  /// The link must outlive the object.
  explicit Operations(Link& link) : link_(link) {}
  ~Operations();
  Operations(const Operations&) = delete;
  Operations& operator=(const Operations&) = delete;

  /// Waits for the end of an operation; when `limit` has passed or cancel() was called it is
  /// cancelled, and waited for once more.
  [[nodiscard]] Result<rpc::OperationStatus> wait(std::string_view call, std::uint32_t operation,
                                                  std::chrono::milliseconds limit,
                                                  const OnProgress& progress,
                                                  const OnFailure& on_failure = {});

  /// A handle for an operation that umbrad has begun. `ended` gets its last status, once, from
  /// whichever call sees it first. `cancel_if_abandoned`: when the handle is let go before that.
  [[nodiscard]] AsyncOperation watch(std::string_view call, std::uint32_t operation,
                                     bool cancel_if_abandoned, OnFailure ended);
  /// One look at something, at most that long. Errors: what could not be learnt.
  using Look = std::function<Result<AsyncStatus>(std::chrono::milliseconds slice)>;
  /// A handle for what goes on whatever becomes of the session, and beside its operations.
  [[nodiscard]] AsyncOperation observe(std::string_view call, Look look);
  /// The operation that is watched and has not ended, after asking once; empty: there is none.
  [[nodiscard]] std::string still_running();
  /// One look at a watched operation, at most `slice` long.
  [[nodiscard]] Result<AsyncStatus> look(AsyncOperation::Shared& shared,
                                         std::chrono::milliseconds slice);
  [[nodiscard]] Result<Errc> cancel(AsyncOperation::Shared& shared);
  /// Its handle is gone.
  void abandon(AsyncOperation::Shared& shared) noexcept;

  /// Threads: any; also a signal handler.
  void cancel() noexcept { cancelled_.store(true, std::memory_order_relaxed); }
  /// Whether cancel() was called since this was last asked.
  [[nodiscard]] bool take_cancel() noexcept {
    return cancelled_.exchange(false, std::memory_order_relaxed);
  }

 private:
  Link& link_;
  std::atomic<bool> cancelled_{false};
  std::shared_ptr<AsyncOperation::Shared> watched_;  // The newest; umbrad runs one at a time.
  std::vector<std::weak_ptr<AsyncOperation::Shared>> observed_;
};

/// What a handle and its session have in common.
struct AsyncOperation::Shared {
  Operations* owner = nullptr;  // Null: the session is gone.
  std::string call;
  std::uint32_t operation = 0;
  bool cancel_if_abandoned = false;
  std::atomic<bool> waiting{false};  // A thread is in wait() and will see `cancel`.
  std::atomic<bool> cancel{false};
  AsyncStatus last;
  Operations::OnFailure ended;
  Operations::Look look;  // Of observe(); then `operation` means nothing.
};

/// Undoing after a cancel: thawing writers (60 s windows) and deleting what exists.
inline constexpr std::chrono::milliseconds kUndoLimit{150'000};

}  // namespace umbra::requester
