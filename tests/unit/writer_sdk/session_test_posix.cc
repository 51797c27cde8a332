// SPDX-License-Identifier: Apache-2.0
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "engine/rpc/connection.h"
#include "tests/support/catch.h"
#include "tests/support/no_threads.h"
#include "tests/support/temp_dir.h"
#include "umbra/writer/writer.h"

namespace {

using namespace umbra;
using namespace std::chrono_literals;

// umbrad's side, as far as writers see it.
struct FakeCoordinator {
  FakeCoordinator() {
    socket = directory / "umbrad.sock";
    auto listener = LocalListener::listen(socket, 0600);
    REQUIRE(listener);
    acceptor.emplace(
        io, std::move(*listener), null_log(), [this](LocalStream stream, const PeerCredentials&) {
          writer = rpc::Connection::start(
              io, std::move(stream), null_log(),
              {[this](auto method, auto params, auto answer) { serve(method, params, answer); },
               [this](auto method, auto) { notes.push_back(method); },
               [this](const Error&) { ++lost; }});
        });
    thread = std::thread([this] {
      const auto work = boost::asio::make_work_guard(io);
      io.run();
    });
  }
  ~FakeCoordinator() {
    io.stop();
    thread.join();
    acceptor.reset();
  }
  void serve(const std::string& method, const rpc::Json& params, const rpc::Responder& answer) {
    if (method == "hello") return answer.send(Result<rpc::HelloReply>(hello));
    if (refusal) return answer.send(Status(fail(*refusal)));
    registered = rpc::decode<rpc::RegisterWriter>(params).value();
    answer.send(
        Result<rpc::RegisterWriterReply>(rpc::RegisterWriterReply{WriterInstanceId::random()}));
  }
  // Calls the writer and waits for its answer.
  Result<rpc::WriterReply> call(const char* method, SessionId session,
                                std::uint32_t time_limit_ms = 0) {
    rpc::WriterEvent event;
    event.session_id = session;
    event.time_limit_ms = time_limit_ms;
    std::mutex mutex;
    std::condition_variable changed;
    std::optional<Result<rpc::WriterReply>> got;
    on_io([&] {
      writer->call<rpc::WriterReply>(method, event, 20s, [&](Result<rpc::WriterReply> reply) {
        const std::lock_guard lock(mutex);
        got = std::move(reply);
        changed.notify_one();
      });
    });
    std::unique_lock lock(mutex);
    REQUIRE(changed.wait_for(lock, 30s, [&] { return got.has_value(); }));
    return *got;
  }
  void on_io(std::function<void()> work) { boost::asio::post(io, std::move(work)); }
  void drop() {
    on_io([this] { writer->close({Errc::unexpected, "gone"}); });
  }

