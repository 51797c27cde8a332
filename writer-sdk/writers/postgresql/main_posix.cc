// SPDX-License-Identifier: Apache-2.0
//
// umbra-writer-postgresql: takes part in snapshots for PostgreSQL clusters.
// docs/writer-postgresql.md is its manual.
//
// Runs until SIGTERM or SIGINT; waits for umbrad and for clusters that are not there and comes back
// to them. Logs to standard error or a file. Exit status: 0 stopped by a signal; 1 umbrad refused
// it, or the log file cannot be written; 2 a wrong call or configuration.

#include <signal.h>

#include <CLI/CLI.hpp>
#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <utility>

#include "umbra/writer/writer.h"
#include "writer-sdk/writers/postgresql/options.h"
#include "writer-sdk/writers/postgresql/postgresql_writer.h"

namespace {

using umbra::postgresql::Options;

constexpr const char* kProgram = "umbra-writer-postgresql";
constexpr std::array<const char*, 4> kLevels = {"debug", "info", "warning", "error"};

void log_line(int level, std::string_view text) {
  (void)std::fprintf(stderr, "%s: %s: %.*s\n", kProgram,
                     kLevels.at(static_cast<std::size_t>(level)), static_cast<int>(text.size()),
                     text.data());
}

std::atomic<umbra::writer::Session*> running_session{nullptr};

void on_signal(int /*number*/) {
  if (auto* session = running_session.load()) session->request_stop();
}

int level_of(const std::string& name) {
  for (std::size_t i = 0; i < kLevels.size(); ++i) {
    if (name == kLevels.at(i)) return static_cast<int>(i);
  }
  return -1;
}

umbra::Status read_config_file(const std::string& path, Options& options) {
  std::ifstream file(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  if (!file.is_open() || file.bad()) {
    return umbra::fail(umbra::Errc::invalid_argument, path + ": cannot be read");
  }
  auto read = umbra::postgresql::read_config(text, options);
  if (!read) return umbra::fail(std::move(read.error()), path);
  return {};
}

int run(const Options& options) {
  const int least = level_of(options.log_level);
  const auto log = [least](int level, std::string_view text) {
    if (level >= least) log_line(level, text);
  };
  umbra::postgresql::PostgresqlWriter writer(options, log);
  auto session_options = writer.session_options();
  session_options.log = log;
  auto session = umbra::writer::Session::connect(writer, std::move(session_options));
  if (!session) {
    log_line(3, session.error().to_string());
    return 1;
  }
  running_session = &*session;
  struct sigaction action {};
  action.sa_handler = &on_signal;
  (void)sigaction(SIGTERM, &action, nullptr);
  (void)sigaction(SIGINT, &action, nullptr);
  writer.watch();
  const auto ended = session->run();
  running_session = nullptr;
  if (ended) return 0;
  log_line(3, ended.error().to_string());
  return 1;
}

struct Arguments {
  std::vector<std::string> clusters;
  std::string config;
  std::string run_dir;
  Options options;  // What the arguments say; applied over the configuration where given.
  std::int64_t checkpoint_wait_ms = 0;
  std::int64_t answer_wait_ms = 0;
  std::int64_t freeze_window_ms = 0;
};

// The arguments that were given win over the file.
void apply(const CLI::App& app, const Arguments& arguments, Options& options) {
  const auto given = [&](const char* name) { return app.count(name) > 0; };
  const auto& from = arguments.options;
  for (const auto& cluster : arguments.clusters) {
    options.clusters.push_back({.connection = cluster});
  }
  options.discover.insert(options.discover.end(), from.discover.begin(), from.discover.end());
  if (given("--user")) options.user = from.user;
  if (given("--socket")) options.socket_path = from.socket_path;
  if (given("--run-dir")) options.socket_path = arguments.run_dir + "/umbrad.sock";
  if (given("--instance-name")) options.instance_name = from.instance_name;
  if (given("--log-level")) options.log_level = from.log_level;
  if (given("--log-file")) options.log_file = from.log_file;
  using std::chrono::milliseconds;
  if (given("--checkpoint-wait-ms")) {
    options.checkpoint_wait = milliseconds(arguments.checkpoint_wait_ms);
  }
  if (given("--answer-wait-ms")) options.answer_wait = milliseconds(arguments.answer_wait_ms);
  if (given("--freeze-window-ms")) options.freeze_window = milliseconds(arguments.freeze_window_ms);
}

void declare(CLI::App& app, Arguments& arguments) {
  auto& options = arguments.options;
  app.add_option("CLUSTER", arguments.clusters,
                 "Socket directory and port, as /var/run/postgresql:5432, or a connection string; "
                 "besides those of the configuration");
  app.add_option("--config", arguments.config,
                 "A TOML file; docs/writer-postgresql.md lists the keys");
  app.add_option("--discover", options.discover,
                 "Speak for every cluster that has its socket in this directory");
  app.add_option("--user", options.user, "Role in clusters whose connection names none");
  auto* socket = app.add_option("--socket", options.socket_path, "umbrad's socket");
  app.add_option("--run-dir", arguments.run_dir, "The directory of umbrad's socket")
      ->excludes(socket);
  app.add_option("--instance-name", options.instance_name,
                 "Tells this writer apart from others of its kind");
  app.add_option("--checkpoint-wait-ms", arguments.checkpoint_wait_ms,
                 "For the checkpoint before a snapshot; 0: none; default 60000");
  app.add_option("--answer-wait-ms", arguments.answer_wait_ms,
                 "For a cluster to answer a short question; default 3000");
  app.add_option("--freeze-window-ms", arguments.freeze_window_ms,
                 "Longest time from freeze to thaw; default 60000");
  app.add_option("--log-level", options.log_level, "debug, info, warning or error")
      ->check(CLI::IsMember({"debug", "info", "warning", "error"}));
  app.add_option("--log-file", options.log_file, "Append to this file instead of standard error");
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Keeps PostgreSQL clusters consistent in Umbra's snapshots", kProgram);
  Arguments arguments;
  declare(app, arguments);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  Options options;
  umbra::Status ready;
  if (!arguments.config.empty()) ready = read_config_file(arguments.config, options);
  if (ready) {
    apply(app, arguments, options);
    ready = umbra::postgresql::check_options(options);
  }
  if (!ready) {
    (void)std::fprintf(stderr, "%s: %s\n", kProgram, ready.error().context.c_str());
    return 2;
  }
  if (!options.log_file.empty() && !std::freopen(options.log_file.c_str(), "a", stderr)) {
    (void)std::printf("%s: %s: cannot be written\n", kProgram, options.log_file.c_str());
    return 1;
  }
  (void)std::setvbuf(stderr, nullptr, _IOLBF, 0);
  return run(options);
}
