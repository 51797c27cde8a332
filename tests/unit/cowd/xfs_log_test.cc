// SPDX-License-Identifier: Apache-2.0
//
// Logs as XFS leaves them, put together from records: what it writes itself is judged by
// e2e/mounts.
#include "provider/daemon/xfs_log.h"

#include <cstring>
#include <vector>

#include "engine/platform/prng.h"
#include "tests/support/catch.h"
#include "tests/support/seed.h"

using namespace umbra;
using namespace umbra::cowd;

namespace {

constexpr std::uint64_t kSector = 512;
constexpr std::uint64_t kLogStart = 64 * 1024;
constexpr std::uint64_t kLogSectors = 256;

struct Volume {
  std::vector<std::byte> bytes = std::vector<std::byte>(kLogStart + kLogSectors * kSector);

  void put(std::uint64_t at, std::uint64_t value, std::size_t size, bool big = true) {
    for (std::size_t i = 0; i < size; ++i) {
      bytes[at + (big ? size - 1 - i : i)] = std::byte(value >> 8 * i & 0xFFU);
    }
  }
  explicit Volume(std::uint32_t oldest_round) {
    std::memcpy(bytes.data(), "XFSB", 4);
    put(4, 4096, 4);
    put(48, kLogStart / 4096, 8);
    put(84, bytes.size() / 4096, 4);
    put(96, kLogSectors * kSector / 4096, 4);
    put(124, 16, 1);
    for (std::uint64_t i = 0; i < kLogSectors; ++i) put(kLogStart + i * kSector, oldest_round, 4);
  }

  enum class What { superblock, inode, unmount };
  // Two sectors: a header and what it holds.
  void record(std::uint64_t sector, std::uint32_t round, What what, std::uint64_t tail_round,
              std::uint64_t tail, std::uint64_t previous) {
    const std::uint64_t header = kLogStart + sector % kLogSectors * kSector;
    const std::uint64_t data = kLogStart + (sector + 1) % kLogSectors * kSector;
    put(header, 0xFEEDBABE, 4);
    put(header + 4, round, 4);
    put(header + 8, 2, 4);
    put(header + 16, std::uint64_t{round} << 32U | sector % kLogSectors, 8);
    put(header + 24, tail_round << 32U | tail, 8);
    put(header + 36, previous, 4);
    put(header + 40, what == What::unmount ? 1 : 5, 4);
    put(header + 320, 32768, 4);
    put(data, round, 4);
    if (what == What::unmount) {
      put(data + 9, 0x20, 1);
      return;
    }
    put(data + 12 + 4, 16, 4);  // After an empty operation: the transaction's header.
    const std::uint64_t item = data + 12 + 12 + 16;
    put(item + 4, 24, 4);
    put(item + 12, what == What::superblock ? 0x123C : 0x123B, 2, false);
  }
  [[nodiscard]] bool in_use() const {
    const ReadDevice read = [&](std::uint64_t offset, std::span<std::byte> into) -> Status {
      REQUIRE(offset + into.size() <= bytes.size());
      std::memcpy(into.data(), bytes.data() + offset, into.size());
      return {};
    };
    const auto judged = xfs_log_in_use(std::span(bytes).first(kXfsReadBytes), bytes.size(), read);
    return judged.value_or(true);  // Spoilt beyond knowing.
  }
};

using What = Volume::What;

}  // namespace

TEST_CASE("the log of an unmounted or frozen XFS holds nothing that counts", "[xfs_log]") {
  Volume unmounted(0);
  unmounted.record(0, 1, What::inode, 1, 0, 0);
  unmounted.record(2, 1, What::unmount, 1, 2, 0);
  CHECK_FALSE(unmounted.in_use());
  Volume frozen(0);
  frozen.record(0, 1, What::inode, 1, 0, 0);
  frozen.record(2, 1, What::superblock, 1, 0, 0);
  frozen.record(4, 1, What::superblock, 1, 2, 2);
  CHECK_FALSE(frozen.in_use());
}

TEST_CASE("a record that is no superblock's counts, wherever the log begins", "[xfs_log]") {
  Volume last(0);
  last.record(0, 1, What::superblock, 1, 0, 0);
  last.record(2, 1, What::inode, 1, 2, 0);
  CHECK(last.in_use());
  Volume before(0);
  before.record(0, 1, What::inode, 1, 0, 0);
  before.record(2, 1, What::superblock, 1, 0, 0);
  CHECK(before.in_use());
}

TEST_CASE("a log that has begun anew is read over its end", "[xfs_log]") {
  for (const What what : {What::superblock, What::inode}) {
    Volume volume(6);
    volume.record(kLogSectors - 2, 6, what, 6, 250, 250);
    volume.record(kLogSectors, 7, What::superblock, 6, kLogSectors - 2, kLogSectors - 2);
    CHECK(volume.in_use() == (what == What::inode));
  }
}

TEST_CASE("whatever a log holds, it is judged within its bounds", "[xfs_log]") {
  Prng random(test::seed());
  for (int run = 0; run < 3'000; ++run) {
    Volume volume(6);
    volume.record(kLogSectors - 2, 6, What::superblock, 6, 250, 250);
    volume.record(kLogSectors, 7, What::superblock, 6, kLogSectors - 2, kLogSectors - 2);
    const auto spoil = [&](std::uint64_t from, std::uint64_t size) {
      for (int i = 0; i < 4; ++i) volume.put(from + random.below(size - 8), random.next(), 8);
    };
    spoil(kLogStart, 2 * kSector);
    spoil(kLogStart + (kLogSectors - 2) * kSector, 2 * kSector);
    (void)volume.in_use();  // Which checks where is read.
  }
}

TEST_CASE("what is no log is not read beyond its end", "[xfs_log]") {
  Volume volume(0);
  const ReadDevice none = [](std::uint64_t, std::span<std::byte>) -> Status {
    return fail(Errc::io_error, "read");
  };
  const auto judge = [&] {
    return xfs_log_in_use(std::span(volume.bytes).first(kXfsReadBytes), volume.bytes.size(), none)
        .error()
        .code;
  };
  CHECK(judge() == Errc::io_error);
  volume.put(96, 1U << 31U, 4);
  CHECK(judge() == Errc::not_supported);
  volume.put(96, 64, 4);
  CHECK(judge() == Errc::not_supported);
  volume.put(48, 0, 8);
  CHECK(judge() == Errc::not_supported);
}
