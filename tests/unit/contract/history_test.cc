// SPDX-License-Identifier: Apache-2.0
//
// Revert and checkpoints over doubles: what is refused and why, who is made to let go, and what
// everybody else may do meanwhile.
#include <algorithm>
#include <functional>

#include "provider/contract/system_provider.h"
#include "tests/support/catch.h"
#include "tests/support/contract_doubles.h"
#include "tests/support/fake_volume.h"
#include "umbra/diff_area_management.h"

namespace {

using namespace umbra;
using namespace umbra::contract;
using namespace umbra::test;

constexpr std::uint64_t kDevice = 0x701;

// Somebody looks how far it is: the test does then what happens meanwhile.
class Meanwhile final : public OperationMonitor {
 public:
  bool progress(std::uint64_t done, std::uint64_t total) override {
    seen.emplace_back(done, total);
    if (then) then();
    return false;  // It shall be cancelled. It is not.
  }
  void say(std::string) override {}
  void fact(std::string name, std::string value) override {
    facts.push_back({std::move(name), std::move(value)});
  }
  bool point_of_no_return(const std::string& instead) override {
    told_instead = instead;
    return !cancelled;
  }
  std::function<void()> then;
  bool cancelled = false;  // Before it could begin.
  std::string told_instead;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> seen;
  std::vector<OperationFact> facts;
};

struct World {
  World() {
    options.live_users = [this](const VolumeId&) { return users; };
    options.claim_live = [this](const VolumeId&, bool dismount) -> Result<std::shared_ptr<void>> {
      if (claim_error.code != Errc::ok) return fail(claim_error);
      events.add(dismount ? "dismount" : "claim");
      return std::shared_ptr<void>(&events,
                                   [](void* all) { static_cast<Events*>(all)->add("let go"); });
    };
    options.on_event = [this](const ProviderEvent& event) { told.push_back(event.name); };
    options.on_reverting = [this](const VolumeId& id, const SnapshotId& target) {
      resumed.emplace_back(id, target);
    };
    start();
  }
  void start() {
    provider =
        std::make_unique<SystemProvider>(freezer, surfaces, null_log(), system_clock(), options);
    VolumeDescription description;
    description.name = "db";
    description.device = kDevice;
    REQUIRE(provider->add_volume(disk.open(), std::move(description)));
    provider->all_volumes_attached();
    volume.id = disk.id;
  }
  SnapshotId take(std::uint32_t attributes = context::kAppRollback) {
    const auto set = SnapshotSetId::random();
    const auto id = SnapshotId::random();
    REQUIRE(provider->begin_prepare_snapshot({set, id, volume, attributes, SessionId::random()}));
    REQUIRE(provider->end_prepare_snapshots(set));
    REQUIRE(provider->pre_commit_snapshots(set));
    REQUIRE(provider->flush_commit_release(set, {}));
    REQUIRE(provider->post_commit_snapshots(set, {id}));
    REQUIRE(provider->pre_final_commit_snapshots(set));
    REQUIRE(provider->post_final_commit_snapshots(set));
    REQUIRE(provider->confirm_set(set));
    return id;
  }
  DiffAreaManagement& management() { return *provider->management(); }
  Status revert(const SnapshotId& copy, bool force = false) {
    return management().revert_to_snapshot(copy, force, monitor);
  }
  Error refused(const SnapshotId& copy) {
    const auto status = revert(copy);
    REQUIRE_FALSE(status);
    CHECK(monitor.facts.empty());
    CHECK_FALSE(disk.revert.under_way);
    return status.error();
  }
  cow::RevertStatus going_on(std::uint64_t done) {
    cow::RevertStatus status = disk.revert;
    status.bytes_done = done;
    return status;
  }

