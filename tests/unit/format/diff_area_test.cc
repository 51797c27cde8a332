// SPDX-License-Identifier: Apache-2.0
#include "provider/format/diff_area.h"

#include <array>
#include <cstring>
#include <set>
#include <string_view>

#include "engine/platform/crc32c.h"
#include "engine/platform/prng.h"
#include "tests/support/catch.h"
#include "tests/support/seed.h"

using namespace umbra;
using namespace umbra::format;

namespace {

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

struct GroupFixture {
  Layout layout = Layout::of(16384, 512);
  GroupHeader header;
  std::vector<std::uint64_t> chunks = {7, 8, 99};
  std::vector<std::uint32_t> checksums = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
  std::vector<std::byte> bytes;

  GroupFixture() {
    header.durable = true;
    header.generation = 3;
    header.sequence = 1000;
    header.epoch = 12;
    header.completed_sequence = 998;
    header.durable_sequence = 997;
    header.segment = 5;
    header.unit = 2;
    header.units = static_cast<std::uint16_t>(layout.group_units(3));
    header.first_slot = 9;
    header.count = 3;
    bytes.resize(std::size_t{header.units} * layout.unit_bytes);
    encode_group(layout, 77, header, chunks, checksums, bytes);
  }
  [[nodiscard]] bool decodes(Group& group, std::uint64_t chunk_count = 100) const {
    return decode_group(layout, 77, 5, 2, chunk_count, bytes, group);
  }
};

}  // namespace

TEST_CASE("crc32c has the values of RFC 3720", "[format]") {
  const std::array<std::byte, 32> zeroes{};
  CHECK(crc32c(zeroes) == 0x8A9136AAU);
  CHECK(crc32c(bytes_of("123456789")) == 0xE3069283U);
  CHECK(crc32c({}) == 0);
  Prng prng(test::seed());
  std::array<std::byte, 257> random{};
  for (std::byte& byte : random) byte = static_cast<std::byte>(prng.next());
  for (std::size_t size = 0; size <= random.size(); ++size) {
    const auto part = std::span(random).first(size);
    CHECK(crc32c(part) == crc32c_portable(part));
    CHECK(crc32c(part.subspan(size / 2), crc32c(part.first(size / 2))) == crc32c(part));
  }
}

