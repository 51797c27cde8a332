// SPDX-License-Identifier: Apache-2.0
//
// Purpose: what does a damaged byte of a diff area do? It is irrelevant, or repaired from the other
// place, or the read that meets it fails; it is never served, and no snapshot comes or goes.
// Method: an area with living and removed snapshots, closed or left by kill -9, is spoilt one byte
// at a time, opened and read in full; then the other place of the same thing is spoilt, which must
// do no more harm, since the first one was mended. Metadata must cost nothing at all; preserved
// data may give EIO. Normal runs take a sample, UMBRA_LONG=1 every bit of the metadata.
#include "provider/cow/check.h"
#include "provider/format/diff_area.h"
#include "tests/support/cow_world.h"
#include "tests/support/seed.h"

using namespace umbra;
using namespace umbra::test;

namespace {

constexpr std::uint64_t kChunk = 16U << 10U;
constexpr std::uint64_t kUnit = 512;
constexpr std::uint64_t kSlotBytes = 2 * format::kBlockBytes;
constexpr std::uint64_t kSlotsUsed = 6;
constexpr std::uint64_t kUnitsUsed = 24;

struct Damaged {
  explicit Damaged(bool closed, std::uint64_t segments = 2) : world(seed(), options(segments)) {
    world.open();
    std::vector<SnapshotId> gone;
    for (std::uint64_t i = 0; i < kSlotsUsed; ++i) {
      const SnapshotId id = world.take(true);
      if (i % 3 == 1) gone.push_back(id);
      for (std::uint64_t chunk = 0; chunk < 4; ++chunk) {
        REQUIRE(world.write((i % 2 + chunk * 2) * kChunk, kSector) == 0);
      }
    }
    for (const SnapshotId& id : gone) world.remove(id);
    REQUIRE(world.volume->statistics().groups_written == kUnitsUsed);
    if (closed) REQUIRE(world.volume->close());
    world.volume.reset();
    pristine = world.diff.bytes();
  }
  static CowWorldOptions options(std::uint64_t segments) {
    CowWorldOptions options;
    options.origin_bytes = 8 * kChunk;
    options.segments = options.segments_max = segments;
    return options;
  }

  void restore() { std::memcpy(world.diff.bytes().data(), pristine.data(), pristine.size()); }
  void flip(std::uint64_t at, unsigned bit = 6) { world.diff.bytes()[at] ^= std::byte{1} << bit; }

  // Opens and reads everything; leaves it as a crash would. False: some read failed.
  bool nothing_wrong_is_served() {
    world.open();
    REQUIRE(world.volume->list().size() == world.images.size());
    REQUIRE(world.volume->statistics().snapshots_lost == 0);
    bool complete = true;
    Image seen;
    for (const auto& [id, image] : world.images) {
      const auto device = world.volume->open_snapshot(id);
      REQUIRE(device);
      for (std::uint64_t at = 0; at < image.size(); at += format::kBlockBytes) {
        if (world.read(**device, seen, at, format::kBlockBytes) != 0) {
          complete = false;
          continue;
        }
        const auto wanted = image.begin() + static_cast<std::ptrdiff_t>(at);
        REQUIRE(std::equal(seen.begin(), seen.end(), wanted));
      }
    }
    world.volume.reset();
    return complete;
  }

