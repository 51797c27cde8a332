// SPDX-License-Identifier: Apache-2.0
//
// The map of records against a naive twin: every record in one ordered map, and a snapshot that
// looks at all of them. A leaf of it against a sorted array.
#include "provider/cow/chunk_map.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <set>

#include "engine/platform/prng.h"
#include "provider/cow/chunk_leaf.h"
#include "tests/support/catch.h"
#include "tests/support/seed.h"

using namespace umbra;
using namespace umbra::cow;
using namespace umbra::test;

namespace {

constexpr std::uint64_t kChunks = 600;  // Three pages.

struct Twin {
  std::map<std::pair<std::uint64_t, std::uint64_t>, Home> records;  // Of chunk and epoch.

  [[nodiscard]] std::optional<std::uint64_t> resolve(std::uint64_t chunk,
                                                     std::uint64_t epoch) const {
    const auto it = records.lower_bound({chunk, epoch});
    if (it == records.end() || it->first.first != chunk) return std::nullopt;
    return it->first.second;
  }
  void drop_what_nobody_needs(const std::set<std::uint64_t>& live) {
    std::set<std::pair<std::uint64_t, std::uint64_t>> needed;
    for (const std::uint64_t epoch : live) {
      for (std::uint64_t chunk = 0; chunk < kChunks; ++chunk) {
        if (const auto record = resolve(chunk, epoch)) needed.insert({chunk, *record});
      }
    }
    std::erase_if(records, [&](const auto& record) { return !needed.contains(record.first); });
  }
};

Home any_home(Prng& prng) {
  Home home;
  home.segment = static_cast<std::uint32_t>(prng.below(1U << PackedHome::kSegmentBits));
  home.kind = static_cast<Home::Kind>(prng.below(3));
  if (home.kind != Home::Kind::data) return home;
  home.slot = static_cast<std::uint16_t>(prng.below(1U << PackedHome::kSlotBits));
  home.unchecked = prng.chance(1, 3);
  return home;
}

}  // namespace

TEST_CASE("a home is the same after packing", "[cow]") {
  Prng prng(seed());
  for (const std::uint32_t segment : {0U, 1U, (1U << PackedHome::kSegmentBits) - 1}) {
    for (const std::uint32_t slot : {0U, 1U, 255U, 256U, (1U << PackedHome::kSlotBits) - 1}) {
      Home home = Home::data(segment, slot);
      CHECK(PackedHome(home).unpack() == home);
      home.unchecked = true;
      CHECK(PackedHome(home).unpack() == home);
    }
  }
  for (int i = 0; i < 1000; ++i) {
    const Home home = any_home(prng);
    REQUIRE(PackedHome(home).unpack() == home);
  }
}

TEST_CASE("a leaf agrees with a sorted array, with one epoch and with as many as records",
          "[cow]") {
  Prng prng(seed());
  for (const std::uint64_t epochs : {1U, 2U, 10U, 1000U}) {
    std::map<std::pair<std::uint8_t, std::uint64_t>, Home> twin;
    ChunkLeaf leaf;
    for (int step = 0; step < 1500; ++step) {
      const auto chunk = static_cast<std::uint8_t>(prng.below(256));
      const std::uint64_t epoch = 1 + prng.below(epochs);
      const auto place = twin.lower_bound({chunk, epoch});
      const auto index = static_cast<std::size_t>(std::distance(twin.begin(), place));
      REQUIRE(leaf.lower_bound(chunk, epoch) == index);
      const bool known = place != twin.end() && place->first == std::pair(chunk, epoch);
      const bool fresh = std::ranges::none_of(
          twin, [&](const auto& record) { return record.first.second == epoch; });
      REQUIRE(leaf.has(epoch, epoch + 1) == !fresh);
      const Home home = any_home(prng);
      if (known) {
        leaf.set_home(index, home);
        place->second = home;
      } else if (!leaf.full()) {
        REQUIRE(leaf.insert(index, {chunk, epoch, home}) == fresh);
        twin.emplace(std::pair(chunk, epoch), home);
      }
      if (prng.chance(1, leaf.full() ? 4 : 200)) {
        const std::uint64_t gone = 1 + prng.below(epochs);
        const auto dropped = [&](std::uint8_t of, std::uint64_t when) {
          return (epochs == 1000 ? when % 7 == gone % 7 : when == gone) && of % 3 != 0;
        };
        leaf.keep_if([&](const auto& record) { return !dropped(record.chunk, record.epoch); });
        std::erase_if(twin, [&](const auto& record) {
          return dropped(record.first.first, record.first.second);
        });
      }
      REQUIRE(leaf.size() == twin.size());
      std::size_t at = 0;
      for (const auto& [key, kept] : twin) {
        const ChunkLeaf::Record record = leaf.at(at++);
        const bool same = std::pair(record.chunk, record.epoch) == key && record.home == kept;
        if (!same) FAIL("record " << at - 1 << " of " << leaf.size());
      }
    }
    CHECK(leaf.bytes() <= 8 + 256 * (epochs == 1 ? 6 : 7) + 8 * std::min<std::size_t>(epochs, 256));
  }
}

