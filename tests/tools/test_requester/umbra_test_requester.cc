// SPDX-License-Identifier: Apache-2.0
//
// umbra-test-requester: a backup on the requester SDK that stops after every step, so that a test
// can kill it there.
//
//   umbra-test-requester --socket PATH [--context N] VOLUME...
//
// Prints "at STEP" after each step and waits for a line on standard input before the next; while
// the set is being made also "phase PHASE" for each new phase, without waiting. After the set is
// created, "snapshot ID DEVICE_OBJECT" for each copy. Exit status: 0 done; 1 a step failed, said on
// standard error; 2 wrong arguments.

#include <CLI/CLI.hpp>
#include <cstdio>
#include <functional>
#include <iostream>
#include <string>
#include <vector>

#include "umbra/requester/backup_session.h"

namespace {

using namespace umbra;
using requester::BackupSession;

struct Arguments {
  std::string socket;
  std::uint32_t context = context::kBackup;
  std::vector<std::string> volumes;
};

void say(const std::string& line) {
  std::printf("%s\n", line.c_str());
  std::fflush(stdout);
}

// Standard input at its end: the test is gone, and so go we.
bool wait_for_line() {
  std::string line;
  return static_cast<bool>(std::getline(std::cin, line));
}

Status add_volumes(BackupSession& session, const std::vector<std::string>& names) {
  for (const auto& name : names) {
    const auto volume = requester::resolve_volume(name);
    if (!volume) return fail(volume.error());
    if (const auto added = session.add_to_snapshot_set(*volume); !added) return fail(added.error());
  }
  return {};
}

// Without components every writer takes part.
Status configure(BackupSession& session, std::uint32_t context) {
  if (auto status = session.set_context(context); !status) return status;
  return session.set_backup_state({.component_mode = false, .backup_type = BackupType::copy});
}

Status make(BackupSession& session) {
  requester::DoOptions options;
  std::string last;
  options.on_progress = [&last](const requester::Progress& progress) {
    if (progress.phase.empty() || progress.phase == last) return;
    last = progress.phase;
    say("phase " + last);
  };
  if (auto status = session.do_snapshot_set(options); !status) return status;
  const auto list = session.list_snapshots();
  if (!list) return fail(list.error());
  for (const auto& copy : list->snapshots) {
    say("snapshot " + copy.snapshot_id.to_string() + " " + copy.device_object);
  }
  return {};
}

struct Step {
  const char* name;
  std::function<Status()> run;
};

Status backup(const Arguments& arguments) {
  requester::ConnectOptions connect;
  connect.socket_path = arguments.socket;
  connect.program = "umbra-test-requester";
  auto session = BackupSession::open(connect);
  if (!session) return fail(session.error());
  const auto drop = [](auto result) -> Status {
    if (!result) return fail(result.error());
    return {};
  };
  const std::vector<Step> steps{
      {"initialize", [&] { return drop(session->initialize_for_backup()); }},
      {"configure", [&] { return configure(*session, arguments.context); }},
      {"gather", [&] { return session->gather_writer_metadata(); }},
      {"start", [&] { return drop(session->start_snapshot_set()); }},
      {"add", [&] { return add_volumes(*session, arguments.volumes); }},
      {"prepare", [&] { return session->prepare_for_backup(); }},
      {"do", [&] { return make(*session); }},
      {"complete", [&] { return session->backup_complete(); }},
  };
  for (const auto& step : steps) {
    if (auto status = step.run(); !status) return fail(status.error(), step.name);
    say(std::string("at ") + step.name);
    if (!wait_for_line()) return {};
  }
  return {};
}

}  // namespace

int main(int count, char** words) {
  Arguments arguments;
  CLI::App app{"A backup that stops after every step, for tests."};
  app.add_option("--socket", arguments.socket, "umbrad's socket")->required();
  app.add_option("--context", arguments.context, "Context and attributes, a number (default: 0)");
  app.add_option("volume", arguments.volumes, "Names, ids or paths")->required();
  try {
    app.parse(count, words);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  const auto done = backup(arguments);
  if (done) return 0;
  std::fprintf(stderr, "umbra-test-requester: %s\n", done.error().to_string().c_str());
  return 1;
}
