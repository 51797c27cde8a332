// SPDX-License-Identifier: Apache-2.0
//
// What a block device is to Umbra, for udev's rules: so that nothing mounts an origin or a copy in
// the place of the live volume, which has the same UUID. Pure.

#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "provider/daemon/volume_config.h"

namespace umbra::cowd {

enum class DeviceRole : std::uint8_t { none, live, copy, origin, diff_area };

struct BlockDeviceView {
  std::string node;                // "/dev/sdb1".
  std::vector<std::string> names;  // Its other ones: "/dev/disk/by-id/...".
  std::string backing_file;        // Of a loop device.
  std::string identifier;          // Of an NBD device.
  std::vector<std::string> named;  // Of RUN/dev: what leads to it.
};

struct RoleOfDevice {
  DeviceRole role = DeviceRole::none;
  std::string volume;  // The name of the volume; of a copy empty.
  friend bool operator==(const RoleOfDevice&, const RoleOfDevice&) = default;
};

/// `run_dir` and `configs`: of umbra-cowd, whether it runs or not.
[[nodiscard]] RoleOfDevice role_of(const BlockDeviceView& device, std::string_view run_dir,
                                   const std::vector<VolumeConfig>& configs);

/// "UMBRA_ROLE=live\nUMBRA_VOLUME=db\n", as udev imports it; empty for none.
[[nodiscard]] std::string to_properties(const RoleOfDevice& role);

}  // namespace umbra::cowd
