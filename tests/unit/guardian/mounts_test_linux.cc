// SPDX-License-Identifier: Apache-2.0
//
// Which mounts are found for a device: hidden ones, and those of other mount namespaces.
#include "provider/guardian/mounts_linux.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <filesystem>

#include "provider/contract/ports.h"
#include "tests/support/catch.h"
#include "tests/support/skip.h"
#include "tests/unit/guardian/guardian_unit_linux.h"

namespace umbra::guardian {
namespace {

using test::Ext4;
using test::ScratchDirectory;

// A process in a mount namespace of its own, in which what was mounted before is still mounted.
class Elsewhere {
 public:
  Elsewhere() {
    std::array<int, 2> ready{-1, -1};
    REQUIRE(pipe2(ready.data(), O_CLOEXEC) == 0);
    pid_ = fork();
    if (pid_ == 0) {
      // What the test has open would keep its mounts busy here.
      (void)dup2(ready[1], 3);
      (void)close_range(4, ~0U, 0);
      const bool moved = unshare(CLONE_NEWNS) == 0 &&
                         mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0;
      const char answer = moved ? 'y' : 'n';
      (void)!write(3, &answer, 1);
      for (;;) (void)pause();
    }
    char answer = 0;
    REQUIRE(read(ready[0], &answer, 1) == 1);
    (void)close(ready[0]);
    (void)close(ready[1]);
    REQUIRE(answer == 'y');
  }
  ~Elsewhere() {
    (void)kill(pid_, SIGKILL);
    (void)waitpid(pid_, nullptr, 0);
  }
  Elsewhere(const Elsewhere&) = delete;
  Elsewhere& operator=(const Elsewhere&) = delete;
  [[nodiscard]] std::string root() const { return "/proc/" + std::to_string(pid_) + "/root"; }

 private:
  pid_t pid_ = -1;
};

TEST_CASE("a device without a mount, and one that does not exist, have none", "[guardian]") {
  const auto mounts = open_mounts({0xFFFFFF, contract::kFreezeBarrier, 0xFFFFFE}, Depth::stacked);
  REQUIRE(mounts);
  CHECK(mounts->empty());
}

TEST_CASE("each file system is opened once, and barriers make groups", "[guardian]") {
  if (const auto missing = test::missing_loop_devices()) return test::skip(*missing);
  const ScratchDirectory scratch;
  const Ext4 a(scratch.path(), "a");
  const Ext4 b(scratch.path(), "b");
  const auto mounts = open_mounts(
      {a.device(), a.device(), contract::kFreezeBarrier, b.device(), a.device()}, Depth::stacked);
  REQUIRE(mounts);
  REQUIRE(mounts->size() == 2);
  CHECK((*mounts)[0].path == a.mount_path());
  CHECK((*mounts)[0].group == 0);
  CHECK((*mounts)[1].device == b.device());
  CHECK((*mounts)[1].group == 1);
}

TEST_CASE("a mount that is hidden by another one is named, unless there is a second",
          "[guardian]") {
  if (const auto missing = test::missing_loop_devices()) return test::skip(*missing);
  const ScratchDirectory scratch;
  Ext4 volume(scratch.path(), "volume");
  REQUIRE(mount("none", volume.mount_path().c_str(), "tmpfs", 0, nullptr) == 0);
  const auto hidden = open_mounts({volume.device()}, Depth::stacked);
  CHECK_FALSE(hidden);
  if (!hidden) CHECK(hidden.error().code == Errc::freeze_failed);
  REQUIRE(umount(volume.mount_path().c_str()) == 0);

  const std::string second = (scratch.path() / "second").string();
  std::filesystem::create_directory(second);
  REQUIRE(mount(volume.mount_path().c_str(), second.c_str(), nullptr, MS_BIND, nullptr) == 0);
  REQUIRE(mount("none", second.c_str(), "tmpfs", 0, nullptr) == 0);
  const auto found = open_mounts({volume.device()}, Depth::stacked);
  CHECK(found);
  if (found) CHECK(found->size() == 1);
  (void)umount(second.c_str());
  (void)umount(second.c_str());
}

TEST_CASE("a file system that is mounted in another namespace only is found and frozen",
          "[guardian]") {
  if (const auto missing = test::missing_loop_devices()) return test::skip(*missing);
  const ScratchDirectory scratch;
  Ext4 volume(scratch.path(), "volume");
  const Elsewhere elsewhere;
  volume.unmount(false);
  auto mounts = open_mounts({volume.device()}, Depth::stacked);
  REQUIRE(mounts);
  REQUIRE(mounts->size() == 1);
  CHECK((*mounts)[0].path == elsewhere.root() + volume.mount_path());
  CHECK(ioctl((*mounts)[0].fd.get(), FIFREEZE, 0) == 0);
  CHECK(ioctl((*mounts)[0].fd.get(), FITHAW, 0) == 0);
}

}  // namespace
}  // namespace umbra::guardian
