// SPDX-License-Identifier: Apache-2.0
//
// Management of diff areas over doubles: VSS's rules of associations and maxima.
#include <algorithm>

#include "provider/contract/system_provider.h"
#include "tests/support/catch.h"
#include "tests/support/contract_doubles.h"
#include "tests/support/fake_volume.h"
#include "umbra/caller.h"
#include "umbra/diff_area_management.h"

namespace {

using namespace umbra;
using namespace umbra::contract;
using namespace umbra::test;

constexpr std::uint64_t kDevice = 0x701;
constexpr std::int64_t kMiB = 1 << 20;

// "/var..." lies on /var, "/own..." on the volume itself, everything else on /.
class FakeDiffVolumes final : public DiffVolumes {
 public:
  Result<DiffVolume> of(const std::string& path) const override {
    if (path.empty() || path.front() != '/') return fail(Errc::invalid_argument, "a path");
    for (const auto& volume : places_) {
      const auto& mount = volume.properties.diff_volume;
      if (mount != "/" && path.rfind(mount, 0) == 0) return volume;
    }
    return places_.front();
  }
  Result<std::vector<DiffVolume>> all() const override { return places_; }

 private:
  std::vector<DiffVolume> places_{{{"/", "/ (ext4)", 10, 100}, {0x800}},
                                  {{"/var", "/var (xfs)", 50, 200}, {0x801}},
                                  {{"/own", "/own (ext4)", 90, 100}, {kDevice}}};
};

class NotingMonitor final : public OperationMonitor {
 public:
  bool progress(std::uint64_t, std::uint64_t) override { return true; }
  void say(std::string) override {}
  void fact(std::string name, std::string value) override {
    facts.push_back({std::move(name), std::move(value)});
  }
  std::vector<OperationFact> facts;
};

class FakeDiffAreas final : public DiffAreas {
 public:
  Result<Moved> move(const VolumeId& volume, const std::string& to, std::uint64_t bytes_per_second,
                     const Progress& progress) override {
    moved = volume;
    rate = bytes_per_second;
    if (!progress(1, 2)) return fail(Errc::async_cancelled, "as asked");
    if (to == "/full") return fail(Errc::insufficient_storage, "too small");
    return Moved{to, {0x801}, 2, 7, "/var/db.diff: busy"};
  }
  std::vector<Unused> unused() const override { return gone; }
  Status discard_unused(const VolumeId& volume, const std::string& who) override {
    asked.push_back(who);
    for (auto it = gone.begin(); it != gone.end(); ++it) {
      if (it->volume != volume) continue;
      if (it->name == "locked") return fail(Errc::access_denied, "locked until then");
      gone.erase(it);
      return {};
    }
    return fail(Errc::object_not_found, "it has not gone");
  }
  VolumeId moved;
  std::uint64_t rate = 0;
  std::vector<Unused> gone;
  std::vector<std::string> asked;
};

struct World {
  explicit World(std::uint32_t client_accessible_max = kClientAccessibleMaxDefault,
                 std::int64_t longest_retention_seconds = 0) {
    options.retention.longest_seconds = longest_retention_seconds;
    options.live_users = [this](const VolumeId&) { return users; };
    options.machine_name = "host";
    options.diff_volumes = &places;
    options.diff_areas = &movers;
    options.diff_bytes_min = 1 << 20;
    options.client_accessible_max = client_accessible_max;
    options.on_event = [this](ProviderEvent event) { told.push_back(std::move(event)); };
    provider =
        std::make_unique<SystemProvider>(freezer, surfaces, null_log(), system_clock(), options);
    VolumeDescription description;
    description.name = "db";
    description.diff_area_path = "/var/db.diff";
    description.device = kDevice;
    REQUIRE(provider->add_volume(disk.open(), std::move(description)));
    volume.id = disk.id;
  }
  Result<SnapshotId> try_to_take(std::uint32_t attributes = context::kAppRollback) {
    const auto set = SnapshotSetId::random();
    const auto id = SnapshotId::random();
    auto status =
        provider->begin_prepare_snapshot({set, id, volume, attributes, SessionId::random()});
    if (status) status = provider->end_prepare_snapshots(set);
    if (status) status = provider->pre_commit_snapshots(set);
    if (status) status = provider->flush_commit_release(set, {}).map([](const HoldReport&) {});
    if (status) status = provider->post_commit_snapshots(set, {id});
    if (status) status = provider->pre_final_commit_snapshots(set);
    if (status) status = provider->post_final_commit_snapshots(set);
    if (status) status = provider->confirm_set(set);
    if (!status) return fail(status.error());
    return id;
  }
  SnapshotId take(std::uint32_t attributes = context::kAppRollback) {
    const auto id = try_to_take(attributes);
    INFO((id ? std::string() : id.error().to_string()));
    REQUIRE(id);
    return *id;
  }
  DiffAreaManagement& management() { return *provider->management(); }
  Status change(std::int64_t maximum, bool is_volatile = false) {
    return management().change_diff_area_maximum_size({volume, ""}, maximum, is_volatile, monitor);
  }
  DiffAreaProperties area() {
    const auto areas = management().query_diff_areas_for_volume(volume);
    REQUIRE(areas);
    REQUIRE(areas->size() == 1);
    return areas->front();
  }
  std::vector<SnapshotId> copies() {
    const auto list = management().query_snapshots_by_volume(volume);
    REQUIRE(list);
    std::vector<SnapshotId> ids;
    for (const auto& snapshot : *list) ids.push_back(snapshot.snapshot_id);
    return ids;
  }