TEST_CASE("the map agrees with a naive twin while snapshots come and go", "[cow]") {
  Prng prng(seed());
  ChunkMap map(kChunks);
  Twin twin;
  std::set<std::uint64_t> live;
  std::uint64_t epoch = 0;
  const int rounds = long_run() ? 3000 : 100;
  for (int round = 0; round < rounds; ++round) {
    live.insert(++epoch);
    // Mostly in a few chunks, so that leaves fill and split.
    for (auto writes = prng.below(200); writes > 0; --writes) {
      const std::uint64_t chunk = prng.chance(3, 4) ? prng.below(40) : prng.below(kChunks);
      const Home home = any_home(prng);
      const bool fresh = twin.records.emplace(std::pair(chunk, epoch), home).second;
      REQUIRE(map.insert(chunk, epoch, home) == fresh);
    }
    while (!live.empty() && prng.chance(round % 100 < 80 ? 1 : 9, 10)) {
      auto it = live.begin();
      std::advance(it, static_cast<std::ptrdiff_t>(prng.below(live.size())));
      const std::uint64_t gone = *it;
      const std::uint64_t below = it == live.begin() ? 0 : *std::prev(it);
      it = live.erase(it);
      std::size_t dropped = 0;
      const std::size_t before = twin.records.size();
      twin.drop_what_nobody_needs(live);
      map.prune(gone, it == live.end() ? epoch + 1 : *it, below, [&](Home) { ++dropped; });
      REQUIRE(dropped == before - twin.records.size());
    }
    REQUIRE(map.record_count() == twin.records.size());
    for (std::uint64_t chunk = 0; chunk < kChunks; ++chunk) {
      const std::uint64_t from = 1 + prng.below(epoch);
      const auto found = map.find(chunk, from);
      const auto wanted = twin.resolve(chunk, from);
      const bool same = found ? wanted && found->epoch == *wanted &&
                                    found->home == twin.records.at({chunk, *wanted})
                              : !wanted;
      if (!same) FAIL("chunk " << chunk << " from epoch " << from);
    }
    const std::uint64_t since = 1 + prng.below(epoch);
    const std::uint64_t chunk = prng.below(40);
    std::uint64_t newest = 0;
    std::set<std::uint64_t> wanted;
    for (const auto& [key, home] : twin.records) {
      if (key.first == chunk) newest = key.second;
      if (key.second >= since) wanted.insert(key.first);
    }
    REQUIRE(map.newest_epoch(chunk) == newest);
    std::set<std::uint64_t> seen;
    map.for_each_since(since, [&](std::uint64_t each) { REQUIRE(seen.insert(each).second); });
    REQUIRE(seen == wanted);
    if (const auto record = map.find(chunk, since); record && record->home.unchecked) {
      Home home = record->home;
      map.set_checked(chunk, record->epoch + 1, home);  // Of no record, or of another home.
      REQUIRE(map.find(chunk, since)->home == home);
      map.set_checked(chunk, record->epoch, home);
      home.unchecked = false;
      REQUIRE(map.find(chunk, since)->home == home);
      twin.records.at({chunk, record->epoch}) = home;
    }
  }
  CHECK(epoch > 0);
}
