// SPDX-License-Identifier: Apache-2.0
//
// umbra-test-requester: a backup or a restore as a file describes it, and whether what came of it
// is what the file expects; for authors of writers, and for our own tests.
// docs/tools/test-requester.md
//
//   umbra-test-requester --socket PATH --plan FILE [--step]
//   umbra-test-requester --socket PATH [--context N] VOLUME...
//
// The second form makes a copy of volumes with every writer taking part, and always steps: it waits
// for a line on standard input after each step, so that a test can kill it there.
//
// Exit status: 0 as expected; 1 not as expected, said on standard error; 2 wrong arguments or plan.

#include <CLI/CLI.hpp>
#include <cstdio>
#include <iostream>
#include <string>
#include <vector>

#include "tests/tools/test_requester/carry_out.h"

namespace {

using namespace umbra;
using namespace umbra::test_requester;

struct Arguments {
  std::string socket;
  std::string plan;
  bool step = false;
  std::uint32_t context = context::kBackup;
  std::vector<std::string> volumes;
};

void say(const std::string& line) {
  std::printf("%s\n", line.c_str());
  std::fflush(stdout);
}

// Standard input at its end: the test is gone, and so go we.
bool wait_for_line(const std::string&) {
  std::string line;
  return static_cast<bool>(std::getline(std::cin, line));
}

Result<Plan> plan_of(const Arguments& arguments) {
  if (!arguments.plan.empty()) return load_plan(arguments.plan);
  Plan plan;
  plan.context = arguments.context;
  plan.state = {.component_mode = false, .backup_type = BackupType::copy};
  plan.volumes = arguments.volumes;
  return plan;
}

int run(const Arguments& arguments) {
  const auto plan = plan_of(arguments);
  if (!plan) {
    std::fprintf(stderr, "umbra-test-requester: %s\n", plan.error().to_string().c_str());
    return 2;
  }
  requester::ConnectOptions connect;
  connect.socket_path = arguments.socket;
  connect.program = "umbra-test-requester";
  Hooks hooks{say, [](const std::string&) { return true; }};
  if (arguments.step || arguments.plan.empty()) hooks.go_on = wait_for_line;
  const auto outcome = carry_out(*plan, connect, hooks);
  if (!outcome) return 0;
  const auto wrong = judge(*plan, *outcome);
  for (const auto& sentence : wrong)
    std::fprintf(stderr, "umbra-test-requester: %s\n", sentence.c_str());
  return wrong.empty() ? 0 : 1;
}

}  // namespace

int main(int count, char** words) {
  Arguments arguments;
  CLI::App app{"A backup or restore as a file describes it, and what came of it."};
  app.add_option("--socket", arguments.socket, "umbrad's socket; default: as every program");
  auto* plan = app.add_option("--plan", arguments.plan, "What to do, and what to expect (TOML)");
  app.add_flag("--step", arguments.step, "Wait for a line on standard input after each step");
  app.add_option("--context", arguments.context, "Context and attributes, a number (default: 0)")
      ->excludes(plan);
  app.add_option("volume", arguments.volumes, "Names, ids or paths")->excludes(plan);
  try {
    app.parse(count, words);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  if (arguments.plan.empty() && arguments.volumes.empty()) {
    std::fprintf(stderr, "umbra-test-requester: --plan FILE or a VOLUME is needed\n");
    return 2;
  }
  return run(arguments);
}
