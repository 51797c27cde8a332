// SPDX-License-Identifier: Apache-2.0
//
// Storage that fails, fills up or is spoilt: the origin goes on, snapshots are right or lost, and a
// loss is durable before the first write that it makes way for.
#include <array>
#include <cstring>
#include <list>
#include <optional>
#include <utility>

#include "provider/format/diff_area.h"
#include "tests/support/cow_world.h"
#include "tests/support/memory_lost_store.h"
#include "tests/support/seed.h"

using namespace umbra;
using namespace umbra::test;

namespace {

constexpr std::uint64_t kChunk = 16U << 10U;
constexpr std::uint64_t kSegmentsAt = (128U << 10U) + std::uint64_t{512} * 2 * 4096;

[[nodiscard]] bool is_lost(CowWorld& world, const SnapshotId& id) {
  for (const auto& record : world.volume->list()) {
    if (record.id == id) return record.lost;
  }
  FAIL("no such snapshot");
  return false;
}

// A write whose completion the test waits for in its own way.
struct PendingWrite {
  PendingWrite(CowWorld& world, std::uint64_t offset_bytes) : bytes(kSector) {
    stamp(bytes, offset_bytes, ++world.sequence);
    request.op = block::Op::write;
    request.offset_bytes = offset_bytes;
    request.size_bytes = kSector;
    request.buffer = bytes.data();
    request.owner = this;
    request.complete = [](block::Request& done) noexcept {
      static_cast<PendingWrite*>(done.owner)->completed = true;
    };
    world.volume->live().submit(request);
  }
  block::Request request;
  Image bytes;
  bool completed = false;
};

}  // namespace

TEST_CASE("a snapshot whose copy cannot be written is lost, and the write succeeds", "[cow]") {
  CowWorld world(seed());
  world.open();
  const SnapshotId old = world.take(true);
  REQUIRE(world.write(0, kSector) == 0);
  const SnapshotId newest = world.take(true);
  world.diff.fault = [](const block::Request& request) {
    return request.op == block::Op::write && request.offset_bytes >= kSegmentsAt ? EIO : 0;
  };
  PendingWrite write(world, 0);
  CHECK_FALSE(write.completed);  // The loss is not durable yet.
  CHECK_FALSE(is_lost(world, newest));
  world.machine.run_until_idle();
  CHECK(write.completed);
  CHECK(write.request.error == 0);
  CHECK(is_lost(world, newest));
  CHECK_FALSE(is_lost(world, old));  // It has its own record of that chunk.
  world.check_snapshot(old);
  Image seen;
  CHECK(world.read_snapshot(newest, seen) == EIO);
  CHECK(world.volume->statistics().snapshots_lost == 1);
  CHECK(world.volume->statistics().state != "ok");
  // Durable: it survives a power cut right now.
  world.diff.fault = nullptr;
  world.machine.cut_power();
  world.volume.reset();
  world.machine.power_on();
  world.boot_id = Guid::random();
  world.open();
  CHECK(is_lost(world, newest));
  CHECK_FALSE(is_lost(world, old));
  world.check_snapshot(old);
  world.remove(newest);
  CHECK(world.volume->list().size() == 1);
}

TEST_CASE("an origin that cannot be read loses the snapshot, not the write", "[cow]") {
  CowWorld world(seed());
  world.open();
  const SnapshotId snapshot = world.take(false);
  world.origin.fault = [](const block::Request& request) {
    return request.op == block::Op::read ? EIO : 0;
  };
  PendingWrite write(world, 0);
  world.machine.run_until_idle();
  CHECK(write.completed);
  CHECK(write.request.error == 0);
  CHECK(is_lost(world, snapshot));
}

