// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// Long calls of a provider as operations: started, watched, cancelled, listed. One table per
// process; whoever has something that takes longer than a call may take puts it here:
//
//   auto id = operations.start("scrub", volume_name, [=](OperationMonitor& monitor) -> Status {
//     return cow::scrub(volume, options, [&](auto done, auto total) {
//       return monitor.progress(done, total);
//     });
//   });
//
// Over IPC: management.operations, management.wait_operation, management.cancel_operation
// (engine/rpc/management_messages.h), which ProviderServer serves.
//
// Bounds: kOperationsRunningMax at a time, each with a thread of its own, so that one which waits
// for a stalled disk delays no other; the last kOperationsKeptMax that ended can be asked for.
// Operations are not durable: what must go on after a restart is started again by whoever finds it
// unfinished.

#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/platform/clock.h"
#include "engine/platform/log.h"
#include "umbra/diff_area_management.h"

namespace umbra::rpc {

inline constexpr std::size_t kOperationsRunningMax = 32;
inline constexpr std::size_t kOperationsKeptMax = 256;

/// Threads: any.
class OperationTable {
 public:
  using Work = std::function<Status(OperationMonitor& monitor)>;

  /// The references outlive the table.
  OperationTable(const Clock& clock, Log& log);
  /// Asks everything that runs to stop, and waits for it.
  ~OperationTable();
  OperationTable(const OperationTable&) = delete;
  OperationTable& operator=(const OperationTable&) = delete;

  /// Runs `work` on a thread of its own, for the same caller (caller.h); begin and end are logged.
  /// Errors: limit_reached; out_of_memory (no thread); bad_state (the table is being destroyed).
  [[nodiscard]] Result<OperationId> start(std::string kind, std::string subject, Work work);

  /// Errors: object_not_found (never was, or ended long ago).
  [[nodiscard]] Result<OperationInfo> query(const OperationId& id) const;
  /// By begin, oldest first.
  [[nodiscard]] std::vector<OperationInfo> list() const;

  /// Asks it to stop; its progress() answers false from now on. One that has ended stays as it is.
  /// Errors: object_not_found; bad_state (it is past its point of no return: says what to do).
  [[nodiscard]] Result<OperationInfo> cancel(const OperationId& id);

  /// As long as it lives, `ended` is called for every operation that ends, from the operation's
  /// thread; it must not call the table and returns quickly. The destructor waits for calls.
  class Watch {
   public:
    Watch(Watch&&) noexcept;
    Watch& operator=(Watch&&) = delete;
    ~Watch();

   private:
    friend class OperationTable;
    struct State;
    explicit Watch(std::shared_ptr<State> state) noexcept;
    std::shared_ptr<State> state_;  // The table has it weakly.
  };
  using Ended = std::function<void(const OperationId& id)>;
  [[nodiscard]] Watch watch(Ended ended);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace umbra::rpc
