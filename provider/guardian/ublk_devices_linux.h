// SPDX-License-Identifier: Apache-2.0
//
// The kernel holds what is asked of a ublk device whose server has gone, for as long as it takes:
// when no successor will come, somebody has to end that.

#pragma once

#include <string>
#include <string_view>

namespace umbra::guardian {

/// Whether umbra-cowd keeps a ublk device under this name.
[[nodiscard]] bool is_ublk_device(std::string_view kept_name) noexcept;

/// Stops and removes the device in a process of its own, since that may wait: whoever waits for the
/// device, or asks it from now on, gets an error. `control` is a descriptor of /dev/ublk-control,
/// `payload` what was kept with it. The caller has one thread, and reaps the process.
void stop_ublk_device(int control, std::string_view payload);

}  // namespace umbra::guardian
