// SPDX-License-Identifier: Apache-2.0
//
// A mounted session over a device in memory. The test process serves the files that it opens, so it
// must not be killed in the middle; takeover_test_linux.cc does that with processes of their own.
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>
#include <thread>

#include "provider/frontend/fuse/session.h"
#include "tests/support/catch.h"
#include "tests/support/ram_device.h"
#include "tests/support/skip.h"
#include "tests/support/temp_dir.h"

using namespace umbra;
using namespace umbra::fuse;
using test::RamDevice;

namespace {

constexpr std::uint64_t kSize = 4U << 20U;

struct World {
  explicit World(Shape shape) {
    device->shape().alignment_bytes = 1;
    if (shape == Shape::one_file) {
      std::ofstream(point).put(' ');
    } else {
      std::filesystem::create_directory(point);
    }
    session = Session::create({point, shape, 0, 0750}, null_log()).value();
  }
  void start() { REQUIRE(session->start()); }

  test::TempDir dir;
  std::string point = dir / "m";
  std::shared_ptr<RamDevice> device = std::make_shared<RamDevice>(kSize);
  std::unique_ptr<Session> session;
};

std::vector<char> pattern(std::size_t size) {
  std::vector<char> out(size);
  for (std::size_t i = 0; i < size; ++i) out[i] = static_cast<char>(i * 7 + i / 251);
  return out;
}

}  // namespace

TEST_CASE("a volume is a file that can be read and written at any length", "[fuse]") {
  if (auto reason = test::missing_fuse()) return test::skip(*reason);
  World world(Shape::one_file);
  REQUIRE(world.session->add("", world.device, {}));
  CHECK(world.session->add("", world.device, {}).error().code == Errc::object_already_exists);
  CHECK(world.session->add("x", world.device, {}).error().code == Errc::invalid_argument);
  world.start();
  const UniqueFd file(::open(world.point.c_str(), O_RDWR | O_CLOEXEC));
  REQUIRE(file);
  struct stat status {};
  REQUIRE(::fstat(file.get(), &status) == 0);
  CHECK(status.st_size == kSize);
  CHECK((status.st_mode & 07777) == 0600);

  const auto data = pattern(1U << 20U);
  CHECK(::pwrite(file.get(), data.data(), data.size(), 4096) == static_cast<ssize_t>(data.size()));
  CHECK(std::memcmp(world.device->bytes(4096, data.size()).data(), data.data(), data.size()) == 0);
  std::vector<char> back(data.size());
  CHECK(::pread(file.get(), back.data(), back.size(), 4096) == static_cast<ssize_t>(back.size()));
  CHECK((back == data));
  // Reads need not be aligned, and stop at the end.
  CHECK(::pread(file.get(), back.data(), 1001, 4099) == 1001);
  CHECK(std::memcmp(back.data(), data.data() + 3, 1001) == 0);
  CHECK(::pread(file.get(), back.data(), 4096, kSize - 100) == 100);
  CHECK(::pread(file.get(), back.data(), 4096, kSize) == 0);
  CHECK(::fsync(file.get()) == 0);
  CHECK(world.device->count(block::Op::flush) == 1);
}

TEST_CASE("writes that a device cannot take are refused", "[fuse]") {
  if (auto reason = test::missing_fuse()) return test::skip(*reason);
  World world(Shape::one_file);
  REQUIRE(world.session->add("", world.device, {}));
  world.start();
  const UniqueFd file(::open(world.point.c_str(), O_RDWR | O_CLOEXEC));
  const auto data = pattern(4096);
  CHECK(::pwrite(file.get(), data.data(), 100, 0) == -1);
  CHECK(errno == EINVAL);
  CHECK(::pwrite(file.get(), data.data(), 512, kSize) == -1);
  CHECK(errno == ENOSPC);
  world.device->fail_next(block::Op::write, EIO);
  CHECK(::pwrite(file.get(), data.data(), 512, 0) == -1);
  CHECK(errno == EIO);
  world.device->fail_next(block::Op::read, EIO);
  std::vector<char> back(512);
  CHECK(::pread(file.get(), back.data(), 512, 0) == -1);
  CHECK(errno == EIO);
  world.device->fail_next(block::Op::flush, EIO);
  CHECK(::fsync(file.get()) == -1);
  CHECK(errno == EIO);
  CHECK(::ftruncate(file.get(), 4096) == -1);
  CHECK(errno == EPERM);
}

