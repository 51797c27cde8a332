// SPDX-License-Identifier: Apache-2.0
//
// The kernel's NBD client by way of generic netlink: makes block devices of connected sockets,
// gives them new ones, and ends them. No call here reads or writes a device.
//
// A device has one connection and no time limit on requests, on purpose. With a limit, or with
// several connections, the kernel gives up a connection on which a request takes longer and sends
// the request again on another one while the first is still being done: the first can then land
// after a later write of the same blocks, and bring old content back. With one connection and no
// limit a request is sent again only if the connection has ended and another one has taken its
// place (Linux 5.7). The kernel looks for that when a request has been waiting for a while, which
// ask_again_after() sets.

#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "provider/frontend/nbd_device/identity.h"
#include "umbra/result.h"

namespace umbra::nbd_device {

/// How long whoever uses a device waits for a successor of its server, where nobody ends the device
/// earlier. What had been asked of the server already waits for ever.
inline constexpr std::chrono::seconds kSuccessorLimit{600};
/// How often the kernel looks whether a request that is not answered must be asked for again.
inline constexpr std::chrono::milliseconds kAskAgain{2000};
/// For the kernel to have seen that the former server has gone.
inline constexpr std::chrono::seconds kTakeOverLimit{30};

/// In the kernel's terms.
struct Parameters {
  std::uint64_t size_bytes = 0;
  std::uint32_t block_bytes = 512;
  std::uint16_t server_flags = 0;
};

struct Found {
  std::uint32_t id = 0;
  std::string identifier;
};

// Threads: any. Errors of all that ask the kernel: missing_kernel_feature (no NBD client);
// missing_privilege; out_of_memory; io_error.

/// Whether the kernel has an NBD client (its module is loaded).
[[nodiscard]] Status find_client();

/// A device over the kernel's end of a connected socket, which can be closed afterwards; its
/// number. Whoever has the other end serves it from now on, in NBD's transmission phase. Errors
/// also: missing_kernel_feature (no identifiers: Linux before 5.14; the device is gone again).
[[nodiscard]] Result<std::uint32_t> connect(const Parameters& parameters,
                                            const std::string& identifier, int socket);
/// Gives it a new socket in the place of the one that has ended. The kernel takes it only once it
/// has seen that end, and does not tell: see Device::take_over(). Errors also: bad_state (not
/// connected any more, or not `identifier`'s).
[[nodiscard]] Status reconnect(std::uint32_t id, const std::string& identifier, int socket);
/// There is no such block device any more: what waits for it, and what is asked from now on, gets
/// an error. Its number is free when its last user has closed it. Waits for whoever has the other
/// end of its socket to read, unless that has ended. Another identifier's, or none: no error, and
/// left alone.
[[nodiscard]] Status disconnect(std::uint32_t id, const std::string& identifier);

/// Everybody's that have an identifier.
[[nodiscard]] std::vector<Found> list();
/// Empty: none, or no such device.
[[nodiscard]] std::string identifier_of(std::uint32_t id);

// The following may wait for the device: never call them in a process that serves it.

/// See above. Errors: io_error.
[[nodiscard]] Status ask_again_after(std::uint32_t id, std::chrono::milliseconds time);
/// Ends a device that nobody uses, after what its former users wrote has been flushed. Errors:
/// volume_in_use (mounted, mapped or open: it is as before); those of disconnect().
[[nodiscard]] Status disconnect_unused(std::uint32_t id, const std::string& identifier);

}  // namespace umbra::nbd_device
