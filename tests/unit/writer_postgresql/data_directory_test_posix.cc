// SPDX-License-Identifier: Apache-2.0
//
// A data directory as its files show it.

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>

#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"
#include "writer-sdk/writers/postgresql/data_directory.h"

using umbra::Errc;
using umbra::test::TempDir;
using namespace umbra::postgresql;
namespace fs = std::filesystem;

namespace {

void write(const fs::path& path, const std::string& content) {
  std::ofstream(path, std::ios::binary) << content;
}

std::string control(std::uint64_t identifier, std::uint32_t version, std::uint32_t catalog) {
  std::string bytes(16, '\0');
  std::memcpy(bytes.data(), &identifier, 8);
  std::memcpy(bytes.data() + 8, &version, 4);
  std::memcpy(bytes.data() + 12, &catalog, 4);
  return bytes;
}

// The skeleton of a cluster: WAL and a tablespace elsewhere.
struct Skeleton {
  Skeleton() {
    for (const char* directory : {"data/global", "data/base", "data/pg_tblspc", "wal", "fast"}) {
      fs::create_directories(top() / directory);
    }
    fs::create_directory_symlink(top() / "wal", data() / "pg_wal");
    fs::create_directory_symlink(top() / "fast", data() / "pg_tblspc/16385");
    write(data() / "PG_VERSION", "15\n");
    write(data() / "global/pg_control", control(7711, 1300, 202209061));
  }
  fs::path top() const { return fs::canonical(fs::path(dir.path())); }
  fs::path data() const { return top() / "data"; }

  TempDir dir;
};

}  // namespace

TEST_CASE("links lead to the WAL and the tablespaces") {
  const Skeleton cluster;
  const auto layout = read_layout(cluster.data().string());
  REQUIRE(layout);
  CHECK(layout->data == cluster.data().string());
  CHECK(layout->wal == (cluster.top() / "wal").string());
  CHECK(layout->wal_is_elsewhere());
  REQUIRE(layout->tablespaces.size() == 1);
  CHECK(layout->tablespaces[0].oid == "16385");
  CHECK(layout->tablespaces[0].location == (cluster.top() / "fast").string());
  CHECK(layout->directories == std::vector<std::string>{"base", "global", "pg_tblspc"});
  CHECK(layout->tablespace_directory == "PG_15_202209061");
  CHECK(read_control_file(layout->data)->system_identifier == "7711");
}

TEST_CASE("what is no data directory is named") {
  const auto check_refused = [](const auto& result, const std::string& part) {
    REQUIRE_FALSE(result.has_value());
    CAPTURE(result.error().context);
    CHECK(result.error().code == Errc::writererror_nonretryable);
    CHECK(result.error().context.find(part) != std::string::npos);
  };
  const Skeleton cluster;
  check_refused(read_layout((cluster.top() / "nowhere").string()), "nowhere");
  write(cluster.data() / "global/pg_control", control(7711, 0x14050000, 1));
  check_refused(read_layout(cluster.data().string()), "no control file of this machine");
  write(cluster.data() / "global/pg_control", "short");
  check_refused(read_layout(cluster.data().string()), "too short");
  write(cluster.data() / "PG_VERSION", "9.6\n");
  check_refused(read_major_version(cluster.data().string()), "no version");
  fs::remove(cluster.data() / "pg_wal");
  check_refused(read_layout(cluster.data().string()), "pg_wal");
}

TEST_CASE("a server runs on a directory if its process lives and works there") {
  const Skeleton cluster;
  const auto data = cluster.data().string();
  CHECK_FALSE(running_postmaster(data));
  write(cluster.data() / "postmaster.pid", std::to_string(::getpid()) + "\n" + data + "\n");
  CHECK_FALSE(running_postmaster(data));  // This process works elsewhere.
  CHECK(running_postmaster(fs::current_path().string()) == std::nullopt);
  const auto before = fs::current_path();
  fs::current_path(data);
  CHECK(running_postmaster(data) == ::getpid());
  fs::current_path(before);
  write(cluster.data() / "postmaster.pid", "999999999\n");
  CHECK_FALSE(running_postmaster(data));
  write(cluster.data() / "postmaster.pid", "garbage");
  CHECK_FALSE(running_postmaster(data));
}

TEST_CASE("sockets in a directory are found, their lock files are not") {
  const TempDir dir;
  const int socket = ::socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const auto path = fs::path(dir.path()) / ".s.PGSQL.5433";
  std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-reinterpret-cast)
  REQUIRE(::bind(socket, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  write(fs::path(dir.path()) / ".s.PGSQL.5433.lock", "1\n");
  write(fs::path(dir.path()) / ".s.PGSQL.5434", "no socket");
  CHECK(socket_ports(fs::path(dir.path()).string()) == std::vector<std::string>{"5433"});
  CHECK(socket_ports("/nowhere").empty());
  ::close(socket);
}