  CowWorld world;
  const format::Layout layout = format::Layout::of(kChunk, kUnit);
  Image pristine;
};

// A piece of metadata and where it is a second time.
struct Twice {
  std::uint64_t at = 0;
  std::uint64_t other = 0;
  std::uint64_t size = 0;
};

[[nodiscard]] std::vector<Twice> metadata_of(const format::Layout& layout) {
  std::vector<Twice> all;
  const auto both_ways = [&](const Twice& each) {
    all.push_back(each);
    all.push_back({each.other, each.at, each.size});
  };
  both_ways({format::kSuperblockOffsets[0], format::kSuperblockOffsets[1], format::kBlockBytes});
  for (std::uint32_t slot = 0; slot < kSlotsUsed + 1; ++slot) {  // And one that is free.
    both_ways({format::kTableOffset + slot * kSlotBytes,
               format::kTableOffset + slot * kSlotBytes + format::kBlockBytes,
               format::kBlockBytes});
  }
  const Twice index{layout.unit_offset(0, 0, 0), layout.unit_offset(0, 0, 1),
                    (kUnitsUsed + 2) * kUnit};
  all.push_back(index);
  // The second place is looked at on its own where a use of the segment may begin.
  all.push_back({index.other, index.at, 16 * kUnit});
  return all;
}

void spoil_metadata(Damaged& area) {
  std::uint64_t step = long_run() ? 1 : 1201;
  for (const Twice& each : metadata_of(area.layout)) {
    for (std::uint64_t i = seed() % step; i < each.size; i += step) {
      INFO("byte " << i << " at " << each.at << ", then at " << each.other);
      // A long run takes every bit.
      for (unsigned bit = long_run() ? 0 : static_cast<unsigned>(i % 8); bit < 8;
           bit = long_run() ? bit + 1 : 8) {
        area.restore();
        area.flip(each.at + i, bit);
        REQUIRE(area.nothing_wrong_is_served());
        area.flip(each.other + i, bit);
        REQUIRE(area.nothing_wrong_is_served());
      }
    }
  }
}

}  // namespace

TEST_CASE("any damaged byte of metadata is mended from the other place", "[cow]") {
  for (const bool closed : {true, false}) {
    Damaged area(closed);
    spoil_metadata(area);
  }
}

TEST_CASE("any damaged byte elsewhere is irrelevant, or fails the reads that meet it", "[cow]") {
  // Left by kill -9, the data of the last groups is compared with its checksums: it must not be
  // taken for a group that was cut.
  for (const bool closed : {true, false}) {
    Damaged area(closed);
    const std::uint64_t size = area.pristine.size();
    Prng prng(seed());
    const int rounds = long_run() ? 20'000 : 200;
    int failed = 0;
    for (int round = 0; round < rounds; ++round) {
      // Anywhere, and often in the preserved data.
      std::uint64_t at = prng.below(size);
      if (prng.chance(1, 2)) at = area.layout.slot_offset(0, 0) + prng.below(kUnitsUsed * kChunk);
      INFO("byte at " << at);
      area.restore();
      area.flip(at);
      if (!area.nothing_wrong_is_served()) ++failed;
    }
    CHECK(failed > 0);
  }
}

TEST_CASE("damaged data of the last group fails reads, at every byte's place, after a kill",
          "[cow]") {
  Damaged area(false);
  const std::uint64_t last = area.layout.slot_offset(0, kUnitsUsed - 1);
  for (std::uint64_t at = last; at < last + kChunk; at += format::kBlockBytes / 2) {
    area.restore();
    area.flip(at);
    CHECK_FALSE(area.nothing_wrong_is_served());
  }
}

TEST_CASE("a group that is damaged in both places costs the snapshots up to its epoch, and says so",
          "[cow]") {
  for (const bool closed : {true, false}) {
    Damaged area(closed);
    // The last one after an unclean stop may have been in flight: see docs/formats/diff-area.md.
    for (std::uint32_t unit = 0; unit + (closed ? 0 : 1) < kUnitsUsed; ++unit) {
      INFO("unit " << unit);
      area.restore();
      area.flip(area.layout.unit_offset(0, unit, 0) + 30);
      area.flip(area.layout.unit_offset(0, unit, 1) + 40);
      area.world.open();
      std::uint64_t next_epoch = (unit + 1) / 4 + 1;  // Of the group behind it.
      if (unit + 1 == kUnitsUsed) next_epoch = kSlotsUsed;
      Image seen;
      std::uint32_t lost = 0;
      for (const cow::SnapshotRecord& record : area.world.volume->list()) {
        CHECK(record.lost == (record.epoch <= next_epoch));
        if (record.lost) ++lost;
        const int error = area.world.read_snapshot(record.id, seen);
        CHECK(error == (record.lost ? EIO : 0));
        if (error == 0) CHECK(seen == area.world.images.at(record.id));
      }
      CHECK(lost > 0);
      CHECK(area.world.volume->statistics().snapshots_lost == lost);
      area.world.volume.reset();
    }
  }
}

