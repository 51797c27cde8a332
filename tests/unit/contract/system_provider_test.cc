// SPDX-License-Identifier: Apache-2.0
//
// The system provider over doubles: order, faults at every step, recovery. That it is a provider at
// all is shown by tests/conformance, over the real store.

#include "provider/contract/system_provider.h"

#include <algorithm>
#include <future>

#include "provider/contract/set_recovery.h"
#include "tests/support/catch.h"
#include "tests/support/contract_doubles.h"
#include "tests/support/fake_volume.h"

namespace {

using namespace umbra;
using namespace umbra::contract;
using namespace umbra::test;
using namespace std::chrono_literals;

constexpr auto kNever = 20s;  // Bound of waits for what must happen.
constexpr std::uint64_t kDeviceA = 0x701;
constexpr std::uint64_t kDeviceB = 0x702;

// Two volumes, one provider; what survives a kill is the disks.
struct World {
  Events events;
  FakeFreezer freezer{events};
  FakeSurfaces surfaces{events};
  EventLog log{events};
  FakeDisk a{"a", &events};
  FakeDisk b{"b", &events};
  FakeDisk upper{"upper", &events};  // Not attached at first, and so the next.
  FakeDisk top{"top", &events};
  SystemProviderOptions options;
  std::unique_ptr<SystemProvider> provider;

  World() {
    options.machine_name = "host";
    options.version = "0.1.0";
    start();
    REQUIRE(attach(a, kDeviceA));
    REQUIRE(attach(b, kDeviceB));
  }
  void start() {
    provider = std::make_unique<SystemProvider>(freezer, surfaces, log, system_clock(), options);
  }
  Status attach(FakeDisk& disk, std::uint64_t device, std::vector<std::uint64_t> hosts = {}) {
    VolumeDescription description;
    description.name = disk.name;
    description.device = device;
    description.host_devices = std::move(hosts);
    return provider->add_volume(disk.open(), std::move(description));
  }
  bool nothing_held() const {
    return a.gates_shut() == 0 && b.gates_shut() == 0 && !freezer.is_frozen();
  }
  std::size_t copies(bool incomplete = false) const {
    const auto list = provider->query_snapshots(incomplete);
    REQUIRE(list);
    return list->size();
  }
  std::size_t on_disk() { return a.open()->list().size() + b.open()->list().size(); }
};

// A set over both volumes; its calls by number.
struct Story {
  World& world;
  std::uint32_t attributes = context::kAppRollback;
  SnapshotSetId id = SnapshotSetId::random();
  SessionId session = SessionId::random();
  std::vector<SnapshotId> snapshots{};
  HoldLimits limits{};

