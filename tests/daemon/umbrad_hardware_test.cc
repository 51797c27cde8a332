// SPDX-License-Identifier: Apache-2.0
//
// Copies on LUNs through umbrad and the requester SDK, on two machines at one array: made, carried
// in their document, imported, broken, written back. And shares, whose provider is asked like any.

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/documents/xml.h"
#include "engine/platform/log.h"
#include "engine/rpc/provider_server.h"
#include "tests/support/catch.h"
#include "tests/support/memory_array.h"
#include "tests/support/memory_provider.h"
#include "tests/support/wire_client.h"
#include "umbra/requester/backup_session.h"
#include "umbra/requester/restore_session.h"

namespace {

using namespace umbra;
using namespace umbra::test;
using namespace std::chrono_literals;
using requester::BackupSession;
using requester::RestoreSession;

constexpr std::uint32_t kTransported = context::kNasRollback | attribute::kTransportable;
// What does not arrive is waited for so long.
constexpr const char* kConfig = "[limits]\nlun_arrival = 700\n";

template <class T>
Errc code_of(const T& result) {
  return result ? Errc::ok : result.error().code;
}

VolumeRef named(const std::string& name) {
  VolumeRef ref;
  ref.name = name;
  return ref;
}

// A machine: its umbrad, and a provider registered there.
struct Machine {
  explicit Machine(const std::string& config = kConfig) : umbrad(config) {}
  ~Machine() {
    for (const char* call : {"locate_luns", "resync_luns", "begin_prepare_snapshot"})
      memory.unblock(call);
  }
  void pose(MemoryArray& array, const ProviderId& id = {}) { memory.pose_as_hardware(array, id); }
  void serve(MemoryProvider& provider) {
    rpc::ProviderServerOptions options;
    options.socket_path = umbrad.socket();
    servers.push_back(std::make_unique<rpc::ProviderServer>(
        provider, std::map<std::string, rpc::ProviderMethod>{}, options, null_log()));
    REQUIRE(servers.back()->wait_until_registered(kSoon));
  }
  [[nodiscard]] requester::ConnectOptions connect() const {
    requester::ConnectOptions options;
    options.socket_path = umbrad.socket();
    return options;
  }
  [[nodiscard]] BackupSession begun(std::uint32_t context, const std::string& document = {}) const {
    auto session = BackupSession::connect(connect());
    REQUIRE(session);
    REQUIRE(session->initialize_for_backup(document));
    REQUIRE(session->set_context(context));
    return std::move(*session);
  }
  [[nodiscard]] RestoreSession restoring(const BackupComponentsDocument& document) const {
    auto session = RestoreSession::connect(connect());
    REQUIRE(session);
    REQUIRE(session->initialize_for_restore(document));
    return std::move(*session);
  }
  /// Does `provider` have calls "a" and later "b", each at least once?
  [[nodiscard]] bool saw(const std::vector<std::string>& in_order) const {
    const auto calls = memory.calls();
    auto at = calls.begin();
    for (const auto& call : in_order) {
      at = std::find(at, calls.end(), call);
      if (at == calls.end()) return false;
    }
    return true;
  }

  Umbrad umbrad;
  MemoryProvider memory{system_clock(), "array", ProviderType::hardware};
  MemoryProvider second{system_clock(), "second"};
  std::vector<std::unique_ptr<rpc::ProviderServer>> servers;
};

// Two machines at one array; the volumes are on the first.
struct Site {
  Site() {
    here.pose(array);
    there.pose(array, here.memory.properties().provider_id);
    data = here.memory.add_volume("data");
    more = here.memory.add_volume("more");
    REQUIRE(here.memory.write(data, 0, "before"));
    here.serve(here.memory);
    there.serve(there.memory);
  }
  /// A set of these volumes, and its document.
  BackupComponentsDocument create(const std::vector<std::string>& volumes,
                                  std::uint32_t context = kTransported) {
    auto session = here.begun(context);
    REQUIRE(session.start_snapshot_set());
    for (const auto& volume : volumes) REQUIRE(session.add_to_snapshot_set(named(volume)));
    const auto done = session.do_snapshot_set();
    INFO((done ? std::string() : done.error().to_string()));
    REQUIRE(done);
    document = *session.save_as_xml();
    return *session.backup_components();
  }
  [[nodiscard]] Errc bring_in() const {
    auto session = there.begun(context::kNasRollback, document);
    return code_of(session.import_snapshots());
  }

