// SPDX-License-Identifier: Apache-2.0
//
// Serves a block::Device as /dev/nbdN: the kernel's NBD client has one end of a pair of sockets, an
// nbd::Connection of this process the other. Nothing is negotiated: both ends are told what holds.
//
// Surviving kill -9: somebody keeps a descriptor of our end of the socket (Owner::keep), so that
// for the kernel nothing has happened; its users wait. The next process gives that to take_over(),
// which ends the old connection and gives the kernel a new one. The kernel then sends again what
// was not answered. If nobody keeps it, the kernel sees the end, and gives errors after
// kSuccessorLimit. A successor must not take over before it has the locks of what it serves from:
// what its predecessor had in flight below may still land. A write that was done but not answered
// is done again: it had not been acknowledged, so nobody could rely on either outcome.
//
// The process never opens the device (see control.h for what does).

#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "engine/platform/block.h"
#include "engine/platform/log.h"
#include "provider/frontend/nbd_device/control.h"
#include "umbra/result.h"

namespace umbra::nbd_device {

/// What is left of a former server.
struct Predecessor {
  std::string saved_state;  // to_text().
  int server_end = -1;      // None: its end is known to the kernel.
};

/// Whose a device is.
struct Owner {
  std::string identifier;  // identifier_for().
  /// Keeps a duplicate of our end of the socket, beyond our end; again for each new connection.
  /// Called during create() and take_over(), and by a thread of the device's until it is destroyed.
  std::function<void(std::uint32_t id, int server_end)> keep;
};

class Device {
 public:
  /// A new one, served from now on. `log` outlives it. Errors: those of parameters_for() and
  /// connect(); io_error.
  [[nodiscard]] static Result<std::unique_ptr<Device>> create(Owner owner,
                                                              std::shared_ptr<block::Device> served,
                                                              Log& log);
  /// One whose server has gone, served from now on. Blocks until the kernel has seen the end of the
  /// former server, at most kTakeOverLimit. Errors: those of parse_state(), parameters_for() and
  /// reconnect(); bad_state (another identifier's; somebody still serves it).
  [[nodiscard]] static Result<std::unique_ptr<Device>> take_over(
      Owner owner, const Predecessor& predecessor, std::shared_ptr<block::Device> served, Log& log);
  /// Ends the connection after what is in flight. The device is as after a crash, unless it was
  /// disconnected.
  virtual ~Device() = default;

  [[nodiscard]] virtual std::uint32_t id() const noexcept = 0;

 protected:
  Device() = default;
};

}  // namespace umbra::nbd_device
