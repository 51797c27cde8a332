// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "engine/rpc/connection.h"

#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <unordered_map>
#include <utility>

namespace umbra::rpc {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;

constexpr std::size_t kReadBytes = 64U << 10U;
constexpr std::chrono::seconds kAcceptRetry{1};

}  // namespace

// --- Responder ----------------------------------------------------------------------------------

struct Responder::State {
  State(std::weak_ptr<Connection> connection_, RequestId id_)
      : connection(std::move(connection_)), id(std::move(id_)) {}
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() { answer(fail(Errc::unexpected, "the request was dropped without an answer")); }

  void answer(const Result<Json>& result);

  std::weak_ptr<Connection> connection;  // The answer may come after the peer has gone.
  RequestId id;
  bool answered = false;
};

void Responder::operator()(const Result<Json>& result) const { state_->answer(result); }

void Responder::send(const Status& status) const {
  if (status) return (*this)(Json{});
  (*this)(tl::unexpected<Error>(status.error()));
}

// --- Connection ---------------------------------------------------------------------------------

struct Connection::Impl {
  struct Pending {
    Callback done;
    std::unique_ptr<asio::steady_timer> deadline;
  };

  Impl(asio::io_context& io_, LocalStream stream_, Log& log, ConnectionHandlers handlers_,
       ConnectionOptions options_)
      : io(io_),
        stream(std::move(stream_)),
        // The stream owns the descriptor; this only waits for it.
        descriptor(io_, stream.native()),
        stall(io_),
        logger(log, "rpc"),
        handlers(std::move(handlers_)),
        options(options_),
        peer(options_.limits) {}
  ~Impl() {
    if (descriptor.is_open()) descriptor.release();
  }

  asio::io_context& io;
  LocalStream stream;
  asio::posix::stream_descriptor descriptor;
  asio::steady_timer stall;
  Logger logger;
  ConnectionHandlers handlers;
  ConnectionOptions options;
  Peer peer;
  std::unordered_map<CallId, Pending> pending;
  std::array<char, kReadBytes> buffer{};
  std::string sending;  // Its first `sent` bytes have left.
  std::size_t sent = 0;
  std::uint64_t sent_total = 0;  // To see whether the queue moves.
  bool waiting_to_write = false;
  bool watching = false;
  bool open = true;
};

void Responder::State::answer(const Result<Json>& result) {
  if (std::exchange(answered, true)) return;
  const std::shared_ptr<Connection> target = connection.lock();
  if (target == nullptr || !target->is_open()) return;
  const Status queued = target->impl_->peer.reply(id, result);
  if (!queued) {
    target->impl_->logger.warning("reply not sent", {{"why", queued.error().context}});
  }
  target->flush();
}

