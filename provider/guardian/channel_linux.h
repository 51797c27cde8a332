// SPDX-License-Identifier: Apache-2.0
//
// Messages of protocol.h over a SOCK_SEQPACKET socket, with descriptors by SCM_RIGHTS.

#pragma once

#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "engine/platform/unique_fd.h"
#include "provider/guardian/protocol.h"

namespace umbra::guardian {

struct Received {
  Message message;
  std::vector<UniqueFd> fds;  // Close-on-exec.
};

enum class Arrival : std::uint8_t { message, nothing, end };

/// Both ends close-on-exec. Errors: limit_reached (no descriptors left).
[[nodiscard]] Result<std::pair<UniqueFd, UniqueFd>> make_channel();

/// Never blocks, never raises SIGPIPE. Errors: coordinator_lost (the other end is closed);
/// limit_reached (it does not read, or the message is too long).
[[nodiscard]] Status send(int socket, const Message& message, std::span<const int> fds = {});

/// Never blocks. `nothing`: none is waiting. `end`: the other end is closed. Errors: those of
/// decode(); io_error.
[[nodiscard]] Result<Arrival> receive(int socket, Received& received);

}  // namespace umbra::guardian
