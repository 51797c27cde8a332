// SPDX-License-Identifier: Apache-2.0
//
// Purpose: check() finds what is damaged, mends what exists twice, touches nothing else, and agrees
// with what a volume shows.
// Method: an area with living and removed snapshots and blobs is spoilt one byte at a time. What
// check() says is held against what a volume that opens the same bytes serves.
#include "provider/cow/check.h"

#include "provider/cow/contents.h"
#include "provider/format/diff_area.h"
#include "tests/support/cow_world.h"
#include "tests/support/seed.h"
#include "tests/support/volume_inside.h"

using namespace umbra;
using namespace umbra::test;
using cow::CheckReport;
using cow::Finding;

namespace {

constexpr std::uint64_t kChunk = 16U << 10U;
constexpr std::uint32_t kUnits = 12;

struct Area {
  explicit Area(bool closed) : world(seed(), options()) {
    world.open();
    std::vector<SnapshotId> gone;
    for (std::uint64_t i = 0; i < 6; ++i) {
      const SnapshotId id = world.take(true);
      if (i % 3 == 1) gone.push_back(id);
      for (std::uint64_t chunk = 0; chunk < 2; ++chunk) {
        REQUIRE(world.write((i % 2 + chunk * 2) * kChunk, kSector) == 0);
      }
    }
    const Image small(100, std::byte{1});
    const Image large(3 * kChunk / 2, std::byte{2});
    Guid key;
    REQUIRE(cow::VolumeInside::put(*world.volume, cow::BlobKind::fingerprint, key, small));
    REQUIRE(cow::VolumeInside::put(*world.volume, cow::BlobKind::change_checkpoint, key, large));
    for (const SnapshotId& id : gone) world.remove(id);
    world.machine.run_until_idle();
    if (closed) REQUIRE(world.volume->close());
    world.volume.reset();
    pristine = world.diff.bytes();
  }
  static CowWorldOptions options() {
    CowWorldOptions options;
    options.origin_bytes = 8 * kChunk;
    options.segments = options.segments_max = 3;
    return options;
  }
  void restore() { std::copy(pristine.begin(), pristine.end(), world.diff.bytes().begin()); }
  void flip(std::uint64_t at, unsigned bit = 6) { world.diff.bytes()[at] ^= std::byte{1} << bit; }

  [[nodiscard]] CheckReport check(bool repair = false, bool data = true) {
    cow::CheckOptions options;
    options.repair = repair;
    options.data = data;
    options.boot_id = world.boot_id;
    const SimMachine::Inline waits(world.machine);
    auto report = cow::check(world.diff, options);
    INFO((report ? std::string() : report.error().to_string()));
    REQUIRE(report);
    return std::move(*report);
  }
  /// How many snapshots give EIO somewhere; what is served is right.
  [[nodiscard]] std::vector<SnapshotId> damaged_for_readers() {
    std::vector<SnapshotId> damaged;
    world.open();
    Image seen;
    for (const auto& [id, image] : world.images) {
      const int error = world.read_snapshot(id, seen);
      if (error != 0) damaged.push_back(id);
      if (error == 0) REQUIRE(seen == image);
    }
    world.volume.reset();
    return damaged;
  }

  CowWorld world;
  const format::Layout layout = format::Layout::of(kChunk, 512);
  Image pristine;
};

[[nodiscard]] std::string text_of(const CheckReport& report) {
  std::string text;
  for (const Finding& finding : report.findings) {
    text += std::to_string(finding.offset_bytes) + " " + finding.what + "; ";
  }
  return text;
}

}  // namespace

TEST_CASE("check finds nothing in a good area and changes nothing", "[cow]") {
  for (const bool closed : {true, false}) {
    Area area(closed);
    for (const bool repair : {false, true}) {
      const CheckReport report = area.check(repair);
      INFO(text_of(report));
      CHECK(report.findings.empty());
      CHECK(report.complete);
      CHECK(report.clean_shutdown == closed);
      CHECK(report.snapshots == 4);
      CHECK(report.blobs == 2);
      CHECK(report.groups == kUnits);
      CHECK(report.records == kUnits);
      CHECK(report.chunks_verified > 0);
      CHECK(area.world.diff.bytes() == area.pristine);
    }
  }
}