  Events events;
  FakeFreezer freezer{events};
  FakeSurfaces surfaces{events};
  FakeDisk disk{"db", &events};
  SystemProviderOptions options;
  std::unique_ptr<SystemProvider> provider;
  VolumeRef volume;
  Meanwhile monitor;
  std::vector<std::string> users;
  std::vector<std::string> told;
  Error claim_error{Errc::ok, {}};
  std::vector<std::pair<VolumeId, SnapshotId>> resumed;
};

TEST_CASE("a revert claims the volume, begins, and is waited for",
          "[contract]"
          "[vss:IVssBackupComponents.RevertToSnapshot]"
          "[vss:IVssBackupComponents.QueryRevertStatus][vss:rule.one-revert-per-volume]"
          "[vss:VSS_E_REVERT_IN_PROGRESS]") {
  World world;
  const auto target = world.take();
  const auto younger = world.take();
  world.events.clear();
  auto& management = world.management();
  CHECK(management.query_revert_status(world.volume).error().code == Errc::object_not_found);
  CHECK(management.query_revert_status({})->empty());

  world.monitor.then = [&] {
    if (world.monitor.seen.size() == 1) {
      const auto reverts = management.query_revert_status(world.volume);
      REQUIRE(reverts);
      REQUIRE(reverts->size() == 1);
      CHECK(reverts->front().snapshot_id == target);
      CHECK(reverts->front().volume_name == "db");
      CHECK(reverts->front().total_bytes == 100);
      CHECK(world.provider->list_volumes()->front().state == "being reverted");
      // Meanwhile: no second one, no copy, no end of it, and the volume stays.
      CHECK(world.management().revert_to_snapshot(target, true, world.monitor).error().code ==
            Errc::revert_in_progress);
      CHECK(world.provider
                ->begin_prepare_snapshot({SnapshotSetId::random(),
                                          SnapshotId::random(),
                                          world.volume,
                                          context::kAppRollback,
                                          {}})
                .error()
                .code == Errc::revert_in_progress);
      CHECK(world.provider->remove_volume(world.disk.id, true).error().code ==
            Errc::revert_in_progress);
      CHECK(management.abandon_revert(world.volume).error().code == Errc::bad_state);
      world.disk.set_revert(world.going_on(60));
    } else {
      world.disk.set_revert({});
    }
  };
  REQUIRE(world.revert(target));
  CHECK(world.monitor.seen ==
        std::vector<std::pair<std::uint64_t, std::uint64_t>>{{0, 100}, {60, 100}});
  REQUIRE(world.monitor.facts.size() == 1);
  CHECK(world.monitor.facts[0].name == "started");
  CHECK(world.monitor.told_instead.find("umbra query revert") != std::string::npos);
  CHECK_FALSE(world.surfaces.has(younger));
  CHECK(world.surfaces.has(target));
  // Nobody could mount it in between, and nobody keeps it.
  const auto all = world.events.all();
  const auto at = [&](const std::string& what) {
    return std::find(all.begin(), all.end(), what) - all.begin();
  };
  CHECK(world.told == std::vector<std::string>{"revert_begun", "revert_finished"});
  CHECK(at("claim") < at("db.begin_revert"));
  CHECK(at("db.begin_revert") < at("let go"));
  CHECK(at("let go") < static_cast<std::ptrdiff_t>(all.size()));
  CHECK(management.query_revert_status(world.volume).error().code == Errc::object_not_found);
}

TEST_CASE("a revert is refused while anything would be lost by surprise",
          "[contract]"
          "[vss:IVssBackupComponents.RevertToSnapshot][vss:VSS_E_VOLUME_IN_USE]"
          "[vss:VSS_E_UNSUPPORTED_CONTEXT]") {
  World world;
  const auto released = world.take(context::kBackup);
  const auto target = world.take();
  CHECK(world.refused(SnapshotId::random()).code == Errc::object_not_found);
  CHECK(world.refused(released).code == Errc::unsupported_context);
  world.users = {"mounted at /srv"};
  const auto used = world.refused(target);
  CHECK(used.code == Errc::volume_in_use);
  CHECK(used.context.find("mounted at /srv") != std::string::npos);
  CHECK(used.context.find("--force") != std::string::npos);
  world.users.clear();
  world.claim_error = {Errc::volume_in_use, "/dev/loop3 is in use"};
  CHECK(world.refused(target).code == Errc::volume_in_use);
  world.claim_error.code = Errc::ok;
  world.disk.protection.offline = true;
  CHECK(world.refused(target).code == Errc::bad_state);
  world.disk.protection.offline = false;
  const auto set = SnapshotSetId::random();
  REQUIRE(world.provider->begin_prepare_snapshot(
      {set, SnapshotId::random(), world.volume, context::kAppRollback, SessionId::random()}));
  CHECK(world.refused(target).code == Errc::snapshot_set_in_progress);
  world.provider->abort_snapshots(set);
  FakeDisk upper{"upper"};
  VolumeDescription description;
  description.name = "upper";
  description.host_devices = {7, kDevice};
  REQUIRE(world.provider->add_volume(upper.open(), std::move(description)));
  CHECK(world.refused(target).code == Errc::volume_in_use);
  CHECK_FALSE(world.events.contains("db.begin_revert"));
}

TEST_CASE("a revert that was cancelled before it began does not begin", "[contract]") {
  World world;
  const auto target = world.take();
  const auto younger = world.take();
  world.monitor.cancelled = true;
  CHECK(world.refused(target).code == Errc::async_cancelled);
  CHECK(world.surfaces.has(younger));
  CHECK_FALSE(world.events.contains("db.begin_revert"));
}

TEST_CASE("a younger copy that is locked or in use keeps a volume from being reverted",
          "[contract]") {
  World world;
  world.options.retention.longest_seconds = 3600;
  world.start();
  const auto target = world.take();
  const auto first = world.take();
  const auto second = world.take();
  const auto second_in_use = GENERATE(true, false);
  if (second_in_use) {
    world.surfaces.set_mounted(second, true);
    CHECK(world.refused(target).code == Errc::volume_in_use);
    CHECK(world.surfaces.has(first));  // It was withdrawn before the other, and is back.
    world.monitor.then = [&] { world.disk.set_revert({}); };
    REQUIRE(world.revert(target, true));
    CHECK_FALSE(world.surfaces.has(second));
    CHECK(world.events.contains("dismount"));
    return;
  }
  constexpr std::int64_t kIn2100 = 157'469'184'000'000'000;
  REQUIRE(world.management().retain_snapshot(second, kIn2100));
  const auto locked = world.refused(target);
  CHECK(locked.code == Errc::access_denied);
  CHECK(locked.context.find(second.to_string()) != std::string::npos);
  CHECK(locked.context.find("under retention lock") != std::string::npos);
  // One that has ended, or that is not younger, is no obstacle.
  world.monitor.then = [&] { world.disk.set_revert({}); };
  REQUIRE(world.revert(second));
}

TEST_CASE("a revert that cannot begin leaves the younger copies to their readers", "[contract]") {
  World world;
  const auto target = world.take();
  const auto younger = world.take();
  world.disk.fail_next("begin_revert");
  CHECK(world.refused(target).code == Errc::io_error);
  CHECK(world.surfaces.has(younger));
  CHECK(world.events.contains("let go"));
}

TEST_CASE("a revert that has stopped is told, and can be given up or attached anew", "[contract]") {
  World world;
  const auto target = world.take();
  world.monitor.then = [&] {
    auto status = world.going_on(7);
    status.stopped = true;
    status.trouble = "the origin fails";
    world.disk.set_revert(status);
  };
  const auto ended = world.revert(target);
  REQUIRE_FALSE(ended);
  CHECK(ended.error().code == Errc::io_error);
  CHECK(ended.error().context.find("the origin fails") != std::string::npos);
  CHECK(world.told == std::vector<std::string>{"revert_begun", "revert_stopped"});
  const auto reverts = world.management().query_revert_status(world.volume);
  REQUIRE(reverts);
  CHECK(reverts->front().stopped);
  CHECK(world.provider->list_volumes()->front().state ==
        "its revert has stopped: the origin fails");
  if (GENERATE(true, false)) {
    REQUIRE(world.management().abandon_revert(world.volume));
    CHECK_FALSE(world.disk.revert.under_way);
    CHECK(world.management().abandon_revert(world.volume).error().code == Errc::object_not_found);
  } else {
    REQUIRE(world.provider->remove_volume(world.disk.id, false));
  }
}

TEST_CASE("a volume that goes while it is reverted is lost to who waits, and comes back reverting",
          "[contract][vss:VSS_E_REVERT_VOLUME_LOST]") {
  World world;
  const auto target = world.take();
  world.monitor.then = [&] {
    auto status = world.going_on(7);
    status.stopped = true;  // Else the volume would have been kept from going.
    world.disk.set_revert(status);
    REQUIRE(world.provider->remove_volume(world.disk.id, false));
  };
  const auto ended = world.revert(target);
  REQUIRE_FALSE(ended);
  INFO(ended.error().context);
  CHECK(ended.error().code == Errc::revert_volume_lost);
  CHECK(world.told == std::vector<std::string>{"revert_begun"});
  world.start();
  REQUIRE(world.resumed.size() == 1);
  CHECK(world.resumed[0].second == target);
}

TEST_CASE("a revert that a restart interrupted is waited for again", "[contract]") {
  World world;
  const auto target = world.take();
  world.monitor.then = [&] { world.provider->stop_waiting(); };
  const auto stopped = world.revert(target);
  REQUIRE_FALSE(stopped);
  CHECK(stopped.error().code == Errc::async_cancelled);
  CHECK(world.resumed.empty());
  world.start();
  REQUIRE(world.resumed.size() == 1);
  CHECK(world.resumed[0].first == world.disk.id);
  CHECK(world.resumed[0].second == target);
  world.monitor.then = [&] { world.disk.set_revert({}); };
  CHECK(world.provider->wait_for_revert(world.disk.id, world.monitor));
  CHECK(world.provider->wait_for_revert(VolumeId::random(), world.monitor).error().code ==
        Errc::object_not_found);
}

TEST_CASE("checkpoints are made, listed and deleted, and outlive their copy", "[contract]") {
  World world;
  const auto copy = world.take();
  auto& management = world.management();
  CHECK(management.create_checkpoint(SnapshotId::random(), "n").error().code ==
        Errc::object_not_found);
  const auto made = management.create_checkpoint(copy, "nightly");
  REQUIRE(made);
  CHECK(made->name == "nightly");
  CHECK(made->volume_name == "db");
  CHECK(made->snapshot_id == copy);
  CHECK_FALSE(made->lost);
  CHECK(world.provider->delete_snapshots(copy, ObjectType::snapshot, false).deleted == 1);
  REQUIRE(management.query_checkpoints(world.volume)->size() == 1);
  CHECK(management.query_checkpoints({})->front().checkpoint_id == made->checkpoint_id);
  CHECK(management.delete_checkpoint(CheckpointId::random()).error().code ==
        Errc::object_not_found);
  REQUIRE(management.delete_checkpoint(made->checkpoint_id));
  CHECK(management.query_checkpoints(world.volume)->empty());
}

TEST_CASE("changes since a checkpoint are told up to a copy or to now, or are not known",
          "[contract]") {
  World world;
  const auto copy = world.take();
  auto& management = world.management();
  const auto made = management.create_checkpoint(copy, "nightly");
  REQUIRE(made);
  world.disk.changed = {{cow::kChunkBytesDefault, cow::kChunkBytesDefault}};
  const auto to_now = management.query_changes(made->checkpoint_id, {}, 0);
  REQUIRE(to_now);
  REQUIRE(to_now->runs.size() == 1);
  CHECK(to_now->runs[0].first_block == 1);
  CHECK(world.disk.changes_from == made->checkpoint_id);
  CHECK_FALSE(world.disk.changes_to);
  const auto later = world.take();
  REQUIRE(management.query_changes(copy, later, 0));
  CHECK(world.disk.changes_from == copy);
  CHECK(world.disk.changes_to == later);
  CHECK(management.query_changes(Guid::random(), {}, 0).error().code == Errc::object_not_found);
  CHECK(management.query_changes(copy, SnapshotId::random(), 0).error().code ==
        Errc::object_not_found);
  world.disk.checkpoints.front().everything = true;
  const auto unknown = management.query_changes(made->checkpoint_id, {}, 0);
  REQUIRE_FALSE(unknown);
  CHECK(unknown.error().code == Errc::changes_unknown);
  CHECK(unknown.error().context.find("'nightly'") != std::string::npos);
}

}  // namespace
