// SPDX-License-Identifier: Apache-2.0
//
// The kernel holds what is asked of a ublk or NBD device whose server has gone, for as long as it
// takes: when no successor will come, somebody has to end that.

#pragma once

#include <string_view>

namespace umbra::guardian {

/// Whether umbra-cowd keeps a device of the kernel's under this name.
[[nodiscard]] bool is_kernel_device(std::string_view kept_name) noexcept;

/// Stops and removes the device in a process of its own, since that may wait: whoever waits for the
/// device, or asks it from now on, gets an error. `descriptor` and `payload` are what was kept: of
/// /dev/ublk-control, or the server's end of an NBD connection. The caller has one thread, and
/// reaps the process.
void stop_kernel_device(std::string_view kept_name, int descriptor, std::string_view payload);

}  // namespace umbra::guardian