TEST_CASE("check finds a damaged copy of metadata, and repairs it to the byte", "[cow]") {
  Area area(true);
  const std::uint64_t blob_data = area.layout.slot_offset(1, 0);
  const std::uint64_t places[] = {format::kTableOffset + 5,
                                  format::kTableOffset + format::kBlockBytes + 50,
                                  area.layout.unit_offset(0, 0, 0) + 20,
                                  area.layout.unit_offset(0, 5, 1) + 80,
                                  area.layout.unit_offset(0, kUnits - 1, 0) + 1,
                                  area.layout.unit_offset(0, kUnits - 1, 1) + 1,
                                  blob_data + 7,
                                  blob_data + 2 * kChunk + 7};
  for (const std::uint64_t at : places) {
    INFO("byte " << at);
    area.restore();
    area.flip(at);
    const Image spoilt = area.world.diff.bytes();
    const CheckReport found = area.check();
    INFO(text_of(found));
    CHECK(found.repairable == 1);
    CHECK(found.damaged == 0);
    CHECK(area.world.diff.bytes() == spoilt);
    CHECK(area.check(true).repaired == 1);
    CHECK(area.world.diff.bytes() == area.pristine);
  }
  for (const std::uint64_t at : format::kSuperblockOffsets) {
    area.restore();
    area.flip(at + 3000);
    CHECK(area.check().repairable == 1);
    CHECK(area.check(true).repaired == 1);
    CHECK(area.check().findings.empty());
    CHECK(area.damaged_for_readers().empty());
  }
}

// Data is given its slots when it has been read, which may be in another order than the units'.
TEST_CASE("slots that do not ascend with the units are no damage; one that is named twice is",
          "[cow]") {
  Area area(true);
  auto& bytes = area.world.diff.bytes();
  const auto block = [&](std::uint64_t at, std::size_t size) {
    return std::span(bytes).subspan(at, size);
  };
  const auto superblock =
      format::decode_superblock(format::ConstBlock(bytes.data(), format::kBlockBytes));
  REQUIRE(superblock);
  const std::uint64_t tag = format::area_tag(superblock->area_id);
  const std::size_t unit_bytes = area.layout.unit_bytes;
  const auto group_at = [&](std::uint32_t unit) {
    format::Group group;
    REQUIRE(format::decode_group(area.layout, tag, 0, unit, 8,
                                 block(area.layout.unit_offset(0, unit, 0), unit_bytes), group));
    REQUIRE(group.header.count == 1);
    return group;
  };
  const auto give = [&](format::Group group, std::uint16_t slot) {
    group.header.first_slot = slot;
    for (const std::uint32_t place : {0U, 1U})
      format::encode_group(area.layout, tag, group.header, group.chunks, group.checksums,
                           block(area.layout.unit_offset(0, group.header.unit, place), unit_bytes),
                           group.flags);
  };
  const auto one = group_at(2);
  const auto other = group_at(3);
  give(one, other.header.first_slot);
  give(other, one.header.first_slot);
  std::swap_ranges(block(area.layout.slot_offset(0, one.header.first_slot), kChunk).begin(),
                   block(area.layout.slot_offset(0, one.header.first_slot), kChunk).end(),
                   block(area.layout.slot_offset(0, other.header.first_slot), kChunk).begin());
  CheckReport report = area.check();
  INFO(text_of(report));
  CHECK(report.findings.empty());
  CHECK(area.damaged_for_readers().empty());

  area.restore();
  give(one, other.header.first_slot);
  report = area.check(false, false);
  CHECK(report.damaged == 1);
  CHECK(text_of(report).find("name the same slot") != std::string::npos);
}

TEST_CASE("check names the snapshots that damaged data costs, as their readers do", "[cow]") {
  Area area(true);
  for (std::uint64_t slot = 0; slot < kUnits; ++slot) {
    INFO("slot " << slot);
    area.restore();
    area.flip(area.layout.slot_offset(0, static_cast<std::uint32_t>(slot)) + 100);
    CHECK(area.check(true, false).findings.empty());  // The structure is good.
    const CheckReport report = area.check(true);
    INFO(text_of(report));
    auto named = report.snapshots_damaged;
    std::sort(named.begin(), named.end());
    CHECK(report.damaged == (named.empty() ? 0 : 1));
    CHECK(named == area.damaged_for_readers());
  }
}

