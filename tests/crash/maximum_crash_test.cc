// SPDX-License-Identifier: Apache-2.0
//
// Purpose: a maximum that is lowered deletes the oldest snapshots, and a power cut at any disk
// operation of it leaves the former or the new maximum, the youngest snapshots, and each of these
// as it was.
// Method: the change is run once to count its operations, then once per operation, cut there.
#include <algorithm>

#include "tests/support/cow_world.h"
#include "tests/support/seed.h"

using namespace umbra;
using namespace umbra::test;

namespace {

constexpr std::uint64_t kOriginBytes = 4U << 20U;  // Fills one segment for each snapshot.
constexpr std::uint32_t kChunkBytes = 4U << 10U;
constexpr std::size_t kSnapshots = 8;
constexpr std::size_t kFit = 5;

CowWorldOptions roomy() {
  CowWorldOptions options;
  options.origin_bytes = kOriginBytes;
  options.chunk_bytes = kChunkBytes;
  options.segments = 5;
  options.segments_max = 6;
  return options;
}

// Snapshots that keep the whole volume each.
struct Kept {
  explicit Kept(std::uint64_t seed) : world(seed, roomy()) {
    world.open();
    for (std::size_t i = 0; i < kSnapshots; ++i) {
      ids.push_back(world.take(true));
      for (std::uint64_t at = 0; at < kOriginBytes; at += 64U << 10U) {
        REQUIRE(world.write(at, 64U << 10U) == 0);
        world.machine.run_until_idle();
      }
    }
    former = world.volume->statistics().diff_bytes_max;
    // As many segments as kFit snapshots take.
    const std::uint64_t two = cow::diff_bytes_min(kChunkBytes);
    const std::uint64_t none = (128U << 10U) + std::uint64_t{512} * 2 * 4096;
    used = world.volume->statistics().diff_used_bytes;
    lowered = none + used / kSnapshots * kFit;
    REQUIRE(lowered >= two);
  }
  Result<cow::MaximumChange> lower() {
    const SimMachine::Inline waits(world.machine);
    return world.volume->set_diff_maximum(lowered);
  }
  void reopen() {
    world.volume.reset();
    world.open();
  }
  // What is there are the youngest; the others are forgotten.
  std::size_t check_what_is_left() {
    std::vector<SnapshotId> left;
    for (const auto& record : world.volume->list()) left.push_back(record.id);
    REQUIRE(left.size() <= ids.size());
    REQUIRE(std::equal(left.rbegin(), left.rend(), ids.rbegin()));
    for (std::size_t i = 0; i + left.size() < ids.size(); ++i) world.images.erase(ids[i]);
    world.check_all();
    return left.size();
  }

  CowWorld world;
  std::vector<SnapshotId> ids;
  std::uint64_t former = 0;
  std::uint64_t used = 0;
  std::uint64_t lowered = 0;
};

}  // namespace

TEST_CASE("lowering the maximum deletes the oldest snapshots, and no more than it must",
          "[cow][crash]") {
  Kept kept(seed());
  const auto change = kept.lower();
  REQUIRE(change);
  const auto& removed = change->deleted;
  REQUIRE(removed.size() == kSnapshots - kFit);
  CHECK(std::equal(removed.begin(), removed.end(), kept.ids.begin()));
  CHECK(kept.check_what_is_left() == kSnapshots - removed.size());
  const auto statistics = kept.world.volume->statistics();
  CHECK(statistics.diff_bytes_max == kept.lowered);
  CHECK(statistics.diff_used_bytes <= kept.lowered);
  kept.reopen();
  CHECK(kept.world.volume->statistics().diff_bytes_max == kept.lowered);
}

TEST_CASE("what is kept of a maximum counts from the next open on", "[cow][crash]") {
  Kept kept(seed());
  const SimMachine::Inline waits(kept.world.machine);
  CHECK_FALSE(kept.world.volume->kept_association().is_explicit);
  REQUIRE(kept.world.volume->keep_association({kept.former + (8U << 20U), true}));
  CHECK(kept.world.volume->statistics().diff_bytes_max == kept.former);
  kept.reopen();
  CHECK(kept.world.volume->statistics().diff_bytes_max == kept.former + (8U << 20U));
  CHECK(kept.world.volume->kept_association().is_explicit);
  CHECK(kept.world.volume->set_diff_maximum(4096).error().code == Errc::insufficient_storage);
  CHECK(kept.check_what_is_left() == kSnapshots);
}

TEST_CASE("a power cut at any operation of lowering the maximum leaves one of the two",
          "[cow][crash]") {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
  {
    Kept kept(seed());
    begin = kept.world.machine.operations();
    REQUIRE(kept.lower());
    end = kept.world.machine.operations();
  }
  REQUIRE(end - begin >= 4);  // The superblock, and each deletion.
  for (std::uint64_t cut = begin; cut < end; ++cut) {
    INFO("cut at operation " << cut << " of " << begin << " to " << end);
    Kept kept(seed());
    kept.world.machine.cut_at(cut);
    const bool done = kept.lower().has_value();
    kept.world.machine.cut_power();
    kept.world.volume.reset();
    kept.world.machine.power_on();
    kept.world.boot_id = Guid::random();
    // Writes that nobody flushed may be gone: the live volume is not what is judged here.
    kept.world.open();
    Image live;
    REQUIRE(kept.world.read(kept.world.volume->live(), live) == 0);
    kept.world.twin = live;
    const std::size_t left = kept.check_what_is_left();
    const std::uint64_t maximum = kept.world.volume->statistics().diff_bytes_max;
    CHECK((maximum == kept.former || maximum == kept.lowered));
    if (done) CHECK(maximum == kept.lowered);
    if (maximum == kept.former) CHECK(left == kSnapshots);
    REQUIRE(kept.lower());
    CHECK(kept.check_what_is_left() < kSnapshots);
    CHECK(kept.world.volume->statistics().diff_used_bytes <= kept.lowered);
  }
}
