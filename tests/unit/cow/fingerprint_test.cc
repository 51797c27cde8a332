// SPDX-License-Identifier: Apache-2.0
//
// Origins that somebody else wrote while they were detached are found out; what we wrote ourselves
// before a crash is not held against them.
#include "provider/cow/fingerprint.h"

#include <deque>
#include <set>

#include "engine/platform/prng.h"
#include "tests/support/cow_world.h"
#include "tests/support/seed.h"

using namespace umbra;
using namespace umbra::cow;
using namespace umbra::test;

namespace {

constexpr std::uint64_t kChunk = 16U << 10U;

void put16(std::span<std::byte> bytes, std::size_t at, unsigned value) {
  bytes[at] = static_cast<std::byte>(value);
  bytes[at + 1] = static_cast<std::byte>(value >> 8U);
}

/// A sector at 1024 as ext4 writes it.
Image ext_superblock(unsigned mounts, unsigned time) {
  Image sector(512);
  stamp(sector, 1024, 7);
  put16(sector, 0x38, 0xEF53);
  put16(sector, 0x34, mounts);
  put16(sector, 0x2C, time);
  return sector;
}

struct Watched {
  Watched() {
    world.adjust = [this](OpenOptions& options) {
      options.origin_identity[0] = identity;
      options.origin_change_time = [this] { return change_time; };
      options.accept_changed_origin = accept;
      options.origin_moved = moved;
    };
    world.open();
  }
  void close() {
    REQUIRE(world.volume->close());
    world.volume.reset();
    world.origin.settle();
  }
  void kill() {
    world.machine.kill();
    world.volume.reset();
    world.machine.power_on();
  }
  void cut_power() {
    world.machine.cut_power();
    world.volume.reset();
    world.machine.power_on();
    world.boot_id = Guid::random();
  }
  /// Behind the store's back.
  void tamper(std::uint64_t offset) {
    world.origin.bytes()[offset] ^= std::byte{1};
    world.origin.settle();
  }
  void replace(std::uint64_t offset, const Image& bytes) {
    std::copy(bytes.begin(), bytes.end(),
              world.origin.bytes().begin() + static_cast<std::ptrdiff_t>(offset));
    world.origin.settle();
  }
  void write(std::uint64_t offset, Image bytes) {
    block::Request request;
    request.op = block::Op::write;
    request.offset_bytes = offset;
    request.size_bytes = bytes.size();
    request.buffer = bytes.data();
    // What has to be noted first is noted by a job.
    bool done = false;
    request.owner = &done;
    request.complete = [](block::Request& finished) noexcept {
      *static_cast<bool*>(finished.owner) = true;
    };
    world.volume->live().submit(request);
    world.machine.run_until_idle();
    REQUIRE(done);
    REQUIRE(request.error == 0);
    std::copy(bytes.begin(), bytes.end(), world.twin.begin() + static_cast<std::ptrdiff_t>(offset));
  }
  void accepted() {
    world.open();
    world.check_all();
  }
  void refused(const std::string& why) {
    const Status opened = world.try_open();
    REQUIRE_FALSE(opened);
    CHECK(opened.error().code == Errc::origin_changed);
    INFO(opened.error().context);
    CHECK(opened.error().context.find(why) != std::string::npos);
    CHECK(opened.error().context.find("--accept-changed-origin") != std::string::npos);
  }

  CowWorld world{seed()};
  std::byte identity{1};
  std::int64_t change_time = 100;
  bool accept = false;
  bool moved = false;
};

}  // namespace