TEST_CASE("an index that cannot be read in one place is read in the other", "[cow]") {
  for (const std::uint32_t copy : {0U, 1U}) {
    Damaged area(true);
    const std::uint64_t from = area.layout.unit_offset(0, 0, copy);
    area.world.diff.fault = [&](const block::Request& request) {
      const bool there = request.offset_bytes < from + area.layout.index_bytes &&
                         from < request.offset_bytes + request.size_bytes;
      return request.op != block::Op::flush && there ? EIO : 0;
    };
    CHECK(area.nothing_wrong_is_served());
  }
  Damaged area(true);
  area.world.diff.fault = [&](const block::Request& request) {
    const bool index = request.offset_bytes >= area.layout.unit_offset(0, 0, 0) &&
                       request.offset_bytes < area.layout.slot_offset(0, 0);
    return request.op == block::Op::read && index ? EIO : 0;
  };
  const Status opened = area.world.try_open();
  REQUIRE_FALSE(opened);
  CHECK(opened.error().code == Errc::io_error);
}

// --- the end of a segment's use ----------------------------------------------------------------

namespace {

// Flips a byte of a unit in both places.
void flip_both(Damaged& area, std::uint32_t segment, std::uint32_t unit) {
  area.flip(area.layout.unit_offset(segment, unit, 0) + 30);
  area.flip(area.layout.unit_offset(segment, unit, 1) + 40);
}

[[nodiscard]] Result<cow::CheckReport> check(Damaged& area) {
  const SimMachine::Inline waits(area.world.machine);
  return cow::check(area.world.diff, {});
}

[[nodiscard]] format::Group group_at(Damaged& area, std::uint32_t segment, std::uint32_t unit) {
  format::Group group;
  const std::uint64_t at = area.layout.unit_offset(segment, unit, 0);
  format::Superblock superblock;
  for (const std::uint64_t place : format::kSuperblockOffsets) {
    const format::ConstBlock bytes(area.world.diff.bytes().data() + place, format::kBlockBytes);
    superblock = *format::decode_superblock(bytes);
  }
  REQUIRE(format::decode_group(area.layout, format::area_tag(superblock.area_id), segment, unit, 8,
                               std::span(area.world.diff.bytes()).subspan(at, 4 * kUnit), group));
  return group;
}

// A second use follows the first: opened again, written, closed.
struct TwoUses : Damaged {
  TwoUses() : Damaged(true) {
    world.open();
    const SnapshotId id = world.take(true);
    REQUIRE(world.write(0, kSector) == 0);
    world.check_snapshot(id);
    REQUIRE(world.volume->close());
    world.volume.reset();
    pristine = world.diff.bytes();
  }
  // Opens it; how many are lost. Those that are not show what they should.
  [[nodiscard]] std::uint32_t lost_of_all() {
    world.open();
    std::uint32_t lost = 0;
    for (const cow::SnapshotRecord& record : world.volume->list()) {
      if (record.lost) {
        ++lost;
      } else {
        world.check_snapshot(record.id);
      }
    }
    world.volume.reset();
    return lost;
  }
};

}  // namespace

TEST_CASE("a segment's use ends with a group that says so", "[cow]") {
  TwoUses area;
  CHECK(group_at(area, 0, kUnitsUsed).header.kind == format::GroupKind::end);
  CHECK(group_at(area, 0, kUnitsUsed).header.sequence == kUnitsUsed + 1);
  CHECK(group_at(area, 1, 0).header.sequence == kUnitsUsed + 2);
}

