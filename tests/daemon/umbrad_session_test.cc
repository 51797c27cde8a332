// SPDX-License-Identifier: Apache-2.0
//
// What a requester's session asks of umbrad beside the making of its set, through the real SDKs:
// what is said about components, what volumes and copies can do, handles of running operations.

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "engine/platform/log.h"
#include "engine/platform/path_device.h"
#include "engine/rpc/provider_server.h"
#include "tests/support/catch.h"
#include "tests/support/memory_provider.h"
#include "tests/support/wire_client.h"
#include "umbra/requester/backup_session.h"
#include "umbra/requester/client.h"
#include "umbra/requester/functions.h"
#include "umbra/requester/restore_session.h"
#include "umbra/writer/writer.h"

namespace {

using namespace umbra;
using namespace umbra::test;
using namespace std::chrono_literals;
using requester::BackupSession;

// Has a component of two levels; keeps the document that PrepareForBackup shows it, and fails one
// event on demand.
class ReadingWriter final : public writer::Writer {
 public:
  Status on_identify(writer::MetadataBuilder& metadata) override {
    ComponentInfo component;
    component.name = "data";
    component.flags = flags;
    if (!path.empty()) component.files.push_back({path, "*", false, "", file_spec::kDefault});
    if (auto added = metadata.add_component(component); !added) return added;
    component.name = "logs";
    return metadata.add_component(component);
  }
  Status on_prepare_for_backup(writer::Context& context) override {
    const std::lock_guard lock(mutex_);
    if (context.components() != nullptr) seen_ = *context.components();
    context_ = context.snapshot_context();
    return {};
  }
  Status on_prepare_for_snapshot(writer::Context&) override { return {}; }
  Status on_freeze(writer::Context&) override { return {}; }
  void on_thaw(writer::Context&) noexcept override {}
  void on_abort(writer::Context&) noexcept override {}
  Status on_backup_complete(writer::Context&) override {
    if (!fails_at_complete) return {};
    return fail(Errc::writererror_nonretryable, "no more logs");
  }
  [[nodiscard]] WriterComponents seen() {
    const std::lock_guard lock(mutex_);
    return seen_;
  }
  [[nodiscard]] std::uint32_t context() {
    const std::lock_guard lock(mutex_);
    return context_;
  }
  std::atomic<bool> fails_at_complete{false};
  std::atomic<std::uint32_t> flags{0};  // Of its component "data".
  std::string path;                     // Of its files; set before anybody asks.

 private:
  std::mutex mutex_;
  WriterComponents seen_;
  std::uint32_t context_ = 0;
};

struct World {
  explicit World(const std::string& config = {}) : umbrad(config) {
    data = memory.add_volume("data");
    rpc::ProviderServerOptions options;
    options.socket_path = umbrad.socket();
    server = std::make_unique<rpc::ProviderServer>(
        memory, std::map<std::string, rpc::ProviderMethod>{}, options, null_log());
    REQUIRE(server->wait_until_registered(kSoon));
    writer::Options registration;
    registration.class_id = class_id;
    registration.name = "reading";
    registration.socket_path = umbrad.socket();
    auto connected = writer::Session::connect(reading, registration);
    REQUIRE(connected);
    writer.emplace(std::move(*connected));
  }
  ~World() { memory.unblock("end_prepare_snapshots"); }

  [[nodiscard]] requester::ConnectOptions connect() const {
    requester::ConnectOptions options;
    options.socket_path = umbrad.socket();
    return options;
  }
  [[nodiscard]] BackupSession open() const {
    auto session = BackupSession::connect(connect());
    REQUIRE(session);
    return std::move(*session);
  }
  [[nodiscard]] BackupSession begun(std::uint32_t context = context::kBackup) const {
    auto session = open();
    REQUIRE(session.initialize_for_backup());
    REQUIRE(session.set_context(context));
    return session;
  }
  /// Up to PrepareForBackup, with one component.
  [[nodiscard]] BackupSession prepared(std::uint32_t context = context::kBackup) const {
    auto session = begun(context);
    REQUIRE(session.set_backup_state({}));
    REQUIRE(session.gather_writer_metadata());
    REQUIRE(session.add_component(component("data")));
    REQUIRE(session.start_snapshot_set());
    REQUIRE(session.add_to_snapshot_set(volume()));
    REQUIRE(session.prepare_for_backup());
    return session;
  }
  [[nodiscard]] requester::ComponentRef component(const std::string& name) const {
    return {.class_id = class_id, .name = name};
  }
  [[nodiscard]] static VolumeRef volume(const std::string& name = "data") {
    VolumeRef ref;
    ref.name = name;
    return ref;
  }

