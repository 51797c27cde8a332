// SPDX-License-Identifier: Apache-2.0
//
// The three traps of the steady path that no race detector sees, over the real code with
// completions in an order of our choosing: a bit set at the claim, a bit tested in one epoch and
// used in the next, and a bitmap that forgets what its predecessor knew. Then all orders of a small
// scenario.
#include <list>

#include "tests/support/cow_world.h"
#include "tests/support/seed.h"

using namespace umbra;
using namespace umbra::test;

namespace {

constexpr std::uint64_t kChunk = 16U << 10U;
constexpr std::size_t kGroupWrites = 3;  // Data, and the index in two places.

// Requests in flight, and a look at what the volume has submitted below.
struct Fixture {
  explicit Fixture(const CowWorldOptions& options = {}) : world(seed(), options) {
    world.open();
    world.machine.set_scheduled(true);
  }

  void write(std::uint64_t offset_bytes) {
    Write& write = writes.emplace_back();
    write.fixture = this;
    write.bytes.resize(kSector);
    stamp(write.bytes, offset_bytes, ++world.sequence);
    write.request.op = block::Op::write;
    write.request.offset_bytes = offset_bytes;
    write.request.size_bytes = kSector;
    write.request.buffer = write.bytes.data();
    write.request.owner = &write;
    write.request.complete = [](block::Request& request) noexcept {
      auto& done = *static_cast<Write*>(request.owner);
      REQUIRE(request.error == 0);
      std::copy(
          done.bytes.begin(), done.bytes.end(),
          done.fixture->world.twin.begin() + static_cast<std::ptrdiff_t>(request.offset_bytes));
      ++done.fixture->completed;
    };
    world.volume->live().submit(write.request);
  }

  [[nodiscard]] std::size_t queued(const SimDisk& on, block::Op op) const {
    return world.machine.count_queued([&](const SimDisk& disk, const block::Request& request) {
      return &disk == &on && request.op == op;
    });
  }
  bool step(const SimDisk& on, block::Op op) {
    return world.machine.step_one([&](const SimDisk& disk, const block::Request& request) {
      return &disk == &on && request.op == op;
    });
  }
  void step_group_writes() {
    for (std::size_t i = 0; i < kGroupWrites; ++i) REQUIRE(step(world.diff, block::Op::write));
  }
  SnapshotId take(bool persistent) {
    world.machine.run_until_idle();
    return world.take(persistent);
  }

  struct Write {
    Fixture* fixture = nullptr;
    block::Request request;
    Image bytes;
  };
  CowWorld world;
  std::list<Write> writes;
  std::size_t completed = 0;
};

}  // namespace

TEST_CASE("a second writer does not overtake a copy that is only claimed", "[cow]") {
  Fixture f;
  const SnapshotId snapshot = f.take(false);
  f.write(0);
  f.write(512);
  CHECK(f.queued(f.world.origin, block::Op::read) == 1);  // One copy for both.
  CHECK(f.queued(f.world.origin, block::Op::write) == 0);
  REQUIRE(f.step(f.world.origin, block::Op::read));
  CHECK(f.queued(f.world.diff, block::Op::write) == kGroupWrites);
  for (std::size_t i = 0; i < kGroupWrites; ++i) {
    CHECK(f.queued(f.world.origin, block::Op::write) == 0);
    REQUIRE(f.step(f.world.diff, block::Op::write));
  }
  CHECK(f.queued(f.world.diff, block::Op::flush) == 0);
  CHECK(f.queued(f.world.origin, block::Op::write) == 2);
  f.world.machine.run_until_idle();
  CHECK(f.completed == 2);
  f.world.check_snapshot(snapshot);
}

