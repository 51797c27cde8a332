// SPDX-License-Identifier: Apache-2.0
// umbra mount SNAPSHOT [DIRECTORY]
#include <boost/json/value.hpp>

#include "requester-sdk/cli/commands.h"

namespace umbra::cli {

ExitCode mount(Service& service, Output& output, const SnapshotId& snapshot,
               const std::string& directory) {
  const auto mounted = service.mount(snapshot, directory);
  if (!mounted) return output.error(mounted.error());
  output.object({{"snapshot_id", snapshot.to_string()},
                 {"path", mounted->path},
                 {"device_path", mounted->device_path}});
  output.line(shown(mounted->path));
  return ExitCode::done;
}

}  // namespace umbra::cli
