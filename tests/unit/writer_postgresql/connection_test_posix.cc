// SPDX-License-Identifier: Apache-2.0
//
// A server that does not answer is given up at the limit, in whichever state it stopped answering.

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <filesystem>
#include <string>
#include <thread>

#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"
#include "writer-sdk/writers/postgresql/connection.h"

using namespace std::chrono_literals;
using umbra::Errc;
using umbra::test::TempDir;
using namespace umbra::postgresql;
namespace fs = std::filesystem;

namespace {

constexpr auto kLimit = 300ms;
constexpr auto kGenerous = 20s;  // Far beyond the limit: a wait without one would pass it.

// Listens like a postmaster. Then says `answer` to whoever comes, and nothing more.
class FakeServer {
 public:
  explicit FakeServer(std::string answer, bool accepts = true) : answer_(std::move(answer)) {
    socket_ = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const auto path = fs::path(dir_.path()) / ".s.PGSQL.5432";
    std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
    // NOLINTNEXTLINE(cppcoreguidelines-pro-type-reinterpret-cast)
    REQUIRE(::bind(socket_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    REQUIRE(::listen(socket_, 5) == 0);
    if (accepts) thread_ = std::thread([this] { serve(); });
  }
  ~FakeServer() {
    end_ = true;
    if (thread_.joinable()) thread_.join();
    ::close(socket_);
  }
  FakeServer(const FakeServer&) = delete;
  FakeServer& operator=(const FakeServer&) = delete;

  Target target() const {
    return *parse_target(fs::path(dir_.path()).string() + ":5432", "somebody", "");
  }

 private:
  void serve() {
    int client = -1;
    while (!end_) {
      pollfd entry{socket_, POLLIN, 0};
      if (client >= 0 || ::poll(&entry, 1, 10) <= 0) continue;
      client = ::accept(socket_, nullptr, nullptr);
      char startup[1024];
      (void)!::read(client, startup, sizeof startup);
      // It may have given up already.
      (void)!::send(client, answer_.data(), answer_.size(), MSG_NOSIGNAL);
    }
    if (client >= 0) ::close(client);
  }

  TempDir dir_;
  std::string answer_;
  int socket_ = -1;
  std::atomic<bool> end_ = false;
  std::thread thread_;
};

void check_given_up(const FakeServer& server, const Limit& limit, const std::string& part) {
  const auto begin = std::chrono::steady_clock::now();
  const auto connection = Connection::open(server.target(), limit, 1s);
  CHECK(std::chrono::steady_clock::now() - begin < kGenerous);
  REQUIRE_FALSE(connection.has_value());
  CAPTURE(connection.error().context);
  CHECK(connection.error().code == Errc::writererror_retryable);
  CHECK(connection.error().context.find(part) != std::string::npos);
}

// AuthenticationOk, then ReadyForQuery: a session that accepts a query and never answers it.
const std::string kWelcome("R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I", 15);

}  // namespace

TEST_CASE("a postmaster that does not accept is given up") {
  const FakeServer server("", false);
  check_given_up(server, Limit::in(kLimit), "no answer to the connection");
}

TEST_CASE("a server that accepts and is silent is given up") {
  const FakeServer server("");
  check_given_up(server, Limit::in(kLimit), "no answer to the connection");
}

TEST_CASE("a server that stops answering after the welcome is given up") {
  const FakeServer server(kWelcome);
  check_given_up(server, Limit::in(kLimit), "no answer within the time limit");
}

TEST_CASE("a wait that has become pointless ends at once") {
  const FakeServer server(kWelcome);
  check_given_up(server, Limit::in(1h, [] { return true; }), "no answer");
}

TEST_CASE("a server that talks nonsense is an error, not a wait") {
  const FakeServer server("HTTP/1.1 400 Bad Request\r\n\r\n");
  check_given_up(server, Limit::in(kGenerous), "");
}

TEST_CASE("no server is an error with libpq's words") {
  const TempDir dir;
  const auto target = parse_target(fs::path(dir.path()).string() + ":5432", "somebody", "");
  const auto connection = Connection::open(*target, Limit::in(kLimit), 1s);
  REQUIRE_FALSE(connection.has_value());
  CHECK(connection.error().code == Errc::writererror_retryable);
  CHECK(connection.error().context.find("No such file or directory") != std::string::npos);
}
