// SPDX-License-Identifier: Apache-2.0
//
// Configuration and metadata: every mistake is named, and what is told fits the documents' rules.

#include "writer-sdk/writers/sqlite/options.h"

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"
#include "writer-sdk/writers/sqlite/metadata.h"

using umbra::Errc;
using umbra::sqlite::check_options;
using umbra::sqlite::Options;
using umbra::sqlite::read_config;
using umbra::test::TempDir;
namespace fs = std::filesystem;

namespace {

void check_refused(const umbra::Status& status, const std::string& part) {
  REQUIRE_FALSE(status.has_value());
  CAPTURE(status.error().to_string());
  CHECK(status.error().code == Errc::invalid_argument);
  CHECK(status.error().context.find(part) != std::string::npos);
}

Options with_databases(std::vector<std::string> databases) {
  Options options;
  options.databases = std::move(databases);
  return options;
}

}  // namespace

TEST_CASE("a configuration file sets every option") {
  Options options;
  REQUIRE(read_config(R"(
databases = ["/srv/b.db", "/srv/a.db"]
socket = "/run/umbra/umbrad.sock"
instance_name = "shop"
log_level = "debug"
lock_wait_ms = 2000
freeze_window_ms = 20000
)",
                      options));
  REQUIRE(check_options(options));
  CHECK(options.databases == std::vector<std::string>{"/srv/a.db", "/srv/b.db"});
  CHECK(options.socket_path == "/run/umbra/umbrad.sock");
  CHECK(options.instance_name == "shop");
  CHECK(options.log_level == "debug");
  CHECK(options.lock_wait.count() == 2000);
  CHECK(options.freeze_window.count() == 20000);
}

TEST_CASE("a mistake in a configuration file is named with its line") {
  Options options;
  check_refused(read_config("databases = [\n", options), "line ");
  check_refused(read_config("\ndatabase = [\"/a\"]\n", options), "line 2: unknown key 'database'");
  check_refused(read_config("databases = \"/a\"\n", options), "must be a list");
  check_refused(read_config("databases = [1]\n", options), "must be a string");
  check_refused(read_config("lock_wait_ms = \"10\"\n", options), "lock_wait_ms must be");
  check_refused(read_config("lock_wait_ms = 1.5\n", options), "lock_wait_ms must be");
  check_refused(read_config("socket = 7\n", options), "socket must be a string");
}

TEST_CASE("database names are made absolute, and each is kept once") {
  auto options = with_databases({"x/../ledger.db", fs::current_path().string() + "/ledger.db"});
  REQUIRE(check_options(options));
  CHECK(options.databases == std::vector<std::string>{fs::current_path().string() + "/ledger.db"});
}

TEST_CASE("what cannot be named or done is refused with the reason") {
  const auto refuse = [](Options options, const std::string& part) {
    check_refused(check_options(options), part);
  };
  refuse({}, "no database given");
  refuse(with_databases({""}), "empty name");
  refuse(with_databases({"/srv/"}), "names no file");
  refuse(with_databases({"/srv/a\\b.db"}), "a\\b.db");
  refuse(with_databases({"/srv/a*.db"}), "a*.db");
  refuse(with_databases({"/srv/a.db", "/srv/A.db"}), "differ only in case");
  std::vector<std::string> many;
  for (std::size_t i = 0; i <= umbra::sqlite::kDatabasesMax; ++i) {
    many.push_back("/srv/" + std::to_string(i));
  }
  refuse(with_databases(many), "more than 256");
  auto options = with_databases({"/srv/a.db"});
  options.freeze_window = std::chrono::milliseconds(60'001);
  refuse(options, "1 to 60000 ms");
  options.freeze_window = std::chrono::milliseconds(0);
  refuse(options, "1 to 60000 ms");
  options.freeze_window = std::chrono::milliseconds(10'000);
  options.lock_wait = std::chrono::milliseconds(5'001);
  refuse(options, "half of the freeze window");
  options = with_databases({"/srv/a.db"});
  options.log_level = "loud";
  refuse(options, "log level 'loud'");
}

TEST_CASE("a database is a component with its journals, and without its -shm") {
  const auto component = umbra::sqlite::describe_database("/srv/shop/orders.db");
  CHECK(component.type == umbra::ComponentType::database);
  CHECK(component.logical_path == "/srv/shop");
  CHECK(component.name == "orders.db");
  CHECK(component.selectable);
  std::vector<std::string> patterns;
  for (const auto& files : component.files) {
    CHECK(files.path == "/srv/shop");
    CHECK_FALSE(files.recursive);
    patterns.push_back(files.pattern);
  }
  CHECK(patterns == std::vector<std::string>{"orders.db", "orders.db-wal*", "orders.db-journal*",
                                             "orders.db-mj*"});
  const auto excludes = umbra::sqlite::describe_excludes({"/srv/shop/orders.db"});
  REQUIRE(excludes.size() == 1);
  CHECK(excludes[0].path == "/srv/shop");
  CHECK(excludes[0].pattern == "orders.db-shm");
  CHECK(umbra::sqlite::describe_restore().method == umbra::RestoreMethod::restore_if_can_replace);
}

TEST_CASE("links are followed to the file that SQLite uses") {
  const TempDir dir;
  std::ofstream(dir / "real.db") << "";
  fs::create_symlink(dir / "real.db", dir / "link.db");
  CHECK(umbra::sqlite::real_path(dir / "link.db") == umbra::sqlite::real_path(dir / "real.db"));
  CHECK(umbra::sqlite::real_path(dir / "none.db") == dir / "none.db");
}
