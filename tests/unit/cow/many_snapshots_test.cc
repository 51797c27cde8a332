// SPDX-License-Identifier: Apache-2.0
//
// More snapshots than the snapshot table has room for at first: it grows, and nothing depends on
// how many there are.
#include "provider/format/diff_area.h"
#include "tests/support/cow_world.h"
#include "tests/support/seed.h"

using namespace umbra;
using namespace umbra::test;

namespace {

constexpr std::uint64_t kOriginBytes = 64U << 10U;

[[nodiscard]] CowWorldOptions small_volume(std::uint64_t segments_max) {
  CowWorldOptions options;
  options.origin_bytes = kOriginBytes;
  options.chunk_bytes = 4U << 10U;
  options.segments = 4;
  options.segments_max = segments_max;
  return options;
}

// The sequence of the write that each sector shows.
using Shown = std::vector<std::uint64_t>;

[[nodiscard]] Shown shown_by(const Image& image) {
  Shown shown;
  for (std::uint64_t at = 0; at < image.size(); at += kSector) {
    std::uint64_t words[2] = {};
    std::memcpy(words, image.data() + at, sizeof words);
    REQUIRE(words[0] == at);
    shown.push_back(words[1]);
  }
  return shown;
}

// Takes snapshots without keeping whole images of them.
struct Many {
  explicit Many(const CowWorldOptions& options) : world(seed(), options) { world.open(); }

  void take(bool persistent) {
    const SnapshotId id = world.take(persistent);
    world.images.clear();
    shown.emplace_back(id, shown_by(world.twin));
  }
  void remove(std::size_t which) {
    world.remove(shown[which].first);
    std::swap(shown[which], shown.back());
    shown.pop_back();
  }
  void check(std::size_t which) {
    Image seen;
    REQUIRE(world.read_snapshot(shown[which].first, seen) == 0);
    REQUIRE(shown_by(seen) == shown[which].second);
  }
  void check_all() {
    REQUIRE(world.volume->list().size() == shown.size());
    CHECK(world.volume->statistics().snapshots == shown.size());
    CHECK(world.volume->count() == shown.size());
    for (const auto& record : world.volume->list()) {
      const auto found = world.volume->find(record.id);
      REQUIRE(found);
      CHECK(found->epoch == record.epoch);
      CHECK(found->set_id == record.set_id);
    }
    CHECK_FALSE(world.volume->find(SnapshotId::random()));
    for (std::size_t i = 0; i < shown.size(); ++i) check(i);
  }
  void write_somewhere(Prng& prng) {
    const std::uint64_t sector = prng.below(kOriginBytes / kSector);
    const std::uint64_t count = 1 + prng.below(4);
    REQUIRE(world.write(sector * kSector,
                        std::min(count, kOriginBytes / kSector - sector) * kSector) == 0);
    world.machine.run_until_idle();  // The diff area grows before the next one needs it.
  }
  void reopen() {
    world.volume.reset();
    world.open();
  }

  CowWorld world;
  std::vector<std::pair<SnapshotId, Shown>> shown;
};

[[nodiscard]] cow::PrepareRequest new_request() {
  cow::PrepareRequest request;
  request.id = SnapshotId::random();
  return request;
}

}  // namespace

TEST_CASE("thousands of snapshots made and removed in any order agree with a twin", "[cow]") {
  const std::size_t most = long_run() ? 66'000 : 5'000;
  Many many(small_volume(most / 64));
  Prng prng(seed());
  while (many.shown.size() < most) {
    many.take(prng.chance(1, 2));
    if (prng.chance(2, 3)) many.write_somewhere(prng);
    if (prng.chance(1, 4)) many.remove(prng.below(many.shown.size()));
    if (!many.shown.empty() && prng.chance(1, 8)) many.check(prng.below(many.shown.size()));
  }
  many.check_all();
  many.reopen();
  many.check_all();
  while (!many.shown.empty()) {
    many.remove(prng.below(many.shown.size()));
    if (prng.chance(1, 8)) many.write_somewhere(prng);
    if (!many.shown.empty() && prng.chance(1, 8)) many.check(prng.below(many.shown.size()));
  }
  many.world.machine.run_until_idle();  // Their records go in the background.
  CHECK(many.world.volume->statistics().records == 0);
  CHECK(many.world.volume->list().empty());
}

