// SPDX-License-Identifier: Apache-2.0

#include "writer-sdk/writers/sqlite/database_hold.h"

#include <sqlite3.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <thread>
#include <utility>

namespace umbra::sqlite {

namespace {

// A busy application gives the lock back for microseconds between two transactions; whoever sleeps
// a millisecond between two tries misses nearly all of them (measured: ten times the wait). So most
// tries follow each other at once, and only every so often the processor is left to others.
constexpr int kTriesBetweenRests = 256;
constexpr int kRest_ms = 1;
// Emptying the -wal holds up writers while it waits for readers, so it waits only this long.
constexpr std::chrono::milliseconds kTruncateLimit{200};
// A file that is replaced more often than this within one acquire() has no state worth holding.
constexpr int kReopenCountMax = 3;

int primary(int result) { return result & 0xFF; }

bool is_busy(int result) {
  return primary(result) == SQLITE_BUSY || primary(result) == SQLITE_LOCKED;
}

bool is_descriptor_shortage(int system_error) {
  return system_error == EMFILE || system_error == ENFILE || system_error == ENOMEM;
}

// SQLite calls this while a lock is taken; 0 makes it give up.
int on_busy(void* patience, int tries) {
  if (static_cast<const Patience*>(patience)->is_over()) return 0;
  if (tries % kTriesBetweenRests == kTriesBetweenRests - 1) {
    sqlite3_sleep(kRest_ms);
  } else {
    std::this_thread::yield();
  }
  return 1;
}

// The busy handler of `connection` for the time of one call. Afterwards it refuses at once.
class BusyScope {
 public:
  BusyScope(sqlite3* connection, const Patience& patience)
      : connection_(connection), patience_(patience) {
    sqlite3_busy_handler(connection_, &on_busy, &patience_);
  }
  ~BusyScope() { sqlite3_busy_handler(connection_, nullptr, nullptr); }
  BusyScope(const BusyScope&) = delete;
  BusyScope& operator=(const BusyScope&) = delete;

 private:
  sqlite3* connection_;
  Patience patience_;
};

// Interrupts what runs on `connection` once the patience is over: a checkpoint of a large -wal
// waits for nobody, it just takes long.
class Interrupter {
 public:
  Interrupter(sqlite3* connection, const Patience& patience)
      : thread_([this, connection, deadline = patience.deadline](const std::stop_token& stop) {
          std::unique_lock lock(mutex_);
          const bool done =
              changed_.wait_until(lock, stop, deadline, [&stop] { return stop.stop_requested(); });
          if (!done) sqlite3_interrupt(connection);
        }) {}