  Status add(const FakeDisk& disk) {
    const auto snapshot = SnapshotId::random();
    VolumeRef volume;
    volume.id = disk.id;
    auto status =
        world.provider->begin_prepare_snapshot({id, snapshot, volume, attributes, session});
    if (status) snapshots.push_back(snapshot);
    return status;
  }
  static constexpr int kSteps = 7;
  static constexpr int kHold = 2;
  static constexpr int kPreFinal = 4;
  Status step(int number) {
    auto& provider = *world.provider;
    switch (number) {
      case 0: return provider.end_prepare_snapshots(id);
      case 1: return provider.pre_commit_snapshots(id);
      case 2: return provider.flush_commit_release(id, limits).map([](const HoldReport&) {});
      case 3: return provider.post_commit_snapshots(id, snapshots);
      case 4: return provider.pre_final_commit_snapshots(id);
      case 5: return provider.post_final_commit_snapshots(id);
      default: return provider.confirm_set(id);
    }
  }
  void run(int from, int to) {
    for (int number = from; number < to; ++number) {
      INFO("step " << number);
      const auto status = step(number);
      INFO((status ? std::string() : status.error().to_string()));
      REQUIRE(status);
    }
  }
  // The first failure, if any.
  Status run_all() {
    for (int number = 0; number < kSteps; ++number) {
      if (auto status = step(number); !status) return status;
    }
    return {};
  }
  void begin() {
    REQUIRE(add(world.a));
    REQUIRE(add(world.b));
  }
  void create() {
    begin();
    run(0, kSteps);
  }
};

std::vector<std::string> without_log(const Events& events) {
  auto all = events.all();
  all.erase(std::remove_if(all.begin(), all.end(),
                           [](const std::string& event) { return event.rfind("log ", 0) == 0; }),
            all.end());
  return all;
}

TEST_CASE("a set over two volumes takes its steps in this order", "[contract]") {
  World world;
  Story set{world};
  world.events.clear();
  set.create();
  const std::vector<std::string> expected{
      "a.prepare",       "b.prepare",     "flush",   // EndPrepare
      "flush",           "freeze",        "a.hold",  // the hold
      "b.hold",          "a.drain",       "b.drain",         "a.commit",
      "b.commit",        "b.release",     "a.release",       "thaw",
      "a.post_commit",   "b.post_commit", "a.open_snapshot", "surface",
      "b.open_snapshot", "surface",       "a.confirm",       "b.confirm"};
  CHECK(without_log(world.events) == expected);
  CHECK(world.freezer.freezes() == std::vector<std::vector<std::uint64_t>>{{kDeviceA, kDeviceB}});
}

TEST_CASE("nothing is logged between freeze and thaw, and the hold is told afterwards",
          "[contract]") {
  World world;
  world.options.before_freeze = [&] { world.events.add("quiet"); };
  world.options.after_thaw = [&] { world.events.add("loud"); };
  world.options.drill_hold = 5ms;
  world.start();
  REQUIRE(world.attach(world.a, kDeviceA));
  REQUIRE(world.attach(world.b, kDeviceB));
  Story set{world};
  set.begin();
  set.run(0, Story::kHold);
  const auto before = system_clock().now().time_since_epoch().count();
  world.events.clear();
  const auto report = world.provider->flush_commit_release(set.id, set.limits);
  REQUIRE(report);
  const auto after = system_clock().now().time_since_epoch().count();
  const auto events = world.events.all();
  CHECK(events.at(1) == "quiet");
  CHECK(events.at(2) == "freeze");
  CHECK(events.at(events.size() - 3) == "thaw");
  CHECK(events.at(events.size() - 2) == "loud");
  CHECK(events.back() == "log writes were held");
  const std::string held = "writes were held";
  const auto begin = std::stoll(world.log.field(held, "begin_ns"));
  const auto end = std::stoll(world.log.field(held, "end_ns"));
  CHECK(before <= begin);
  CHECK(end <= after);
  CHECK(end - begin >= 5'000'000);  // The drill.
  CHECK(world.log.field(held, "set") == set.id.to_string());
  CHECK(world.log.field(held, "volumes") == "2");
  CHECK(report->gate >= 5ms);
  CHECK(report->freeze >= report->gate);
}

TEST_CASE("properties of a copy are complete",
          "[contract]"
          "[vss:IVssBackupComponents.GetSnapshotProperties]"
          "[vss:IVssSoftwareSnapshotProvider.GetSnapshotProperties]"
          "[vss:VSS_VOLSNAP_ATTR.EXPOSED_LOCALLY][vss:VSS_SPROPID.SNAPSHOT_ID]"
          "[vss:VSS_SPROPID.SNAPSHOT_SET_ID][vss:VSS_SPROPID.SNAPSHOTS_COUNT]"
          "[vss:VSS_SPROPID.SNAPSHOT_DEVICE][vss:VSS_SPROPID.ORIGINAL_VOLUME]"
          "[vss:VSS_SPROPID.ORIGINATING_MACHINE][vss:VSS_SPROPID.SERVICE_MACHINE]"
          "[vss:VSS_SPROPID.EXPOSED_PATH][vss:VSS_SPROPID.PROVIDER_ID]"
          "[vss:VSS_SPROPID.SNAPSHOT_ATTRIBUTES][vss:VSS_SPROPID.CREATION_TIMESTAMP]"
          "[vss:VSS_SPROPID.STATUS][vss:IVssSoftwareSnapshotProvider.SetSnapshotProperty]") {
  World world;
  Story set{world};
  set.create();
  world.surfaces.set_mounted(set.snapshots[0], true);
  const auto list = world.provider->query_snapshots(false);
  REQUIRE(list);
  const auto mine = std::find_if(list->begin(), list->end(), [&](const auto& properties) {
    return properties.snapshot_id == set.snapshots[0];
  });
  REQUIRE(mine != list->end());
  CHECK(mine->set_id == set.id);
  CHECK(mine->volume_id == world.a.id);
  CHECK(mine->provider_id == system_provider_id());
  CHECK(mine->snapshots_count == 2);
  CHECK(mine->device_object == "/run/snapshots/" + set.snapshots[0].to_string());
  CHECK(mine->nbd_uri == "nbd:" + set.snapshots[0].to_string());
  CHECK(mine->original_volume == "a");
  CHECK(mine->originating_machine == "host");
  CHECK(mine->service_machine == "host");
  CHECK(mine->exposed_path == "/mnt/copy");
  CHECK(mine->attributes == (context::kAppRollback | attribute::kExposedLocally));
  CHECK(mine->creation_filetime > 0);
  CHECK(mine->state == SnapshotState::created);
}

// --- faults
// ---------------------------------------------------------------------------------------

struct Fault {
  std::string name;
  std::function<void(World&)> arrange;
  Errc expected;
};

std::vector<Fault> faults() {
  const auto volume_step = [](const std::string& step) {
    return Fault{step + " of the second volume", [step](World& world) { world.b.fail_next(step); },
                 Errc::provider_veto};
  };
  return {
      volume_step("prepare"),
      volume_step("post_commit"),
      volume_step("open_snapshot"),
      volume_step("confirm"),
      {"no room", [](World& world) { world.b.fail_next("prepare", Errc::insufficient_storage); },
       Errc::insufficient_storage},
      {"the flush",
       [](World& world) {
         world.freezer.on_flush = [] { return fail(Errc::flush_writes_timeout, "slow"); };
       },
       Errc::flush_writes_timeout},
      {"the freeze",
       [](World& world) {
         world.freezer.on_freeze = [] { return fail(Errc::freeze_failed, "busy"); };
       },
       Errc::freeze_failed},
      {"the drain", [](World& world) { world.b.fail_next("drain"); }, Errc::hold_writes_timeout},
      {"an early thaw", [](World& world) { world.freezer.on_thaw = [] { return false; }; },
       Errc::hold_writes_timeout},
      {"the thaw",
       [](World& world) {
         world.freezer.on_thaw = []() -> Result<bool> { return fail(Errc::io_error, "gone"); };
       },
       Errc::provider_veto},
      {"surfacing the second",
       [](World& world) {
         world.surfaces.on_surface = [&world](const SnapshotId&) -> Status {
           if (world.surfaces.count() == 0) return {};
           return fail(Errc::missing_kernel_feature, "no FUSE");
         };
       },
       Errc::provider_veto},
  };
}

TEST_CASE("whatever fails, nothing is held or frozen and the set is gone",
          "[contract]"
          "[vss:VSS_E_FLUSH_WRITES_TIMEOUT][vss:VSS_E_HOLD_WRITES_TIMEOUT]"
          "[vss:VSS_E_PROVIDER_VETO][vss:VSS_E_INSUFFICIENT_STORAGE]") {
  for (const auto& fault : faults()) {
    INFO(fault.name);
    World world;
    Story set{world};
    set.begin();
    fault.arrange(world);
    const auto status = set.run_all();
    REQUIRE_FALSE(status);
    INFO(status.error().to_string());
    CHECK(status.error().code == fault.expected);
    CHECK_FALSE(status.error().context.empty());
    CHECK(world.nothing_held());
    CHECK(world.copies(true) == 0);
    CHECK(world.surfaces.count() == 0);
    CHECK(world.log.field("snapshot set was discarded", "set") == set.id.to_string());
    CHECK_FALSE(world.provider->confirm_set(set.id));
    // The slot is free: the next set works.
    world.freezer.on_flush = nullptr;
    world.freezer.on_freeze = nullptr;
    world.freezer.on_thaw = nullptr;
    world.surfaces.on_surface = nullptr;
    Story next{world};
    next.create();
    CHECK(world.copies() == 2);
  }
}

TEST_CASE("the end of the lease fails a stretched hold and discards the set",
          "[contract]"
          "[vss:limit.hold-of-writes-10s]") {
  World world;
  world.options.drill_hold = 20s;
  world.start();
  REQUIRE(world.attach(world.a, kDeviceA));
  REQUIRE(world.attach(world.b, kDeviceB));
  Story set{world};
  set.limits.hold = 20ms;
  set.begin();
  set.run(0, Story::kHold);
  CHECK(set.step(Story::kHold).error().code == Errc::hold_writes_timeout);
  CHECK(world.nothing_held());
  CHECK(world.copies(true) == 0);
}

TEST_CASE("an abort ends a stretched hold at once", "[contract]") {
  World world;
  world.options.drill_hold = 20s;
  world.start();
  REQUIRE(world.attach(world.a, kDeviceA));
  REQUIRE(world.attach(world.b, kDeviceB));
  Story set{world};
  set.limits.hold = 40s;
  set.begin();
  set.run(0, Story::kHold);
  auto fused = std::async(std::launch::async, [&] { return set.step(Story::kHold); });
  REQUIRE(world.a.wait_gate_shut());
  world.provider->abort_snapshots(set.id);
  CHECK(world.nothing_held());
  REQUIRE(fused.wait_for(kNever) == std::future_status::ready);
  CHECK(fused.get().error().code == Errc::bad_state);
  CHECK(world.copies(true) == 0);
}

TEST_CASE("an abort ends a flush that blocks, also the one before the hold", "[contract]") {
  World world;
  for (const int at : {0, Story::kHold}) {
    Story set{world};
    set.begin();
    set.run(0, at);
    world.freezer.block();
    auto call = std::async(std::launch::async, [&] { return set.step(at); });
    CHECK(world.freezer.wait_blocked());
    world.provider->abort_snapshots(set.id);
    CHECK(world.copies(true) == 0);
    REQUIRE(call.wait_for(kNever) == std::future_status::ready);
    CHECK(call.get().error().code == Errc::bad_state);
    world.freezer.let();
    CHECK(world.nothing_held());
    CHECK(world.copies(true) == 0);
  }
}

TEST_CASE("the flush before the hold has the hold's limit, the one before it more", "[contract]") {
  World world;
  Story set{world};
  set.begin();
  set.run(0, 1);
  CHECK(world.freezer.flush_limit() > HoldLimits{}.flush);
  set.run(1, Story::kHold + 1);
  CHECK(world.freezer.flush_limit() <= HoldLimits{}.flush);
}

TEST_CASE("an abort in the middle of a step keeps it from the volumes that are left",
          "[contract]") {
  World world;
  Story set{world};
  set.begin();
  std::future<void> abort;
  world.a.power = [&] {
    if (abort.valid()) return true;
    abort = std::async(std::launch::async, [&] { world.provider->abort_snapshots(set.id); });
    // A call is answered with a veto as soon as the set is known to be aborted.
    const auto deadline = system_clock().now() + kNever;
    while (set.step(1).error().code != Errc::provider_veto) {
      if (system_clock().now() > deadline) break;
    }
    return true;
  };
  CHECK(set.step(0).error().code == Errc::bad_state);
  REQUIRE(abort.wait_for(kNever) == std::future_status::ready);
  CHECK(world.events.contains("a.prepare"));
  CHECK_FALSE(world.events.contains("b.prepare"));
  world.a.power = nullptr;  // The provider's end would come to it once more.
  CHECK(world.on_disk() == 0);
}

TEST_CASE("a second call of a set that is being worked on is refused", "[contract]") {
  World world;
  Story set{world};
  set.begin();
  world.freezer.block();
  auto call = std::async(std::launch::async, [&] { return set.step(0); });
  REQUIRE(world.freezer.wait_blocked());
  CHECK(set.step(0).error().code == Errc::bad_state);
  CHECK(set.add(world.a).error().code == Errc::bad_state);
  world.freezer.let();
  CHECK(call.get());
}

// --- what may be in a set
// -------------------------------------------------------------------------

using Freezes = std::vector<std::vector<std::uint64_t>>;
constexpr std::uint64_t kDeviceUpper = 0x703;

TEST_CASE("a set of a volume and of one that lies on it: dependants first, hosts go first",
          "[contract]") {
  World world;
  REQUIRE(world.attach(world.upper, kDeviceUpper, {0x800, kDeviceA}));
  Story set{world};
  const bool host_first = GENERATE(true, false);
  REQUIRE(set.add(host_first ? world.a : world.upper));
  REQUIRE(set.add(world.b));
  REQUIRE(set.add(host_first ? world.upper : world.a));
  set.run(0, Story::kHold);
  world.events.clear();
  REQUIRE(set.step(Story::kHold));
  using Steps = std::vector<std::string>;
  const Steps last = host_first ? Steps{"a", "b"} : Steps{"b", "a"};
  const Steps expected{"flush",
                       "flush",
                       "freeze",
                       "upper.hold",
                       "upper.drain",
                       "upper.quiesce",
                       "freeze",
                       last[0] + ".hold",
                       last[1] + ".hold",
                       last[0] + ".drain",
                       last[1] + ".drain",
                       "upper.commit",
                       last[0] + ".commit",
                       last[1] + ".commit",
                       last[1] + ".release",
                       last[0] + ".release",
                       "thaw",
                       "upper.release",
                       "thaw"};
  CHECK(without_log(world.events) == expected);
  const auto freezes = world.freezer.freezes();
  REQUIRE(freezes.size() == 2);
  CHECK(freezes[0] == std::vector{kDeviceUpper});
  CHECK(freezes[1].size() == 2);
  set.run(Story::kHold + 1, Story::kSteps);
  CHECK(world.copies() == 3);
}

TEST_CASE("writes to a volume that lies on one of the set are held, in the set or not",
          "[contract]") {
  World world;
  REQUIRE(world.attach(world.upper, kDeviceUpper, {kDeviceA}));
  REQUIRE(world.attach(world.top, 0x704, {kDeviceUpper}));
  Story set{world};
  REQUIRE(set.add(world.a));
  const bool with_top = GENERATE(false, true);  // Across the one between.
  if (with_top) REQUIRE(set.add(world.top));
  set.run(0, Story::kHold);
  SECTION("and the set is made") {
    world.events.clear();
    REQUIRE(set.step(Story::kHold));
    auto events = without_log(world.events);
    CHECK(std::count(events.begin(), events.end(), "upper.commit") == 0);
    CHECK(std::count(events.begin(), events.end(), "top.commit") == (with_top ? 1 : 0));
    const auto at = [&](const std::string& event) {
      return std::find(events.begin(), events.end(), event) - events.begin();
    };
    CHECK(at("top.quiesce") < at("upper.hold"));
    CHECK(at("upper.quiesce") < at("a.hold"));
    CHECK(at("a.release") < at("upper.release"));
    CHECK(at("upper.release") < at("top.release"));
    const auto frozen = with_top ? Freezes{{0x704}, {kDeviceA}} : Freezes{{kDeviceA}};
    CHECK(world.freezer.freezes() == frozen);
    set.run(Story::kHold + 1, Story::kSteps);
    CHECK(world.copies() == set.snapshots.size());
  }
  SECTION("and it fails at a copy that does not end") {
    world.upper.fail_next("quiesce");
    const auto held = set.step(Story::kHold);
    CHECK(held.error().code == Errc::hold_writes_timeout);
    CHECK(held.error().context.find("'upper'") != std::string::npos);
    CHECK_FALSE(world.events.contains("a.hold"));
    CHECK(world.copies() == 0);
  }
  CHECK(world.nothing_held());
  CHECK(world.upper.gates_shut() == 0);
  CHECK(world.top.gates_shut() == 0);
}

TEST_CASE("who was detached before the hold is left out of it", "[contract]") {
  World world;
  REQUIRE(world.attach(world.upper, kDeviceUpper, {kDeviceA}));
  Story set{world};
  REQUIRE(set.add(world.a));
  set.run(0, Story::kHold);
  REQUIRE(world.provider->remove_volume(world.upper.id, false));
  world.events.clear();
  REQUIRE(set.step(Story::kHold));
  CHECK_FALSE(world.events.contains("upper.hold"));
}

TEST_CASE("volumes that lie on each other in a circle are refused by name",
          "[contract]"
          "[vss:VSS_E_NESTED_VOLUME_LIMIT]") {
  World world;
  REQUIRE(world.attach(world.top, 0x704, {0x704}));
  // As after a change of the system's stacking; nobody can attach such a thing.
  REQUIRE(world.provider->remove_volume(world.a.id, false));
  REQUIRE(world.attach(world.a, kDeviceA, {kDeviceUpper}));
  REQUIRE(world.attach(world.upper, kDeviceUpper, {kDeviceA}));
  for (const FakeDisk* disk : {&world.top, &world.a, &world.upper}) {
    Story set{world};
    const auto refused = set.add(*disk);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == Errc::nested_volume_limit);
    CHECK(refused.error().context.find("'" + disk->name + "' lies on '") != std::string::npos);
  }
  Story set{world};
  REQUIRE(set.add(world.b));
  set.run(0, Story::kSteps);
  CHECK(world.copies() == 1);
}

