// SPDX-License-Identifier: Apache-2.0
//
// An application that has a database open, as the tests of the SQLite writer see it.
#pragma once

#include <sqlite3.h>

#include <chrono>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>

#include "tests/support/catch.h"
#include "writer-sdk/writers/sqlite/database_hold.h"

namespace umbra::test {

class Application {
 public:
  /// Opens (and makes) the database. `journal_mode` as in the pragma; empty leaves it.
  explicit Application(const std::string& path, const std::string& journal_mode = "") {
    sqlite3* connection = nullptr;
    REQUIRE(sqlite3_open(path.c_str(), &connection) == SQLITE_OK);
    connection_.reset(connection);
    if (journal_mode.empty()) return;
    REQUIRE(run("PRAGMA journal_mode=" + journal_mode) == SQLITE_OK);
    REQUIRE(run("CREATE TABLE IF NOT EXISTS note(text)") == SQLITE_OK);
  }

  /// The primary result code; never waits for a lock.
  [[nodiscard]] int run(const std::string& sql) {
    return sqlite3_exec(connection_.get(), sql.c_str(), nullptr, nullptr, nullptr);
  }
  [[nodiscard]] int write() { return run("INSERT INTO note VALUES('x')"); }

  /// How many notes a reader sees, or -1 if it could not read.
  [[nodiscard]] std::int64_t count() {
    sqlite3_stmt* statement = nullptr;
    std::int64_t value = -1;
    if (sqlite3_prepare_v2(connection_.get(), "SELECT count(*) FROM note", -1, &statement,
                           nullptr) == SQLITE_OK &&
        sqlite3_step(statement) == SQLITE_ROW) {
      value = sqlite3_column_int64(statement, 0);
    }
    sqlite3_finalize(statement);
    return value;
  }

 private:
  struct Close {
    void operator()(sqlite3* connection) const { sqlite3_close_v2(connection); }
  };
  std::unique_ptr<sqlite3, Close> connection_;
};

/// Long enough for anything that is going to work.
inline sqlite::Patience patient() {
  return sqlite::Patience::for_at_most(std::chrono::seconds(20));
}
/// For what is not going to work.
inline sqlite::Patience impatient() {
  return sqlite::Patience::for_at_most(std::chrono::milliseconds(20));
}

inline std::string bytes_of(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

/// The error names the file and is `code`.
inline void check_failed(const Status& status, Errc code, const std::string& file) {
  REQUIRE_FALSE(status.has_value());
  CAPTURE(status.error().to_string());
  CHECK(status.error().code == code);
  CHECK(status.error().context.find(file) != std::string::npos);
}

}  // namespace umbra::test
