// SPDX-License-Identifier: Apache-2.0
#include "requester-sdk/src/link.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <thread>

#include "engine/platform/local_stream.h"
#include "engine/rpc/peer.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"
#include "umbra/requester/client.h"

namespace {

using namespace umbra;
using namespace umbra::requester;
using namespace std::chrono_literals;

// A server of one connection in a thread: answers each request by `serve`, or not at all.
struct Server {
  using Serve = std::function<std::optional<Result<rpc::Json>>(const std::string& method)>;
  explicit Server(Serve serve_) : serve(std::move(serve_)) {
    options.socket_path = directory / "s";
    auto listening = LocalListener::listen(options.socket_path, 0600);
    REQUIRE(listening);
    listener.emplace(std::move(*listening));
    auto made = Waker::create();
    REQUIRE(made);
    waker.emplace(std::move(*made));
    thread = std::thread([this] { run(); });
  }
  ~Server() {
    stopping = true;
    waker->wake();
    thread.join();
    listener.reset();
  }
  void run() {
    LocalStream stream;
    rpc::Peer peer;
    std::array<char, 4096> buffer{};
    while (!stopping) {
      if (!stream.is_open()) {
        auto accepted = listener->accept();
        if (accepted && *accepted) stream = std::move(**accepted);
        if (!stream.is_open()) {
          static_cast<void>(stream.wait(false, &*waker, system_clock().now() + 2ms));
          continue;
        }
      }
      static_cast<void>(stream.wait(false, &*waker, std::nullopt));
      const auto count = stream.read_some(buffer);
      if (!count || !*count) continue;
      if (**count == 0) return;
      static_cast<void>(peer.feed({buffer.data(), **count}));
      while (auto event = peer.next()) {
        auto* request = std::get_if<rpc::IncomingRequest>(&*event);
        if (request == nullptr) continue;
        if (const auto result = serve(request->method)) {
          static_cast<void>(peer.reply(request->id, *result));
          static_cast<void>(stream.write_some(peer.take_output()));
        } else {
          stream.close();
          return;
        }
      }
    }
  }
  Serve serve;
  test::TempDir directory;
  ConnectOptions options;
  std::optional<LocalListener> listener;
  std::optional<Waker> waker;
  std::atomic<bool> stopping{false};
  std::thread thread;
};

Result<rpc::Json> hello() { return rpc::encode(rpc::HelloReply{}); }

TEST_CASE("a client asks over the wire and gets typed answers") {
  Server server([](const std::string& method) -> std::optional<Result<rpc::Json>> {
    if (method == "hello") return hello();
    if (method == "query.writers") {
      rpc::WriterEntryList list;
      list.writers.emplace_back().name = "w";
      list.writers[0].freeze_window_ms = 5;
      return rpc::encode(list);
    }
    if (method == "coordinator.status") {
      rpc::CoordinatorStatus status;
      status.uptime_s = ~std::uint64_t{0};
      return rpc::encode(status);
    }
    return fail(Errc::not_implemented, method);
  });
  auto client = Client::connect(server.options);
  REQUIRE(client);
  CHECK(client->list_writers()->at(0).freeze_window == 5ms);
  CHECK(client->status()->uptime > 1h);
  CHECK(client->list_volumes().error().code == Errc::not_implemented);
  CHECK(client->delete_snapshots({}, ObjectType::provider).error().code == Errc::invalid_argument);
}

TEST_CASE("connecting tells what is wrong",
          "[vss:function.CreateVssBackupComponents][vss:E_ACCESSDENIED]") {
  ConnectOptions nowhere;
  nowhere.socket_path = "/tmp/umbra-no-such-socket";
  CHECK(Client::connect(nowhere).error().code == Errc::coordinator_lost);
  nowhere.connect_limit = 0ms;
  CHECK(Client::connect(nowhere).error().code == Errc::invalid_argument);
  {
    Server server([](const std::string&) { return fail(Errc::access_denied, "no role"); });
    CHECK(Client::connect(server.options).error().code == Errc::access_denied);
  }
  Server server([](const std::string&) {
    rpc::HelloReply reply;
    reply.major = 99;
    return rpc::encode(reply);
  });
  CHECK(Client::connect(server.options).error().code == Errc::version_mismatch);
}

TEST_CASE("when umbrad goes, this call and all later ones are coordinator_lost") {
  Server server([](const std::string& method) -> std::optional<Result<rpc::Json>> {
    if (method == "hello") return hello();
    return std::nullopt;
  });
  auto client = Client::connect(server.options);
  CHECK(client->list_volumes().error().code == Errc::coordinator_lost);
  CHECK(client->list_volumes().error().code == Errc::coordinator_lost);
}

TEST_CASE("an answer of the wrong form is a protocol violation with its place") {
  Server server([](const std::string& method) -> std::optional<Result<rpc::Json>> {
    if (method == "hello") return hello();
    return rpc::Json(5);
  });
  auto client = Client::connect(server.options);
  const auto list = client->list_volumes();
  CHECK(list.error().code == Errc::protocol_violation);
  CHECK_THAT(list.error().context, Catch::Contains("volume.list"));
}

TEST_CASE("after fork a client is refused in the child") {
  Server server([](const std::string&) { return hello(); });
  auto client = Client::connect(server.options);
  REQUIRE(client);
  const pid_t child = ::fork();
  if (child == 0) ::_exit(client->list_volumes().error().code == Errc::bad_state ? 0 : 1);
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
  CHECK(client->list_volumes());
}

TEST_CASE("a volume is named by id, by name or by a path of this namespace") {
  const VolumeId id = VolumeId::random();
  CHECK(resolve_volume(id.to_string())->id == id);
  CHECK(resolve_volume("data")->name == "data");
  struct stat status {};
  REQUIRE(::stat("/", &status) == 0);
  CHECK(resolve_volume("/")->device == status.st_dev);
  CHECK(resolve_volume("/no/such/path").error().code == Errc::object_not_found);
  CHECK(resolve_volume("").error().code == Errc::invalid_argument);
}

}  // namespace