TEST_CASE("attributes that are not offered are refused",
          "[contract]"
          "[vss:VSS_E_UNSUPPORTED_CONTEXT][vss:VSS_VOLSNAP_ATTR.NO_AUTORECOVERY]"
          "[vss:VSS_VOLSNAP_ATTR.PLEX]") {
  World world;
  VolumeRef volume;
  volume.id = world.a.id;
  for (const std::uint32_t attributes :
       {context::kAppRollback | attribute::kAutorecover | attribute::kNoAutorecovery,
        context::kBackup | attribute::kPlex, context::kBackup | attribute::kTransportable,
        attribute::kPersistent, context::kBackup | attribute::kExposedLocally}) {
    INFO(std::hex << attributes);
    CHECK(*world.provider->is_volume_supported(volume, attributes) == false);
    Story set{world, attributes};
    CHECK(set.add(world.a).error().code == Errc::unsupported_context);
  }
  CHECK(*world.provider->is_volume_supported(volume, context::kNasRollback));
}

TEST_CASE("a copy that is to be recovered takes writes between the final commits",
          "[contract]"
          "[vss:rule.auto-recovery-window][vss:VSS_VOLSNAP_ATTR.ROLLBACK_RECOVERY]"
          "[vss:VSS_VOLSNAP_ATTR.TXF_RECOVERY]") {
  const std::uint32_t recovery =
      GENERATE(attribute::kAutorecover, attribute::kRollbackRecovery, attribute::kTxfRecovery);
  World world;
  Story set{world, context::kAppRollback | recovery};
  set.begin();
  set.run(0, Story::kPreFinal + 1);
  CHECK(world.surfaces.count() == 2);
  CHECK(world.events.contains("a.begin_recovery"));
  CHECK_FALSE(world.events.contains("a.end_recovery"));
  set.run(Story::kPreFinal + 1, Story::kSteps);
  CHECK(world.events.contains("a.end_recovery"));
  CHECK(world.events.contains("b.end_recovery"));
  CHECK(world.surfaces.count() == 2);
  CHECK(world.copies() == 2);
}

