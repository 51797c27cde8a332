// SPDX-License-Identifier: Apache-2.0
//
// Formatting and opening: every way in which a diff area can be the wrong one, and every refusal of
// a control call.
#include "tests/support/cow_world.h"
#include "tests/support/seed.h"

using namespace umbra;
using namespace umbra::test;

namespace {

constexpr std::uint64_t kSuperblocks[2] = {0, 64U << 10U};
constexpr std::uint64_t kTable = 128U << 10U;

[[nodiscard]] Errc open_error(CowWorld& world) {
  const Status opened = world.try_open();
  world.volume.reset();
  return opened ? Errc::ok : opened.error().code;
}

[[nodiscard]] cow::PrepareRequest new_request() {
  cow::PrepareRequest request;
  request.id = SnapshotId::random();
  return request;
}

}  // namespace

TEST_CASE("a diff area that is not one is refused as foreign", "[cow]") {
  CowWorld world(seed());
  std::fill(world.diff.bytes().begin(), world.diff.bytes().end(), std::byte{0x5A});
  CHECK(open_error(world) == Errc::diff_area_foreign);
  CHECK(cow::inspect_diff_area(world.diff).error().code == Errc::diff_area_foreign);
  std::fill(world.diff.bytes().begin(), world.diff.bytes().end(), std::byte{0});
  CHECK(open_error(world) == Errc::diff_area_foreign);
  SimDisk tiny(world.machine, 4096);
  CHECK(cow::inspect_diff_area(tiny).error().code == Errc::diff_area_foreign);
}

TEST_CASE("a diff area of another format version is refused as that", "[cow]") {
  CowWorld world(seed());
  for (const std::byte version : {std::byte{1}, std::byte{2}, std::byte{4}}) {  // Older and newer.
    for (const std::uint64_t at : kSuperblocks) world.diff.bytes()[at + 8] = version;
    const Status opened = world.try_open();
    REQUIRE_FALSE(opened);
    CHECK(opened.error().code == Errc::diff_area_version);
    CHECK(opened.error().to_string().find("attach with force") != std::string::npos);
  }
}

TEST_CASE("one damaged superblock is survived, two are not", "[cow]") {
  for (const std::size_t damaged : {0U, 1U}) {
    CowWorld world(seed());
    world.diff.bytes()[kSuperblocks[damaged] + 100] ^= std::byte{1};
    CHECK(open_error(world) == Errc::ok);
  }
  CowWorld world(seed());
  for (const std::uint64_t at : kSuperblocks) world.diff.bytes()[at + 100] ^= std::byte{1};
  CHECK(open_error(world) == Errc::diff_area_corrupt);
}

TEST_CASE("a diff area of another volume or of another size is refused", "[cow]") {
  CowWorld world(seed());
  const VolumeId right = world.volume_id;
  world.volume_id = VolumeId::random();
  CHECK(open_error(world) == Errc::diff_area_wrong_origin);
  world.volume_id = right;
  SimDisk larger(world.machine, world.options.origin_bytes * 2);
  CHECK(cow::Volume::open(larger, world.diff, world.open_options()).error().code ==
        Errc::diff_area_wrong_origin);
  CHECK(open_error(world) == Errc::ok);
}

TEST_CASE("one damaged copy of a snapshot's slot is mended, two are reported", "[cow]") {
  for (const std::uint64_t damaged : {kTable, kTable + 4096}) {
    CowWorld world(seed());
    world.open();
    const SnapshotId snapshot = world.take(true);
    REQUIRE(world.volume->close());
    for (const std::uint64_t each : {damaged, kTable + (damaged == kTable ? 4096U : 0U)}) {
      world.volume.reset();
      world.diff.bytes()[each + 40] ^= std::byte{1};  // The second time, the other one.
      world.open();
      REQUIRE(world.volume->list().size() == 1);
      CHECK(world.volume->list()[0].stage == cow::Stage::created);
      CHECK(world.volume->statistics().metadata_repairs == 1);
      world.check_snapshot(snapshot);
    }
    world.volume.reset();
    world.diff.bytes()[kTable + 40] ^= std::byte{1};
    world.diff.bytes()[kTable + 4096 + 40] ^= std::byte{1};
    CHECK(open_error(world) == Errc::diff_area_corrupt);
  }
}

