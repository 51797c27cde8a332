// SPDX-License-Identifier: Apache-2.0
//
// A real kernel's device over a device in memory. Whoever uses the block device is a process of its
// own or ends before the server does: who waits for a device that he serves himself waits for ever.
#include "provider/frontend/ublk/device.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <thread>

#include "tests/support/catch.h"
#include "tests/support/ram_device.h"
#include "tests/support/seed.h"
#include "tests/support/served_memory_linux.h"
#include "tests/support/skip.h"

using namespace umbra;
using namespace umbra::ublk;

namespace {

constexpr std::uint64_t kSize = 8U << 20U;
constexpr std::uint64_t kMark = 0x1234;
constexpr std::size_t kBlock = 4096;

struct Page {
  std::unique_ptr<std::byte, void (*)(void*)> bytes{
      static_cast<std::byte*>(std::aligned_alloc(kBlock, kBlock)), std::free};
  explicit Page(std::byte value) { std::fill_n(bytes.get(), kBlock, value); }
};

std::string fact(std::uint32_t id, const std::string& name) {
  std::ifstream in("/sys/block/ublkb" + std::to_string(id) + "/" + name);
  std::string line;
  std::getline(in, line);
  return line;
}

struct Bench {
  Control control = Control::open().value();
  std::shared_ptr<test::RamDevice> ram = std::make_shared<test::RamDevice>(kSize);
  std::unique_ptr<Device> device;

  void start() {
    auto made = Device::create(control, kMark, ram, null_log());
    if (!made) FAIL(made.error().to_string());
    device = std::move(*made);
    const Status started = device->start();
    if (!started) FAIL(started.error().to_string());
  }
  UniqueFd open(int flags) const {
    UniqueFd file(::open(block_path(device->id()).c_str(), flags | O_CLOEXEC));
    REQUIRE(file);
    return file;
  }
  void end() {
    const std::uint32_t id = device->id();
    const Status stopped = stop_unused(control, id);
    if (!stopped) FAIL_CHECK(stopped.error().to_string());
    device.reset();
    const Status removed = remove_device(control, id);
    if (!removed) FAIL_CHECK(removed.error().to_string());
    CHECK(control.info(id).error().code == Errc::object_not_found);
  }
};

}  // namespace

