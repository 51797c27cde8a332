// SPDX-License-Identifier: Apache-2.0 OR MIT
#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <new>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "engine/platform/clock.h"
#include "engine/rpc/connection.h"
#include "engine/rpc/hardware_calls.h"
#include "engine/rpc/management_calls.h"
#include "engine/rpc/passed_calls.h"
#include "engine/rpc/provider_server.h"
#include "umbra/caller.h"

namespace umbra::rpc {
namespace {

namespace asio = boost::asio;
using namespace std::chrono_literals;

constexpr std::chrono::milliseconds kConnectLimit = 1s;
constexpr std::chrono::milliseconds kHandshakeLimit = 10s;
constexpr std::size_t kEventsAtATime = 64;

bool is_urgent(const std::string& method) {
  return method == "provider.abort_snapshots" || method == "provider.release_hold" ||
         method == "provider.end_session";
}

std::string caller_of(const Json& params) {
  const auto* object = params.if_object();
  const auto* caller = object != nullptr ? object->if_contains("caller") : nullptr;
  if (caller == nullptr || !caller->is_string()) return {};
  return printable(std::string_view(caller->get_string()), kCallerBytesMax);
}

// Signals are the program's; threads started meanwhile inherit the mask.
class BlockedSignals {
 public:
  BlockedSignals() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~BlockedSignals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  BlockedSignals(const BlockedSignals&) = delete;
  BlockedSignals& operator=(const BlockedSignals&) = delete;

 private:
  sigset_t before_{};
};

}  // namespace

// Everything but the pools' work happens on the I/O thread.
class ProviderServer::Impl {
 public:
  Impl(Provider& provider, std::map<std::string, ProviderMethod> methods,
       ProviderServerOptions options, Log& log)
      : provider_(provider),
        methods_(std::move(methods)),
        options_(std::move(options)),
        log_(log),
        logger_(log, "provider"),
        retry_(io_),
        work_(io_.get_executor()),
        delay_(options_.reconnect_first) {
    const BlockedSignals blocked;
    if (options_.operations == nullptr) {
      options_.operations = &own_operations_.emplace(system_clock(), log);
    }
    watch_.emplace(options_.operations->watch([this](const OperationId& operation) {
      asio::post(io_, [this, operation] { operation_ended(operation); });
    }));
    pool_.emplace(std::max<std::size_t>(options_.threads, 1));
    urgent_.emplace(1);
    if (options_.events != nullptr) {
      options_.events->listen([this] { asio::post(io_, [this] { tell_events(); }); });
    }
    io_thread_ = std::thread([this] { io_.run(); });
    asio::post(io_, [this] { connect(); });
  }

  ~Impl() {
    asio::post(io_, [this] {
      stopping_ = true;
      retry_.cancel();
      if (connection_ != nullptr) connection_->close({Errc::coordinator_lost, "stopping"});
      waits_.clear();
      work_.reset();
    });
    io_thread_.join();
    pool_->join();
    urgent_->join();
    watch_.reset();
    if (options_.events != nullptr) options_.events->listen(nullptr);
    own_operations_.reset();
  }

  [[nodiscard]] bool is_registered() const noexcept { return registered_.load(); }

  Status wait_until_registered(std::chrono::milliseconds limit) {
    std::unique_lock lock(mutex_);
    if (changed_.wait_for(lock, limit, [this] { return registered_.load(); })) return {};
    return fail(Errc::coordinator_lost, "not registered with umbrad: " + problem_);
  }

 private:
  struct Waiting {
    std::string method;
    Json params;
    Responder responder;
    std::uint64_t connection = 0;  // Number of the one it came on.
  };