TEST_CASE("a removed snapshot stays removed, and a lost one lost, if one copy is damaged",
          "[cow]") {
  for (const std::uint64_t damaged : {kTable, kTable + 4096}) {
    CowWorld world(seed());
    world.open();
    const SnapshotId removed = world.take(true);
    world.remove(removed);
    REQUIRE(world.volume->close());
    world.volume.reset();
    world.diff.bytes()[damaged + 40] ^= std::byte{1};
    world.open();
    CHECK(world.volume->list().empty());
  }
}

TEST_CASE("a power cut in a slot's next write leaves what was said of it before, or after",
          "[cow]") {
  constexpr int kRounds = 64;  // Of writes that are kept, dropped or torn.
  CowWorld world(seed());
  world.open();
  int left = 0;
  for (int round = 0; round < kRounds; ++round) {
    INFO("round " << round << ", seed " << seed());
    const SnapshotId id = world.begin(true);
    // So many that the slot is more than one sector, and can be torn.
    const std::vector<SnapshotId> members(60, id);
    world.volume->hold();
    REQUIRE(world.volume->drain(Duration::zero()));
    world.commit(id);
    world.volume->release();
    REQUIRE(world.volume->post_commit(id, members));
    REQUIRE(world.volume->confirm(id));
    // At the flush between the two copies.
    world.machine.cut_at(world.machine.operations() + 1);
    REQUIRE_FALSE(world.volume->remove(id, false));
    world.volume.reset();
    world.machine.power_on();
    world.boot_id = Guid::random();
    world.open();
    const auto record = world.volume->find(id);
    if (!record) continue;
    ++left;
    REQUIRE(record->stage == cow::Stage::created);
    REQUIRE(record->members == members);
    world.remove(id);
  }
  CHECK(left > 0);
  CHECK(left < kRounds);
}

TEST_CASE("an I/O error while opening is reported and changes nothing", "[cow]") {
  CowWorld world(seed());
  world.open();
  const SnapshotId snapshot = world.take(true);
  REQUIRE(world.write(0, kSector) == 0);
  world.volume.reset();
  for (const block::Op op : {block::Op::read, block::Op::write, block::Op::flush}) {
    world.diff.fault = [op](const block::Request& request) { return request.op == op ? EIO : 0; };
    CHECK(open_error(world) == Errc::io_error);
  }
  world.diff.fault = nullptr;
  world.open();
  world.check_snapshot(snapshot);
}

TEST_CASE("format refuses what it would overwrite, unless forced", "[cow]") {
  CowWorld world(seed());
  cow::FormatOptions options;
  options.volume_id = world.volume_id;
  options.diff_bytes_initial = 0;
  CHECK(cow::format_diff_area(world.origin, world.diff, options).error().code ==
        Errc::object_already_exists);
  SimDisk other(world.machine, 32U << 20U);
  other.bytes()[5000] = std::byte{1};
  CHECK(cow::format_diff_area(world.origin, other, options).error().code ==
        Errc::diff_area_foreign);
  options.force = true;
  CHECK(cow::format_diff_area(world.origin, other, options));
  CHECK(cow::format_diff_area(world.origin, world.diff, options));
  const auto description = cow::inspect_diff_area(other);
  REQUIRE(description);
  CHECK(description->volume_id == world.volume_id);
  CHECK(description->origin_bytes == world.options.origin_bytes);
  CHECK(description->chunk_bytes == cow::kChunkBytesDefault);
  CHECK(description->clean);
}

