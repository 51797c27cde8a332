// SPDX-License-Identifier: Apache-2.0
//
// umbra-writer-sqlite: takes part in snapshots for SQLite databases whose applications do not know
// Umbra. docs/writer-sqlite.md is its manual.
//
// Runs until SIGTERM or SIGINT; waits for umbrad if it is not there and comes back to it when it
// was restarted. Logs to standard error. Exit status: 0 stopped by a signal; 1 umbrad refused it;
// 2 a wrong call or configuration.

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
#include "writer-sdk/writers/sqlite/options.h"
#include "writer-sdk/writers/sqlite/sqlite_writer.h"

namespace {

constexpr const char* kProgram = "umbra-writer-sqlite";
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

umbra::Status read_config_file(const std::string& path, umbra::sqlite::Options& options) {
  std::ifstream file(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  if (!file.is_open() || file.bad()) {
    return umbra::fail(umbra::Errc::invalid_argument, path + ": cannot be read");
  }
  auto read = umbra::sqlite::read_config(text, options);
  if (!read) return umbra::fail(std::move(read.error()), path);
  return {};
}

int run(const umbra::sqlite::Options& options) {
  umbra::sqlite::SqliteWriter writer(options);
  auto session_options = writer.session_options();
  const int least = level_of(options.log_level);
  session_options.log = [least](int level, std::string_view text) {
    if (level >= least) log_line(level, text);
  };
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
  const auto ended = session->run();
  running_session = nullptr;
  if (ended) return 0;
  log_line(3, ended.error().to_string());
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Keeps SQLite databases consistent in Umbra's snapshots", kProgram);
  umbra::sqlite::Options options;
  std::string config;
  std::string run_dir;
  std::vector<std::string> files;
  std::string socket;
  std::string instance;
  std::string log_level;
  std::int64_t lock_wait_ms = 0;
  std::int64_t freeze_window_ms = 0;
  app.add_option("FILE", files, "Databases, besides those of the configuration");
  app.add_option("--config", config, "A TOML file; docs/writer-sqlite.md lists the keys");
  auto* socket_option = app.add_option("--socket", socket, "umbrad's socket");
  app.add_option("--run-dir", run_dir, "The directory of umbrad's socket")->excludes(socket_option);
  auto* instance_option = app.add_option("--instance-name", instance,
                                         "Tells this writer apart from others of its kind");
  auto* wait_option =
      app.add_option("--lock-wait-ms", lock_wait_ms, "For all locks together; default 10000");
  auto* window_option = app.add_option("--freeze-window-ms", freeze_window_ms,
                                       "Longest time from freeze to thaw; default 60000");
  auto* level_option = app.add_option("--log-level", log_level, "debug, info, warning or error")
                           ->check(CLI::IsMember({"debug", "info", "warning", "error"}));
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }

  umbra::Status ready;
  if (!config.empty()) ready = read_config_file(config, options);
  if (ready) {
    options.databases.insert(options.databases.end(), files.begin(), files.end());
    if (*socket_option) options.socket_path = socket;
    if (!run_dir.empty()) options.socket_path = run_dir + "/umbrad.sock";
    if (*instance_option) options.instance_name = instance;
    if (*wait_option) options.lock_wait = std::chrono::milliseconds(lock_wait_ms);
    if (*window_option) options.freeze_window = std::chrono::milliseconds(freeze_window_ms);
    if (*level_option) options.log_level = log_level;
    ready = umbra::sqlite::check_options(options);
  }
  if (!ready) {
    (void)std::fprintf(stderr, "%s: %s\n", kProgram, ready.error().context.c_str());
    return 2;
  }
  return run(options);
}
