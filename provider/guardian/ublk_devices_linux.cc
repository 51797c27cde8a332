// SPDX-License-Identifier: Apache-2.0
#include "provider/guardian/ublk_devices_linux.h"

#include <unistd.h>

#include <utility>

#include "provider/frontend/ublk/control.h"

namespace umbra::guardian {

bool is_ublk_device(std::string_view kept_name) noexcept {
  constexpr std::string_view kStart = "ublk/";
  return kept_name.substr(0, kStart.size()) == kStart;
}

void stop_ublk_device(int control, std::string_view payload) {
  const auto id = ublk::parse_state(payload);
  if (!id || ::fork() != 0) return;
  if (const auto kernel = ublk::Control::over(UniqueFd(::dup(control)))) {
    (void)kernel->stop(*id);  // At once; what follows may wait for those that let go.
    (void)ublk::remove_device(*kernel, *id);
  }
  ::_exit(0);
}

}  // namespace umbra::guardian