  Events events;
  FakeFreezer freezer{events};
  FakeSurfaces surfaces{events};
  FakeDisk disk{"db", &events};
  FakeDiffVolumes places;
  FakeDiffAreas movers;
  SystemProviderOptions options;
  std::unique_ptr<SystemProvider> provider;
  VolumeRef volume;
  NotingMonitor monitor;
  std::vector<std::string> users;
  std::vector<ProviderEvent> told;
};

TEST_CASE("a diff area is described by volume, by place and by copy",
          "[contract]"
          "[vss:IVssDifferentialSoftwareSnapshotMgmt.QueryDiffAreasForVolume]"
          "[vss:IVssDifferentialSoftwareSnapshotMgmt.QueryDiffAreasOnVolume]"
          "[vss:IVssDifferentialSoftwareSnapshotMgmt.QueryDiffAreasForSnapshot]"
          "[vss:VSS_MGMT_OBJECT.DIFF_AREA]") {
  World world;
  const auto copy = world.take();
  const auto area = world.area();
  CHECK(area.volume_name == "db");
  CHECK(area.diff_volume == "/var");
  CHECK(area.maximum_bytes == kAssocNoMaxSpace);
  CHECK(area.used_bytes == world.disk.copy_bytes);
  CHECK(area.snapshots == 1);
  CHECK_FALSE(area.explicit_association);
  auto& management = world.management();
  CHECK(management.query_diff_areas_on_volume("/var/lib")->size() == 1);
  CHECK(management.query_diff_areas_on_volume("/home")->empty());
  CHECK(management.query_diff_areas_for_snapshot(copy)->size() == 1);
  CHECK(management.query_diff_areas_for_snapshot(SnapshotId::random()).error().code ==
        Errc::object_not_found);
  CHECK(management.query_diff_areas_for_volume({})->size() == 1);
  VolumeRef other;
  other.name = "other";
  CHECK(management.query_diff_areas_for_volume(other).error().code == Errc::object_not_found);
}

TEST_CASE("what a diff area may lie on: roomiest first, never the volume itself",
          "[contract]"
          "[vss:IVssDifferentialSoftwareSnapshotMgmt.QueryVolumesSupportedForDiffAreas]"
          "[vss:VSS_MGMT_OBJECT.DIFF_VOLUME]") {
  World world;
  const auto places = world.management().query_volumes_supported_for_diff_areas(world.volume);
  REQUIRE(places);
  REQUIRE(places->size() == 2);
  CHECK(places->at(0).diff_volume == "/var");
  CHECK(places->at(1).diff_volume == "/");
}

TEST_CASE("volumes that can be copied depend on the context",
          "[contract]"
          "[vss:IVssSnapshotMgmt.QueryVolumesSupportedForSnapshots][vss:VSS_MGMT_OBJECT.VOLUME]") {
  World world;
  auto& management = world.management();
  CHECK(management.query_volumes_supported_for_snapshots(context::kAppRollback)->size() == 1);
  CHECK(
      management
          .query_volumes_supported_for_snapshots(context::kAppRollback | attribute::kTransportable)
          ->empty());
}

TEST_CASE("an association is added once, to a volume without copies",
          "[contract]"
          "[vss:IVssDifferentialSoftwareSnapshotMgmt.AddDiffArea]") {
  World world;
  auto& management = world.management();
  CHECK(management.add_diff_area({world.volume, "/home"}, 5 * kMiB).error().code ==
        Errc::volume_not_supported);
  CHECK(management.add_diff_area({world.volume, ""}, kMiB - 1).error().code ==
        Errc::invalid_argument);
  CHECK(management.add_diff_area({world.volume, ""}, kAssocRemove).error().code ==
        Errc::invalid_argument);
  CHECK(management.add_diff_area({world.volume, ""}, -2).error().code == Errc::invalid_argument);
  REQUIRE(management.add_diff_area({world.volume, "/var/lib"}, 5 * kMiB));
  CHECK(world.area().maximum_bytes == 5 * kMiB);
  CHECK(world.area().explicit_association);
  CHECK(management.add_diff_area({world.volume, ""}, 5 * kMiB).error().code ==
        Errc::object_already_exists);
}

TEST_CASE("an association cannot be added to a volume with copies", "[contract]") {
  World world;
  (void)world.take();
  CHECK(world.management().add_diff_area({world.volume, ""}, 5 * kMiB).error().code ==
        Errc::object_already_exists);
}

TEST_CASE("a lowered maximum deletes the oldest first, and tells",
          "[contract]"
          "[vss:IVssDifferentialSoftwareSnapshotMgmt.ChangeDiffAreaMaximumSize]") {
  World world;
  std::vector<SnapshotId> ids;
  for (int i = 0; i < 4; ++i) ids.push_back(world.take());
  REQUIRE(world.change(2 * kMiB));
  CHECK(world.copies() == std::vector<SnapshotId>{ids[2], ids[3]});
  REQUIRE(world.monitor.facts.size() == 2);
  CHECK(world.monitor.facts[0].name == "deleted_snapshot");
  CHECK(world.monitor.facts[0].value == ids[0].to_string());
  REQUIRE(world.told.size() == 1);  // The store tells what it deletes.
  CHECK(world.told[0].name == "diff_area_maximum_changed");
  CHECK(world.told[0].volume == "db");
  CHECK(world.told[0].limit_bytes == 2 * kMiB);
  CHECK(world.area().explicit_association);
  // Nobody is given what is gone.
  CHECK(world.provider->query_snapshots(false)->size() == 2);
}

TEST_CASE("an association is removed only without copies, and never for a time",
          "[contract]"
          "[vss:IVssDifferentialSoftwareSnapshotMgmt.ChangeDiffAreaMaximumSize]"
          "[vss:IVssDifferentialSoftwareSnapshotMgmt2.ChangeDiffAreaMaximumSizeEx]"
          "[vss:VSS_E_VOLUME_IN_USE]") {
  World world;
  const auto copy = world.take();
  REQUIRE(world.change(7 * kMiB));
  CHECK(world.change(kAssocRemove).error().code == Errc::volume_in_use);
  CHECK(world.provider->delete_snapshots(copy, ObjectType::snapshot, false).status);
  CHECK(world.change(kAssocRemove, true).error().code == Errc::invalid_argument);
  REQUIRE(world.change(kAssocRemove));
  CHECK(world.area().maximum_bytes == kAssocNoMaxSpace);
  CHECK_FALSE(world.area().explicit_association);
  REQUIRE(world.management().add_diff_area({world.volume, ""}, 5 * kMiB));
}

TEST_CASE("maxima have a least, and may be volatile",
          "[contract]"
          "[vss:IVssSnapshotMgmt2.GetMinDiffAreaSize]"
          "[vss:IVssDifferentialSoftwareSnapshotMgmt2.ChangeDiffAreaMaximumSizeEx]"
          "[vss:limit.diff-area-minimum][vss:config.MinDiffAreaFileSize]") {
  World world;
  CHECK(*world.management().get_min_diff_area_size() == 1U << 20U);
  CHECK(world.change(kMiB - 4096).error().code == Errc::invalid_argument);
  REQUIRE(world.change(3 * kMiB, true));
  CHECK(world.area().volatile_maximum);
  CHECK_FALSE(world.area().explicit_association);
  REQUIRE(world.change(kAssocNoMaxSpace));
  CHECK_FALSE(world.area().volatile_maximum);
}

TEST_CASE("copies are protected once the association is explicit",
          "[contract]"
          "[vss:IVssDifferentialSoftwareSnapshotMgmt3.SetVolumeProtectLevel]"
          "[vss:IVssDifferentialSoftwareSnapshotMgmt3.GetVolumeProtectLevel]"
          "[vss:VSS_PROTECTION_LEVEL.ORIGINAL_VOLUME][vss:VSS_PROTECTION_LEVEL.SNAPSHOT]"
          "[vss:VSS_PROTECTION_FAULT.NONE]") {
  World world;
  auto& management = world.management();
  CHECK(management.set_volume_protect_level(world.volume, ProtectionLevel::snapshot).error().code ==
        Errc::volume_not_supported);
  REQUIRE(management.set_volume_protect_level(world.volume, ProtectionLevel::original_volume));
  REQUIRE(world.change(7 * kMiB));
  REQUIRE(management.set_volume_protect_level(world.volume, ProtectionLevel::snapshot));
  CHECK(world.disk.protection.level == cow::ProtectionLevel::snapshot);
  const auto info = management.get_volume_protect_level(world.volume);
  REQUIRE(info);
  CHECK(info->level == ProtectionLevel::snapshot);
  CHECK(info->fault == ProtectionFault::none);
  CHECK_FALSE(info->volume_is_offline);
  REQUIRE(management.set_volume_protect_level(world.volume, ProtectionLevel::original_volume));
  CHECK(world.disk.protection.level == cow::ProtectionLevel::original_volume);
}

TEST_CASE("a fault is shown, and cleared only when nobody uses the volume",
          "[contract]"
          "[vss:IVssDifferentialSoftwareSnapshotMgmt3.GetVolumeProtectLevel]"
          "[vss:IVssDifferentialSoftwareSnapshotMgmt3.ClearVolumeProtectFault]"
          "[vss:VSS_PROTECTION_FAULT.DIFF_AREA_FULL]") {
  World world;
  auto& management = world.management();
  REQUIRE(management.clear_volume_protect_fault(world.volume, world.monitor));  // None.
  world.disk.protection = {cow::ProtectionLevel::snapshot, cow::Fault::diff_area_full, 77, true};
  const auto info = management.get_volume_protect_level(world.volume);
  REQUIRE(info);
  CHECK(info->fault == ProtectionFault::diff_area_full);
  CHECK(info->fault_filetime == 77);
  CHECK(info->volume_is_offline);
  CHECK(info->failure == Errc::io_error);
  CHECK(management.set_volume_protect_level(world.volume, ProtectionLevel::original_volume)
            .error()
            .code == Errc::volume_in_use);
  world.users = {"mounted at /srv"};
  const auto refused = management.clear_volume_protect_fault(world.volume, world.monitor);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == Errc::volume_in_use);
  CHECK(refused.error().context.find("mounted at /srv") != std::string::npos);
  CHECK(world.disk.protection.offline);
  world.users.clear();
  REQUIRE(management.clear_volume_protect_fault(world.volume, world.monitor));
  CHECK_FALSE(world.disk.protection.offline);
  CHECK(world.disk.protection.level == cow::ProtectionLevel::snapshot);
}

