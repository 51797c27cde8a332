// SPDX-License-Identifier: Apache-2.0
//
// The client against a guardian that the test plays, for what a real one does not do.
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <future>
#include <stop_token>
#include <thread>

#include "provider/guardian/channel_linux.h"
#include "provider/guardian/client.h"
#include "tests/support/catch.h"

namespace umbra::guardian {
namespace {

using namespace std::chrono_literals;

// Answers each request until the client closes its end; `answer` may change the reply.
class FakeGuardian {
 public:
  using Answer = std::function<void(const Message& request, Message& reply, int socket)>;

  explicit FakeGuardian(Answer answer) {
    auto channel = make_channel().value();
    client_end = std::move(channel.second);
    thread_ = std::thread([socket = std::move(channel.first), answer] {
      for (;;) {
        pollfd source{socket.get(), POLLIN, 0};
        (void)poll(&source, 1, -1);
        Received received;
        const auto arrival = receive(socket.get(), received);
        if (!arrival || *arrival == Arrival::end) return;
        if (*arrival == Arrival::nothing) continue;
        Message reply{.kind = Kind::reply, .id = received.message.id};
        answer(received.message, reply, socket.get());
        if (reply.id != 0) (void)send(socket.get(), reply);
        if (reply.flag) return;  // The guardian ends.
      }
    });
  }
  ~FakeGuardian() { thread_.join(); }
  FakeGuardian(const FakeGuardian&) = delete;
  FakeGuardian& operator=(const FakeGuardian&) = delete;

  UniqueFd client_end;