TEST_CASE("check names the snapshots that a group damaged in both places costs", "[cow]") {
  Area area(true);
  area.flip(area.layout.unit_offset(0, 4, 0) + 20);
  area.flip(area.layout.unit_offset(0, 4, 1) + 20);
  const CheckReport report = area.check(true, false);
  CHECK(report.damaged == 1);
  auto named = report.snapshots_damaged;
  std::sort(named.begin(), named.end());
  CHECK_FALSE(named.empty());
  CHECK(named == area.damaged_for_readers());
}

TEST_CASE("any flipped byte is irrelevant, repaired or reported; nothing else is", "[cow]") {
  for (const bool closed : {true, false}) {
    Area area(closed);
    Prng prng(seed());
    // Where something lies; elsewhere most bytes are irrelevant.
    const std::uint64_t regions[][2] = {{0, 4096},
                                        {format::kSuperblockOffsets[1], 4096},
                                        {format::kTableOffset, 9 * 2 * format::kBlockBytes},
                                        {area.layout.unit_offset(0, 0, 0), kUnits * 512},
                                        {area.layout.unit_offset(0, 0, 1), kUnits * 512},
                                        {area.layout.slot_offset(0, 0), kUnits * kChunk},
                                        {area.layout.slot_offset(1, 0), 4 * kChunk},
                                        {0, area.pristine.size()}};
    const int rounds = long_run() ? 20'000 : 150;
    int reported = 0;
    for (int round = 0; round < rounds; ++round) {
      const auto& region = regions[prng.below(std::size(regions))];
      const std::uint64_t at = region[0] + prng.below(region[1]);
      const auto bit = static_cast<unsigned>(prng.below(8));
      INFO("byte " << at << " bit " << bit);
      area.restore();
      area.flip(at, bit);
      const CheckReport report = area.check(true);
      INFO(text_of(report));
      auto named = report.snapshots_damaged;
      std::sort(named.begin(), named.end());
      if (!report.findings.empty()) ++reported;
      const std::vector<SnapshotId> damaged = area.damaged_for_readers();
      // In a group that nothing vouches for it is for open() to say what it is.
      if (closed || report.unfinished == 0) {
        REQUIRE(named == damaged);
      }
      REQUIRE((damaged.empty() || !report.findings.empty()));
    }
    CHECK(reported > rounds / 4);
  }
}

TEST_CASE("check stops when it is told to, and says so", "[cow]") {
  Area area(true);
  cow::CheckOptions options;
  options.data = true;
  int calls = 0;
  options.progress = [&](std::uint64_t, std::uint64_t) { return ++calls < 3; };
  const auto report = cow::check(area.world.diff, options);
  REQUIRE(report);
  CHECK_FALSE(report->complete);
  CHECK(calls == 3);
}

TEST_CASE("check refuses what is no diff area, and an area without a good superblock", "[cow]") {
  Area area(true);
  area.flip(100);
  area.flip(format::kSuperblockOffsets[1] + 100);
  CHECK(cow::check(area.world.diff, {}).error().code == Errc::diff_area_corrupt);
  area.restore();
  for (const std::uint64_t at : format::kSuperblockOffsets)
    area.world.diff.bytes()[at + 8] = std::byte{2};
  CHECK(cow::check(area.world.diff, {}).error().code == Errc::diff_area_version);
  CHECK(cow::check(area.world.origin, {}).error().code == Errc::diff_area_foreign);
}