TEST_CASE("the last group of a use that is damaged in both places is missed", "[cow]") {
  TwoUses area;
  flip_both(area, 0, kUnitsUsed - 1);
  CHECK(area.lost_of_all() == area.world.images.size() - 1);  // Not the one that is newer.
  CHECK(area.lost_of_all() == area.world.images.size() - 1);  // Nor later.
  area.restore();
  flip_both(area, 0, kUnitsUsed - 1);
  flip_both(area, 0, kUnitsUsed);
  // The next group has the epoch of the newest one: it may be concerned.
  CHECK(area.lost_of_all() == area.world.images.size());
}

TEST_CASE("what says that a use is over costs nothing when it is damaged in both places", "[cow]") {
  TwoUses area;
  flip_both(area, 0, kUnitsUsed);
  CHECK(area.lost_of_all() == 0);
  CHECK(group_at(area, 0, kUnitsUsed).header.kind == format::GroupKind::end);
}

TEST_CASE("two bad places that take a whole group are told, whichever group it is", "[cow]") {
  // Uses of many groups and of one, ended and not, one of them over what an earlier one has left.
  Damaged area(true, 4);
  for (int run = 0; run < 3; ++run) {
    area.world.open();
    const SnapshotId kept = area.world.take(true);
    const SnapshotId gone = area.world.take(true);
    REQUIRE(area.world.write(0, kSector) == 0);
    if (run == 1) REQUIRE(area.world.write(3 * kChunk, kSector) == 0);
    area.world.remove(gone);
    area.world.check_snapshot(kept);
    area.world.machine.run_until_idle();
    REQUIRE(area.world.volume->close());
    area.world.volume.reset();
  }
  area.pristine = area.world.diff.bytes();
  int tried = 0;
  int cost = 0;
  for (std::uint32_t segment = 0; segment < 4; ++segment) {
    for (std::uint32_t unit = 0; unit < kUnitsUsed + 2; ++unit) {
      INFO("segment " << segment << ", unit " << unit);
      area.restore();
      flip_both(area, segment, unit);
      const auto checked = check(area);
      REQUIRE(checked);
      area.world.open();
      const std::size_t told = area.world.volume->statistics().snapshots_lost;
      CHECK(checked->snapshots_damaged.size() == told);
      CHECK((area.world.volume->statistics().state == "ok") == (told == 0));
      Image seen;
      for (const auto& record : area.world.volume->list()) {
        const int error = area.world.read_snapshot(record.id, seen);
        CHECK(error == (record.lost ? EIO : 0));
        if (error == 0) CHECK(seen == area.world.images.at(record.id));
      }
      area.world.volume.reset();
      ++tried;
      cost += told > 0 ? 1 : 0;
    }
  }
  CHECK(cost > static_cast<int>(kUnitsUsed));
  CHECK(tried > cost);
}

TEST_CASE("a segment whose whole index is damaged in both places is told after an orderly close",
          "[cow]") {
  for (const std::uint32_t segment : {0U, 1U}) {
    TwoUses area;
    for (std::uint32_t unit = 0; unit < kUnitsUsed + 1; ++unit) flip_both(area, segment, unit);
    const auto checked = check(area);
    REQUIRE(checked);
    CHECK(checked->snapshots_damaged.size() == area.world.images.size());
    CHECK(area.lost_of_all() == area.world.images.size());
    CHECK(area.lost_of_all() == area.world.images.size());
  }
}

