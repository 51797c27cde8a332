// SPDX-License-Identifier: Apache-2.0
//
// A session with a server that may stop answering at any moment.
//
// No call waits longer than its limit: libpq is used without blocking throughout, and the socket is
// polled. A query has two limits. The server's statement_timeout ends it there, so that nothing of
// ours runs on after we gave up; our own, a little later, ends the session when the server itself
// is stuck. PQcancel is not used: it blocks, and for ever if the postmaster is stopped. A session
// that failed or ran out of time is closed, and every later call fails.
//
// We never open a transaction and hold no lock. What would be left of a session whose writer is
// stopped or gone is an idle backend; the timeouts that are set at the start end that one too.

#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "umbra/result.h"
#include "writer-sdk/writers/postgresql/limit.h"
#include "writer-sdk/writers/postgresql/target.h"

struct pg_conn;
struct pg_result;

namespace umbra::postgresql {

using Row = std::vector<std::string>;  ///< NULL is empty.

/// Errors of all calls:
///   writererror_retryable     no answer within the limit, or the server is down, starting,
///   stopping writererror_nonretryable  refused: no such role, a privilege is missing, a wrong
///   password writererror_timeout       query() only: the server ended the statement at its time
///   limit; the
///                             session goes on
/// The context holds the server's own words. Threads: one call at a time, from any thread.
class Connection {
 public:
  /// SQLSTATE: a privilege is missing.
  static constexpr const char* kPrivilegeMissing = "42501";

  /// Blocks up to `limit`. `idle_limit`: how long the server lets the session sit idle.
  [[nodiscard]] static Result<Connection> open(const Target& target, const Limit& limit,
                                               std::chrono::milliseconds idle_limit);

  /// One statement; its rows. Blocks up to `limit`.
  [[nodiscard]] Result<std::vector<Row>> query(const std::string& sql, const Limit& limit);
  /// The same in two halves, so that other work is done meanwhile. send() does not block.
  [[nodiscard]] Status send(const std::string& sql);
  [[nodiscard]] Result<std::vector<Row>> receive(const Limit& limit);

  /// As 150018.
  [[nodiscard]] int server_version() const noexcept;
  [[nodiscard]] bool is_open() const noexcept { return connection_ != nullptr; }
  /// Of the last query that the server refused: five characters; empty otherwise.
  [[nodiscard]] const std::string& sqlstate() const noexcept { return sqlstate_; }

 private:
  struct Close {
    void operator()(pg_conn* connection) const noexcept;
  };

  explicit Connection(pg_conn* connection) noexcept : connection_(connection) {}
  [[nodiscard]] Status establish(const Limit& limit);
  [[nodiscard]] Status set_limits(const Limit& limit, std::chrono::milliseconds idle_limit);
  [[nodiscard]] Status set_statement_limit(std::chrono::milliseconds time, const Limit& limit);
  [[nodiscard]] Status flush(const Limit& limit);
  [[nodiscard]] Result<std::vector<Row>> read(pg_result* result);
  [[nodiscard]] tl::unexpected<Error> lost(const std::string& why);

  std::unique_ptr<pg_conn, Close> connection_;
  std::chrono::milliseconds statement_limit_{-1};
  std::string sqlstate_;
};

}  // namespace umbra::postgresql
