// SPDX-License-Identifier: Apache-2.0
#include "provider/guardian/kernel_devices_linux.h"

#include <sys/socket.h>
#include <unistd.h>

#include <utility>

#include "provider/frontend/nbd_device/control.h"
#include "provider/frontend/ublk/control.h"

namespace umbra::guardian {
namespace {

constexpr std::string_view kUblk = "ublk/";
constexpr std::string_view kNbd = "nbd/";

void stop_ublk(int control, std::string_view payload) {
  const auto id = ublk::parse_state(payload);
  if (!id) return;
  if (const auto kernel = ublk::Control::over(UniqueFd(::dup(control)))) {
    (void)kernel->stop(*id);  // At once; what follows may wait for those that let go.
    (void)ublk::remove_device(*kernel, *id);
  }
}

// Without the first step the kernel would say goodbye to a server that cannot die and does not
// read, and all of its netlink would wait with it.
void stop_nbd(int server_end, std::string_view payload) {
  const auto state = nbd_device::parse_state(payload);
  if (!state) return;
  (void)::shutdown(server_end, SHUT_RDWR);
  (void)nbd_device::disconnect(state->id, state->identifier);
}

}  // namespace

bool is_kernel_device(std::string_view kept_name) noexcept {
  return kept_name.starts_with(kUblk) || kept_name.starts_with(kNbd);
}

void stop_kernel_device(std::string_view kept_name, int descriptor, std::string_view payload) {
  if (!is_kernel_device(kept_name) || ::fork() != 0) return;
  (kept_name.starts_with(kUblk) ? stop_ublk : stop_nbd)(descriptor, payload);
  ::_exit(0);
}

}  // namespace umbra::guardian
