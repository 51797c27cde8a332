// SPDX-License-Identifier: Apache-2.0
//
// umbra-writer-postgresql: takes part in snapshots for PostgreSQL clusters.
// docs/writer-postgresql.md is its manual.
//
// Runs until SIGTERM or SIGINT; waits for umbrad and for clusters that are not there and comes back
// to them. Logs to standard error or a file. Exit status: 0 stopped by a signal; 1 umbrad refused
// it, or the log file cannot be written; 2 a wrong call or configuration.

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "writer-sdk/writers/common/program.h"
#include "writer-sdk/writers/postgresql/options.h"
#include "writer-sdk/writers/postgresql/postgresql_writer.h"

namespace {

using umbra::postgresql::Options;

constexpr const char* kProgram = "umbra-writer-postgresql";

int run(const Options& options) {
  const auto log = umbra::writers::log_to_standard_error(kProgram, options);
  umbra::postgresql::PostgresqlWriter writer(options, log);
  auto session_options = writer.session_options();
  session_options.log = log;
  return umbra::writers::run(kProgram, writer, std::move(session_options),
                             [&writer] { writer.watch(); });
}

struct Arguments {
  umbra::writers::ProgramArguments program;
  std::vector<std::string> clusters;
  Options options;  // What the arguments say; applied over the configuration where given.
  std::int64_t checkpoint_wait_ms = 0;
  std::int64_t answer_wait_ms = 0;
};

// The arguments that were given win over the file.
void apply(const CLI::App& app, const Arguments& arguments, Options& options) {
  const auto given = [&](const char* name) { return app.count(name) > 0; };
  const auto& from = arguments.options;
  for (const auto& cluster : arguments.clusters) {
    options.clusters.push_back({.connection = cluster});
  }
  options.discover.insert(options.discover.end(), from.discover.begin(), from.discover.end());
  umbra::writers::apply(app, arguments.program, options);
  if (given("--user")) options.user = from.user;
  if (given("--log-file")) options.log_file = from.log_file;
  using std::chrono::milliseconds;
  if (given("--checkpoint-wait-ms")) {
    options.checkpoint_wait = milliseconds(arguments.checkpoint_wait_ms);
  }
  if (given("--answer-wait-ms")) options.answer_wait = milliseconds(arguments.answer_wait_ms);
}

void declare(CLI::App& app, Arguments& arguments) {
  auto& options = arguments.options;
  app.add_option("CLUSTER", arguments.clusters,
                 "Socket directory and port, as /var/run/postgresql:5432, or a connection string; "
                 "besides those of the configuration");
  umbra::writers::declare(app, "docs/writer-postgresql.md", arguments.program);
  app.add_option("--discover", options.discover,
                 "Speak for every cluster that has its socket in this directory");
  app.add_option("--user", options.user, "Role in clusters whose connection names none");
  app.add_option("--checkpoint-wait-ms", arguments.checkpoint_wait_ms,
                 "For the checkpoint before a snapshot; 0: none; default 60000");
  app.add_option("--answer-wait-ms", arguments.answer_wait_ms,
                 "For a cluster to answer a short question; default 3000");
  app.add_option("--log-file", options.log_file, "Append to this file instead of standard error");
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Keeps PostgreSQL clusters consistent in Umbra's snapshots", kProgram);
  Arguments arguments;
  declare(app, arguments);
  if (const auto status = umbra::writers::parse(app, argc, argv)) return *status;
  Options options;
  auto ready = umbra::writers::read_config_file(
      arguments.program.config,
      [&](std::string_view text) { return umbra::postgresql::read_config(text, options); });
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