TEST_CASE("retention locks need a longest term", "[contract]") {
  const auto policy = GENERATE(std::int64_t{0}, std::int64_t{3600});
  World world(kClientAccessibleMaxDefault, policy);
  const auto copy = world.take();
  const auto kept = world.management().retain_snapshot(copy, 1234);
  if (policy == 0) {
    REQUIRE_FALSE(kept);
    CHECK(kept.error().code == Errc::access_denied);
    CHECK(world.disk.longest_retention_seconds == 0);
  } else {
    REQUIRE(kept);
    CHECK(world.disk.longest_retention_seconds == 3600);
    CHECK(world.management().retain_snapshot(SnapshotId::random(), 1234).error().code ==
          Errc::object_not_found);
  }
}

TEST_CASE("what a scrub finds is told, and damage is an error", "[contract]") {
  World world;
  auto& management = world.management();
  REQUIRE(management.scrub_diff_area(world.volume, 4096, world.monitor));
  CHECK(world.disk.scrub_rate == 4096);
  CHECK(world.monitor.facts.front().value == "clean");
  world.monitor.facts.clear();
  const SnapshotId hurt = SnapshotId::random();
  world.disk.scrub_report.damaged = 1;
  world.disk.scrub_report.findings = {{cow::Finding::Kind::damage, 512, "a chunk", {hurt}}};
  world.disk.scrub_report.snapshots_damaged = {hurt};
  const auto damaged = management.scrub_diff_area(world.volume, 0, world.monitor);
  REQUIRE_FALSE(damaged);
  CHECK(damaged.error().code == Errc::diff_area_corrupt);
  const auto has = [&](const std::string& name, const std::string& value) {
    return std::any_of(world.monitor.facts.begin(), world.monitor.facts.end(),
                       [&](const auto& fact) { return fact.name == name && fact.value == value; });
  };
  CHECK(has("outcome", "damaged"));
  CHECK(has("damaged_snapshot", hurt.to_string()));
  CHECK(has("finding", "damage at 512: a chunk"));
  VolumeRef other;
  other.name = "no such volume";
  CHECK(management.scrub_diff_area(other, 0, world.monitor).error().code == Errc::object_not_found);
}

