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
#include <fstream>
#include <future>

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
  explicit Elsewhere(const std::string& root = "/") {
    std::array<int, 2> ready{-1, -1};
    REQUIRE(pipe2(ready.data(), O_CLOEXEC) == 0);
    pid_ = fork();
    if (pid_ == 0) {
      // What the test has open would keep its mounts busy here.
      (void)dup2(ready[1], 3);
      (void)close_range(4, ~0U, 0);
      const bool moved = unshare(CLONE_NEWNS) == 0 &&
                         mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
                         chroot(root.c_str()) == 0 && chdir("/") == 0;
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
  const auto mounts = open_mounts({0xFFFFFF, 0xFFFFFE}, Depth::stacked);
  REQUIRE(mounts);
  CHECK(mounts->mounts.empty());
  CHECK(mounts->unreachable.empty());
  CHECK(mounts->unmounted.size() == 2);
}

TEST_CASE("each file system is opened once, in the order of the devices", "[guardian]") {
  if (const auto missing = test::missing_loop_devices()) return test::skip(*missing);
  const ScratchDirectory scratch;
  const Ext4 a(scratch.path(), "a");
  const Ext4 b(scratch.path(), "b");
  const auto mounts = open_mounts({a.device(), a.device(), b.device(), a.device()}, Depth::stacked);
  REQUIRE(mounts);
  const auto& found = mounts->mounts;
  REQUIRE(found.size() == 2);
  CHECK(found[0].path == a.mount_path());
  CHECK(found[1].device == b.device());
}

TEST_CASE("a mount that is hidden by another one is named, unless there is a second",
          "[guardian]") {
  if (const auto missing = test::missing_loop_devices()) return test::skip(*missing);
  const ScratchDirectory scratch;
  Ext4 volume(scratch.path(), "volume");
  REQUIRE(mount("none", volume.mount_path().c_str(), "tmpfs", 0, nullptr) == 0);
  const auto hidden = open_mounts({volume.device()}, Depth::stacked);
  CHECK(hidden->mounts.empty());
  CHECK(
      hidden->unreachable ==
      std::vector{Error{Errc::freeze_failed, volume.mount_path() + " is hidden by another mount"}});
  REQUIRE(umount(volume.mount_path().c_str()) == 0);

  const std::string second = (scratch.path() / "second").string();
  std::filesystem::create_directory(second);
  REQUIRE(mount(volume.mount_path().c_str(), second.c_str(), nullptr, MS_BIND, nullptr) == 0);
  REQUIRE(mount("none", second.c_str(), "tmpfs", 0, nullptr) == 0);
  const auto found = open_mounts({volume.device()}, Depth::stacked);
  CHECK(found->mounts.size() == 1);
  CHECK(found->unreachable.empty());
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
  REQUIRE(mounts->mounts.size() == 1);
  const auto& mount = mounts->mounts[0];
  CHECK(mount.path == elsewhere.root() + volume.mount_path());
  CHECK(ioctl(mount.fd.get(), FIFREEZE, 0) == 0);
  CHECK(ioctl(mount.fd.get(), FITHAW, 0) == 0);
}

TEST_CASE("another namespace is searched from its top, whoever's root is elsewhere", "[guardian]") {
  if (const auto missing = test::missing_loop_devices()) return test::skip(*missing);
  const ScratchDirectory scratch;
  Ext4 volume(scratch.path(), "volume");
  const std::string cell = (scratch.path() / "cell").string();
  std::filesystem::create_directory(cell);
  const Elsewhere elsewhere(cell);  // The only process there does not see the mount.
  volume.unmount(false);
  CHECK(open_mounts({volume.device()}, Depth::stacked)->mounts.size() == 1);
}

TEST_CASE("what is bound elsewhere stands for the whole file system", "[guardian]") {
  if (const auto missing = test::missing_loop_devices()) return test::skip(*missing);
  const ScratchDirectory scratch;
  Ext4 volume(scratch.path(), "volume");
  const std::string inner = volume.mount_path() + "/inner";
  const std::string bound = (scratch.path() / "bound").string();
  const bool file = GENERATE(false, true);
  CAPTURE(file);
  if (file) {
    std::ofstream(inner).put('x');
    std::ofstream(bound).put('x');
  } else {
    std::filesystem::create_directory(inner);
    std::filesystem::create_directory(bound);
  }
  REQUIRE(mount(inner.c_str(), bound.c_str(), nullptr, MS_BIND, nullptr) == 0);
  REQUIRE(mount(nullptr, bound.c_str(), nullptr, MS_BIND | MS_REMOUNT | MS_RDONLY, nullptr) == 0);
  volume.unmount(false);
  auto mounts = open_mounts({volume.device()}, Depth::stacked);
  REQUIRE(mounts);
  REQUIRE(mounts->mounts.size() == 1);
  const auto& found = mounts->mounts[0];
  CHECK(found.path == bound);
  CHECK(ioctl(found.fd.get(), FIFREEZE, 0) == 0);
  CHECK(ioctl(found.fd.get(), FITHAW, 0) == 0);
  mounts->mounts.clear();
  CHECK(umount(bound.c_str()) == 0);
}

TEST_CASE("what is bound and no file or directory is not opened for the file system",
          "[guardian]") {
  if (const auto missing = test::missing_loop_devices()) return test::skip(*missing);
  const ScratchDirectory scratch;
  Ext4 volume(scratch.path(), "volume");
  const std::string pipe = volume.mount_path() + "/pipe";
  const std::string bound = (scratch.path() / "bound").string();
  REQUIRE(mkfifo(pipe.c_str(), 0600) == 0);
  std::ofstream(bound).put('x');
  REQUIRE(mount(pipe.c_str(), bound.c_str(), nullptr, MS_BIND, nullptr) == 0);
  CHECK(open_mounts({volume.device()}, Depth::stacked)->mounts.at(0).path == volume.mount_path());
  volume.unmount(false);
  const auto mounts = open_mounts({volume.device()}, Depth::stacked);
  CHECK(mounts->mounts.empty());
  CHECK(mounts->unreachable.size() == 1);
  CHECK(umount(bound.c_str()) == 0);
}

TEST_CASE("a file system in use that no mount leads to is unreachable, until it is unused",
          "[guardian]") {
  if (const auto missing = test::missing_loop_devices()) return test::skip(*missing);
  const ScratchDirectory scratch;
  Ext4 volume(scratch.path(), "volume");
  const auto device = volume.device();
  UniqueFd open_file(open((volume.mount_path() + "/file").c_str(), O_RDWR | O_CREAT, 0600));
  REQUIRE(umount2(volume.mount_path().c_str(), MNT_DETACH) == 0);
  volume.close_root();
  const auto mounts = open_mounts({device}, Depth::stacked);
  CHECK(mounts->mounts.empty());
  REQUIRE(mounts->unreachable.size() == 1);
  CHECK(mounts->unreachable[0].context.find("mounted nowhere") != std::string::npos);
  // While somebody waits for it.
  auto later =
      std::async(std::launch::async, [&] { return open_mounts({device}, Depth::stacked); });
  open_file.reset();
  const auto gone = later.get();
  CHECK(gone->unreachable.empty());
  CHECK(gone->unmounted == std::vector{device});
}

}  // namespace
}  // namespace umbra::guardian
