// SPDX-License-Identifier: Apache-2.0
#include "provider/daemon/device_role.h"

#include <algorithm>

#include "provider/frontend/nbd_device/identity.h"

namespace umbra::cowd {

RoleOfDevice role_of(const BlockDeviceView& device, std::string_view run_dir,
                     const std::vector<VolumeConfig>& configs) {
  const std::string live = std::string(run_dir) + "/fuse/volumes/";
  if (device.backing_file.starts_with(std::string(run_dir) + "/fuse/snapshots/")) {
    return {DeviceRole::copy, {}};
  }
  // An NBD device says itself whose it is: its number may have been another's before. A ublk device
  // cannot, but nobody else makes one while umbra-cowd's own is there.
  const auto is_served = [&](const BlockDeviceView& view, const VolumeConfig& config) {
    if (view.node.starts_with("/dev/nbd")) {
      return view.identifier == nbd_device::identifier_for(run_dir, config.volume_id);
    }
    return view.node.starts_with("/dev/ublkb") &&
           std::find(view.named.begin(), view.named.end(), config.name) != view.named.end();
  };
  for (const VolumeConfig& config : configs) {
    const auto is = [&](const std::string& path) {
      return path == device.node ||
             std::find(device.names.begin(), device.names.end(), path) != device.names.end();
    };
    if (device.backing_file == live + config.volume_id.to_string() || is_served(device, config)) {
      return {DeviceRole::live, config.name};
    }
    if (is(config.origin_path)) return {DeviceRole::origin, config.name};
    if (is(config.diff_area_path)) return {DeviceRole::diff_area, config.name};
  }
  return {};
}

std::string to_properties(const RoleOfDevice& role) {
  const char* text = nullptr;
  switch (role.role) {
    case DeviceRole::none: return {};
    case DeviceRole::live: text = "live"; break;
    case DeviceRole::copy: text = "copy"; break;
    case DeviceRole::origin: text = "origin"; break;
    case DeviceRole::diff_area: text = "diff-area"; break;
  }
  std::string properties = std::string("UMBRA_ROLE=") + text + "\n";
  if (!role.volume.empty()) properties += "UMBRA_VOLUME=" + role.volume + "\n";
  return properties;
}

}  // namespace umbra::cowd