TEST_CASE("what file systems had free is exempt before copies are surfaced", "[contract]") {
  World world;
  world.a.write(0, std::string(2 * 4096, 'x'));
  world.freezer.free = {{kDeviceA, 4096, 4096}, {0x799, 0, 4096}, {kDeviceB, 0, 512}};
  Story set{world};
  set.begin();
  set.run(0, Story::kPreFinal);
  CHECK_FALSE(world.events.contains("a.exempt_free"));  // Writers are not thawed yet.
  world.events.clear();
  set.run(Story::kPreFinal, Story::kSteps);
  const auto events = without_log(world.events);
  REQUIRE(events.size() > 3);
  CHECK(events[0] == "a.exempt_free");
  CHECK(events[1] == "b.exempt_free");
  CHECK(events[2] == "a.open_snapshot");
  CHECK(world.a.open()->find(set.snapshots[0])->exempt_bytes == 4096);
  CHECK(world.surfaces.read(set.snapshots[0], 4096, 4096).value() == std::string(4096, '\0'));
  CHECK(world.surfaces.read(set.snapshots[0], 0, 4096).value() == std::string(4096, 'x'));
  CHECK(world.b.open()->find(set.snapshots[1])->exempt_bytes == 512);

  world.freezer.free.clear();  // Nothing of one set is used for another.
  Story next{world};
  next.create();
  CHECK(world.a.open()->find(next.snapshots[0])->exempt_bytes == 0);
}

