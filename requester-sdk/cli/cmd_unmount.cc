// SPDX-License-Identifier: Apache-2.0
// umbra unmount SNAPSHOT
#include <boost/json/value.hpp>

#include "requester-sdk/cli/commands.h"

namespace umbra::cli {

ExitCode unmount(Service& service, Output& output, const SnapshotId& snapshot) {
  if (const auto done = service.unmount(snapshot); !done) return output.error(done.error());
  output.object({{"snapshot_id", snapshot.to_string()}});
  output.line("unmounted " + snapshot.to_string());
  return ExitCode::done;
}

}  // namespace umbra::cli
