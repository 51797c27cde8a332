// SPDX-License-Identifier: Apache-2.0
//
// The steady path's traps, which no race detector sees, over the real code of the store: every
// schedule of real threads with few preemptions, and random ones with many.
//   - the bit set when a copy is claimed: a second writer overtakes the copy
//   - the bit tested in one epoch, the write issued in the next
//   - the newest snapshot deleted and what its bitmap knew forgotten: its predecessor would be
//     preserved again, with newer data
// and what else has to be right for them: parked writes, a delete or a growth during copies, reads.
// Normal runs take at most two preemptions in stories of two threads and one in larger ones, or
// where two take a minute; UMBRA_LONG=1 one more each.
#include "tests/sched/rig.h"
#include "tests/sched/viewer.h"
#include "tests/support/seed.h"

using namespace umbra;
using namespace umbra::test;
using sched::Rig;

namespace {

using Threads = std::vector<std::function<void()>>;

sched::Plan plan(std::uint32_t preemptions) {
  sched::Plan plan;
  plan.preemptions_max = preemptions + (long_run() ? 1 : 0);
  plan.systematic_max = long_run() ? 300'000 : 200'000;
  plan.random = long_run() ? 50'000 : 1'000;
  return plan;
}

// What a story needs most: a rig, the threads, and the rig's own judgement.
class RigStory : public sched::Story {
 public:
  explicit RigStory(const sched::RigOptions& options = {}) : rig(options) {}
  void check() override { rig.check(); }
  Rig rig;
};

template <class StoryType>
void explore(std::uint32_t preemptions) {
  const auto report =
      sched::explore(plan(preemptions), [] { return std::make_unique<StoryType>(); });
  if (long_run()) WARN(report.text());
  INFO(report.text());
  CHECK((report.complete || long_run()));
}

// --- the traps -------------------------------------------------------------------------------

// Two writers of one chunk: one claims the copy, the other must not pass before it is done.
struct Overtaking : RigStory {
  Overtaking() { rig.take(true); }
  Threads threads() override {
    return {[this] { rig.write(0, 10); }, [this] { rig.write(0, 20); }};
  }
};

// A write that finds its chunk preserved, and a commit after which it no longer is.
struct TestedBefore : RigStory {
  TestedBefore() {
    rig.take(false);
    rig.write(0, 10);
    next = rig.prepare(false);
  }
  Threads threads() override {
    return {[this] {
              rig.write(0, 20);
              rig.write(0, 30);
            },
            [this] { rig.commit(next); }};
  }
  SnapshotId next;
};

// The newest goes while its chunk is written again; its predecessor resolves through its record.
struct NewestGoes : RigStory {
  NewestGoes() {
    older = rig.take(true);
    newest = rig.take(false);
    rig.write(0, 10);
  }
  Threads threads() override {
    return {[this] { rig.remove(newest); },
            [this] {
              rig.write(0, 20);
              rig.write(1, 30);
            }};
  }
  void check() override {
    REQUIRE(rig.volume->statistics().chunks_preserved == 2);  // Chunk 0 not a second time.
    rig.check();
  }
  SnapshotId older;
  SnapshotId newest;
};

// The same where the old content is not copied: a write that overtakes the sharing changes what is
// shared.
struct OvertakingShared : RigStory {
  OvertakingShared() : RigStory({4, 4, true}) { rig.take(true); }
  Threads threads() override {
    return {[this] { rig.write(0, 10); },
            [this] {
              rig.write(0, 20);
              rig.write(1, 21);
            }};
  }
};

struct TestedBeforeShared : RigStory {
  TestedBeforeShared() : RigStory({4, 4, true}) {
    rig.take(false);
    rig.write(0, 10);
    next = rig.prepare(true);
  }
  Threads threads() override {
    return {[this] {
              rig.write(0, 20);
              rig.write(0, 30);
            },
            [this] { rig.commit(next); }};
  }
  SnapshotId next;
};

// --- around them -----------------------------------------------------------------------------

// Writers that meet a shut gate wait and are tested again in the new epoch.
struct Parked : RigStory {
  Parked() {
    rig.take(true);
    next = rig.prepare(true);
  }
  Threads threads() override {
    return {[this] { rig.write(0, 10); },
            [this] {
              rig.write(0, 20);
              rig.write(1, 21);
            },
            [this] {
              rig.commit(next);
              rig.finish(next);
            }};
  }
  SnapshotId next;
};

// The newest goes while a copy that was claimed for it is on its way, and another one comes.
struct GoesDuringCopy : RigStory {
  GoesDuringCopy() {
    rig.take(true);
    newest = rig.take(true);
    next = rig.prepare(false);
  }
  Threads threads() override {
    return {[this] { rig.write(0, 10); },
            [this] {
              rig.remove(newest);
              rig.commit(next);
            },
            [this] { rig.write(0, 20); }};
  }
  SnapshotId newest;
  SnapshotId next;
};

// The only snapshot goes, so that nothing has to be preserved any more, and another one comes.
struct OnlyOneGoes : RigStory {
  OnlyOneGoes() { only = rig.take(false); }
  Threads threads() override {
    return {[this] { rig.write(0, 10); },
            [this] {
              rig.remove(only);
              rig.take(false);
            }};
  }
  SnapshotId only;
};

// The diff area grows under copies: one job, and copies that may have to wait for it.
struct Grows : RigStory {
  Grows() : RigStory({2, 5}) { rig.take(true); }
  Threads threads() override {
    return {[this] {
              rig.write(0, 10);
              rig.executor.leave();
            },
            [this] {
              rig.write(1, 20);
              rig.executor.leave();
            },
            [this] { rig.executor.serve(2); }};
  }
};

// A reader of the snapshot and writers of what it reads.
struct ReadUnderWrites : RigStory {
  ReadUnderWrites() { snapshot = rig.take(false); }
  Threads threads() override {
    return {[this] { rig.read_back(snapshot); },
            [this] {
              rig.write(1, 10);
              rig.zero(0);
            }};
  }
  SnapshotId snapshot;
};

// A reader beside the volume: it has the snapshot's view, the disks, and no lock.
struct ViewedUnderWrites : RigStory {
  ViewedUnderWrites() {
    snapshot = rig.take(false);
    rig.write(2, 5);
    viewer = std::make_unique<sched::Viewer>(rig, snapshot);
  }
  Threads threads() override {
    return {[this] { viewer->read_back(); },
            [this] {
              rig.write(1, 10);
              rig.zero(0);
            }};
  }
  void check() override {
    viewer->read_back();
    viewer.reset();
    rig.check();
  }
  SnapshotId snapshot;
  std::unique_ptr<sched::Viewer> viewer;
};

// The view is made while chunks are preserved: each is told, by one or by both.
struct ViewedFromTheMiddle : RigStory {
  ViewedFromTheMiddle() { snapshot = rig.take(true); }
  Threads threads() override {
    return {[this] {
              viewer = std::make_unique<sched::Viewer>(rig, snapshot);
              viewer->read_back();
            },
            [this] {
              rig.write(1, 10);
              rig.write(0, 11);
            }};
  }
  void check() override {
    viewer->read_back();
    viewer.reset();
    rig.check();
  }
  SnapshotId snapshot;
  std::unique_ptr<sched::Viewer> viewer;
};

// The snapshot goes by force, and its space is used for the next one: the reader gets what it
// showed, or is told that it has ended.
struct ViewedToTheEnd : RigStory {
  ViewedToTheEnd() : RigStory({2, 2}) {
    rig.take(true);
    snapshot = rig.take(true);
    rig.write(1, 10);
    viewer = std::make_unique<sched::Viewer>(rig, snapshot);
  }
  Threads threads() override {
    return {[this] { viewer->read_back(true); },
            [this] {
              rig.remove(snapshot, true);
              rig.take(false);
              rig.write(1, 20);
              rig.write(0, 21);
            }};
  }
  void check() override {
    viewer.reset();
    rig.check();
  }
  SnapshotId snapshot;
  std::unique_ptr<sched::Viewer> viewer;
};

}  // namespace

