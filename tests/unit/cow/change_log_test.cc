// SPDX-License-Identifier: Apache-2.0
//
// The set of chunks and the log of changes, each against a naive twin. The log's twin remembers
// every change with its time and is asked what lies between two of them.
#include "provider/cow/change_log.h"

#include <map>
#include <set>

#include "engine/platform/prng.h"
#include "tests/support/catch.h"
#include "tests/support/seed.h"

using namespace umbra;
using namespace umbra::cow;
using namespace umbra::test;

namespace {

constexpr std::uint64_t kChunks = 500'000;  // More than kRegionsMax regions of 16.

Guid guid_of(std::uint64_t number) {
  Guid id;
  for (std::size_t i = 0; i < 8; ++i) id.bytes[i] = static_cast<std::uint8_t>(number >> (8 * i));
  return id;
}

std::vector<std::byte> encoded(const ChunkSet& chunks) {
  std::vector<std::byte> bytes;
  chunks.encode(bytes);
  return bytes;
}

// What would be found after a crash.
struct Durable {
  std::map<Guid, std::vector<std::byte>> checkpoints;
  std::vector<std::byte> note;
};

// A log as its owner uses it, and the truth beside it.
class World {
 public:
  World() : log_(std::make_unique<ChangeLog>(kChunks)) {}

  void write(std::uint64_t chunk) {
    if (!log_->noted(chunk)) {
      log_->want(chunk);
      const auto note = log_->make_note();
      durable_.note = note.bytes;
      log_->note_is_durable(note);
    }
    REQUIRE(log_->noted(chunk));
    log_->touch(chunk);
    changes_.emplace(epoch_, chunk);
  }
  void commit() {
    log_->prepare(++epoch_);
    log_->commit();
    snapshots_.insert(epoch_);
  }
  void remove_snapshot(std::uint64_t epoch) {
    snapshots_.erase(epoch);
    log_->forget_snapshot(epoch);
  }
  /// False: it was cut after so many durable steps.
  bool save(std::uint64_t steps = ~std::uint64_t{0}) {
    const ChangeLog copy = *log_;
    (void)log_->take_notes();
    for (auto it = copy.checkpoints().rbegin(); it != copy.checkpoints().rend(); ++it) {
      if (steps-- == 0) return false;
      durable_.checkpoints[it->id] = copy.encode(it->id);
    }
    if (log_->tracking()) log_->notes_are_obsolete();
    if (steps == 0) return false;
    durable_.note = log_->make_note().bytes;
    return true;
  }
  bool add(std::uint64_t epoch, std::uint64_t steps = ~std::uint64_t{0}) {
    ChangeLog::Checkpoint checkpoint;
    checkpoint.id = guid_of(++ids_);
    checkpoint.epoch = epoch;
    checkpoint.name = "checkpoint " + std::to_string(ids_);
    log_->add(checkpoint, std::vector<std::uint64_t>(snapshots_.begin(), snapshots_.end()));
    for (auto it = changes_.lower_bound({epoch, 0}); it != changes_.end(); ++it) {
      log_->enter(it->second, it->first);
    }
    return save(steps);
  }
  void remove(const Guid& id) {
    if (const auto* heir = log_->heir_of(id); heir != nullptr) {
      durable_.checkpoints[heir->id] = log_->encode(heir->id, id);
    }
    durable_.checkpoints.erase(id);
    log_->remove(id);
  }
  void crash() {
    log_ = std::make_unique<ChangeLog>(kChunks);
    std::vector<ChangeLog::Loaded> loaded;
    for (const auto& [id, bytes] : durable_.checkpoints) loaded.push_back({id, bytes});
    log_->load(loaded, durable_.note, std::vector(snapshots_.begin(), snapshots_.end()));
  }

  /// `exactly`: nothing was forgotten by a crash.
  void check(bool exactly) const {
    for (const auto& checkpoint : log_->checkpoints()) {
      REQUIRE_FALSE(checkpoint.everything);
      compare(checkpoint.epoch, ~std::uint64_t{0}, exactly);
      for (auto to = snapshots_.lower_bound(checkpoint.epoch); to != snapshots_.end(); ++to) {
        compare(checkpoint.epoch, *to, exactly);
      }
    }
  }

  [[nodiscard]] ChangeLog& log() { return *log_; }
  [[nodiscard]] const std::set<std::uint64_t>& snapshots() const { return snapshots_; }

 private:
  void compare(std::uint64_t from, std::uint64_t to, bool exactly) const {
    ChunkSet told;
    for (const std::uint64_t interval : log_->intervals(from, to)) {
      told.merge(log_->changed(interval));
    }
    ChunkSet truth;
    for (auto it = changes_.lower_bound({from, 0}); it != changes_.end() && it->first < to; ++it) {
      (void)truth.insert(it->second);
    }
    INFO("from " << from << " to " << to);
    if (exactly) {
      REQUIRE(told == truth);
    } else {
      truth.for_each([&](std::uint64_t chunk) { REQUIRE(told.contains(chunk)); });
    }
  }