TEST_CASE("a volume that is to keep free blocks has nothing exempt", "[contract]") {
  World world;
  VolumeDescription description;
  description.name = world.upper.name;
  description.device = 0x703;
  description.copies_free_blocks = true;
  REQUIRE(world.provider->add_volume(world.upper.open(), std::move(description)));
  world.freezer.free = {{0x703, 0, 4096}};
  Story set{world};
  REQUIRE(set.add(world.upper));
  set.run(0, Story::kSteps);
  CHECK_FALSE(world.events.contains("upper.exempt_free"));
}

TEST_CASE("free blocks that cannot be noted are copied, but not if that is in doubt",
          "[contract]") {
  const Errc code = GENERATE(values({Errc::insufficient_storage, Errc::bad_state, Errc::io_error}));
  World world;
  world.freezer.free = {{kDeviceA, 0, 4096}};
  world.a.fail_next("exempt_free", code);
  Story set{world};
  set.begin();
  const Status created = set.run_all();
  CHECK(created.has_value() == (code != Errc::io_error));
  CHECK(world.on_disk() == (created ? 2U : 0U));
}

TEST_CASE("a copy that a writer leaves mounted, or that cannot be kept, fails its set",
          "[contract]"
          "[vss:VSS_E_AUTORECOVERY_FAILED]") {
  const bool mounted = GENERATE(true, false);
  World world;
  Story set{world, context::kAppRollback | attribute::kAutorecover};
  set.begin();
  set.run(0, Story::kPreFinal + 1);
  if (mounted) world.surfaces.set_mounted(set.snapshots[0], true);
  if (!mounted) world.a.fail_next("end_recovery", Errc::autorecovery_failed);
  const Status status = world.provider->post_final_commit_snapshots(set.id);
  REQUIRE_FALSE(status);
  CHECK(status.error().code == (mounted ? Errc::volume_in_use : Errc::autorecovery_failed));
  CHECK(world.on_disk() == 0);
  CHECK(world.surfaces.count() == 0);
}

