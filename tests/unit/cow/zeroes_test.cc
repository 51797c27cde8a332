// SPDX-License-Identifier: Apache-2.0
//
// Chunks that hold nothing but zeroes are recorded, not stored; discards are never taken for them.
#include "tests/support/cow_world.h"

using namespace umbra;
using namespace umbra::test;

namespace {

constexpr std::uint64_t kChunk = 16U << 10U;

// Bytes of preserved data that go to the diff area from now on.
struct DataWritten {
  explicit DataWritten(CowWorld& world_) : world(world_) {
    world.diff.fault = [this](const block::Request& request) {
      if (request.op == block::Op::write && request.size_bytes >= kChunk) {
        bytes += request.size_bytes;
      }
      return 0;
    };
  }
  ~DataWritten() { world.diff.fault = nullptr; }
  CowWorld& world;
  std::uint64_t bytes = 0;
};

void clear_origin(CowWorld& world, std::uint64_t first_chunk, std::uint64_t count) {
  const auto fill = [&](Image& image) {
    std::fill_n(image.begin() + static_cast<std::ptrdiff_t>(first_chunk * kChunk), count * kChunk,
                std::byte{0});
  };
  fill(world.origin.bytes());
  fill(world.twin);
  world.origin.settle();
}

}  // namespace

TEST_CASE("a chunk of zeroes is recorded without its data and reads as zeroes", "[cow]") {
  CowWorld world(1);
  clear_origin(world, 4, 8);
  world.open();
  const SnapshotId id = world.take(true);
  {
    const DataWritten written(world);
    REQUIRE(world.write(4 * kChunk, 8 * kChunk) == 0);
    CHECK(written.bytes == 0);
    REQUIRE(world.write(20 * kChunk, kChunk) == 0);
    CHECK(written.bytes == kChunk);
  }
  CHECK(world.volume->statistics().records == 9);
  world.check_all();
  world.reopen();
  CHECK(world.volume->statistics().records == 9);
  world.check_all();
  world.remove(id);
  world.machine.run_until_idle();
  CHECK(world.volume->statistics().records == 0);
}

TEST_CASE("zeroes and data in one group find their places, also after a restart", "[cow]") {
  CowWorld world(2);
  for (std::uint64_t chunk = 0; chunk < 32; chunk += 3) clear_origin(world, chunk, 1);
  clear_origin(world, 30, 2);
  world.open();
  (void)world.take(true);
  {
    const DataWritten written(world);
    REQUIRE(world.write(0, 32 * kChunk) == 0);
    CHECK(written.bytes == 20 * kChunk);
  }
  world.check_all();
  (void)world.take(false);
  REQUIRE(world.write(3 * kChunk + kSector, 5 * kChunk) == 0);
  world.check_all();
  world.reopen();
  world.check_all();
}

TEST_CASE("the room of zeroes that are left out is used for other chunks", "[cow]") {
  // 2048 chunks of zeroes with room for 256 in each of two segments.
  CowWorldOptions options;
  options.origin_bytes = 32U << 20U;
  options.segments = options.segments_max = 2;
  CowWorld world(3, options);
  clear_origin(world, 0, 2048);
  world.open();
  (void)world.take(true);
  for (std::uint64_t at = 0; at < options.origin_bytes; at += 512U << 10U) {
    REQUIRE(world.write(at, 512U << 10U) == 0);
  }
  world.machine.run_until_idle();
  CHECK(world.volume->statistics().snapshots_lost == 0);
  world.check_all();
  world.reopen();
  world.check_all();
}

TEST_CASE("a snapshot tells zeroes from data without reading them", "[cow]") {
  CowWorld world(4);
  clear_origin(world, 2, 2);
  world.open();
  const SnapshotId id = world.take(true);
  REQUIRE(world.write(1 * kChunk, 4 * kChunk) == 0);
  const auto device = world.volume->open_snapshot(id);
  REQUIRE(device);
  std::array<block::Extent, 8> extents;
  const std::size_t count = (*device)->extents(kChunk, 4 * kChunk, extents);
  REQUIRE(count == 3);
  CHECK(extents[0].size_bytes == kChunk);
  CHECK_FALSE(extents[0].zero);
  CHECK(extents[1].size_bytes == 2 * kChunk);
  CHECK(extents[1].zero);
  CHECK(extents[1].hole);
  CHECK(extents[2].size_bytes == kChunk);
  CHECK_FALSE(extents[2].zero);
  REQUIRE((*device)->extents(kChunk + kSector, kSector, extents) == 1);
  CHECK(extents[0].size_bytes == kSector);
}

TEST_CASE("a discard makes nothing known to be zero", "[cow]") {
  CowWorld world(5);
  world.open();
  (void)world.take(true);
  // Acknowledged and not applied: the chunk is not preserved.
  REQUIRE(world.run(block::Op::discard, 2 * kChunk, kChunk) == 0);
  world.check_all();
  // What is read counts: the data is kept when the chunk is overwritten.
  const DataWritten written(world);
  REQUIRE(world.write(2 * kChunk, kSector) == 0);
  CHECK(written.bytes == kChunk);
  world.check_all();
  // Write-zeroes changes the volume: it preserves first.
  REQUIRE(world.run(block::Op::write_zeroes, 5 * kChunk, kSector) == 0);
  CHECK(written.bytes == 2 * kChunk);
}