TEST_CASE("what differs between two copies comes in parts",
          "[contract]"
          "[vss:IVssDifferentialSoftwareSnapshotMgmt3.QuerySnapshotDeltaBitmap]") {
  World world;
  const auto older = world.take();
  const auto younger = world.take();
  constexpr std::uint64_t kChunk = cow::kChunkBytesDefault;
  auto& management = world.management();
  world.disk.changed = {{kChunk, 2 * kChunk}, {FakeDisk::kBytes - 512, 512}};
  const auto delta = management.query_snapshot_delta_bitmap(older, younger, 0);
  REQUIRE(delta);
  CHECK(delta->block_bytes == kChunk);
  CHECK(delta->volume_blocks == FakeDisk::kBytes / kChunk);
  REQUIRE(delta->runs.size() == 2);
  CHECK(delta->runs[0].first_block == 1);
  CHECK(delta->runs[0].blocks == 2);
  CHECK(delta->runs[1].first_block == 3);
  CHECK(delta->runs[1].blocks == 1);
  CHECK(delta->next_block == delta->volume_blocks);

  world.disk.changed.clear();
  for (std::uint64_t i = 0; i <= kDeltaRunsMax; ++i) {
    world.disk.changed.push_back({2 * i * kChunk, kChunk});
  }
  const auto first = management.query_snapshot_delta_bitmap(older, younger, 0);
  REQUIRE(first);
  CHECK(first->runs.size() == kDeltaRunsMax);
  CHECK(first->next_block == 2 * kDeltaRunsMax);
  CHECK(management.query_snapshot_delta_bitmap(older, younger, delta->volume_blocks + 1)
            .error()
            .code == Errc::invalid_argument);
  CHECK(management.query_snapshot_delta_bitmap(older, SnapshotId::random(), 0).error().code ==
        Errc::object_not_found);
}

