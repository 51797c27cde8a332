// SPDX-License-Identifier: Apache-2.0
//
// Every call of the requester SDK that takes an argument, with every kind of argument that it
// refuses, against umbrad as a process: the error is the documented one, it says which call or what
// was wrong, and neither the session's state nor its document has changed. Calls in the wrong state
// are tests/unit/requester_sdk's matrix; what the wire refuses is wire_misuse_test.cc.

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/platform/log.h"
#include "engine/rpc/provider_server.h"
#include "tests/support/catch.h"
#include "tests/support/memory_provider.h"
#include "tests/support/wire_client.h"
#include "umbra/requester/backup_session.h"
#include "umbra/requester/restore_session.h"

namespace {

using namespace umbra;
using namespace umbra::test;
using requester::BackupSession;
using requester::ComponentRef;
using requester::RestoreSession;

template <class T>
Status status_of(const Result<T>& result) {
  if (!result) return fail(result.error());
  return {};
}

VolumeRef named(const std::string& name) {
  VolumeRef volume;
  volume.name = name;
  return volume;
}

struct World {
  World() {
    memory.add_volume("data");
    memory.add_volume("more");
    rpc::ProviderServerOptions options;
    options.socket_path = umbrad.socket();
    server = std::make_unique<rpc::ProviderServer>(
        memory, std::map<std::string, rpc::ProviderMethod>{}, options, null_log());
    REQUIRE(server->wait_until_registered(kSoon));
    connect.socket_path = umbrad.socket();
  }
  ComponentRef data() const {
    return {writer.instance(), writer.class_id(), ComponentType::file_group, "", "data"};
  }