TEST_CASE("a full diff area grows first, and loses the snapshot at its maximum", "[cow]") {
  CowWorldOptions options;
  options.chunk_bytes = 256U << 10U;
  options.origin_bytes = 24U << 20U;  // 96 chunks; a segment holds 16.
  options.segments = 2;
  options.segments_max = 4;
  CowWorld world(seed(), options);
  world.open();
  const SnapshotId snapshot = world.take(true);
  const std::uint64_t before = world.diff.geometry().size_bytes;
  std::list<PendingWrite> writes;
  for (std::uint64_t chunk = 0; chunk < 48; ++chunk) {
    writes.emplace_back(world, chunk * options.chunk_bytes);
    world.machine.run_until_idle();
    CHECK(writes.back().completed);
  }
  CHECK(world.diff.geometry().size_bytes > before);
  CHECK_FALSE(is_lost(world, snapshot));
  for (std::uint64_t chunk = 48; chunk < 96; ++chunk) {
    writes.emplace_back(world, chunk * options.chunk_bytes);
    world.machine.run_until_idle();
    CHECK(writes.back().completed);
    CHECK(writes.back().request.error == 0);
  }
  CHECK(is_lost(world, snapshot));
  CHECK(world.diff.geometry().size_bytes <= world.diff_bytes(4));
  // What the lost one held is free again: the next snapshot works.
  world.twin = world.origin.bytes();
  const SnapshotId next = world.take(true);
  writes.emplace_back(world, 0);
  world.machine.run_until_idle();
  CHECK(writes.back().completed);
  world.check_snapshot(next);
}

TEST_CASE("a loss that the diff area cannot take is kept off the volume", "[cow]") {
  MemoryLostStore store;
  CowWorld world(seed());
  world.lost_store = &store;
  world.open();
  const SnapshotId snapshot = world.take(true);
  world.diff.fault = [](const block::Request& request) {
    return request.op == block::Op::read ? 0 : EIO;
  };
  PendingWrite write(world, 0);
  world.machine.run_until_idle();
  CHECK(write.completed);
  CHECK(write.request.error == 0);
  CHECK(is_lost(world, snapshot));
  CHECK(store.lost[world.volume_id] == std::vector<SnapshotId>{snapshot});
  world.diff.fault = nullptr;
  world.volume.reset();
  world.machine.run_until_idle();
  world.open();
  CHECK(is_lost(world, snapshot));
}

TEST_CASE("a loss that cannot be recorded anywhere holds the write until it can", "[cow]") {
  MemoryLostStore store;
  store.failing = true;
  CowWorld world(seed());
  world.lost_store = &store;
  world.open();
  const SnapshotId snapshot = world.take(true);
  world.diff.fault = [](const block::Request& request) {
    return request.op == block::Op::read ? 0 : EIO;
  };
  PendingWrite first(world, 0);
  world.machine.run_until_idle();
  CHECK_FALSE(first.completed);
  CHECK(world.volume->statistics().writes_held);
  CHECK_FALSE(is_lost(world, snapshot));
  store.failing = false;
  PendingWrite second(world, kChunk);  // The next failure tries again.
  world.machine.run_until_idle();
  CHECK(first.completed);
  CHECK(second.completed);
  CHECK(is_lost(world, snapshot));
  CHECK_FALSE(world.volume->statistics().writes_held);
}

TEST_CASE("a held write fails at close, and close says so", "[cow]") {
  CowWorld world(seed());
  world.open();
  (void)world.take(true);
  world.diff.fault = [](const block::Request& request) {
    return request.op == block::Op::read ? 0 : EIO;
  };
  PendingWrite write(world, 0);
  world.machine.run_until_idle();
  CHECK_FALSE(write.completed);
  CHECK(world.volume->close().error().code == Errc::io_error);
  CHECK(write.completed);
  CHECK(write.request.error == EIO);
}

TEST_CASE("a failed flush of the diff area loses persistent snapshots that needed it", "[cow]") {
  MemoryLostStore store;
  CowWorld world(seed());
  world.lost_store = &store;
  world.open();
  const SnapshotId persistent = world.take(true);
  REQUIRE(world.write(0, kSector) == 0);
  const SnapshotId automatic = world.take(false);
  int flushes = 0;
  world.diff.fault = [&](const block::Request& request) {
    return request.op == block::Op::flush && flushes++ == 0 ? EIO : 0;
  };
  // Its own copy does not need the flush; the persistent one's record was flushed before.
  REQUIRE(world.write(0, kSector) == 0);
  CHECK(flushes == 0);
  PendingWrite write(world, kChunk);
  world.machine.run_until_idle();
  CHECK(flushes == 1);  // Never tried again: pages may be clean and lost.
  CHECK(write.completed);
  CHECK(is_lost(world, persistent));
  CHECK(is_lost(world, automatic));  // It would have needed the same record.
  CHECK(store.lost[world.volume_id].size() == 2);
}

