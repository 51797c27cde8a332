// SPDX-License-Identifier: Apache-2.0
//
// Where the server listens, and what a connection's socket is set to.

#pragma once

#include <cstdint>
#include <string>

#include "engine/platform/unique_fd.h"
#include "provider/frontend/nbd/server.h"
#include "umbra/result.h"

namespace umbra::nbd {

/// Errors: as Server::start().
[[nodiscard]] Result<UniqueFd> listen_locally(const ServerOptions& options);
/// The address need not be one of this machine yet. Errors: invalid_argument (no address in
/// numbers); volume_in_use (somebody listens there); io_error.
[[nodiscard]] Result<UniqueFd> listen_on_tcp(const TcpOptions& options);
/// 0 if it has none.
[[nodiscard]] std::uint16_t port_of(int listener) noexcept;

struct Accepted {
  UniqueFd socket;   // Null: nobody came.
  std::string peer;  // "ADDRESS:PORT"; empty on a local socket.
};
/// Does not wait.
[[nodiscard]] Accepted accept_one(int listener);

}  // namespace umbra::nbd
