// SPDX-License-Identifier: Apache-2.0
// umbra abort [--reason TEXT]
#include <boost/json/value.hpp>

#include "requester-sdk/cli/commands.h"

namespace umbra::cli {

ExitCode abort(Service& service, Output& output, const std::string& reason) {
  const auto aborted = service.abort(reason);
  if (!aborted) return output.error(aborted.error());
  output.object({{"set_id", aborted->set_id.to_string()}, {"holder", aborted->holder}});
  output.line("aborted set " + aborted->set_id.to_string() + " of " + shown(aborted->holder));
  return ExitCode::done;
}

}  // namespace umbra::cli
