// SPDX-License-Identifier: Apache-2.0
//
// What holding one SQLite database means to the other connections, in every journal mode, and how
// each way of not getting it is reported.

#include "writer-sdk/writers/sqlite/database_hold.h"

#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"
#include "tests/unit/writer_sqlite/application.h"

using umbra::Errc;
using umbra::sqlite::DatabaseHold;
using umbra::sqlite::Patience;
using namespace umbra::test;
namespace fs = std::filesystem;

namespace {

const std::vector<std::string> kJournalModes = {"wal", "delete", "truncate", "persist"};

}  // namespace

TEST_CASE("a held database refuses writers and serves readers, in every journal mode") {
  for (const auto& mode : kJournalModes) {
    DYNAMIC_SECTION(mode) {
      const TempDir dir;
      Application application(dir / "ledger.db", mode);
      REQUIRE(application.write() == SQLITE_OK);

      DatabaseHold hold(dir / "ledger.db");
      REQUIRE(hold.prepare(patient()));
      CHECK(application.write() == SQLITE_OK);  // Prepared is not held.
      REQUIRE(hold.acquire(patient()));
      CHECK(hold.is_held());
      CHECK(application.write() == SQLITE_BUSY);
      CHECK(application.count() == 2);
      Application newcomer(dir / "ledger.db");
      CHECK(newcomer.count() == 2);
      CHECK(newcomer.write() == SQLITE_BUSY);

      CHECK(hold.release());
      CHECK_FALSE(hold.is_held());
      CHECK(application.write() == SQLITE_OK);
      CHECK(newcomer.count() == 3);
    }
  }
}

TEST_CASE("holding and releasing changes no byte of the database and its journals") {
  for (const auto& mode : kJournalModes) {
    DYNAMIC_SECTION(mode) {
      const TempDir dir;
      Application application(dir / "ledger.db", mode);
      REQUIRE(application.write() == SQLITE_OK);
      const auto look = [&] {
        return std::pair(bytes_of(dir / "ledger.db"), bytes_of(dir / "ledger.db-wal") + "|" +
                                                          bytes_of(dir / "ledger.db-journal"));
      };
      const auto before = look();
      {
        DatabaseHold hold(dir / "ledger.db");
        REQUIRE(hold.acquire(patient()));
        CHECK(look() == before);
        CHECK(hold.release());
        CHECK(look() == before);
      }
      CHECK(look() == before);  // Closed.
    }
  }
}

TEST_CASE("closing as the last connection leaves the -wal as it is") {
  const TempDir dir;
  std::optional<DatabaseHold> hold;
  std::string wal;
  {
    Application application(dir / "ledger.db", "wal");
    hold.emplace(dir / "ledger.db");
    REQUIRE(hold->acquire(patient()));
    REQUIRE(hold->release());
    REQUIRE(application.write() == SQLITE_OK);
    wal = bytes_of(dir / "ledger.db-wal");
  }
  hold.reset();
  CHECK(!wal.empty());
  CHECK(bytes_of(dir / "ledger.db-wal") == wal);
  CHECK(Application(dir / "ledger.db").count() == 1);
}

TEST_CASE("prepare empties the -wal when nobody is in the way") {
  const TempDir dir;
  Application application(dir / "ledger.db", "wal");
  REQUIRE(application.write() == SQLITE_OK);
  REQUIRE(fs::file_size(dir / "ledger.db-wal") > 0);
  DatabaseHold hold(dir / "ledger.db");
  REQUIRE(hold.prepare(patient()));
  CHECK(fs::file_size(dir / "ledger.db-wal") == 0);
  CHECK(application.count() == 1);
}

TEST_CASE("a reader that prevents the checkpoint does not fail prepare") {
  const TempDir dir;
  Application writer(dir / "ledger.db", "wal");
  Application reader(dir / "ledger.db");
  REQUIRE(reader.run("BEGIN; SELECT * FROM note") == SQLITE_OK);
  REQUIRE(writer.write() == SQLITE_OK);
  DatabaseHold hold(dir / "ledger.db");
  CHECK(hold.prepare(patient()));
  CHECK(hold.acquire(patient()));
  CHECK(reader.run("SELECT * FROM note") == SQLITE_OK);
}

TEST_CASE("a transaction under way is waited for, and the hold shows it whole") {
  for (const auto& mode : kJournalModes) {
    DYNAMIC_SECTION(mode) {
      const TempDir dir;
      Application application(dir / "ledger.db", mode);
      REQUIRE(application.run("BEGIN IMMEDIATE") == SQLITE_OK);
      REQUIRE(application.write() == SQLITE_OK);
      // Commits while acquire() waits: should_stop is asked between two tries.
      int asked = 0;
      Patience patience = patient();
      patience.should_stop = [&] {
        if (++asked == 3) {
          CHECK(application.write() == SQLITE_OK);
          CHECK(application.run("COMMIT") == SQLITE_OK);
        }
        return false;
      };
      DatabaseHold hold(dir / "ledger.db");
      REQUIRE(hold.acquire(patience));
      CHECK(asked >= 3);
      CHECK(Application(dir / "ledger.db").count() == 2);
    }
  }
}

