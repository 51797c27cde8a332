// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// The carrier: one rpc::Peer on one local stream, run by an Asio io_context. It moves bytes, keeps
// the deadlines of calls, and bounds what is held for a peer: one that does not read what is sent
// to it is dropped when its queue is full or does not move.
//
// Threads: the io_context is run by one thread, and every member and callback below belongs to it;
// only Connection::start() may be called before it runs. Parsing long lines happens there: a daemon
// that must not be held up by a peer's 32 MiB line gives connections an io_context (and thread) of
// their own and posts events to its coordinator.
//
// Lifetime: a connection keeps itself alive until it is closed; owners hold shared_ptrs. Closing is
// final, happens once, and is always announced by on_closed, after every pending call has been
// answered with the reason.

#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "engine/platform/local_stream.h"
#include "engine/platform/log.h"
#include "engine/rpc/peer.h"

namespace boost::asio {
class io_context;
}

namespace umbra::rpc {

struct ConnectionOptions {
  PeerLimits limits;
  std::size_t send_queue_bytes_max = 2 * kLineBytesMax;
  std::chrono::milliseconds send_stall_max{30'000};  // Bytes wait and none leaves: dropped.
  // What pending calls fail with when the peer goes, and when a deadline passes. In the coordinator
  // a lost writer is writer_not_responding, a lost provider provider_not_registered.
  Errc lost = Errc::coordinator_lost;
  Errc late = Errc::coordinator_lost;
};

class Connection;

/// Answers one request, now or later, once. A copy is the same answer. If every copy dies without
/// an answer, the peer gets `unexpected`. After the connection is closed answering does nothing.
class Responder {
 public:
  void operator()(const Result<Json>& result) const;
  /// The reply message, or an error.
  template <class Message>
  void send(const Result<Message>& result) const {
    if (result) {
      (*this)(encode(*result));
    } else {
      (*this)(tl::unexpected<Error>(result.error()));
    }
  }
  void send(const Status& status) const;

 private:
  friend class Connection;
  struct State;
  explicit Responder(std::shared_ptr<State> state) : state_(std::move(state)) {}
  std::shared_ptr<State> state_;  // Shared by the copies of this answer.
};

struct ConnectionHandlers {
  std::function<void(std::string method, Json params, Responder responder)> on_request;
  std::function<void(std::string method, Json params)> on_notification;
  std::function<void(const Error& reason)> on_closed;
};

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  using Callback = std::function<void(Result<Json>)>;

  /// Takes a connected stream and starts reading once `io` runs.
  [[nodiscard]] static std::shared_ptr<Connection> start(boost::asio::io_context& io,
                                                         LocalStream stream, Log& log,
                                                         ConnectionHandlers handlers,
                                                         ConnectionOptions options = {});
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  /// Sends a request; `done` is called once, never from inside call(): with the result, the peer's
  /// error, options.late after `limit`, options.lost when the connection ends first, or what
  /// Peer::call() refused it with.
  void call(std::string_view method, Json params, std::chrono::milliseconds limit, Callback done);
  /// The same with messages.
  template <class Reply, class Request>
  void call(std::string_view method, const Request& request, std::chrono::milliseconds limit,
            std::function<void(Result<Reply>)> done) {
    call(method, encode(request), limit, [done = std::move(done)](Result<Json> result) {
      if (!result) return done(tl::unexpected<Error>(result.error()));
      done(decode<Reply>(*result));
    });
  }
  /// Sends a notification; lost silently if the connection ends before.
  void notify(std::string_view method, Json params);

  /// Ends the connection: what is queued is sent if it fits into the socket at once, pending calls
  /// fail, then on_closed(reason), all from the io_context. Idempotent.
  void close(Error reason);
  [[nodiscard]] bool is_open() const noexcept;

 private:
  friend class Responder;
  struct Impl;
  explicit Connection(std::unique_ptr<Impl> impl);
  void read();
  void deliver();
  void flush();
  void watch_for_stall();
  void shut(Error reason);

  std::unique_ptr<Impl> impl_;
};

/// Accepts connections, each with its peer's credentials, taken before a byte is read.
class Acceptor {
 public:
  using OnAccept = std::function<void(LocalStream stream, PeerCredentials peer)>;

  /// Accepts from `listener` until destroyed. Out of descriptors: warns, and tries again in a
  /// second. Threads: that of `io`.
  Acceptor(boost::asio::io_context& io, LocalListener listener, Log& log, OnAccept on_accept);
  ~Acceptor();
  Acceptor(const Acceptor&) = delete;
  Acceptor& operator=(const Acceptor&) = delete;

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;  // Shared with the pending wait.
};

}  // namespace umbra::rpc
