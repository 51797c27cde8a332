// SPDX-License-Identifier: Apache-2.0
// umbra exec VOLUME... -- COMMAND...
//
// The copies live while the command runs. Its exit status is ours; 125 when umbra itself failed,
// 126 when the command cannot be run and 127 when there is none (as env(1) and others do). The
// writers hear that the backup succeeded if the command ended with 0.
#include <boost/json/value.hpp>

#include "requester-sdk/cli/commands.h"

namespace umbra::cli {
namespace {

constexpr int kCannotRun = 126;
constexpr int kNoCommand = 127;

Environment environment_of(const requester::SnapshotSetInfo& set) {
  Environment added{{"UMBRA_SNAPSHOT_SET", set.set_id.to_string()},
                    {"UMBRA_SNAPSHOT_COUNT", std::to_string(set.snapshots.size())}};
  for (std::size_t i = 0; i < set.snapshots.size(); ++i) {
    const auto& snapshot = set.snapshots[i];
    const std::string number = std::to_string(i + 1);
    added.emplace_back("UMBRA_SNAPSHOT_" + number, snapshot.snapshot_id.to_string());
    added.emplace_back("UMBRA_VOLUME_" + number, snapshot.original_volume);
    added.emplace_back("UMBRA_DEVICE_" + number, snapshot.device_object);
    added.emplace_back("UMBRA_NBD_URI_" + number, snapshot.nbd_uri);
  }
  return added;
}

}  // namespace

int exec(Service& service, Output& output, const Exec& arguments, const RunCommand& run_command) {
  const auto set = create_set(service, output, arguments.create);
  if (!set) {
    return static_cast<int>(set.error() == ExitCode::interrupted ? ExitCode::interrupted
                                                                 : ExitCode::exec_failed);
  }
  if (service.was_interrupted()) {
    (void)service.finish(*set, false);
    return static_cast<int>(ExitCode::interrupted);
  }
  const auto ended = run_command(arguments.command, environment_of(*set));
  if (!ended) (void)output.error(ended.error());
  const bool succeeded = ended && *ended == 0;
  const auto finished = service.finish(*set, succeeded);
  if (!finished) (void)output.error(finished.error());
  if (!ended) return ended.error().code == Errc::object_not_found ? kNoCommand : kCannotRun;
  boost::json::object object = set_to_json(*set);
  object["command_status"] = *ended;
  output.object(object);
  if (!finished && succeeded) return static_cast<int>(ExitCode::exec_failed);
  return *ended;
}

}  // namespace umbra::cli
