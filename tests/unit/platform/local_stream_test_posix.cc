// SPDX-License-Identifier: Apache-2.0
#include "engine/platform/local_stream.h"

#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <string_view>

#include "engine/platform/run_dir.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

namespace {

using namespace umbra;
using test::TempDir;
using namespace std::chrono_literals;
namespace fs = std::filesystem;

// Sets a variable for one test.
struct Variable {
  Variable(const char* name_, const char* value) : name(name_) {
    const char* before = std::getenv(name);
    if (before != nullptr) old = before;
    if (value == nullptr) {
      ::unsetenv(name);
    } else {
      ::setenv(name, value, 1);
    }
  }
  ~Variable() {
    if (old) {
      ::setenv(name, old->c_str(), 1);
    } else {
      ::unsetenv(name);
    }
  }
  const char* name;
  std::optional<std::string> old;
};

TimePoint soon() { return system_clock().now() + 10s; }

TEST_CASE("a connection knows its peer and carries bytes both ways") {
  const TempDir dir;
  const std::string path = dir.path() / "s";
  auto listener = LocalListener::listen(path, 0600);
  REQUIRE(listener);
  CHECK_FALSE(*listener->accept());
  auto client = LocalStream::connect(path, soon());
  REQUIRE(client);
  auto accepted = listener->accept();
  REQUIRE((accepted && *accepted));
  LocalStream& server = **accepted;
  const auto peer = server.peer();
  REQUIRE(peer);
  CHECK(peer->pid == ::getpid());
  CHECK(peer->uid == ::geteuid());
  CHECK(peer->gid == ::getegid());
  std::array<gid_t, 1024> groups{};
  const int count = ::getgroups(static_cast<int>(groups.size()), groups.data());
  CHECK(peer->groups.size() == static_cast<std::size_t>(count));

  std::array<char, 16> buffer{};
  CHECK_FALSE(*server.read_some(buffer));
  CHECK(*client->write_some(std::string_view("hello")) == 5);
  CHECK(server.wait(false, nullptr, soon()).readable);
  CHECK(**server.read_some(buffer) == 5);
  client->close();
  CHECK(server.wait(false, nullptr, soon()).readable);
  CHECK(**server.read_some(buffer) == 0);
  CHECK(server.write_some(std::string_view("x")).error().code == Errc::coordinator_lost);
}

TEST_CASE("nobody listening is coordinator_lost") {
  const TempDir dir;
  CHECK(LocalStream::connect(dir.path() / "none", soon()).error().code == Errc::coordinator_lost);
}

TEST_CASE("an address that is too long is refused") {
  const std::string path = "/tmp/" + std::string(200, 'x');
  CHECK(LocalStream::connect(path, soon()).error().code == Errc::invalid_argument);
  CHECK(LocalListener::listen(path, 0600).error().code == Errc::invalid_argument);
}

TEST_CASE("two listeners never share a path, and one left behind is replaced") {
  const TempDir dir;
  const std::string path = dir.path() / "s";
  {
    auto first = LocalListener::listen(path, 0600);
    REQUIRE(first);
    CHECK(LocalListener::listen(path, 0600).error().code == Errc::object_already_exists);
  }
  CHECK_FALSE(fs::exists(path));
  {
    std::FILE* left = std::fopen(path.c_str(), "w");
    REQUIRE(left);
    std::fclose(left);
  }
  CHECK(LocalListener::listen(path, 0666));
}

TEST_CASE("a full backlog makes connecting wait until its deadline") {
  const TempDir dir;
  const std::string path = dir.path() / "s";
  auto listener = LocalListener::listen(path, 0600);
  REQUIRE(listener);
  std::vector<LocalStream> waiting;
  while (waiting.size() < 2000) {
    auto stream = LocalStream::connect(path, system_clock().now() + 50ms);
    if (!stream) {
      CHECK(stream.error().code == Errc::coordinator_lost);
      break;
    }
    waiting.push_back(std::move(*stream));
  }
  CHECK(waiting.size() < 2000);
}

TEST_CASE("a waker interrupts a wait and a deadline ends it") {
  auto ends = LocalStream::pair();
  auto waker = Waker::create();
  REQUIRE((ends && waker));
  const StreamReady nothing = ends->first.wait(false, &*waker, system_clock().now() + 5ms);
  CHECK_FALSE((nothing.readable || nothing.writable || nothing.woken));
  waker->wake();
  CHECK(ends->first.wait(false, &*waker, std::nullopt).woken);
  waker->drain();
  CHECK_FALSE(ends->first.wait(false, &*waker, system_clock().now()).woken);
  CHECK(ends->first.wait(true, nullptr, soon()).writable);
}

TEST_CASE("the run directory is what UMBRA_RUN_DIR says") {
  const TempDir dir;
  const Variable chosen("UMBRA_RUN_DIR", dir.path().c_str());
  CHECK(*default_run_dir() == dir.path());
  CHECK(*find_coordinator_socket() == (dir.path() / "umbrad.sock").string());
  const Variable relative("UMBRA_RUN_DIR", "run");
  CHECK(default_run_dir().error().code == Errc::invalid_argument);
  CHECK(find_coordinator_socket().error().code == Errc::invalid_argument);
}

TEST_CASE("a run directory is made for us alone, and one that is open to others is refused") {
  const TempDir dir;
  const std::string path = dir.path() / "a" / "b";
  REQUIRE(ensure_run_dir(path, false));
  REQUIRE(ensure_run_dir(path, false));
  CHECK((fs::status(path).permissions() & fs::perms::mask) == fs::perms::owner_all);
  fs::permissions(path, fs::perms::others_read, fs::perm_options::add);
  CHECK(ensure_run_dir(path, false).error().code == Errc::access_denied);
  CHECK(ensure_run_dir(path, true));
  fs::permissions(path, fs::perms::others_write, fs::perm_options::add);
  CHECK(ensure_run_dir(path, true).error().code == Errc::access_denied);
}

TEST_CASE("a link or a file in place of the run directory is refused") {
  const TempDir dir;
  fs::create_directory(dir.path() / "real");
  fs::create_directory_symlink(dir.path() / "real", dir.path() / "link");
  CHECK(ensure_run_dir(dir.path() / "link", false).error().code == Errc::access_denied);
  {
    std::FILE* file = std::fopen((dir.path() / "f").c_str(), "w");
    REQUIRE(file);
    std::fclose(file);
  }
  CHECK(ensure_run_dir(dir.path() / "f", false).error().code == Errc::access_denied);
  if (::geteuid() == 0) {
    fs::create_directory(dir.path() / "other");
    REQUIRE(::chown((dir.path() / "other").c_str(), 12345, 12345) == 0);
    CHECK(ensure_run_dir(dir.path() / "other", false).error().code == Errc::access_denied);
  }
}

}  // namespace
