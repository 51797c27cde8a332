// SPDX-License-Identifier: Apache-2.0
//
// Who is at the other end of a connection, and what a connection is once hello has said which role
// it takes. Coordinator's thread.

#pragma once

#include <string>

#include "engine/daemon/channel.h"
#include "engine/daemon/roles_posix.h"
#include "engine/platform/local_stream.h"

namespace umbra::daemon {

struct PeerInfo {
  PeerCredentials credentials;
  Roles roles;
  std::string role;     // The one it took.
  std::string program;  // In its own words, made printable.
  /// "uid 1000 pid 4242 (umbra 0.1.0)".
  [[nodiscard]] std::string describe() const;
};

/// What a connection does after hello. Owned by the server until its connection has ended; it may
/// keep itself longer.
class Role {
 public:
  virtual ~Role() = default;
  virtual void request(const std::string& method, const Json& params, const Reply& reply) = 0;
  virtual void notification(const std::string& method, const Json& params) = 0;
  /// The connection has ended; every call on it has failed before.
  virtual void closed() = 0;
};

/// Decodes the params of a request, or answers it with the error.
template <class Message>
[[nodiscard]] std::optional<Message> take(const Json& params, const Reply& reply) {
  auto message = rpc::decode<Message>(params);
  if (message) return std::move(*message);
  reply.error(message.error());
  return std::nullopt;
}

/// The answer to a method that the role does not have.
void refuse_method(const std::string& method, const std::string& role, const Reply& reply);

}  // namespace umbra::daemon
