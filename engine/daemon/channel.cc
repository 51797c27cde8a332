// SPDX-License-Identifier: Apache-2.0

#include "engine/daemon/channel.h"

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <utility>

#include "engine/rpc/connection.h"

namespace umbra::daemon {

namespace asio = boost::asio;

namespace {

// The responder belongs to the wire's thread, so its end is posted there as well.
class WireSink final : public Reply::Sink {
 public:
  WireSink(asio::io_context& wire, rpc::Responder responder)
      : wire_(wire), responder_(std::move(responder)) {}
  ~WireSink() override {
    asio::post(wire_, [kept = std::move(responder_)] { static_cast<void>(kept); });
  }
  WireSink(const WireSink&) = delete;
  WireSink& operator=(const WireSink&) = delete;
  void deliver(Result<Json> result) override {
    asio::post(wire_, [responder = responder_, result = std::move(result)] { responder(result); });
  }

 private:
  asio::io_context& wire_;
  rpc::Responder responder_;
};

class WatchedSink final : public Reply::Sink {
 public:
  WatchedSink(Reply inner, std::function<void(const Result<Json>&)> look)
      : inner_(std::move(inner)), look_(std::move(look)) {}
  void deliver(Result<Json> result) override {
    if (look_) std::exchange(look_, nullptr)(result);
    inner_.deliver(std::move(result));
  }

 private:
  Reply inner_;
  std::function<void(const Result<Json>&)> look_;
};

class WireChannel final : public Channel {
 public:
  explicit WireChannel(Loops loops) : loops_(loops) {}
  ~WireChannel() override {
    asio::post(loops_.wire, [connection = std::move(connection_)] {
      connection->close({kLost, "umbrad has closed the connection"});
    });
  }
  WireChannel(const WireChannel&) = delete;
  WireChannel& operator=(const WireChannel&) = delete;

  void start(std::shared_ptr<rpc::Connection> connection) { connection_ = std::move(connection); }
  void ended() { mark_closed(); }
  /// Threads: the wire's.
  void drop(Error reason) { connection_->close(std::move(reason)); }

  void close(Error reason) override {
    asio::post(loops_.wire, [connection = connection_, reason = std::move(reason)] {
      connection->close(reason);
    });
  }

 private:
  void send(std::string_view method, Json params, std::chrono::milliseconds limit,
            std::function<std::function<void()>(Result<Json>)> parse) override {
    asio::post(loops_.wire,
               [loops = loops_, connection = connection_, method = std::string(method),
                params = std::move(params), limit, parse = std::move(parse)]() mutable {
                 connection->call(method, std::move(params), limit,
                                  [loops, parse = std::move(parse)](Result<Json> result) {
                                    asio::post(loops.coordinator, parse(std::move(result)));
                                  });
               });
  }

  Loops loops_;
  std::shared_ptr<rpc::Connection> connection_;  // Also kept by itself until it is closed.
};

}  // namespace

Reply Reply::watched(std::function<void(const Result<Json>&)> look) const {
  return Reply(std::make_shared<WatchedSink>(*this, std::move(look)));
}

std::shared_ptr<Channel> Channel::open(Loops loops, LocalStream stream, Log& log,
                                       ChannelHandlers handlers) {
  const auto shared = std::make_shared<ChannelHandlers>(std::move(handlers));  // Until closed.
  const auto channel = std::make_shared<WireChannel>(loops);
  const std::weak_ptr<WireChannel> weak = channel;
  const auto waiting = std::make_shared<std::atomic<std::size_t>>(0);
  rpc::ConnectionOptions options;
  options.lost = kLost;
  options.late = kLate;
  rpc::ConnectionHandlers wire;
  wire.on_request = [loops, shared](std::string method, Json params, rpc::Responder responder) {
    auto sink = std::make_shared<WireSink>(loops.wire, std::move(responder));
    asio::post(loops.coordinator, [shared, method = std::move(method), params = std::move(params),
                                   reply = Reply(std::move(sink))]() mutable {
      shared->on_request(std::move(method), std::move(params), std::move(reply));
    });
  };
  wire.on_notification = [loops, shared, weak, waiting](std::string method, Json params) {
    if (waiting->fetch_add(1) >= kNotificationsWaitingMax) {
      if (const auto self = weak.lock())
        self->drop({Errc::limit_reached, "notifications come faster than they can be taken"});
      return;
    }
    asio::post(loops.coordinator,
               [shared, waiting, method = std::move(method), params = std::move(params)]() mutable {
                 waiting->fetch_sub(1);
                 shared->on_notification(std::move(method), std::move(params));
               });
  };
  wire.on_closed = [loops, shared, weak](const Error& reason) {
    asio::post(loops.coordinator, [shared, weak, reason] {
      if (const auto self = weak.lock()) self->ended();
      shared->on_closed(reason);
    });
  };
  channel->start(
      rpc::Connection::start(loops.wire, std::move(stream), log, std::move(wire), options));
  return channel;
}

void Channel::call(std::string_view method, Json params, std::chrono::milliseconds limit,
                   std::function<void(Result<Json>)> done) {
  send(method, std::move(params), limit, [done = std::move(done)](Result<Json> result) {
    return std::function<void()>(
        [done, result = std::move(result)]() mutable { done(std::move(result)); });
  });
}

}  // namespace umbra::daemon
