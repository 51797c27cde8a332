// SPDX-License-Identifier: Apache-2.0
#include "provider/guardian/record_linux.h"

#include <unistd.h>

#include <fstream>

#include "tests/support/catch.h"

namespace umbra::guardian {
namespace {

namespace fs = std::filesystem;

struct Directory {
  Directory() : path(fs::temp_directory_path() / ("umbra-record-" + std::to_string(getpid()))) {
    fs::create_directory(path);
  }
  ~Directory() { fs::remove_all(path); }
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;
  fs::path path;
};

std::vector<Mount> two_mounts() {
  std::vector<Mount> mounts;
  mounts.push_back({.device = 1794, .path = "/mnt/a b\nfrozen 7 /x"});
  mounts.push_back({.device = 0x10300001, .path = "/mnt/c"});
  return mounts;
}

TEST_CASE("a record names the devices of its mounts, whatever their paths", "[guardian]") {
  const Directory directory;
  REQUIRE(write_record(directory.path / "set", two_mounts()));
  const auto leftovers = find_leftovers(directory.path);
  REQUIRE(leftovers.size() == 1);
  CHECK(leftovers[0].path == (directory.path / "set").string());
  CHECK(leftovers[0].devices == std::vector<std::uint64_t>{1794, 0x10300001});
}

TEST_CASE("a record of an older boot and a file that is none name no devices", "[guardian]") {
  const Directory directory;
  std::ofstream(directory.path / "old") << "boot 1b2c3d4e\nfrozen 1794 /mnt/a\n";
  std::ofstream(directory.path / "junk") << "frozen 1794 /mnt/a\n";
  for (const auto& leftover : find_leftovers(directory.path)) CHECK(leftover.devices.empty());
  CHECK(find_leftovers(directory.path).size() == 2);
  CHECK(find_leftovers(directory.path / "absent").empty());
}

TEST_CASE("a record that cannot be written is an error and leaves nothing", "[guardian]") {
  const Directory directory;
  const auto written = write_record(directory.path / "absent" / "set", two_mounts());
  REQUIRE_FALSE(written);
  CHECK(written.error().code == Errc::io_error);
  CHECK(fs::is_empty(directory.path));
}

}  // namespace
}  // namespace umbra::guardian