  MemoryArray array;
  Machine here;
  Machine there;
  VolumeId data;
  VolumeId more;
  std::string document;
};

std::vector<SnapshotProperties> copies(MemoryProvider& provider) {
  return *provider.query_snapshots(false);
}

TEST_CASE("a transportable set is imported on another machine, and broken there",
          "[e2e][umbrad][vss:VSS_VOLSNAP_ATTR.TRANSPORTABLE]"
          "[vss:VSS_VOLSNAP_ATTR.HARDWARE_ASSISTED][vss:VSS_VOLSNAP_ATTR.IMPORTED]"
          "[vss:IVssBackupComponents.ImportSnapshots][vss:IVssBackupComponents.BreakSnapshotSet]"
          "[vss:IVssBackupComponentsEx2.BreakSnapshotSetEx]"
          "[vss:IVssHardwareSnapshotProvider.GetTargetLuns]"
          "[vss:IVssHardwareSnapshotProvider.LocateLuns]"
          "[vss:IVssHardwareSnapshotProviderEx.OnLunStateChange]"
          "[vss:VSS_BREAKEX_FLAG.MAKE_READ_WRITE][vss:VSS_BREAKEX_FLAG.REVERT_IDENTITY_NONE]"
          "[vss:VSS_ONLUNSTATECHANGE.NOTIFY_READ_WRITE][vss:VSS_E_NO_SNAPSHOTS_IMPORTED]") {
  Site site;
  const auto made = site.create({"data", "more"});
  REQUIRE(made.snapshots.size() == 2);
  const auto& carried = made.snapshots[0];
  CHECK(carried.set_id == made.set_id);
  CHECK(carried.volume_name == "data");
  CHECK(carried.snapshots_count == 2);
  CHECK(is_same_lun(carried.luns.at(0).source, site.here.memory.lun_of(site.data)));
  for (const auto& copy : copies(site.here.memory)) {
    CHECK((copy.attributes & attribute::kTransportable) != 0);
    CHECK((copy.attributes & attribute::kHardwareAssisted) != 0);
    CHECK((copy.attributes & attribute::kNotSurfaced) != 0);
    CHECK((copy.attributes & attribute::kImported) == 0);
  }
  REQUIRE(site.here.memory.write(site.data, 0, "after."));
  auto at_home = site.here.begun(context::kBackup);
  CHECK(code_of(at_home.break_snapshot_set(made.set_id)) == Errc::provider_veto);

  auto session = site.there.begun(context::kNasRollback, site.document);
  const auto imported = session.import_snapshots();
  INFO((imported ? std::string() : imported.error().to_string()));
  REQUIRE(imported);
  const auto list = session.list_snapshots();
  REQUIRE(list);
  REQUIRE(list->snapshots.size() == 2);
  for (const auto& copy : list->snapshots) {
    CHECK(copy.set_id == made.set_id);
    CHECK((copy.attributes & attribute::kImported) != 0);
    CHECK((copy.attributes & attribute::kNotSurfaced) == 0);
    const bool is_first = copy.snapshot_id == carried.snapshot_id;
    CHECK(copy.creation_filetime == made.snapshots[is_first ? 0 : 1].creation_filetime);
  }
  CHECK(*site.there.memory.read_snapshot(carried.snapshot_id, 0, 6) == "before");
  CHECK(site.bring_in() == Errc::no_snapshots_imported);  // Once.
  CHECK(copies(site.there.memory).size() == 2);

  using namespace break_flag;
  const auto flags = kMakeReadWrite | kRevertIdentityNone;
  REQUIRE(session.break_snapshot_set(made.set_id, flags));
  CHECK(site.there.saw({"broken with " + std::to_string(flags | lun_state::kNotifyReadWrite)}));
  CHECK(copies(site.there.memory).empty());
  CHECK(site.there.memory.list_volumes()->size() == 2);
  CHECK(code_of(session.break_snapshot_set(made.set_id)) == Errc::object_not_found);
  CHECK(site.here.umbrad.stop() == 0);
  CHECK(site.there.umbrad.stop() == 0);
}

TEST_CASE("identities are given back only where no original is seen; masked LUNs are gone",
          "[e2e][umbrad][vss:VSS_BREAKEX_FLAG.REVERT_IDENTITY_ALL]"
          "[vss:VSS_BREAKEX_FLAG.MASK_LUNS][vss:VSS_ONLUNSTATECHANGE.DO_MASK_LUNS]"
          "[vss:VSS_E_BREAK_REVERT_ID_FAILED]") {
  Site site;
  const auto first = site.create({"data"});
  REQUIRE(site.bring_in() == Errc::ok);
  const auto original = site.here.memory.lun_of(site.data);
  REQUIRE(site.array.present(original, &site.there.memory));
  auto session = site.there.begun(context::kBackup);
  using namespace break_flag;
  CHECK(code_of(session.break_snapshot_set(first.set_id, kRevertIdentityAll)) ==
        Errc::break_revert_id_failed);
  CHECK(copies(site.there.memory).size() == 1);
  site.array.mask(original, &site.there.memory);
  CHECK(code_of(session.break_snapshot_set(first.set_id, kRevertIdentityAll)) == Errc::ok);

  const auto second = site.create({"data"});
  REQUIRE(site.bring_in() == Errc::ok);
  const auto target = second.snapshots[0].luns[0].target;
  CHECK(site.array.is_presented(target, &site.there.memory));
  REQUIRE(session.break_snapshot_set(second.set_id, kMaskLuns));
  CHECK_FALSE(site.array.is_presented(target, &site.there.memory));
  CHECK(site.there.saw({"broken with " + std::to_string(kMaskLuns | lun_state::kDoMaskLuns)}));
  CHECK(site.here.umbrad.stop() == 0);
  CHECK(site.there.umbrad.stop() == 0);
}

TEST_CASE("what does not arrive as it was described is not imported",
          "[e2e][umbrad][vss:VSS_S_SOME_SNAPSHOTS_NOT_IMPORTED]"
          "[vss:VSS_E_SOME_SNAPSHOTS_NOT_IMPORTED][vss:VSS_E_NO_SNAPSHOTS_IMPORTED]"
          "[vss:IVssHardwareSnapshotProvider.FillInLunInfo]") {
  Site site;
  const auto made = site.create({"data", "more"});
  const auto first = made.snapshots[0].luns[0].target;
  const auto second = made.snapshots[1].luns[0].target;
  SECTION("one LUN does not come, then none") {
    site.array.withhold(second, true);
    CHECK(site.bring_in() == Errc::some_snapshots_not_imported);
    REQUIRE(copies(site.there.memory).size() == 1);
    CHECK(copies(site.there.memory)[0].snapshot_id == made.snapshots[0].snapshot_id);
  }
  SECTION("none comes") {
    site.array.withhold(first, true);
    site.array.withhold(second, true);
    CHECK(site.bring_in() == Errc::no_snapshots_imported);
    CHECK(copies(site.there.memory).empty());
  }
  SECTION("one says otherwise of itself than it did") {
    site.array.redescribe(first, "another product");
    CHECK(site.bring_in() == Errc::some_snapshots_not_imported);
    REQUIRE(copies(site.there.memory).size() == 1);
    CHECK(copies(site.there.memory)[0].snapshot_id == made.snapshots[1].snapshot_id);
  }
  SECTION("the provider fails") {
    site.there.memory.fail_next("import_snapshots", {Errc::provider_veto, "as told"});
    CHECK(site.bring_in() == Errc::no_snapshots_imported);
    CHECK(site.bring_in() == Errc::ok);
  }
  SECTION("the provider of one is away") {
    auto document = made;
    document.snapshots[1].provider_id = ProviderId::random();
    site.document = documents::to_xml(document);
    CHECK(site.bring_in() == Errc::error_some_snapshots_not_imported);
    CHECK(copies(site.there.memory).size() == 1);
  }
  CHECK(site.here.umbrad.stop() == 0);
  CHECK(site.there.umbrad.stop() == 0);
}

TEST_CASE("one import at a time, and the end of its session makes room",
          "[e2e][umbrad][vss:rule.import-one-at-a-time][vss:VSS_E_SNAPSHOT_SET_IN_PROGRESS]") {
  Site site;
  const auto made = site.create({"data"});
  site.there.memory.block("locate_luns");
  std::optional<BackupSession> first{site.there.begun(context::kNasRollback, site.document)};
  auto running = first->start_import_snapshots();
  REQUIRE(running);
  REQUIRE(site.there.memory.wait_blocked("locate_luns", kSoon));
  auto second = site.there.begun(context::kNasRollback, site.document);
  CHECK(code_of(second.import_snapshots()) == Errc::snapshot_set_in_progress);
  first.reset();
  // umbrad hears of the end when it hears of it.
  const auto until = system_clock().now() + kSoon;
  auto again = second.start_import_snapshots();
  while (code_of(again) == Errc::snapshot_set_in_progress && system_clock().now() < until)
    again = second.start_import_snapshots();
  REQUIRE(again);
  site.there.memory.unblock("locate_luns");
  CHECK(again->wait(kSoon)->code == Errc::async_finished);
  CHECK(copies(site.there.memory).size() == 1);
  CHECK(site.here.umbrad.stop() == 0);
  CHECK(site.there.umbrad.stop() == 0);
}

TEST_CASE("a set whose LUNs cannot be told is no set", "[e2e][umbrad]") {
  Site site;
  const auto luns = site.array.size();
  site.here.memory.fail_next("get_target_luns", {Errc::provider_veto, "as told"});
  auto session = site.here.begun(kTransported);
  REQUIRE(session.start_snapshot_set());
  REQUIRE(session.add_to_snapshot_set(named("data")));
  CHECK(code_of(session.do_snapshot_set()) == Errc::provider_veto);
  CHECK(copies(site.here.memory).empty());
  CHECK(site.array.size() == luns);
  CHECK(site.here.umbrad.stop() == 0);
  CHECK(site.there.umbrad.stop() == 0);
}

TEST_CASE("attributes choose the provider, and reach it as they are",
          "[e2e][umbrad][vss:VSS_VOLSNAP_ATTR.NOT_TRANSACTED]"
          "[vss:VSS_VOLSNAP_ATTR.DELAYED_POSTSNAPSHOT][vss:VSS_VOLSNAP_ATTR.DIFFERENTIAL]"
          "[vss:VSS_VOLSNAP_ATTR.TRANSPORTABLE]"
          "[vss:IVssHardwareSnapshotProvider.AreLunsSupported]") {
  Site site;
  // It agrees to whatever it is asked, but another machine could not see its copies.
  site.here.second.pose_as_hardware(site.array, {}, ProviderType::software);
  site.here.second.add_volume("soft");
  site.here.serve(site.here.second);
  const auto soft = site.here.second.properties().provider_id;
  auto session = site.here.begun(kTransported);
  CHECK(*session.is_volume_supported(named("data")));
  CHECK_FALSE(*session.is_volume_supported(named("soft")));
  REQUIRE(session.start_snapshot_set());
  CHECK(code_of(session.add_to_snapshot_set(named("soft"))) == Errc::volume_not_supported);
  CHECK(code_of(session.add_to_snapshot_set(named("soft"), soft)) ==
        Errc::volume_not_supported_by_provider);
  REQUIRE(session.abort_backup());

  const auto wanted = attribute::kNotTransacted | attribute::kDelayedPostSnapshot |
                      attribute::kDifferential | attribute::kHardwareAssisted;
  const auto made = site.create({"data"}, context::kAppRollback | attribute::kNoWriters |
                                              (wanted & ~attribute::kHardwareAssisted));
  CHECK(made.snapshots.empty());  // Nothing is carried of what is not transportable.
  REQUIRE(copies(site.here.memory).size() == 1);
  CHECK((copies(site.here.memory)[0].attributes & wanted) == wanted);
  CHECK(site.here.umbrad.stop() == 0);
  CHECK(site.there.umbrad.stop() == 0);
}

TEST_CASE("LUNs are written back from their copies, the array doing the work",
          "[e2e][umbrad][vss:IVssBackupComponentsEx3.AddSnapshotToRecoverySet]"
          "[vss:IVssBackupComponentsEx3.RecoverSet][vss:VSS_RECOVERY.REVERT_IDENTITY_ALL]"
          "[vss:VSS_ONLUNSTATECHANGE.NOTIFY_LUN_PRE_RECOVERY]"
          "[vss:VSS_ONLUNSTATECHANGE.NOTIFY_LUN_POST_RECOVERY]"
          "[vss:IVssHardwareSnapshotProviderEx.ResyncLuns][vss:VSS_E_CANNOT_REVERT_DISKID]") {
  Site site;
  const auto made = site.create({"data"});
  const auto copy = made.snapshots[0].snapshot_id;
  REQUIRE(site.here.memory.write(site.data, 0, "after."));
  auto session = site.here.restoring(made);
  REQUIRE(session.add_snapshot_to_recovery_set(copy));
  const auto recovered = session.recover_set(recovery_option::kRevertIdentityAll);
  INFO((recovered ? std::string() : recovered.error().to_string()));
  REQUIRE(recovered);
  CHECK(site.here.memory.read_volume(site.data).starts_with("before"));
  CHECK(site.here.saw({"state 512", "resync with 256", "state 1024"}));
  CHECK(copies(site.here.memory).size() == 1);
  CHECK(code_of(session.recover_set()) == Errc::bad_state);  // What was added is done.
  CHECK(code_of(session.start_recover_set()) == Errc::bad_state);

  // The same as a handle.
  REQUIRE(site.here.memory.write(site.data, 0, "later."));
  REQUIRE(session.add_snapshot_to_recovery_set(copy));
  auto recovery = session.start_recover_set();
  REQUIRE(recovery);
  const auto end = recovery->wait();
  REQUIRE(end);
  CHECK(end->code == Errc::async_finished);
  CHECK(recovery->cancel() == Errc::async_finished);
  CHECK(site.here.memory.read_volume(site.data).starts_with("before"));

  // To another place, and with an identity that cannot be given.
  REQUIRE(session.add_snapshot_to_recovery_set(copy, 0, named("more")));
  REQUIRE(session.recover_set());
  CHECK(site.here.memory.read_volume(site.more).starts_with("before"));
  CHECK(code_of(session.add_snapshot_to_recovery_set(copy, 0, named("nowhere"))) ==
        Errc::object_not_found);
  REQUIRE(session.add_snapshot_to_recovery_set(copy));
  site.here.memory.fail_next("resync_luns", {Errc::cannot_revert_diskid, "as told"});
  CHECK(code_of(session.recover_set(recovery_option::kRevertIdentityAll)) ==
        Errc::cannot_revert_diskid);
  // The word that it is over comes all the same.
  const auto calls = site.here.memory.calls();
  CHECK(std::count(calls.begin(), calls.end(), "state 1024") == 4);
  CHECK(site.here.umbrad.stop() == 0);
  CHECK(site.there.umbrad.stop() == 0);
}

TEST_CASE("nothing is written over that was not meant, or is not there",
          "[e2e][umbrad][vss:VSS_E_UNSELECTED_VOLUME][vss:VSS_RECOVERY.NO_VOLUME_CHECK]"
          "[vss:VSS_E_SNAPSHOT_NOT_IN_SET][vss:VSS_E_MISSING_DISK][vss:VSS_E_MISSING_VOLUME]") {
  Site site;
  const auto unrelated = site.create({"more"}).snapshots[0].snapshot_id;
  const auto made = site.create({"data"});
  const auto copy = made.snapshots[0].snapshot_id;
  REQUIRE(site.here.memory.write(site.data, 0, "after."));
  auto session = site.here.restoring(made);
  CHECK(code_of(session.add_snapshot_to_recovery_set(unrelated)) == Errc::snapshot_not_in_set);
  CHECK(code_of(session.add_snapshot_to_recovery_set(SnapshotId::random())) ==
        Errc::object_not_found);
  const auto unchanged = [&] {
    return site.here.memory.read_volume(site.data).starts_with("after.");
  };
  REQUIRE(session.add_snapshot_to_recovery_set(copy));
  SECTION("a volume that was left out") {
    site.here.memory.share_lun(site.more, site.data);
    CHECK(code_of(session.recover_set()) == Errc::unselected_volume);
    CHECK(unchanged());
    REQUIRE(session.add_snapshot_to_recovery_set(copy));
    CHECK(code_of(session.recover_set(recovery_option::kNoVolumeCheck)) == Errc::ok);
    CHECK_FALSE(unchanged());
  }
  SECTION("a disk that this machine does not see") {
    site.array.mask(site.here.memory.lun_of(site.data), &site.here.memory);
    CHECK(code_of(session.recover_set()) == Errc::missing_disk);
    CHECK(unchanged());
  }
  SECTION("a volume that does not come back") {
    site.here.memory.forget_volume(site.data);
    CHECK(code_of(session.recover_set()) == Errc::missing_volume);
  }
  CHECK(site.here.umbrad.stop() == 0);
  CHECK(site.there.umbrad.stop() == 0);
}

TEST_CASE("one recovery writes over a LUN at a time",
          "[e2e][umbrad][vss:VSS_E_RESYNC_IN_PROGRESS][vss:rule.one-resync-per-lun]") {
  Site site;
  const auto other = site.create({"data"}).snapshots;
  auto made = site.create({"data"});
  const auto copy = made.snapshots[0].snapshot_id;
  made.snapshots.push_back(other[0]);
  auto waiting = site.here.restoring(made);
  REQUIRE(waiting.add_snapshot_to_recovery_set(copy));
  CHECK(code_of(waiting.add_snapshot_to_recovery_set(other[0].snapshot_id)) ==
        Errc::resync_in_progress);  // Two copies for one LUN.

  site.here.memory.block("resync_luns");
  {
    Requester running(site.here.umbrad);
    static_cast<void>(running.begin_restore(made));
    rpc::AddSnapshotToRecoverySet add;
    add.snapshot_id = copy;
    REQUIRE(running.client.call<rpc::Nothing>("session.add_snapshot_to_recovery_set", add));
    REQUIRE(running.client.call<rpc::StartedOperation>("session.recover_set", rpc::RecoverSet{}));
    REQUIRE(site.here.memory.wait_blocked("resync_luns", kSoon));
  }
  // Its requester has gone; the LUN is being written over all the same.
  CHECK(code_of(waiting.recover_set()) == Errc::resync_in_progress);
  CHECK(code_of(waiting.add_snapshot_to_recovery_set(copy)) == Errc::resync_in_progress);
  site.here.memory.unblock("resync_luns");
  const auto until = system_clock().now() + kSoon;
  while (code_of(waiting.add_snapshot_to_recovery_set(copy)) == Errc::resync_in_progress &&
         system_clock().now() < until)
    continue;
  CHECK(code_of(waiting.recover_set()) == Errc::ok);
  CHECK(site.here.umbrad.stop() == 0);
  CHECK(site.there.umbrad.stop() == 0);
}

TEST_CASE("a share is a volume of its provider, which is asked by the share's name",
          "[e2e][umbrad][vss:VSS_VOLSNAP_ATTR.FILE_SHARE]"
          "[vss:IVssFileShareSnapshotProvider.SetContext]"
          "[vss:IVssFileShareSnapshotProvider.GetSnapshotProperties]"
          "[vss:IVssFileShareSnapshotProvider.Query]"
          "[vss:IVssFileShareSnapshotProvider.DeleteSnapshots]"
          "[vss:IVssFileShareSnapshotProvider.BeginPrepareSnapshot]"
          "[vss:IVssFileShareSnapshotProvider.IsPathSupported]"
          "[vss:IVssFileShareSnapshotProvider.IsPathSnapshotted]") {
  MemoryProvider shares{system_clock(), "nas", ProviderType::file_share};
  Machine machine;
  const auto id = shares.add_volume("nas:/export/home");
  shares.add_volume("//nas/projects");
  machine.serve(shares);
  auto session = machine.begun(context::kNasRollback);
  CHECK(*session.is_volume_supported(named("//nas/projects")));
  CHECK(code_of(session.is_volume_supported(named("//nas/none"))) == Errc::object_not_found);
  REQUIRE(session.start_snapshot_set());
  const auto added = session.add_to_snapshot_set(named("nas:/export/home"));
  REQUIRE(added);
  CHECK(added->volume_id == id);
  REQUIRE(session.do_snapshot_set());
  const auto copy = session.snapshot_properties(added->snapshot_id);
  REQUIRE(copy);
  CHECK((copy->attributes & attribute::kFileShare) != 0);
  CHECK((copy->attributes & context::kMask) == context::kNasRollback);
  CHECK(copy->original_volume == "nas:/export/home");
  CHECK(shares.find_volume(named("nas:/export/home"))->snapshot_count == 1);
  CHECK(shares.find_volume(named("//nas/projects"))->snapshot_count == 0);
  const auto gone = session.delete_snapshots(added->snapshot_id, ObjectType::snapshot, false);
  REQUIRE(gone);
  CHECK(gone->deleted == 1);
  CHECK(session.list_snapshots()->snapshots.empty());
  machine.servers.clear();
  CHECK(machine.umbrad.stop() == 0);
}

TEST_CASE("a file server that prepares for too long has a code of its own",
          "[e2e][umbrad][vss:VSS_E_FSS_TIMEOUT]") {
  MemoryProvider shares{system_clock(), "nas", ProviderType::file_share};
  Machine machine("[limits]\nprovider_query = 2000\n");
  shares.add_volume("nas:/export/home");
  machine.serve(shares);
  shares.block("begin_prepare_snapshot");
  auto session = machine.begun(context::kFileShareBackup);
  REQUIRE(session.start_snapshot_set());
  CHECK(code_of(session.add_to_snapshot_set(named("nas:/export/home"))) == Errc::fss_timeout);
  shares.unblock("begin_prepare_snapshot");
  machine.servers.clear();
  CHECK(machine.umbrad.stop() == 0);
}

}  // namespace
