// SPDX-License-Identifier: Apache-2.0

#include "writer-sdk/writers/common/program.h"

#include <signal.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <utility>

namespace umbra::writers {

namespace {

void log_line(const char* program, LogLevel level, std::string_view text) {
  (void)std::fprintf(stderr, "%s: %s: %.*s\n", program, level_name(level),
                     static_cast<int>(text.size()), text.data());
}

std::atomic<writer::Session*> running_session{nullptr};

void on_signal(int /*number*/) {
  if (auto* session = running_session.load()) session->request_stop();
}

}  // namespace

void declare(CLI::App& app, const std::string& manual, ProgramArguments& arguments) {
  auto& options = arguments.options;
  app.add_option("--config", arguments.config, "A TOML file; " + manual + " lists the keys");
  auto* socket = app.add_option("--socket", options.socket_path, "umbrad's socket");
  app.add_option("--run-dir", arguments.run_dir, "The directory of umbrad's socket")
      ->excludes(socket);
  app.add_option("--instance-name", options.instance_name,
                 "Tells this writer apart from others of its kind");
  app.add_option("--freeze-window-ms", arguments.freeze_window_ms,
                 "Longest time from freeze to thaw; default 60000");
  app.add_option("--log-level", options.log_level, "debug, info, warning or error")
      ->check(CLI::IsMember({"debug", "info", "warning", "error"}));
}

std::optional<int> parse(CLI::App& app, int argc, char** argv) {
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  return std::nullopt;
}

void apply(const CLI::App& app, const ProgramArguments& arguments, ProgramOptions& options) {
  const auto given = [&](const char* name) { return app.count(name) > 0; };
  const auto& from = arguments.options;
  if (given("--socket")) options.socket_path = from.socket_path;
  if (given("--run-dir")) options.socket_path = arguments.run_dir + "/umbrad.sock";
  if (given("--instance-name")) options.instance_name = from.instance_name;
  if (given("--log-level")) options.log_level = from.log_level;
  if (given("--freeze-window-ms")) {
    options.freeze_window = std::chrono::milliseconds(arguments.freeze_window_ms);
  }
}

Status read_config_file(const std::string& path,
                        const std::function<Status(std::string_view text)>& read) {
  if (path.empty()) return {};
  std::ifstream file(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  if (!file.is_open() || file.bad()) {
    return fail(Errc::invalid_argument, path + ": cannot be read");
  }
  auto done = read(text);
  if (!done) return fail(std::move(done.error()), path);
  return {};
}

LogSink log_to_standard_error(const char* program, const ProgramOptions& options) {
  const LogLevel least = level_of(options.log_level).value_or(LogLevel::debug);
  return [program, least](LogLevel level, std::string_view text) {
    if (level >= least) log_line(program, level, text);
  };
}

writer::Options session_options(const WriterClassId& class_id, std::string name,
                                const ProgramOptions& options) {
  writer::Options session;
  session.class_id = class_id;
  session.name = std::move(name);
  session.instance_name = options.instance_name;
  session.usage = UsageType::user_data;
  session.source = SourceType::transacted_db;
  session.level = ApplicationLevel::back_end;
  session.freeze_window = options.freeze_window;
  session.socket_path = options.socket_path;
  session.coordinator_required = false;
  return session;
}

int run(const char* program, writer::Writer& writer, writer::Options options,
        const std::function<void()>& started) {
  auto session = writer::Session::connect(writer, std::move(options));
  if (!session) {
    log_line(program, LogLevel::error, session.error().to_string());
    return 1;
  }
  running_session = &*session;
  struct sigaction action {};
  action.sa_handler = &on_signal;
  (void)sigaction(SIGTERM, &action, nullptr);
  (void)sigaction(SIGINT, &action, nullptr);
  if (started) started();
  const auto ended = session->run();
  running_session = nullptr;
  if (ended) return 0;
  log_line(program, LogLevel::error, ended.error().to_string());
  return 1;
}

}  // namespace umbra::writers
