// SPDX-License-Identifier: Apache-2.0
//
// Serves block devices by name to NBD clients over a local socket, and over TCP with TLS if that is
// asked for.
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
// Access: on the local socket its file mode, over TCP the proof that TLS demands; whoever has it
// may use every export. Over TCP they are read-only unless `writable` says otherwise. Strangers
// over TCP have kTlsSecondsMax to prove who they are, and never take a local client's place.

#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "engine/platform/block.h"
#include "engine/platform/log.h"
#include "provider/frontend/nbd/contexts.h"
#include "provider/frontend/nbd/tcp_options.h"
#include "umbra/result.h"

namespace umbra::nbd {

inline constexpr std::size_t kInFlightMax = 128;
inline constexpr std::size_t kBufferBytesMax = 64U << 20U;
inline constexpr std::size_t kConnectionsMax = 64;     // On the local socket.
inline constexpr std::size_t kTcpConnectionsMax = 32;  // Strangers among them.
inline constexpr int kNegotiationSecondsMax = 30;      // For a piece of it.
inline constexpr int kTlsSecondsMax = 15;  // From connecting to the end of the handshake.

struct ServerOptions {
  std::string socket_path;          // Replaced if it exists and nobody listens on it.
  unsigned socket_mode = 0600;      // File mode of the socket.
  std::optional<TcpOptions> tcp{};  // Nothing: no TCP.
};

/// What there is to say of exports beside their devices. Threads: any.
class Details {
 public:
  virtual ~Details() = default;
  /// For people, one line, UTF-8; empty: what add() was given.
  [[nodiscard]] virtual std::string describe(const std::string& export_name) const = 0;
  /// Null: none.
  [[nodiscard]] virtual std::shared_ptr<Contexts> contexts(
      const std::string& export_name) const = 0;
};

class Server {
 public:
  /// Listens and starts the accepting thread. `log` must outlive the server. What stands in the way
  /// of TCP (its address, its files) is logged, not returned: the local socket must be served.
  /// Errors: invalid_argument (path too long for a socket); volume_in_use (another server listens
  /// there); io_error.
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
  /// From now on `details` are asked; null: none. Waits for calls of the former ones. They outlive
  /// the server or the next call. Contexts that connections have already are used on.
  virtual void set_details(const Details* details) = 0;
  /// Where TCP is served; 0: nowhere.
  [[nodiscard]] virtual std::uint16_t tcp_port() const = 0;
  /// Connections in transmission on this export; 0 if there is none. Threads: any.
  [[nodiscard]] virtual std::size_t connection_count(std::string_view name) const = 0;
  /// "nbd+unix:///NAME?socket=PATH", percent-encoded where needed.
  [[nodiscard]] virtual std::string uri(std::string_view name) const = 0;

 protected:
  Server() = default;
};

}  // namespace umbra::nbd
