// SPDX-License-Identifier: Apache-2.0
//
// A small bank in one SQLite file, made so that any state of it can be proved good or bad.
//
//   account(id, opening, balance)            the sum of all balances never changes
//   ledger(id, source, target, amount, memo) one row per transfer; id is the commit's number
//
// A transfer changes two accounts and appends one row, in one transaction. The row's number is one
// more than the last one's, so commits are numbered 1, 2, 3, ... in the order in which they
// happened: a state that has commit n has all before it, and a client that was told "n is
// committed" can ask of any later copy whether it has n.
//
// check() proves: SQLite finds the file sound; the sum is what was paid in; the numbers have no
// gap; every balance is its opening plus what the ledger says. Half a transaction breaks one of
// these.

#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/platform/prng.h"
#include "umbra/result.h"

struct sqlite3;
struct sqlite3_stmt;

namespace umbra::ledger {

inline constexpr std::int64_t kOpeningBalance = 1000;

/// A connection. Waits up to a minute for locks. Threads: one at a time.
class Connection {
 public:
  /// Errors: io_error (as SQLite tells it). `create`: makes the file if there is none.
  [[nodiscard]] static Result<Connection> open(const std::string& path, bool create);

  [[nodiscard]] Status run(const std::string& sql);
  /// The first column of the first row; 0 where it is null or there is no row.
  [[nodiscard]] Result<std::int64_t> number(const std::string& sql);
  [[nodiscard]] Result<std::string> text(const std::string& sql);

 private:
  friend class Teller;
  struct Close {
    void operator()(sqlite3* connection) const;
    void operator()(sqlite3_stmt* statement) const;
  };
  using Statement = std::unique_ptr<sqlite3_stmt, Close>;

  [[nodiscard]] Result<Statement> prepare(const std::string& sql);
  [[nodiscard]] tl::unexpected<Error> failure(const std::string& what) const;

  std::string path_;
  std::unique_ptr<sqlite3, Close> connection_;
};

/// Makes the bank, or finds it made. `journal_mode`: "wal", "delete", "truncate", "persist".
[[nodiscard]] Status create(const std::string& path, const std::string& journal_mode,
                            std::uint32_t account_count);

/// Transfers between random accounts. Threads: one at a time; one Teller per thread.
class Teller {
 public:
  [[nodiscard]] static Result<Teller> open(const std::string& path, std::uint64_t seed);
  /// One transaction. Its number, once it is committed and SQLite has said so.
  [[nodiscard]] Result<std::uint64_t> transfer();

 private:
  Teller(Connection connection, std::uint64_t seed)
      : connection_(std::move(connection)), random_(seed) {}
  [[nodiscard]] Result<std::uint64_t> transfer_within();

  Connection connection_;
  Prng random_;
  std::uint64_t account_count_ = 0;
};

/// The sum of all balances, as one reader sees it, less what was paid in: 0 unless something is
/// wrong.
[[nodiscard]] Result<std::int64_t> imbalance(Connection& connection);

struct Verdict {
  std::uint64_t commits = 0;  ///< The last one's number.
  std::uint64_t accounts = 0;
  std::vector<std::string> problems;  ///< Empty: good.
};

/// Opens the database, which recovers it as any application would, and checks it. Errors: io_error
/// (cannot be opened or read at all).
[[nodiscard]] Result<Verdict> check(const std::string& path);

/// check() of a copy in a scratch directory (database, -wal and -journal, as a backup holds them),
/// which is removed again. For databases in places that cannot or must not be written.
[[nodiscard]] Result<Verdict> check_copy(const std::string& path);

}  // namespace umbra::ledger
