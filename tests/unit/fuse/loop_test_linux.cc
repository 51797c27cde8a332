// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "engine/platform/unique_fd.h"
#include "provider/frontend/fuse/loop.h"
#include "tests/support/catch.h"
#include "tests/support/skip.h"
#include "tests/support/temp_dir.h"

using namespace umbra;
using namespace umbra::fuse;

namespace {

struct Backing {
  Backing() {
    std::ofstream(path).put(' ');
    std::filesystem::resize_file(path, 1U << 20U);
  }
  ~Backing() { (void)detach_loop(path); }
  test::TempDir dir;
  std::string path = dir / "image";
};

}  // namespace

TEST_CASE("a loop device is attached once, found again and detached", "[loop]") {
  if (auto reason = test::missing_loop_devices()) return test::skip(*reason);
  Backing backing;
  const auto path = attach_loop(backing.path, {});
  REQUIRE(path);
  CHECK(attach_loop(backing.path, {}).value() == *path);
  CHECK(find_loop(backing.path) == *path);
  CHECK(list_loops_below(backing.dir.path().string()) == std::vector<std::string>{*path});
  CHECK(list_loops_below("/nonexistent").empty());
  {
    const UniqueFd loop(::open(path->c_str(), O_RDWR | O_CLOEXEC));
    std::uint64_t size = 0;
    REQUIRE(::ioctl(loop.get(), BLKGETSIZE64, &size) == 0);
    CHECK(size == 1U << 20U);
    const auto name = std::filesystem::path(*path).filename().string();
    std::string discard;
    std::ifstream("/sys/block/" + name + "/queue/discard_max_bytes") >> discard;
    CHECK(discard == "0");
  }
  REQUIRE(detach_loop(backing.path));
  CHECK_FALSE(find_loop(backing.path));
  CHECK(detach_loop(backing.path));  // Idempotent.
}

TEST_CASE("a read-only loop device refuses writes", "[loop]") {
  if (auto reason = test::missing_loop_devices()) return test::skip(*reason);
  Backing backing;
  const auto path = attach_loop(backing.path, {512, true});
  REQUIRE(path);
  const UniqueFd loop(::open(path->c_str(), O_RDWR | O_CLOEXEC));
  int read_only = 0;
  if (loop) {
    REQUIRE(::ioctl(loop.get(), BLKROGET, &read_only) == 0);
    CHECK(read_only == 1);
  }
}

TEST_CASE("a loop device that is open elsewhere is not detached", "[loop]") {
  if (auto reason = test::missing_loop_devices()) return test::skip(*reason);
  Backing backing;
  const auto path = attach_loop(backing.path, {});
  REQUIRE(path);
  {
    const UniqueFd holder(::open(path->c_str(), O_RDWR | O_EXCL | O_CLOEXEC));
    REQUIRE(holder);
    const auto refused = detach_loop(backing.path);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == Errc::volume_in_use);
    CHECK(refused.error().context == *path + " is mounted or in use");
  }
  CHECK(detach_loop(backing.path));
}

TEST_CASE("a missing backing file is named", "[loop]") {
  if (auto reason = test::missing_loop_devices()) return test::skip(*reason);
  const auto path = attach_loop("/nonexistent/image", {});
  REQUIRE_FALSE(path);
  CHECK(path.error().code == Errc::object_not_found);
  CHECK(path.error().context == "cannot open /nonexistent/image: No such file or directory");
}