  Umbrad umbrad;
  MemoryProvider memory{system_clock()};
  VolumeId data;
  std::unique_ptr<rpc::ProviderServer> server;
  static constexpr const char* kClass = "5d0b9f0a-6d0e-4f0f-9a53-0c8f3c1d7e21";
  WriterClassId class_id = WriterClassId::parse(kClass).value();
  ReadingWriter reading;
  std::optional<writer::Session> writer;
};

template <class T>
Errc code_of(const T& result) {
  return result ? Errc::ok : result.error().code;
}

TEST_CASE("options and the stamp of the backup before reach the component's writer",
          "[e2e][umbrad][vss:IVssBackupComponents.SetBackupOptions]"
          "[vss:IVssBackupComponents.SetPreviousBackupStamp]"
          "[vss:IVssBackupComponents.GetWriterComponents]"
          "[vss:IVssBackupComponents.GetWriterComponentsCount]") {
  World world;
  auto session = world.begun();
  REQUIRE(session.set_backup_state({.backup_type = BackupType::incremental}));
  REQUIRE(session.gather_writer_metadata());
  CHECK(code_of(session.set_backup_options(world.component("data"), "x")) ==
        Errc::object_not_found);
  REQUIRE(session.add_component(world.component("data")));
  REQUIRE(session.add_component(world.component("logs")));
  CHECK(session.set_backup_options(world.component("data"), "keep=3"));
  CHECK(session.set_previous_backup_stamp(world.component("data"), "stamp 41"));
  CHECK(session.set_previous_backup_stamp(world.component("logs"), ""));
  CHECK(code_of(session.set_backup_options(world.component("other"), "x")) ==
        Errc::object_not_found);
  auto nobody = world.component("data");
  nobody.class_id = WriterClassId::random();
  CHECK(code_of(session.set_previous_backup_stamp(nobody, "x")) == Errc::object_not_found);
  REQUIRE(session.start_snapshot_set());
  CHECK(session.set_backup_options(world.component("logs"), "none"));
  REQUIRE(session.add_to_snapshot_set(World::volume()));
  REQUIRE(session.prepare_for_backup());
  CHECK(code_of(session.set_backup_options(world.component("data"), "late")) == Errc::bad_state);

  const auto seen = world.reading.seen();
  REQUIRE(seen.components.size() == 2);
  CHECK(seen.components[0].backup_options == "keep=3");
  CHECK(seen.components[0].previous_backup_stamp == "stamp 41");
  CHECK(seen.components[1].backup_options == "none");
  CHECK(seen.components[1].previous_backup_stamp == "");
  const auto parts = session.writer_components();
  REQUIRE(parts);
  REQUIRE(parts->size() == 1);
  CHECK((*parts)[0].components.at(0).backup_options == "keep=3");
  CHECK(world.umbrad.stop() == 0);
}

TEST_CASE("whether a volume is supported: by anybody, by one provider, with these attributes",
          "[e2e][umbrad][vss:IVssBackupComponents.IsVolumeSupported]") {
  World world;
  const auto provider = world.memory.properties().provider_id;
  auto session = world.begun();
  CHECK(session.is_volume_supported(World::volume()) == true);
  CHECK(session.is_volume_supported(World::volume(), provider) == true);
  CHECK(code_of(session.is_volume_supported(World::volume("nowhere"))) == Errc::object_not_found);
  CHECK(code_of(session.is_volume_supported(World::volume("nowhere"), provider)) ==
        Errc::object_not_found);
  CHECK(code_of(session.is_volume_supported(World::volume(), ProviderId::random())) ==
        Errc::provider_not_registered);
  CHECK(code_of(session.is_volume_supported({})) == Errc::invalid_argument);

  auto mirrors = world.begun(context::kBackup | attribute::kPlex);
  CHECK(mirrors.is_volume_supported(World::volume()) == false);
  CHECK(mirrors.is_volume_supported(World::volume(), provider) == false);
  auto all = world.begun(context::kAll);
  CHECK(code_of(all.is_volume_supported(World::volume())) == Errc::unsupported_context);
  CHECK(code_of(all.start_snapshot_set()) != Errc::ok);
  CHECK(world.umbrad.stop() == 0);
}

TEST_CASE("a query shows created copies of the session's context, VSS_CTX_ALL those of all",
          "[e2e][umbrad][vss:IVssBackupComponents.Query]"
          "[vss:IVssBackupComponents.GetSnapshotProperties]"
          "[vss:IVssBackupComponents.DeleteSnapshots]") {
  World world;
  for (const auto context : {context::kAppRollback, context::kNasRollback}) {
    auto session = world.open();
    requester::CreateOptions options;
    options.volumes = {World::volume()};
    options.context = context;
    REQUIRE(session.create_snapshot_set(options));
  }
  const auto found = [&](std::uint32_t context) {
    auto session = world.begun(context);
    auto list = session.query(ObjectType::snapshot);
    REQUIRE(list);
    return list->next(10);
  };
  CHECK(found(context::kAll).size() == 2);
  const auto persistent = found(context::kAppRollback);
  REQUIRE(persistent.size() == 1);
  CHECK(found(context::kBackup).empty());
  const auto id = std::get<SnapshotProperties>(persistent[0]).snapshot_id;
  auto session = world.begun();
  CHECK(session.snapshot_properties(id)->state == SnapshotState::created);
  CHECK(code_of(session.snapshot_properties(SnapshotId::random())) == Errc::object_not_found);
  const auto providers = session.query(ObjectType::provider)->next(10);
  REQUIRE(providers.size() == 1);
  CHECK(std::get<ProviderProperties>(providers[0]).name == "memory");

  world.memory.set_in_use(id, true);
  const auto kept = session.delete_snapshots(id, ObjectType::snapshot, false);
  REQUIRE(kept);
  CHECK(kept->deleted == 0);
  CHECK(kept->not_deleted == id);
  CHECK(session.delete_snapshots(id, ObjectType::snapshot, true)->deleted == 1);
  CHECK(code_of(session.delete_snapshots(id, ObjectType::snapshot, true)) ==
        Errc::object_not_found);
  CHECK(found(context::kAll).size() == 1);
  CHECK(world.umbrad.stop() == 0);
}

TEST_CASE("a component that wants to be recovered makes its copies recoverable",
          "[e2e][umbrad][vss:VSS_VOLSNAP_ATTR.AUTORECOVER]") {
  World world;
  const auto attributes = [&](std::uint32_t context) {
    auto session = world.prepared(context);
    REQUIRE(session.do_snapshot_set());
    const auto copies = world.memory.query_snapshots(false);
    REQUIRE(copies->size() == 1);
    CHECK(world.reading.context() == copies->at(0).attributes);
    return copies->at(0).attributes;
  };
  CHECK(attributes(context::kBackup) == context::kBackup);
  world.reading.flags = component_flag::kBackupRecovery;
  CHECK(attributes(context::kBackup) == (context::kBackup | attribute::kAutorecover));
  const auto no = context::kBackup | attribute::kNoAutorecovery;
  CHECK(attributes(no) == no);
  const auto rollback = context::kBackup | attribute::kRollbackRecovery;
  CHECK(attributes(rollback) == rollback);
  world.reading.flags = component_flag::kAppRollbackRecovery;
  CHECK(attributes(rollback) == (rollback | attribute::kAutorecover));
  CHECK(world.umbrad.stop() == 0);
}

TEST_CASE("whether a volume has copies, and what should not run then",
          "[e2e][umbrad][vss:function.IsVolumeSnapshotted]") {
  World world;
  const auto before = requester::is_volume_snapshotted(World::volume(), world.connect());
  REQUIRE(before);
  CHECK(!before->present);
  CHECK(before->compatibility == 0);
  {
    auto session = world.prepared();
    REQUIRE(session.do_snapshot_set());
    const auto with = requester::is_volume_snapshotted(World::volume(), world.connect());
    REQUIRE(with);
    CHECK(with->present);
    CHECK(with->compatibility == snapshot_compatibility::kDisableDefrag);
    static_cast<void>(world.memory.add_volume("other"));
    CHECK(!requester::is_volume_snapshotted(World::volume("other"), world.connect())->present);
  }
  CHECK(code_of(requester::is_volume_snapshotted(World::volume("nowhere"), world.connect())) ==
        Errc::object_not_found);
  CHECK(code_of(requester::is_volume_snapshotted({}, world.connect())) == Errc::object_not_found);
  CHECK(world.umbrad.stop() == 0);
}

TEST_CASE("a writer that the configuration names blocks the revert of a volume with its files",
          "[e2e][umbrad][vss:function.ShouldBlockRevert]") {
  const auto blocks = [](const std::string& named, const std::string& path, std::uint64_t device) {
    World world(named.empty() ? "" : "[revert]\nwriters_blocking = [\"" + named + "\"]\n");
    world.reading.path = path;
    static_cast<void>(world.memory.add_volume("there", 16, device));
    const auto answer = requester::should_block_revert(World::volume("there"), world.connect());
    CHECK(code_of(requester::should_block_revert(World::volume("nowhere"), world.connect())) ==
          Errc::object_not_found);
    CHECK(world.umbrad.stop() == 0);
    REQUIRE(answer);
    return *answer;
  };
  const std::string reading = World::kClass;
  const std::string other = WriterClassId::random().to_string();
  const std::uint64_t root = device_of_path("/");
  REQUIRE(root != 0);
  CHECK(blocks(reading, "/", root));
  CHECK(!blocks(reading, "/", root + 1));
  CHECK(blocks(reading, "/", 0));  // Nobody can tell.
  CHECK(!blocks(reading, "", root));
  CHECK(!blocks(other, "/", root));
  CHECK(!blocks("", "/", root));
}

TEST_CASE("a file's volume by the place of its mount and by its id",
          "[e2e][umbrad][vss:IVssBackupComponentsEx4.GetRootAndLogicalPrefixPaths]") {
  World world;
  const std::string file = world.umbrad.run_dir();
  const auto options = world.connect();
  const auto code = [&](const std::string& path) {
    return code_of(requester::get_root_and_logical_prefix_paths(path, options));
  };
  CHECK(code("relative") == Errc::invalid_argument);
  CHECK(code(file + "/nowhere") == Errc::object_not_found);
  CHECK(code(file) == Errc::object_not_found);  // It lies on no attached volume, so far.
  const auto id = world.memory.add_volume("here", 4096, device_of_path(file));
  const auto found = requester::get_root_and_logical_prefix_paths(file, options);
  REQUIRE(found);
  CHECK(found->logical_prefix == id.to_string());
  CHECK(found->root_path.ends_with('/'));
  CHECK((file + "/").starts_with(found->root_path));
  const auto named = requester::resolve_volume(found->logical_prefix);
  REQUIRE(named);
  CHECK(named->id == id);
  CHECK(world.umbrad.stop() == 0);
}

TEST_CASE("import needs the document of a transportable set, break one that was imported",
          "[e2e][umbrad][vss:VSS_E_NONTRANSPORTABLE_BCD]"
          "[vss:IVssBackupComponents.InitializeForBackup]"
          "[vss:IVssBackupComponents.ImportSnapshots][vss:IVssBackupComponents.BreakSnapshotSet]"
          "[vss:IVssBackupComponentsEx2.BreakSnapshotSetEx]"
          "[vss:IVssBackupComponentsEx2.PreFastRecovery]"
          "[vss:IVssBackupComponentsEx2.FastRecovery]") {
  World world;
  std::string document;
  SnapshotSetId set;
  {
    auto session = world.prepared(context::kAppRollback);
    REQUIRE(session.do_snapshot_set());
    set = (*session.backup_components()).set_id;
    document = *session.save_as_xml();
  }
  auto none = world.begun();
  CHECK(code_of(none.import_snapshots()) == Errc::bad_state);
  auto wrong = world.open();
  CHECK(code_of(wrong.initialize_for_backup("<nonsense/>")) == Errc::invalid_xml_document);
  CHECK(wrong.state() == requester::SessionState::created);
  REQUIRE(wrong.initialize_for_backup(document));
  CHECK(wrong.backup_components()->set_id == set);
  CHECK(code_of(wrong.import_snapshots()) == Errc::nontransportable_bcd);
  auto handle = wrong.start_import_snapshots();
  REQUIRE(handle);
  CHECK(handle->wait()->code == Errc::nontransportable_bcd);

  CHECK(code_of(none.break_snapshot_set(set)) == Errc::provider_veto);
  CHECK(code_of(none.break_snapshot_set(SnapshotSetId::random())) == Errc::object_not_found);
  using namespace break_flag;
  for (const auto flags : {kMaskLuns | kMakeReadWrite, kMaskLuns | kRevertIdentityNone,
                           kRevertIdentityAll | kRevertIdentityNone, 0x10U})
    CHECK(code_of(none.break_snapshot_set(set, flags)) == Errc::invalid_argument);
  for (const auto flags : {kMaskLuns, kMakeReadWrite | kRevertIdentityAll, kRevertIdentityNone})
    CHECK(code_of(none.break_snapshot_set(set, flags)) == Errc::provider_veto);
  CHECK(world.memory.query_snapshots(false)->size() == 1);
  CHECK(code_of(none.pre_fast_recovery(set)) == Errc::not_implemented);
  CHECK(code_of(none.fast_recovery(set)) == Errc::not_implemented);
  CHECK(world.umbrad.stop() == 0);
}

TEST_CASE("LUNs are copied back by providers that can, from copies that exist",
          "[e2e][umbrad][vss:VSS_E_LEGACY_PROVIDER]"
          "[vss:IVssBackupComponentsEx3.AddSnapshotToRecoverySet]"
          "[vss:IVssBackupComponentsEx3.RecoverSet]") {
  World world;
  BackupComponentsDocument document;
  SnapshotId copy;
  {
    auto session = world.prepared(context::kAppRollback);
    REQUIRE(session.do_snapshot_set());
    document = *session.backup_components();
    copy = session.list_snapshots()->snapshots.at(0).snapshot_id;
  }
  auto opened = requester::RestoreSession::connect(world.connect());
  REQUIRE(opened);
  CHECK(code_of(opened->add_snapshot_to_recovery_set(copy)) == Errc::bad_state);
  REQUIRE(opened->initialize_for_restore(document));
  CHECK(code_of(opened->add_snapshot_to_recovery_set({})) == Errc::invalid_argument);
  CHECK(code_of(opened->add_snapshot_to_recovery_set(copy, 1)) == Errc::invalid_argument);
  CHECK(code_of(opened->add_snapshot_to_recovery_set(SnapshotId::random())) ==
        Errc::object_not_found);
  CHECK(code_of(opened->add_snapshot_to_recovery_set(copy)) == Errc::legacy_provider);
  CHECK(code_of(opened->recover_set(0x1)) == Errc::invalid_argument);
  CHECK(code_of(opened->recover_set(recovery_option::kNoVolumeCheck)) == Errc::bad_state);
  CHECK(world.umbrad.stop() == 0);
}

TEST_CASE("a whole backup with handles", "[e2e][umbrad][vss:IVssAsync.Wait]") {
  World world;
  auto session = world.begun();
  REQUIRE(session.set_backup_state({}));
  const auto ended = [](Result<requester::AsyncOperation> operation) {
    REQUIRE(operation);
    const auto status = operation->wait(kSoon);
    REQUIRE(status);
    return status->code;
  };
  CHECK(ended(session.start_gather_writer_metadata()) == Errc::async_finished);
  REQUIRE(session.add_component(world.component("data")));
  REQUIRE(session.start_snapshot_set());
  REQUIRE(session.add_to_snapshot_set(World::volume()));
  CHECK(ended(session.start_prepare_for_backup()) == Errc::async_finished);
  CHECK(ended(session.start_do_snapshot_set()) == Errc::async_finished);
  CHECK(session.last_report().timeline.size() == 11);
  CHECK(ended(session.start_gather_writer_status()) == Errc::async_finished);
  CHECK(session.writer_status()->at(0).state == WriterState::waiting_for_backup_complete);
  CHECK(code_of(session.backup_complete()) == Errc::bad_state);
  REQUIRE(session.set_backup_succeeded(world.component("data"), true));
  world.reading.fails_at_complete = true;
  CHECK(ended(session.start_backup_complete()) == Errc::unexpected_writer_error);
  CHECK(session.state() == requester::SessionState::completed);
  CHECK(session.gather_writer_status()->at(0).failure == Errc::writererror_nonretryable);
  CHECK(world.umbrad.stop() == 0);
}

TEST_CASE("a creation is cancelled by its handle, also by letting go of it",
          "[e2e][umbrad][vss:IVssAsync.Cancel]") {
  World world;
  for (const bool let_go : {false, true}) {
    INFO("let go: " << let_go);
    world.memory.block("end_prepare_snapshots");
    auto session = world.prepared();
    auto creation = session.start_do_snapshot_set();
    REQUIRE(creation);
    REQUIRE(world.memory.wait_blocked("end_prepare_snapshots", kSoon));
    CHECK(creation->query_status()->code == Errc::async_pending);
    // What needs no document is answered meanwhile; what would disturb it names it.
    CHECK(session.writer_metadata());
    CHECK(session.is_volume_supported(World::volume()) == true);
    const auto early = session.gather_writer_status();
    REQUIRE(!early);
    CHECK(early.error().code == Errc::bad_state);
    CHECK_THAT(early.error().context, Catch::Contains("do_snapshot_set has not ended"));
    if (let_go) {
      const requester::AsyncOperation gone = std::move(*creation);
    } else {
      CHECK(creation->cancel() == Errc::ok);
      CHECK(creation->wait(kSoon)->code == Errc::async_cancelled);
      CHECK(session.state() == requester::SessionState::failed);
    }
    world.memory.unblock("end_prepare_snapshots");
    // The slot is free for the next, and nothing is left behind.
    auto next = world.begun(context::kFileShareBackup);
    CHECK(next.start_snapshot_set(kSoon));
    CHECK(world.memory.query_snapshots(true)->empty());
  }
  CHECK(world.umbrad.stop() == 0);
}

TEST_CASE("without umbrad no writer can be gathered, and the code says who is gone",
          "[e2e][umbrad][vss:VSS_E_WRITER_INFRASTRUCTURE]") {
  World world;
  auto idle = world.begun();
  auto asking = world.begun();
  REQUIRE(asking.set_backup_state({}));
  REQUIRE(asking.gather_writer_metadata());
  world.umbrad.kill();
  CHECK(code_of(idle.set_backup_state({})) == Errc::coordinator_lost);
  CHECK(code_of(asking.gather_writer_status()) == Errc::coordinator_lost);
  CHECK(code_of(asking.gather_writer_metadata()) == Errc::coordinator_lost);
  CHECK(code_of(BackupSession::connect(world.connect())) == Errc::coordinator_lost);
}

TEST_CASE("a session that goes while its creation runs takes the set with it", "[e2e][umbrad]") {
  World world;
  world.memory.block("end_prepare_snapshots");
  std::optional<requester::AsyncOperation> creation;
  {
    auto session = world.prepared(context::kAppRollback);
    auto started = session.start_do_snapshot_set();
    REQUIRE(started);
    creation.emplace(std::move(*started));
    REQUIRE(world.memory.wait_blocked("end_prepare_snapshots", kSoon));
  }
  CHECK(creation->query_status().error().code == Errc::coordinator_lost);
  auto next = world.begun(context::kFileShareBackup);
  CHECK(next.start_snapshot_set(kSoon));
  world.memory.unblock("end_prepare_snapshots");
  CHECK(world.memory.query_snapshots(false)->empty());
  CHECK(world.umbrad.stop() == 0);
}

}  // namespace
