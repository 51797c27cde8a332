// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "umbra/provider/session.h"

#include <unistd.h>

#include <atomic>
#include <mutex>
#include <shared_mutex>
#include <stdexcept>
#include <utility>

#include "engine/platform/local_stream.h"
#include "engine/platform/run_dir.h"
#include "engine/platform/sink_log.h"
#include "engine/rpc/provider_server.h"

namespace umbra::provider {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t kThreadsMax = 64;
constexpr std::size_t kNameBytesMax = 256;  // umbrad refuses longer ones.

Status check(const Options& options, const ProviderProperties& properties) {
  if (options.threads < 1 || options.threads > kThreadsMax)
    return fail(Errc::invalid_argument, "Options::threads must be 1 to 64");
  if (options.connect_limit <= 0ms)
    return fail(Errc::invalid_argument, "Options::connect_limit must be positive");
  if (properties.provider_id.is_nil())
    return fail(Errc::invalid_argument, "properties(): provider_id is nil; make one with uuidgen");
  if (properties.name.empty() || properties.name.size() > kNameBytesMax)
    return fail(Errc::invalid_argument, "properties(): name must have 1 to 256 bytes");
  if (properties.type == ProviderType::unknown)
    return fail(Errc::invalid_argument, "properties(): type must not be unknown");
  return {};
}

}  // namespace

class Session::Impl {
 public:
  Impl(Provider& provider, Options options, std::string socket_path, Waker waker)
      : log_(std::move(options.log)), waker_(std::move(waker)) {
    rpc::ProviderServerOptions serving;
    serving.socket_path = std::move(socket_path);
    serving.program = std::move(options.program);
    serving.threads = options.threads;
    server_ = std::make_unique<rpc::ProviderServer>(
        provider, std::map<std::string, rpc::ProviderMethod>{}, std::move(serving), log_);
  }

  [[nodiscard]] bool is_ours() const noexcept { return ::getpid() == pid_; }

  void request_stop() noexcept {
    stopping_.store(true);
    waker_.wake();
  }

  void wait_for_stop() {
    const LocalStream none;
    while (!stopping_.load()) static_cast<void>(none.wait(false, &waker_, std::nullopt));
  }

  void stop() {
    request_stop();
    const std::unique_lock lock(mutex_);  // Whoever stops second waits, too.
    server_.reset();
  }

  [[nodiscard]] bool is_registered() const noexcept {
    const std::shared_lock lock(mutex_, std::try_to_lock);
    return lock.owns_lock() && server_ != nullptr && server_->is_registered();
  }

  Status wait_until_registered(std::chrono::milliseconds limit) const {
    const std::shared_lock lock(mutex_);
    if (server_ == nullptr) return fail(Errc::coordinator_lost, "the session was stopped");
    return server_->wait_until_registered(limit);
  }

 private:
  const pid_t pid_ = ::getpid();
  SinkLog log_;
  Waker waker_;
  std::atomic<bool> stopping_{false};
  mutable std::shared_mutex mutex_;  // Held alone while the server ends, shared to ask it.
  std::unique_ptr<rpc::ProviderServer> server_;
};

Session::Session(std::unique_ptr<Impl> impl) noexcept : impl_(std::move(impl)) {}
Session::Session(Session&&) noexcept = default;

Session& Session::operator=(Session&& other) noexcept {
  if (this != &other) {
    Session old(std::move(*this));
    impl_ = std::move(other.impl_);
  }
  return *this;
}

Session::~Session() {
  if (impl_ == nullptr) return;
  if (!impl_->is_ours()) {
    // The threads exist in the parent only; nothing of this copy can be taken apart.
    static_cast<void>(impl_.release());
    return;
  }
  impl_->stop();
}

Result<Session> Session::connect(Provider& provider, Options options) {
  const ProviderProperties properties = provider.properties();
  if (const Status sound = check(options, properties); !sound) return fail(sound.error());
  if (options.program.empty()) options.program = properties.name;
  std::string path = options.socket_path;
  if (path.empty()) {
    Result<std::string> found = find_coordinator_socket();
    if (!found) return fail(found.error());
    path = std::move(*found);
  }
  Result<Waker> waker = Waker::create();
  if (!waker) return fail(waker.error());
  const auto limit = options.connect_limit;
  const bool required = options.coordinator_required;
  std::unique_ptr<Impl> impl;
  try {
    impl = std::make_unique<Impl>(provider, std::move(options), std::move(path), std::move(*waker));
  } catch (const std::runtime_error&) {  // std::system_error, or Asio's.
    return fail(Errc::out_of_memory, "no thread can be started; see this user's limits");
  }
  Session session(std::move(impl));
  if (!required) return session;
  if (const Status there = session.wait_until_registered(limit); !there) return fail(there.error());
  return session;
}

Status Session::run() {
  if (!impl_->is_ours()) return fail(Errc::bad_state, "run: called after fork()");
  impl_->wait_for_stop();
  impl_->stop();
  return {};
}

void Session::request_stop() noexcept {
  if (impl_->is_ours()) impl_->request_stop();
}

Status Session::stop() {
  if (!impl_->is_ours()) return fail(Errc::bad_state, "stop: called after fork()");
  impl_->stop();
  return {};
}

bool Session::is_registered() const noexcept { return impl_->is_ours() && impl_->is_registered(); }

Status Session::wait_until_registered(std::chrono::milliseconds limit) {
  if (!impl_->is_ours()) return fail(Errc::bad_state, "wait_until_registered: called after fork()");
  return impl_->wait_until_registered(limit);
}

}  // namespace umbra::provider
