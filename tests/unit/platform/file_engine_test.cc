// SPDX-License-Identifier: Apache-2.0
//
// What every engine of file devices has to do alike when the kernel does not do all that it is
// asked for: interrupted, short and put-off calls, failed syncs, a ring that is full.
#include <array>
#include <atomic>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <vector>

#include "engine/platform/file_device.h"
#include "engine/platform/prng.h"
#include "tests/support/catch.h"
#include "tests/support/seed.h"
#include "tests/support/skip.h"
#include "tests/support/temp_dir.h"

using namespace umbra;

namespace {

constexpr std::uint64_t kSizeBytes = 1U << 20U;

struct Kind {
  const char* name;
  FileEngine engine;
  bool direct;
  bool apart;
};
constexpr std::array kKinds = {
    Kind{"threads", FileEngine::threads, false, false},
    Kind{"threads, O_DIRECT", FileEngine::threads, true, false},
    Kind{"threads apart", FileEngine::threads, false, true},
    Kind{"io_uring", FileEngine::io_uring, false, false},
    Kind{"io_uring, O_DIRECT", FileEngine::io_uring, true, false},
};

struct Bench {
  explicit Bench(const Kind& kind_, FileFaults* faults = nullptr) : kind(kind_) {
    const std::string path = dir / "file";
    std::ofstream(path).close();
    std::filesystem::resize_file(path, kSizeBytes);
    options.engine = kind.engine;
    options.direct = kind.direct;
    options.apart = kind.apart;
    options.faults = faults;
    auto opened = open_file_device(path, options);
    if (!opened) {
      // Not here; "what a file device wrote through io_uring" says so aloud.
      REQUIRE((opened.error().code == Errc::missing_kernel_feature ||
               opened.error().code == Errc::not_supported));
      return;
    }
    device = std::move(*opened);
  }
  const Kind& kind;
  test::TempDir dir;
  FileDeviceOptions options;
  std::unique_ptr<FileDevice> device;
};

int run(block::Device& device, block::Op op, std::uint64_t offset = 0,
        std::span<std::byte> bytes = {}, bool fua = false) {
  block::Request request;
  request.op = op;
  request.offset_bytes = offset;
  request.size_bytes = bytes.size();
  request.buffer = bytes.data();
  request.fua = fua;
  return block::run(device, request);
}

template <typename F>
void for_each_kind(FileFaults* faults, F&& check) {
  for (const Kind& kind : kKinds) {
    INFO(kind.name);
    Bench bench(kind, faults);
    if (bench.device) check(*bench.device);
  }
}

struct Counted {
  std::atomic<std::size_t> completed = 0;
  static void complete(block::Request& request) noexcept {
    auto& counted = *static_cast<Counted*>(request.owner);
    counted.completed.fetch_add(1);
    counted.completed.notify_all();
  }
  void wait(std::size_t count) const {
    for (std::size_t seen = completed.load(); seen != count; seen = completed.load()) {
      completed.wait(seen);
    }
  }
};

}  // namespace

TEST_CASE("interrupted, short and put-off calls are gone on with, in every engine",
          "[file_device]") {
  struct Faults final : FileFaults {
    std::atomic<std::uint64_t> calls = 0;
    std::int64_t transfer(const block::Request& /*request*/, std::uint64_t left) noexcept override {
      switch (calls.fetch_add(1) % 4) {
        case 0: return -EINTR;
        case 1: return -EAGAIN;
        case 2: return left > 4096 ? 4096 : static_cast<std::int64_t>(left);
        default: return static_cast<std::int64_t>(left);
      }
    }
    int enter() noexcept override { return calls.fetch_add(1) % 3 == 0 ? -EAGAIN : 0; }
  } faults;
  for_each_kind(&faults, [&](FileDevice& device) {
    alignas(4096) static std::array<std::byte, 64U << 10U> written;
    alignas(4096) static std::array<std::byte, 64U << 10U> seen;
    Prng prng(test::seed());
    for (int i = 0; i < 20; ++i) {
      for (std::byte& byte : written) byte = static_cast<std::byte>(prng.next());
      const std::uint64_t offset = prng.below(8) * written.size();
      REQUIRE(run(device, block::Op::write, offset, written, prng.chance(1, 3)) == 0);
      REQUIRE(run(device, block::Op::read, offset, seen) == 0);
      REQUIRE(written == seen);
    }
  });
  CHECK(faults.calls.load() > 100);
}

TEST_CASE("a call that the kernel puts off for ever is an error in the end, in every engine",
          "[file_device]") {
  struct Faults final : FileFaults {
    std::int64_t transfer(const block::Request& /*request*/,
                          std::uint64_t /*left*/) noexcept override {
      return -EAGAIN;
    }
  } faults;
  for_each_kind(&faults, [&](FileDevice& device) {
    alignas(4096) static std::array<std::byte, 4096> bytes;
    CHECK(run(device, block::Op::write, 0, bytes) == EAGAIN);
  });
}

TEST_CASE("errors of reads and writes are told and do not stay, in every engine", "[file_device]") {
  struct Faults final : FileFaults {
    std::atomic<int> error = 0;
    std::int64_t transfer(const block::Request& /*request*/, std::uint64_t left) noexcept override {
      const int now = error.load();
      return now != 0 ? -now : static_cast<std::int64_t>(left);
    }
  } faults;
  for_each_kind(&faults, [&](FileDevice& device) {
    alignas(4096) static std::array<std::byte, 4096> bytes;
    faults.error = ENOSPC;
    CHECK(run(device, block::Op::write, 0, bytes) == ENOSPC);
    faults.error = EIO;
    CHECK(run(device, block::Op::read, 0, bytes) == EIO);
    faults.error = 0;
    CHECK(run(device, block::Op::write, 0, bytes) == 0);
    CHECK(run(device, block::Op::flush) == 0);
  });
}

