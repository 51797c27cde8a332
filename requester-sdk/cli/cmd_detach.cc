// SPDX-License-Identifier: Apache-2.0
// umbra detach VOLUME
#include "requester-sdk/cli/commands.h"

namespace umbra::cli {

ExitCode detach(Service& service, Output& output, const std::string& volume) {
  auto wanted = service.resolve(volume);
  if (!wanted) return output.error(wanted.error());
  if (auto detached = service.detach(*wanted); !detached) return output.error(detached.error());
  output.object({{"detached", volume}});
  output.line("detached " + shown(volume));
  return ExitCode::done;
}

}  // namespace umbra::cli
