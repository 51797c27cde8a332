// SPDX-License-Identifier: Apache-2.0
//
// Purpose: a recovery window and a revert that are cut at every disk operation.
// Method: a story is told once to count its operations, then once for each of them and cut there.
// The volume is opened again, cut a second time at a random operation of the recovery (or of the
// revert that goes on with it), opened for good, and judged: every sector of the live volume shows
// a write that it may show, every confirmed snapshot what it showed before.
#include <set>

#include "tests/support/cow_world.h"
#include "tests/support/seed.h"

using namespace umbra;
using namespace umbra::test;

namespace {

constexpr std::uint64_t kChunk = 4U << 10U;
constexpr std::uint64_t kSecondCutMax = 40;

enum class Death { power_cut, kill };

// How old content is kept.
enum class Keep { copies, shares };

CowWorldOptions small_world(Keep keep) {
  CowWorldOptions options;
  options.reflink = keep == Keep::shares;
  options.origin_bytes = 128U << 10U;
  options.chunk_bytes = kChunk;
  options.segments = 3;
  options.segments_max = 8;
  return options;
}

// What every sector may show: since the last flush, any write that was issued.
class Story {
 public:
  Story(std::uint64_t seed_value, Death death_, Keep keep)
      : world(seed_value, small_world(keep)), death(death_) {
    const std::uint64_t sectors = world.options.origin_bytes / kSector;
    may_.resize(sectors);
    for (auto& sequences : may_) sequences.insert(0);
  }

  [[nodiscard]] bool powered() const { return world.machine.powered(); }