TEST_CASE("a change at another place than the area's is refused", "[contract]") {
  World world;
  const auto changed = world.management().change_diff_area_maximum_size(
      {world.volume, "/home"}, 5 * kMiB, false, world.monitor);
  REQUIRE_FALSE(changed);
  CHECK(changed.error().code == Errc::object_not_found);
}

TEST_CASE("a moved diff area is known by its new place",
          "[contract]"
          "[vss:IVssDifferentialSoftwareSnapshotMgmt2.MigrateDiffAreas]") {
  World world;
  DiffAreaManagement& management = world.management();
  CHECK(management.migrate_diff_areas({world.volume, "/home"}, "/x", world.monitor).error().code ==
        Errc::object_not_found);
  CHECK(management.migrate_diff_areas({world.volume, ""}, "/full", world.monitor).error().code ==
        Errc::insufficient_storage);
  CHECK(world.area().diff_area_path == "/var/db.diff");
  world.monitor.facts.clear();
  REQUIRE(management.migrate_diff_areas({world.volume, "/var"}, "/mnt/db.diff", world.monitor));
  CHECK(world.movers.moved == world.disk.id);
  CHECK(world.area().diff_area_path == "/mnt/db.diff");
  CHECK(world.area().diff_volume == "/");
  std::vector<std::string> facts;
  for (const auto& fact : world.monitor.facts) facts.push_back(fact.name + "=" + fact.value);
  CHECK(facts == std::vector<std::string>{"volume_id=" + world.disk.id.to_string(),
                                          "diff_area_path=/mnt/db.diff", "bytes_damaged=7",
                                          "kept=/var/db.diff: busy"});
  REQUIRE(world.told.size() == 1);
  CHECK(world.told[0].name == "diff_area_moved");
  CHECK(world.movers.rate == 0);
  REQUIRE(management.move_diff_area({{world.volume, ""}, "/var/db.diff", 1234}, world.monitor));
  CHECK(world.movers.rate == 1234);
}

