// SPDX-License-Identifier: Apache-2.0
//
// The map of records against a naive twin: every record in one ordered map, and a snapshot that
// looks at all of them.
#include "provider/cow/chunk_map.h"

#include <map>
#include <set>

#include "engine/platform/prng.h"
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

}  // namespace

TEST_CASE("the map agrees with a naive twin while snapshots come and go", "[cow]") {
  Prng prng(seed());
  ChunkMap map(kChunks);
  Twin twin;
  std::set<std::uint64_t> live;
  std::uint64_t epoch = 0;
  const int rounds = long_run() ? 3000 : 300;
  for (int round = 0; round < rounds; ++round) {
    live.insert(++epoch);
    // Mostly in a few chunks, so that leaves fill and split.
    for (auto writes = prng.below(200); writes > 0; --writes) {
      const std::uint64_t chunk = prng.chance(3, 4) ? prng.below(40) : prng.below(kChunks);
      const Home home =
          Home::data(static_cast<std::uint32_t>(epoch), static_cast<std::uint32_t>(chunk));
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
      REQUIRE(found.has_value() == wanted.has_value());
      if (!found) continue;
      REQUIRE(found->epoch == *wanted);
      REQUIRE(found->home == twin.records.at({chunk, *wanted}));
    }
    const std::uint64_t since = 1 + prng.below(epoch);
    const std::uint64_t chunk = prng.below(40);
    std::uint64_t newest = 0;
    std::multiset<std::uint64_t> wanted;
    for (const auto& [key, home] : twin.records) {
      if (key.first == chunk) newest = key.second;
      if (key.second >= since) wanted.insert(key.first);
    }
    REQUIRE(map.newest_epoch(chunk) == newest);
    std::multiset<std::uint64_t> seen;
    map.for_each_since(since, [&](std::uint64_t each) { seen.insert(each); });
    REQUIRE(seen == wanted);
  }
  CHECK(epoch > 0);
}
