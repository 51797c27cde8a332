// SPDX-License-Identifier: Apache-2.0
//
// What a backup session does to the listed databases, event by event.

#include "writer-sdk/writers/sqlite/databases.h"

#include <filesystem>
#include <string>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"
#include "tests/unit/writer_sqlite/application.h"

using umbra::Errc;
using umbra::SessionId;
using umbra::sqlite::Databases;
using namespace umbra::test;
namespace fs = std::filesystem;

namespace {

struct TwoDatabases {
  TempDir dir;
  std::string path_a = fs::canonical(dir.path()).string() + "/a.db";
  std::string path_b = fs::canonical(dir.path()).string() + "/b.db";
  Application a{path_a, "wal"};
  Application b{path_b, "delete"};
  Databases databases{{path_a, path_b}};
  SessionId session = SessionId::random();
};

umbra::WriterComponents selection(const std::string& directory, const std::string& name) {
  umbra::BackupComponent component;
  component.type = umbra::ComponentType::database;
  component.logical_path = directory;
  component.name = name;
  umbra::WriterComponents part;
  part.components.push_back(component);
  return part;
}

}  // namespace

TEST_CASE("in volume mode the databases on volumes of the set take part") {
  TwoDatabases t;
  const auto on_volume = [&](const std::string& path) { return path == t.path_b; };
  CHECK(t.databases.participants(nullptr, on_volume) == std::vector<std::string>{t.path_b});
  const auto nowhere = [](const std::string&) { return false; };
  CHECK(t.databases.participants(nullptr, nowhere).empty());
}

TEST_CASE("in component mode the selected databases take part, wherever they lie") {
  TwoDatabases t;
  const auto nowhere = [](const std::string&) { return false; };
  const auto everywhere = [](const std::string&) { return true; };
  const auto part = selection(fs::path(t.path_a).parent_path().string(), "a.db");
  CHECK(t.databases.participants(&part, nowhere) == std::vector<std::string>{t.path_a});
  CHECK(t.databases.participants(&part, everywhere) == std::vector<std::string>{t.path_a});
  const umbra::WriterComponents nothing;
  CHECK(t.databases.participants(&nothing, everywhere).empty());
}

TEST_CASE("a link and its target are one database") {
  TwoDatabases t;
  fs::create_symlink(t.path_a, t.dir / "link.db");
  const Databases databases({t.dir / "link.db", t.path_a});
  CHECK(databases.paths() == std::vector<std::string>{t.path_a});
}

TEST_CASE("a whole session: prepare, freeze, thaw, end") {
  TwoDatabases t;
  REQUIRE(t.databases.prepare(t.session, {t.path_a, t.path_b}, patient()));
  CHECK(t.databases.open_count(t.session) == 2);
  CHECK(t.a.write() == SQLITE_OK);
  REQUIRE(t.databases.freeze(t.session, patient()));
  CHECK(t.a.write() == SQLITE_BUSY);
  CHECK(t.b.write() == SQLITE_BUSY);
  CHECK(t.a.count() == 1);
  CHECK(t.databases.thaw(t.session));
  CHECK(t.a.write() == SQLITE_OK);
  CHECK(t.b.write() == SQLITE_OK);
  t.databases.end(t.session);
  CHECK(t.databases.open_count(t.session) == 0);
}

TEST_CASE("a database that takes no part is not held") {
  TwoDatabases t;
  REQUIRE(t.databases.prepare(t.session, {t.path_a}, patient()));
  REQUIRE(t.databases.freeze(t.session, patient()));
  CHECK(t.a.write() == SQLITE_BUSY);
  CHECK(t.b.write() == SQLITE_OK);
  t.databases.end(t.session);
}

TEST_CASE("abort releases at every step, and may repeat and follow thaw") {
  TwoDatabases t;
  t.databases.end(t.session);  // Before anything.
  for (const int steps : {1, 2, 3}) {
    REQUIRE(t.databases.prepare(t.session, {t.path_a, t.path_b}, patient()));
    if (steps >= 2) REQUIRE(t.databases.freeze(t.session, patient()));
    if (steps >= 3) REQUIRE(t.databases.thaw(t.session));
    t.databases.end(t.session);
    t.databases.end(t.session);
    CHECK(t.databases.open_count(t.session) == 0);
    CHECK(t.a.write() == SQLITE_OK);
    CHECK(t.b.write() == SQLITE_OK);
    CHECK(t.databases.thaw(t.session));  // A late one.
  }
}

TEST_CASE("a veto names the database and holds nothing") {
  TwoDatabases t;
  REQUIRE(t.databases.prepare(t.session, {t.path_a, t.path_b}, patient()));
  REQUIRE(t.b.run("BEGIN IMMEDIATE") == SQLITE_OK);
  check_failed(t.databases.freeze(t.session, impatient()), Errc::writererror_retryable, "b.db");
  CHECK(t.a.write() == SQLITE_OK);
  t.databases.end(t.session);
}

TEST_CASE("a failed prepare leaves nothing open, and freezing it fails") {
  TwoDatabases t;
  fs::remove(t.path_b);
  check_failed(t.databases.prepare(t.session, {t.path_a, t.path_b}, patient()),
               Errc::writererror_nonretryable, "b.db");
  CHECK(t.databases.open_count(t.session) == 0);
  check_failed(t.databases.freeze(t.session, patient()), Errc::writererror_retryable, "prepared");
}

TEST_CASE("two sessions have holds of their own") {
  TwoDatabases t;
  const auto other = SessionId::random();
  REQUIRE(t.databases.prepare(t.session, {t.path_a}, patient()));
  REQUIRE(t.databases.prepare(other, {t.path_a, t.path_b}, patient()));
  REQUIRE(t.databases.freeze(t.session, patient()));
  check_failed(t.databases.freeze(other, impatient()), Errc::writererror_retryable, "a.db");
  t.databases.end(other);
  CHECK(t.a.write() == SQLITE_BUSY);  // Still held by the first.
  t.databases.end(t.session);
  CHECK(t.a.write() == SQLITE_OK);
}