TEST_CASE("a failed flush of the origin fails every later one until it is attached again",
          "[cow]") {
  CowWorld world(seed());
  world.open();
  int failures = 1;
  world.origin.fault = [&](const block::Request& request) {
    return request.op == block::Op::flush && failures-- > 0 ? EIO : 0;
  };
  CHECK(world.run(block::Op::flush) == EIO);
  CHECK(world.run(block::Op::flush) == EIO);
  CHECK(world.write(0, kSector) == 0);
  CHECK(world.volume->close().error().code == Errc::io_error);
  world.volume.reset();
  world.open();
  CHECK(world.run(block::Op::flush) == 0);
}

TEST_CASE("of flushes side by side none is believed after one has failed", "[cow]") {
  // The kernel tells one caller of pages that it could not write, and the others nothing.
  CowWorld world(seed());
  world.open();
  world.machine.set_scheduled(true);
  bool failed = false;
  world.origin.fault = [&](const block::Request& request) {
    return request.op != block::Op::flush || std::exchange(failed, true) ? 0 : EIO;
  };
  std::array<block::Request, 3> flushes;
  for (block::Request& flush : flushes) {
    flush.op = block::Op::flush;
    flush.complete = [](block::Request&) noexcept {};
    world.volume->live().submit(flush);
  }
  world.machine.run_until_idle();
  REQUIRE(failed);
  for (const block::Request& flush : flushes) CHECK(flush.error == EIO);
}

namespace {

// A flush that is queued on `disk`; everything else goes on until there are so many.
[[nodiscard]] const block::Request* queued_flush(CowWorld& world, SimDisk& disk,
                                                 std::size_t count = 1) {
  const block::Request* newest = nullptr;
  const auto is_flush = [&](const SimDisk& at, const block::Request& request) {
    if (&at != &disk || request.op != block::Op::flush) return false;
    newest = &request;
    return true;
  };
  while (world.machine.count_queued(is_flush) < count) {
    REQUIRE(world.machine.step_one(
        [&](const auto& at, const auto& request) { return !is_flush(at, request); }));
  }
  return newest;
}

// Fails it, no later than another one takes effect that is told nothing of it.
void fail_beside_others(CowWorld& world, SimDisk& disk, const block::Request* flush) {
  disk.fault = [&world, flush](const block::Request& request) {
    if (&request == flush) return EIO;
    if (request.op == block::Op::flush) {
      (void)world.machine.step_one(
          [flush](const auto&, const block::Request& queued) { return &queued == flush; });
    }
    return 0;
  };
}

}  // namespace

TEST_CASE("a snapshot is not told durable whose flush went well beside one that failed", "[cow]") {
  const bool of_origin = GENERATE(true, false);
  block::Request flush;
  std::optional<PendingWrite> write;  // Held: its loss can be noted nowhere. Ends with the volume.
  CowWorld world(seed());
  world.open();
  (void)world.take(true);
  const SnapshotId id = world.begin(true);
  world.volume->hold();
  REQUIRE(world.volume->drain(Duration::zero()));
  world.commit(id);
  world.volume->release();
  world.machine.set_scheduled(true);
  flush.op = block::Op::flush;
  flush.complete = [](block::Request&) noexcept {};
  if (of_origin) {
    world.volume->live().submit(flush);
  } else {
    write.emplace(world, 0);  // Its copy needs a flush.
  }
  SimDisk& disk = of_origin ? world.origin : world.diff;
  fail_beside_others(world, disk, queued_flush(world, disk));
  world.machine.set_scheduled(false);  // It is beside this call's flush, no sooner.
  const Status done = world.volume->post_commit(id, {id});
  REQUIRE_FALSE(done);
  CHECK(done.error().code == Errc::io_error);
  world.machine.run_until_idle();
}

TEST_CASE("a copy whose flush went well beside one that failed is not believed", "[cow]") {
  MemoryLostStore store;
  CowWorld world(seed());
  world.lost_store = &store;
  world.open();
  const SnapshotId older = world.take(true);
  REQUIRE(world.write(0, kSector) == 0);  // The older one has its own copy of this chunk only.
  const SnapshotId newer = world.take(true);
  world.machine.set_scheduled(true);
  const PendingWrite first(world, 0);
  const block::Request* const failing = queued_flush(world, world.diff);
  const PendingWrite second(world, kChunk);
  (void)queued_flush(world, world.diff, 2);
  fail_beside_others(world, world.diff, failing);
  world.machine.run_until_idle();
  CHECK(first.completed);
  CHECK(second.completed);
  CHECK(is_lost(world, newer));
  CHECK(is_lost(world, older));
}

