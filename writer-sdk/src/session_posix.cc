// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// The threads around writer::Logic. One I/O thread owns the socket, the logic and the timers; each
// queue of callbacks is a thread of its own that lives as long as its backup. The two sides meet in
// a list of finished callbacks under a mutex. Nothing here decides anything.
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <list>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

#include "engine/platform/local_stream.h"
#include "engine/platform/log.h"
#include "engine/platform/run_dir.h"
#include "engine/platform/sink_log.h"
#include "umbra/writer/writer.h"
#include "writer-sdk/src/context.h"
#include "writer-sdk/src/logic.h"

namespace umbra::writer {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t kReadBytes = 64U << 10U;
constexpr std::chrono::milliseconds kReconnectFirst = 100ms;
constexpr std::chrono::milliseconds kReconnectMax = 5s;
constexpr std::chrono::milliseconds kReconnectConnectLimit = 200ms;
constexpr std::chrono::milliseconds kHandshakeLimit = 10s;
constexpr std::chrono::milliseconds kFreezeWindowMax = 60s;

// Signals are the application's; threads started meanwhile inherit the mask.
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

// False: the machine has no thread left.
template <class Work>
[[nodiscard]] bool start_thread(std::thread& thread, Work work) {
  const BlockedSignals blocked;
  try {
    thread = std::thread(std::move(work));
    return true;
  } catch (const std::system_error&) {
    return false;
  }
}

// A callback queue's thread.
struct Queue {
  std::thread thread;
  std::mutex mutex;
  std::condition_variable changed;
  std::optional<Start> next;  // At most one: the logic waits for it to finish.
  bool ending = false;
  std::shared_ptr<StopFlags> flags = std::make_shared<StopFlags>();
};

Status check(const Options& options) {
  if (options.class_id.is_nil()) {
    return fail(Errc::invalid_argument, "Options::class_id is nil; make one with uuidgen");
  }
  if (options.name.empty()) return fail(Errc::invalid_argument, "Options::name is empty");
  if (options.freeze_window < 1ms || options.freeze_window > kFreezeWindowMax) {
    return fail(Errc::invalid_argument, "Options::freeze_window must be 1 ms to 60 s");
  }
  if (options.connect_limit <= 0ms) {
    return fail(Errc::invalid_argument, "Options::connect_limit must be positive");
  }
  if (options.level == ApplicationLevel::unknown) {
    return fail(Errc::invalid_argument, "Options::level must not be unknown");
  }
  if (options.subscription == 0 || (options.subscription & ~subscribe::kAll) != 0) {
    return fail(Errc::invalid_argument,
                "Options::subscription: backup events, restore events or both");
  }
  if (options.stop_limit <= 0ms) {
    return fail(Errc::invalid_argument, "Options::stop_limit must be positive");
  }
  return {};
}

}  // namespace

class Session::Impl {
 public:
  Impl(Writer& writer, Options options, std::string socket_path, Waker waker)
      : writer_(writer),
        options_(std::move(options)),
        socket_path_(std::move(socket_path)),
        log_(options_.log),
        logger_(log_, "umbra-writer"),
        waker_(std::move(waker)),
        logic_(options_.freeze_window) {}

