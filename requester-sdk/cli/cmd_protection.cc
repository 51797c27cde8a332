// SPDX-License-Identifier: Apache-2.0
// umbra protection VOLUME [show | set snapshot | set original | clear]
#include "requester-sdk/cli/commands.h"

namespace umbra::cli {
namespace {

std::optional<Error> act(Service& service, Output& output, const VolumeRef& volume,
                         const Protection& arguments) {
  using Action = Protection::Action;
  if (arguments.action == Action::clear) {
    const auto begun = service.clear_fault(volume);
    if (!begun) return begun.error();
    const auto ended = wait_for(service, output, *begun, arguments.time_limit);
    if (!ended) return ended.error();
  } else if (arguments.action != Action::show) {
    const auto level = arguments.action == Action::set_snapshot ? ProtectionLevel::snapshot
                                                                : ProtectionLevel::original_volume;
    if (const auto set = service.set_protection(volume, level); !set) return set.error();
  }
  return std::nullopt;
}

}  // namespace

ExitCode protection(Service& service, Output& output, const Protection& arguments) {
  const auto volume = service.resolve(arguments.volume);
  if (!volume) return output.error(volume.error());
  if (const auto problem = act(service, output, *volume, arguments)) return output.error(*problem);
  const auto info = service.protection(*volume);
  if (!info) return output.error(info.error());
  output.object(to_json(*info));
  output.line(info->level == ProtectionLevel::snapshot
                  ? "copies are kept; if one cannot be, the volume goes offline"
                  : "the volume goes on; copies that cannot be kept are sacrificed");
  if (info->fault != ProtectionFault::none) {
    output.line("FAULT " + std::string(vss_name(info->fault)) + " since " +
                time_text(info->fault_filetime) +
                (info->volume_is_offline ? "; the volume is offline" : ""));
    output.line("remove the cause, unmount the volume, then: umbra protection VOLUME clear");
  }
  return ExitCode::done;
}

}  // namespace umbra::cli