  Umbrad umbrad;
  MemoryProvider memory{system_clock()};
  std::unique_ptr<rpc::ProviderServer> server;
  FakeWriter writer{umbrad.socket(), {.name = "w"}};
  requester::ConnectOptions connect;
};

// --- a backup
// -------------------------------------------------------------------------------------

enum class At : std::uint8_t { initialized, gathered, open, prepared, created };

struct Wrong {
  const char* what;
  At at;
  Errc code;
  std::function<Status(World&, BackupSession&)> call;
};

const SnapshotId kNoCopy = SnapshotId::random();

ComponentRef changed(ComponentRef ref, const std::function<void(ComponentRef&)>& change) {
  change(ref);
  return ref;
}

// Each way to name a component that is not there.
std::vector<std::pair<std::string, ComponentRef>> no_components(const World& world) {
  return {
      {"nothing named", {}},
      {"another writer", changed(world.data(),
                                 [](auto& ref) {
                                   ref.instance_id = WriterInstanceId::random();
                                   ref.class_id = WriterClassId::random();
                                 })},
      {"another name", changed(world.data(), [](auto& ref) { ref.name = "atad"; })},
      {"another path", changed(world.data(), [](auto& ref) { ref.logical_path = "x"; })},
      {"another type",
       changed(world.data(), [](auto& ref) { ref.type = ComponentType::database; })},
  };
}

std::vector<Wrong> wrong_arguments() {
  using enum At;
  constexpr auto kUnsupported = Errc::unsupported_context;
  constexpr auto kInvalid = Errc::invalid_argument;
  constexpr auto kNotFound = Errc::object_not_found;
  std::vector<Wrong> list{
      {"two contexts at once", initialized, kUnsupported,
       [](World&, auto& s) { return s.set_context(context::kBackup | attribute::kPersistent); }},
      {"bits that are no attribute", initialized, kUnsupported,
       [](World&, auto& s) { return s.set_context(0x8000'0000U); }},
      {"an attribute that only the system sets", initialized, kUnsupported,
       [](World&, auto& s) { return s.set_context(attribute::kImported); }},
      {"attributes that exclude each other", initialized, kUnsupported,
       [](World&, auto& s) { return s.set_context(attribute::kPlex | attribute::kDifferential); }},
      {"a backup type that there is not", initialized, kInvalid,
       [](World&, auto& s) {
         return s.set_backup_state({.backup_type = static_cast<BackupType>(99)});
       }},
      {"a negative place in the queue", gathered, kInvalid,
       [](World&, auto& s) {
         return status_of(s.start_snapshot_set(std::chrono::milliseconds{-1}));
       }},
      {"a component twice", gathered, Errc::object_already_exists,
       [](World& w, auto& s) { return s.add_component(w.data()); }},
      {"a volume that nobody has", open, kNotFound,
       [](World& w, auto& s) {
         return status_of(s.add_to_snapshot_set(named("none"), w.memory.properties().provider_id));
       }},
      {"a volume that no provider supports", open, Errc::volume_not_supported,
       [](World&, auto& s) { return status_of(s.add_to_snapshot_set(named("none"))); }},
      {"a provider that there is not", open, Errc::provider_not_registered,
       [](World&, auto& s) {
         return status_of(s.add_to_snapshot_set(named("data"), ProviderId::random()));
       }},
      {"a volume twice", open, Errc::object_already_exists,
       [](World&, auto& s) { return status_of(s.add_to_snapshot_set(named("data"))); }},
      {"a list of writers without the policy of a list", prepared, kInvalid,
       [](World& w, auto& s) {
         requester::DoOptions options;
         options.policy_list = {w.writer.class_id()};
         return s.do_snapshot_set(options);
       }},
      {"a copy that there is not", created, kNotFound,
       [](World&, auto& s) { return status_of(s.snapshot_properties(kNoCopy)); }},
      {"a query for sets", created, kInvalid,
       [](World&, auto& s) { return status_of(s.query(ObjectType::snapshot_set)); }},
      {"a query for nothing", created, kInvalid,
       [](World&, auto& s) { return status_of(s.query(ObjectType::none)); }},
      {"support of an unnamed volume", created, kInvalid,
       [](World&, auto& s) { return status_of(s.is_volume_supported({})); }},
      {"support of a volume that nobody has", created, kNotFound,
       [](World&, auto& s) { return status_of(s.is_volume_supported(named("none"))); }},
      {"support by a provider that there is not", created, Errc::provider_not_registered,
       [](World&, auto& s) {
         return status_of(s.is_volume_supported(named("data"), ProviderId::random()));
       }},
      {"deletion of a provider", created, kInvalid,
       [](World&, auto& s) {
         return status_of(s.delete_snapshots(kNoCopy, ObjectType::provider));
       }},
      {"deletion of what there is not", created, kNotFound,
       [](World&, auto& s) {
         return status_of(s.delete_snapshots(kNoCopy, ObjectType::snapshot));
       }},
      {"exposure of a copy that there is not", created, kNotFound,
       [](World&, auto& s) { return status_of(s.expose_snapshot(kNoCopy)); }},
      {"the end of an exposure that there is not", created, kNotFound,
       [](World&, auto& s) { return s.unexpose_snapshot(kNoCopy); }},
      {"a break of a set that there is not", created, kNotFound,
       [](World&, auto& s) { return s.break_snapshot_set(SnapshotSetId::random()); }},
      {"a break with flags that exclude each other", created, kInvalid,
       [](World&, auto& s) { return s.break_snapshot_set(SnapshotSetId::random(), 0x4 | 0x8); }},
      {"a break with flags that there are not", created, kInvalid,
       [](World&, auto& s) { return s.break_snapshot_set(SnapshotSetId::random(), 0x1000); }},
      {"a revert to a copy that there is not", created, kNotFound,
       [](World&, auto& s) { return s.revert_to_snapshot(kNoCopy); }},
      {"the revert of an unnamed volume", created, kInvalid,
       [](World&, auto& s) { return status_of(s.query_revert_status({})); }},
  };
  for (std::size_t i = 0; i < 5; ++i) {
    const auto ref = [i](const World& w) { return no_components(w)[i].second; };
    // A component's type is not looked at once it was added: its name says which it is.
    const bool by_type = i == 4;
    list.push_back({"add_component", gathered, kNotFound,
                    [ref](World& w, auto& s) { return s.add_component(ref(w)); }});
    if (by_type) continue;
    list.push_back({"set_backup_options", gathered, kNotFound,
                    [ref](World& w, auto& s) { return s.set_backup_options(ref(w), "x"); }});
    list.push_back({"set_previous_backup_stamp", gathered, kNotFound,
                    [ref](World& w, auto& s) { return s.set_previous_backup_stamp(ref(w), "x"); }});
    list.push_back({"set_backup_succeeded", created, kNotFound,
                    [ref](World& w, auto& s) { return s.set_backup_succeeded(ref(w), true); }});
  }
  return list;
}

// Brings a session there by the ordinary way, with the component and the volume "data".
void reach(World& world, BackupSession& session, At at) {
  REQUIRE(session.initialize_for_backup());
  if (at == At::initialized) return;
  REQUIRE(session.set_backup_state({}));
  REQUIRE(session.gather_writer_metadata());
  REQUIRE(session.add_component(world.data()));
  if (at == At::gathered) return;
  REQUIRE(session.start_snapshot_set(std::chrono::seconds{20}));
  REQUIRE(session.add_to_snapshot_set(named("data")));
  if (at == At::open) return;
  REQUIRE(session.prepare_for_backup());
  if (at == At::prepared) return;
  REQUIRE(session.do_snapshot_set({}));
}

TEST_CASE("a backup's calls with wrong arguments are refused and change nothing",
          "[misuse]"
          "[vss:E_INVALIDARG][vss:VSS_E_UNSUPPORTED_CONTEXT][vss:VSS_E_OBJECT_NOT_FOUND]"
          "[vss:VSS_E_OBJECT_ALREADY_EXISTS][vss:VSS_E_PROVIDER_NOT_REGISTERED]"
          "[vss:VSS_E_VOLUME_NOT_SUPPORTED][vss:VSS_OBJECT_TYPE.NONE]"
          "[vss:IVssBackupComponents.SetContext][vss:IVssBackupComponents.SetBackupState]"
          "[vss:IVssBackupComponents.StartSnapshotSet]"
          "[vss:IVssBackupComponents.AddToSnapshotSet][vss:IVssBackupComponents.AddComponent]"
          "[vss:IVssBackupComponents.SetBackupSucceeded]"
          "[vss:IVssBackupComponents.GetSnapshotProperties]"
          "[vss:IVssBackupComponents.DeleteSnapshots]"
          "[vss:IVssBackupComponents.RevertToSnapshot]"
          "[vss:IVssBackupComponents.QueryRevertStatus]") {
  World world;
  const auto list = wrong_arguments();
  for (const At at : {At::initialized, At::gathered, At::open, At::prepared, At::created}) {
    auto session = BackupSession::connect(world.connect);
    REQUIRE(session);
    reach(world, *session, at);
    const auto state = session->state();
    const auto before = session->backup_components();
    REQUIRE(before);
    for (const auto& wrong : list) {
      if (wrong.at != at) continue;
      INFO(wrong.what);
      const auto refused = wrong.call(world, *session);
      REQUIRE_FALSE(refused);
      INFO(refused.error().to_string());
      CHECK(refused.error().code == wrong.code);
      CHECK_FALSE(refused.error().context.empty());
      CHECK(session->state() == state);
      const auto after = session->backup_components();
      REQUIRE(after);
      CHECK(*after == *before);
    }
  }
  // Whoever was refused can go on to the end.
  auto session = BackupSession::connect(world.connect);
  REQUIRE(session);
  reach(world, *session, At::open);
  for (const auto& wrong : list)
    if (wrong.at == At::open) CHECK_FALSE(wrong.call(world, *session));
  REQUIRE(session->prepare_for_backup());
  REQUIRE(session->do_snapshot_set({}));
  REQUIRE(session->set_backup_succeeded(world.data(), true));
  CHECK(session->backup_complete());
  CHECK(world.umbrad.stop() == 0);
}

// --- a restore
// ------------------------------------------------------------------------------------

BackupComponentsDocument document_of(const World& world) {
  BackupComponentsDocument document;
  auto& part = document.writers.emplace_back();
  part.instance_id = world.writer.instance();
  part.class_id = world.writer.class_id();
  part.components.emplace_back().name = "data";
  auto& other = part.components.emplace_back();  // In the backup, and not selected.
  other.name = "other";
  return document;
}

struct WrongRestore {
  const char* what;
  bool prepared;  // After PreRestore.
  Errc code;
  std::function<Status(RestoreSession&, const ComponentRef&)> call;
};

TEST_CASE("a restore's calls with wrong arguments are refused and change nothing",
          "[misuse]"
          "[vss:E_INVALIDARG][vss:VSS_E_NOT_SUPPORTED][vss:VSS_E_OBJECT_NOT_FOUND]"
          "[vss:IVssBackupComponents.SetRestoreState]"
          "[vss:IVssBackupComponents.AddRestoreSubcomponent]"
          "[vss:IVssBackupComponents.AddNewTarget][vss:IVssBackupComponents.SetRangesFilePath]"
          "[vss:IVssBackupComponents.AddAlternativeLocationMapping]"
          "[vss:IVssBackupComponents.SetFileRestoreStatus]"
          "[vss:IVssBackupComponents.SetRestoreOptions]"
          "[vss:IVssBackupComponentsEx2.SetAuthoritativeRestore]"
          "[vss:IVssBackupComponentsEx2.SetRollForward]"
          "[vss:IVssBackupComponentsEx2.SetRestoreName]") {
  World world;
  const AlternateLocation place{"/srv/w", "*", true, "/new"};
  const auto relative = AlternateLocation{"/srv/w", "*", true, "new"};
  using S = RestoreSession;
  using R = ComponentRef;
  constexpr auto kInvalid = Errc::invalid_argument;
  constexpr auto kUnable = Errc::not_supported;
  const std::vector<WrongRestore> list{
      {"a restore type that there is not", false, kInvalid,
       [](S& s, const R&) { return s.set_restore_state(static_cast<RestoreType>(99)); }},
      {"a part that is not below the component", false, kInvalid,
       [](S& s, const R& r) {
         return s.add_restore_subcomponent(r, {"elsewhere", "x"});
       }},
      {"a part without a name", false, kInvalid,
       [](S& s, const R& r) {
         return s.add_restore_subcomponent(r, {"data", ""});
       }},
      {"authority that the writer does not know", false, kUnable,
       [](S& s, const R& r) { return s.set_authoritative_restore(r, true); }},
      {"rolling forward that the writer does not know", false, kUnable,
       [](S& s, const R& r) {
         return s.set_roll_forward(r, {RollForwardType::all, ""});
       }},
      {"a name that the writer does not know", false, kUnable,
       [](S& s, const R& r) { return s.set_restore_name(r, "x"); }},
      {"a target that the writer does not know", false, kUnable,
       [&](S& s, const R& r) { return s.add_new_target(r, place); }},
      {"ranges of a file that there is not", false, Errc::object_not_found,
       [](S& s, const R& r) { return s.set_ranges_file_path(r, 0, "/x"); }},
      {"a mapping to a relative place", true, kInvalid,
       [&](S& s, const R& r) { return s.add_alternative_location_mapping(r, relative); }},
      {"files of which nobody knows", true, kInvalid,
       [](S& s, const R& r) { return s.set_file_restore_status(r, FileRestoreStatus::undefined); }},
      {"a status that there is not", true, kInvalid,
       [](S& s, const R& r) {
         return s.set_file_restore_status(r, static_cast<FileRestoreStatus>(9));
       }},
  };
  auto session = RestoreSession::connect(world.connect);
  REQUIRE(session);
  REQUIRE(session->initialize_for_restore(document_of(world)));
  REQUIRE(session->gather_writer_metadata());
  auto ref = world.data();
  ref.instance_id = {};
  REQUIRE(session->set_selected_for_restore(ref));
  for (const bool prepared : {false, true}) {
    if (prepared) REQUIRE(session->pre_restore());
    const auto state = session->state();
    const auto before = session->backup_components();
    REQUIRE(before);
    const auto unchanged = [&](const char* what, const Status& refused, Errc code) {
      INFO(what);
      REQUIRE_FALSE(refused);
      INFO(refused.error().to_string());
      CHECK(refused.error().code == code);
      CHECK_FALSE(refused.error().context.empty());
      CHECK(session->state() == state);
      const auto after = session->backup_components();
      REQUIRE(after);
      CHECK(*after == *before);
    };
    for (const auto& wrong : list)
      if (wrong.prepared == prepared) unchanged(wrong.what, wrong.call(*session, ref), wrong.code);
    // Components that are not there, or that are there and were not selected.
    auto others = no_components(world);
    others.emplace_back("not selected", changed(ref, [](auto& one) { one.name = "other"; }));
    for (auto& [what, other] : others) {
      other.instance_id = {};
      unchanged(what.c_str(),
                prepared ? session->set_file_restore_status(other, FileRestoreStatus::all)
                         : session->set_restore_options(other, "x"),
                Errc::object_not_found);
    }
  }
  REQUIRE(session->set_file_restore_status(ref, FileRestoreStatus::all));
  CHECK(session->post_restore());
  CHECK(world.umbrad.stop() == 0);
}

}  // namespace
