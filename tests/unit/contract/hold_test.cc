// SPDX-License-Identifier: Apache-2.0

#include "provider/contract/hold.h"

#include <future>

#include "tests/support/catch.h"
#include "tests/support/contract_doubles.h"
#include "tests/support/fake_volume.h"
#include "tests/support/manual_clock.h"

namespace {

using namespace umbra;
using namespace umbra::contract;
using namespace umbra::test;
using namespace std::chrono_literals;

using Story = std::vector<std::string>;
constexpr auto kNever = 20s;  // Bound of waits for what must happen.

struct Stage {
  Events events;
  FakeFreezer freezer{events};
  FakeDisk a{"a", &events};
  FakeDisk b{"b", &events};
  std::unique_ptr<cow::Volume> volume_a = a.open();
  std::unique_ptr<cow::Volume> volume_b = b.open();
  ManualClock manual;
  HoldLimits limits;
  GateTimes gates;
  bool frozen_devices = true;

  std::unique_ptr<Hold> hold(const Clock& clock) {
    Hold::Setup setup;
    setup.set = SnapshotSetId::random();
    HoldLayer layer;
    for (auto* volume : {volume_a.get(), volume_b.get()}) {
      cow::PrepareRequest request;
      request.id = SnapshotId::random();
      REQUIRE(volume->prepare(request));
      layer.members.push_back({volume, request.id, volume == volume_a.get() ? "a" : "b"});
    }
    if (frozen_devices) layer.devices = {1, 2};
    setup.layers = {std::move(layer)};
    setup.limits = limits;
    setup.called = clock.now();
    setup.before_freeze = [this] { events.add("quiet"); };
    setup.on_gates_open = [this] { events.add("open"); };
    setup.after_thaw = [this](const GateTimes& times) {
      gates = times;
      events.add("loud");
    };
    events.clear();
    return std::make_unique<Hold>(freezer, clock, std::move(setup));
  }
  bool nothing_held() const {
    return a.gates_shut() == 0 && b.gates_shut() == 0 && !freezer.is_frozen();
  }
};

const Story kWhole{"quiet",    "freeze",    "a.hold",    "b.hold", "a.drain", "b.drain", "a.commit",
                   "b.commit", "b.release", "a.release", "open",   "thaw",    "loud"};

TEST_CASE("the order is freeze, gates shut, drain, flip, gates open, thaw", "[contract]") {
  Stage stage;
  const auto hold = stage.hold(stage.manual);
  REQUIRE(hold->begin());
  stage.manual.advance(3ms);
  REQUIRE(hold->commit(7));
  const auto report = hold->end();
  REQUIRE(report);
  CHECK(stage.events.all() == kWhole);
  CHECK(report->gate == 3ms);
  CHECK(report->freeze == 3ms);
  CHECK(stage.gates.end - stage.gates.begin == 3ms);
  CHECK(hold->end());  // And again.
  CHECK(stage.events.all() == kWhole);
}

TEST_CASE("without a block device nothing is frozen, and writes are held all the same",
          "[contract]") {
  Stage stage;
  stage.frozen_devices = false;
  const auto hold = stage.hold(stage.manual);
  REQUIRE(hold->begin());
  CHECK(stage.a.gates_shut() == 1);
  REQUIRE(hold->commit(7));
  REQUIRE(hold->end());
  CHECK_FALSE(stage.events.contains("freeze"));
  CHECK_FALSE(stage.events.contains("thaw"));
}

TEST_CASE("a freeze that fails leaves nothing held", "[contract]") {
  Stage stage;
  stage.freezer.on_freeze = [] { return fail(Errc::flush_writes_timeout, "slow"); };
  const auto hold = stage.hold(stage.manual);
  const auto begun = hold->begin();
  REQUIRE_FALSE(begun);
  CHECK(begun.error().code == Errc::flush_writes_timeout);
  CHECK(stage.events.all() == Story{"quiet", "freeze", "open", "loud"});
  CHECK(stage.gates.end == TimePoint{});
  CHECK(hold->commit(7).error().code == Errc::hold_writes_timeout);
}

// b lies on a.
std::unique_ptr<Hold> stacked_hold(Stage& stage) {
  Hold::Setup setup;
  setup.set = SnapshotSetId::random();
  setup.layers = {{{{stage.volume_b.get(), {}, "b"}}, {2}},
                  {{{stage.volume_a.get(), {}, "a"}}, {1}}};
  setup.limits = stage.limits;
  setup.called = stage.manual.now();
  setup.on_gates_open = [&stage] { stage.events.add("open"); };
  setup.after_thaw = [&stage](const GateTimes& times) { stage.gates = times; };
  stage.events.clear();
  return std::make_unique<Hold>(stage.freezer, stage.manual, std::move(setup));
}

TEST_CASE("layers are taken one after the other and let go the other way round", "[contract]") {
  Stage stage;
  const auto hold = stacked_hold(stage);
  REQUIRE(hold->begin());
  stage.manual.advance(3ms);
  REQUIRE(hold->commit(7));  // Nobody has a copy to make here.
  REQUIRE(hold->end());
  CHECK(stage.events.all() == Story{"freeze", "b.hold", "b.drain", "b.quiesce", "freeze", "a.hold",
                                    "a.drain", "a.release", "thaw", "b.release", "open", "thaw"});
  CHECK(stage.gates.end - stage.gates.begin == 3ms);
}

TEST_CASE("a layer that fails lets go of those before it, and of nothing else", "[contract]") {
  Stage stage;
  Errc expected = Errc::hold_writes_timeout;
  Story story{"freeze", "b.hold", "b.drain", "b.quiesce"};
  const Story undo{"b.release", "open", "thaw"};
  SECTION("copies do not end") { stage.b.fail_next("quiesce"); }
  SECTION("the host cannot be frozen") {
    expected = Errc::freeze_failed;
    stage.freezer.on_freeze = [&] {
      if (!stage.freezer.is_frozen()) return Status{};
      return Status(fail(Errc::freeze_failed, "busy"));
    };
    story.emplace_back("freeze");
  }
  SECTION("the time for flushing is over") {
    expected = Errc::flush_writes_timeout;
    stage.freezer.on_freeze = [&] {
      stage.manual.advance(stage.limits.flush);
      return Status{};
    };
    stage.limits.hold = stage.limits.window = stage.limits.flush * 2;
  }
  SECTION("the lease is over, for which nothing more is frozen") {
    stage.freezer.on_freeze = [&] {
      stage.manual.advance(stage.limits.hold);
      return Status{};
    };
    stage.limits.flush = stage.limits.hold * 2;
    story = {"freeze", "b.hold"};
  }
  story.insert(story.end(), undo.begin(), undo.end());
  const auto hold = stacked_hold(stage);
  CHECK(hold->begin().error().code == expected);
  CHECK(stage.events.all() == story);
  CHECK(stage.nothing_held());
}

TEST_CASE("an abort between two layers freezes nothing more", "[contract]") {
  Stage stage;
  const auto hold = stacked_hold(stage);
  std::future<void> abort;
  stage.freezer.on_freeze = [&] {
    if (abort.valid()) return Status{};
    abort = std::async(std::launch::async, [&] { hold->cancel(); });
    return Status{};
  };
  const auto begun = hold->begin();
  REQUIRE(abort.wait_for(kNever) == std::future_status::ready);
  if (!begun) CHECK(begun.error().code == Errc::bad_state);  // Or it came after the last.
  CHECK(stage.nothing_held());
}

TEST_CASE("the lease of a later layer is what is left of the first one's", "[contract]") {
  Stage stage;
  std::vector<std::chrono::milliseconds> leases;
  stage.freezer.on_lease = [&](auto lease) { leases.push_back(lease); };
  stage.freezer.on_freeze = [&] {
    stage.manual.advance(30ms);
    return Status{};
  };
  const auto hold = stacked_hold(stage);
  REQUIRE(hold->begin());
  REQUIRE(leases.size() == 2);
  CHECK(leases[0] == stage.limits.hold);
  CHECK(leases[1] == stage.limits.hold - 30ms);
}

TEST_CASE("a flush that used up its time fails before anything is frozen", "[contract]") {
  Stage stage;
  const auto hold = stage.hold(stage.manual);
  stage.manual.advance(stage.limits.flush);
  CHECK(hold->begin().error().code == Errc::flush_writes_timeout);
  CHECK_FALSE(stage.events.contains("freeze"));
}

TEST_CASE("a drain that does not end opens the gates and thaws, in that order", "[contract]") {
  Stage stage;
  const auto hold = stage.hold(stage.manual);
  stage.b.fail_next("drain");
  CHECK(hold->begin().error().code == Errc::hold_writes_timeout);
  CHECK(stage.events.all() == Story{"quiet", "freeze", "a.hold", "b.hold", "a.drain", "b.drain",
                                    "b.release", "a.release", "open", "thaw", "loud"});
  CHECK(stage.nothing_held());
}

TEST_CASE("a commit after the smallest freeze window is refused", "[contract]") {
  Stage stage;
  stage.limits.window = 5s;
  SECTION("it ended while freezing") {
    stage.freezer.on_freeze = [&] {
      stage.manual.advance(5s);
      return Status{};
    };
    CHECK(stage.hold(stage.manual)->begin().error().code == Errc::writererror_timeout);
  }
  SECTION("it ended while held") {
    const auto hold = stage.hold(stage.manual);
    REQUIRE(hold->begin());
    stage.manual.advance(5s);
    CHECK(hold->commit(7).error().code == Errc::writererror_timeout);
    REQUIRE(hold->end());
  }
  CHECK_FALSE(stage.events.contains("a.commit"));
  CHECK(stage.nothing_held());
}

TEST_CASE("a commit at the end of the lease is refused, whoever watches", "[contract]") {
  Stage stage;
  const auto hold = stage.hold(stage.manual);
  REQUIRE(hold->begin());
  stage.manual.advance(stage.limits.hold);
  CHECK(hold->commit(7).error().code == Errc::hold_writes_timeout);
  CHECK(hold->end().error().code == Errc::hold_writes_timeout);
  CHECK(stage.nothing_held());
}

TEST_CASE("the lease opens the gates and thaws by itself", "[contract]") {
  Stage stage;
  stage.limits.hold = 20ms;
  const auto hold = stage.hold(system_clock());
  REQUIRE(hold->begin());
  // Blocks until the gate is open, which nobody but the lease does.
  auto writer = std::async(std::launch::async, [&] { stage.a.write(0, "x"); });
  REQUIRE(writer.wait_for(kNever) == std::future_status::ready);
  CHECK(hold->commit(7).error().code == Errc::hold_writes_timeout);
  const auto report = hold->end();
  REQUIRE_FALSE(report);
  CHECK(report.error().code == Errc::hold_writes_timeout);
  CHECK(stage.nothing_held());
  CHECK_FALSE(stage.events.contains("a.commit"));
}

TEST_CASE("a release that comes after the lease says so", "[contract]") {
  Stage stage;
  const auto hold = stage.hold(stage.manual);
  REQUIRE(hold->begin());
  REQUIRE(hold->commit(7));
  stage.manual.advance(stage.limits.hold);
  CHECK(hold->end().error().code == Errc::hold_writes_timeout);
}

TEST_CASE("a file system that was thawed before the release fails the hold", "[contract]") {
  Stage stage;
  stage.freezer.on_thaw = [] { return false; };
  const auto hold = stage.hold(stage.manual);
  REQUIRE(hold->begin());
  REQUIRE(hold->commit(7));
  CHECK(hold->end().error().code == Errc::hold_writes_timeout);
}

TEST_CASE("a thaw that fails is told", "[contract]") {
  Stage stage;
  stage.freezer.on_thaw = []() -> Result<bool> { return fail(Errc::io_error, "gone"); };
  const auto hold = stage.hold(stage.manual);
  REQUIRE(hold->begin());
  CHECK(hold->end().error().code == Errc::io_error);
}

TEST_CASE("cancelling ends a hold at any moment", "[contract]") {
  Stage stage;
  SECTION("before it began") {
    const auto hold = stage.hold(stage.manual);
    hold->cancel();
    CHECK(hold->begin().error().code == Errc::bad_state);
    CHECK_FALSE(stage.events.contains("freeze"));
  }
  SECTION("while it freezes") {
    std::promise<void> cancelled;
    const auto hold = stage.hold(stage.manual);
    std::future<void> other;
    stage.freezer.on_freeze = [&] {
      other = std::async(std::launch::async, [&] { hold->cancel(); });
      return Status{};
    };
    const auto begun = hold->begin();
    REQUIRE(other.wait_for(kNever) == std::future_status::ready);
    if (begun) {  // The cancel came after the gates were shut.
      CHECK(hold->commit(7).error().code == Errc::hold_writes_timeout);
    } else {
      CHECK(begun.error().code == Errc::bad_state);
    }
  }
  SECTION("while it is held") {
    const auto hold = stage.hold(stage.manual);
    REQUIRE(hold->begin());
    hold->cancel();
    CHECK(hold->commit(7).error().code == Errc::hold_writes_timeout);
    CHECK(hold->end().error().code == Errc::bad_state);
  }
  SECTION("while a drill stretches it") {
    const auto hold = stage.hold(stage.manual);
    REQUIRE(hold->begin());
    auto drill = std::async(std::launch::async, [&] { hold->linger(kNever * 2); });
    hold->cancel();
    CHECK(drill.wait_for(kNever) == std::future_status::ready);
  }
  SECTION("by destruction") {
    const auto hold = stage.hold(stage.manual);
    REQUIRE(hold->begin());
  }
  CHECK(stage.nothing_held());
}

}  // namespace