TEST_CASE("a writer that does not finish is a retryable failure that names the file") {
  for (const auto& mode : kJournalModes) {
    DYNAMIC_SECTION(mode) {
      const TempDir dir;
      Application application(dir / "ledger.db", mode);
      REQUIRE(application.run("BEGIN IMMEDIATE") == SQLITE_OK);
      DatabaseHold hold(dir / "ledger.db");
      REQUIRE(hold.prepare(patient()));
      check_failed(hold.acquire(impatient()), Errc::writererror_retryable, "ledger.db");
      CHECK_FALSE(hold.is_held());
      REQUIRE(application.run("COMMIT") == SQLITE_OK);
      CHECK(hold.acquire(patient()));  // The same object works afterwards.
    }
  }
}

TEST_CASE("a wait ends at once when it has become pointless") {
  const TempDir dir;
  Application application(dir / "ledger.db", "wal");
  REQUIRE(application.run("BEGIN IMMEDIATE") == SQLITE_OK);
  DatabaseHold hold(dir / "ledger.db");
  Patience patience = Patience::for_at_most(std::chrono::hours(1));
  patience.should_stop = [] { return true; };
  check_failed(hold.acquire(patience), Errc::writererror_retryable, "ledger.db");
}

TEST_CASE("a database that another connection locks exclusively is a retryable failure") {
  for (const auto& mode : kJournalModes) {
    DYNAMIC_SECTION(mode) {
      const TempDir dir;
      Application application(dir / "ledger.db", mode);
      REQUIRE(application.run("PRAGMA locking_mode=EXCLUSIVE") == SQLITE_OK);
      REQUIRE(application.run("BEGIN EXCLUSIVE") == SQLITE_OK);
      REQUIRE(application.write() == SQLITE_OK);
      DatabaseHold hold(dir / "ledger.db");
      check_failed(hold.acquire(impatient()), Errc::writererror_retryable, "ledger.db");
      if (mode == "wal") return;  // Readers of the header need no lock there.
      check_failed(hold.prepare(impatient()), Errc::writererror_retryable, "ledger.db");
    }
  }
}

TEST_CASE("what is no database to us is a nonretryable failure that names the file") {
  const TempDir dir;
  SECTION("missing") {
    DatabaseHold hold(dir / "none.db");
    check_failed(hold.prepare(patient()), Errc::writererror_nonretryable, "none.db");
    check_failed(hold.acquire(patient()), Errc::writererror_nonretryable, "none.db");
    CHECK_FALSE(fs::exists(dir / "none.db"));  // Never made.
  }
  SECTION("a directory") {
    fs::create_directory(dir / "folder.db");
    DatabaseHold hold(dir / "folder.db");
    check_failed(hold.acquire(patient()), Errc::writererror_nonretryable, "folder.db");
  }
  SECTION("not a database") {
    std::ofstream(dir / "text.db") << std::string(8192, 'x');
    DatabaseHold hold(dir / "text.db");
    check_failed(hold.prepare(patient()), Errc::writererror_nonretryable, "text.db");
    check_failed(hold.acquire(patient()), Errc::writererror_nonretryable, "text.db");
    CHECK(bytes_of(dir / "text.db") == std::string(8192, 'x'));
  }
  SECTION("damaged in its header") {
    { REQUIRE(Application(dir / "ledger.db", "delete").write() == SQLITE_OK); }
    std::fstream file(dir / "ledger.db", std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(16);  // The page size.
    file.write("\x00\x03", 2);
    file.close();
    DatabaseHold hold(dir / "ledger.db");
    check_failed(hold.acquire(patient()), Errc::writererror_nonretryable, "ledger.db");
  }
}

TEST_CASE("a file that was replaced since prepare is opened anew") {
  const TempDir dir;
  { REQUIRE(Application(dir / "new.db", "delete").write() == SQLITE_OK); }
  Application old(dir / "ledger.db", "delete");
  DatabaseHold hold(dir / "ledger.db");
  REQUIRE(hold.prepare(patient()));
  fs::rename(dir / "new.db", dir / "ledger.db");
  REQUIRE(hold.acquire(patient()));
  CHECK(Application(dir / "ledger.db").write() == SQLITE_BUSY);
  CHECK(hold.release());
}

TEST_CASE("a file that vanished since prepare is reported as missing") {
  const TempDir dir;
  Application application(dir / "ledger.db", "delete");
  DatabaseHold hold(dir / "ledger.db");
  REQUIRE(hold.prepare(patient()));
  fs::remove(dir / "ledger.db");
  check_failed(hold.acquire(patient()), Errc::writererror_nonretryable, "ledger.db");
}

TEST_CASE("a file that is replaced while it is held makes release fail, and is released") {
  const TempDir dir;
  { REQUIRE(Application(dir / "new.db", "delete").write() == SQLITE_OK); }
  Application application(dir / "ledger.db", "delete");
  DatabaseHold hold(dir / "ledger.db");
  REQUIRE(hold.acquire(patient()));
  fs::rename(dir / "new.db", dir / "ledger.db");
  check_failed(hold.release(), Errc::writererror_retryable, "ledger.db");
  CHECK_FALSE(hold.is_held());
  CHECK(hold.release());  // Nothing is held now.
}

TEST_CASE("acquire and release may repeat, and the end of the object releases") {
  const TempDir dir;
  Application application(dir / "ledger.db", "wal");
  {
    DatabaseHold hold(dir / "ledger.db");
    CHECK(hold.release());
    REQUIRE(hold.acquire(patient()));
    CHECK(hold.acquire(patient()));
    check_failed(hold.prepare(patient()), Errc::bad_state, "ledger.db");
    CHECK(hold.release());
    CHECK(hold.release());
    REQUIRE(hold.acquire(patient()));
    CHECK(application.write() == SQLITE_BUSY);
  }
  CHECK(application.write() == SQLITE_OK);
}