namespace {

struct FailingSync final : FileFaults {
  std::atomic<int> error = 0;
  std::atomic<int> asked = 0;
  int flush() noexcept override {
    asked.fetch_add(1);
    return error.exchange(0);  // As the kernel: told once.
  }
};

}  // namespace

TEST_CASE("a failed sync is never turned into success until the device is opened anew",
          "[file_device]") {
  FailingSync faults;
  for_each_kind(&faults, [&](FileDevice& device) {
    alignas(4096) static std::array<std::byte, 4096> bytes;
    CHECK(run(device, block::Op::flush) == 0);
    faults.error = EIO;
    CHECK(run(device, block::Op::flush) == EIO);
    const int asked = faults.asked.load();
    CHECK(run(device, block::Op::flush) == EIO);
    CHECK(run(device, block::Op::write, 0, bytes, true) == EIO);
    CHECK(run(device, block::Op::write_zeroes, 0, bytes, true) == EIO);
    CHECK(faults.asked.load() == asked);  // Not even asked for.
    CHECK(run(device, block::Op::write, 0, bytes) == 0);
    CHECK(run(device, block::Op::read, 0, bytes) == 0);
  });
}

TEST_CASE("a write that asked for durability and failed is a failed sync", "[file_device]") {
  FailingSync faults;
  for_each_kind(&faults, [&](FileDevice& device) {
    alignas(4096) static std::array<std::byte, 4096> bytes;
    faults.error = EIO;
    CHECK(run(device, block::Op::write, 0, bytes, true) == EIO);
    CHECK(run(device, block::Op::flush) == EIO);
  });
}

TEST_CASE("of many syncs at once none succeeds after one has failed", "[file_device]") {
  FailingSync faults;
  for_each_kind(&faults, [&](FileDevice& device) {
    constexpr std::size_t kFlushes = 400;
    std::vector<block::Request> requests(kFlushes);
    Counted counted;
    for (block::Request& request : requests) {
      request.op = block::Op::flush;
      request.owner = &counted;
      request.complete = Counted::complete;
    }
    for (std::size_t i = 1; i < kFlushes; ++i) requests[i - 1].next = &requests[i];
    faults.error = EIO;
    const int asked = faults.asked.load();
    device.submit(requests[0]);
    counted.wait(kFlushes);
    for (const block::Request& request : requests) CHECK(request.error == EIO);
    CHECK(faults.asked.load() == asked + 1);
  });
}

TEST_CASE("more requests than a ring takes all complete, in every engine", "[file_device]") {
  for_each_kind(nullptr, [&](FileDevice& device) {
    constexpr std::size_t kRequests = 2000;
    const std::uint64_t block = device.geometry().block_bytes;
    const std::uint64_t blocks = kSizeBytes / block;
    std::vector<block::Request> requests(kRequests);
    alignas(4096) static std::array<std::byte, 4096> buffer;
    buffer.fill(std::byte{7});
    Counted counted;
    for (std::size_t i = 0; i < kRequests; ++i) {
      requests[i].op = i % 100 == 99 ? block::Op::flush : block::Op::write;
      requests[i].fua = i % 50 == 0;
      requests[i].offset_bytes = i % blocks * block;
      requests[i].size_bytes = block;
      requests[i].buffer = buffer.data();
      requests[i].owner = &counted;
      requests[i].complete = Counted::complete;
      if (i > 0) requests[i - 1].next = &requests[i];
    }
    device.submit(requests[0]);
    counted.wait(kRequests);
    for (const block::Request& request : requests) CHECK(request.error == 0);
  });
}

TEST_CASE("a device that goes leaves no lock behind, in any engine", "[file_device]") {
  for (const Kind& kind : kKinds) {
    INFO(kind.name);
    Bench bench(kind);
    if (!bench.device) continue;
    const std::string path = bench.device->path();
    alignas(4096) static std::array<std::byte, 4096> bytes;
    for (int round = 0; round < 50; ++round) {
      REQUIRE(run(*bench.device, block::Op::write, 0, bytes, true) == 0);
      bench.device.reset();
      auto again = open_file_device(path, bench.options);
      if (!again) FAIL(again.error().to_string());
      bench.device = std::move(*again);
    }
  }
}

TEST_CASE("a file without the page cache tells its sector, and its size has to fit",
          "[file_device]") {
  Bench bench({"direct", FileEngine::automatic, true, false});
  if (!bench.device) return test::skip("needs a file system with O_DIRECT");
  const block::Geometry geometry = bench.device->geometry();
  CHECK(geometry.block_bytes >= 512);
  CHECK(geometry.alignment_bytes >= geometry.block_bytes);
  CHECK(bench.device->io_text().find("O_DIRECT") != std::string::npos);
  std::array<std::byte, 8192> bytes{};
  auto* odd = bytes.data();
  while (reinterpret_cast<std::uintptr_t>(odd) % geometry.alignment_bytes == 0) ++odd;
  CHECK(run(*bench.device, block::Op::write, 0, {odd, geometry.block_bytes}) == EINVAL);
}
