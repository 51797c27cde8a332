// SPDX-License-Identifier: Apache-2.0
#include "engine/platform/file_device.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>
#include <vector>

#include "engine/platform/prng.h"
#include "tests/support/catch.h"
#include "tests/support/seed.h"
#include "tests/support/skip.h"
#include "tests/support/temp_dir.h"
#include "umbra/ids.h"

using namespace umbra;

namespace {

constexpr std::uint64_t kSizeBytes = 1U << 20U;

struct Fixture {
  test::TempDir dir;

  std::string make(const char* name, std::uint64_t size_bytes) {
    const std::string path = (dir.path() / name).string();
    std::ofstream(path).close();
    std::filesystem::resize_file(path, size_bytes);
    return path;
  }
};

int run(block::Device& device, block::Op op, std::uint64_t offset, std::span<std::byte> bytes,
        bool fua = false) {
  block::Request request;
  request.op = op;
  request.offset_bytes = offset;
  request.size_bytes = bytes.size();
  request.buffer = bytes.data();
  request.fua = fua;
  return block::run(device, request);
}

Errc open_error(const std::string& path, const FileDeviceOptions& options = {}) {
  const auto opened = open_file_device(path, options);
  return opened ? Errc::ok : opened.error().code;
}

void write_and_read_back(FileEngine engine, bool direct, bool apart = false) {
  Fixture fixture;
  FileDeviceOptions options;
  options.engine = engine;
  options.direct = direct;
  options.apart = apart;
  auto opened = open_file_device(fixture.make("file", kSizeBytes), options);
  REQUIRE(opened);
  FileDevice& device = **opened;
  INFO("engine " << device.engine_name());
  CHECK(device.geometry().size_bytes == kSizeBytes);
  alignas(4096) static std::array<std::byte, 64 << 10> buffer;
  Prng prng(test::seed());
  std::vector<std::byte> twin(kSizeBytes);
  for (int i = 0; i < 300; ++i) {
    const std::uint64_t block = device.geometry().block_bytes;
    const std::uint64_t offset = prng.below(kSizeBytes / block) * block;
    const std::uint64_t size =
        std::min((1 + prng.below(buffer.size() / block)) * block, kSizeBytes - offset);
    const std::span<std::byte> bytes(buffer.data(), size);
    const auto at = twin.begin() + static_cast<std::ptrdiff_t>(offset);
    switch (prng.below(4)) {
      case 0:
        REQUIRE(run(device, block::Op::write_zeroes, offset, bytes, prng.chance(1, 4)) == 0);
        std::fill_n(at, size, std::byte{0});
        break;
      case 1:
        REQUIRE(run(device, block::Op::read, offset, bytes) == 0);
        REQUIRE(std::equal(bytes.begin(), bytes.end(), at));
        break;
      default:
        for (std::byte& byte : bytes) byte = static_cast<std::byte>(prng.next());
        REQUIRE(run(device, block::Op::write, offset, bytes, prng.chance(1, 4)) == 0);
        std::copy(bytes.begin(), bytes.end(), at);
    }
  }
  REQUIRE(run(device, block::Op::flush, 0, {}) == 0);
  std::ifstream file(device.path(), std::ios::binary);
  std::vector<char> seen(kSizeBytes);
  file.read(seen.data(), static_cast<std::streamsize>(seen.size()));
  CHECK(std::memcmp(seen.data(), twin.data(), twin.size()) == 0);
}

}  // namespace

TEST_CASE("what a file device wrote is in the file", "[file_device]") {
  write_and_read_back(FileEngine::threads, false);
  write_and_read_back(FileEngine::threads, true);
}

TEST_CASE("a file apart is written and read by threads that have nothing else open",
          "[file_device]") {
  write_and_read_back(FileEngine::automatic, false, true);
  write_and_read_back(FileEngine::automatic, true, true);
  Fixture fixture;
  FileDeviceOptions options;
  options.apart = true;
  options.threads = 3;
  const std::string path = fixture.make("file", 4096);
  // Threads that were there before.
  const std::filesystem::path tasks = "/proc/self/task";
  if (!std::filesystem::is_directory(tasks)) return test::skip("needs /proc");
  const auto with_one_descriptor = [&] {
    std::size_t count = 0;
    for (const auto& task : std::filesystem::directory_iterator(tasks)) {
      std::error_code ended;
      std::size_t descriptors = 0;
      std::string target;
      for (const auto& fd : std::filesystem::directory_iterator(task.path() / "fd", ended)) {
        ++descriptors;
        target = std::filesystem::read_symlink(fd, ended).string();
      }
      if (descriptors == 1 && target == std::filesystem::canonical(path)) ++count;
    }
    return count;
  };
  for (int round = 0; round < 20; ++round) {
    auto device = open_file_device(path, options);  // The lock was free at once.
    REQUIRE(device);
    CHECK((*device)->engine_name() == std::string("threads"));
    std::vector<std::byte> bytes(512, std::byte{1});
    REQUIRE((*device)->resize(kSizeBytes));
    REQUIRE(run(**device, block::Op::write, kSizeBytes - 512, bytes) == 0);
    CHECK((*device)->resize(1000).error().code == Errc::invalid_argument);
    std::array<block::Extent, 8> extents;
    REQUIRE((*device)->extents(0, kSizeBytes, extents) == 1);
    CHECK_FALSE(extents[0].zero);
    REQUIRE((*device)->resize(4096));
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds{20};
    while (with_one_descriptor() != 3 && std::chrono::steady_clock::now() < deadline) {
      std::this_thread::yield();
    }
    CHECK(with_one_descriptor() == 3);
  }
}