 private:
  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::jthread thread_;  // Last: it uses the members above.
};

}  // namespace

Patience Patience::for_at_most(std::chrono::milliseconds limit, std::function<bool()> should_stop) {
  return {std::chrono::steady_clock::now() + limit, std::move(should_stop)};
}

bool Patience::is_over() const {
  return std::chrono::steady_clock::now() >= deadline || (should_stop && should_stop());
}

Patience Patience::cut_to(std::chrono::milliseconds limit) const {
  return {std::min(deadline, std::chrono::steady_clock::now() + limit), should_stop};
}

void DatabaseHold::Close::operator()(sqlite3* connection) const noexcept {
  sqlite3_close_v2(connection);
}

DatabaseHold::DatabaseHold(std::string path) : path_(std::move(path)) {}

Status DatabaseHold::prepare(const Patience& patience) {
  if (held_) return fail(Errc::bad_state, path_ + ": is held; release it first");
  connection_.reset();
  auto status = open();
  // Reads the header: the cheapest statement that finds a file that is no database, and that has
  // SQLite roll back what a dead writer left.
  if (status) status = execute("PRAGMA schema_version", patience);
  if (status) status = checkpoint(patience);
  if (!status) connection_.reset();
  return status;
}

Status DatabaseHold::acquire(const Patience& patience) {
  if (held_) return {};
  for (int i = 0; i < kReopenCountMax; ++i) {
    if (!connection_) {
      if (auto opened = open(); !opened) return opened;
    }
    if (auto begun = execute("BEGIN IMMEDIATE", patience); !begun) {
      // The error may be about a file that is no longer the one at this path.
      const bool replaced = was_replaced();
      connection_.reset();
      if (replaced) continue;
      return begun;
    }
    if (!was_replaced()) {
      held_ = true;
      return {};
    }
    connection_.reset();  // Rolls back.
  }
  return fail(
      Errc::writererror_retryable,
      path_ + ": the file was replaced again and again while it was being locked; try again");
}

Status DatabaseHold::release() noexcept {
  if (!held_) return {};
  held_ = false;
  const bool replaced = was_replaced();
  // Nothing was written, so this only gives locks back; it cannot fail in a way that keeps them.
  if (sqlite3_exec(connection_.get(), "ROLLBACK", nullptr, nullptr, nullptr) != SQLITE_OK) {
    connection_.reset();
  }
  if (replaced) {
    return fail(Errc::writererror_retryable,
                path_ + ": the file was replaced while it was frozen; do not trust this snapshot");
  }
  return {};
}

Status DatabaseHold::open() {
  sqlite3* connection = nullptr;
  const int result = sqlite3_open_v2(path_.c_str(), &connection,
                                     SQLITE_OPEN_READWRITE | SQLITE_OPEN_FULLMUTEX, nullptr);
  connection_.reset(connection);
  if (result != SQLITE_OK) {
    auto error = failure(result);
    connection_.reset();
    return error;
  }
  sqlite3_extended_result_codes(connection, 1);
  sqlite3_db_config(connection, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, nullptr);
  // SQLite opens what it may not write read-only and says nothing; such a connection locks nobody.
  if (sqlite3_db_readonly(connection, "main") == 1) {
    connection_.reset();
    return fail(Errc::writererror_nonretryable,
                path_ +
                    ": this process may not write to it, so it cannot lock it; run the writer as "
                    "the user that owns the database");
  }
  return {};
}

Status DatabaseHold::execute(const char* sql, const Patience& patience) {
  const BusyScope scope(connection_.get(), patience);
  while (true) {
    const int result = sqlite3_exec(connection_.get(), sql, nullptr, nullptr, nullptr);
    if (result == SQLITE_OK) return {};
    // Some conflicts (a recovery that another connection runs) are reported without asking the busy
    // handler.
    if (!is_busy(result) || patience.is_over()) return failure(result);
    sqlite3_sleep(kRest_ms);
  }
}

Status DatabaseHold::checkpoint(const Patience& patience) {
  // In other journal modes these do nothing.
  for (const int mode : {SQLITE_CHECKPOINT_PASSIVE, SQLITE_CHECKPOINT_TRUNCATE}) {
    if (patience.is_over()) return {};
    const auto limit =
        mode == SQLITE_CHECKPOINT_TRUNCATE ? patience.cut_to(kTruncateLimit) : patience;
    const BusyScope scope(connection_.get(), limit);
    const Interrupter interrupter(connection_.get(), limit);
    const int result = sqlite3_wal_checkpoint_v2(connection_.get(), "main", mode, nullptr, nullptr);
    if (result != SQLITE_OK && !is_busy(result) && primary(result) != SQLITE_INTERRUPT) {
      return failure(result);
    }
  }
  return {};
}

bool DatabaseHold::was_replaced() const noexcept {
  int moved = 0;
  return sqlite3_file_control(connection_.get(), "main", SQLITE_FCNTL_HAS_MOVED, &moved) ==
             SQLITE_OK &&
         moved != 0;
}

tl::unexpected<Error> DatabaseHold::failure(int result) const {
  const int system_error = connection_ ? sqlite3_system_errno(connection_.get()) : 0;
  const std::string detail =
      connection_ ? sqlite3_errmsg(connection_.get()) : sqlite3_errstr(result);
  switch (primary(result)) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_PROTOCOL:
    case SQLITE_INTERRUPT:
      return fail(Errc::writererror_retryable,
                  path_ + ": another connection keeps it locked; try again when it is less busy");
    case SQLITE_NOMEM:
    case SQLITE_FULL: return fail(Errc::writererror_outofresources, path_ + ": " + detail);
    case SQLITE_NOTADB:
      return fail(Errc::writererror_nonretryable,
                  path_ + ": not an SQLite database, or an encrypted one");
    case SQLITE_CANTOPEN:
      if (is_descriptor_shortage(system_error)) {
        return fail(Errc::writererror_outofresources, path_ + ": " + std::strerror(system_error));
      }
      if (system_error == ENOENT) {
        return fail(Errc::writererror_nonretryable,
                    path_ + ": there is no such file; create the database or take it off the list");
      }
      [[fallthrough]];
    default: break;
  }
  std::string text = path_ + ": " + detail;
  if (system_error != 0) text += std::string(" (") + std::strerror(system_error) + ")";
  return fail(Errc::writererror_nonretryable, std::move(text));
}

}  // namespace umbra::sqlite