TEST_CASE("what a chain of requests needs goes in one group", "[cow]") {
  CowWorld world(seed());
  world.open();
  const SnapshotId snapshot = world.take(true);
  constexpr std::size_t kRequests = 16;
  std::vector<Image> bytes(kRequests, Image(kChunk));
  std::vector<block::Request> requests(kRequests);
  std::size_t completed = 0;
  for (std::size_t i = 0; i < kRequests; ++i) {
    block::Request& request = requests[i];
    request.op = block::Op::write;
    request.offset_bytes = (i * 7 % kRequests) * 2 * kChunk;  // No two next to each other.
    request.size_bytes = kChunk;
    stamp(bytes[i], request.offset_bytes, 5);
    request.buffer = bytes[i].data();
    request.owner = &completed;
    request.complete = [](block::Request& done) noexcept {
      if (done.error == 0) ++*static_cast<std::size_t*>(done.owner);
    };
    if (i > 0) requests[i - 1].next = &request;
  }
  world.volume->live().submit(requests[0]);
  CHECK(completed == kRequests);
  const cow::Statistics statistics = world.volume->statistics();
  CHECK(statistics.chunks_preserved == kRequests);
  CHECK(statistics.groups_written == 1);
  CHECK(statistics.diff_flushes == 1);
  world.check_snapshot(snapshot);
}

TEST_CASE("a write waits for the flush of what a persistent snapshot needs, and for no other",
          "[cow]") {
  Fixture f;
  const SnapshotId persistent = f.take(true);
  f.write(0);
  REQUIRE(f.step(f.world.origin, block::Op::read));
  f.step_group_writes();
  CHECK(f.queued(f.world.origin, block::Op::write) == 0);
  CHECK(f.queued(f.world.diff, block::Op::flush) == 1);
  REQUIRE(f.step(f.world.diff, block::Op::flush));
  CHECK(f.queued(f.world.origin, block::Op::write) == 1);

  const SnapshotId above = f.take(false);
  const std::uint64_t flushes = f.world.volume->statistics().diff_flushes;
  f.write(0);  // Preserved since the newest persistent one: only the auto-release copy needs this.
  f.world.machine.run_until_idle();
  CHECK(f.world.volume->statistics().diff_flushes == flushes);
  f.write(kChunk);  // The persistent one resolves through this record.
  f.world.machine.run_until_idle();
  CHECK(f.world.volume->statistics().diff_flushes == flushes + 1);
  f.world.check_snapshot(persistent);
  f.world.check_snapshot(above);
}

TEST_CASE("a commit waits for writes that were tested in the epoch before", "[cow]") {
  Fixture f;
  const SnapshotId first = f.take(false);
  f.write(0);
  f.world.machine.run_until_idle();
  f.write(0);  // Preserved: goes straight to the origin.
  CHECK(f.queued(f.world.origin, block::Op::write) == 1);
  const SnapshotId second = f.world.begin(false);
  f.world.volume->hold();
  // begin() may have completed it on the way; then there is nothing to wait for.
  if (f.queued(f.world.origin, block::Op::write) == 1) {
    CHECK_FALSE(f.world.volume->drain(Duration::zero()));
    REQUIRE(f.step(f.world.origin, block::Op::write));
  }
  f.write(512);  // Parked.
  CHECK(f.world.machine.queued() == 0);
  REQUIRE(f.world.volume->drain(Duration::zero()));
  f.world.commit(second);
  f.world.volume->release();
  // Tested again in the new epoch: it needs a copy, although the old epoch had the chunk.
  CHECK(f.queued(f.world.origin, block::Op::write) == 0);
  CHECK(f.queued(f.world.origin, block::Op::read) == 1);
  f.world.machine.run_until_idle();
  f.world.finish(second);
  f.world.check_snapshot(first);
  f.world.check_snapshot(second);
}