TEST_CASE("what a file device wrote through io_uring is in the file", "[file_device]") {
  Fixture fixture;
  FileDeviceOptions options;
  options.engine = FileEngine::io_uring;
  const auto probe = open_file_device(fixture.make("probe", 4096), options);
  if (!probe) {
    CHECK(probe.error().code == Errc::missing_kernel_feature);
    WARN("no io_uring here: " << probe.error().to_string());
    return;
  }
  write_and_read_back(FileEngine::io_uring, false);
  write_and_read_back(FileEngine::io_uring, true);
}

TEST_CASE("many chained requests all complete, in either engine", "[file_device]") {
  for (const auto& [engine, apart] :
       {std::pair{FileEngine::threads, false}, std::pair{FileEngine::automatic, false},
        std::pair{FileEngine::io_uring, false}, std::pair{FileEngine::automatic, true}}) {
    Fixture fixture;
    FileDeviceOptions options;
    options.engine = engine;
    options.apart = apart;
    auto opened = open_file_device(fixture.make("file", kSizeBytes), options);
    if (!opened && opened.error().code == Errc::missing_kernel_feature) continue;
    REQUIRE(opened);
    constexpr std::size_t kRequests = 1000;  // More than a ring takes.
    std::vector<block::Request> requests(kRequests);
    std::vector<std::byte> buffer(kRequests * 512, std::byte{7});
    std::atomic<std::size_t> completed = 0;
    for (std::size_t i = 0; i < kRequests; ++i) {
      requests[i].op = block::Op::write;
      requests[i].offset_bytes = i * 512;
      requests[i].size_bytes = 512;
      requests[i].buffer = buffer.data() + i * 512;
      requests[i].owner = &completed;
      requests[i].complete = [](block::Request& request) noexcept {
        auto& count = *static_cast<std::atomic<std::size_t>*>(request.owner);
        count.fetch_add(1);
        count.notify_all();
      };
      if (i > 0) requests[i - 1].next = &requests[i];
    }
    (*opened)->submit(requests[0]);
    for (std::size_t seen = completed.load(); seen != kRequests; seen = completed.load()) {
      completed.wait(seen);
    }
    for (const block::Request& request : requests) CHECK(request.error == 0);
  }
}

TEST_CASE("the second opener of a file is told that it is attached", "[file_device]") {
  Fixture fixture;
  const std::string path = fixture.make("file", kSizeBytes);
  auto first = open_file_device(path, {});
  REQUIRE(first);
  CHECK(open_error(path) == Errc::volume_attached);
  FileDeviceOptions reader;
  reader.read_only = true;
  reader.lock = false;
  CHECK(open_error(path, reader) == Errc::ok);
  first->reset();
  CHECK(open_error(path) == Errc::ok);
}

TEST_CASE("opening says what is wrong", "[file_device]") {
  Fixture fixture;
  CHECK(open_error((fixture.dir.path() / "missing").string()) == Errc::object_not_found);
  CHECK(open_error(fixture.dir.path().string()) == Errc::invalid_argument);
  CHECK(open_error(fixture.make("odd", 1000)) == Errc::invalid_argument);
  FileDeviceOptions options;
  options.threads = 0;
  CHECK(open_error(fixture.make("file", 512), options) == Errc::invalid_argument);
  options = {};
  options.create = true;
  CHECK(open_error((fixture.dir.path() / "new").string(), options) == Errc::ok);
}

TEST_CASE("requests out of range, misaligned or on a read-only device are refused",
          "[file_device]") {
  Fixture fixture;
  const std::string path = fixture.make("file", 4096);
  std::array<std::byte, 1024> buffer{};
  {
    auto device = open_file_device(path, {});
    REQUIRE(device);
    CHECK(run(**device, block::Op::write, 100, std::span(buffer).first(512)) == EINVAL);
    CHECK(run(**device, block::Op::read, 0, std::span(buffer).first(100)) == EINVAL);
    CHECK(run(**device, block::Op::write, 3584, buffer) == ENOSPC);
    CHECK(run(**device, block::Op::read, 3584, buffer) == EINVAL);
  }
  FileDeviceOptions options;
  options.read_only = true;
  auto device = open_file_device(path, options);
  REQUIRE(device);
  CHECK(run(**device, block::Op::write, 0, buffer) == EROFS);
  CHECK(run(**device, block::Op::read, 0, buffer) == 0);
}

