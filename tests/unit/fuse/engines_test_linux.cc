// SPDX-License-Identifier: Apache-2.0
//
// File devices over a disk that stands still: who else is kept waiting. The disk is a FUSE file of
// this process, so that every call on it goes through the kernel.
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <vector>

#include "engine/platform/file_device.h"
#include "provider/frontend/fuse/session.h"
#include "tests/support/catch.h"
#include "tests/support/image_device_posix.h"
#include "tests/support/skip.h"
#include "tests/support/temp_dir.h"

using namespace umbra;

namespace {

constexpr std::uint64_t kSizeBytes = 4U << 20U;
constexpr std::chrono::seconds kPatience{20};

struct Counted {
  std::mutex mutex;
  std::condition_variable changed;
  std::size_t completed = 0;  // mutex
  int error = 0;              // mutex

  static void complete(block::Request& request) noexcept {
    auto& counted = *static_cast<Counted*>(request.owner);
    const std::lock_guard lock(counted.mutex);
    ++counted.completed;
    if (request.error != 0) counted.error = request.error;
    counted.changed.notify_all();
  }
  bool wait(std::size_t count) {
    std::unique_lock lock(mutex);
    return changed.wait_for(lock, kPatience, [&] { return completed == count; });
  }
  std::size_t now() {
    const std::lock_guard lock(mutex);
    return completed;
  }
};

struct StillDisk {
  StillDisk() {
    for (const char* name : {"image", "point", "healthy"}) {
      std::ofstream(dir / name).close();
    }
    std::filesystem::resize_file(dir / "image", kSizeBytes);
    std::filesystem::resize_file(dir / "healthy", kSizeBytes);
    image = std::make_shared<test::ImageDevice>(dir / "image");
    session =
        fuse::Session::create({dir / "point", fuse::Shape::one_file, 0, 0750}, null_log()).value();
    REQUIRE(session->add("", image, {.mode = 0600}));
    REQUIRE(session->start());
  }
  ~StillDisk() { image->resume(); }

  test::TempDir dir;
  std::shared_ptr<test::ImageDevice> image;
  std::unique_ptr<fuse::Session> session;
};

void prepare(std::vector<block::Request>& requests, block::Op op, std::byte* buffer,
             std::uint64_t size, Counted& counted) {
  for (std::size_t i = 0; i < requests.size(); ++i) {
    requests[i].op = op;
    requests[i].offset_bytes = i * size;
    requests[i].size_bytes = size;
    requests[i].buffer = buffer + i * size;
    requests[i].owner = &counted;
    requests[i].complete = Counted::complete;
    if (i > 0) requests[i - 1].next = &requests[i];
  }
}

void one_stalls_the_other_goes_on(FileEngine engine) {
  StillDisk disk;
  FileDeviceOptions options;
  options.engine = engine;
  auto stalled = open_file_device(disk.dir / "point", options);
  auto healthy = open_file_device(disk.dir / "healthy", options);
  if (!stalled && stalled.error().code == Errc::missing_kernel_feature) {
    return test::skip("needs io_uring");
  }
  REQUIRE((stalled && healthy));

  // More than a thread's workers in the kernel, of something that only workers can do.
  constexpr std::size_t kStuck = 48;
  constexpr std::uint64_t kPiece = 4096;
  Counted stuck;
  Counted others;
  std::vector<std::byte> memory(2 * kStuck * kPiece);
  std::vector<block::Request> zeroes(kStuck);
  std::vector<block::Request> syncs(1);
  std::vector<block::Request> writes(8);
  prepare(zeroes, block::Op::write_zeroes, memory.data(), kPiece, stuck);
  prepare(writes, block::Op::write, memory.data() + kStuck * kPiece, kPiece, others);
  prepare(syncs, block::Op::flush, nullptr, 0, others);

  disk.image->hang();
  (*stalled)->submit(zeroes[0]);  // By the same thread as the others.
  (*healthy)->submit(writes[0]);
  REQUIRE(others.wait(writes.size()));
  (*healthy)->submit(syncs[0]);
  CHECK(others.wait(writes.size() + 1));
  CHECK(stuck.now() == 0);
  disk.image->resume();
  REQUIRE(stuck.wait(kStuck));
  CHECK(stuck.error == 0);
  CHECK(others.error == 0);
}

}  // namespace

TEST_CASE("a disk that stands still starves no other one of the same submitter: threads",
          "[fuse]") {
  if (const auto reason = test::missing_fuse()) return test::skip(*reason);
  one_stalls_the_other_goes_on(FileEngine::threads);
}

TEST_CASE("a disk that stands still starves no other one of the same submitter: io_uring",
          "[fuse]") {
  if (const auto reason = test::missing_fuse()) return test::skip(*reason);
  one_stalls_the_other_goes_on(FileEngine::io_uring);
}