TEST_CASE("a copy without recovery, or that nobody sees, has no window",
          "[contract]"
          "[vss:VSS_VOLSNAP_ATTR.NO_AUTORECOVERY][vss:rule.auto-recovery-window]") {
  const std::uint32_t attributes =
      GENERATE(as<std::uint32_t>{}, context::kAppRollback,
               context::kAppRollback | attribute::kNoAutorecovery,
               context::kAppRollback | attribute::kAutorecover | attribute::kNotSurfaced);
  World world;
  Story set{world, attributes};
  set.create();
  CHECK_FALSE(world.events.contains("a.begin_recovery"));
  CHECK(world.copies() == 2);
}

TEST_CASE("a copy that shall not be surfaced is not",
          "[contract]"
          "[vss:VSS_VOLSNAP_ATTR.NOT_SURFACED]") {
  World world;
  Story set{world, context::kAppRollback | attribute::kNotSurfaced};
  set.create();
  CHECK(world.copies() == 2);
  CHECK(world.surfaces.count() == 0);
}

TEST_CASE("ids cannot be used twice", "[contract]") {
  World world;
  Story set{world};
  set.create();
  CHECK(set.add(world.a).error().code == Errc::object_already_exists);
  Story other{world};
  VolumeRef volume;
  volume.id = world.a.id;
  const auto status = world.provider->begin_prepare_snapshot(
      {other.id, set.snapshots[0], volume, context::kAppRollback, other.session});
  CHECK(status.error().code == Errc::object_already_exists);
  CHECK(
      world.provider->begin_prepare_snapshot({SnapshotSetId{}, SnapshotId::random(), volume, 0, {}})
          .error()
          .code == Errc::invalid_argument);
}