TEST_CASE("format checks its arguments and its space", "[cow]") {
  CowWorld world(seed());
  cow::FormatOptions options;
  options.force = true;
  for (const std::uint32_t chunk : {0U, 2048U, 12288U, 2U << 20U}) {
    options.chunk_bytes = chunk;
    CHECK(cow::format_diff_area(world.origin, world.diff, options).error().code ==
          Errc::invalid_argument);
  }
  options.chunk_bytes = cow::kChunkBytesDefault;
  SimDisk empty(world.machine, 0);
  CHECK(cow::format_diff_area(empty, world.diff, options).error().code == Errc::invalid_argument);
  SimDisk small(world.machine, 1U << 20U);
  CHECK(cow::format_diff_area(world.origin, small, options).error().code ==
        Errc::insufficient_storage);
  options.diff_bytes_max = 1U << 20U;
  CHECK(cow::format_diff_area(world.origin, world.diff, options).error().code ==
        Errc::insufficient_storage);
}

TEST_CASE("an area formatted over an older one shows nothing of it", "[cow]") {
  CowWorld world(seed());
  world.open();
  (void)world.take(true);
  REQUIRE(world.write(0, 1U << 20U) == 0);
  world.volume.reset();
  cow::FormatOptions options;
  options.volume_id = world.volume_id;
  options.force = true;
  options.diff_bytes_initial = 0;
  REQUIRE(cow::format_diff_area(world.origin, world.diff, options));
  world.images.clear();
  world.open();
  CHECK(world.volume->list().empty());
  CHECK(world.volume->statistics().records == 0);
  const SnapshotId fresh = world.take(true);
  REQUIRE(world.write(0, 65536) == 0);
  world.check_snapshot(fresh);
}

TEST_CASE("control calls out of order are refused", "[cow]") {
  CowWorld world(seed());
  world.open();
  cow::Volume& volume = *world.volume;
  const SnapshotId nobody = SnapshotId::random();
  CHECK(volume.post_commit(nobody, {}).error().code == Errc::object_not_found);
  CHECK(volume.confirm(nobody).error().code == Errc::object_not_found);
  CHECK(volume.remove(nobody, true).error().code == Errc::object_not_found);
  CHECK(volume.open_snapshot(nobody).error().code == Errc::object_not_found);
  const cow::PrepareRequest first = new_request();
  REQUIRE(volume.prepare(first));
  CHECK(volume.prepare(new_request()).error().code == Errc::bad_state);
  CHECK(volume.post_commit(first.id, {}).error().code == Errc::bad_state);
  CHECK(volume.confirm(first.id).error().code == Errc::bad_state);
  CHECK(volume.open_snapshot(first.id).error().code == Errc::bad_state);
  REQUIRE(volume.remove(first.id, false));
  const SnapshotId snapshot = world.take(false);
  cow::PrepareRequest again = new_request();
  again.id = snapshot;
  CHECK(volume.prepare(again).error().code == Errc::object_already_exists);
  CHECK(volume.post_commit(snapshot, std::vector<SnapshotId>(65)).error().code ==
        Errc::invalid_argument);
  REQUIRE(volume.close());
  REQUIRE(volume.close());
  CHECK(volume.prepare(new_request()).error().code == Errc::bad_state);
  CHECK(volume.open_snapshot(snapshot).error().code == Errc::bad_state);
  CHECK(volume.remove(snapshot, true).error().code == Errc::bad_state);
}

TEST_CASE("a snapshot in use is removed only by force, and then gives EIO", "[cow]") {
  CowWorld world(seed());
  world.open();
  const SnapshotId snapshot = world.take(true);
  auto device = world.volume->open_snapshot(snapshot);
  REQUIRE(device);
  CHECK((*device)->geometry().read_only);
  CHECK(world.volume->remove(snapshot, false).error().code == Errc::volume_in_use);
  Image seen;
  CHECK(world.read(**device, seen) == 0);
  world.remove(snapshot, true);
  CHECK(world.read(**device, seen) == EIO);
  world.volume.reset();
  CHECK(world.read(**device, seen) == EIO);  // It may outlive the volume.
}

TEST_CASE("a snapshot device refuses writes and bad ranges", "[cow]") {
  CowWorld world(seed());
  world.open();
  const auto device = world.volume->open_snapshot(world.take(true));
  REQUIRE(device);
  Image bytes(kSector);
  block::Request request;
  request.buffer = bytes.data();
  request.size_bytes = kSector;
  request.op = block::Op::write;
  CHECK(block::run(**device, request) == EROFS);
  request.op = block::Op::read;
  request.offset_bytes = world.options.origin_bytes;
  CHECK(block::run(**device, request) == EINVAL);
  request.offset_bytes = 1;
  CHECK(block::run(**device, request) == EINVAL);
  request.op = block::Op::flush;
  CHECK(block::run(**device, request) == 0);
}

