// SPDX-License-Identifier: Apache-2.0
// umbra status
#include <boost/json/value.hpp>

#include "requester-sdk/cli/commands.h"

namespace umbra::cli {

ExitCode status(Service& service, Output& output) {
  const auto status = service.status();
  if (!status) return output.error(status.error());
  output.object(to_json(*status));
  output.line(shown(status->program) + ", up for " + std::to_string(status->uptime.count()) + " s");
  output.line("writers: " + std::to_string(status->writers) +
              ", sessions: " + std::to_string(status->sessions) +
              ", providers connected: " + std::to_string(status->providers_connected));
  if (status->set_in_progress.is_nil()) {
    output.line("no snapshot set is being created");
  } else {
    output.line("creating set " + status->set_in_progress.to_string() + ", phase " +
                shown(status->set_phase) + ", for " + std::to_string(status->set_age.count()) +
                " ms, by " + shown(status->set_holder));
  }
  return ExitCode::done;
}

}  // namespace umbra::cli
