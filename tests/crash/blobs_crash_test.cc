// SPDX-License-Identifier: Apache-2.0
//
// Purpose: a blob that is being changed when the power fails or the process dies is the old one or
// the new one, whole; nothing else is touched.
// Method: each change (small to large, large to large, back, made, removed) is run once to count
// its disk operations, then once per operation with the cut there; the recovery is cut too.
// Afterwards the change is made for good, records are written into the space that came free, and
// all of it has to hold over one more kill.
#include "provider/format/diff_area.h"
#include "tests/support/cow_world.h"
#include "tests/support/seed.h"
#include "tests/support/volume_inside.h"

using namespace umbra;
using namespace umbra::test;
using cow::BlobKind;
using Inside = cow::VolumeInside;

namespace {

constexpr std::uint64_t kChunk = 4U << 10U;
constexpr std::uint64_t kRecoveryCutMax = 12;
constexpr Guid kKey{};

enum class Death { power_cut, kill };

// Absent: there is no blob.
using Content = std::optional<Image>;

struct Change {
  std::uint64_t before = 0;  // Bytes; kAbsent.
  std::uint64_t after = 0;
};
constexpr std::uint64_t kAbsent = ~std::uint64_t{0};
constexpr Change kChanges[] = {{100, 3000},        {3000, 9 * kChunk},   {9 * kChunk, 7 * kChunk},
                               {9 * kChunk, 3000}, {kAbsent, 3000},      {kAbsent, 5 * kChunk},
                               {3000, kAbsent},    {5 * kChunk, kAbsent}};

Content content(std::uint64_t size, std::uint64_t salt) {
  if (size == kAbsent) return {};
  Prng prng(seed() + salt);
  Image bytes(size);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(prng.next());
  return bytes;
}

struct BlobRun {
  BlobRun(const Change& change, Death death_)
      : world(seed(), options()),
        death(death_),
        before(content(change.before, 1)),
        after(content(change.after, 2)) {
    world.open();
    world.take(true);
    REQUIRE(world.write(0, 3 * kChunk) == 0);
    REQUIRE(apply(before));
    REQUIRE(world.run(block::Op::flush) == 0);
    world.diff.settle();
  }
  static CowWorldOptions options() {
    CowWorldOptions options;
    options.origin_bytes = 128U << 10U;
    options.chunk_bytes = kChunk;
    options.segments = options.segments_max = 3;
    return options;
  }

  bool apply(const Content& wanted) {
    if (wanted) return Inside::put(*world.volume, BlobKind::leftovers, kKey, *wanted).has_value();
    const Status removed = Inside::remove(*world.volume, BlobKind::leftovers, kKey);
    return removed || removed.error().code == Errc::object_not_found;
  }
  [[nodiscard]] Content now() {
    auto bytes = Inside::get(*world.volume, BlobKind::leftovers, kKey);
    if (bytes) return std::move(*bytes);
    REQUIRE(bytes.error().code == Errc::object_not_found);
    return {};
  }
  void die() {
    if (death == Death::kill) {
      world.machine.kill();
    } else {
      world.machine.cut_power();
    }
    world.volume.reset();
    world.machine.power_on();
    if (death == Death::power_cut) world.boot_id = Guid::random();
  }
  void recover() {
    world.machine.cut_at(world.machine.prng().below(kRecoveryCutMax));
    (void)world.try_open();
    die();
    world.open();
  }

  CowWorld world;
  Death death;
  Content before;
  Content after;
};

// True: the old one was seen too, which takes a first write that was dropped or torn.
[[nodiscard]] bool cut_change(const Change& change, Death death) {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
  {
    BlobRun run(change, death);
    begin = run.world.machine.operations();
    REQUIRE(run.apply(run.after));
    end = run.world.machine.operations();
  }
  REQUIRE(end - begin >= 3);
  bool old_seen = false;
  bool new_seen = false;
  for (std::uint64_t cut = begin; cut <= end; ++cut) {
    INFO("cut at operation " << cut << " of " << begin << " to " << end);
    BlobRun run(change, death);
    run.world.machine.cut_at(cut);
    const bool acknowledged = run.apply(run.after);
    run.die();
    run.recover();
    const Content seen = run.now();
    const bool is_new = seen == run.after;
    REQUIRE((is_new || (seen == run.before && !acknowledged)));
    (is_new ? new_seen : old_seen) = true;
    run.world.check_all();
    REQUIRE(run.apply(run.after));
    run.world.take(true);
    REQUIRE(run.world.write(0, 100U << 10U) == 0);
    REQUIRE(run.world.run(block::Op::flush) == 0);
    run.die();
    run.world.open();
    REQUIRE(run.now() == run.after);
    run.world.check_all();
  }
  CHECK(new_seen);
  return old_seen;
}

// Of a slot of the table: its newest copy, damaged. The other one has to say the same. Where the
// cut has torn one of them (the other blob may have got this slot, and was being written), nothing
// is promised of a second damage.
void spoil_newest(CowWorld& world, std::uint32_t index) {
  auto& bytes = world.diff.bytes();
  const format::ConstBlock first(bytes.data() + format::kSuperblockOffsets[0], format::kBlockBytes);
  const std::uint64_t area = format::area_tag(format::decode_superblock(first)->area_id);
  std::uint64_t newest = 0;
  std::size_t at = 0;
  for (std::size_t copy = 0; copy < 2; ++copy) {
    const std::size_t place = format::kTableOffset + (index * 2 + copy) * format::kBlockBytes;
    const auto slot = format::decode_slot(
        format::ConstBlock(bytes.data() + place, format::kBlockBytes), area, index);
    if (!slot) return;
    if (slot->sequence <= newest) continue;
    newest = slot->sequence;
    at = place;
  }
  REQUIRE(at != 0);
  bytes[at + 40] ^= std::byte{1};
}

// Another blob takes the space that a change has given back.
void cut_reuse(const Change& change) {
  constexpr std::uint32_t kSlot = 1;  // The snapshot has the first.
  constexpr Guid kOther{.bytes = {1}};
  const Image other = *content(9 * kChunk, 3);
  for (std::uint64_t cut = 0; cut < 40; ++cut) {
    INFO("cut at operation " << cut << " of the other blob's, seed " << seed());
    BlobRun run(change, Death::power_cut);
    REQUIRE(run.apply(run.after));
    run.world.machine.cut_at(run.world.machine.operations() + cut);
    const bool put = Inside::put(*run.world.volume, BlobKind::leftovers, kOther, other).has_value();
    run.die();
    spoil_newest(run.world, kSlot);
    run.world.open();
    REQUIRE(run.now() == run.after);
    if (put) return;
  }
  FAIL("the other blob takes more operations");
}

}  // namespace

TEST_CASE("what a blob has left is used only when both copies of its slot say so", "[cow][crash]") {
  for (const Change& change : kChanges) {
    if (change.before != kAbsent && change.before > kChunk) cut_reuse(change);
  }
}

TEST_CASE("a power cut at any operation of a blob's change leaves the old one or the new one",
          "[cow][crash]") {
  bool old_seen = false;
  for (const Change& change : kChanges) {
    old_seen = cut_change(change, Death::power_cut) || old_seen;
  }
  CHECK(old_seen);
}

TEST_CASE("kill -9 at any operation of a blob's change leaves the old one or the new one",
          "[cow][crash]") {
  bool old_seen = false;
  for (const Change& change : kChanges) old_seen = cut_change(change, Death::kill) || old_seen;
  CHECK(old_seen);
}