TEST_CASE("a copy claimed before a commit does not let its writer through after it", "[cow]") {
  Fixture f;
  const SnapshotId first = f.take(false);
  const SnapshotId second = f.world.begin(false);
  f.write(0);
  f.world.volume->hold();
  REQUIRE(f.world.volume->drain(Duration::zero()));  // It waits for its copy: not issued.
  f.world.commit(second);
  f.world.volume->release();
  REQUIRE(f.step(f.world.origin, block::Op::read));
  f.step_group_writes();
  CHECK(f.queued(f.world.origin, block::Op::write) == 0);
  CHECK(f.queued(f.world.origin, block::Op::read) == 1);  // The second epoch's own copy.
  f.world.machine.run_until_idle();
  CHECK(f.completed == 1);
  f.world.finish(second);
  f.world.check_snapshot(first);
  f.world.check_snapshot(second);
}

TEST_CASE("a quiet volume writes to neither device until its gate opens", "[cow]") {
  Fixture f;
  const SnapshotId first = f.take(true);
  f.write(0);  // Waits for its copy, and that for a flush.
  f.write(kChunk);
  f.world.volume->hold();
  REQUIRE(f.world.volume->drain(Duration::zero()));
  const auto quiet = [&] { return f.world.volume->quiesce(Duration::zero()); };
  std::size_t steps = 0;
  const auto all_of = [&](const SimDisk& disk, block::Op op) {
    while (f.queued(disk, op) > 0) {
      CHECK_FALSE(quiet());
      REQUIRE(f.step(disk, op));
      ++steps;
    }
  };
  all_of(f.world.origin, block::Op::read);
  all_of(f.world.diff, block::Op::write);
  all_of(f.world.diff, block::Op::flush);
  CHECK(steps == 2 * (1 + kGroupWrites + 1));
  f.world.machine.run_until_idle();  // The diff area's growth ahead.
  CHECK(quiet());
  CHECK(f.completed == 0);
  f.write(2 * kChunk);
  CHECK(f.world.machine.queued() == 0);
  CHECK(quiet());
  f.world.volume->release();
  f.world.machine.run_until_idle();
  CHECK(f.completed == 3);
  f.world.check_snapshot(first);
}

TEST_CASE("a volume whose diff area grows is not quiet", "[cow]") {
  CowWorldOptions options;
  options.chunk_bytes = 256U << 10U;
  options.origin_bytes = 24U << 20U;  // 96 chunks; a segment holds 16.
  options.segments = 2;
  options.segments_max = 8;
  Fixture f(options);
  (void)f.take(false);
  const std::uint64_t before = f.world.diff.geometry().size_bytes;
  f.write(0);  // Few segments are free: a job is posted.
  f.world.volume->hold();
  REQUIRE(f.world.volume->drain(Duration::zero()));
  while (f.step(f.world.origin, block::Op::read) || f.step(f.world.diff, block::Op::write)) {
  }
  CHECK(f.world.diff.geometry().size_bytes == before);
  CHECK_FALSE(f.world.volume->quiesce(Duration::zero()));
  f.world.machine.run_until_idle();
  CHECK(f.world.diff.geometry().size_bytes > before);
  CHECK(f.world.volume->quiesce(Duration::zero()));
  f.world.volume->release();
  f.world.machine.run_until_idle();
  CHECK(f.completed == 1);
}

TEST_CASE("removing the newest snapshot does not preserve its predecessor's chunks again",
          "[cow]") {
  Fixture f;
  const SnapshotId first = f.take(true);
  f.write(0);  // The first one's own record.
  const SnapshotId second = f.take(false);
  f.write(kChunk);  // The first one resolves through the second one's record.
  f.world.machine.run_until_idle();
  const std::uint64_t copies = f.world.volume->statistics().chunks_preserved;
  REQUIRE(copies == 2);
  f.world.remove(second);
  f.write(0);
  f.write(kChunk);
  f.world.machine.run_until_idle();
  CHECK(f.world.volume->statistics().chunks_preserved == copies);
  f.world.check_snapshot(first);
  f.write(2 * kChunk);
  f.world.machine.run_until_idle();
  CHECK(f.world.volume->statistics().chunks_preserved == copies + 1);
  f.world.check_snapshot(first);
}