TEST_CASE("a superblock that could not be written does not cost the good one", "[cow]") {
  constexpr int kRounds = 16;  // Of writes that are kept, dropped or torn.
  for (int round = 0; round < 2 * kRounds; ++round) {
    INFO("round " << round << ", seed " << seed());
    CowWorld world(seed() + static_cast<std::uint64_t>(round));
    world.open();
    const SnapshotId id = world.take_unconfirmed(true);
    int until = round % 2;  // The first or the second of the two.
    world.diff.fault = [&](const block::Request& request) {
      if (request.op != block::Op::write || request.offset_bytes >= format::kTableOffset ||
          until-- != 0) {
        return 0;
      }
      world.diff.bytes()[request.offset_bytes + 100] ^= std::byte{1};  // A sector gone bad.
      return EIO;
    };
    REQUIRE_FALSE(world.volume->confirm(id));
    world.diff.fault = nullptr;
    world.diff.settle();
    world.machine.cut_at(world.machine.operations() + 1);  // At the flush of the next attempt.
    REQUIRE_FALSE(world.volume->confirm(id));
    world.volume.reset();
    world.machine.power_on();
    world.boot_id = Guid::random();
    world.open();
    REQUIRE(world.volume->find(id).has_value());
    world.check_all();
  }
}

TEST_CASE("damaged preserved data gives EIO, never wrong bytes", "[cow]") {
  CowWorld world(seed());
  world.open();
  const SnapshotId snapshot = world.take(true);
  REQUIRE(world.write(0, kChunk) == 0);
  Image old(world.images.at(snapshot).begin(),
            world.images.at(snapshot).begin() + static_cast<std::ptrdiff_t>(kChunk));
  // The data of the first record, wherever it lies.
  auto& bytes = world.diff.bytes();
  // Data is aligned; looked for at any byte, a chunk that begins with zeroes takes minutes.
  std::size_t at = 0;
  while (at + kChunk <= bytes.size() && std::memcmp(&bytes[at], old.data(), kChunk) != 0)
    at += kSector;
  REQUIRE(at + kChunk <= bytes.size());
  bytes[at + 4096 + 17] ^= std::byte{1};
  const auto device = world.volume->open_snapshot(snapshot);
  REQUIRE(device);
  Image seen;
  CHECK(world.read(**device, seen, 0, 4096) == 0);
  CHECK(world.read(**device, seen, 4096, 512) == EIO);
  CHECK(world.read(**device, seen, 0, kChunk) == EIO);
  CHECK(world.read(**device, seen, 8192, 8192) == 0);
  CHECK(world.volume->statistics().checksum_failures == 2);
}

TEST_CASE("a group that is damaged in both places loses the snapshots that could need it",
          "[cow]") {
  CowWorld world(seed());
  world.open();
  const SnapshotId first = world.take(true);
  REQUIRE(world.write(0, kSector) == 0);
  REQUIRE(world.write(kChunk, kSector) == 0);
  REQUIRE(world.write(2 * kChunk, kSector) == 0);
  const SnapshotId second = world.take(true);
  REQUIRE(world.volume->close());
  world.volume.reset();
  const format::Layout layout = format::Layout::of(kChunk, 512);
  for (const std::uint32_t copy : {0U, 1U}) {  // The second of three groups.
    world.diff.bytes()[layout.unit_offset(0, 1, copy) + 20] ^= std::byte{1};
  }
  world.open();
  CHECK(is_lost(world, first));
  CHECK_FALSE(is_lost(world, second));
  world.check_snapshot(second);
  // And it stays so if one copy of that mark is damaged in turn.
  for (const std::uint64_t copy : {0U, 1U}) {
    world.volume.reset();
    world.diff.bytes()[format::kTableOffset + copy * format::kBlockBytes + 40] ^= std::byte{1};
    world.open();
    CHECK(is_lost(world, first));
  }
}