  boost::asio::io_context io{1};
  test::TempDir directory;
  std::string socket;
  rpc::HelloReply hello;
  std::optional<Error> refusal;
  rpc::RegisterWriter registered;
  std::vector<std::string> notes;
  int lost = 0;
  std::optional<rpc::Acceptor> acceptor;
  std::shared_ptr<rpc::Connection> writer;
  std::thread thread;
};

// Notes its events and waits for them.
struct Recorder final : writer::Writer {
  Status on_prepare_for_snapshot(writer::Context&) override { return note("prepare"); }
  Status on_freeze(writer::Context& context) override {
    sigset_t mask;
    pthread_sigmask(SIG_SETMASK, nullptr, &mask);
    signals_blocked = sigismember(&mask, SIGTERM) == 1;
    if (session != nullptr) stop_inside = session->stop(1ms);
    const Status noted = note("freeze");
    if (freeze_until_released) {
      std::unique_lock lock(mutex);
      changed.wait_for(lock, 20s, [this] { return !freeze_until_released; });
      // A stop() whose limit ended may be a moment ahead of what it asked for.
      for (int i = 0; i < 20'000 && !context.is_shutting_down(); ++i) changed.wait_for(lock, 1ms);
      saw_shutting_down = context.is_shutting_down();
    }
    if (freeze_until_asked) {
      std::unique_lock lock(mutex);
      while (!context.stop_requested()) changed.wait_for(lock, 1ms);
    }
    return noted;
  }
  void on_thaw(writer::Context&) noexcept override { static_cast<void>(note("thaw")); }
  void on_abort(writer::Context&) noexcept override { static_cast<void>(note("abort")); }
  void on_backup_shutdown(const SnapshotSetId&) noexcept override {
    static_cast<void>(note("shutdown"));
  }
  Status note(const char* event) {
    const std::lock_guard lock(mutex);
    events.emplace_back(event);
    changed.notify_all();
    return {};
  }
  void wait_for(const std::string& event) {
    std::unique_lock lock(mutex);
    REQUIRE(changed.wait_for(
        lock, 20s, [&] { return std::find(events.begin(), events.end(), event) != events.end(); }));
  }
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<std::string> events;
  bool freeze_until_asked = false;
  bool freeze_until_released = false;
  bool saw_shutting_down = false;
  bool signals_blocked = false;
  writer::Session* session = nullptr;
  std::optional<Status> stop_inside;
};

writer::Options options_for(const FakeCoordinator& coordinator) {
  writer::Options options;
  options.class_id = WriterClassId{Guid{{1}}};
  options.name = "recorder";
  options.socket_path = coordinator.socket;
  return options;
}

using Events = std::vector<std::string>;
const SessionId kSession{Guid{{9}}};

TEST_CASE("a writer registers and its callbacks run on a thread with signals blocked",
          "[vss:CVssWriter.Initialize][vss:CVssWriter.Subscribe][vss:CVssWriter.Unsubscribe]") {
  FakeCoordinator coordinator;
  Recorder recorder;
  auto session = writer::Session::connect(recorder, options_for(coordinator));
  REQUIRE(session);
  recorder.session = &*session;
  CHECK(session->is_registered());
  CHECK_FALSE(session->instance_id().is_nil());
  CHECK(coordinator.registered.name == "recorder");
  CHECK(coordinator.call("writer.prepare_for_snapshot", kSession)->ok);
  CHECK(coordinator.call("writer.freeze", kSession)->ok);
  CHECK(coordinator.call("writer.thaw", kSession)->ok);
  CHECK(recorder.signals_blocked);
  CHECK(recorder.stop_inside->error().code == Errc::bad_state);
  recorder.session = nullptr;
  CHECK(coordinator.call("writer.backup_shutdown", kSession)->ok);
  CHECK(recorder.events == Events{"prepare", "freeze", "thaw", "shutdown"});
  CHECK_FALSE(coordinator.call("writer.identify", {})->metadata.empty());
  CHECK(session->stop());
  CHECK(session->stop());
  CHECK_FALSE(session->is_registered());
}

TEST_CASE("a frozen writer thaws itself when its window ends, and says so") {
  FakeCoordinator coordinator;
  Recorder recorder;
  auto session = writer::Session::connect(recorder, options_for(coordinator));
  REQUIRE(coordinator.call("writer.prepare_for_snapshot", kSession)->ok);
  REQUIRE(coordinator.call("writer.freeze", kSession, 50)->ok);
  recorder.wait_for("abort");
  CHECK_FALSE(coordinator.call("writer.thaw", kSession)->ok);
  CHECK(coordinator.notes == Events{"writer.window_expired"});
}

TEST_CASE("a freeze that hangs is asked to stop when its window ends") {
  FakeCoordinator coordinator;
  Recorder recorder;
  recorder.freeze_until_asked = true;
  auto session = writer::Session::connect(recorder, options_for(coordinator));
  REQUIRE(coordinator.call("writer.prepare_for_snapshot", kSession)->ok);
  const auto reply = coordinator.call("writer.freeze", kSession, 50);
  CHECK(reply->failure == Errc::writererror_timeout);
  recorder.wait_for("abort");
}

TEST_CASE("a frozen writer thaws itself when umbrad goes, and registers again",
          "[vss:rule.writer-restart-new-instance]") {
  FakeCoordinator coordinator;
  Recorder recorder;
  auto session = writer::Session::connect(recorder, options_for(coordinator));
  const WriterInstanceId before = session->instance_id();
  REQUIRE(coordinator.call("writer.prepare_for_snapshot", kSession)->ok);
  REQUIRE(coordinator.call("writer.freeze", kSession)->ok);
  coordinator.drop();
  recorder.wait_for("abort");
  recorder.wait_for("shutdown");
  const auto end = std::chrono::steady_clock::now() + 20s;
  WriterInstanceId after;
  while ((after.is_nil() || after == before) && std::chrono::steady_clock::now() < end) {
    after = session->instance_id();
    std::this_thread::yield();
  }
  CHECK(after != before);
  CHECK(coordinator.call("writer.prepare_for_snapshot", SessionId::random())->ok);
}

TEST_CASE("stopping a frozen writer aborts it and ends run()", "[vss:CVssWriter.Unsubscribe]") {
  FakeCoordinator coordinator;
  Recorder recorder;
  auto session = writer::Session::connect(recorder, options_for(coordinator));
  REQUIRE(coordinator.call("writer.prepare_for_snapshot", kSession)->ok);
  REQUIRE(coordinator.call("writer.freeze", kSession)->ok);
  std::thread stopper([&] { session->request_stop(); });
  CHECK(session->run());
  stopper.join();
  CHECK(recorder.events == Events{"prepare", "freeze", "abort", "shutdown"});
}

TEST_CASE("a subscription is registered, and stop() has the limit that was given",
          "[vss:CVssWriterEx.SubscribeEx]") {
  FakeCoordinator coordinator;
  Recorder recorder;
  recorder.freeze_until_released = true;
  writer::Options options = options_for(coordinator);
  options.subscription = subscribe::kBackupEvents;
  options.stop_limit = 1ms;
  auto session = writer::Session::connect(recorder, options);
  REQUIRE(session);
  CHECK(coordinator.registered.subscription == subscribe::kBackupEvents);
  REQUIRE(coordinator.call("writer.prepare_for_snapshot", kSession)->ok);
  rpc::WriterEvent event;
  event.session_id = kSession;
  coordinator.on_io([&] {
    coordinator.writer->call<rpc::WriterReply>("writer.freeze", event, 20s, [](const auto&) {});
  });
  recorder.wait_for("freeze");
  CHECK(session->stop().error().code == Errc::writererror_timeout);
  {
    const std::lock_guard lock(recorder.mutex);
    recorder.freeze_until_released = false;
    recorder.changed.notify_all();
  }
  CHECK(session->stop(20s));
  CHECK(recorder.saw_shutting_down);
}

TEST_CASE("connecting refuses wrong options by name and passes on refusals",
          "[vss:CVssWriter.Initialize][vss:limit.freeze-to-thaw-60s][vss:VSS_SM.ALL]") {
  CHECK(subscribe::kAll == 6);
  FakeCoordinator coordinator;
  Recorder recorder;
  const auto refused = [&](const writer::Options& options) {
    const auto session = writer::Session::connect(recorder, options);
    REQUIRE_FALSE(session);
    return session.error();
  };
  writer::Options options = options_for(coordinator);
  options.class_id = {};
  CHECK_THAT(refused(options).context, Catch::Contains("class_id"));
  options = options_for(coordinator);
  options.name.clear();
  CHECK_THAT(refused(options).context, Catch::Contains("name"));
  options = options_for(coordinator);
  options.freeze_window = 61s;
  CHECK_THAT(refused(options).context, Catch::Contains("freeze_window"));
  options = options_for(coordinator);
  options.connect_limit = 0ms;
  CHECK_THAT(refused(options).context, Catch::Contains("connect_limit"));
  options = options_for(coordinator);
  options.level = ApplicationLevel::unknown;
  CHECK_THAT(refused(options).context, Catch::Contains("level"));
  options = options_for(coordinator);
  for (const std::uint32_t subscription : {0U, 0x1U, 0x8U, 0xFFFFFFFFU}) {
    options = options_for(coordinator);
    options.subscription = subscription;
    CHECK_THAT(refused(options).context, Catch::Contains("subscription"));
  }
  options = options_for(coordinator);
  options.stop_limit = 0ms;
  CHECK_THAT(refused(options).context, Catch::Contains("stop_limit"));
  options = options_for(coordinator);
  options.socket_path += ".none";
  CHECK(refused(options).code == Errc::coordinator_lost);
  coordinator.refusal = Error{Errc::access_denied, "not in the group umbra-writer"};
  CHECK(refused(options_for(coordinator)).code == Errc::access_denied);
  coordinator.refusal.reset();
  coordinator.hello.major = 99;
  CHECK(refused(options_for(coordinator)).code == Errc::version_mismatch);
}

TEST_CASE("without umbrad a writer may wait for it") {
  FakeCoordinator coordinator;
  Recorder recorder;
  writer::Options options = options_for(coordinator);
  options.socket_path += ".none";
  options.coordinator_required = false;
  std::vector<std::string> lines;
  options.log = [&](LogLevel, std::string_view line) { lines.emplace_back(line); };
  auto session = writer::Session::connect(recorder, options);
  REQUIRE(session);
  CHECK_FALSE(session->is_registered());
  CHECK(session->instance_id().is_nil());
  CHECK(session->stop());
  REQUIRE(lines.size() == 1);
  CHECK_THAT(lines[0], Catch::Contains("trying again"));
}

TEST_CASE("a machine without a thread left is an error of the call, and ends no process") {
  FakeCoordinator coordinator;
  Recorder recorder;
  {
    const test::NoThreads none;
    const auto refused = writer::Session::connect(recorder, options_for(coordinator));
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == Errc::out_of_memory);
  }
  auto session = writer::Session::connect(recorder, options_for(coordinator));
  REQUIRE(session);
  {
    const test::NoThreads none;
    const auto reply = coordinator.call("writer.prepare_for_snapshot", kSession);
    REQUIRE(reply);
    CHECK_FALSE(reply->ok);
    CHECK(reply->failure == Errc::writererror_outofresources);
    CHECK(coordinator.call("writer.abort", kSession));
  }
  CHECK(recorder.events == Events{});
  const SessionId next{Guid{{10}}};
  CHECK(coordinator.call("writer.prepare_for_snapshot", next)->ok);
  CHECK(coordinator.call("writer.abort", next)->ok);
  CHECK(session->stop());
}

TEST_CASE("after fork the child is refused and its destructor does nothing") {
  FakeCoordinator coordinator;
  Recorder recorder;
  auto session = writer::Session::connect(recorder, options_for(coordinator));
  REQUIRE(session);
  const pid_t child = ::fork();
  if (child == 0) {
    const bool refused = session->run().error().code == Errc::bad_state &&
                         session->stop().error().code == Errc::bad_state;
    session->request_stop();
    { const writer::Session moved(std::move(*session)); }
    ::_exit(refused ? 0 : 1);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
  CHECK(coordinator.call("writer.prepare_for_snapshot", kSession)->ok);
}

}  // namespace
