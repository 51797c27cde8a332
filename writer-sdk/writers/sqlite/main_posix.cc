// SPDX-License-Identifier: Apache-2.0
//
// umbra-writer-sqlite: takes part in snapshots for SQLite databases whose applications do not know
// Umbra. docs/writer-sqlite.md is its manual.
//
// Runs until SIGTERM or SIGINT; waits for umbrad if it is not there and comes back to it when it
// was restarted. Logs to standard error. Exit status: 0 stopped by a signal; 1 umbrad refused it;
// 2 a wrong call or configuration.

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "writer-sdk/writers/common/program.h"
#include "writer-sdk/writers/sqlite/options.h"
#include "writer-sdk/writers/sqlite/sqlite_writer.h"

namespace {

constexpr const char* kProgram = "umbra-writer-sqlite";

int run(const umbra::sqlite::Options& options) {
  umbra::sqlite::SqliteWriter writer(options);
  auto session_options = writer.session_options();
  session_options.log = umbra::writers::log_to_standard_error(kProgram, options);
  return umbra::writers::run(kProgram, writer, std::move(session_options), {});
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Keeps SQLite databases consistent in Umbra's snapshots", kProgram);
  umbra::writers::ProgramArguments arguments;
  std::vector<std::string> files;
  std::int64_t lock_wait_ms = 0;
  app.add_option("FILE", files, "Databases, besides those of the configuration");
  umbra::writers::declare(app, "docs/writer-sqlite.md", arguments);
  const auto* wait =
      app.add_option("--lock-wait-ms", lock_wait_ms, "For all locks together; default 10000");
  if (const auto status = umbra::writers::parse(app, argc, argv)) return *status;

  umbra::sqlite::Options options;
  auto ready = umbra::writers::read_config_file(arguments.config, [&](std::string_view text) {
    return umbra::sqlite::read_config(text, options);
  });
  if (ready) {
    options.databases.insert(options.databases.end(), files.begin(), files.end());
    umbra::writers::apply(app, arguments, options);
    if (*wait) options.lock_wait = std::chrono::milliseconds(lock_wait_ms);
    ready = umbra::sqlite::check_options(options);
  }
  if (!ready) {
    (void)std::fprintf(stderr, "%s: %s\n", kProgram, ready.error().context.c_str());
    return 2;
  }
  return run(options);
}
