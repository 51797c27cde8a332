// SPDX-License-Identifier: Apache-2.0

#include "engine/daemon/channel.h"

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>

#include "engine/rpc/connection.h"

namespace umbra::daemon {

namespace asio = boost::asio;

// The responder belongs to the wire's thread, so its end is posted there as well.
struct Reply::State {
  State(asio::io_context& wire_, rpc::Responder responder_)
      : wire(wire_), responder(std::move(responder_)) {}
  ~State() {
    asio::post(wire, [kept = std::move(responder)] { static_cast<void>(kept); });
  }
  asio::io_context& wire;
  rpc::Responder responder;
};

void Reply::deliver(Result<Json> result) const {
  asio::post(state_->wire,
             [responder = state_->responder, result = std::move(result)] { responder(result); });
}

struct Channel::Impl {
  explicit Impl(Loops loops_) : loops(loops_) {}
  Loops loops;
  std::shared_ptr<rpc::Connection> connection;  // Also kept by itself until it is closed.
};

Channel::Channel(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Channel::~Channel() {
  asio::post(impl_->loops.wire, [connection = std::move(impl_->connection)] {
    connection->close({kLost, "umbrad has closed the connection"});
  });
}

std::shared_ptr<Channel> Channel::open(Loops loops, LocalStream stream, Log& log,
                                       ChannelHandlers handlers) {
  auto impl = std::make_unique<Impl>(loops);
  const auto shared = std::make_shared<ChannelHandlers>(std::move(handlers));  // Until closed.
  const std::shared_ptr<Channel> channel(new Channel(std::move(impl)));
  rpc::ConnectionOptions options;
  options.lost = kLost;
  options.late = kLate;
  rpc::ConnectionHandlers wire;
  wire.on_request = [loops, shared](std::string method, Json params, rpc::Responder responder) {
    auto state = std::make_shared<Reply::State>(loops.wire, std::move(responder));
    asio::post(loops.coordinator, [shared, method = std::move(method), params = std::move(params),
                                   reply = Reply(std::move(state))]() mutable {
      shared->on_request(std::move(method), std::move(params), std::move(reply));
    });
  };
  wire.on_notification = [loops, shared](std::string method, Json params) {
    asio::post(loops.coordinator,
               [shared, method = std::move(method), params = std::move(params)]() mutable {
                 shared->on_notification(std::move(method), std::move(params));
               });
  };
  wire.on_closed = [loops, shared, weak = std::weak_ptr<Channel>(channel)](const Error& reason) {
    asio::post(loops.coordinator, [shared, weak, reason] {
      if (const auto self = weak.lock()) self->open_ = false;
      shared->on_closed(reason);
    });
  };
  channel->impl_->connection =
      rpc::Connection::start(loops.wire, std::move(stream), log, std::move(wire), options);
  return channel;
}

void Channel::send(std::string_view method, Json params, std::chrono::milliseconds limit,
                   std::function<std::function<void()>(Result<Json>)> parse) {
  asio::post(impl_->loops.wire,
             [loops = impl_->loops, connection = impl_->connection, method = std::string(method),
              params = std::move(params), limit, parse = std::move(parse)]() mutable {
               connection->call(method, std::move(params), limit,
                                [loops, parse = std::move(parse)](Result<Json> result) {
                                  asio::post(loops.coordinator, parse(std::move(result)));
                                });
             });
}

void Channel::call(std::string_view method, Json params, std::chrono::milliseconds limit,
                   std::function<void(Result<Json>)> done) {
  send(method, std::move(params), limit, [done = std::move(done)](Result<Json> result) {
    return std::function<void()>(
        [done, result = std::move(result)]() mutable { done(std::move(result)); });
  });
}

void Channel::close(Error reason) {
  asio::post(impl_->loops.wire, [connection = impl_->connection, reason = std::move(reason)] {
    connection->close(reason);
  });
}

}  // namespace umbra::daemon
