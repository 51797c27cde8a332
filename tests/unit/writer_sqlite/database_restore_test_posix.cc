// SPDX-License-Identifier: Apache-2.0
#include "writer-sdk/writers/sqlite/database_restore.h"

#include <sqlite3.h>

#include <filesystem>
#include <fstream>
#include <memory>

#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

namespace {

using namespace umbra;
namespace fs = std::filesystem;

using Connection = std::unique_ptr<sqlite3, decltype(&sqlite3_close)>;

Connection open(const std::string& path) {
  sqlite3* raw = nullptr;
  REQUIRE(sqlite3_open(path.c_str(), &raw) == SQLITE_OK);
  return {raw, &sqlite3_close};
}

void make_database(const std::string& path) {
  const auto connection = open(path);
  REQUIRE(sqlite3_exec(connection.get(),
                       "CREATE TABLE t(x); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 "
                       "FROM n LIMIT 5000) INSERT INTO t SELECT i FROM n; CREATE INDEX i ON t(x)",
                       nullptr, nullptr, nullptr) == SQLITE_OK);
}

TEST_CASE("what belongs to the old content is set aside, and removed once the new one is good") {
  const test::TempDir top;
  const std::string path = top / "a.db";
  make_database(path);
  for (const char* side : {"-wal", "-journal", "-mj12", "-shm"}) std::ofstream(path + side) << "x";
  std::ofstream(top / "a.db2-wal") << "another's";
  sqlite::DatabaseRestore database(path);
  REQUIRE(database.begin());
  CHECK_FALSE(fs::exists(path + "-wal"));
  CHECK(fs::exists(top / ".a.db-wal.before-restore"));
  CHECK(fs::exists(path));
  CHECK(fs::exists(top / "a.db2-wal"));
  SECTION("replaced") {
    REQUIRE(database.finish());
    CHECK_FALSE(fs::exists(top / ".a.db-wal.before-restore"));
    CHECK(std::distance(fs::directory_iterator(top.path()), {}) == 2);
  }
  SECTION("not replaced") {
    REQUIRE(database.put_back());
    for (const char* side : {"-wal", "-journal", "-mj12", "-shm"}) CHECK(fs::exists(path + side));
    CHECK(std::distance(fs::directory_iterator(top.path()), {}) == 6);
  }
}

TEST_CASE("a database that is open is not to be replaced") {
  const test::TempDir top;
  const std::string path = top / "a.db";
  make_database(path);
  std::ofstream(path + "-wal") << "x";
  {
    const std::ifstream reader(path);  // Any open descriptor: an idle connection has no lock.
    const auto refused = sqlite::DatabaseRestore(path).begin();
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == Errc::writererror_retryable);
    CHECK(fs::exists(path + "-wal"));
  }
  CHECK(sqlite::DatabaseRestore(path).begin());
}

TEST_CASE("a damaged database is told and what was set aside is kept") {
  const test::TempDir top;
  const std::string path = top / "a.db";
  make_database(path);
  std::ofstream(path + "-wal") << "x";
  sqlite::DatabaseRestore database(path);
  REQUIRE(database.begin());
  SECTION("inside") {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(fs::file_size(path) - 4096));
    file << std::string(4096, 'z');
  }
  SECTION("no database") { std::ofstream(path) << std::string(9000, 'z'); }
  SECTION("missing") { fs::remove(path); }
  const auto damaged = database.finish();
  REQUIRE_FALSE(damaged);
  CHECK(damaged.error().code == Errc::writererror_nonretryable);
  CHECK(fs::exists(top / ".a.db-wal.before-restore"));
}

TEST_CASE("nothing need be there") {
  const test::TempDir top;
  CHECK(sqlite::DatabaseRestore(top / "none/a.db").begin());
  CHECK(sqlite::DatabaseRestore(top / "a.db").begin());
  CHECK(sqlite::DatabaseRestore(top / "a.db").put_back());
}

}  // namespace
