// SPDX-License-Identifier: Apache-2.0

#include "engine/daemon/config.h"

#include <fstream>
#include <string>

#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

namespace {

using namespace umbra;
using namespace umbra::daemon;

TEST_CASE("a configuration file sets limits and groups", "[daemon]") {
  Config config;
  REQUIRE(apply_toml(config, R"(
[roles]
writers = "postgres"
requesters = 1000
[limits]
post_snapshot = 60000
connections = 10
)"));
  CHECK(config.writer_group == "postgres");
  CHECK(config.requester_group == "1000");
  CHECK(config.limits.post_snapshot == std::chrono::seconds{60});
  CHECK(config.connections == 10);
  CHECK(config.limits.identify == coord::Limits{}.identify);
}

// requester-and-coordinator 4.2 and writer-and-documents 1.7; those that VSS fixes cannot be
// raised.
struct VssLimit {
  const char* key;
  coord::milliseconds coord::Limits::*member;
  coord::milliseconds value;
  bool fixed = false;
};

const std::vector<VssLimit>& vss_limits() {
  using namespace std::chrono_literals;
  using coord::Limits;
  static const std::vector<VssLimit> table{
      {"identify", &Limits::identify, 5min},
      {"prepare_for_backup", &Limits::prepare_for_backup, 15min},
      {"prepare_for_snapshot", &Limits::prepare_for_snapshot, 15min},
      {"freeze_window", &Limits::freeze_window, 60s, true},
      {"thaw", &Limits::thaw, 60s},
      {"post_snapshot", &Limits::post_snapshot, 30min},
      {"backup_complete", &Limits::backup_complete, 60min},
      {"backup_shutdown", &Limits::backup_shutdown, 2min},
      {"abort", &Limits::abort, 2min},
      {"pre_restore", &Limits::pre_restore, 60min},
      {"post_restore", &Limits::post_restore, 60min},
      {"hold_lease", &Limits::hold_lease, 10s, true},
      {"sequence", &Limits::sequence, 180s},
      {"sequence_long", &Limits::sequence_long, 1800s}};
  return table;
}

TEST_CASE("time limits have VSS's values, and a file changes each",
          "[daemon][vss:limit.identify][vss:limit.prepare-for-backup]"
          "[vss:limit.prepare-for-snapshot][vss:limit.post-snapshot][vss:limit.backup-complete]"
          "[vss:limit.pre-restore][vss:limit.post-restore][vss:limit.freeze-to-thaw-60s]"
          "[vss:limit.hold-of-writes-10s]") {
  for (const auto& limit : vss_limits()) {
    INFO(limit.key);
    Config config;
    CHECK(config.limits.*limit.member == limit.value);
    REQUIRE(apply_toml(config, "[limits]\n" + std::string(limit.key) + " = 1234\n"));
    CHECK(config.limits.*limit.member == std::chrono::milliseconds{1234});
    const auto longer = std::to_string(limit.value.count() + 1);
    const auto raised = apply_toml(config, "[limits]\n" + std::string(limit.key) + " = " + longer);
    CHECK(raised.has_value() == !limit.fixed);
  }
}

TEST_CASE("a file names accounts, classes, files and writers that block a revert",
          "[daemon][vss:config.FilesNotToSnapshot][vss:config.FilesNotToBackup]"
          "[vss:config.WritersBlockingRevert]") {
  Config config;
  REQUIRE(apply_toml(config, R"(
[access]
backup = 3
"group:contractors" = 0
1000 = 1
[writer_classes]
"A65FAA63-5ea8-4ebc-9dbd-a0c4db26912a" = "mssql"
"{b2014c9e-8711-4c5c-a5a9-3cf384484757}" = 27
[files_not_to_snapshot]
Mail = ["/var/spool/mail/tmp/*", "/var/cache/mail/* /s"]
[files_not_to_backup]
Page = ["/swapfile"]
[revert]
writers_blocking = ["b2014c9e-8711-4c5c-a5a9-3cf384484757"]
[limits]
connections_per_user = 9
calls_per_second = 100
)"));
  REQUIRE(config.access.size() == 3);
  for (const auto& entry : config.access) {
    if (entry.account == "backup") CHECK((entry.value == 3 && !entry.is_group));
    if (entry.account == "contractors") CHECK((entry.value == 0 && entry.is_group));
    if (entry.account == "1000") CHECK((entry.value == 1 && !entry.is_group));
  }
  const auto sql = WriterClassId::parse("a65faa63-5ea8-4ebc-9dbd-a0c4db26912a").value();
  CHECK(config.writer_accounts.at(sql) == "mssql");
  CHECK(config.writer_accounts.size() == 2);
  REQUIRE(config.settings.files_not_to_snapshot.size() == 1);
  CHECK(config.settings.files_not_to_snapshot[0].application == "Mail");
  CHECK(config.settings.files_not_to_snapshot[0].files.size() == 2);
  CHECK(config.settings.files_not_to_backup[0].files == std::vector<std::string>{"/swapfile"});
  CHECK(config.settings.writers_blocking_revert.size() == 1);
  CHECK(config.connections_per_user == 9);
  CHECK(config.calls_per_second == 100);
}

TEST_CASE("an empty configuration changes nothing", "[daemon]") {
  Config config;
  REQUIRE(apply_toml(config, ""));
  CHECK(config.writer_group == "umbra-writer");
}

TEST_CASE("a mistake names key or line, and nothing of the file is applied",
          "[daemon]"
          "[vss:limit.freeze-to-thaw-60s][vss:limit.hold-of-writes-10s]") {
  struct Mistake {
    std::string text;
    std::string word;
  };
  for (const auto& [text, word] :
       {Mistake{"[limits\n", "line 1"},
        {"\n\nx = = 1\n", "line 3"},
        {"[limits]\nidentify = 0\n", "limits.identify"},
        {"[limits]\nidentify = -5\n", "limits.identify"},
        {"[limits]\nidentify = \"long\"\n", "limits.identify"},
        {"[limits]\nidentify = 1000000000\n", "limits.identify"},
        {"[limits]\nfreeze_window = 60001\n", "60000"},
        {"[limits]\nhold_lease = 10001\n", "10000"},
        {"[limits]\nconnections = 0\n", "limits.connections"},
        {"[limits]\npatience = 1\n", "no such limit"},
        {"[roles]\nadmins = \"x\"\n", "roles.admins"},
        {"[roles]\nwriters = \"\"\n", "roles.writers"},
        {"[roles]\nwriters = -1\n", "roles.writers"},
        {"[limits]\nconnections_per_user = 0\n", "connections_per_user"},
        {"[limits]\ncalls_per_second = 1000001\n", "calls_per_second"},
        {"[access]\nbackup = 4\n", "access.backup"},
        {"[access]\nbackup = -1\n", "access.backup"},
        {"[access]\nbackup = \"all\"\n", "access.backup"},
        {"[access]\n\"group:\" = 1\n", "access"},
        {"[writer_classes]\nsql = \"x\"\n", "writer_classes.sql"},
        {"[files_not_to_snapshot]\na = \"/x\"\n", "files_not_to_snapshot.a"},
        {"[files_not_to_backup]\na = [\"x\"]\n", "files_not_to_backup.a"},
        {"[revert]\nwriters_blocking = [\"x\"]\n", "revert.writers_blocking"},
        {"[revert]\nforce = true\n", "revert.force"},
        {"[colours]\n", "colours"},
        {"identify = 5\n", "identify"}}) {
    INFO(text);
    Config config;
    const auto status = apply_toml(config, "[roles]\nrequesters = 'kept'\n" + text);
    const auto alone = apply_toml(config, text);
    REQUIRE(!alone);
    CHECK(alone.error().code == Errc::invalid_argument);
    CHECK(alone.error().context.find(word) != std::string::npos);
    CHECK(!status);
    CHECK(config.requester_group == "umbra");
  }
}

TEST_CASE("a file that cannot be read is an error with its name", "[daemon]") {
  const test::TempDir directory;
  Config config;
  const auto missing = apply_toml_file(config, directory / "none.toml");
  REQUIRE(!missing);
  CHECK(missing.error().code == Errc::io_error);
  std::ofstream(directory / "bad.toml") << "[limits]\npatience = 1\n";
  const auto bad = apply_toml_file(config, directory / "bad.toml");
  REQUIRE(!bad);
  CHECK(bad.error().context.find("bad.toml") != std::string::npos);
  std::ofstream(directory / "good.toml") << "[limits]\nthaw = 1000\n";
  CHECK(apply_toml_file(config, directory / "good.toml"));
}

}  // namespace
