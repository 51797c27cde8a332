// SPDX-License-Identifier: Apache-2.0
//
// One connection as the coordinator's thread sees it. Bytes, JSON and XML belong to the wire's
// thread, decisions to the coordinator's; this is the only place that crosses between the two, by
// posting. So a peer's 32 MiB line never delays another writer's Thaw.
//
// Everything here is called on the coordinator's thread but open(), and the `parse` functions,
// which run on the wire's thread and must touch nothing but their arguments.

#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "engine/platform/local_stream.h"
#include "engine/platform/log.h"
#include "engine/rpc/codec.h"
#include "umbra/result.h"

namespace boost::asio {
class io_context;
}

namespace umbra::daemon {

using rpc::Json;

/// The two loops of umbrad, each run by one thread. They outlive every channel.
struct Loops {
  boost::asio::io_context& wire;
  boost::asio::io_context& coordinator;
};

/// Answers one request, once; copies are the same answer. If the last copy goes without an answer,
/// the peer gets `unexpected`.
class Reply {
 public:
  /// Where the answer goes. Only the first counts; the end without one is `unexpected`.
  class Sink {
   public:
    Sink() = default;
    Sink(const Sink&) = delete;
    Sink& operator=(const Sink&) = delete;
    virtual ~Sink() = default;
    virtual void deliver(Result<Json> result) = 0;
  };
  explicit Reply(std::shared_ptr<Sink> sink) : sink_(std::move(sink)) {}
  /// The same answer, seen by `look` before it goes.
  [[nodiscard]] Reply watched(std::function<void(const Result<Json>&)> look) const;

  template <class Message>
  void send(const Result<Message>& result) const {
    if (result)
      deliver(rpc::encode(*result));
    else
      deliver(tl::unexpected<Error>(result.error()));
  }
  template <class Message>
  void good(const Message& message) const {
    deliver(rpc::encode(message));
  }
  void good() const { good(rpc::Nothing{}); }
  void send(const Status& status) const { status ? good() : error(status.error()); }
  void error(Error error) const { deliver(tl::unexpected<Error>(std::move(error))); }
  /// A result of another peer, passed on as it is.
  void deliver(Result<Json> result) const { sink_->deliver(std::move(result)); }

 private:
  std::shared_ptr<Sink> sink_;  // Shared by the copies of this answer.
};

struct ChannelHandlers {
  std::function<void(std::string method, Json params, Reply reply)> on_request;
  std::function<void(std::string method, Json params)> on_notification;
  std::function<void(const Error& reason)> on_closed;  // Last, once; pending calls failed before.
};

/// What calls fail with when the connection is gone, and when the answer is late.
inline constexpr Errc kLost = Errc::coordinator_lost;
inline constexpr Errc kLate = Errc::writererror_timeout;

/// Notifications of one peer that came and have not been looked at. They are not answered, so
/// nothing else bounds them; a peer with more is dropped.
inline constexpr std::size_t kNotificationsWaitingMax = 65'536;

/// An interface, so that a simulation can be the network.
class Channel {
 public:
  /// Threads: the wire's.
  [[nodiscard]] static std::shared_ptr<Channel> open(Loops loops, LocalStream stream, Log& log,
                                                     ChannelHandlers handlers);
  Channel() = default;
  virtual ~Channel() = default;
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;

  /// `done` is called once, later: with the result, the peer's error, kLate or kLost.
  void call(std::string_view method, Json params, std::chrono::milliseconds limit,
            std::function<void(Result<Json>)> done);
  /// The same with `parse` on the wire's thread, for what is slow to take apart.
  template <class Parsed>
  void call(std::string_view method, Json params, std::chrono::milliseconds limit,
            std::function<Parsed(Result<Json>)> parse, std::function<void(Parsed)> done) {
    send(method, std::move(params), limit,
         [parse = std::move(parse), done = std::move(done)](Result<Json> result) {
           return std::function<void()>(
               [parsed = parse(std::move(result)), done]() mutable { done(std::move(parsed)); });
         });
  }

  /// What is queued is sent if it fits into the socket at once. Idempotent.
  virtual void close(Error reason) = 0;
  [[nodiscard]] bool is_open() const noexcept { return open_; }

 protected:
  void mark_closed() noexcept { open_ = false; }

 private:
  // `parse` runs on the wire's thread; what it returns, on the coordinator's.
  virtual void send(std::string_view method, Json params, std::chrono::milliseconds limit,
                    std::function<std::function<void()>(Result<Json>)> parse) = 0;

  bool open_ = true;  // The coordinator's view: false from on_closed on.
};

}  // namespace umbra::daemon