Connection::Connection(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Connection::~Connection() = default;

std::shared_ptr<Connection> Connection::start(asio::io_context& io, LocalStream stream, Log& log,
                                              ConnectionHandlers handlers,
                                              ConnectionOptions options) {
  const std::shared_ptr<Connection> connection(new Connection(
      std::make_unique<Impl>(io, std::move(stream), log, std::move(handlers), options)));
  asio::post(io, [connection] { connection->read(); });
  return connection;
}

bool Connection::is_open() const noexcept { return impl_->open; }

void Connection::read() {
  if (!impl_->open) return;
  impl_->descriptor.async_wait(
      asio::posix::stream_descriptor::wait_read,
      [self = shared_from_this()](const error_code& error) {
        if (!self->impl_->open) return;
        if (error) return self->shut({self->impl_->options.lost, error.message()});
        // One buffer per turn, so that a peer that floods us does not starve the others.
        const auto count = self->impl_->stream.read_some(self->impl_->buffer);
        if (!count) return self->shut({self->impl_->options.lost, count.error().context});
        if (!*count) return self->read();
        if (**count == 0) {
          return self->shut({self->impl_->options.lost, "the peer closed the connection"});
        }
        const Status fed = self->impl_->peer.feed({self->impl_->buffer.data(), **count});
        self->deliver();
        if (!self->impl_->open) return;
        self->flush();
        if (!fed) return self->close(fed.error());
        self->read();
      });
}

void Connection::deliver() {
  while (impl_->open) {
    std::optional<Incoming> event = impl_->peer.next();
    if (!event) return;
    if (auto* request = std::get_if<IncomingRequest>(&*event)) {
      const Responder responder(
          std::make_shared<Responder::State>(weak_from_this(), std::move(request->id)));
      if (!impl_->handlers.on_request) {
        responder(fail(Errc::not_implemented, "no calls are served on this connection"));
        continue;
      }
      impl_->handlers.on_request(std::move(request->method), std::move(request->params), responder);
    } else if (auto* note = std::get_if<IncomingNotification>(&*event)) {
      if (impl_->handlers.on_notification) {
        impl_->handlers.on_notification(std::move(note->method), std::move(note->params));
      }
    } else if (auto* reply = std::get_if<IncomingReply>(&*event)) {
      auto node = impl_->pending.extract(reply->call);
      if (node.empty()) continue;
      node.mapped().done(std::move(reply->result));
    }
  }
}

void Connection::call(std::string_view method, Json params, std::chrono::milliseconds limit,
                      Callback done) {
  const auto refuse = [&](Error error) {
    asio::post(impl_->io, [done = std::move(done), error = std::move(error)]() mutable {
      done(tl::unexpected<Error>(std::move(error)));
    });
  };
  if (!impl_->open) return refuse({impl_->options.lost, "the connection is closed"});
  const Result<CallId> id = impl_->peer.call(method, std::move(params));
  if (!id) return refuse(id.error());
  auto deadline = std::make_unique<asio::steady_timer>(impl_->io, limit);
  deadline->async_wait([self = weak_from_this(), id = *id, name = std::string(method),
                        limit](const error_code& error) {
    const std::shared_ptr<Connection> connection = self.lock();
    if (error || connection == nullptr) return;
    auto node = connection->impl_->pending.extract(id);
    if (node.empty()) return;
    connection->impl_->peer.forget(id);
    node.mapped().done(fail(connection->impl_->options.late,
                            name + ": no answer in " + std::to_string(limit.count()) + " ms"));
  });
  impl_->pending.emplace(*id, Impl::Pending{std::move(done), std::move(deadline)});
  flush();
}

void Connection::notify(std::string_view method, Json params) {
  if (!impl_->open) return;
  const Status queued = impl_->peer.notify(method, std::move(params));
  if (!queued) impl_->logger.warning("notification not sent", {{"why", queued.error().context}});
  flush();
}

void Connection::flush() {
  Impl& impl = *impl_;
  if (!impl.open) return;
  if (impl.sent == impl.sending.size()) {
    impl.sending.clear();
    impl.sent = 0;
  }
  impl.sending.append(impl.peer.take_output());
  while (impl.sent < impl.sending.size()) {
    const Result<std::size_t> count =
        impl.stream.write_some({impl.sending.data() + impl.sent, impl.sending.size() - impl.sent});
    // The caller may be in the middle of a call() of its own: closing waits for a turn of its own.
    if (!count) return close({impl.options.lost, count.error().context});
    if (*count == 0) break;
    impl.sent += *count;
    impl.sent_total += *count;
  }
  const std::size_t waiting = impl.sending.size() - impl.sent;
  if (waiting == 0) return;
  if (waiting > impl.options.send_queue_bytes_max) {
    return close({impl.options.lost, "the peer does not read: " + std::to_string(waiting) +
                                         " bytes are waiting for it"});
  }
  watch_for_stall();
  if (std::exchange(impl.waiting_to_write, true)) return;
  impl.descriptor.async_wait(asio::posix::stream_descriptor::wait_write,
                             [self = shared_from_this()](const error_code& error) {
                               self->impl_->waiting_to_write = false;
                               if (!error) self->flush();
                             });
}

void Connection::watch_for_stall() {
  if (std::exchange(impl_->watching, true)) return;
  impl_->stall.expires_after(impl_->options.send_stall_max);
  impl_->stall.async_wait(
      [self = weak_from_this(), before = impl_->sent_total](const error_code& error) {
        const std::shared_ptr<Connection> connection = self.lock();
        if (error || connection == nullptr || !connection->impl_->open) return;
        Impl& impl = *connection->impl_;
        impl.watching = false;
        if (impl.sent == impl.sending.size()) return;
        if (impl.sent_total != before) return connection->watch_for_stall();
        connection->shut({impl.options.lost, "the peer does not read"});
      });
}

void Connection::close(Error reason) {
  if (!impl_->open) return;
  asio::post(impl_->io, [self = shared_from_this(), reason = std::move(reason)]() mutable {
    self->shut(std::move(reason));
  });
}

void Connection::shut(Error reason) {
  Impl& impl = *impl_;
  if (!impl.open) return;
  // A last error reply is worth one try; what does not fit is lost.
  impl.sending.erase(0, std::exchange(impl.sent, 0));
  impl.sending.append(impl.peer.take_output());
  if (!impl.sending.empty()) {
    const Result<std::size_t> ignored = impl.stream.write_some(impl.sending);
    static_cast<void>(ignored);
  }
  impl.open = false;
  error_code ignored;
  impl.stall.cancel();
  impl.descriptor.cancel(ignored);
  impl.descriptor.release();
  impl.stream.close();
  auto pending = std::exchange(impl.pending, {});
  for (auto& [id, call] : pending) {
    call.deadline->cancel();
    call.done(fail(impl.options.lost, reason.context));
  }
  // Handlers may hold the owner, and the owner us: the cycle ends here.
  const ConnectionHandlers handlers = std::exchange(impl.handlers, {});
  if (handlers.on_closed) handlers.on_closed(reason);
}

// --- Acceptor -----------------------------------------------------------------------------------

struct Acceptor::Impl : std::enable_shared_from_this<Acceptor::Impl> {
  Impl(asio::io_context& io, LocalListener listener_, Log& log, OnAccept on_accept_)
      : listener(std::move(listener_)),
        descriptor(io, listener.native()),
        retry(io),
        logger(log, "rpc"),
        on_accept(std::move(on_accept_)) {}
  ~Impl() {
    if (descriptor.is_open()) descriptor.release();
  }

  void wait() {
    descriptor.async_wait(asio::posix::stream_descriptor::wait_read,
                          [self = shared_from_this()](const error_code& error) {
                            if (!error && self->open) self->accept_all();
                          });
  }
  void accept_all() {
    while (open) {
      Result<std::optional<LocalStream>> stream = listener.accept();
      if (!stream) return pause(stream.error());
      if (!*stream) return wait();
      Result<PeerCredentials> peer = (**stream).peer();
      if (!peer) {
        logger.warning("connection without credentials refused", {{"why", peer.error().context}});
        continue;
      }
      on_accept(std::move(**stream), std::move(*peer));
    }
  }
  void pause(const Error& error) {
    logger.warning("connections cannot be accepted", {{"why", error.context}});
    retry.expires_after(kAcceptRetry);
    retry.async_wait([self = shared_from_this()](const error_code& stopped) {
      if (!stopped && self->open) self->accept_all();
    });
  }

  LocalListener listener;
  asio::posix::stream_descriptor descriptor;
  asio::steady_timer retry;
  Logger logger;
  OnAccept on_accept;
  bool open = true;
};

Acceptor::Acceptor(asio::io_context& io, LocalListener listener, Log& log, OnAccept on_accept)
    : impl_(std::make_shared<Impl>(io, std::move(listener), log, std::move(on_accept))) {
  asio::post(io, [impl = impl_] {
    if (impl->open) impl->wait();
  });
}

Acceptor::~Acceptor() {
  impl_->open = false;
  error_code ignored;
  impl_->descriptor.cancel(ignored);
  impl_->retry.cancel();
}

}  // namespace umbra::rpc