TEST_CASE("no writer overtakes a copy that is only claimed, in any order", "[cow][sched]") {
  explore<Overtaking>(2);
}

TEST_CASE("no write is tested in one epoch and issued in the next, in any order", "[cow][sched]") {
  explore<TestedBefore>(2);
}

TEST_CASE("no writer overtakes content that is being shared, in any order", "[cow][sched]") {
  const std::uint32_t preemptions_max = long_run() ? 2 : 1;
  explore<OvertakingShared>(preemptions_max);
  explore<TestedBeforeShared>(preemptions_max);
}

TEST_CASE("what the newest snapshot knew stays known when it goes, in any order", "[cow][sched]") {
  explore<NewestGoes>(2);
}

TEST_CASE("parked writes are tested in the new epoch, in any order", "[cow][sched]") {
  explore<Parked>(1);
}

TEST_CASE("a snapshot goes during a copy for it, in any order", "[cow][sched]") {
  explore<GoesDuringCopy>(1);
}

TEST_CASE("the only snapshot goes and another one comes, in any order", "[cow][sched]") {
  explore<OnlyOneGoes>(long_run() ? 2 : 1);
}

TEST_CASE("the diff area grows during copies, in any order", "[cow][sched]") { explore<Grows>(1); }

TEST_CASE("a snapshot is read while its chunks are written, in any order", "[cow][sched]") {
  explore<ReadUnderWrites>(long_run() ? 2 : 1);
}

TEST_CASE("a view shows the snapshot while its chunks are written, in any order", "[cow][sched]") {
  explore<ViewedUnderWrites>(2);
}

TEST_CASE("a view that is made while chunks are preserved misses none, in any order",
          "[cow][sched]") {
  explore<ViewedFromTheMiddle>(1);
}

TEST_CASE("a view of a snapshot that goes shows it or nothing, in any order", "[cow][sched]") {
  explore<ViewedToTheEnd>(1);
}
