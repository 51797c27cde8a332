// SPDX-License-Identifier: Apache-2.0
//
// Lists of free blocks: their bytes, what is no list, and that nothing is taken after the end.
#include "provider/guardian/free_blocks_linux.h"

#include <sys/mman.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <fstream>

#include "engine/platform/prng.h"
#include "tests/support/catch.h"
#include "tests/support/seed.h"
#include "tests/support/temp_dir.h"

namespace umbra::guardian {
namespace {

using contract::FreeExtent;

std::vector<std::byte> encoded(const std::vector<FreeExtent>& extents) {
  std::vector<std::byte> bytes(8 + extents.size() * kFreeExtentBytes);
  encode_free_count(extents.size(), std::span(bytes).first(8));
  for (std::size_t i = 0; i < extents.size(); ++i) {
    encode_free_extent(extents[i],
                       std::span(bytes).subspan(8 + i * kFreeExtentBytes, kFreeExtentBytes));
  }
  return bytes;
}

Errc why_not(std::span<const std::byte> bytes) {
  const auto decoded = decode_free_list(bytes);
  return decoded ? Errc::ok : decoded.error().code;
}

TEST_CASE("a list of free blocks survives encoding, whatever follows it", "[guardian]") {
  const std::vector<FreeExtent> extents{{0x701, 0, 4096}, {0x702, 1ULL << 40U, 1}};
  auto bytes = encoded(extents);
  CHECK(std::to_integer<int>(bytes[0]) == 2);
  CHECK(std::to_integer<int>(bytes[8]) == 1);
  CHECK(std::to_integer<int>(bytes[9]) == 7);
  CHECK(decode_free_list(bytes).value() == extents);
  bytes.resize(bytes.size() + 100, std::byte{0xFF});
  CHECK(decode_free_list(bytes).value() == extents);
  CHECK(decode_free_list(encoded({})).value().empty());
}

TEST_CASE("bytes that are no list of free blocks are refused", "[guardian]") {
  const auto good = encoded({{0x701, 0, 4096}, {0x702, 512, 512}});
  for (std::size_t size = 0; size < good.size(); ++size) {
    INFO("cut to " << size);
    CHECK(why_not(std::span(good).first(size)) == Errc::protocol_violation);
  }
  constexpr std::uint64_t kAll = ~std::uint64_t{0};
  for (const FreeExtent& extent : {FreeExtent{1, 0, 0}, FreeExtent{1, kAll, 1},
                                   FreeExtent{1, 1, kAll}, FreeExtent{1, kAll / 2, 1}}) {
    CHECK(why_not(encoded({extent})) == Errc::protocol_violation);
  }
  auto many = good;
  encode_free_count(kFreeExtentsMax + 1, std::span(many).first(8));
  CHECK(why_not(many) == Errc::protocol_violation);
  encode_free_count(kAll / 8, std::span(many).first(8));
  CHECK(why_not(many) == Errc::protocol_violation);

  Prng prng(test::seed());
  for (int i = 0; i < 20'000; ++i) {
    std::vector<std::byte> bytes(prng.below(200));
    for (std::byte& byte : bytes) byte = static_cast<std::byte>(prng.next());
    if (bytes.size() >= 8 && prng.chance(3, 4)) {
      encode_free_count(prng.below(8), std::span(bytes).first(8));
    }
    const auto decoded = decode_free_list(bytes);
    if (!decoded) continue;
    for (const FreeExtent& extent : *decoded) {
      REQUIRE(extent.offset_bytes + extent.size_bytes > extent.offset_bytes);
    }
  }
}

TEST_CASE("a file that is no list of free blocks is refused", "[guardian]") {
  std::array<int, 2> pipe_ends{};
  REQUIRE(pipe(pipe_ends.data()) == 0);
  const UniqueFd reading(pipe_ends[0]);
  const UniqueFd writing(pipe_ends[1]);
  CHECK_FALSE(read_free_list(reading.get()));
  const UniqueFd file(memfd_create("test", MFD_CLOEXEC));
  CHECK_FALSE(read_free_list(file.get()));
  const auto bytes = encoded({{0x701, 0, 4096}});
  REQUIRE(write(file.get(), bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()));
  CHECK(read_free_list(file.get()).value().size() == 1);
  // Much longer than a list can be: only its beginning is looked at.
  REQUIRE(ftruncate(file.get(), 1LL << 40U) == 0);
  CHECK(read_free_list(file.get()).value().size() == 1);
}

TEST_CASE("what a closed list is told is not taken, and an empty one is not handed over",
          "[guardian]") {
  const auto blocks = FreeBlocks::make();
  REQUIRE(blocks);
  CHECK(blocks->file() == -1);
  const UniqueFd nothing(memfd_create("test", MFD_CLOEXEC));
  blocks->list(nothing.get(), 1, {1, 0});  // It knows no free blocks.
  blocks->close();
  CHECK(blocks->file() == -1);
  const UniqueFd root(dup(nothing.get()));
  blocks->list(root.get(), 1, {1, 0});
  CHECK(blocks->file() == -1);
}

TEST_CASE("a file system is placed on its volume only", "[guardian]") {
  const std::array<std::uint64_t, 2> volumes{0x701, 0x702};
  REQUIRE(placement_of(0x702, volumes));
  CHECK(placement_of(0x702, volumes)->device == 0x702);
  CHECK(placement_of(0x702, volumes)->offset_bytes == 0);
  CHECK_FALSE(placement_of(~std::uint64_t{0}, volumes));
}

TEST_CASE("a file system on a partition lies where that begins", "[guardian]") {
  namespace fs = std::filesystem;
  const test::TempDir top;
  const auto put = [](const fs::path& path, const std::string& text) {
    std::ofstream(path) << text << "\n";
  };
  const fs::path sysfs = top.path();
  fs::create_directories(sysfs / "devices/loop7/loop7p1");
  fs::create_directories(sysfs / "devices/dm-0");
  fs::create_directories(sysfs / "dev/block");
  put(sysfs / "devices/loop7/dev", "7:7");
  put(sysfs / "devices/loop7/loop7p1/dev", "259:3");
  put(sysfs / "devices/loop7/loop7p1/partition", "1");
  put(sysfs / "devices/dm-0/dev", "254:0");
  fs::create_symlink("../../devices/loop7/loop7p1", sysfs / "dev/block/259:3");
  fs::create_symlink("../../devices/dm-0", sysfs / "dev/block/254:0");
  const std::array<std::uint64_t, 1> volumes{makedev(7, 7)};
  CHECK_FALSE(placement_of(makedev(259, 3), volumes, sysfs));  // It does not say where it begins.
  put(sysfs / "devices/loop7/loop7p1/start", "2048");
  const auto placed = placement_of(makedev(259, 3), volumes, sysfs);
  REQUIRE(placed);
  CHECK(placed->device == makedev(7, 7));
  CHECK(placed->offset_bytes == 1U << 20U);
  CHECK_FALSE(placement_of(makedev(254, 0), volumes, sysfs));  // A mapping: who knows?
  const std::array<std::uint64_t, 1> others{makedev(7, 8)};
  CHECK_FALSE(placement_of(makedev(259, 3), others, sysfs));  // A partition of something else.
}

}  // namespace
}  // namespace umbra::guardian