TEST_CASE("everything that a block device is asked for reaches what it serves", "[ublk]") {
  if (auto reason = test::missing_ublk()) return test::skip(*reason);
  Bench bench;
  bench.ram->shape().can_discard = true;
  bench.start();
  const std::uint32_t id = bench.device->id();
  CHECK(fact(id, "size") == std::to_string(kSize / 512));
  CHECK(fact(id, "ro") == "0");
  CHECK(fact(id, "queue/fua") == "1");
  CHECK(fact(id, "queue/write_cache") == "write back");
  CHECK(fact(id, "queue/logical_block_size") == "512");
  CHECK(fact(id, "queue/discard_granularity") == "512");
  {
    const UniqueFd file = bench.open(O_RDWR | O_DIRECT);
    const Page written(std::byte{0x5A});
    REQUIRE(::pwrite(file.get(), written.bytes.get(), kBlock, 8192) == kBlock);
    CHECK(bench.ram->byte(8192) == std::byte{0x5A});
    CHECK(bench.ram->byte(8191) == std::byte{0});
    CHECK(bench.ram->byte(8192 + kBlock) == std::byte{0});
    Page read(std::byte{0});
    REQUIRE(::pread(file.get(), read.bytes.get(), kBlock, 8192) == kBlock);
    CHECK(std::equal(read.bytes.get(), read.bytes.get() + kBlock, written.bytes.get()));

    const auto flushes = bench.ram->count(block::Op::flush);
    REQUIRE(::fsync(file.get()) == 0);
    CHECK(bench.ram->count(block::Op::flush) == flushes + 1);
    const iovec vector{written.bytes.get(), kBlock};
    REQUIRE(::pwritev2(file.get(), &vector, 1, 16'384, RWF_DSYNC) == kBlock);
    CHECK(bench.ram->fua_count() == 1);

    std::uint64_t range[2] = {8192, kBlock};
    REQUIRE(::ioctl(file.get(), BLKZEROOUT, range) == 0);
    CHECK(bench.ram->count(block::Op::write_zeroes) == 1);
    CHECK(bench.ram->byte(8192) == std::byte{0});
    REQUIRE(::ioctl(file.get(), BLKDISCARD, range) == 0);
    CHECK(bench.ram->count(block::Op::discard) == 1);

    bench.ram->fail_next(block::Op::write, ENOSPC);
    CHECK(::pwrite(file.get(), written.bytes.get(), kBlock, 0) < 0);
    CHECK(errno == ENOSPC);
    bench.ram->fail_next(block::Op::flush, EIO);
    CHECK(::fsync(file.get()) < 0);
    CHECK(stop_unused(bench.control, id).error().code == Errc::volume_in_use);
  }
  bench.end();
}

TEST_CASE("answers come from any thread, in any order, on all queues", "[ublk]") {
  if (auto reason = test::missing_ublk()) return test::skip(*reason);
  Bench bench;
  bench.start();
  constexpr std::size_t kReaders = 16;
  {
    const UniqueFd file = bench.open(O_RDONLY | O_DIRECT);
    for (std::size_t i = 0; i < kReaders; ++i) {
      bench.ram->fill(static_cast<std::byte>(i + 1), i * kBlock, kBlock);
    }
    bench.ram->hold();
    std::vector<std::thread> readers;
    std::array<bool, kReaders> good{};
    for (std::size_t i = 0; i < kReaders; ++i) {
      readers.emplace_back([&, i] {
        const Page page(std::byte{0});
        const auto at = static_cast<off_t>(i * kBlock);
        good[i] = ::pread(file.get(), page.bytes.get(), kBlock, at) == kBlock &&
                  page.bytes.get()[kBlock - 1] == static_cast<std::byte>(i + 1);
      });
    }
    CHECK(bench.ram->wait_for_held(kReaders));
    bench.ram->release(true);
    bench.ram->let_go();
    for (auto& reader : readers) reader.join();
    for (const bool is_good : good) CHECK(is_good);
  }
  bench.end();
}

TEST_CASE("a read-only device is one for the kernel, too", "[ublk]") {
  if (auto reason = test::missing_ublk()) return test::skip(*reason);
  Bench bench;
  bench.ram->shape().read_only = true;
  bench.ram->shape().block_bytes = 4096;
  bench.start();
  CHECK(fact(bench.device->id(), "ro") == "1");
  CHECK(fact(bench.device->id(), "queue/logical_block_size") == "4096");
  CHECK(fact(bench.device->id(), "queue/discard_max_bytes") == "0");
  bench.end();
}

TEST_CASE("starting reads nothing: the kernel does not search for partitions", "[ublk]") {
  if (auto reason = test::missing_ublk()) return test::skip(*reason);
  Bench bench;
  // A partition table of the old kind, with one partition from sector 8 on.
  bench.ram->fill(std::byte{0x55}, 510, 1);
  bench.ram->fill(std::byte{0xAA}, 511, 1);
  bench.ram->fill(std::byte{0x83}, 446 + 4, 1);
  bench.ram->fill(std::byte{8}, 446 + 8, 1);
  bench.ram->fill(std::byte{64}, 446 + 12, 1);
  bench.start();
  CHECK(bench.ram->count(block::Op::read) == 0);
  CHECK(::access(("/sys/block/ublkb" + std::to_string(bench.device->id()) + "/ublkb" +
                  std::to_string(bench.device->id()) + "p1")
                     .c_str(),
                 F_OK) != 0);
  bench.end();
}

TEST_CASE("a device that ends in use gives its users errors, and lets them go", "[ublk]") {
  if (auto reason = test::missing_ublk()) return test::skip(*reason);
  Bench bench;
  bench.start();
  const std::uint32_t id = bench.device->id();
  UniqueFd file = bench.open(O_RDONLY | O_DIRECT);
  bench.device.reset();
  const Page page(std::byte{0});
  CHECK(::pread(file.get(), page.bytes.get(), kBlock, 0) <= 0);  // Or the end of what has no size.
  CHECK(::access(block_path(id).c_str(), F_OK) != 0);
  file.reset();
  CHECK(remove_device(bench.control, id));
  CHECK(bench.control.info(id).error().code == Errc::object_not_found);
}

TEST_CASE("one that was never started leaves nothing", "[ublk]") {
  if (auto reason = test::missing_ublk()) return test::skip(*reason);
  Bench bench;
  const auto before = bench.control.list();
  auto made = Device::create(bench.control, kMark, bench.ram, null_log());
  REQUIRE(made);
  const std::uint32_t id = (*made)->id();
  CHECK(bench.control.list().size() == before.size() + 1);
  CHECK(bench.control.info(id).value().mark == kMark);
  made->reset();
  CHECK(bench.control.info(id).error().code == Errc::object_not_found);
  CHECK(bench.control.list() == before);
}

TEST_CASE("nobody takes over what is not his, or not there", "[ublk]") {
  if (auto reason = test::missing_ublk()) return test::skip(*reason);
  Bench bench;
  bench.start();
  const auto refused = [&](std::uint64_t mark, const std::string& state) {
    const auto taken = Device::take_over(bench.control, mark, state, bench.ram, null_log());
    REQUIRE_FALSE(taken);
    return taken.error().code;
  };
  const std::string state = saved_state(bench.device->id());
  CHECK(refused(kMark + 1, state) == Errc::bad_state);
  CHECK(refused(kMark, "umbra-ublk 1 x") == Errc::invalid_argument);
  bench.end();
  CHECK(refused(kMark, state) == Errc::object_not_found);
}