TEST_CASE("what was in flight over a free segment's first groups is not taken for damage",
          "[cow]") {
  for (const bool clean : {false, true}) {
    Damaged area(true, 3);
    area.world.open();
    // One that is old and needs nothing of segment 1, where the records of a newer one were.
    (void)area.world.take(true);
    for (std::uint64_t chunk = 0; chunk < 8; ++chunk) {
      REQUIRE(area.world.write(chunk * kChunk, kSector) == 0);
    }
    REQUIRE(area.world.volume->close());
    area.world.volume.reset();
    area.world.open();
    const SnapshotId newer = area.world.take(true);
    for (std::uint64_t chunk = 0; chunk < 8; ++chunk) {
      REQUIRE(area.world.write(chunk * kChunk, kSector) == 0);
    }
    area.world.remove(newer);
    area.world.machine.run_until_idle();
    if (clean) REQUIRE(area.world.volume->close());
    area.world.volume.reset();
    const auto free_use = group_at(area, 2, 0).header;
    REQUIRE(free_use.epoch > 6);
    flip_both(area, 2, 0);
    area.world.open();
    std::uint32_t lost = 0;
    for (const cow::SnapshotRecord& record : area.world.volume->list()) lost += record.lost;
    CHECK((lost == 0) == !clean);
    if (!clean) area.world.check_all();
    area.world.volume.reset();
  }
}

// What was damaged is covered by then, so that nothing else says a second time what it cost.
TEST_CASE("what damage costs is lost for good, wherever the open that finds it is cut", "[cow]") {
  Damaged area(true);
  CowWorld& world = area.world;
  world.open();
  REQUIRE(world.volume->set_protection_level(cow::ProtectionLevel::snapshot));
  REQUIRE(world.volume->close());
  world.volume.reset();
  area.pristine = world.diff.bytes();
  constexpr std::uint32_t kUnit9 = 9;  // Of the third snapshot's records; the next has its epoch.
  bool opened = false;
  for (std::uint64_t cut = 0; !opened; ++cut) {
    INFO("cut at operation " << cut << ", seed " << seed());
    area.restore();
    flip_both(area, 0, kUnit9);
    world.diff.settle();
    world.machine.cut_at(world.machine.operations() + cut);
    opened = world.try_open().has_value();
    world.machine.cut_power();
    world.volume.reset();
    world.machine.power_on();
    world.boot_id = Guid::random();
    world.open();
    Image seen;
    for (const cow::SnapshotRecord& record : world.volume->list()) {
      REQUIRE(record.lost == (record.epoch <= 3));
      const int error = world.read_snapshot(record.id, seen);
      REQUIRE(error == (record.lost ? EIO : 0));
      if (error == 0) REQUIRE(seen == world.images.at(record.id));
    }
    REQUIRE(world.volume->protection().fault == cow::Fault::meta_data_corruption);
    world.volume.reset();
  }
}

TEST_CASE("groups behind many that failed are found again", "[cow]") {
  CowWorld world(seed(), Damaged::options(3));
  world.open();
  const format::Layout layout = format::Layout::of(kChunk, kUnit);
  std::uint64_t failed = 0;
  world.diff.fault = [&](const block::Request& request) {
    bool bad = false;
    for (const std::uint32_t copy : {0U, 1U}) {
      const std::uint64_t begin = layout.unit_offset(0, 1, copy);
      bad = bad || (request.op == block::Op::write && request.offset_bytes >= begin &&
                    request.offset_bytes < begin + 60 * kUnit);
    }
    if (bad) ++failed;
    return bad ? EIO : 0;
  };
  SnapshotId last;
  for (std::uint64_t i = 0; i < 80; ++i) {
    last = world.take(true);
    CHECK(world.run_posted(world.volume->live(), block::Op::write, 0, kSector, Image(kSector)) ==
          0);
    std::fill_n(world.twin.begin(), kSector, std::byte{0});
  }
  CHECK(failed > 0);
  const auto lost = [&] {
    std::uint32_t count = 0;
    for (const cow::SnapshotRecord& record : world.volume->list()) {
      count += record.lost;
      if (!record.lost) world.check_snapshot(record.id);
    }
    return count;
  };
  const std::uint32_t before = lost();
  CHECK(before < 80);
  world.volume.reset();  // As a kill leaves it.
  world.diff.fault = {};
  world.open();
  CHECK(lost() == before);
  world.reopen();
  CHECK(lost() == before);
}