TEST_CASE("whoever has copies deleted is named to the store", "[contract]") {
  World world;
  const auto first = world.take();
  (void)world.take();
  (void)world.take();
  {
    const CallerScope caller("uid 7 pid 8 (x)");
    REQUIRE(world.provider->delete_snapshots(first, ObjectType::snapshot, false).status);
    CHECK(world.disk.removed_for.who == "uid 7 pid 8 (x)");
    CHECK(world.disk.removed_for.reason == cow::Removal::requested);
    REQUIRE(world.change(kMiB));
    CHECK(world.disk.removed_for.who == "uid 7 pid 8 (x)");
    CHECK(world.disk.removed_for.reason == cow::Removal::shrunk);
  }
  const auto last = world.copies().front();
  REQUIRE(world.provider->delete_snapshots(last, ObjectType::snapshot, false).status);
  CHECK(world.disk.removed_for.who == "umbra-cowd");
}

TEST_CASE("what VSS reserves is not offered",
          "[contract]"
          "[vss:IVssDifferentialSoftwareSnapshotMgmt2.SetSnapshotPriority][vss:E_NOTIMPL]") {
  World world;
  CHECK(world.management().set_snapshot_priority(SnapshotId::random(), 1).error().code ==
        Errc::not_implemented);
}

TEST_CASE("one client-accessible copy more than may be costs the oldest, mounted ones stay",
          "[contract]"
          "[vss:limit.client-accessible-per-volume-64][vss:VSS_CTX.CLIENT_ACCESSIBLE]"
          "[vss:VSS_VOLSNAP_ATTR.CLIENT_ACCESSIBLE][vss:config.MaxShadowCopies]") {
  World world(2);
  const auto rollback = world.take();
  std::vector<SnapshotId> ids;
  for (int i = 0; i < 3; ++i) ids.push_back(world.take(context::kClientAccessible));
  CHECK(world.copies() == std::vector<SnapshotId>{rollback, ids[1], ids[2]});
}

}  // namespace

TEST_CASE("diff areas whose volume has gone are deleted, but for those with a locked copy",
          "[contract][vss:IVssDifferentialSoftwareSnapshotMgmt3.DeleteUnusedDiffAreas]") {
  World world;
  auto& management = world.management();
  REQUIRE(management.delete_unused_diff_areas("/var", world.monitor));
  CHECK(world.monitor.facts.empty());
  const auto here = VolumeId::random();
  const auto elsewhere = VolumeId::random();
  world.movers.gone = {{VolumeId::random(), "locked", "/var/locked.diff"},
                       {here, "here", "/var/here.diff"},
                       {elsewhere, "elsewhere", "/home/other.diff"}};
  const Status deleted = management.delete_unused_diff_areas("/var/any", world.monitor);
  REQUIRE_FALSE(deleted);
  CHECK(deleted.error().code == Errc::access_denied);
  CHECK(deleted.error().context.find("1 of 2") != std::string::npos);
  CHECK(deleted.error().context.find("locked until then") != std::string::npos);
  REQUIRE(world.monitor.facts.size() == 2);
  CHECK(world.monitor.facts[0].name == "kept_diff_area");
  CHECK(world.monitor.facts[0].value.starts_with("/var/locked.diff: "));
  CHECK(world.monitor.facts[1].name == "deleted_diff_area");
  CHECK(world.monitor.facts[1].value == "/var/here.diff");
  REQUIRE(world.movers.gone.size() == 2);
  CHECK(world.movers.gone[1].volume == elsewhere);
  CHECK(world.movers.asked.size() == 2);
}
