// SPDX-License-Identifier: Apache-2.0
//
// The overlay of a mounted copy against a plain array: random reads and writes, a successor over
// the same file at any time, and the copy below that never changes.
#include "provider/daemon/copy_overlay_posix.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <vector>

#include "engine/platform/prng.h"
#include "tests/support/catch.h"
#include "tests/support/ram_device.h"
#include "tests/support/seed.h"
#include "tests/support/temp_dir.h"

using namespace umbra;
using cowd::CopyOverlay;
using cowd::kOverlayChunkBytes;
using test::RamDevice;

namespace {

using Bytes = std::vector<std::byte>;

constexpr std::uint64_t kBytes = 40 * kOverlayChunkBytes + 512;  // The last chunk is a short one.
constexpr std::uint64_t kSector = 512;

struct World {
  test::TempDir directory;
  std::shared_ptr<RamDevice> copy = std::make_shared<RamDevice>(kBytes);
  UniqueFd file = CopyOverlay::make_file(directory.path()).value();
  std::shared_ptr<CopyOverlay> overlay;

  explicit World(std::uint64_t bytes_max = cowd::kOverlayBytesMax) : max(bytes_max) {
    for (std::uint64_t at = 0; at < kBytes; at += kSector) {
      copy->fill(std::byte(at / kSector % 251), at, kSector);
    }
    copy->shape().read_only = true;
    open();
  }
  // A successor: all that the one before knew is in the file.
  void open() {
    overlay.reset();
    UniqueFd duplicate(::fcntl(file.get(), F_DUPFD_CLOEXEC, 0));
    overlay = CopyOverlay::open({copy, std::move(duplicate), max}).value();
  }
  int run(block::Op op, std::uint64_t offset, Bytes& bytes) const {
    block::Request request;
    request.op = op;
    request.offset_bytes = offset;
    request.size_bytes = bytes.size();
    request.buffer = bytes.data();
    return block::run(*overlay, request);
  }
  Bytes all() const {
    Bytes bytes(kBytes);
    REQUIRE(run(block::Op::read, 0, bytes) == 0);
    return bytes;
  }

 private:
  std::uint64_t max;
};

}  // namespace

TEST_CASE("an overlay shows what was written to it, and the copy where nothing was",
          "[copy_overlay]") {
  World world;
  const Bytes before = world.copy->bytes(0, kBytes);
  Bytes expected = before;
  CHECK(world.all() == before);
  Prng random(test::seed());
  for (int step = 0; step < 2'000; ++step) {
    const std::uint64_t sectors = kBytes / kSector;
    const std::uint64_t first = random.below(sectors);
    const std::uint64_t count = 1 + random.below(std::min<std::uint64_t>(100, sectors - first));
    Bytes bytes(count * kSector, std::byte(random.below(256)));
    const auto place = expected.begin() + static_cast<std::ptrdiff_t>(first * kSector);
    switch (random.below(8)) {
      case 0: world.open(); break;
      case 1:
        REQUIRE(world.run(block::Op::write_zeroes, first * kSector, bytes) == 0);
        std::fill_n(place, bytes.size(), std::byte{0});
        break;
      case 2:
      case 3:
        REQUIRE(world.run(block::Op::write, first * kSector, bytes) == 0);
        std::copy(bytes.begin(), bytes.end(), place);
        break;
      default:
        REQUIRE(world.run(block::Op::read, first * kSector, bytes) == 0);
        REQUIRE(std::equal(bytes.begin(), bytes.end(), place));
    }
  }
  CHECK(world.all() == expected);
  CHECK(world.copy->bytes(0, kBytes) == before);
  CHECK(world.copy->count(block::Op::write) == 0);
}

TEST_CASE("an overlay is bounded, over its successors too", "[copy_overlay]") {
  World world(3 * kOverlayChunkBytes);
  Bytes sector(kSector, std::byte{0xAB});
  for (std::uint64_t chunk = 7; chunk < 10; ++chunk) {
    CHECK(world.run(block::Op::write, chunk * kOverlayChunkBytes, sector) == 0);
  }
  world.open();
  CHECK(world.run(block::Op::write, 10 * kOverlayChunkBytes, sector) == ENOSPC);
  CHECK(world.run(block::Op::write, 9 * kOverlayChunkBytes + kSector, sector) == 0);
  Bytes read(kSector);
  CHECK(world.run(block::Op::read, 10 * kOverlayChunkBytes, read) == 0);
  CHECK(read == world.copy->bytes(10 * kOverlayChunkBytes, kSector));
}

TEST_CASE("an overlay passes on that its copy cannot be read, and writes nothing then",
          "[copy_overlay]") {
  World world;
  Bytes sector(kSector, std::byte{0xAB});
  world.copy->fail_next(block::Op::read, EIO);
  CHECK(world.run(block::Op::write, 0, sector) == EIO);
  CHECK(world.all() == world.copy->bytes(0, kBytes));
}

TEST_CASE("the file of an overlay has no name", "[copy_overlay]") {
  const World world;
  CHECK(std::filesystem::is_empty(world.directory.path()));
}