TEST_CASE("snapshots of a finished boot: auto-release ones go, persistent ones stay", "[cow]") {
  CowWorld world(seed());
  world.open();
  const SnapshotId automatic = world.take(false);
  const SnapshotId persistent = world.take(true);
  world.volume.reset();
  world.open();  // kill -9: same boot.
  CHECK(world.volume->list().size() == 2);
  world.check_all();
  world.volume.reset();
  world.boot_id = Guid::random();
  world.open();
  REQUIRE(world.volume->list().size() == 1);
  CHECK(world.volume->list()[0].id == persistent);
  world.images.erase(automatic);
  world.check_all();
}

TEST_CASE("what a crash left of a set is deleted, or reported for a decision", "[cow]") {
  CowWorld world(seed());
  world.open();
  const SnapshotId prepared = world.begin(true);
  world.volume.reset();
  world.open();
  CHECK(world.volume->list().empty());
  // Committed in memory only: the point in time is not durable.
  const SnapshotId committed = world.begin(true);
  world.volume->hold();
  REQUIRE(world.volume->drain(Duration::zero()));
  world.commit(committed);
  world.volume->release();
  world.volume.reset();
  world.open();
  CHECK(world.volume->list().empty());
  const SnapshotId waiting = world.begin(true);
  world.volume->hold();
  REQUIRE(world.volume->drain(Duration::zero()));
  world.commit(waiting);
  world.volume->release();
  const SnapshotId elsewhere = SnapshotId::random();
  REQUIRE(world.volume->post_commit(waiting, {waiting, elsewhere}));
  world.volume.reset();
  world.open();
  REQUIRE(world.volume->list().size() == 1);
  CHECK(world.volume->list()[0].stage == cow::Stage::committed);
  CHECK(world.volume->list()[0].members == std::vector<SnapshotId>{waiting, elsewhere});
  CHECK(prepared != waiting);
}

TEST_CASE("write-zeroes preserves like a write; discard is not applied to what is not preserved",
          "[cow]") {
  CowWorld world(seed());
  world.open();
  const SnapshotId snapshot = world.take(false);
  REQUIRE(world.run(block::Op::discard, 0, 65536) == 0);
  CHECK(world.volume->statistics().chunks_preserved == 0);
  world.check_all();  // The live volume too still shows what it did.
  REQUIRE(world.run(block::Op::write_zeroes, 1024, 32768) == 0);
  CHECK(world.volume->statistics().chunks_preserved == 3);
  world.check_snapshot(snapshot);
  Image seen;
  REQUIRE(world.read(world.volume->live(), seen, 1024, 32768) == 0);
  CHECK(seen == Image(32768));
}

TEST_CASE("one request may span every chunk, and the last chunk may be a part", "[cow]") {
  CowWorldOptions options;
  options.chunk_bytes = 4U << 10U;
  options.origin_bytes = (8U << 20U) + 1536;  // More chunks than copies can be in flight.
  options.segments_max = 12;
  CowWorld world(seed(), options);
  world.open();
  const SnapshotId snapshot = world.take(true);
  std::vector<std::byte> bytes(options.origin_bytes);
  stamp(bytes, 0, 77);
  block::Request request;
  request.op = block::Op::write;
  request.size_bytes = bytes.size();
  request.buffer = bytes.data();
  bool done = false;
  request.owner = &done;
  request.complete = [](block::Request& finished) noexcept {
    *static_cast<bool*>(finished.owner) = true;
  };
  world.volume->live().submit(request);
  world.machine.run_until_idle();
  REQUIRE(done);
  CHECK(request.error == 0);
  world.twin = bytes;
  world.check_all();
  world.check_snapshot(snapshot);
  world.volume.reset();
  world.open();
  world.check_all();
}
