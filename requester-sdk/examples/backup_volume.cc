// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// A whole backup program: snapshots the volume that a path lies on, with its applications taking
// part, and shows where the copy can be read. The copy goes when this program ends.
//
//   backup_volume PATH [COMMAND...]      COMMAND runs with UMBRA_COPY set to the copy's place
#include <cstdio>
#include <cstdlib>
#include <iostream>

#include "umbra/requester/backup_session.h"

using namespace umbra;

static int report(const Error& error) {
  std::cerr << error.to_string() << "\n";
  return 1;
}

int main(int argc, char** argv) {
  if (argc < 2) {
    std::cerr << "usage: backup_volume PATH [COMMAND...]\n";
    return 2;
  }
  const Result<VolumeRef> volume = requester::resolve_volume(argv[1]);
  if (!volume) return report(volume.error());
  Result<requester::BackupSession> session = requester::BackupSession::connect();
  if (!session) return report(session.error());

  // From asking the writers to a copy at one instant, in one call.
  requester::CreateOptions options;
  options.volumes = {*volume};
  options.context = context::kBackup;  // The copy lives as long as the session.
  options.backup_type = BackupType::full;
  const Result<requester::SnapshotSetInfo> set = session->create_snapshot_set(options);
  for (const requester::WriterStatus& writer : session->last_report().writers) {
    const std::string state(display_name(writer.state));
    std::printf("%s: %s %s\n", writer.name.c_str(), state.c_str(), writer.message.c_str());
  }
  if (!set) return report(set.error());
  const std::string copy = set->snapshots[0].device_object;
  std::printf("copy: %s\n", copy.c_str());
  std::fflush(stdout);

  // Here the data is copied away; for as long as that takes.
  std::string command;
  for (int i = 2; i < argc; ++i) command.append(argv[i]).append(" ");
  ::setenv("UMBRA_COPY", copy.c_str(), 1);
  const bool succeeded = command.empty() || std::system(command.c_str()) == 0;

  // Tell the applications how it went: they may truncate their logs now.
  for (const requester::ComponentRef& component : set->components) {
    const Status told = session->set_backup_succeeded(component, succeeded);
    if (!told) return report(told.error());
  }
  const Status complete = session->backup_complete();
  if (!complete) return report(complete.error());
  return succeeded ? 0 : 1;
}