TEST_CASE("a removed set's epoch keeps serving older snapshots", "[cow]") {
  Fixture f;
  const SnapshotId first = f.take(true);
  const SnapshotId aborted = f.world.begin(true);
  f.world.volume->hold();
  REQUIRE(f.world.volume->drain(Duration::zero()));
  f.world.commit(aborted);
  f.world.volume->release();
  f.write(0);
  f.world.machine.run_until_idle();
  f.world.remove(aborted);  // Never confirmed.
  f.world.check_snapshot(first);
  f.world.machine.run_until_idle();
  f.world.volume.reset();
  f.world.open();
  f.world.check_snapshot(first);
}

TEST_CASE("every order of completions of two writers, a reader and a commit is right", "[cow]") {
  // Purpose: all interleavings of a small scenario. Method: each run follows a list of choices; the
  // last choice that can be raised is, until none can. The world is reused: what a run made, it
  // removes.
  CowWorldOptions options;
  options.origin_bytes = 128U << 10U;
  options.segments = options.segments_max = 6;  // Never grows: every run has the same steps.
  Fixture f(options);
  // Once before, so that no run takes the first segment into use, which makes another one ready.
  const SnapshotId before = f.take(false);
  f.write(0);
  f.world.machine.run_until_idle();
  f.world.remove(before);
  f.world.machine.run_until_idle();
  std::vector<std::pair<std::uint64_t, std::uint64_t>> choices;  // Chosen, bound.
  std::size_t depth = 0;
  const auto choose = [&](std::uint64_t bound) {
    if (depth == choices.size()) choices.emplace_back(0, bound);
    REQUIRE(choices[depth].second == bound);
    return choices[depth++].first;
  };
  std::uint64_t runs = 0;
  do {
    depth = 0;
    f.completed = 0;
    f.writes.clear();
    const SnapshotId first = f.take(false);
    const SnapshotId second = f.world.begin(true);
    const auto device = f.world.volume->open_snapshot(first);
    REQUIRE(device);
    Image seen(2 * kSector);
    block::Request read;
    read.size_bytes = seen.size();
    read.buffer = seen.data();
    bool read_done = false;
    read.owner = &read_done;
    read.complete = [](block::Request& request) noexcept {
      *static_cast<bool*>(request.owner) = true;
    };
    f.write(0);
    f.write(kSector);
    (*device)->submit(read);
    bool committed = false;
    f.world.machine.choose = choose;
    const auto commit_if_drained = [&] {
      if (committed || !f.world.volume->drain(Duration::zero())) return;
      f.world.commit(second);
      f.world.volume->release();
      committed = true;
    };
    // The commit comes at any point of the run: that is a choice as well.
    bool held = false;
    while (f.world.machine.queued() > 0 || !committed) {
      if (!held && (f.world.machine.queued() == 0 || choose(2) == 1)) {
        f.world.volume->hold();
        held = true;
      }
      if (held) commit_if_drained();
      (void)f.world.machine.step();
    }
    f.world.machine.choose = nullptr;
    REQUIRE(f.completed == 2);
    REQUIRE(read_done);
    REQUIRE(read.error == 0);
    REQUIRE(std::equal(seen.begin(), seen.end(), f.world.images.at(first).begin()));
    f.world.finish(second);
    f.world.check_snapshot(first);
    f.world.check_snapshot(second);
    f.world.remove(second, true);
    f.world.remove(first, true);
    f.world.machine.run_until_idle();
    ++runs;
    while (!choices.empty() && choices.back().first + 1 == choices.back().second) {
      choices.pop_back();
    }
    if (!choices.empty()) ++choices.back().first;
  } while (!choices.empty() && runs < (long_run() ? 1'000'000U : 10'000U));
  INFO(runs << " orders");
  CHECK(runs > 100);
}