TEST_CASE("a fingerprint survives its bytes, and any bytes are one or none", "[cow][fingerprint]") {
  Prng prng(seed());
  std::array<std::byte, kFingerprintBytes> bytes{};
  CHECK_FALSE(decode_fingerprint(bytes).present);
  Fingerprint sample;
  sample.present = true;
  sample.clean = true;
  sample.epoch = 7;
  sample.identity.fill(std::byte{9});
  sample.mount.fill(std::byte{8});
  sample.mount_before.fill(std::byte{6});
  sample.change_time = -5;
  sample.head_checksum = 0xFFEEDDCC;
  sample.seed = 3;
  sample.sampled = std::bitset<kSamplesMax>(prng.next());
  for (std::uint32_t& value : sample.samples) value = static_cast<std::uint32_t>(prng.next());
  encode(sample, bytes);
  CHECK(decode_fingerprint(bytes) == sample);
  for (int i = 0; i < 1000; ++i) {
    for (std::byte& byte : bytes) byte = static_cast<std::byte>(prng.next());
    (void)decode_fingerprint(bytes);
  }
}

TEST_CASE("samples lie in all parts of the origin", "[cow][fingerprint]") {
  for (const std::uint64_t size : {512U, 4096U, 100U << 10U, 1U << 20U, 1U << 31U}) {
    CAPTURE(size);
    const auto offsets = sample_offsets(size, 5);
    CHECK(offsets.size() == std::min<std::uint64_t>(size / kSampleBytes, kSamplesMax));
    const std::set<std::uint64_t> unique(offsets.begin(), offsets.end());
    CHECK(unique.size() == offsets.size());
    for (std::size_t i = 0; i < offsets.size(); ++i) {
      CHECK(offsets[i] % kSampleBytes == 0);
      CHECK(offsets[i] + kSampleBytes <= size);
      CHECK(offsets[i] * offsets.size() / size <= i);
    }
    if (!offsets.empty()) CHECK(offsets[0] == 0);
  }
  CHECK(sample_offsets(1U << 31U, 5) != sample_offsets(1U << 31U, 6));
}

TEST_CASE("mounting shows in what is said of it, other changes do not", "[cow][fingerprint]") {
  std::array<std::byte, kMountBytes> start{};
  CHECK(mount_identity(start) == MountIdentity{});
  const auto of = [&](const Image& superblock) {
    std::copy(superblock.begin(), superblock.end(), start.begin() + 1024);
    return mount_identity(start);
  };
  const auto first = of(ext_superblock(3, 1000));
  CHECK(first != MountIdentity{});
  CHECK(of(ext_superblock(4, 1000)) != first);
  CHECK(of(ext_superblock(3, 1001)) != first);
  Image later = ext_superblock(3, 1000);
  later[0x0C] ^= std::byte{1};  // Free blocks.
  later[0x30] ^= std::byte{1};  // Time of the last write.
  CHECK(of(later) == first);
  start.fill(std::byte{0});
  std::memcpy(start.data(), "XFSB", 4);
  const auto xfs = mount_identity(start);
  start[144] ^= std::byte{1};  // Free blocks: written when it is unmounted.
  CHECK(mount_identity(start) != xfs);
}

TEST_CASE("an origin that nobody touched is as good as before", "[cow][fingerprint]") {
  for (const bool clean : {false, true}) {
    Watched watched;
    watched.world.take(true);
    REQUIRE(watched.world.write(0, 3 * kChunk) == 0);
    watched.world.take(false);
    REQUIRE(watched.world.write(2 * kChunk, 3 * kChunk) == 0);
    for (int round = 0; round < 3; ++round) {
      clean ? watched.close() : watched.kill();
      watched.accepted();
      REQUIRE(watched.world.write(static_cast<std::uint64_t>(7 + round) * kChunk, kChunk) == 0);
    }
  }
}

TEST_CASE("an origin that was moved is compared by what it holds", "[cow][fingerprint]") {
  Watched watched;
  watched.world.take(true);
  REQUIRE(watched.world.write(0, 3 * kChunk) == 0);
  const bool orderly = GENERATE(true, false);
  if (orderly) {
    watched.close();
  } else {
    watched.kill();
  }
  watched.identity = std::byte{2};
  watched.change_time = 101;
  watched.refused("--origin-moved");
  SECTION("its snapshots are there, and it is known by its new place") {
    watched.moved = true;
    watched.accepted();
    watched.moved = false;
    watched.kill();
    watched.accepted();
  }
  SECTION("but not if it holds something else") {
    for (std::uint64_t at = 128U << 10U; at < watched.world.options.origin_bytes; at += 4096) {
      watched.tamper(at);
    }
    watched.moved = true;
    watched.refused("its content at");
  }
}

