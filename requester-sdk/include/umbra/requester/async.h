// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// IVssAsync: one call of a session that goes on while its caller does something else. Every call
// that VSS makes asynchronous has a form start_...() beside the blocking one:
//
//   auto creation = session->start_do_snapshot_set();
//   while (creation->wait(std::chrono::seconds(1))->code == Errc::async_pending) draw(...);
//   if (auto end = creation->query_status(); end->code != Errc::async_finished) ...
//
// What the operation came to is the status's code; an error of wait(), query_status() or cancel()
// itself says that nothing could be learnt (coordinator_lost). The one call that begins nothing is
// start_query_revert_status(): it watches what goes on without any session. An operation that ends
// is seen by the next call of the handle or of the session, whichever comes first; until then the
// session allows what its state during the operation allows (SessionState::creating and so on).

#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "umbra/errc.h"
#include "umbra/requester/export.h"
#include "umbra/result.h"

namespace umbra::requester {

class Operations;

/// How an operation stands.
struct AsyncStatus {
  Errc code = Errc::async_pending;  ///< Or async_finished, async_cancelled, or why it failed.
  std::string context{};            ///< With a failure: who, in which phase.
  std::string phase{};              ///< What umbrad is doing; empty if it does not say.
};

/// A handle. Movable. Letting go of it does not stop the operation, as in VSS, but for one: a
/// creation that nobody holds any more is cancelled and undone, so that no copies appear that
/// nobody knows of. It may outlive its session: its calls then give coordinator_lost, and an
/// operation that had not ended is over with its session.
///
/// Threads: as its session, but cancel().
class UMBRA_REQUESTER_EXPORT AsyncOperation {
 public:
  AsyncOperation(AsyncOperation&&) noexcept;
  AsyncOperation& operator=(AsyncOperation&&) noexcept;
  ~AsyncOperation();

  /// Blocks until it has ended, however long that takes.
  [[nodiscard]] Result<AsyncStatus> wait();
  /// Blocks until it has ended, at most for `limit`: the code is then async_pending. The operation
  /// goes on. Errors: invalid_argument (negative).
  [[nodiscard]] Result<AsyncStatus> wait(std::chrono::milliseconds limit);
  /// Does not block for the operation.
  [[nodiscard]] Result<AsyncStatus> query_status();
  /// Asks for its end, and does not wait for it: wait() tells when all is undone. ok: accepted;
  /// async_cancelled: it was cancelled before; async_finished, or its error: too late. What is not
  /// the creation of a set ends by itself and takes no notice. Threads: any; beside a wait() of
  /// another thread it is accepted, and passed on within a moment.
  [[nodiscard]] Result<Errc> cancel();

 private:
  friend class Operations;
  struct Shared;
  explicit AsyncOperation(std::shared_ptr<Shared> shared) noexcept;
  std::shared_ptr<Shared> shared_;
};

}  // namespace umbra::requester
