// SPDX-License-Identifier: Apache-2.0
//
// Restoring: what a requester asks for, and what becomes of the directories.

#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"
#include "writer-sdk/writers/postgresql/restore_files.h"
#include "writer-sdk/writers/postgresql/restore_plan.h"
#include "writer-sdk/writers/postgresql/restore_work.h"

using umbra::BackupComponent;
using umbra::Errc;
using umbra::FileRestoreStatus;
using umbra::RollForwardType;
using umbra::test::TempDir;
using namespace umbra::postgresql;
namespace fs = std::filesystem;

namespace {

void write(const fs::path& path, const std::string& content) {
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << content;
}

std::string read(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::string control(std::uint64_t identifier) {
  std::string bytes(16, '\0');
  const std::uint32_t version = 1300;
  std::memcpy(bytes.data(), &identifier, 8);
  std::memcpy(bytes.data() + 8, &version, 4);
  const std::uint32_t catalog = 202209061;
  std::memcpy(bytes.data() + 12, &catalog, 4);
  return bytes;
}

// A backup of a cluster that had its WAL and a tablespace elsewhere.
struct Scene {
  Scene() {
    record.cluster = "shop";
    record.system_identifier = "7711";
    record.server_version = "150018";
    record.data_directory = dir / "data";
    record.wal_directory = dir / "wal";
    record.tablespace_directory = "PG_15_202209061";
    record.tablespaces = {{"16385", "fast", dir / "fast"}};
    record.freeze_flush_lsn = "1/10";
    component.name = "shop";
    component.selected_for_restore = true;
    component.backup_metadata = to_text(record);
  }
  // What a requester puts back.
  void restore_files(const std::string& data, const std::string& wal,
                     const std::string& fast) const {
    write(fs::path(data) / "PG_VERSION", "15\n");
    write(fs::path(data) / "global/pg_control", control(7711));
    write(fs::path(data) / "postmaster.pid", "999999999\n");
    write(fs::path(data) / "base/1/1259", "rows");
    write(fs::path(wal) / "000000010000000000000001", "records");
    write(fs::path(fast) / "PG_15_202209061/5/16400", "rows");
  }
  // A cluster at its own place, as it was in use.
  void old_cluster() const {
    restore_files();
    const fs::path data = record.data_directory;
    fs::create_directory(data / "pg_tblspc");
    fs::create_directory_symlink(record.wal_directory, data / "pg_wal");
    fs::create_directory_symlink(record.tablespaces[0].location, data / "pg_tblspc/16385");
  }
  void restore_files() const {
    restore_files(record.data_directory, record.wal_directory, record.tablespaces[0].location);
  }
  std::vector<RestoreFailure> before() const { return before_restore(part(), command); }
  std::vector<RestoreFailure> after(FileRestoreStatus status = FileRestoreStatus::all) {
    component.file_restore_status = status;
    return after_restore(part(), command);
  }
  umbra::WriterComponents part() const {
    umbra::WriterComponents all;
    all.components = {component};
    return all;
  }
  umbra::Result<RestorePlan> plan() const { return plan_restore(record, component, command); }

  TempDir dir;
  BackupRecord record;
  BackupComponent component;
  std::string command;  // Of the configuration.
};

void check_failed(const std::vector<RestoreFailure>& failures, const std::string& part) {
  REQUIRE(failures.size() == 1);
  CAPTURE(failures[0].error.context);
  CHECK(failures[0].component == "shop");
  CHECK(failures[0].error.context.find(part) != std::string::npos);
}

void check_refused(const umbra::Result<RestorePlan>& plan, const std::string& part) {
  REQUIRE_FALSE(plan.has_value());
  CAPTURE(plan.error().context);
  CHECK(plan.error().context.find(part) != std::string::npos);
}

}  // namespace

TEST_CASE("options of a restore are read") {
  const auto options = parse_restore_options(
      R"( "existing"="replace", restore_command = "cp \"/a, b\"/%f %p" , recovery_target_lsn=1/20 )");
  REQUIRE(options);
  CHECK(*options == Settings{{"existing", "replace"},
                             {"restore_command", "cp \"/a, b\"/%f %p"},
                             {"recovery_target_lsn", "1/20"}});
  CHECK(parse_restore_options("")->empty());
  for (const char* text :
       {"existing", "=x", "\"a\"=\"b", "\"a\"=\"b\" c=d", "\"data\":\"a\"=\"b\"", ","}) {
    CAPTURE(text);
    CHECK_FALSE(parse_restore_options(text).has_value());
  }
}

TEST_CASE("a point in time becomes settings and a signal") {
  Scene scene;
  CHECK(scene.plan()->settings.empty());
  CHECK_FALSE(scene.plan()->recover_to_target);
  scene.command = "cp '/a\\b'/%f %p";
  CHECK(scene.plan()->settings.empty());  // Only for recovery to a target.
  scene.component.roll_forward = {.type = RollForwardType::all};
  CHECK(scene.plan()->recover_to_target);
  CHECK(settings_text(scene.plan()->settings) == "restore_command = 'cp ''/a\\\\b''/%f %p'\n");
  scene.command.clear();
  scene.component.roll_forward = {.type = RollForwardType::partial, .point = "lsn:1/20"};
  CHECK(scene.plan()->settings.back() ==
        std::pair<std::string, std::string>{"recovery_target_lsn", "1/20"});
  scene.component.roll_forward->point = "2026-11-22 21:00:00+00";
  CHECK(scene.plan()->settings.back().first == "recovery_target_time");
  scene.component.roll_forward->point = "lsn:1/F";
  check_refused(scene.plan(), "restore an earlier backup");
  scene.component.roll_forward->point = "lsn:here";
  check_refused(scene.plan(), "no WAL position");
  scene.component.roll_forward.reset();
  scene.component.restore_options = "recovery_target_tmie=x";
  check_refused(scene.plan(), "there is no restore option 'recovery_target_tmie'");
  scene.component.restore_options = "restore_command=id";
  check_refused(scene.plan(), "in the writer's configuration only");
  scene.component.restore_options = "existing=keep";
  check_refused(scene.plan(), "refuse or replace");
  scene.component.restore_options.reset();
  scene.component.restore_subcomponents = {{"shop", "data"}};
  check_refused(scene.plan(), "a part of a cluster");
}

TEST_CASE("a cluster goes to another place as a whole") {
  Scene scene;
  const auto& from = scene.record;
  scene.component.new_targets = {
      {from.data_directory, "*", false, "/new/data"},
      {from.data_directory + "/base", "*", true, "/new/data/base"},
      {from.wal_directory, "*", false, "/new/wal"},
      {from.tablespaces[0].location + "/PG_15_202209061", "*", true, "/new/fast/PG_15_202209061"}};
  const auto plan = scene.plan();
  REQUIRE(plan);
  CHECK(plan->data == "/new/data");
  CHECK(plan->wal == "/new/wal");
  CHECK(plan->tablespaces[0].location == "/new/fast");
  scene.component.new_targets[1].destination = "/other/base";
  check_refused(scene.plan(), "must go to /new/data/base");
  scene.component.new_targets[1].destination = "/new/data/base";
  scene.component.new_targets[3].destination = "/new/fast";
  check_refused(scene.plan(), "must end in /PG_15_202209061");
}

TEST_CASE("nothing is restored over a running server") {
  Scene scene;
  scene.restore_files();
  write(fs::path(scene.record.data_directory) / "postmaster.pid",
        std::to_string(::getpid()) + "\n");
  const auto before = fs::current_path();
  fs::current_path(scene.record.data_directory);
  scene.component.restore_options = "existing=replace";
  check_failed(scene.before(), "stop it first: pg_ctl stop -D");
  check_failed(scene.after(), "stop it first");
  fs::current_path(before);
  CHECK(fs::exists(fs::path(scene.record.data_directory) / "base/1/1259"));
}

TEST_CASE("files that are there are kept unless they may go and are this cluster's") {
  Scene scene;
  CHECK(scene.before().empty());  // Nothing there yet.
  scene.old_cluster();
  const fs::path data = scene.record.data_directory;
  check_failed(scene.before(), "is not empty");
  scene.component.restore_options = "existing=replace";
  write(data / "global/pg_control", control(4));
  check_failed(scene.before(), "not known to be of cluster shop");
  write(data / "global/pg_control", control(7711));
  fs::create_directory(scene.dir / "other-wal");
  fs::remove(data / "pg_wal");
  fs::create_directory_symlink(scene.dir / "other-wal", data / "pg_wal");
  check_failed(scene.before(), "/wal holds files that are not known");
  CHECK(fs::exists(fs::path(scene.record.wal_directory) / "000000010000000000000001"));
  fs::remove(data / "pg_wal");
  fs::create_directory_symlink(scene.record.wal_directory, data / "pg_wal");
  write(scene.dir / "fast/precious", "not PostgreSQL's");
  CHECK(scene.before().empty());
  const auto only_aside = [](const fs::path& directory) {
    return fs::exists(directory / ".umbra-replaced") &&
           std::distance(fs::directory_iterator(directory), fs::directory_iterator()) == 1;
  };
  CHECK(only_aside(data));
  CHECK(only_aside(scene.record.wal_directory));
  CHECK(only_aside(scene.dir / "fast/PG_15_202209061"));
  CHECK(read(scene.dir / "fast/precious") == "not PostgreSQL's");
}

TEST_CASE("what was there goes when the new is complete, and not before") {
  Scene scene;
  scene.old_cluster();
  const fs::path data = scene.record.data_directory;
  write(data / "base/1/new-since", "rows");
  scene.component.restore_options = "existing=replace";
  REQUIRE(scene.before().empty());
  SECTION("nothing was restored: it is back") {
    check_failed(scene.after(FileRestoreStatus::none), "as it was before");
    CHECK(read(data / "base/1/new-since") == "rows");
    CHECK(fs::is_symlink(data / "pg_wal"));
    CHECK_FALSE(fs::exists(data / ".umbra-replaced"));
  }
  SECTION("a part was restored: it is kept, and in the way of the next") {
    scene.restore_files();
    check_failed(scene.after(FileRestoreStatus::failed), "is in .umbra-replaced");
    CHECK(read(data / ".umbra-replaced/base/1/new-since") == "rows");
    check_failed(scene.before(), "an earlier restore");
  }
  SECTION("all was restored: it is gone") {
    scene.restore_files();
    CHECK(scene.after().empty());
    CHECK_FALSE(fs::exists(data / ".umbra-replaced"));
    CHECK_FALSE(fs::exists(data / "base/1/new-since"));
    CHECK(fs::exists(data / "base/1/1259"));
  }
}

TEST_CASE("leftover WAL alone is refused too: it would be replayed") {
  Scene scene;
  write(fs::path(scene.record.wal_directory) / "000000010000000000000009", "newer");
  check_failed(scene.before(), "wal is not empty");
  scene.component.restore_options = "existing=replace";
  check_failed(scene.before(), "not known to be of cluster shop");
  CHECK(fs::exists(fs::path(scene.record.wal_directory) / "000000010000000000000009"));
}

TEST_CASE("restored files become a data directory") {
  Scene scene;
  scene.restore_files();
  ::chmod((scene.dir / "data").c_str(), 0755);
  scene.component.restore_options = "recovery_target_time=2026-11-22";
  scene.command = "false";
  CHECK(scene.after().empty());
  const fs::path data = scene.record.data_directory;
  CHECK(fs::read_symlink(data / "pg_wal") == scene.record.wal_directory);
  CHECK(fs::read_symlink(data / "pg_tblspc/16385") == scene.record.tablespaces[0].location);
  CHECK_FALSE(fs::exists(data / "postmaster.pid"));
  for (const char* name : {"pg_replslot", "pg_notify", "pg_logical/snapshots", "pg_subtrans"}) {
    CHECK(fs::is_directory(data / name));
  }
  CHECK(fs::is_directory(fs::path(scene.record.wal_directory) / "archive_status"));
  CHECK((fs::status(data).permissions() & fs::perms(0777)) == fs::perms(0700));
  CHECK(fs::exists(data / "recovery.signal"));
  CHECK(read(data / "postgresql.auto.conf").find("restore_command = 'false'\n") !=
        std::string::npos);
  CHECK(scene.after().empty());  // May be repeated.
}

TEST_CASE("links of another place are set right") {
  Scene scene;
  const auto& from = scene.record;
  scene.component.new_targets = {{from.data_directory, "*", false, scene.dir / "new"},
                                 {from.wal_directory, "*", false, scene.dir / "new-wal"},
                                 {from.tablespaces[0].location + "/PG_15_202209061", "*", true,
                                  scene.dir / "new-fast/PG_15_202209061"}};
  scene.restore_files(scene.dir / "new", scene.dir / "new-wal", scene.dir / "new-fast");
  fs::create_directory_symlink(from.wal_directory, scene.dir / "new/pg_wal");  // As it was.
  CHECK(scene.after().empty());
  CHECK(fs::read_symlink(scene.dir / "new/pg_wal") == scene.dir / "new-wal");
  CHECK(fs::read_symlink(scene.dir / "new/pg_tblspc/16385") == scene.dir / "new-fast");
  CHECK_FALSE(fs::exists(from.data_directory));
}

TEST_CASE("what is not whole is not made a data directory") {
  Scene scene;
  scene.restore_files();
  for (const auto status : {FileRestoreStatus::undefined, FileRestoreStatus::failed}) {
    check_failed(scene.after(status), "not all restored");
  }
  CHECK_FALSE(fs::exists(scene.dir / "data/pg_wal"));
  scene.component.additional_restores = true;
  CHECK(scene.after().empty());  // More is to come.
  CHECK_FALSE(fs::exists(scene.dir / "data/pg_wal"));
  scene.component.additional_restores = false;
  write(scene.dir / "data/PG_VERSION", "16\n");
  check_failed(scene.after(), "is of PostgreSQL 16, the backup of 15");
  write(scene.dir / "data/PG_VERSION", "15\n");
  write(scene.dir / "data/global/pg_control", control(4));
  check_failed(scene.after(), "system identifier 4, the backup is of 7711");
  fs::remove(scene.dir / "data/global/pg_control");
  check_failed(scene.after(), "not whole");
  write(scene.dir / "data/global/pg_control", control(7711));
  fs::remove_all(scene.dir / "fast");
  check_failed(scene.after(), "fast");
}

TEST_CASE(
    "a component without metadata of ours is refused, one that is not selected is left alone") {
  Scene scene;
  scene.component.backup_metadata.reset();
  check_failed(scene.before(), "holds no metadata");
  scene.component.backup_metadata = "something else";
  check_failed(scene.before(), "line 1");
  scene.component.selected_for_restore = false;
  CHECK(scene.before().empty());
  CHECK(scene.after(FileRestoreStatus::none).empty());
}