  struct OperationWait {
    OperationWait(asio::io_context& io, Responder responder_, const OperationId& operation_)
        : timer(io), responder(std::move(responder_)), operation(operation_) {}
    asio::steady_timer timer;
    Responder responder;
    OperationId operation;
  };
  void connect() {
    if (stopping_) return;
    Result<LocalStream> stream =
        LocalStream::connect(options_.socket_path, system_clock().now() + kConnectLimit);
    if (!stream) return try_again(stream.error());
    ConnectionHandlers handlers;
    handlers.on_request = [this](std::string method, Json params, Responder responder) {
      take({std::move(method), std::move(params), std::move(responder), connections_.load()});
    };
    handlers.on_closed = [this](const Error& reason) {
      connection_ = nullptr;
      ++connections_;
      waiting_.clear();
      if (!stopping_) try_again(reason);
    };
    connection_ = Connection::start(io_, std::move(*stream), log_, std::move(handlers));
    HelloRequest hello;
    hello.role = "provider";
    hello.program = options_.program;
    connection_->call<HelloReply>("hello", hello, kHandshakeLimit, [this](auto reply) {
      if (!reply) return give_up(reply.error());
      if (reply->major != kWireMajor) {
        return give_up({Errc::version_mismatch, "umbrad speaks another version of the wire"});
      }
      introduce();
    });
  }

  void introduce() {
    if (connection_ == nullptr) return;
    RegisterProvider introduction{provider_.properties(), {}};
    if (options_.events != nullptr) introduction.event_stream = options_.events->stream();
    connection_->call<RegisteredProvider>("provider.register", introduction, kHandshakeLimit,
                                          [this](auto reply) {
                                            if (!reply) return give_up(reply.error());
                                            told_ = reply->events_after;
                                            retain(std::move(reply->alive));
                                          });
  }

  // A few at a time, so that calls are not held up.
  void tell_events() {
    if (options_.events == nullptr || connection_ == nullptr || !registered_.load()) return;
    const EventLog::Page page = options_.events->read(told_, kEventsAtATime);
    for (const ProviderEvent& event : page.events) {
      connection_->notify("provider.event", encode(event));
    }
    told_ = page.next;
    if (!page.events.empty()) asio::post(io_, [this] { tell_events(); });
  }

  // Calls wait until the provider knows which sessions are alive.
  void retain(std::vector<SessionId> alive) {
    passed_.retain_sessions(alive);
    asio::post(*urgent_, [this, alive = std::move(alive),
                          connection = std::weak_ptr<Connection>(connection_)] {
      provider_.retain_sessions(alive);
      asio::post(io_, [this, connection] {
        const auto same = connection.lock();
        if (same == nullptr || same != connection_) return;
        delay_ = options_.reconnect_first;
        warned_ = false;
        logger_.info("registered with umbrad", {});
        set_registered(true, {});
        tell_events();
        for (Waiting& call : std::exchange(waiting_, {})) dispatch(std::move(call));
      });
    });
  }

  void take(Waiting call) {
    if (call.method == "management.wait_operation") return wait_operation(call);
    if (registered_.load()) return dispatch(std::move(call));
    waiting_.push_back(std::move(call));  // Bounded by the requests in flight of the connection.
  }

  void dispatch(Waiting call) {
    if (const auto answer = passed_.answer_for(call.method, call.params))
      return call.responder(*answer);
    passed_.begun(call.method, call.params);
    asio::thread_pool& pool = is_urgent(call.method) ? *urgent_ : *pool_;
    asio::post(pool, [this, call = std::move(call)]() mutable {
      if (call.connection != connections_.load()) return drop(std::move(call));
      const CallerScope scope(caller_of(call.params));
      Result<Json> result = serve(call.method, call.params);
      // The responder is the I/O thread's.
      asio::post(io_, [this, call = std::move(call), result = std::move(result)] {
        call.responder(result);
        repeat(passed_.ended(call.method, call.params));
      });
    });
  }

  // The provider may be anybody's: what it throws fails the call, and ends nothing else.
  Result<Json> serve(const std::string& method, const Json& params) {
    try {
      const auto extra = methods_.find(method);
      if (extra != methods_.end()) return extra->second(params);
      if (method.starts_with(kManagementPrefix))
        return serve_management_call(provider_, *options_.operations, method, params);
      if (method.starts_with(kHardwarePrefix))
        return serve_hardware_call(provider_, *options_.operations, method, params);
      return serve_provider_call(provider_, method, params);
    } catch (const std::bad_alloc&) {
      return threw(method, Errc::out_of_memory, "out of memory");
    } catch (const std::exception& error) {
      return threw(method, Errc::provider_veto, error.what());
    } catch (...) {
      return threw(method, Errc::provider_veto, "something that is no std::exception");
    }
  }

  Result<Json> threw(const std::string& method, Errc code, const char* what) {
    logger_.error("a call threw", {{"call", method}, {"what", what}});
    return fail(code, method + " threw: " + what);
  }