  Status start() {
    if (!start_thread(io_thread_, [this] { io_loop(); })) {
      const std::lock_guard lock(mutex_);
      stop_seen_ = io_ended_ = true;
      return fail(Errc::out_of_memory, "no thread can be started; see this user's limits");
    }
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, options_.connect_limit, [this] { return first_attempt_.has_value(); });
    if (first_attempt_ && *first_attempt_) return {};
    if (!options_.coordinator_required) return {};
    if (!first_attempt_) return fail(Errc::coordinator_lost, "umbrad did not answer in time");
    return *first_attempt_;
  }

  [[nodiscard]] bool is_ours() const noexcept { return ::getpid() == pid_; }

  void request_stop() noexcept {
    stopping_.store(true);
    waker_.wake();
  }

  Status run() {
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return stop_seen_; });
    }
    return stop(options_.stop_limit);
  }

  Status stop(std::optional<std::chrono::milliseconds> limit) {
    request_stop();
    {
      std::unique_lock lock(mutex_);
      const auto ended = [this] { return io_ended_; };
      if (!limit) {
        changed_.wait(lock, ended);
      } else if (!changed_.wait_for(lock, *limit, ended)) {
        return fail(Errc::writererror_timeout, "stop: a callback has not returned");
      }
    }
    if (io_thread_.joinable()) io_thread_.join();
    return {};
  }

  [[nodiscard]] std::chrono::milliseconds stop_limit() const noexcept {
    return options_.stop_limit;
  }
  [[nodiscard]] bool is_registered() const noexcept { return registered_.load(); }
  WriterInstanceId instance_id() {
    const std::lock_guard lock(mutex_);
    return instance_id_;
  }

 private:
  enum class Link : std::uint8_t { closed, hello_sent, register_sent, registered };

  // --- the I/O thread -----------------------------------------------------------------------

  void io_loop() {
    while (true) {
      const TimePoint now = system_clock().now();
      if (stopping_.load() && !std::exchange(stop_begun_, true)) begin_stop(now);
      if (stop_begun_ && logic_.is_idle() && queues_.empty()) break;
      if (!stop_begun_ && link_ == Link::closed && now >= reconnect_at_) connect(now);
      perform(logic_.take_actions());
      const StreamReady ready = stream_.wait(!output_.empty(), &waker_, next_deadline());
      if (ready.woken) waker_.drain();
      take_finished();
      if (ready.readable && stream_.is_open()) read();
      const TimePoint later = system_clock().now();
      logic_.time_passed(later);
      if (is_handshaking() && later >= handshake_deadline_) {
        close({Errc::coordinator_lost, "umbrad did not answer in time"});
      }
      perform(logic_.take_actions());
      flush();
    }
    const std::lock_guard lock(mutex_);
    io_ended_ = true;
    changed_.notify_all();
  }

  [[nodiscard]] bool is_handshaking() const noexcept {
    return link_ == Link::hello_sent || link_ == Link::register_sent;
  }

  [[nodiscard]] std::optional<TimePoint> next_deadline() const {
    std::optional<TimePoint> next = logic_.next_deadline();
    const auto consider = [&](TimePoint time) {
      if (!next || time < *next) next = time;
    };
    if (link_ == Link::closed && !stop_begun_) consider(reconnect_at_);
    if (is_handshaking()) consider(handshake_deadline_);
    return next;
  }

  void begin_stop(TimePoint now) {
    logic_.refuse_requests();
    {
      const std::lock_guard lock(mutex_);
      stop_seen_ = true;
      changed_.notify_all();
    }
    for (auto& [session, queue] : queues_) {
      queue.flags->shutting_down.store(true);
      queue.flags->stop.store(true);
    }
    if (link_ != Link::closed) {
      close({Errc::coordinator_lost, "stopping"});
    } else {
      logic_.disconnected(now);
    }
  }

  void connect(TimePoint now) {
    const bool first = !attempted_;
    attempted_ = true;
    const auto limit = first ? options_.connect_limit : kReconnectConnectLimit;
    Result<LocalStream> stream = LocalStream::connect(socket_path_, now + limit);
    if (!stream) return attempt_failed(stream.error());
    stream_ = std::move(*stream);
    peer_ = rpc::Peer{};
    output_.clear();
    rpc::HelloRequest hello;
    hello.role = "writer";
    hello.program = options_.name;
    handshake_deadline_ = now + kHandshakeLimit;
    link_ = Link::hello_sent;
    send_call("hello", rpc::encode(hello));
  }

  void send_call(std::string_view method, rpc::Json params) {
    const Result<rpc::CallId> call = peer_.call(method, std::move(params));
    if (!call) return close(call.error());
    output_.append(peer_.take_output());
  }

  void read() {
    const auto count = stream_.read_some(buffer_);
    if (!count) return close(count.error());
    if (!*count) return;
    if (**count == 0) return close({Errc::coordinator_lost, "umbrad closed the connection"});
    const Status fed = peer_.feed({buffer_.data(), **count});
    while (std::optional<rpc::Incoming> event = peer_.next()) {
      if (auto* reply = std::get_if<rpc::IncomingReply>(&*event)) {
        handshake(std::move(reply->result));
      } else if (auto* request = std::get_if<rpc::IncomingRequest>(&*event)) {
        logic_.request(request->id, request->method, request->params, system_clock().now());
      }
      if (link_ == Link::closed) return;
    }
    output_.append(peer_.take_output());
    if (!fed) close(fed.error());
  }

  void handshake(Result<rpc::Json> result) {
    if (!result) return close(result.error());
    if (link_ == Link::hello_sent) {
      const auto hello = rpc::decode<rpc::HelloReply>(*result);
      if (!hello) return close({Errc::protocol_violation, hello.error().context});
      if (hello->major != rpc::kWireMajor) {
        return close({Errc::version_mismatch, "umbrad speaks another version of the wire"});
      }
      link_ = Link::register_sent;
      return send_call("writer.register", rpc::encode(registration()));
    }
    const auto reply = rpc::decode<rpc::RegisterWriterReply>(*result);
    if (!reply) return close({Errc::protocol_violation, reply.error().context});
    link_ = Link::registered;
    reconnect_delay_ = kReconnectFirst;
    warned_ = false;
    registered_.store(true);
    logger_.info("registered with umbrad", {{"instance", reply->instance_id.to_string()}});
    const std::lock_guard lock(mutex_);
    instance_id_ = reply->instance_id;
    first_attempt_.emplace();
    changed_.notify_all();
  }

  [[nodiscard]] rpc::RegisterWriter registration() const {
    rpc::RegisterWriter message;
    message.class_id = options_.class_id;
    message.name = options_.name;
    message.instance_name = options_.instance_name;
    message.version_major = options_.version_major;
    message.version_minor = options_.version_minor;
    message.usage = options_.usage;
    message.source = options_.source;
    message.level = options_.level;
    message.subscription = options_.subscription;
    message.freeze_window_ms = static_cast<std::uint32_t>(options_.freeze_window.count());
    return message;
  }

  void close(const Error& reason) {
    const bool was_registered = link_ == Link::registered;
    stream_.close();
    output_.clear();
    link_ = Link::closed;
    registered_.store(false);
    {
      const std::lock_guard lock(mutex_);
      instance_id_ = WriterInstanceId{};
    }
    logic_.disconnected(system_clock().now());
    if (was_registered && !stop_begun_) {
      logger_.warning("lost umbrad", {{"why", reason.context}});
      warned_ = true;
    }
    attempt_failed(reason);
  }

  void attempt_failed(const Error& reason) {
    reconnect_at_ = system_clock().now() + reconnect_delay_;
    reconnect_delay_ = std::min(reconnect_delay_ * 2, kReconnectMax);
    if (!std::exchange(warned_, true) && !stop_begun_) {
      logger_.warning("not registered with umbrad, trying again", {{"why", reason.to_string()}});
    }
    const std::lock_guard lock(mutex_);
    if (!first_attempt_) first_attempt_ = fail(reason);
    changed_.notify_all();
  }

  void flush() {
    while (stream_.is_open() && !output_.empty()) {
      const Result<std::size_t> count = stream_.write_some(output_);
      if (!count) return close(count.error());
      if (*count == 0) return;
      output_.erase(0, *count);
    }
  }

  void perform(std::vector<Action> actions) {
    while (!actions.empty()) {
      for (Action& action : actions) {
        std::visit([this](auto& value) { act(value); }, action);
      }
      actions = logic_.take_actions();
    }
  }

  void act(Start& start) {
    Queue& queue = queues_[start.session];
    if (!queue.thread.joinable() &&
        !start_thread(queue.thread, [this, &queue] { queue_loop(queue); })) {
      // The queue is new, so nothing of this backup has been begun that must be undone.
      logger_.error("no thread for a backup", {{"session", start.session.to_string()}});
      rpc::WriterReply refusal;
      refusal.ok = false;
      refusal.failure = Errc::writererror_outofresources;
      refusal.message = "no thread can be started; see this user's limits";
      {
        const std::lock_guard lock(mutex_);
        finished_.emplace_back(start.session, std::move(refusal));
      }
      return waker_.wake();
    }
    const std::lock_guard lock(queue.mutex);
    queue.next = std::move(start);
    queue.changed.notify_one();
  }
  void act(Answer& answer) {
    if (link_ != Link::registered) return;
    const Result<rpc::Json> result =
        answer.reply ? Result<rpc::Json>(rpc::encode(*answer.reply)) : fail(answer.reply.error());
    if (const Status queued = peer_.reply(answer.request, result); !queued) {
      logger_.warning("answer not sent", {{"why", queued.error().context}});
    }
    output_.append(peer_.take_output());
  }
  void act(const ReportExpiry& expiry) {
    logger_.warning("freeze window ended", {{"session", expiry.session.to_string()}});
    if (link_ != Link::registered) return;
    const Status queued =
        peer_.notify("writer.window_expired", rpc::encode(rpc::WindowExpired{expiry.session}));
    if (!queued) logger_.warning("expiry not sent", {{"why", queued.error().context}});
    output_.append(peer_.take_output());
  }
  void act(const AskToStop& ask) {
    const auto queue = queues_.find(ask.session);
    if (queue != queues_.end()) queue->second.flags->stop.store(true);
  }
  void act(const EndQueue& end) {
    descriptions_.forget(end.session);
    const auto found = queues_.find(end.session);
    if (found == queues_.end()) return;
    {
      const std::lock_guard lock(found->second.mutex);
      found->second.ending = true;
      found->second.changed.notify_one();
    }
    if (found->second.thread.joinable()) found->second.thread.join();  // Its last has returned.
    queues_.erase(found);
  }

  void take_finished() {
    std::vector<std::pair<SessionId, rpc::WriterReply>> finished;
    {
      const std::lock_guard lock(mutex_);
      finished.swap(finished_);
    }
    for (auto& [session, reply] : finished) {
      logic_.finished(session, std::move(reply), system_clock().now());
    }
  }

  // --- a queue's thread ---------------------------------------------------------------------

  void queue_loop(Queue& queue) {
    Surroundings around;
    around.level = options_.level;
    around.stop = queue.flags;
    around.descriptions = &descriptions_;
    WriterIdentity& identity = around.identity;
    identity.class_id = options_.class_id;
    identity.name = options_.name;
    identity.instance_name = options_.instance_name;
    identity.usage = options_.usage;
    identity.source = options_.source;
    identity.version_major = options_.version_major;
    identity.version_minor = options_.version_minor;
    while (true) {
      std::optional<Start> start;
      {
        std::unique_lock lock(queue.mutex);
        queue.changed.wait(lock, [&] { return queue.next.has_value() || queue.ending; });
        if (!queue.next) return;
        start = std::exchange(queue.next, std::nullopt);
      }
      identity.instance_id = instance_id();
      rpc::WriterReply reply = run_callback(writer_, *start, around);
      {
        const std::lock_guard lock(mutex_);
        finished_.emplace_back(start->session, std::move(reply));
      }
      waker_.wake();
    }
  }

  Writer& writer_;
  const Options options_;
  const std::string socket_path_;
  SinkLog log_;
  Logger logger_;
  Waker waker_;
  const pid_t pid_ = ::getpid();
  std::thread io_thread_;
  std::atomic<bool> stopping_{false};
  std::atomic<bool> registered_{false};
  Descriptions descriptions_;

  // The I/O thread's.
  Logic logic_;
  LocalStream stream_;
  rpc::Peer peer_;
  std::string output_;
  std::array<char, kReadBytes> buffer_{};
  Link link_ = Link::closed;
  std::map<SessionId, Queue> queues_;
  TimePoint reconnect_at_{};
  TimePoint handshake_deadline_{};
  std::chrono::milliseconds reconnect_delay_ = kReconnectFirst;
  bool attempted_ = false;
  bool warned_ = false;
  bool stop_begun_ = false;

  // Shared.
  std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<Status> first_attempt_;
  WriterInstanceId instance_id_;
  std::vector<std::pair<SessionId, rpc::WriterReply>> finished_;
  bool stop_seen_ = false;
  bool io_ended_ = false;
};

