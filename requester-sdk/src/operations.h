// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// Asynchronous operations of umbrad as blocking calls with a time limit, progress and a way to
// cancel: what backup and restore sessions have in common.

#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <string_view>

#include "requester-sdk/src/link.h"

namespace umbra::requester {

class Operations {
 public:
  /// Of one that failed, before it is thrown away.
  using OnFailure = std::function<void(rpc::OperationStatus status)>;

  /// The link must outlive the object.
  explicit Operations(Link& link) : link_(link) {}

  /// Waits for the end of an operation; when `limit` has passed or cancel() was called it is
  /// cancelled, and waited for once more.
  [[nodiscard]] Result<rpc::OperationStatus> wait(std::string_view call, std::uint32_t operation,
                                                  std::chrono::milliseconds limit,
                                                  const OnProgress& progress,
                                                  const OnFailure& on_failure = {});
  /// Threads: any; also a signal handler.
  void cancel() noexcept { cancelled_.store(true, std::memory_order_relaxed); }
  /// Whether cancel() was called since this was last asked.
  [[nodiscard]] bool take_cancel() noexcept {
    return cancelled_.exchange(false, std::memory_order_relaxed);
  }

 private:
  Link& link_;
  std::atomic<bool> cancelled_{false};
};

/// Undoing after a cancel: thawing writers (60 s windows) and deleting what exists.
inline constexpr std::chrono::milliseconds kUndoLimit{150'000};

}  // namespace umbra::requester
