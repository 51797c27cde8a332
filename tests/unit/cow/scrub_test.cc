// SPDX-License-Identifier: Apache-2.0
//
// Purpose: scrub of an attached volume looks at everything that its snapshots need, mends what it
// can while the volume is in use, and names what it cannot.
// Method: a volume with living and removed snapshots, a recovery window's writes, a checkpoint, a
// large blob and two uses of segments is spoilt behind its back, in one place of something and in
// both; what is mended must be as it was before, and be found good by the next open.
#include "provider/cow/check.h"
#include "tests/support/cow_events.h"
#include "tests/support/cow_world.h"
#include "tests/support/seed.h"
#include "tests/support/volume_inside.h"

using namespace umbra;
using namespace umbra::test;
using cow::CheckReport;
using cow::Finding;

namespace {

constexpr std::uint64_t kChunk = 16U << 10U;

struct Attached {
  Attached() : world(seed(), options()) {
    world.events = &events;
    world.open();
    (void)world.take(true);
    REQUIRE(world.write(0, 2 * kChunk) == 0);
    world.reopen();  // A second use of a segment begins.
    const SnapshotId gone = world.take(true);
    REQUIRE(world.write(kChunk, 3 * kChunk) == 0);
    recovered = world.take_unconfirmed(true);
    {
      const SimMachine::Inline waits(world.machine);
      REQUIRE(world.volume->begin_recovery(recovered));
    }
    const auto device = world.volume->open_for_recovery(recovered);
    REQUIRE(device);
    REQUIRE(world.write_posted(**device, world.images.at(recovered), 6 * kChunk, kSector) == 0);
    {
      const SimMachine::Inline waits(world.machine);
      REQUIRE(world.volume->end_recovery(recovered));
      REQUIRE(world.volume->confirm(recovered));
      REQUIRE(world.volume->create_checkpoint({CheckpointId{world.next_id()}, recovered, "one"}));
      REQUIRE(cow::VolumeInside::put(*world.volume, cow::BlobKind::leftovers, Guid{},
                                     Image(2 * kChunk - 9, std::byte{3})));
    }
    world.remove(gone);
    world.machine.run_until_idle();
    pristine = world.diff.bytes();
  }
  static CowWorldOptions options() {
    CowWorldOptions options;
    options.origin_bytes = 8 * kChunk;
    options.segments = options.segments_max = 5;
    return options;
  }
  void flip(std::uint64_t at) { world.diff.bytes()[at] ^= std::byte{0x40}; }
  CheckReport scrub() {
    const SimMachine::Inline waits(world.machine);
    auto report = world.volume->scrub({});
    REQUIRE(report);
    return std::move(*report);
  }
  // All that was lost, and all that is shown, as a new open finds it.
  void check_after_kill() {
    world.volume.reset();
    world.open();
    CHECK(world.volume->statistics().snapshots_lost == 0);
    CHECK(world.volume->list().size() == world.images.size());
    CHECK(world.volume->list_checkpoints().size() == 1);
    CHECK_FALSE(world.volume->list_checkpoints().front().everything);
    world.check_all();
  }