TEST_CASE("a member list without our copies, or too long, is refused", "[contract]") {
  for (const bool too_long : {false, true}) {
    World world;
    Story set{world};
    set.begin();
    set.run(0, 3);
    std::vector<SnapshotId> members{set.snapshots[0]};
    if (too_long) {
      members = set.snapshots;
      while (members.size() <= cow::kMembersMax) members.push_back(SnapshotId::random());
    }
    const auto status = world.provider->post_commit_snapshots(set.id, members);
    CHECK(status.error().code == Errc::invalid_argument);
    CHECK(world.copies(true) == 0);
  }
}

// --- the registry
// -----------------------------------------------------------------------------------

TEST_CASE("a volume is registered once", "[contract]") {
  World world;
  CHECK(world.attach(world.a, 0x900).error().code == Errc::object_already_exists);
  FakeDisk same_name{"a"};
  CHECK(world.attach(same_name, 0x900).error().code == Errc::object_already_exists);
  FakeDisk same_device{"c"};
  CHECK(world.attach(same_device, kDeviceA).error().code == Errc::object_already_exists);
  FakeDisk nameless{""};
  CHECK(world.attach(nameless, 0).error().code == Errc::invalid_argument);
}

TEST_CASE("a volume is found by device, and absent ones are named in the error", "[contract]") {
  World world;
  VolumeRef volume;
  volume.device = kDeviceB;
  const auto found = world.provider->find_volume(volume);
  REQUIRE(found);
  CHECK(found->name == "b");
  CHECK(found->device == kDeviceB);
  volume.device = 0;  // "Without a block device" is nobody's name.
  CHECK_FALSE(world.provider->find_volume(volume));
  VolumeRef absent;
  absent.device = 0x999;
  absent.path = "/srv/data";
  const auto missing = world.provider->find_volume(absent);
  REQUIRE_FALSE(missing);
  CHECK(missing.error().context.find("/srv/data") != std::string::npos);
}

TEST_CASE("a volume in an unfinished set cannot be removed", "[contract]") {
  World world;
  Story set{world};
  set.begin();
  CHECK(world.provider->remove_volume(world.a.id, true).error().code == Errc::volume_in_use);
  world.provider->abort_snapshots(set.id);
  CHECK(world.provider->remove_volume(world.a.id, false));
  CHECK(world.provider->remove_volume(world.a.id, false).error().code == Errc::object_not_found);
  CHECK(world.provider->list_volumes()->size() == 1);
}

TEST_CASE("a volume with a mounted copy is removed only by force", "[contract]") {
  World world;
  Story first{world};
  first.create();
  Story set{world};
  set.create();
  world.surfaces.set_mounted(set.snapshots[0], true);
  CHECK(world.provider->remove_volume(world.a.id, false).error().code == Errc::volume_in_use);
  CHECK(world.surfaces.count() == 4);  // As before.
  CHECK(world.provider->remove_volume(world.a.id, true));
  CHECK(world.surfaces.count() == 2);
  REQUIRE(world.attach(world.a, kDeviceA));
  CHECK(world.surfaces.count() == 4);
  CHECK(world.copies() == 4);
}

// --- deletion
// ---------------------------------------------------------------------------------------

TEST_CASE("a mounted copy stays, and those after it",
          "[contract]"
          "[vss:IVssBackupComponents.DeleteSnapshots]"
          "[vss:IVssSoftwareSnapshotProvider.DeleteSnapshots][vss:VSS_E_VOLUME_IN_USE]") {
  World world;
  Story set{world};
  set.create();
  const auto list = world.provider->query_snapshots(false);
  const auto last = list->back().snapshot_id;
  world.surfaces.set_mounted(last, true);
  const auto report = world.provider->delete_snapshots(set.id, ObjectType::snapshot_set, false);
  CHECK(report.deleted == 1);
  CHECK(report.not_deleted == last);
  CHECK(report.status.error().code == Errc::volume_in_use);
  CHECK(world.provider->delete_snapshots(set.id, ObjectType::snapshot_set, true).deleted == 1);
}

TEST_CASE("a copy that cannot be deleted can still be read", "[contract]") {
  World world;
  Story set{world};
  set.create();
  world.a.fail_next("remove");
  const auto report =
      world.provider->delete_snapshots(set.snapshots[0], ObjectType::snapshot, false);
  CHECK(report.status.error().code == Errc::provider_veto);
  CHECK(report.not_deleted == set.snapshots[0]);
  CHECK(world.surfaces.has(set.snapshots[0]));
}

TEST_CASE("only copies and sets can be deleted",
          "[contract]"
          "[vss:VSS_OBJECT_TYPE.PROVIDER]") {
  World world;
  const auto report = world.provider->delete_snapshots(Guid::random(), ObjectType::provider, false);
  CHECK(report.status.error().code == Errc::invalid_argument);
}

