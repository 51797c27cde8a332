// SPDX-License-Identifier: Apache-2.0

#include "tests/tools/ledger/ledger.h"

#include <sqlite3.h>

#include <filesystem>
#include <system_error>
#include <utility>

#include "umbra/ids.h"

namespace umbra::ledger {

namespace fs = std::filesystem;

namespace {

// Longer than any writer may be frozen.
constexpr int kBusyTries = 60'000;
constexpr int kBusyPoll_ms = 1;
// So that a commit touches a few pages, as a real one does.
constexpr int kMemoBytes = 160;
constexpr std::uint64_t kAmountMax = 100;

int on_busy(void* /*unused*/, int tries) {
  if (tries >= kBusyTries) return 0;
  sqlite3_sleep(kBusyPoll_ms);
  return 1;
}

// A directory of its own, gone at the end.
class Scratch {
 public:
  Scratch() : path_(fs::temp_directory_path() / ("umbra-ledger." + Guid::random().to_string())) {
    std::error_code error;
    fs::create_directory(path_, error);
  }
  ~Scratch() {
    std::error_code error;
    fs::remove_all(path_, error);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  [[nodiscard]] const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

}  // namespace

void Connection::Close::operator()(sqlite3* connection) const { sqlite3_close_v2(connection); }
void Connection::Close::operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }

Result<Connection> Connection::open(const std::string& path, bool create) {
  Connection made;
  made.path_ = path;
  sqlite3* connection = nullptr;
  const int flags =
      SQLITE_OPEN_READWRITE | SQLITE_OPEN_FULLMUTEX | (create ? SQLITE_OPEN_CREATE : 0);
  const int result = sqlite3_open_v2(path.c_str(), &connection, flags, nullptr);
  made.connection_.reset(connection);
  if (result != SQLITE_OK) return made.failure("open");
  sqlite3_busy_handler(connection, &on_busy, nullptr);
  return made;
}

Status Connection::run(const std::string& sql) {
  if (sqlite3_exec(connection_.get(), sql.c_str(), nullptr, nullptr, nullptr) != SQLITE_OK) {
    return failure(sql);
  }
  return {};
}

Result<std::int64_t> Connection::number(const std::string& sql) {
  auto statement = prepare(sql);
  if (!statement) return fail(std::move(statement.error()));
  const int result = sqlite3_step(statement->get());
  if (result == SQLITE_DONE) return 0;
  if (result != SQLITE_ROW) return failure(sql);
  return sqlite3_column_int64(statement->get(), 0);
}

Result<std::string> Connection::text(const std::string& sql) {
  auto statement = prepare(sql);
  if (!statement) return fail(std::move(statement.error()));
  const int result = sqlite3_step(statement->get());
  if (result == SQLITE_DONE) return std::string();
  if (result != SQLITE_ROW) return failure(sql);
  const auto* bytes = static_cast<const char*>(sqlite3_column_blob(statement->get(), 0));
  const int size = sqlite3_column_bytes(statement->get(), 0);
  return bytes == nullptr ? std::string() : std::string(bytes, static_cast<std::size_t>(size));
}

Result<Connection::Statement> Connection::prepare(const std::string& sql) {
  sqlite3_stmt* statement = nullptr;
  if (sqlite3_prepare_v2(connection_.get(), sql.c_str(), -1, &statement, nullptr) != SQLITE_OK) {
    return failure(sql);
  }
  return Statement(statement);
}

tl::unexpected<Error> Connection::failure(const std::string& what) const {
  return fail(Errc::io_error, path_ + ": " + what + ": " + sqlite3_errmsg(connection_.get()));
}

Status create(const std::string& path, const std::string& journal_mode,
              std::uint32_t account_count) {
  auto connection = Connection::open(path, true);
  if (!connection) return fail(std::move(connection.error()));
  auto mode = connection->text("PRAGMA journal_mode=" + journal_mode);
  if (!mode) return fail(std::move(mode.error()));
  if (*mode != journal_mode) {
    return fail(Errc::invalid_argument,
                path + ": SQLite made journal mode '" + *mode + "' of '" + journal_mode + "'");
  }
  return connection->run(
      "BEGIN IMMEDIATE;"
      "CREATE TABLE IF NOT EXISTS account(id INTEGER PRIMARY KEY, opening INTEGER NOT NULL,"
      " balance INTEGER NOT NULL);"
      "CREATE TABLE IF NOT EXISTS ledger(id INTEGER PRIMARY KEY, source INTEGER NOT NULL,"
      " target INTEGER NOT NULL, amount INTEGER NOT NULL, memo BLOB NOT NULL);"
      "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < " +
      std::to_string(account_count) + ") INSERT OR IGNORE INTO account SELECT i, " +
      std::to_string(kOpeningBalance) + ", " + std::to_string(kOpeningBalance) +
      " FROM n;"
      "COMMIT");
}

Result<Teller> Teller::open(const std::string& path, std::uint64_t seed) {
  auto connection = Connection::open(path, false);
  if (!connection) return fail(std::move(connection.error()));
  const auto count = connection->number("SELECT count(*) FROM account");
  if (!count) return fail(count.error());
  if (*count < 2) return fail(Errc::invalid_argument, path + ": fewer than two accounts");
  Teller teller(std::move(*connection), seed);
  teller.account_count_ = static_cast<std::uint64_t>(*count);
  return teller;
}

Result<std::uint64_t> Teller::transfer() {
  if (auto begun = connection_.run("BEGIN IMMEDIATE"); !begun) return fail(begun.error());
  auto number = transfer_within();
  if (number) {
    if (auto committed = connection_.run("COMMIT"); !committed) number = fail(committed.error());
  }
  if (!number) (void)connection_.run("ROLLBACK");
  return number;
}

Result<std::uint64_t> Teller::transfer_within() {
  const auto source = random_.below(account_count_);
  const auto target = (source + 1 + random_.below(account_count_ - 1)) % account_count_;
  const auto amount = std::to_string(1 + random_.below(kAmountMax));
  const auto from = std::to_string(source + 1);
  const auto to = std::to_string(target + 1);
  auto changed = connection_.run(
      "UPDATE account SET balance = balance - " + amount + " WHERE id = " + from +
      ";UPDATE account SET balance = balance + " + amount + " WHERE id = " + to +
      ";INSERT INTO ledger SELECT coalesce(max(id), 0) + 1, " + from + ", " + to + ", " + amount +
      ", randomblob(" + std::to_string(kMemoBytes) + ") FROM ledger");
  if (!changed) return fail(std::move(changed.error()));
  return static_cast<std::uint64_t>(sqlite3_last_insert_rowid(connection_.connection_.get()));
}

Result<std::int64_t> imbalance(Connection& connection) {
  return connection.number("SELECT sum(balance) - sum(opening) FROM account");
}

Result<Verdict> check(const std::string& path) {
  auto opened = Connection::open(path, false);
  if (!opened) return fail(std::move(opened.error()));
  auto& connection = *opened;
  Verdict verdict;

  auto integrity = connection.text("PRAGMA integrity_check");
  if (!integrity) return fail(std::move(integrity.error()));
  if (*integrity != "ok") verdict.problems.push_back("integrity_check: " + *integrity);

  const auto accounts = connection.number("SELECT count(*) FROM account");
  if (!accounts) return fail(accounts.error());
  verdict.accounts = static_cast<std::uint64_t>(*accounts);
  const auto commits = connection.number("SELECT max(id) FROM ledger");
  if (!commits) return fail(commits.error());
  verdict.commits = static_cast<std::uint64_t>(*commits);

  struct Invariant {
    const char* text;
    const char* violations;
  };
  static constexpr Invariant kInvariants[] = {
      {"the sum of all balances is not what was paid in",
       "SELECT coalesce(sum(balance) - sum(opening), 1) <> 0 FROM account"},
      {"commits are missing from the ledger",
       "SELECT coalesce(max(id), 0) - count(*) + (coalesce(min(id), 1) <> 1) FROM ledger"},
      {"balances differ from what the ledger says",
       "WITH moved(id, change) AS (SELECT target, amount FROM ledger"
       " UNION ALL SELECT source, -amount FROM ledger),"
       " net AS (SELECT id, sum(change) AS change FROM moved GROUP BY id)"
       " SELECT count(*) FROM account LEFT JOIN net USING(id)"
       " WHERE balance <> opening + coalesce(change, 0)"}};
  for (const auto& invariant : kInvariants) {
    const auto violations = connection.number(invariant.violations);
    if (!violations) return fail(violations.error());
    if (*violations == 0) continue;
    verdict.problems.push_back(std::string(invariant.text) + " (" + std::to_string(*violations) +
                               ")");
  }
  return verdict;
}

Result<Verdict> check_copy(const std::string& path) {
  const Scratch scratch;
  const auto copy = scratch.path() / "copy.db";
  for (const char* suffix : {"", "-wal", "-journal"}) {
    std::error_code error;
    const bool is_there = fs::exists(path + suffix, error);
    if (!is_there && *suffix != '\0') continue;
    fs::copy_file(path + suffix, copy.string() + suffix, error);
    if (error) return fail(Errc::io_error, path + suffix + ": copy: " + error.message());
  }
  return check(copy.string());
}

}  // namespace umbra::ledger