TEST_CASE("what was written behind our back after an orderly close is found",
          "[cow][fingerprint]") {
  Watched watched;
  watched.world.take(true);
  REQUIRE(watched.world.write(0, 3 * kChunk) == 0);
  watched.close();
  SECTION("in the first bytes, although they are preserved") {
    watched.tamper(600);
    watched.refused("first 128 KiB");
  }
  SECTION("anywhere, for it is a file") {
    watched.change_time = 101;
    watched.refused("written");
  }
  SECTION("another file") {
    watched.identity = std::byte{2};
    watched.refused("another file");
  }
  SECTION("in places that are sampled") {
    for (std::uint64_t at = 128U << 10U; at < watched.world.options.origin_bytes; at += 4096) {
      watched.tamper(at);
    }
    watched.refused("its content at");
  }
}

TEST_CASE("what was written behind our back after a crash is found, unless it does no harm",
          "[cow][fingerprint]") {
  const bool killed = GENERATE(false, true);
  Watched watched;
  watched.write(1024, ext_superblock(1, 50));
  const SnapshotId id = watched.world.take(true);
  REQUIRE(watched.world.write(4 * kChunk, 3 * kChunk) == 0);
  const auto die = [&] { killed ? watched.kill() : watched.cut_power(); };
  SECTION("a sample in a chunk that was not preserved") {
    die();
    watched.tamper(5);
    watched.refused("its content at 0");
  }
  SECTION("a mount, although the superblock is preserved") {
    watched.write(1024, ext_superblock(2, 60));
    watched.write(1024, ext_superblock(3, 70));
    REQUIRE(watched.world.run(block::Op::flush) == 0);
    die();
    watched.replace(1024, ext_superblock(4, 80));
    watched.refused("mounted");
  }
  SECTION("another file") {
    die();
    watched.identity = std::byte{2};
    watched.refused("another file");
  }
  SECTION("the time says nothing after a crash") {
    REQUIRE(watched.world.run(block::Op::flush) == 0);
    die();
    watched.change_time = 101;
    watched.accepted();
  }
  SECTION("in a chunk that is preserved") {
    watched.write(8192, Image(512, std::byte{9}));
    REQUIRE(watched.world.run(block::Op::flush) == 0);
    die();
    watched.tamper(8000);
    watched.world.open();
    watched.world.check_snapshot(id);
  }
}

TEST_CASE("a changed origin is accepted without its snapshots, for good", "[cow][fingerprint]") {
  Watched watched;
  const SnapshotId old = watched.world.take(true);
  REQUIRE(watched.world.write(0, kChunk) == 0);
  const SnapshotId newer = watched.world.take(true);
  watched.close();
  watched.identity = std::byte{2};
  watched.refused("another file");
  watched.accept = true;
  watched.world.open();
  for (const auto& record : watched.world.volume->list()) CHECK(record.lost);
  CHECK(watched.world.volume->list().size() == 2);
  Image seen;
  CHECK(watched.world.read_snapshot(old, seen) == EIO);
  watched.kill();
  watched.accept = false;
  watched.world.open();  // It is the origin now.
  CHECK(watched.world.volume->statistics().snapshots_lost == 2);
  watched.world.remove(old);
  watched.world.remove(newer);
  watched.world.take(true);
  REQUIRE(watched.world.write(0, kChunk) == 0);
  watched.close();
  watched.accepted();
}