TEST_CASE("a file grows and shrinks, and stays as it was if it cannot", "[file_device]") {
  Fixture fixture;
  auto device = open_file_device(fixture.make("file", 4096), {});
  REQUIRE(device);
  REQUIRE((*device)->resize(kSizeBytes));
  CHECK((*device)->geometry().size_bytes == kSizeBytes);
  CHECK((*device)->resize(1000).error().code == Errc::invalid_argument);
  const auto huge = (*device)->resize(std::uint64_t{1} << 60U);
  REQUIRE_FALSE(huge);
  CHECK(huge.error().code == Errc::insufficient_storage);
  CHECK((*device)->geometry().size_bytes == kSizeBytes);
  CHECK(std::filesystem::file_size((*device)->path()) == kSizeBytes);
  REQUIRE((*device)->resize(4096));
  CHECK(std::filesystem::file_size((*device)->path()) == 4096);
}

TEST_CASE("holes of a file are reported as such", "[file_device]") {
  Fixture fixture;
  auto device = open_file_device(fixture.make("file", kSizeBytes), {});
  REQUIRE(device);
  std::vector<std::byte> bytes(65536, std::byte{1});
  REQUIRE(run(**device, block::Op::write, 131072, bytes) == 0);
  std::array<block::Extent, 8> extents;
  const std::size_t count = (*device)->extents(0, kSizeBytes, extents);
  REQUIRE(count == 3);
  CHECK((extents[0].zero && !extents[1].zero && extents[2].zero));
  CHECK(extents[0].size_bytes == 131072);
  CHECK(extents[1].size_bytes == 65536);
}

TEST_CASE("what was discarded can be allocated again, and nothing else is touched",
          "[file_device]") {
  Fixture fixture;
  const std::string path = fixture.make("image", kSizeBytes);
  FileDeviceOptions options;
  options.apart = GENERATE(false, true);
  const auto device = open_file_device(path, options);
  REQUIRE(device);
  std::vector<std::byte> bytes(kSizeBytes, std::byte{7});
  REQUIRE(run(**device, block::Op::write, 0, bytes) == 0);
  const std::span<std::byte> middle(bytes.data() + kSizeBytes / 4, kSizeBytes / 2);
  REQUIRE(run(**device, block::Op::discard, kSizeBytes / 4, middle) == 0);
  REQUIRE((*device)->allocate(kSizeBytes / 8, kSizeBytes / 2));
  std::vector<std::byte> seen(kSizeBytes);
  REQUIRE(run(**device, block::Op::read, 0, seen) == 0);
  const auto is_old = [](std::byte b) { return b == std::byte{7}; };
  CHECK(std::all_of(seen.begin(), seen.begin() + kSizeBytes / 4, is_old));
  CHECK(std::all_of(seen.begin() + kSizeBytes * 3 / 4, seen.end(), is_old));
  CHECK((*device)->geometry().size_bytes == kSizeBytes);
}

TEST_CASE("a diff area on its own origin is refused, whatever the path", "[file_device]") {
  Fixture fixture;
  const std::string path = fixture.make("file", 4096);
  const std::string link = (fixture.dir.path() / "link").string();
  std::filesystem::create_hard_link(path, link);
  FileDeviceOptions options;
  options.lock = false;
  auto a = open_file_device(path, options);
  auto b = open_file_device(link, options);
  auto c = open_file_device(fixture.make("other", 4096), options);
  REQUIRE((a && b && c));
  CHECK(check_distinct(**a, **b).error().code == Errc::invalid_argument);
  CHECK(check_distinct(**a, **c));
}

TEST_CASE("a file that lies in memory is read and written where it is submitted", "[platform]") {
  const std::filesystem::path memory = "/dev/shm";
  if (!std::filesystem::is_directory(memory)) return test::skip("needs /dev/shm");
  const auto path = memory / ("umbra-test-" + Guid::random().to_string());
  std::ofstream(path).close();
  std::filesystem::resize_file(path, kSizeBytes);
  auto device = open_file_device(path.string(), {}).value();
  std::filesystem::remove(path);  // Gone whatever happens below.

  struct Seen {
    std::thread::id thread;
    int error = -1;
  } seen;
  std::vector<std::byte> bytes(64U << 10U, std::byte{5});
  for (const auto op : {block::Op::write, block::Op::read}) {
    block::Request request;
    request.op = op;
    request.size_bytes = bytes.size();
    request.buffer = bytes.data();
    request.owner = &seen;
    request.complete = [](block::Request& done) noexcept {
      *static_cast<Seen*>(done.owner) = {std::this_thread::get_id(), done.error};
    };
    seen = {};
    device->submit(request);
    CHECK(seen.thread == std::this_thread::get_id());  // Before submit() has returned.
    CHECK(seen.error == 0);
    if (op == block::Op::write) std::fill(bytes.begin(), bytes.end(), std::byte{0});
  }
  CHECK(std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{5}; }));
}