  void write(std::uint64_t offset_bytes, std::uint64_t size_bytes) {
    if (!powered()) return;
    const std::uint64_t number = world.sequence + 1;
    for (std::uint64_t at = offset_bytes; at < offset_bytes + size_bytes; at += kSector) {
      may_[at / kSector].insert(number);
    }
    const int error =
        world.write_posted(world.volume->live(), world.twin, offset_bytes, size_bytes);
    REQUIRE((error == 0 || !powered()));
    if (error != 0) return;
    for (std::uint64_t at = offset_bytes; at < offset_bytes + size_bytes; at += kSector) {
      if (death == Death::kill) may_[at / kSector] = {number};  // Nothing completed is lost.
      last_[at / kSector] = number;
    }
  }
  void flush() {
    if (!powered() || world.run(block::Op::flush) != 0) return;
    for (const auto& [sector, number] : last_) {
      auto& may = may_[sector];
      may.erase(may.begin(), may.lower_bound(number));
    }
  }
  SnapshotId take_unconfirmed(bool persistent = true) {
    const SnapshotId id = world.next_id();
    const SimMachine::Inline waits(world.machine);
    cow::PrepareRequest request;
    request.id = id;
    request.persistent = persistent;
    if (!world.volume->prepare(request)) return id;
    world.volume->hold();
    REQUIRE(world.volume->drain(Duration::zero()));
    world.commit(id);
    world.volume->release();
    (void)world.volume->post_commit(id, {id});
    return id;
  }
  void confirm(const SnapshotId& id) {
    const SimMachine::Inline waits(world.machine);
    if (world.volume->confirm(id)) confirmed.insert(id);
  }
  SnapshotId take() {
    const SnapshotId id = take_unconfirmed();
    confirm(id);
    return id;
  }
  /// One that makes nothing durable but itself.
  void take_auto_release() {
    const SnapshotId id = take_unconfirmed(false);
    confirm(id);
    if (death == Death::power_cut) confirmed.erase(id);
  }
  /// The recovery window of a snapshot: several writes to it, two of them to the same chunks.
  void recover_window(const SnapshotId& id) {
    Status status;
    {
      const SimMachine::Inline waits(world.machine);
      status = world.volume->begin_recovery(id);
    }
    if (!status) return;
    const auto device = world.volume->open_for_recovery(id);
    REQUIRE(device);
    for (const auto& [offset, size] : {std::pair{2 * kChunk, 3 * kChunk},
                                       {3 * kChunk + kSector, kSector},
                                       {12 * kChunk, kChunk},
                                       {2 * kChunk + kSector, 2 * kChunk}}) {
      if (!powered()) return;
      (void)world.write_posted(**device, world.images.at(id), offset, size);
    }
    const SimMachine::Inline waits(world.machine);
    if (powered()) (void)world.volume->end_recovery(id);
  }
  void revert(const SnapshotId& id) {
    if (!powered()) return;
    const Image& target = world.images.at(id);
    before_ = world.twin;
    for (std::size_t sector = 0; sector < may_.size(); ++sector) {
      may_[sector].insert(number_in(target, sector));
    }
    const std::uint64_t operations = world.machine.operations();
    Status status;
    {
      const SimMachine::Inline waits(world.machine);
      status = world.volume->begin_revert(id);
    }
    REQUIRE(world.machine.operations() > operations);
    REQUIRE((status || !powered()));
    doomed = id;
    if (!status) return;
    reverted = true;
    world.twin = target;
    last_.clear();
    for (std::size_t sector = 0; sector < may_.size(); ++sector) {
      may_[sector] = {number_in(target, sector)};  // Durable from now on.
    }
    forget_newer(id);
  }
  void steps(int count) {
    for (; count > 0 && powered(); --count) (void)world.machine.step();
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
  /// Opens, dying once more on the way, or in the revert that goes on.
  void recover() {
    world.machine.cut_at(world.machine.prng().below(kSecondCutMax));
    if (world.try_open()) world.machine.run_until_idle();
    die();
    world.open();
  }

  void check_live() {
    Image seen;
    REQUIRE(world.read(world.volume->live(), seen) == 0);
    for (std::size_t sector = 0; sector < may_.size(); ++sector) {
      std::uint64_t words[2] = {};
      std::memcpy(words, seen.data() + sector * kSector, sizeof words);
      if (words[0] != sector * kSector || !may_[sector].contains(words[1])) {
        FAIL("live sector " << sector << " shows " << sector_text(seen.data() + sector * kSector)
                            << ", at least " << *may_[sector].begin());
      }
    }
    if (!shown_.empty()) CowWorld::check_same(seen, shown_, "live, while it is reverted");
    shown_ = seen;
    world.twin = seen;
  }
  void check_snapshots() {
    std::set<SnapshotId> present;
    for (const auto& record : world.volume->list()) {
      INFO("snapshot " << record.id.to_string() << " epoch " << record.epoch);
      REQUIRE(!record.lost);
      present.insert(record.id);
      Image seen;
      REQUIRE(world.read_snapshot(record.id, seen) == 0);
      CowWorld::check_same(seen, world.images.at(record.id), "snapshot");
    }
    for (const SnapshotId& id : confirmed) {
      INFO("snapshot " << id.to_string());
      REQUIRE(present.contains(id));
    }
  }
  void judge() {
    shown_.clear();
    check_live();
    // Which snapshots a revert that was being started has deleted is known when it has ended.
    if (!doomed.is_nil() && !reverted) {
      const bool begun = world.volume->revert_status().under_way || shown_ == target_image();
      if (begun) forget_newer(doomed);
      CowWorld::check_same(shown_, begun ? target_image() : before_, "live, reverted or not");
    }
    world.machine.run_until_idle();
    REQUIRE_FALSE(world.volume->revert_status().under_way);
    check_live();
    CHECK(world.origin.bytes() == shown_);
    check_snapshots();
  }

  CowWorld world;
  Death death;
  std::set<SnapshotId> confirmed;
  SnapshotId doomed;  // A revert to it was begun.
  bool reverted = false;

 private:
  [[nodiscard]] Image target_image() { return world.images.at(doomed); }
  static std::uint64_t number_in(const Image& image, std::size_t sector) {
    std::uint64_t words[2] = {};
    std::memcpy(words, image.data() + sector * kSector, sizeof words);
    return words[1];
  }
  void forget_newer(const SnapshotId& id) {
    std::erase_if(confirmed, [&](const SnapshotId& other) { return id < other; });
  }

  std::vector<std::set<std::uint64_t>> may_;
  std::map<std::uint64_t, std::uint64_t> last_;
  Image shown_;
  Image before_;  // The revert.
};

// --- the stories -----------------------------------------------------------------------------

void tell_window(Story& story) {
  (void)story.take();
  story.write(0, 4 * kChunk);
  const SnapshotId id = story.take_unconfirmed();
  if (story.powered()) story.recover_window(id);
  story.write(3 * kChunk, 6 * kChunk);
  if (story.powered()) story.confirm(id);
  story.write(kChunk, kChunk);
  story.flush();
  if (story.powered()) (void)story.take();
  story.write(2 * kChunk, 2 * kChunk);
  story.flush();
}

void tell_revert(Story& story) {
  story.write(0, 8 * kChunk);
  if (story.powered()) (void)story.take();
  story.write(2 * kChunk, 8 * kChunk);
  const SnapshotId target = story.powered() ? story.take_unconfirmed() : SnapshotId{};
  if (story.powered()) story.recover_window(target);
  if (story.powered()) story.confirm(target);
  story.write(4 * kChunk, 8 * kChunk);
  if (story.powered()) (void)story.take();
  story.write(8 * kChunk, 16 * kChunk + kSector);
  story.flush();
  story.revert(target);
  story.write(9 * kChunk + kSector, kSector);
  story.flush();  // Before anything else makes durable that this chunk is not to be reverted.
  story.write(20 * kChunk, 2 * kChunk);
  story.flush();
  story.write(9 * kChunk + 2 * kSector, kSector);
  story.write(28 * kChunk, kChunk);  // Had not changed.
  story.steps(1);
  story.write(11 * kChunk, kSector);
  story.flush();
  story.steps(3);
  story.write(4 * kChunk, 3 * kChunk);
  story.steps(1000);
  if (story.powered()) story.take_auto_release();  // Newer, and of after the revert.
  story.write(5 * kChunk, kChunk);
  story.flush();
}

void cut_everywhere(void (*tell)(Story&), Death death, Keep keep = Keep::copies) {
  std::uint64_t formatted = 0;
  std::uint64_t end = 0;
  {
    Story whole(seed(), death, keep);
    formatted = whole.world.machine.operations();
    whole.world.open();
    tell(whole);
    REQUIRE(whole.powered());
    end = whole.world.machine.operations();
    whole.judge();
  }
  REQUIRE(end - formatted > 50);
  for (std::uint64_t cut = formatted; cut < end; ++cut) {
    INFO("cut at operation " << cut << " of " << formatted << " to " << end);
    Story story(seed(), death, keep);
    story.world.machine.cut_at(cut);
    if (story.world.try_open()) tell(story);
    REQUIRE_FALSE(story.powered());
    story.die();
    story.recover();
    story.judge();
    // It is a volume like any other again.
    (void)story.take();
    story.write(0, 16 * kChunk);
    story.check_snapshots();
  }
}

}  // namespace

TEST_CASE("a power cut at any operation of a recovery window leaves the snapshot whole or gone",
          "[cow][crash]") {
  cut_everywhere(tell_window, Death::power_cut);
}

TEST_CASE("kill -9 at any operation of a recovery window leaves the snapshot whole or gone",
          "[cow][crash]") {
  cut_everywhere(tell_window, Death::kill);
}

TEST_CASE("a power cut at any operation of a revert loses no write that was flushed since",
          "[cow][crash]") {
  cut_everywhere(tell_revert, Death::power_cut);
}

TEST_CASE("kill -9 at any operation of a revert loses no write that had completed",
          "[cow][crash]") {
  cut_everywhere(tell_revert, Death::kill);
}

TEST_CASE("windows and reverts cut anywhere while old content is shared", "[cow][crash]") {
  for (const Death death : {Death::power_cut, Death::kill}) {
    cut_everywhere(tell_window, death, Keep::shares);
    cut_everywhere(tell_revert, death, Keep::shares);
  }
}