TEST_CASE("an auto-release copy goes with its session even if it is mounted",
          "[contract]"
          "[vss:rule.auto-release-on-disconnect]") {
  World world;
  Story set{world, context::kBackup};
  set.create();
  world.surfaces.set_mounted(set.snapshots[0], true);
  world.provider->end_session(set.session);
  CHECK(world.copies(true) == 0);
  CHECK(world.surfaces.count() == 0);
}

TEST_CASE("what a session's end cannot delete goes at the next chance", "[contract]") {
  World world;
  Story set{world, context::kBackup};
  set.create();
  world.b.fail_next("remove");
  world.provider->end_session(set.session);
  CHECK(world.copies() == 1);
  CHECK(world.events.contains("log an auto-release copy could not be deleted"));
  world.provider->retain_sessions({});
  CHECK(world.copies() == 0);
}

// --- crashes
// ------------------------------------------------------------------------------------------

// Runs a set that dies before step `at` of the volumes, then restarts on what is left. Returns
// whether it got to the end.
bool run_until_dead(World& world, Story& set, int at, bool all_attached) {
  int left = at;
  const auto power = [&left] { return left-- > 0; };
  world.a.power = power;
  world.b.power = power;
  const bool done = set.add(world.a) && set.add(world.b) && set.run_all();
  // The dead machine discards nothing either: whatever it tried after the cut had no effect.
  world.provider.reset();
  world.a.power = nullptr;
  world.b.power = nullptr;
  world.start();
  REQUIRE(world.attach(world.a, kDeviceA));
  if (!all_attached) return done;
  REQUIRE(world.attach(world.b, kDeviceB));
  world.provider->all_volumes_attached();
  return done;
}

TEST_CASE("a machine that dies between any two steps leaves a whole set or none", "[contract]") {
  bool done = false;
  std::size_t whole = 0;
  for (int at = 0; !done; ++at) {
    INFO("dies before step " << at);
    World world;
    Story set{world};
    done = run_until_dead(world, set, at, true);
    const std::size_t shown = world.copies();
    CHECK((shown == 0 || shown == 2));
    CHECK(world.copies(true) == shown);
    CHECK((!done || shown == 2));
    CHECK(world.surfaces.count() >= shown);
    whole += shown / 2;
  }
  CHECK(whole >= 2);  // Also one that died between its two confirmations.
}

TEST_CASE("an orderly stop in the middle of a set leaves nothing of it", "[contract]") {
  for (int at = 0; at < Story::kSteps; ++at) {
    World world;
    Story set{world};
    set.begin();
    set.run(0, at);
    world.provider.reset();
    CHECK(world.on_disk() == 0);
    CHECK(world.nothing_held());
  }
}

TEST_CASE("the volume of an incomplete set that comes first shows nothing until the other is there",
          "[contract]") {
  // Steps of the volumes: prepare x2, post_commit x2, open x2, confirm x2. Dying before the first
  // confirm leaves two committed copies, before the second a created and a committed one.
  for (const int at : {6, 7}) {
    INFO("dies before step " << at);
    World world;
    Story set{world};
    CHECK_FALSE(run_until_dead(world, set, at, false));
    const bool first_created = at == 7;
    CHECK(world.copies() == (first_created ? 1 : 0));
    CHECK(world.copies(true) == 1);
    REQUIRE(world.attach(world.b, kDeviceB));
    CHECK(world.copies(true) == (first_created ? 2 : 0));
    CHECK(world.copies() == (first_created ? 2 : 0));
  }
}

TEST_CASE("an incomplete copy can be deleted, and goes when nobody is absent any more",
          "[contract]") {
  World world;
  Story set{world};
  CHECK_FALSE(run_until_dead(world, set, 6, false));
  REQUIRE(world.copies(true) == 1);
  SECTION("by hand") {
    CHECK(world.provider->delete_snapshots(set.id, ObjectType::snapshot_set, false).deleted == 1);
  }
  SECTION("when all volumes are attached") { world.provider->all_volumes_attached(); }
  CHECK(world.copies(true) == 0);
}

TEST_CASE("a half-made copy that cannot be recovered does not keep its volume away", "[contract]") {
  World world;
  Story set{world};
  CHECK_FALSE(run_until_dead(world, set, 6, false));
  world.a.fail_next("remove");
  CHECK(world.attach(world.b, kDeviceB));
  CHECK(world.events.contains("log a half-made copy could not be recovered"));
  CHECK(world.copies() == 0);
}

TEST_CASE("attaching a volume does not disturb a set that is being made", "[contract]") {
  World world;
  FakeDisk other{"c"};
  for (int at = 0; at < Story::kSteps; ++at) {
    INFO("after " << at << " calls");
    Story set{world};
    set.begin();
    set.run(0, at);
    REQUIRE(world.attach(other, 0x703));
    REQUIRE(world.provider->remove_volume(other.id, false));
    set.run(at, Story::kSteps);
  }
}

}  // namespace
