// SPDX-License-Identifier: Apache-2.0
//
// Several databases: all or nothing, and no deadlock with anybody's order.

#include "writer-sdk/writers/sqlite/hold_group.h"

#include <filesystem>
#include <string>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"
#include "tests/unit/writer_sqlite/application.h"

using umbra::Errc;
using umbra::sqlite::HoldGroup;
using umbra::sqlite::Patience;
using namespace umbra::test;

TEST_CASE("a group holds all its databases, each once, in the order of their paths") {
  const TempDir dir;
  Application a(dir / "a.db", "wal");
  Application b(dir / "b.db", "delete");
  HoldGroup group({dir / "b.db", dir / "a.db", dir / "b.db"});
  CHECK(group.paths() == std::vector<std::string>{dir / "a.db", dir / "b.db"});
  REQUIRE(group.prepare(patient()));
  REQUIRE(group.acquire(patient()));
  CHECK(group.is_held());
  CHECK(a.write() == SQLITE_BUSY);
  CHECK(b.write() == SQLITE_BUSY);
  CHECK(group.release());
  CHECK(group.release());
  CHECK_FALSE(group.is_held());
  CHECK(a.write() == SQLITE_OK);
  CHECK(b.write() == SQLITE_OK);
}

TEST_CASE("a group that cannot have one database holds none and names that one") {
  const TempDir dir;
  Application a(dir / "a.db", "wal");
  Application b(dir / "b.db", "wal");
  HoldGroup group({dir / "a.db", dir / "b.db"});

  SECTION("busy") {
    REQUIRE(b.run("BEGIN IMMEDIATE") == SQLITE_OK);
    check_failed(group.acquire(impatient()), Errc::writererror_retryable, "b.db");
  }
  SECTION("missing") {
    std::filesystem::remove(dir / "b.db");
    check_failed(group.prepare(patient()), Errc::writererror_nonretryable, "b.db");
    check_failed(group.acquire(patient()), Errc::writererror_nonretryable, "b.db");
  }
  CHECK_FALSE(group.is_held());
  CHECK(a.write() == SQLITE_OK);
}

TEST_CASE("a transaction over two databases in the other order gets through") {
  // The application has b and wants a; the group has a and wants b. Without letting go, both would
  // wait until one gives up.
  const TempDir dir;
  Application a(dir / "a.db", "wal");
  Application both(dir / "b.db", "wal");
  REQUIRE(both.run("ATTACH '" + (dir / "a.db") + "' AS other") == SQLITE_OK);
  REQUIRE(both.run("BEGIN; INSERT INTO main.note VALUES('b')") == SQLITE_OK);

  bool is_done = false;
  Patience patience = patient();
  patience.should_stop = [&] {
    if (!is_done && both.run("INSERT INTO other.note VALUES('a')") == SQLITE_OK) {
      CHECK(both.run("COMMIT") == SQLITE_OK);
      is_done = true;
    }
    return false;
  };
  HoldGroup group({dir / "a.db", dir / "b.db"});
  REQUIRE(group.acquire(patience));
  CHECK(is_done);
  CHECK(Application(dir / "a.db").count() == 1);
  CHECK(Application(dir / "b.db").count() == 1);
}

TEST_CASE("one replaced file makes the release of a group fail, and all are released") {
  const TempDir dir;
  { REQUIRE(Application(dir / "new.db", "delete").write() == SQLITE_OK); }
  Application a(dir / "a.db", "delete");
  Application b(dir / "b.db", "delete");
  HoldGroup group({dir / "a.db", dir / "b.db"});
  REQUIRE(group.acquire(patient()));
  std::filesystem::rename(dir / "new.db", dir / "a.db");
  check_failed(group.release(), Errc::writererror_retryable, "a.db");
  CHECK(b.write() == SQLITE_OK);
}

TEST_CASE("a group of no databases is held at once") {
  HoldGroup group({});
  CHECK(group.prepare(impatient()));
  CHECK(group.acquire(impatient()));
  CHECK(group.release());
}