  RecordedEvents events;
  CowWorld world;
  SnapshotId recovered;
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

// Where `bytes` hold something of this kind, a block or unit each.
[[nodiscard]] std::vector<std::uint64_t> used_slots(const Image& bytes) {
  std::vector<std::uint64_t> used;
  for (std::uint64_t at = format::kTableOffset; at < format::kSegmentsOffset;
       at += 2 * format::kBlockBytes) {
    if (!format::is_zero({bytes.data() + at, format::kBlockBytes})) used.push_back(at);
  }
  return used;
}
[[nodiscard]] std::vector<std::uint64_t> used_units(const Attached& area) {
  std::vector<std::uint64_t> used;
  for (std::uint64_t segment = 0; segment < 5; ++segment) {
    for (std::uint32_t unit = 0; unit < 8; ++unit) {
      const std::uint64_t at = area.layout.unit_offset(segment, unit, 0);
      if (std::memcmp(area.pristine.data() + at, "UGRP", 4) == 0) used.push_back(at);
    }
  }
  return used;
}

}  // namespace

TEST_CASE("scrub looks at everything and finds nothing in a good area", "[cow]") {
  Attached area;
  const CheckReport report = area.scrub();
  INFO(text_of(report));
  CHECK(report.findings.empty());
  CHECK(report.complete);
  CHECK(report.blobs >= 2);
  CHECK(report.chunks_verified >= 3);
  CHECK(area.world.diff.bytes() == area.pristine);
  CHECK(area.events.count(cow::EventKind::damage_found) == 0);
}

TEST_CASE("scrub mends what is damaged in one of its two places, to the byte", "[cow]") {
  Attached area;
  std::vector<std::uint64_t> places;
  for (const std::uint64_t at : used_slots(area.pristine)) {
    places.insert(places.end(), {at + 40, at + format::kBlockBytes + 40});
  }
  places.push_back(format::kTableOffset + std::uint64_t{300} * 2 * format::kBlockBytes);  // Free.
  CHECK(used_units(area).size() >= 4);
  for (const std::uint64_t at : used_units(area)) {
    places.insert(places.end(), {at + 30, at + area.layout.index_bytes + 30});
  }
  for (const std::uint64_t at : places) {
    INFO("byte " << at);
    area.flip(at);
    const CheckReport report = area.scrub();
    INFO(text_of(report));
    CHECK(report.repaired == 1);
    CHECK(report.damaged == 0);
    CHECK(area.world.diff.bytes() == area.pristine);
  }
  for (const std::uint64_t at : format::kSuperblockOffsets) {
    area.flip(at + 100);
    CHECK(area.scrub().repaired == 1);
    CHECK(area.scrub().findings.empty());
  }
  area.check_after_kill();
}

TEST_CASE("scrub writes anew what the volume knows, where both places are damaged", "[cow]") {
  Attached area;
  for (const std::uint64_t at : used_slots(area.pristine)) {
    INFO("slot at " << at);
    area.flip(at + 10);
    area.flip(at + format::kBlockBytes + 10);
    const CheckReport report = area.scrub();
    INFO(text_of(report));
    CHECK(report.repaired + report.damaged == 1);
    // The blob that nobody knows by heart.
    const bool blob = report.damaged == 1;
    if (blob) {
      area.flip(at + 10);
      area.flip(at + format::kBlockBytes + 10);
    }
    CHECK(area.scrub().findings.empty());
  }
  area.flip(format::kSuperblockOffsets[0] + 9);
  area.flip(format::kSuperblockOffsets[1] + 9);
  CHECK(area.scrub().damaged == 0);
  CHECK(area.scrub().findings.empty());
  area.check_after_kill();
}

TEST_CASE("scrub says the end of a use again, and tells of groups damaged in both places",
          "[cow]") {
  Attached area;
  format::Group group;
  int ends = 0;
  int groups = 0;
  for (const std::uint64_t at : used_units(area)) {
    INFO("unit at " << at);
    const bool end = area.pristine[at + 4] == std::byte{5};
    area.flip(at + 30);
    area.flip(at + area.layout.index_bytes + 30);
    const CheckReport report = area.scrub();
    INFO(text_of(report));
    if (end) {
      ++ends;
      CHECK(report.repaired == 1);
      CHECK(report.damaged == 0);
    } else if (report.damaged > 0) {
      ++groups;
      CHECK_FALSE(report.snapshots_damaged.empty());
    }
    if (!end) {
      area.flip(at + 30);
      area.flip(at + area.layout.index_bytes + 30);
    }
    CHECK(area.scrub().findings.empty());
  }
  CHECK(ends > 0);
  CHECK(groups > 0);
  area.check_after_kill();
}

TEST_CASE("scrub verifies what was written to a snapshot, tells of damage, and keeps saying so",
          "[cow]") {
  Attached area;
  int alone = 0;
  for (std::uint64_t segment = 0; segment < 5; ++segment) {
    for (std::uint32_t slot = 0; slot < 8; ++slot) {
      const std::uint64_t at = area.layout.slot_offset(segment, slot) + 5000;
      area.flip(at);
      area.events.clear();
      const CheckReport report = area.scrub();
      area.world.machine.run_until_idle();
      const bool damaged = report.damaged > 0;
      CHECK(area.events.count(cow::EventKind::damage_found) == (damaged ? 1U : 0U));
      CHECK((area.world.volume->statistics().state != "ok") == damaged);
      Image seen;
      for (const auto& [id, image] : area.world.images) {
        const auto& named = report.snapshots_damaged;
        const bool wanted = std::find(named.begin(), named.end(), id) != named.end();
        CHECK((area.world.read_snapshot(id, seen) != 0) == wanted);
      }
      if (report.snapshots_damaged == std::vector{area.recovered}) ++alone;
      area.flip(at);
    }
  }
  CHECK(alone > 0);
  CHECK(area.scrub().repaired == 0);
  CHECK(area.world.volume->statistics().state == "ok");
}

TEST_CASE("scrub reads no faster than it may", "[cow]") {
  Attached area;
  constexpr std::uint64_t kRate = 64U << 20U;
  const SimMachine::Inline waits(area.world.machine);
  const TimePoint begin = area.world.clock.now();
  std::uint64_t done_bytes = 0;
  const auto report = area.world.volume->scrub(
      [&](std::uint64_t done, std::uint64_t) {
        done_bytes = done;
        area.world.clock.advance(std::chrono::milliseconds(1));
        return true;
      },
      kRate);
  REQUIRE(report);
  CHECK(report->complete);
  CHECK(done_bytes > 4U << 20U);  // The table alone.
  const auto passed = std::chrono::duration<double>(area.world.clock.now() - begin).count();
  CHECK(passed >= static_cast<double>(done_bytes) / kRate);
}