 private:
  std::thread thread_;
};

Errc connect_code(FakeGuardian& guardian) {
  auto client = GuardianClient::connect(std::move(guardian.client_end), null_log());
  return client ? Errc::ok : client.error().code;
}

TEST_CASE("a descriptor that is none, or whose guardian is gone, is told at once", "[guardian]") {
  CHECK(GuardianClient::connect(UniqueFd{}, null_log()).error().code == Errc::invalid_argument);
  auto channel = make_channel().value();
  channel.first.reset();
  CHECK(GuardianClient::connect(std::move(channel.second), null_log()).error().code ==
        Errc::coordinator_lost);
}

TEST_CASE("a guardian that ends instead of answering is gone", "[guardian]") {
  FakeGuardian guardian([](const auto&, Message& reply, int) {
    reply.id = 0;
    reply.flag = true;
  });
  CHECK(connect_code(guardian) == Errc::coordinator_lost);
}

TEST_CASE("a guardian of another version refuses, and the client says so", "[guardian]") {
  FakeGuardian guardian([](const auto&, Message& reply, int) {
    reply.code = Errc::version_mismatch;
    reply.texts = {"guardian protocol version 2, this program speaks 1"};
  });
  CHECK(connect_code(guardian) == Errc::version_mismatch);
}

TEST_CASE("what is not the guardian's protocol counts as a lost guardian", "[guardian]") {
  FakeGuardian guardian([](const auto&, Message& reply, int socket) {
    (void)::send(socket, "garbage", 7, MSG_NOSIGNAL);
    reply.id = 0;
  });
  CHECK(connect_code(guardian) == Errc::coordinator_lost);
}

TEST_CASE("answers that nobody waits for change nothing", "[guardian]") {
  FakeGuardian guardian([](const auto&, const Message& reply, int socket) {
    Message stray = reply;
    stray.id += 1000;
    (void)send(socket, stray);
  });
  auto client = GuardianClient::connect(std::move(guardian.client_end), null_log());
  REQUIRE(client);
  CHECK((*client)->drop("x"));
  CHECK((*client)->connected());
}

TEST_CASE("a freeze that comes without its holder is an error", "[guardian]") {
  FakeGuardian guardian([](const auto&, const auto&, int) {});
  auto client = GuardianClient::connect(std::move(guardian.client_end), null_log());
  REQUIRE(client);
  const auto set = SnapshotSetId::random();
  CHECK((*client)->freeze(set, {1}, 100ms, 100ms, {}).error().code == Errc::protocol_violation);
  CHECK((*client)->thaw(set)->held_throughout);  // Nothing was frozen as far as we know.
}

TEST_CASE("what the guardian refuses reaches the caller with its text", "[guardian]") {
  FakeGuardian guardian([](const Message& request, Message& reply, int) {
    if (request.kind == Kind::hello) return;
    reply.code = Errc::limit_reached;
    reply.texts = {"too many"};
  });
  auto client = GuardianClient::connect(std::move(guardian.client_end), null_log());
  REQUIRE(client);
  CHECK((*client)->flush({1}, 1s, {}).error() == Error{Errc::limit_reached, "too many"});
  CHECK((*client)->keep("name", 0, "").error() == Error{Errc::limit_reached, "too many"});
  CHECK((*client)->kept().error().code == Errc::limit_reached);
}

TEST_CASE("a request that is stopped ends at once and is cancelled", "[guardian]") {
  std::atomic<std::uint32_t> asked{0};
  std::atomic<std::uint64_t> cancelled{0};
  FakeGuardian guardian([&](const Message& request, Message& reply, int) {
    if (request.kind == Kind::hello) return;
    if (request.kind == Kind::cancel) cancelled = request.devices.at(0);
    if (request.kind == Kind::flush || request.kind == Kind::freeze) {
      asked = request.id;
      reply.id = 0;  // Never answered.
    }
  });
  auto client = GuardianClient::connect(std::move(guardian.client_end), null_log());
  REQUIRE(client);
  std::stop_source stop;
  const auto freezing = GENERATE(false, true);
  auto call = std::async(std::launch::async, [&] {
    return freezing ? (*client)->freeze(SnapshotSetId::random(), {1}, 60s, 60s, stop.get_token())
                    : (*client)->flush({1}, 60s, stop.get_token());
  });
  while (asked == 0) std::this_thread::yield();
  CHECK(stop.request_stop());
  REQUIRE(call.wait_for(20s) == std::future_status::ready);
  CHECK(call.get().error().code == Errc::bad_state);
  CHECK((*client)->drop("x"));  // What was sent before has been read.
  CHECK(cancelled == asked);
  // One that was stopped before it began.
  CHECK((*client)->flush({1}, 60s, stop.get_token()).error().code == Errc::bad_state);
}

TEST_CASE("keep checks its arguments before it asks", "[guardian]") {
  FakeGuardian guardian([](const auto&, const auto&, int) {});
  auto client = GuardianClient::connect(std::move(guardian.client_end), null_log());
  REQUIRE(client);
  CHECK((*client)->keep("", 0, "").error().code == Errc::invalid_argument);
  CHECK((*client)->keep(std::string(kKeptNameBytesMax + 1, 'x'), 0, "").error().code ==
        Errc::invalid_argument);
  CHECK((*client)->keep("x", 0, std::string(kKeptPayloadBytesMax + 1, 'x')).error().code ==
        Errc::invalid_argument);
  CHECK((*client)->keep("x", 0, std::string(kKeptPayloadBytesMax, 'x')));
}

TEST_CASE("a holder that dies is thawed for, without mounts at once", "[guardian]") {
  FakeGuardian guardian([](const Message& request, Message& reply, int socket) {
    if (request.kind != Kind::freeze) return;
    auto holder = make_channel().value();
    const int fd = holder.second.get();
    (void)send(socket, reply, {&fd, 1});
    reply.id = 0;
  });
  auto client = GuardianClient::connect(std::move(guardian.client_end), null_log());
  REQUIRE(client);
  const auto set = SnapshotSetId::random();
  REQUIRE((*client)->freeze(set, {1}, 100ms, 60s, {}));
  CHECK((*client)->thaw(set)->held_throughout);
}

}  // namespace
}  // namespace umbra::guardian