TEST_CASE("scrub of an attached volume mends the index and names what damaged data costs",
          "[cow]") {
  Area area(true);
  area.world.open();
  const auto scrub = [&] {
    const SimMachine::Inline waits(area.world.machine);
    auto report = area.world.volume->scrub({});
    REQUIRE(report);
    return std::move(*report);
  };
  const CheckReport good = scrub();
  INFO(text_of(good));
  CHECK(good.findings.empty());
  CHECK(good.chunks_verified > 0);
  const Image before = area.world.diff.bytes();
  for (const std::uint32_t copy : {0U, 1U}) {
    area.flip(area.layout.unit_offset(0, 3, copy) + 20);
    CHECK(scrub().repaired == 1);
    CHECK(area.world.diff.bytes() == before);
  }
  // Between hold and release nothing of ours is written.
  area.world.volume->hold();
  area.flip(area.layout.unit_offset(0, 3, 0) + 20);
  const Image held = area.world.diff.bytes();
  CHECK(scrub().repairable == 1);
  CHECK(area.world.diff.bytes() == held);
  area.world.volume->release();
  CHECK(scrub().repaired == 1);
  int found = 0;
  for (std::uint32_t slot = 0; slot < kUnits; ++slot) {
    INFO("slot " << slot);
    const std::uint64_t at = area.layout.slot_offset(0, slot) + 5000;
    area.flip(at);
    const CheckReport report = scrub();
    area.flip(at);
    found += static_cast<int>(report.damaged);
    CHECK(report.damaged == (report.snapshots_damaged.empty() ? 0 : 1));
    area.flip(at);
    Image seen;
    for (const auto& [id, image] : area.world.images) {
      const auto& named = report.snapshots_damaged;
      const bool wanted = std::find(named.begin(), named.end(), id) != named.end();
      CHECK((area.world.read_snapshot(id, seen) != 0) == wanted);
    }
    area.flip(at);
  }
  CHECK(found > 0);
  int calls = 0;
  const auto stopped = area.world.volume->scrub([&](auto, auto) { return ++calls < 2; });
  REQUIRE(stopped);
  CHECK_FALSE(stopped->complete);
  REQUIRE(area.world.volume->close());
  CHECK(area.world.volume->scrub({}).error().code == Errc::bad_state);
}

TEST_CASE("a repair leaves retention locks as they are, and names them", "[cow]") {
  Area area(true);
  CowWorld& world = area.world;
  world.open();
  const auto records = world.volume->list();
  REQUIRE_FALSE(records.empty());
  const SnapshotId id = records.front().id;
  const std::int64_t until = world.clock.wall_filetime() + 36'000'000'000;
  REQUIRE(world.volume->set_retention({.longest_seconds = 7200, .reserve_bytes = 0}));
  REQUIRE(world.volume->retain(id, until));
  REQUIRE(world.volume->close());
  world.volume.reset();
  area.pristine = world.diff.bytes();
  constexpr std::uint64_t kSlots = 8;
  int repaired = 0;
  for (std::uint64_t i = 0; i < kSlots * 2; ++i) {
    area.restore();
    area.flip(format::kTableOffset + i * format::kBlockBytes + 130);
    const SimMachine::Inline waits(world.machine);
    cow::CheckOptions options;
    options.repair = true;
    options.now_filetime = world.clock.wall_filetime();
    const auto report = cow::check(world.diff, options);
    REQUIRE(report);
    repaired += static_cast<int>(report->repaired);
    CHECK(report->snapshots_locked == std::vector{id});
    REQUIRE(report->locks.size() == 1);
    CHECK(report->locks.front().find("under retention lock until ") != std::string::npos);
    const auto contents = cow::read_contents(world.diff);
    REQUIRE(contents);
    CHECK(contents->unknown_slots == 0);
    CHECK(contents->snapshots.size() == records.size());
    const Status kept = cow::check_retention(*contents, options.now_filetime);
    REQUIRE_FALSE(kept);
    CHECK(kept.error().code == Errc::access_denied);
    CHECK(kept.error().context == report->locks.front());
    CHECK(cow::check_retention(*contents, until));
  }
  CHECK(repaired > 4);
}

TEST_CASE("what a diff area holds is read without opening it", "[cow]") {
  Area area(false);
  const SimMachine::Inline waits(area.world.machine);
  const auto contents = cow::read_contents(area.world.diff);
  REQUIRE(contents);
  CHECK(contents->in_force);
  CHECK(contents->description.volume_id == area.world.volume_id);
  REQUIRE(contents->snapshots.size() == area.world.images.size());
  for (const auto& record : contents->snapshots) CHECK(area.world.images.count(record.id) == 1);
  CHECK(area.world.diff.bytes() == area.pristine);
  // Damaged in both places: nobody knows what it held.
  area.flip(format::kTableOffset + 130);
  area.flip(format::kTableOffset + format::kBlockBytes + 130);
  CHECK(cow::read_contents(area.world.diff)->unknown_slots == 1);
  REQUIRE(cow::erase_diff_area(area.world.diff));
  const auto erased = cow::read_contents(area.world.diff);
  REQUIRE_FALSE(erased);
  CHECK(erased.error().code == Errc::diff_area_foreign);
}
