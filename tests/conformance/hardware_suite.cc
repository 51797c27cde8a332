// SPDX-License-Identifier: Apache-2.0

#include "tests/conformance/hardware_suite.h"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "tests/support/catch.h"

namespace umbra::test {
namespace {

constexpr std::size_t kBlock = 512;
constexpr std::uint32_t kTransported = context::kAppRollback | attribute::kTransportable |
                                       attribute::kNotSurfaced | attribute::kHardwareAssisted;

std::string block_of(char fill) { return std::string(kBlock, fill); }

template <class T>
Errc code_of(const T& result) {
  return result ? Errc::ok : result.error().code;
}

struct Unwatched final : OperationMonitor {
  bool progress(std::uint64_t, std::uint64_t) override { return true; }
  void say(std::string) override {}
  void fact(std::string, std::string) override {}
};

HardwareProvider& hardware_of(Provider& provider) {
  auto* hardware = provider.hardware();
  REQUIRE(hardware != nullptr);
  return *hardware;
}

// A set of one volume, up to the end, and what its copy is found by.
struct Made {
  SnapshotSetId set = SnapshotSetId::random();
  SessionId session = SessionId::random();
  TransportedSnapshot copy;
};

Made make(Provider& provider, const VolumeRef& volume, std::uint32_t attributes = kTransported) {
  Made made;
  const auto id = SnapshotId::random();
  const auto found = provider.find_volume(volume);
  REQUIRE(found);
  REQUIRE(provider.begin_prepare_snapshot({made.set, id, volume, attributes, made.session}));
  REQUIRE(provider.end_prepare_snapshots(made.set));
  REQUIRE(provider.pre_commit_snapshots(made.set));
  REQUIRE(provider.flush_commit_release(made.set, {}));
  REQUIRE(provider.post_commit_snapshots(made.set, {id}));
  REQUIRE(provider.pre_final_commit_snapshots(made.set));
  REQUIRE(provider.post_final_commit_snapshots(made.set));
  const auto luns = hardware_of(provider).get_target_luns(made.set);
  REQUIRE(luns);
  REQUIRE(luns->size() == 1);
  CHECK(luns->front().snapshot_id == id);
  REQUIRE(provider.confirm_set(made.set));
  made.copy.snapshot_id = id;
  made.copy.set_id = made.set;
  made.copy.provider_id = provider.properties().provider_id;
  made.copy.volume_id = found->volume_id;
  made.copy.volume_name = found->name;
  made.copy.snapshots_count = 1;
  made.copy.attributes = attributes;
  made.copy.luns = luns->front().luns;
  return made;
}

std::vector<LunInformation> targets(const TransportedSnapshot& copy) {
  std::vector<LunInformation> luns;
  for (const auto& lun : copy.luns) luns.push_back(lun.target);
  return luns;
}

bool sees(Provider& provider, const LunInformation& lun) {
  const auto seen = hardware_of(provider).fill_in_lun_info();
  REQUIRE(seen);
  return std::any_of(seen->begin(), seen->end(), [&](const LunInformation& one) {
    return is_same_description(one, lun) && !one.device_path.empty();
  });
}

ImportedSet import_of(const Made& made, const SessionId& session) {
  return {made.set, session, {made.copy}};
}

std::size_t copies(Provider& provider) {
  const auto list = provider.query_snapshots(false);
  REQUIRE(list);
  return list->size();
}

// vss: IVssHardwareSnapshotProvider.AreLunsSupported
// vss: IVssHardwareSnapshotProvider.BeginPrepareSnapshot
// vss: IVssHardwareSnapshotProvider.FillInLunInfo
void volumes_name_their_luns(HardwareWorld& world) {
  const auto volume = world.add_volume("a");
  auto& hardware = hardware_of(world.provider());
  CHECK(world.provider().properties().type == ProviderType::hardware);
  const auto support = hardware.are_luns_supported(volume, kTransported);
  REQUIRE(support);
  CHECK(support->supported);
  REQUIRE_FALSE(support->luns.empty());
  for (const auto& lun : support->luns) {
    CHECK(has_unique_identifier(lun));
    CHECK(sees(world.provider(), lun));
    CHECK_FALSE(sees(world.other(), lun));
    const auto on_it = hardware.query_volumes_on_luns({lun});
    REQUIRE(on_it);
    CHECK(*on_it == std::vector{world.provider().find_volume(volume)->volume_id});
  }
  const auto never = hardware.are_luns_supported(volume, attribute::kFileShare);
  REQUIRE(never);
  CHECK_FALSE(never->supported);
  VolumeRef absent;
  absent.id = VolumeId::random();
  CHECK(code_of(hardware.are_luns_supported(absent, kTransported)) == Errc::object_not_found);
  CHECK(code_of(hardware.get_target_luns(SnapshotSetId::random())) == Errc::object_not_found);
}

// vss: IVssHardwareSnapshotProvider.GetTargetLuns IVssHardwareSnapshotProvider.LocateLuns
// vss: IVssHardwareSnapshotProvider.FillInLunInfo VSS_VOLSNAP_ATTR.IMPORTED
// vss: VSS_VOLSNAP_ATTR.TRANSPORTABLE
void copies_are_transported(HardwareWorld& world) {
  const auto volume = world.add_volume("a");
  world.write(volume, 0, block_of('1'));
  const auto support = hardware_of(world.provider()).are_luns_supported(volume, kTransported);
  const auto made = make(world.provider(), volume);
  world.write(volume, 0, block_of('2'));
  REQUIRE(made.copy.luns.size() == support->luns.size());
  for (std::size_t i = 0; i < support->luns.size(); ++i) {
    CHECK(is_same_lun(made.copy.luns[i].source, support->luns[i]));
    CHECK(has_unique_identifier(made.copy.luns[i].target));
    CHECK_FALSE(is_same_lun(made.copy.luns[i].target, support->luns[i]));
    CHECK_FALSE(sees(world.provider(), made.copy.luns[i].target));  // Not surfaced here.
    CHECK_FALSE(sees(world.other(), made.copy.luns[i].target));
  }
  auto& there = hardware_of(world.other());
  const auto session = SessionId::random();
  CHECK(code_of(there.import_snapshots(import_of(made, session))) == Errc::object_not_found);
  REQUIRE(there.locate_luns(targets(made.copy)));
  for (const auto& lun : made.copy.luns) CHECK(sees(world.other(), lun.target));
  REQUIRE(there.import_snapshots(import_of(made, session)));
  const auto list = world.other().query_snapshots(false);
  REQUIRE(list);
  REQUIRE(list->size() == 1);
  const auto& one = list->front();
  CHECK(one.snapshot_id == made.copy.snapshot_id);
  CHECK(one.set_id == made.set);
  CHECK(one.original_volume == "a");
  CHECK(one.snapshots_count == 1);
  CHECK((one.attributes & attribute::kImported) != 0);
  CHECK((one.attributes & attribute::kNotSurfaced) == 0);
  CHECK_FALSE(one.device_object.empty());
  CHECK(world.read_other(made.copy.snapshot_id, 0, kBlock) == block_of('1'));
  CHECK(code_of(there.import_snapshots(import_of(made, session))) == Errc::object_already_exists);
  CHECK(copies(world.other()) == 1);
}

void imports_are_whole(HardwareWorld& world) {
  const auto a = make(world.provider(), world.add_volume("a"));
  auto both = make(world.provider(), world.add_volume("b"));
  auto& there = hardware_of(world.other());
  REQUIRE(there.locate_luns(targets(a.copy)));
  ImportedSet request{both.set, SessionId::random(), {a.copy, both.copy}};
  CHECK(code_of(there.import_snapshots(request)) == Errc::object_not_found);
  CHECK(copies(world.other()) == 0);
}

// vss: rule.auto-release-on-disconnect
void imported_copies_go_with_their_session(HardwareWorld& world) {
  auto made = make(world.provider(), world.add_volume("a"),
                   (kTransported & ~context::kMask) | context::kBackup);
  auto& there = hardware_of(world.other());
  REQUIRE(there.locate_luns(targets(made.copy)));
  const auto session = SessionId::random();
  REQUIRE(there.import_snapshots(import_of(made, session)));
  world.other().end_session(SessionId::random());
  CHECK(copies(world.other()) == 1);
  world.other().end_session(session);
  CHECK(copies(world.other()) == 0);
  CHECK(code_of(there.import_snapshots(import_of(made, session))) == Errc::provider_veto);
}

// vss: VSS_BREAKEX_FLAG.MASK_LUNS VSS_ONLUNSTATECHANGE.DO_MASK_LUNS
// vss: VSS_E_BREAK_REVERT_ID_FAILED VSS_BREAKEX_FLAG.REVERT_IDENTITY_ALL
void broken_sets_are_volumes(HardwareWorld& world) {
  const auto volume = world.add_volume("a");
  auto& here = hardware_of(world.provider());
  const auto away = make(world.provider(), volume);
  CHECK(code_of(here.break_snapshot_set(away.set, 0)) == Errc::provider_veto);
  CHECK(code_of(here.break_snapshot_set(SnapshotSetId::random(), 0)) == Errc::object_not_found);

  const auto local =
      make(world.provider(), volume, context::kAppRollback | attribute::kHardwareAssisted);
  const auto volumes = world.provider().list_volumes()->size();
  // The original is visible here: identities cannot be given back, and nothing has happened.
  CHECK(code_of(here.break_snapshot_set(local.set, break_flag::kRevertIdentityAll)) ==
        Errc::break_revert_id_failed);
  CHECK(copies(world.provider()) == 2);
  REQUIRE(here.break_snapshot_set(local.set, break_flag::kRevertIdentityNone));
  CHECK(copies(world.provider()) == 1);
  CHECK(world.provider().list_volumes()->size() == volumes + 1);
  CHECK(code_of(here.break_snapshot_set(local.set, 0)) == Errc::object_not_found);

  auto& there = hardware_of(world.other());
  REQUIRE(there.locate_luns(targets(away.copy)));
  REQUIRE(there.import_snapshots(import_of(away, SessionId::random())));
  REQUIRE(there.break_snapshot_set(away.set, break_flag::kMaskLuns | lun_state::kDoMaskLuns));
  CHECK(copies(world.other()) == 0);
  CHECK_FALSE(sees(world.other(), away.copy.luns[0].target));
  CHECK(world.other().list_volumes()->empty());
}

// vss: IVssHardwareSnapshotProviderEx.ResyncLuns IVssHardwareSnapshotProviderEx.OnLunStateChange
void luns_are_written_back(HardwareWorld& world) {
  const auto volume = world.add_volume("a");
  world.write(volume, 0, block_of('1'));
  const auto made = make(world.provider(), volume);
  world.write(volume, 0, block_of('2'));
  auto& hardware = hardware_of(world.provider());
  std::vector<LunMapping> back;
  std::vector<LunInformation> over;
  for (const auto& lun : made.copy.luns) {
    back.push_back({lun.target, lun.source, {}});
    over.push_back(lun.source);
  }
  REQUIRE(hardware.on_lun_state_change(over, lun_state::kNotifyLunPreRecovery));
  Unwatched monitor;
  REQUIRE(hardware.resync_luns(back, 0, monitor));
  REQUIRE(hardware.on_lun_state_change(over, lun_state::kNotifyLunPostRecovery));
  REQUIRE(hardware.on_lun_state_change(over, lun_state::kNotifyLunPostRecovery));
  CHECK(world.read_volume(volume, 0, kBlock) == block_of('1'));
  CHECK(copies(world.provider()) == 1);  // It can be used again.
}

// vss: IVssHardwareSnapshotProvider.OnLunEmpty
void deleted_copies_free_their_lun(HardwareWorld& world) {
  const auto made = make(world.provider(), world.add_volume("a"));
  const auto deleted = world.provider().delete_snapshots(made.set, ObjectType::snapshot_set, false);
  REQUIRE(deleted.status);
  REQUIRE(hardware_of(world.other()).locate_luns(targets(made.copy)));
  CHECK_FALSE(sees(world.other(), made.copy.luns[0].target));
}

constexpr std::array kFacts{
    HardwareFact{"a volume's LUNs are named, and can be told from others", volumes_name_their_luns},
    HardwareFact{"a copy is found and imported on another machine", copies_are_transported},
    HardwareFact{"an import takes in all or nothing", imports_are_whole},
    HardwareFact{"imported copies go with the session that imported them",
                 imported_copies_go_with_their_session},
    HardwareFact{"a broken set is volumes, for good", broken_sets_are_volumes},
    HardwareFact{"a LUN is written back from its copy", luns_are_written_back},
    HardwareFact{"a deleted copy gives its LUN back", deleted_copies_free_their_lun},
};

}  // namespace

std::span<const HardwareFact> hardware_facts() { return kFacts; }

}  // namespace umbra::test
