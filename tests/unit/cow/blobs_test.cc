// SPDX-License-Identifier: Apache-2.0
//
// Purpose: blobs are what was put, whatever their size, over reopening; they give their space back;
// a damaged one is mended or reported, never returned.
#include "provider/format/diff_area.h"
#include "tests/support/cow_world.h"
#include "tests/support/seed.h"
#include "tests/support/volume_inside.h"

using namespace umbra;
using namespace umbra::test;
using cow::BlobKind;
using Inside = cow::VolumeInside;

namespace {

constexpr std::uint32_t kChunk = 4U << 10U;

CowWorldOptions small_world() {
  CowWorldOptions options;
  options.origin_bytes = 256U << 10U;
  options.chunk_bytes = kChunk;
  options.segments = 4;
  options.segments_max = 6;
  return options;
}

Image random_bytes(Prng& prng, std::uint64_t size) {
  Image bytes(size);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(prng.next());
  return bytes;
}

Guid key_of(std::uint8_t number) {
  Guid key;
  key.bytes[3] = number;
  return key;
}

}  // namespace

TEST_CASE("blobs agree with a map of byte strings, over reopening", "[cow]") {
  CowWorld world(seed(), small_world());
  world.open();
  const SnapshotId snapshot = world.take(true);
  Prng prng(seed());
  std::map<std::pair<BlobKind, std::uint8_t>, Image> twin;
  const std::uint64_t sizes[] = {0,
                                 1,
                                 100,
                                 format::kBlobInlineMax,
                                 format::kBlobInlineMax + 1,
                                 kChunk,
                                 kChunk + 1,
                                 20 * kChunk,
                                 60 * kChunk};
  const int rounds = long_run() ? 3000 : 300;
  for (int round = 0; round < rounds; ++round) {
    const BlobKind kind = prng.chance(1, 2) ? BlobKind::leftovers : BlobKind::fingerprint;
    const auto number = static_cast<std::uint8_t>(prng.below(6));
    const Guid key = key_of(number);
    if (prng.chance(1, 4)) {
      const Status removed = Inside::remove(*world.volume, kind, key);
      REQUIRE(removed.has_value() == (twin.erase({kind, number}) > 0));
      if (!removed) REQUIRE(removed.error().code == Errc::object_not_found);
    } else {
      const Image bytes = random_bytes(prng, sizes[prng.below(std::size(sizes))]);
      REQUIRE(Inside::put(*world.volume, kind, key, bytes));
      twin[{kind, number}] = bytes;
    }
    // Few: after each reopening, records begin a segment of their own.
    if (round % 100 == 50 && round < 400) {
      REQUIRE(world.write(prng.below(64) * kChunk, kSector) == 0);
    }
    if (prng.chance(1, 20)) {
      if (prng.chance(1, 2)) REQUIRE(world.volume->close());
      world.volume.reset();
      world.open();
    }
    for (const BlobKind each : {BlobKind::leftovers, BlobKind::fingerprint}) {
      std::vector<Guid> keys;
      for (const auto& [name, bytes] : twin) {
        if (name.first == each) keys.push_back(key_of(name.second));
      }
      REQUIRE(Inside::list(*world.volume, each) == keys);
    }
    const auto seen = Inside::get(*world.volume, kind, key);
    const auto wanted = twin.find({kind, number});
    REQUIRE(seen.has_value() == (wanted != twin.end()));
    if (seen) REQUIRE(*seen == wanted->second);
  }
  world.check_all();
  for (const auto& [name, bytes] : twin) {
    REQUIRE(Inside::remove(*world.volume, name.first, key_of(name.second)));
  }
  world.remove(snapshot);
  const std::uint64_t free = Inside::free_segments(*world.volume);
  world.volume.reset();
  world.open();
  // All but the one that was open for records.
  CHECK(Inside::free_segments(*world.volume) >= free);
  CHECK(free >= 3);
}

TEST_CASE("a blob for which there is no room leaves the old one and takes no space", "[cow]") {
  CowWorld world(seed(), small_world());
  world.open();
  Prng prng(seed());
  const Image old = random_bytes(prng, 10 * kChunk);
  REQUIRE(Inside::put(*world.volume, BlobKind::leftovers, key_of(1), old));
  const Image large = random_bytes(prng, std::uint64_t{64} << 20U);
  const Status put = Inside::put(*world.volume, BlobKind::leftovers, key_of(1), large);
  REQUIRE_FALSE(put);
  CHECK(put.error().code == Errc::insufficient_storage);
  CHECK(Inside::get(*world.volume, BlobKind::leftovers, key_of(1)).value() == old);
  world.take(true);
  for (std::uint64_t chunk = 0; chunk < 64; ++chunk) {
    REQUIRE(world.write(chunk * kChunk, kSector) == 0);
  }
  world.check_all();
}

TEST_CASE("a blob that is damaged in one place is whole, in both it is reported", "[cow]") {
  CowWorld world(seed(), small_world());
  world.open();
  Prng prng(seed());
  const Image small = random_bytes(prng, 1000);
  const Image large = random_bytes(prng, 3 * kChunk + 17);
  REQUIRE(Inside::put(*world.volume, BlobKind::leftovers, key_of(1), small));
  REQUIRE(Inside::put(*world.volume, BlobKind::leftovers, key_of(2), large));
  const auto find = [&](const Image& bytes, std::uint64_t from) {
    const Image& disk = world.diff.bytes();
    const auto at = std::search(disk.begin() + static_cast<std::ptrdiff_t>(from), disk.end(),
                                bytes.begin(), bytes.begin() + 512);
    REQUIRE(at != disk.end());
    return static_cast<std::uint64_t>(at - disk.begin());
  };
  const auto flip = [&](std::uint64_t at) { world.diff.bytes()[at] ^= std::byte{4}; };
  for (const Image* bytes : {&small, &large}) {
    const Guid key = key_of(bytes == &small ? 1 : 2);
    const std::uint64_t first = find(*bytes, 0);
    const std::uint64_t second = find(*bytes, first + 1);
    for (const std::uint64_t at : {first, second}) {
      flip(at + 511);
      CHECK(Inside::get(*world.volume, BlobKind::leftovers, key).value() == *bytes);
      flip(at + 511);
    }
    flip(first + 30);
    flip(second + 700);
    const auto seen = Inside::get(*world.volume, BlobKind::leftovers, key);
    REQUIRE_FALSE(seen);
    CHECK(seen.error().code == Errc::diff_area_corrupt);
    flip(first + 30);
    flip(second + 700);
  }
}