  void repeat(std::vector<PassedCalls::Call> calls) {
    for (PassedCalls::Call& call : calls) {
      asio::post(*urgent_, [this, call = std::move(call)] {
        const CallerScope scope(caller_of(call.params));
        static_cast<void>(serve(call.method, call.params));
      });
    }
  }

  // Answered when the operation has ended or the time is over; no thread waits for it.
  void wait_operation(const Waiting& call) {
    const auto request = decode<ProviderOperation>(call.params);
    if (!request) return call.responder(tl::unexpected<Error>(request.error()));
    const auto wait = std::make_shared<OperationWait>(io_, call.responder, request->operation_id);
    waits_.insert(wait);
    wait->timer.expires_after(
        std::min(std::chrono::milliseconds(request->time_limit_ms), kOperationWaitMax));
    wait->timer.async_wait([this, wait](const boost::system::error_code& error) {
      if (!error) answer(wait);
    });
    const auto now = options_.operations->query(request->operation_id);
    if (!now || now->status != Errc::async_pending) answer(wait);
  }

  void operation_ended(const OperationId& operation) {
    const auto waits = waits_;
    for (const auto& wait : waits) {
      if (wait->operation == operation) answer(wait);
    }
  }

  void answer(const std::shared_ptr<OperationWait>& wait) {
    if (waits_.erase(wait) == 0) return;  // Answered before.
    wait->timer.cancel();
    wait->responder.send(options_.operations->query(wait->operation));
  }

  // What an ended connection asked for must not happen after umbrad has asked what did happen.
  void drop(Waiting call) {
    asio::post(io_,
               [this, call = std::move(call)] { repeat(passed_.ended(call.method, call.params)); });
  }

  void give_up(const Error& reason) {
    if (connection_ != nullptr) connection_->close(reason);
  }

  void try_again(const Error& reason) {
    set_registered(false, reason.to_string());
    if (!std::exchange(warned_, true)) {
      logger_.warning("not connected to umbrad, trying again", {{"why", reason.to_string()}});
    }
    retry_.expires_after(delay_);
    delay_ = std::min(delay_ * 2, options_.reconnect_max);
    retry_.async_wait([this](const boost::system::error_code& error) {
      if (!error) connect();
    });
  }

  void set_registered(bool registered, std::string problem) {
    const std::lock_guard lock(mutex_);
    registered_.store(registered);
    problem_ = std::move(problem);
    changed_.notify_all();
  }

  Provider& provider_;
  const std::map<std::string, ProviderMethod> methods_;
  ProviderServerOptions options_;  // Constant once constructed.
  Log& log_;
  Logger logger_;

  asio::io_context io_{1};
  asio::steady_timer retry_;
  asio::executor_work_guard<asio::io_context::executor_type> work_;
  std::optional<asio::thread_pool> pool_;
  std::optional<asio::thread_pool> urgent_;
  std::thread io_thread_;

  std::optional<OperationTable> own_operations_;
  std::optional<OperationTable::Watch> watch_;

  // The I/O thread's.
  std::set<std::shared_ptr<OperationWait>>
      waits_;                               // Not answered; shared with timer and operation.
  std::shared_ptr<Connection> connection_;  // Shared with the connection itself.
  std::vector<Waiting> waiting_;
  PassedCalls passed_;
  std::atomic<std::uint64_t> connections_{0};  // That have ended.
  std::chrono::milliseconds delay_;
  std::uint64_t told_ = 0;  // Events that umbrad has.
  bool stopping_ = false;
  bool warned_ = false;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::atomic<bool> registered_{false};
  std::string problem_ = "no attempt has finished yet";
};

ProviderServer::ProviderServer(Provider& provider, std::map<std::string, ProviderMethod> methods,
                               ProviderServerOptions options, Log& log)
    : impl_(std::make_unique<Impl>(provider, std::move(methods), std::move(options), log)) {}
ProviderServer::~ProviderServer() = default;

bool ProviderServer::is_registered() const noexcept { return impl_->is_registered(); }
Status ProviderServer::wait_until_registered(std::chrono::milliseconds limit) {
  return impl_->wait_until_registered(limit);
}

}  // namespace umbra::rpc
