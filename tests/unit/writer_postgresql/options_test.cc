// SPDX-License-Identifier: Apache-2.0
//
// Configuration and connections: every mistake is named.

#include "writer-sdk/writers/postgresql/options.h"

#include <string>
#include <vector>

#include "tests/support/catch.h"

using umbra::Errc;
using namespace umbra::postgresql;

namespace {

void check_refused(const umbra::Status& status, const std::string& part) {
  REQUIRE_FALSE(status.has_value());
  CAPTURE(status.error().to_string());
  CHECK(status.error().code == Errc::invalid_argument);
  CHECK(status.error().context.find(part) != std::string::npos);
}

Options with_clusters(const std::vector<std::string>& connections) {
  Options options;
  for (const auto& text : connections) options.clusters.push_back({.connection = text});
  return options;
}

}  // namespace

TEST_CASE("a configuration file sets every option") {
  Options options;
  REQUIRE(read_config(R"(
discover = ["/var/run/postgresql"]
user = "umbra"
database = "admin"
replication_slots = "keep"
restore_command = "cp /archive/%f %p"
socket = "/run/umbra/umbrad.sock"
instance_name = "shop"
log_level = "debug"
log_file = "/var/log/writer.log"
answer_wait_ms = 1000
checkpoint_wait_ms = 2000
watch_interval_ms = 3000
freeze_window_ms = 4000
[[cluster]]
name = "shop"
connection = "host=/run/shop port=5433 user=backup"
data_directory = "/srv/shop"
[[cluster]]
connection = "/run/stock:5434"
)",
                      options));
  REQUIRE(check_options(options));
  CHECK(options.discover == std::vector<std::string>{"/var/run/postgresql"});
  CHECK(options.keep_replication_slots);
  CHECK(options.restore_command == "cp /archive/%f %p");
  CHECK(options.socket_path == "/run/umbra/umbrad.sock");
  CHECK(options.instance_name == "shop");
  CHECK(options.log_level == "debug");
  CHECK(options.log_file == "/var/log/writer.log");
  CHECK(options.answer_wait.count() == 1000);
  CHECK(options.checkpoint_wait.count() == 2000);
  CHECK(options.watch_interval.count() == 3000);
  CHECK(options.freeze_window.count() == 4000);
  REQUIRE(options.clusters.size() == 2);
  CHECK(options.clusters[0].name == "shop");
  CHECK(options.clusters[0].data_directory == "/srv/shop");
  CHECK(options.clusters[0].target.value("user") == "backup");
  CHECK(options.clusters[0].target.value("dbname") == "admin");
  CHECK(options.clusters[1].name == "/run/stock:5434");
  CHECK(options.clusters[1].target.value("user") == "umbra");
}

TEST_CASE("a mistake in a configuration file is named with its line") {
  const std::vector<std::pair<std::string, std::string>> mistakes = {
      {"discover = \"/run\"", "line 1: discover must be a list"},
      {"\ncluster = \"/run\"", "line 2: write each cluster as [[cluster]]"},
      {"[[cluster]]\nname = \"a\"", "without connection"},
      {"[[cluster]]\nconection = \"/run\"", "unknown key 'conection'"},
      {"[[cluster]]\nconnection = 5432", "connection must be a string"},
      {"answer_wait_ms = \"3s\"", "whole number of milliseconds"},
      {"replication_slots = \"drop\"", "\"keep\" or \"leave out\""},
      {"checkpoint = true", "unknown key 'checkpoint'"},
      {"user = ", "line 1"}};
  for (const auto& [text, part] : mistakes) {
    CAPTURE(text);
    Options options;
    check_refused(read_config(text, options), part);
  }
}

TEST_CASE("what does not fit together is refused") {
  Options options;
  check_refused(check_options(options), "no cluster given");
  options = with_clusters({"/run/a:5432", "host=/run/A port=5432"});
  check_refused(check_options(options), "two clusters are called '/run/a:5432'");
  options = with_clusters({"/run/a"});
  options.clusters[0].name = "a\\b";
  check_refused(check_options(options), "without \\");
  options = with_clusters({"/run/a"});
  options.clusters[0].data_directory = "srv";
  check_refused(check_options(options), "data_directory must be absolute");
  options = with_clusters({"/run/a"});
  options.discover = {"run"};
  check_refused(check_options(options), "'run' must be absolute");
  options = with_clusters({"/run/a"});
  options.log_level = "loud";
  check_refused(check_options(options), "there are debug");
  options = with_clusters({"/run/a"});
  options.freeze_window = std::chrono::milliseconds(60'001);
  check_refused(check_options(options), "1 to 60000 ms");
  options = with_clusters({"/run/a"});
  options.answer_wait = std::chrono::milliseconds(0);
  check_refused(check_options(options), "the answer wait must be 100");
  options = with_clusters(std::vector<std::string>(kClustersMax + 1, "/run/a"));
  check_refused(check_options(options), "more than 64 clusters");
}

TEST_CASE("a connection is a socket directory or a connection string") {
  const auto directory = parse_target("/run/pg:x/:5433", "", "");
  REQUIRE(directory);
  CHECK(directory->address() == "/run/pg:x:5433");
  CHECK(directory->value("dbname") == "postgres");
  CHECK(directory->value("user").empty());
  CHECK(parse_target("/run/pg", "", "")->address() == "/run/pg:5432");
  CHECK(parse_target("hostaddr=127.0.0.1", "u", "d")->address() == "127.0.0.1:5432");
  CHECK(parse_target("host=db hostaddr=127.0.0.1 port=1", "", "")->address() == "db:1");
}

TEST_CASE("a connection that could wait for ever, or leads nowhere, is refused") {
  for (const auto& [text, part] : std::vector<std::pair<std::string, std::string>>{
           {"host=db.example.org", "would have to be looked up"},
           {"port=5432", "names no host"},
           {"service=shop", "service= is not read"},
           {"nonsense", "nonsense"},
           {"hots=/run", "hots"}}) {
    CAPTURE(text);
    const auto target = parse_target(text, "", "");
    check_refused(target ? umbra::Status() : umbra::fail(target.error()), part);
  }
}