  std::unique_ptr<ChangeLog> log_;
  Durable durable_;
  std::uint64_t epoch_ = 0;
  std::uint64_t ids_ = 0;
  std::set<std::uint64_t> snapshots_;
  std::set<std::pair<std::uint64_t, std::uint64_t>> changes_;  // Epoch and chunk.
};

template <class Container>
auto any_of(const Container& container, Prng& prng) {
  auto it = container.begin();
  std::advance(it, static_cast<std::ptrdiff_t>(prng.below(container.size())));
  return *it;
}

void run(Prng& prng, bool crashes) {
  World world;
  world.commit();
  const int rounds = long_run() ? 20'000 : 600;
  for (int round = 0; round < rounds; ++round) {
    const std::uint64_t dice = prng.below(100);
    const auto& checkpoints = world.log().checkpoints();
    if (dice < 70) {
      world.write(prng.chance(1, 2) ? prng.below(200) : prng.below(kChunks));
    } else if (dice < 78) {
      world.commit();
    } else if (dice < 86) {
      if (!world.snapshots().empty()) world.remove_snapshot(any_of(world.snapshots(), prng));
    } else if (dice < 90) {
      if (!world.snapshots().empty() && checkpoints.size() < 5) {
        const std::uint64_t steps = crashes ? prng.below(12) : ~std::uint64_t{0};
        if (!world.add(any_of(world.snapshots(), prng), steps)) world.crash();
      }
    } else if (dice < 93) {
      if (!checkpoints.empty()) world.remove(any_of(checkpoints, prng).id);
    } else if (dice < 95) {
      if (!world.save(crashes ? prng.below(12) : ~std::uint64_t{0})) world.crash();
    } else if (dice < 97 && crashes) {
      world.crash();
    }
    if (round % 8 == 0) world.check(!crashes);
  }
  world.save();
  world.crash();
  world.check(!crashes);
}

}  // namespace

TEST_CASE("a set of chunks agrees with a naive one and survives its bytes", "[cow][changes]") {
  Prng prng(seed());
  const int rounds = long_run() ? 60 : 20;
  for (int round = 0; round < rounds; ++round) {
    ChunkSet chunks;
    std::set<std::uint64_t> twin;
    const std::uint64_t bound = prng.chance(1, 2) ? 10'000 : kChunks;
    for (auto left = prng.below(400); left > 0; --left) {
      const std::uint64_t first = prng.below(bound);
      if (prng.chance(1, 10)) {
        const std::uint64_t count = std::min(prng.below(9'000) + 1, kChunks - first);
        chunks.insert_range(first, count);
        for (std::uint64_t i = 0; i < count; ++i) twin.insert(first + i);
      } else if (prng.chance(1, 10)) {
        chunks.erase(first);
        twin.erase(first);
      } else {
        REQUIRE(chunks.insert(first) == twin.insert(first).second);
      }
    }
    REQUIRE(chunks.count() == twin.size());
    std::vector<std::uint64_t> seen;
    chunks.for_each([&](std::uint64_t chunk) { seen.push_back(chunk); });
    REQUIRE(std::equal(seen.begin(), seen.end(), twin.begin(), twin.end()));
    const auto again = ChunkSet::decode(encoded(chunks), kChunks);
    REQUIRE(again);
    REQUIRE(*again == chunks);
  }
}

TEST_CASE("the bytes of a full, a sparse and a scattered set are short", "[cow][changes]") {
  ChunkSet full;
  full.insert_range(0, kChunks);
  CHECK(encoded(full).size() <= 2 * (kChunks / ChunkSet::kPageChunks + 1) + 8);
  ChunkSet scattered;
  for (std::uint64_t chunk = 0; chunk < kChunks; chunk += 2) (void)scattered.insert(chunk);
  CHECK(encoded(scattered).size() <= kChunks / 8 + 1024);
  ChunkSet one;
  (void)one.insert(kChunks - 1);
  CHECK(encoded(one).size() < 12);
}

TEST_CASE("any bytes are a set of chunks or are refused", "[cow][changes]") {
  Prng prng(seed());
  for (int round = 0; round < 20'000; ++round) {
    std::vector<std::byte> bytes(prng.below(40));
    for (auto& byte : bytes) byte = static_cast<std::byte>(prng.below(prng.chance(1, 2) ? 4 : 256));
    const auto chunks = ChunkSet::decode(bytes, 9'000);
    if (!chunks) continue;
    chunks->for_each([](std::uint64_t chunk) { REQUIRE(chunk < 9'000); });
  }
}

TEST_CASE("the log says exactly what changed between its points in time", "[cow][changes]") {
  Prng prng(seed());
  run(prng, false);
}

TEST_CASE("whenever it is cut, the log misses no change", "[cow][changes]") {
  Prng prng(seed() + 1);
  run(prng, true);
}

TEST_CASE("a checkpoint whose bytes are damaged says that everything changed", "[cow][changes]") {
  World world;
  world.commit();
  world.add(1);
  world.write(7);
  world.save();
  std::vector<std::byte> bytes = world.log().encode(guid_of(1));
  bytes.pop_back();
  ChangeLog log(kChunks);
  const ChangeLog::Loaded damaged{guid_of(1), bytes};
  log.load({&damaged, 1}, {}, {});
  REQUIRE(log.checkpoints().size() == 1);
  CHECK(log.checkpoints().front().everything);
  CHECK(log.checkpoints().front().id == guid_of(1));
}

TEST_CASE("who gives up noting forgets nothing and asks no more", "[cow][changes]") {
  World world;
  world.commit();
  world.add(1);
  REQUIRE_FALSE(world.log().noted(3));
  world.log().want(3);
  world.log().give_up();
  CHECK(world.log().noted(3));
  CHECK_FALSE(world.log().wanting());
  CHECK(world.log().checkpoints().front().everything);
  world.add(1);  // A new one starts anew.
  CHECK_FALSE(world.log().noted(3));
  CHECK_FALSE(world.log().find(guid_of(2))->everything);
}