TEST_CASE("a superblock comes back as it was, and no flipped bit goes unseen", "[format]") {
  Superblock superblock;
  superblock.area_id = Guid::random();
  superblock.volume_id = VolumeId::random();
  superblock.origin_bytes = 123 * 512;
  superblock.chunk_bytes = 65536;
  superblock.unit_bytes = 4096;
  superblock.diff_bytes_max = 1U << 30U;
  superblock.sequence = 9;
  superblock.open_count = 4;
  superblock.trusted_sequence = 77;
  superblock.boot_id = Guid::random();
  superblock.clean = true;
  for (std::uint32_t i = 0; i < kTableSegmentsMax; ++i) superblock.table_segments.push_back(i * 7);
  superblock.settings = {1,    5,   132,    1U << 26U, true,      false,
                         true, 512, 86'400, 133,       1U << 20U, {70, 80, 100}};
  superblock.fingerprint.fill(std::byte{0x5A});
  superblock.revert = {true, SnapshotId::random(), 1, 5, true};
  superblock.move = {MoveState::arriving, Guid::random(), "/srv/diff/area of \"a\""};
  std::array<std::byte, kBlockBytes> bytes{};
  encode(superblock, bytes);
  const auto decoded = decode_superblock(bytes);
  REQUIRE(decoded);
  CHECK(decoded->area_id == superblock.area_id);
  CHECK(decoded->volume_id == superblock.volume_id);
  CHECK(decoded->origin_bytes == superblock.origin_bytes);
  CHECK(decoded->chunk_bytes == superblock.chunk_bytes);
  CHECK(decoded->unit_bytes == superblock.unit_bytes);
  CHECK(decoded->diff_bytes_max == superblock.diff_bytes_max);
  CHECK(decoded->sequence == superblock.sequence);
  CHECK(decoded->open_count == superblock.open_count);
  CHECK(decoded->trusted_sequence == superblock.trusted_sequence);
  CHECK(decoded->boot_id == superblock.boot_id);
  CHECK(decoded->clean);
  CHECK(decoded->table_segments == superblock.table_segments);
  CHECK(decoded->settings == superblock.settings);
  CHECK(decoded->fingerprint == superblock.fingerprint);
  CHECK(decoded->revert == superblock.revert);
  CHECK(decoded->move == superblock.move);
  for (std::size_t at = 0; at < bytes.size(); ++at) {
    bytes[at] ^= std::byte{0x10};
    CHECK_FALSE(decode_superblock(bytes));
    bytes[at] ^= std::byte{0x10};
  }
}

TEST_CASE("superblock values that make no sense are damage", "[format]") {
  Superblock superblock;
  superblock.origin_bytes = 512;
  superblock.chunk_bytes = 16384;
  superblock.unit_bytes = 512;
  std::array<std::byte, kBlockBytes> bytes{};
  encode(superblock, bytes);
  REQUIRE(decode_superblock(bytes));
  const auto refused = [&](auto change) {
    Superblock changed = superblock;
    change(changed);
    encode(changed, bytes);
    const auto decoded = decode_superblock(bytes);
    return !decoded && decoded.error().code == Errc::diff_area_corrupt;
  };
  CHECK(refused([](Superblock& s) { s.chunk_bytes = 12345; }));
  CHECK(refused([](Superblock& s) { s.settings.protection_level = 2; }));
  CHECK(refused([](Superblock& s) { s.settings.threshold_percents = {90, 80, 95}; }));
  CHECK(refused([](Superblock& s) { s.settings.threshold_percents = {0, 80, 95}; }));
  CHECK(refused([](Superblock& s) { s.settings.threshold_percents = {80, 90, 101}; }));
  CHECK(refused([](Superblock& s) { s.settings.retention_longest_seconds = -1; }));
  CHECK(refused([](Superblock& s) { s.revert.next_chunk = 2; }));
  CHECK(refused([](Superblock& s) { s.move.state = MoveState{3}; }));
}

TEST_CASE("a snapshot slot comes back as it was", "[format]") {
  SnapshotSlot slot;
  slot.index = 17;
  slot.sequence = 5;
  slot.state = SlotState::committed;
  slot.lost = true;
  slot.persistent = true;
  slot.recovering = true;
  slot.attributes = 0x00400009;
  slot.id = SnapshotId::random();
  slot.set_id = SnapshotSetId::random();
  slot.session_id = SessionId::random();
  slot.boot_id = Guid::random();
  slot.epoch = 1234567890123;
  slot.creation_filetime = 133'000'000'000'000'000;
  slot.retain_until_filetime = 134'000'000'000'000'000;
  for (std::size_t i = 0; i < kMembersMax; ++i) slot.members.push_back(SnapshotId::random());
  std::array<std::byte, kBlockBytes> bytes{};
  encode(slot, 42, bytes);
  const auto decoded = decode_slot(bytes, 42, 17);
  REQUIRE(decoded);
  CHECK(decoded->sequence == slot.sequence);
  CHECK(decoded->state == slot.state);
  CHECK((decoded->lost && decoded->persistent && decoded->recovering));
  CHECK(decoded->attributes == slot.attributes);
  CHECK(decoded->id == slot.id);
  CHECK(decoded->set_id == slot.set_id);
  CHECK(decoded->session_id == slot.session_id);
  CHECK(decoded->boot_id == slot.boot_id);
  CHECK(decoded->epoch == slot.epoch);
  CHECK(decoded->creation_filetime == slot.creation_filetime);
  CHECK(decoded->members == slot.members);
  CHECK(decoded->retain_until_filetime == slot.retain_until_filetime);
  CHECK_FALSE(decode_slot(bytes, 43, 17));  // Of another area.
  CHECK_FALSE(decode_slot(bytes, 42, 18));  // Written to the wrong place.
  bytes[200] ^= std::byte{1};
  CHECK_FALSE(decode_slot(bytes, 42, 17));
}

TEST_CASE("a blob's slot comes back as it was", "[format]") {
  Prng prng(test::seed());
  SnapshotSlot slot;
  slot.index = 3;
  slot.sequence = 8;
  slot.state = SlotState::blob;
  slot.epoch = 44;
  slot.blob.kind = 2;
  slot.blob.key = Guid::random();
  slot.blob.bytes.resize(kBlobInlineMax);
  for (std::byte& byte : slot.blob.bytes) byte = static_cast<std::byte>(prng.next());
  slot.blob.size_bytes = slot.blob.bytes.size();
  slot.blob.checksum = crc32c(slot.blob.bytes);
  std::array<std::byte, kBlockBytes> bytes{};
  encode(slot, 42, bytes);
  auto decoded = decode_slot(bytes, 42, 3);
  REQUIRE(decoded);
  CHECK(decoded->state == SlotState::blob);
  CHECK(decoded->epoch == 44);
  CHECK(decoded->blob.kind == 2);
  CHECK(decoded->blob.key == slot.blob.key);
  CHECK(decoded->blob.bytes == slot.blob.bytes);
  slot.blob.checksum ^= 1U;
  encode(slot, 42, bytes);
  CHECK_FALSE(decode_slot(bytes, 42, 3));
  slot.blob.bytes.clear();
  slot.blob.size_bytes = kBlobBytesMax;
  for (std::uint32_t i = 0; i < kBlobExtentsMax; ++i) {
    slot.blob.extents.push_back({i, static_cast<std::uint16_t>(i), static_cast<std::uint16_t>(1)});
  }
  encode(slot, 42, bytes);
  decoded = decode_slot(bytes, 42, 3);
  REQUIRE(decoded);
  CHECK(decoded->blob.extents == slot.blob.extents);
  CHECK(decoded->blob.size_bytes == kBlobBytesMax);
  CHECK(decoded->blob.bytes.empty());
  slot.blob.size_bytes = kBlobBytesMax + 1;
  encode(slot, 42, bytes);
  CHECK_FALSE(decode_slot(bytes, 42, 3));
}

TEST_CASE("entries without data take no slot", "[format]") {
  GroupFixture f;
  const std::vector<std::uint32_t> flags = {kEntryZeroes, kEntryUnchecked, kEntryChanged};
  const auto encoded = [&](std::uint32_t first_slot, std::span<const std::uint32_t> entries) {
    f.header.first_slot = static_cast<std::uint16_t>(first_slot);
    encode_group(f.layout, 77, f.header, f.chunks, f.checksums, f.bytes, entries);
    Group group;
    return f.decodes(group) && std::equal(entries.begin(), entries.end(), group.flags.begin());
  };
  CHECK(encoded(f.layout.slots - 1, flags));  // One slot is left, and one is enough.
  CHECK_FALSE(encoded(f.layout.slots, flags));
  CHECK_FALSE(encoded(f.layout.slots - 1, std::vector<std::uint32_t>{0, 0, kEntryChanged}));
  CHECK_FALSE(encoded(0, std::vector<std::uint32_t>{kEntryZeroes | kEntryChanged, 0, 0}));
  CHECK_FALSE(encoded(0, std::vector<std::uint32_t>{8, 0, 0}));
  f.header.kind = GroupKind::overlay;
  CHECK(encoded(0, flags));
  f.header.kind = GroupKind::reverted;
  CHECK(encoded(0, flags));
  f.header.kind = static_cast<GroupKind>(6);
  CHECK_FALSE(encoded(0, flags));
}

TEST_CASE("a group comes back as it was, and only where it belongs", "[format]") {
  const GroupFixture f;
  Group group;
  REQUIRE(f.decodes(group));
  CHECK(group.chunks == f.chunks);
  CHECK(group.checksums == f.checksums);
  CHECK(group.header.durable);
  CHECK(group.header.kind == GroupKind::records);
  CHECK(group.flags == std::vector<std::uint32_t>(3, 0));
  CHECK(group.header.generation == 3);
  CHECK(group.header.sequence == 1000);
  CHECK(group.header.epoch == 12);
  CHECK(group.header.completed_sequence == 998);
  CHECK(group.header.durable_sequence == 997);
  CHECK(group.header.first_slot == 9);
  CHECK_FALSE(decode_group(f.layout, 78, 5, 2, 100, f.bytes, group));
  CHECK_FALSE(decode_group(f.layout, 77, 6, 2, 100, f.bytes, group));
  CHECK_FALSE(decode_group(f.layout, 77, 5, 3, 100, f.bytes, group));
  CHECK_FALSE(f.decodes(group, 99));  // A chunk that the volume does not have.
}

TEST_CASE("a damaged or shortened group is none", "[format]") {
  GroupFixture f;
  const std::size_t used = kGroupHeaderBytes + 3 * f.layout.entry_bytes;
  Group group;
  for (std::size_t at = 0; at < used; ++at) {
    f.bytes[at] ^= std::byte{0x20};
    CHECK_FALSE(f.decodes(group));
    f.bytes[at] ^= std::byte{0x20};
  }
  f.bytes.resize(used - 1);
  CHECK_FALSE(f.decodes(group));
  f.bytes.clear();
  CHECK_FALSE(f.decodes(group));
}

TEST_CASE("every layout has room for what it promises", "[format]") {
  for (std::uint32_t chunk = 4096; chunk <= (1U << 20U); chunk *= 2) {
    for (const std::uint32_t unit : {512U, 1024U, 4096U}) {
      const Layout layout = Layout::of(chunk, unit);
      CHECK(layout.slots >= 16);
      CHECK(layout.index_units >= layout.slots * layout.group_units(1));
      CHECK(layout.index_units <= 0xFFFF);
      CHECK(std::uint64_t{layout.index_units} * unit <= layout.index_bytes);
      CHECK(layout.unit_offset(3, 0, 1) == layout.unit_offset(3, 0, 0) + layout.index_bytes);
      CHECK(layout.unit_offset(3, 0, 1) + layout.index_bytes == layout.slot_offset(3, 0));
      CHECK(layout.data_offset % kBlockBytes == 0);
      CHECK(layout.segment_bytes == layout.data_offset + std::uint64_t{layout.slots} * chunk);
    }
  }
}

TEST_CASE("every slot of the snapshot table has two places of its own", "[format]") {
  for (std::uint32_t chunk = 4096; chunk <= (1U << 20U); chunk *= 2) {
    const Layout layout = Layout::of(chunk, 512);
    CHECK(kTableSlots + std::uint64_t{layout.table_slots} * kTableSegmentsMax >= kSnapshotsMax);
    const std::vector<std::uint32_t> segments = {9, 2};
    std::set<std::uint64_t> places;
    const std::uint32_t slots = kTableSlots + 2 * layout.table_slots;
    for (std::uint32_t slot = 0; slot < slots; ++slot) {
      for (const std::uint32_t copy : {0U, 1U}) {
        const std::uint64_t at = layout.table_offset(segments, slot, copy);
        places.insert(at);
        if (slot < kTableSlots) {
          CHECK((at >= kTableOffset && at + kBlockBytes <= kSegmentsOffset));
        } else {
          // In the data of its segment: the index is left alone.
          const std::uint32_t segment = segments[(slot - kTableSlots) / layout.table_slots];
          CHECK(at >= layout.slot_offset(segment, 0));
          CHECK(at + kBlockBytes <= layout.segment_offset(segment + 1));
        }
      }
    }
    CHECK(places.size() == 2 * std::size_t{slots});
  }
}
