// SPDX-License-Identifier: Apache-2.0
//
// Holds one SQLite database still: from acquire() to release() no connection of any process can
// commit to it, while readers go on. Knows SQLite and nothing of snapshots.
//
// How: BEGIN IMMEDIATE on a connection of our own, and nothing else inside that transaction.
//   Rollback-journal modes: it takes the RESERVED lock. Others may hold and take SHARED locks
//     (read); a second RESERVED, which every writer needs first, is refused. Since we never write,
//     no journal is created and PENDING, which would stop readers, is never taken.
//   WAL mode: it takes the write lock of the -shm file. Readers need a read mark only. Another
//     connection may still *checkpoint*: that copies committed pages from the -wal into the
//     database and cannot drop them from the -wal (restarting it needs the write lock), so database
//     and -wal together show the same commits before, during and after.
// A writer that had the lock is waited for, so what we get is the state between two commits.
//
// Never writes to the database's content. What SQLite itself does when any connection opens one: it
// rolls back the journal of a dead writer, makes the empty -wal and -shm of a WAL database that
// nobody had open. prepare() does it early, so that acquire() finds it done. Closing never
// checkpoints: it may happen while the file system is frozen, when a write would hang.
//
// The locks are the kernel's, and go with the process: a writer killed with -9 holds nothing.
//
// Does not: check the integrity of the database (that takes as long as reading it), open encrypted
// databases (they look like no database), or hold databases opened by others with
// `locking_mode=EXCLUSIVE` or the "unix-none" VFS (the first is reported as busy, the second cannot
// be seen).

#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "umbra/result.h"

struct sqlite3;

namespace umbra::sqlite {

/// How long a call may wait for other connections.
struct Patience {
  std::chrono::steady_clock::time_point deadline;
  std::function<bool()> should_stop;  ///< Empty, or true once waiting has become pointless.

  [[nodiscard]] static Patience for_at_most(std::chrono::milliseconds limit,
                                            std::function<bool()> should_stop = {});
  [[nodiscard]] bool is_over() const;
  [[nodiscard]] Patience cut_to(std::chrono::milliseconds limit) const;
};

/// Errors of all calls carry the file's name in their context, and one of these codes:
///   writererror_retryable       locked by another connection for longer than the patience lasted,
///                               or replaced again and again meanwhile
///   writererror_outofresources  no memory, no descriptors, disk full
///   writererror_nonretryable    missing, not a database, damaged, not writable for us, I/O error
/// Threads: distinct objects are independent; one object takes one call at a time, from any thread.
class DatabaseHold {
 public:
  /// Touches nothing yet. `path` is absolute.
  explicit DatabaseHold(std::string path);
  /// Releases and closes.
  ~DatabaseHold() = default;
  DatabaseHold(DatabaseHold&&) noexcept = default;
  DatabaseHold& operator=(DatabaseHold&&) noexcept = default;

  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  [[nodiscard]] bool is_held() const noexcept { return held_; }

  /// Opens the database, has SQLite recover it if its last writer died, and in WAL mode moves as
  /// much of the -wal into the database as others allow within `patience`, so that little is left
  /// to copy and to replay. A checkpoint that others prevent is no error. Blocks up to `patience`
  /// and the time of one I/O. On failure the connection is closed; prepare() may be called again.
  [[nodiscard]] Status prepare(const Patience& patience);

  /// Takes the lock. Works without prepare(), and notices that the file was replaced since: it then
  /// opens the new one. Blocks up to `patience`. On failure nothing is held. Held already: ok.
  [[nodiscard]] Status acquire(const Patience& patience);

  /// Lets writers go on; nothing happens if nothing is held. Does no I/O to the database, so that
  /// it returns also while the file system is frozen. Errors: writererror_retryable (the file was
  /// replaced while it was held, so that what was held is not what is there; it is released all the
  /// same).
  [[nodiscard]] Status release() noexcept;

 private:
  struct Close {
    void operator()(sqlite3* connection) const noexcept;
  };

  [[nodiscard]] Status open();
  [[nodiscard]] Status execute(const char* sql, const Patience& patience);
  [[nodiscard]] Status checkpoint(const Patience& patience);
  [[nodiscard]] bool was_replaced() const noexcept;
  [[nodiscard]] tl::unexpected<Error> failure(int result) const;

  std::string path_;
  std::unique_ptr<sqlite3, Close> connection_;
  bool held_ = false;
};

}  // namespace umbra::sqlite