TEST_CASE("a locked snapshot is not given up for a changed origin, whoever accepts it",
          "[cow][fingerprint]") {
  Watched watched;
  CowWorld& world = watched.world;
  const SnapshotId locked = world.take(true);
  REQUIRE(world.volume->set_retention({.longest_seconds = 7200, .reserve_bytes = 0}));
  REQUIRE(world.volume->retain(locked, world.clock.wall_filetime() + 36'000'000'000));
  watched.close();
  watched.identity = std::byte{2};
  for (const bool accept : {false, true}) {
    watched.accept = accept;
    const Status opened = world.try_open();
    REQUIRE_FALSE(opened);
    CHECK(opened.error().code == (accept ? Errc::access_denied : Errc::origin_changed));
    CHECK(opened.error().context.find("under retention lock until") != std::string::npos);
    CHECK(opened.error().context.find("another diff area") != std::string::npos);
  }
  watched.identity = std::byte{1};
  watched.accepted();  // With its snapshot.
  watched.close();
  watched.identity = std::byte{2};
  world.clock.advance(std::chrono::hours{2});
  world.open();
  CHECK(world.volume->statistics().snapshots_lost == 1);
}

TEST_CASE("without snapshots any origin is the right one", "[cow][fingerprint]") {
  Watched watched;
  const SnapshotId id = watched.world.take(true);
  watched.world.remove(id);
  watched.close();
  watched.identity = std::byte{2};
  watched.change_time = 7;
  for (std::uint64_t at = 0; at < watched.world.options.origin_bytes; at += 512) watched.tamper(at);
  watched.world.twin = watched.world.origin.bytes();
  watched.accepted();
  // And is held on to from the next snapshot on.
  watched.world.take(true);
  watched.close();
  watched.identity = std::byte{1};
  watched.refused("another file");
}

TEST_CASE("the copy that cannot be marked lost keeps a changed origin out", "[cow][fingerprint]") {
  Watched watched;
  watched.world.take(true);
  watched.close();
  watched.tamper(0);
  watched.accept = true;
  watched.world.diff.fault = [](const block::Request& request) {
    return request.op == block::Op::write && request.offset_bytes >= (128U << 10U) ? EIO : 0;
  };
  CHECK(watched.world.try_open().error().code == Errc::io_error);
  watched.world.diff.fault = nullptr;
  watched.accept = false;
  watched.refused("first 128 KiB");
}

TEST_CASE("a power cut at any operation of mounting does not look like somebody else's mount",
          "[cow][fingerprint][crash]") {
  const auto story = [](Watched& watched) {
    for (unsigned mounts = 2; mounts < 6; ++mounts) {
      watched.write(1024, ext_superblock(mounts, 50 + mounts));
      watched.write(4096, Image(512, std::byte{9}));
    }
  };
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
  {
    Watched watched;
    watched.write(1024, ext_superblock(1, 50));
    watched.world.take(true);
    begin = watched.world.machine.operations();
    story(watched);
    end = watched.world.machine.operations();
  }
  REQUIRE(end - begin > 20);
  for (std::uint64_t cut = begin; cut < end; ++cut) {
    INFO("cut at operation " << cut << " of " << begin << " to " << end);
    // What the cut keeps from completing stays with the volume until it ends: declared before it.
    struct Sent {
      Image bytes;
      block::Request request;
    };
    std::deque<Sent> sent;
    Watched watched;
    watched.write(1024, ext_superblock(1, 50));
    const SnapshotId id = watched.world.take(true);
    watched.world.machine.cut_at(cut);
    // Writes fail from the cut on.
    for (unsigned mounts = 2; mounts < 6; ++mounts) {
      for (const std::uint64_t at : {1024U, 4096U}) {
        auto& [bytes, request] = sent.emplace_back();
        bytes = at == 1024 ? ext_superblock(mounts, 50 + mounts) : Image(512, std::byte{9});
        request.op = block::Op::write;
        request.offset_bytes = at;
        request.size_bytes = bytes.size();
        request.buffer = bytes.data();
        request.complete = [](block::Request&) noexcept {};
        watched.world.volume->live().submit(request);
        watched.world.machine.run_until_idle();
      }
    }
    watched.cut_power();
    watched.world.open();
    watched.world.check_snapshot(id);
    watched.kill();
    watched.replace(1024, ext_superblock(9, 99));
    watched.refused("");
  }
}