TEST_CASE("a volume takes one snapshot more than its table had places for", "[cow]") {
  Many many(small_volume(16));
  Prng prng(seed());
  for (std::uint32_t i = 0; i < format::kTableSlots + 1; ++i) {
    many.take(i % 2 == 0);
    many.write_somewhere(prng);
  }
  many.check_all();
  many.reopen();
  many.check_all();
  // A place that is free is used again, wherever it lies: the table does not grow.
  const std::uint64_t used = many.world.volume->statistics().diff_used_bytes;
  for (int i = 0; i < 20; ++i) {
    many.remove(many.shown.size() - 1);
    many.take(true);
  }
  CHECK(many.world.volume->statistics().diff_used_bytes == used);
  REQUIRE(many.world.volume->close());
  many.reopen();
  many.check_all();
}

TEST_CASE("the configured number of snapshots is the limit, and can be raised or lowered",
          "[cow]"
          "[vss:VSS_E_MAXIMUM_NUMBER_OF_SNAPSHOTS_REACHED][vss:limit.snapshots-per-volume-512]") {
  CowWorld world(seed());
  world.snapshots_max = 3;
  world.open();
  for (int i = 0; i < 3; ++i) (void)world.take(true);
  const Status refused = world.volume->prepare(new_request());
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == Errc::maximum_number_of_snapshots_reached);
  CHECK(refused.error().to_string().find("3 snapshots, this volume's limit") != std::string::npos);
  world.snapshots_max = 2;  // What exists stays.
  world.volume.reset();
  world.open();
  CHECK(world.volume->list().size() == 3);
  world.remove(world.volume->list().front().id);
  CHECK(world.volume->prepare(new_request()).error().code ==
        Errc::maximum_number_of_snapshots_reached);
  world.snapshots_max = cow::kSnapshotsMax;
  world.volume.reset();
  world.open();
  (void)world.take(true);
  world.check_all();
}

TEST_CASE("a full diff area refuses the place of one snapshot more, and lets any go", "[cow]") {
  // Two segments: one is open for records, and the last free one is never taken for the table.
  CowWorldOptions options = small_volume(2);
  options.segments = 2;
  options.chunk_bytes = 16U << 10U;
  options.origin_bytes = 16U << 20U;  // More than two segments can keep.
  CowWorld world(seed(), options);
  world.open();
  for (std::uint32_t i = 0; i < format::kTableSlots; ++i) {
    (void)world.take(true);
    world.images.clear();
    if (i == 0) REQUIRE(world.write(0, kSector) == 0);
  }
  const Status refused = world.volume->prepare(new_request());
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == Errc::insufficient_storage);
  CHECK(refused.error().to_string().find("512 snapshots") != std::string::npos);
  // Overwrite everything: the oldest are deleted, one by one, which does not help; the newest
  // cannot be kept either. That is durable.
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
  CHECK(world.volume->statistics().snapshots_lost == 1);
  CHECK(world.volume->statistics().snapshots_evicted == format::kTableSlots - 1);
  world.volume.reset();
  world.machine.cut_power();
  world.machine.power_on();
  world.boot_id = Guid::random();
  world.open();
  CHECK(world.volume->statistics().snapshots_lost == 1);
  CHECK(world.volume->statistics().snapshots == 1);
}

TEST_CASE("a table segment that cannot be named is tried again", "[cow]") {
  CowWorld world(seed(), small_volume(16));
  world.open();
  for (std::uint32_t i = 0; i < format::kTableSlots; ++i) {
    (void)world.take(true);
    world.images.clear();
  }
  const std::uint64_t used = world.volume->statistics().diff_used_bytes;
  for (const bool superblock : {false, true}) {
    world.diff.fault = [superblock](const block::Request& request) {
      if (request.op != block::Op::write) return 0;
      return (request.offset_bytes < format::kTableOffset) == superblock ? EIO : 0;
    };
    CHECK(world.volume->prepare(new_request()).error().code == Errc::io_error);
  }
  world.diff.fault = nullptr;
  const SnapshotId more = world.take(true);
  REQUIRE(world.write(0, kSector) == 0);
  world.check_snapshot(more);
  // One segment for the table, one for the record.
  const std::uint64_t segment_bytes = format::Layout::of(4U << 10U, 512).segment_bytes;
  CHECK(world.volume->statistics().diff_used_bytes == used + 2 * segment_bytes);
  CHECK(world.volume->statistics().snapshots == format::kTableSlots + 1);
  world.volume.reset();
  world.open();
  world.check_snapshot(more);
  CHECK(world.volume->statistics().snapshots == format::kTableSlots + 1);
}
