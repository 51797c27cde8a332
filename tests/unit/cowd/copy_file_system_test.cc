// SPDX-License-Identifier: Apache-2.0
#include "provider/daemon/copy_file_system.h"

#include <algorithm>
#include <cstring>

#include "engine/platform/crc32c.h"
#include "tests/support/catch.h"
#include "tests/support/ram_device.h"

using namespace umbra;
using namespace umbra::cowd;

namespace {

using Block = std::array<std::byte, kSuperblockBytes>;

const Guid kLive = Guid::parse("7b9c2f1e-5d0a-4f4e-9c37-3f3f0a5b1c2d").value();
const Guid kOther = Guid::parse("00000000-1111-4222-8333-444444444444").value();

void put(Block& block, std::size_t offset, std::string_view text) {
  std::memcpy(block.data() + offset, text.data(), text.size());
}
void put(Block& block, std::size_t offset, const Guid& id) {
  std::memcpy(block.data() + offset, id.bytes.data(), id.bytes.size());
}
Guid id_at(const Block& block, std::size_t offset) {
  Guid id;
  std::memcpy(id.bytes.data(), block.data() + offset, id.bytes.size());
  return id;
}
void sign(Block& block) {
  const std::uint32_t sum = crc32c(std::span(block).subspan(32));
  for (std::size_t i = 0; i < 4; ++i) block[i] = std::byte(sum >> 8 * i & 0xFFU);
}

Block btrfs() {
  Block block{};
  put(block, 0x40, "_BHRfS_M");
  put(block, 0x20, kLive);
  block[0x88] = std::byte{1};
  sign(block);
  return block;
}
Block ext4(std::uint8_t incompatible) {
  Block block{};
  put(block, 1024 + 56, "\x53\xEF");
  block[1024 + 96] = std::byte{incompatible};
  return block;
}

constexpr std::uint8_t kExtents = 0x40;
constexpr std::uint8_t kNeedsRecovery = 0x04;

}  // namespace

TEST_CASE("what a copy holds is told from its superblocks", "[copy_file_system]") {
  const Block empty{};
  CHECK(facts_of(empty, empty).file_system == FileSystem::other);
  Block xfs{};
  put(xfs, 0, "XFSB");
  CHECK(facts_of(xfs, empty).file_system == FileSystem::xfs);
  CHECK(facts_of(ext4(kExtents), empty).file_system == FileSystem::ext);
  CHECK_FALSE(facts_of(ext4(kExtents), empty).journal_in_use);
  CHECK(facts_of(ext4(kExtents | kNeedsRecovery), empty).journal_in_use);
  Block logging = btrfs();
  CHECK(facts_of(empty, logging).file_system == FileSystem::btrfs);
  CHECK_FALSE(facts_of(empty, logging).journal_in_use);
  logging[0x61] = std::byte{1};
  CHECK(facts_of(empty, logging).journal_in_use);
}

TEST_CASE("a btrfs gets another identity, and keeps the one of its tree blocks",
          "[copy_file_system]") {
  Block block = btrfs();
  CHECK(give_btrfs_identity(std::span(block), kOther).value());
  CHECK(id_at(block, 0x20) == kOther);
  CHECK(id_at(block, 0x23B) == kLive);
  CHECK(block[0xBD] == std::byte{0x04});
  Block again = block;
  sign(again);
  CHECK(again == block);

  // One that has an identity apart from its tree blocks' already.
  CHECK(give_btrfs_identity(std::span(block), Guid::random()).value());
  CHECK(id_at(block, 0x23B) == kLive);
}

TEST_CASE("what cannot get another identity is left as it is", "[copy_file_system]") {
  Block block{};
  CHECK_FALSE(give_btrfs_identity(std::span(block), kOther).value());
  const auto refused = [](Block changed, bool signs) {
    if (signs) sign(changed);
    const Block before = changed;
    const auto given = give_btrfs_identity(std::span(changed), kOther);
    REQUIRE_FALSE(given);
    CHECK(changed == before);
    return given.error().code;
  };
  Block several = btrfs();
  several[0x88] = std::byte{2};
  CHECK(refused(several, true) == Errc::not_supported);
  Block other_sum = btrfs();
  other_sum[0xC4] = std::byte{1};
  CHECK(refused(other_sum, true) == Errc::not_supported);
  Block damaged = btrfs();
  damaged[0x50] = std::byte{1};
  CHECK(refused(damaged, false) == Errc::diff_area_corrupt);
}

TEST_CASE("every superblock of a device gets the identity", "[copy_file_system]") {
  test::RamDevice device((std::uint64_t{64} << 20U) + kSuperblockBytes);
  for (const std::uint64_t offset : {kBtrfsSuperblockOffsets[0], kBtrfsSuperblockOffsets[1]}) {
    Block block = btrfs();
    block::Request request;
    request.op = block::Op::write;
    request.offset_bytes = offset;
    request.size_bytes = block.size();
    request.buffer = block.data();
    REQUIRE(block::run(device, request) == 0);
  }
  REQUIRE(look_at_copy(device).value().file_system == FileSystem::btrfs);
  REQUIRE(give_btrfs_identity(device, kOther));
  for (const std::uint64_t offset : {kBtrfsSuperblockOffsets[0], kBtrfsSuperblockOffsets[1]}) {
    const auto shown = device.bytes(offset + 0x20, kOther.bytes.size());
    CHECK(std::memcmp(shown.data(), kOther.bytes.data(), shown.size()) == 0);
  }
  test::RamDevice small(2048);
  CHECK(look_at_copy(small).value().file_system == FileSystem::other);
}
