// SPDX-License-Identifier: Apache-2.0
// umbra mount SNAPSHOT [DIRECTORY] [--recover | --write]
#include <boost/json/value.hpp>

#include "requester-sdk/cli/commands.h"

namespace umbra::cli {

ExitCode mount(Service& service, Output& output, const SnapshotId& snapshot,
               const requester::MountOptions& options) {
  const auto mounted = service.mount(snapshot, options);
  if (!mounted) return output.error(mounted.error());
  output.object({{"snapshot_id", snapshot.to_string()},
                 {"path", mounted->path},
                 {"device_path", mounted->device_path},
                 {"notes", names_to_json(mounted->notes)}});
  output.line(shown(mounted->path));
  for (const auto& note : mounted->notes) output.note("umbra: warning: " + shown(note));
  return ExitCode::done;
}

}  // namespace umbra::cli
