// SPDX-License-Identifier: Apache-2.0
#include "requester-sdk/cli/commands.h"

namespace umbra::cli {

Result<VolumeProperties> find_volume(Service& service, const std::string& text) {
  auto wanted = service.resolve(text);
  if (!wanted) return fail(wanted.error());
  auto list = service.volumes();
  if (!list) return fail(list.error());
  for (auto& volume : list->volumes) {
    const bool by_id = wanted->id && *wanted->id == volume.volume_id;
    const bool by_name = !wanted->name.empty() && wanted->name == volume.name;
    const bool by_device = wanted->device && volume.device != 0 && *wanted->device == volume.device;
    if (by_id || by_name || by_device) return std::move(volume);
  }
  return fail(Errc::object_not_found, "no attached volume '" + text + "'; see umbra list volumes");
}

void note_absent(Output& output, const std::vector<std::string>& absent_providers) {
  for (const auto& name : absent_providers) {
    output.note("umbra: provider '" + shown(name) + "' is not connected; what it has is missing");
  }
}

}  // namespace umbra::cli
