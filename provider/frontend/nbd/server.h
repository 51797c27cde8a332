// SPDX-License-Identifier: Apache-2.0
//
// Serves block devices by name to NBD clients over a local socket.
//
// Shape: one thread accepts. Each connection has a reader thread, which turns requests into
// submissions to the device (a batch per read of the socket), and a helper thread for what may
// block: sending to a client that does not read, extents, the later parts of a request that is too
// long for the device. A reply is sent by whoever completes the request, together with all replies
// that are ready at that moment, and never blocks there: a client that stops reading costs its own
// connection and nobody else.
//
// Bounds, per connection: kInFlightMax requests, kBufferBytesMax of payload. Payload buffers are
// kept for reuse, so that the steady state allocates nothing. A client that wants more waits.
//
// Access is the socket's file mode: whoever may connect may use every export.

#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "engine/platform/block.h"
#include "engine/platform/log.h"
#include "umbra/result.h"

namespace umbra::nbd {

inline constexpr std::size_t kInFlightMax = 128;
inline constexpr std::size_t kBufferBytesMax = 64U << 20U;
inline constexpr std::size_t kConnectionsMax = 64;
inline constexpr int kNegotiationSecondsMax = 30;  // Between two pieces of it.

struct ServerOptions {
  std::string socket_path;      // Replaced if it exists and nobody listens on it.
  unsigned socket_mode = 0600;  // File mode of the socket.
};

class Server {
 public:
  /// Listens and starts the accepting thread. `log` must outlive the server. Errors:
  /// invalid_argument (path too long for a socket); volume_in_use (another server listens there);
  /// io_error.
  [[nodiscard]] static Result<std::unique_ptr<Server>> start(const ServerOptions& options,
                                                             Log& log);
  /// Ends every connection, waits for its requests in flight, removes the socket.
  virtual ~Server() = default;

  /// Offers `device` as `name` (1 to 4096 bytes). The first export added with `as_default` is also
  /// found under the empty name. Errors: object_already_exists; invalid_argument. Threads: any.
  [[nodiscard]] virtual Status add(std::string_view name, std::string_view description,
                                   std::shared_ptr<block::Device> device,
                                   bool as_default = false) = 0;
  /// A second name for an export. Errors: object_not_found; object_already_exists.
  [[nodiscard]] virtual Status add_alias(std::string_view alias, std::string_view name) = 0;
  /// Takes the export away, with its aliases. With `force` its connections are ended first; waits
  /// for their requests in flight. Afterwards the device is not touched any more. Errors:
  /// object_not_found; volume_in_use (somebody is connected, not `force`; the export stays).
  [[nodiscard]] virtual Status remove(std::string_view name, bool force) = 0;
  /// Connections in transmission on this export; 0 if there is none. Threads: any.
  [[nodiscard]] virtual std::size_t connection_count(std::string_view name) const = 0;
  /// "nbd+unix:///NAME?socket=PATH", percent-encoded where needed.
  [[nodiscard]] virtual std::string uri(std::string_view name) const = 0;

 protected:
  Server() = default;
};

}  // namespace umbra::nbd