Session::Session(std::unique_ptr<Impl> impl) noexcept : impl_(std::move(impl)) {}
Session::Session(Session&&) noexcept = default;

Session& Session::operator=(Session&& other) noexcept {
  if (this != &other) {
    const Session old(std::move(*this));
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
  const Status stopped = impl_->stop(std::nullopt);
  static_cast<void>(stopped);
}

Result<Session> Session::connect(Writer& writer, Options options) {
  if (const Status sound = check(options); !sound) return fail(sound.error());
  std::string path = options.socket_path;
  if (path.empty()) {
    Result<std::string> found = find_coordinator_socket();
    if (!found) return fail(found.error());
    path = std::move(*found);
  }
  Result<Waker> waker = Waker::create();
  if (!waker) return fail(waker.error());
  Session session(
      std::make_unique<Impl>(writer, std::move(options), std::move(path), std::move(*waker)));
  if (const Status started = session.impl_->start(); !started) return fail(started.error());
  return session;
}

Status Session::run() {
  if (!impl_->is_ours()) return fail(Errc::bad_state, "run: called after fork()");
  if (inside_callback()) return fail(Errc::bad_state, "run: called from inside a callback");
  return impl_->run();
}

void Session::request_stop() noexcept {
  if (impl_->is_ours()) impl_->request_stop();
}

Status Session::stop() { return stop(impl_->stop_limit()); }

Status Session::stop(std::chrono::milliseconds limit) {
  if (!impl_->is_ours()) return fail(Errc::bad_state, "stop: called after fork()");
  if (inside_callback()) return fail(Errc::bad_state, "stop: called from inside a callback");
  return impl_->stop(limit);
}

bool Session::is_registered() const noexcept { return impl_->is_registered(); }
WriterInstanceId Session::instance_id() const { return impl_->instance_id(); }

}  // namespace umbra::writer