TEST_CASE("punching and zeroing write zeroes, in parts the device takes", "[fuse]") {
  if (auto reason = test::missing_fuse()) return test::skip(*reason);
  World world(Shape::one_file);
  world.device->shape().request_bytes_max = 512 * 1024;
  world.device->fill(std::byte{9}, 0, kSize);
  REQUIRE(world.session->add("", world.device, {}));
  world.start();
  const UniqueFd file(::open(world.point.c_str(), O_RDWR | O_CLOEXEC));
  REQUIRE(::fallocate(file.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 512, kSize - 1024) ==
          0);
  CHECK(world.device->count(block::Op::write_zeroes) == 8);
  CHECK(world.device->byte(511) == std::byte{9});
  CHECK(world.device->byte(512) == std::byte{0});
  CHECK(world.device->byte(kSize - 513) == std::byte{0});
  CHECK(world.device->byte(kSize - 512) == std::byte{9});
  CHECK(::fallocate(file.get(), FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 0, 512) == 0);
  CHECK(world.device->byte(0) == std::byte{0});
  CHECK(::fallocate(file.get(), 0, 0, 512) == -1);
  CHECK(errno == EOPNOTSUPP);
}

TEST_CASE("a directory of snapshots lists, opens and removes by name", "[fuse]") {
  if (auto reason = test::missing_fuse()) return test::skip(*reason);
  World world(Shape::directory);
  world.start();
  world.device->shape().read_only = true;
  for (const char* name : {"one", "two"}) {
    REQUIRE(world.session->add(name, world.device, {0440}));
  }
  CHECK(world.session->add("a/b", world.device, {}).error().code == Errc::invalid_argument);
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(world.point)) {
    names.insert(entry.path().filename().string());
  }
  CHECK(names == std::set<std::string>{"one", "two"});
  CHECK(::open((world.point + "/three").c_str(), O_RDONLY | O_CLOEXEC) == -1);
  CHECK(errno == ENOENT);

  UniqueFd file(::open((world.point + "/one").c_str(), O_RDWR | O_CLOEXEC));
  REQUIRE(file);  // Root may open what the mode forbids; the device says no.
  char byte[512] = {};
  CHECK(::pwrite(file.get(), byte, 512, 0) == -1);
  CHECK(errno == EROFS);
  CHECK(world.session->open_count("one") == 1);
  const auto refused = world.session->remove("one", false);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == Errc::volume_in_use);
  REQUIRE(world.session->remove("one", true));
  CHECK(::pread(file.get(), byte, 512, 0) == -1);
  CHECK(errno == EIO);
  CHECK_FALSE(std::filesystem::exists(world.point + "/one"));
  CHECK(world.session->remove("one", true).error().code == Errc::object_not_found);
  REQUIRE(world.session->remove("two", false));
  CHECK(world.device.use_count() == 1);
}

TEST_CASE("removing waits for the requests in flight", "[fuse]") {
  if (auto reason = test::missing_fuse()) return test::skip(*reason);
  World world(Shape::directory);
  REQUIRE(world.session->add("one", world.device, {}));
  world.start();
  world.device->hold();
  ssize_t got = 0;
  std::thread reader([&] {
    const UniqueFd file(::open((world.point + "/one").c_str(), O_RDONLY | O_CLOEXEC));
    char bytes[512];
    got = ::pread(file.get(), bytes, sizeof bytes, 0);
  });
  REQUIRE(world.device->wait_for_held(1));
  Status removed;
  std::thread remover([&] { removed = world.session->remove("one", true); });
  world.device->let_go();
  remover.join();
  reader.join();
  CHECK(removed);
  CHECK(got == 512);
  CHECK(world.device.use_count() == 1);
}

TEST_CASE("the end of a session ends what is open and leaves no mount", "[fuse]") {
  if (auto reason = test::missing_fuse()) return test::skip(*reason);
  World world(Shape::one_file);
  REQUIRE(world.session->add("", world.device, {}));
  world.start();
  const UniqueFd file(::open(world.point.c_str(), O_RDONLY | O_CLOEXEC));
  world.session.reset();
  char byte = 0;
  CHECK(::pread(file.get(), &byte, 1, 0) == -1);
  CHECK(std::filesystem::file_size(world.point) == 1);  // What lies beneath is seen again.
}

TEST_CASE("a mount point that is not there is an error that names it", "[fuse]") {
  if (auto reason = test::missing_fuse()) return test::skip(*reason);
  const auto session =
      Session::create({"/nonexistent/umbra", Shape::directory, 0, 0750}, null_log());
  REQUIRE_FALSE(session);
  CHECK(session.error().code == Errc::io_error);
  CHECK(session.error().context.find("/nonexistent/umbra") != std::string::npos);
}
