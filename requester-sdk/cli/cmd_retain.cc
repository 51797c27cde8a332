// SPDX-License-Identifier: Apache-2.0
// umbra retain SHADOW --until TIME | --for TERM
#include <boost/json/value.hpp>

#include "requester-sdk/cli/commands.h"

namespace umbra::cli {

ExitCode retain(Service& service, Output& output, const Retain& arguments) {
  constexpr std::int64_t kTicksPerSecond = 10'000'000;
  std::int64_t until = arguments.until_filetime;
  if (until == 0) until = service.now() + arguments.term.count() * kTicksPerSecond;
  if (const auto kept = service.retain(arguments.snapshot, until); !kept) {
    return output.error(kept.error());
  }
  output.object({{"snapshot_id", arguments.snapshot.to_string()}, {"until", time_text(until)}});
  output.line("kept until " + time_text(until) + "; nobody can delete it before");
  return ExitCode::done;
}

}  // namespace umbra::cli
