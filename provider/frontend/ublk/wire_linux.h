// SPDX-License-Identifier: Apache-2.0
//
// The kernel's ublk protocol, with what Debian 12's headers (6.1) do not have yet.

#pragma once

#include <linux/ioctl.h>
#include <linux/ublk_cmd.h>

#include <cstdint>

namespace umbra::ublk {

// Kernel 6.4: commands are numbered as ioctls of type 'u'; the bare numbers of before are an option
// of the kernel's configuration. 6.5: the features are told.
inline constexpr unsigned kIoctlType = 'u';
inline constexpr unsigned kGetFeatures = 0x13;
inline constexpr std::uint16_t kFeaturesBytes = 8;
// Kernel 6.9: does not wait for whoever has the device open.
inline constexpr unsigned kDelDevAsync = 0x14;

constexpr std::uint32_t control_number(unsigned command, bool encoded) {
  if (!encoded) return command;
  const bool only_reads = command == UBLK_CMD_GET_QUEUE_AFFINITY ||
                          command == UBLK_CMD_GET_DEV_INFO || command == UBLK_CMD_GET_PARAMS ||
                          command == kGetFeatures || command == kDelDevAsync;
  return static_cast<std::uint32_t>(_IOC(only_reads ? _IOC_READ : _IOC_READ | _IOC_WRITE,
                                         kIoctlType, command, sizeof(ublksrv_ctrl_cmd)));
}
constexpr std::uint32_t io_number(unsigned command, bool encoded) {
  if (!encoded) return command;
  return static_cast<std::uint32_t>(
      _IOC(_IOC_READ | _IOC_WRITE, kIoctlType, command, sizeof(ublksrv_io_cmd)));
}

}  // namespace umbra::ublk
