// SPDX-License-Identifier: Apache-2.0
//
// What one side says in a session, as the other side hears it: everything that a requester and a
// writer can tell each other in a backup and in a restore goes through both real SDKs and umbrad as
// a process, and arrives. And who is told at all: by mode, by selection, by session.

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/documents/xml.h"
#include "engine/platform/log.h"
#include "engine/rpc/provider_server.h"
#include "tests/support/catch.h"
#include "tests/support/memory_provider.h"
#include "tests/support/wire_client.h"
#include "umbra/requester/backup_session.h"
#include "umbra/requester/restore_session.h"
#include "umbra/writer/writer.h"

namespace {

using namespace umbra;
using namespace umbra::test;

constexpr const char* kShortLimits = R"(
[limits]
backup_complete = 1500
post_restore = 1500
)";

const WriterClassId kOther = WriterClassId::random();
const writer::ComponentName kDb{"accounts", "db"};

FileSet file_set(const std::string& path, const std::string& pattern, std::uint32_t mask) {
  FileSet files;
  files.path = path;
  files.pattern = pattern;
  files.backup_type_mask = mask;
  return files;
}

// A writer's metadata with every part that there is.
Status describe(writer::MetadataBuilder& metadata) {
  metadata.set_backup_schema(0xFFFF & ~0x880U);
  RestoreRules rules;
  rules.method = RestoreMethod::stop_restore_start;
  rules.service = "ledger.service";
  rules.writer_restore = WriterRestore::always;
  rules.reboot_required = true;
  rules.alternate_locations = {{"/srv/db", "ledger.db", false, "/spare"}};
  if (auto status = metadata.set_restore_rules(rules); !status) return status;
  ComponentInfo db;
  db.type = ComponentType::database;
  db.logical_path = kDb.logical_path;
  db.name = kDb.name;
  db.caption = "The ledger";
  db.notify_on_backup_complete = true;
  db.selectable_for_restore = true;
  db.flags = component_flag::kBackupRecovery;
  db.files = {file_set("/srv/db", "ledger.db", file_spec::kDefault)};
  db.log_files = {file_set("/srv/log", "*.wal", file_spec::kLogBackup)};
  db.dependencies = {{kOther, "web\\site", "pages"}};
  if (auto status = metadata.add_component(db); !status) return status;
  ComponentInfo group;
  group.name = "config";
  group.files = {file_set("/etc/ledger", "*", file_spec::kFullBackup)};
  group.files[0].recursive = true;
  group.files[0].alternate_path = "/var/spool/ledger";
  if (auto status = metadata.add_component(group); !status) return status;
  if (auto status = metadata.add_exclude_files(file_set("/srv/db", "*.tmp", file_spec::kDefault));
      !status)
    return status;
  return metadata.add_exclude_files_from_snapshot(file_set("/srv/cache", "*", file_spec::kDefault));
}

/// Does in each event what the test says, and keeps what it threw away.
class Told final : public writer::Writer {
 public:
  using Act = std::function<Status(writer::Context&)>;

  Status on_identify(writer::MetadataBuilder& metadata) override { return describe(metadata); }
  Status on_prepare_for_backup(writer::Context& context) override { return act(prepare, context); }
  Status on_prepare_for_snapshot(writer::Context&) override { return {}; }
  Status on_freeze(writer::Context&) override { return {}; }
  void on_thaw(writer::Context&) noexcept override {}
  Status on_post_snapshot(writer::Context& context) override { return act(post, context); }
  void on_abort(writer::Context&) noexcept override {}
  Status on_backup_complete(writer::Context& context) override { return act(complete, context); }
  Status on_pre_restore(writer::Context& context) override { return act(before, context); }
  Status on_post_restore(writer::Context& context) override { return act(after, context); }

  Act prepare, post, complete, before, after;

 private:
  static Status act(const Act& what, writer::Context& context) {
    return what ? what(context) : Status{};
  }
};

// What a Context said, to be checked by the test's own thread.
struct Heard {
  explicit Heard(const writer::Context& context)
      : session(context.session_id()),
        set(context.snapshot_set_id()),
        context_bits(context.snapshot_context()),
        type(context.backup_type()),
        restore_type(context.restore_type()),
        component_mode(context.component_mode()),
        bootable(context.bootable_system_state()),
        partial(context.partial_file_support()),
        volumes(context.volumes()) {
    if (context.components() != nullptr) part = *context.components();
  }
  SessionId session;
  SnapshotSetId set;
  std::uint32_t context_bits;
  BackupType type;
  RestoreType restore_type;
  bool component_mode, bootable, partial;
  std::vector<writer::AffectedVolume> volumes;
  std::optional<WriterComponents> part;
  std::string device;
};

// Two volumes, one writer.
struct World {
  World() {
    memory.add_volume("data");
    memory.add_volume("more");
    rpc::ProviderServerOptions options;
    options.socket_path = umbrad.socket();
    server = std::make_unique<rpc::ProviderServer>(
        memory, std::map<std::string, rpc::ProviderMethod>{}, options, null_log());
    REQUIRE(server->wait_until_registered(kSoon));
  }
  void start(Told& told) {
    writer::Options registration;
    registration.class_id = class_id;
    registration.name = "ledger";
    registration.instance_name = "main";
    registration.version_major = 7;
    registration.version_minor = 9;
    registration.usage = UsageType::system_service;
    registration.source = SourceType::transacted_db;
    registration.socket_path = umbrad.socket();
    auto connected = writer::Session::connect(told, registration);
    REQUIRE(connected);
    session.emplace(std::move(*connected));
  }
  [[nodiscard]] requester::ConnectOptions address() const {
    requester::ConnectOptions options;
    options.socket_path = umbrad.socket();
    return options;
  }
  [[nodiscard]] requester::ComponentRef db() const {
    return {{}, class_id, ComponentType::database, kDb.logical_path, kDb.name};
  }

  Umbrad umbrad{kShortLimits};
  MemoryProvider memory{system_clock()};
  std::unique_ptr<rpc::ProviderServer> server;
  const WriterClassId class_id = WriterClassId::random();
  std::optional<writer::Session> session;
};

VolumeRef named(const std::string& name) {
  VolumeRef volume;
  volume.name = name;
  return volume;
}

const WriterComponents& part_of(const BackupComponentsDocument& document, const World& world) {
  for (const auto& part : document.writers)
    if (part.class_id == world.class_id) return part;
  FAIL("the writer has no part");
  return document.writers.front();
}

TEST_CASE("a requester reads what a writer declares, all of it",
          "[e2e][umbrad]"
          "[vss:IVssBackupComponents.GatherWriterMetadata]"
          "[vss:IVssBackupComponents.GetWriterMetadata]"
          "[vss:IVssBackupComponentsEx.GetWriterMetadataEx]"
          "[vss:IVssExamineWriterMetadata.GetIdentity]"
          "[vss:IVssExamineWriterMetadata.GetComponent]"
          "[vss:IVssExamineWriterMetadata.GetRestoreMethod]"
          "[vss:IVssExamineWriterMetadata.GetAlternateLocationMapping]"
          "[vss:IVssExamineWriterMetadata.GetExcludeFile]"
          "[vss:IVssExamineWriterMetadata.GetBackupSchema]"
          "[vss:IVssExamineWriterMetadata.SaveAsXML]"
          "[vss:IVssExamineWriterMetadataEx.GetIdentityEx]"
          "[vss:IVssExamineWriterMetadataEx2.GetVersion]"
          "[vss:IVssExamineWriterMetadataEx2.GetExcludeFromSnapshotFile]"
          "[vss:IVssWMComponent.GetComponentInfo][vss:IVssWMComponent.GetFile]"
          "[vss:IVssWMComponent.GetDatabaseFile][vss:IVssWMComponent.GetDatabaseLogFile]"
          "[vss:IVssWMComponent.GetDependency][vss:IVssCreateWriterMetadata.AddExcludeFiles]"
          "[vss:IVssCreateWriterMetadata.AddComponent]"
          "[vss:IVssCreateWriterMetadata.AddDatabaseFiles]"
          "[vss:IVssCreateWriterMetadata.AddDatabaseLogFiles]"
          "[vss:IVssCreateWriterMetadata.AddFilesToFileGroup]"
          "[vss:IVssCreateWriterMetadata.SetRestoreMethod]"
          "[vss:IVssCreateWriterMetadata.AddAlternateLocationMapping]"
          "[vss:IVssCreateWriterMetadata.AddComponentDependency]"
          "[vss:IVssCreateWriterMetadata.SetBackupSchema]"
          "[vss:IVssCreateWriterMetadataEx.AddExcludeFilesFromSnapshot]"
          "[vss:CVssWriter.Initialize][vss:CVssWriterEx.InitializeEx]") {
  Told told;
  World world;
  world.start(told);
  auto session = requester::BackupSession::connect(world.address());
  REQUIRE(session);
  REQUIRE(session->initialize_for_backup());
  REQUIRE(session->gather_writer_metadata());
  const auto list = session->writer_metadata();
  REQUIRE(list);
  REQUIRE(list->size() == 1);
  const auto& seen = list->front();
  CHECK(seen.class_id == world.class_id);
  CHECK(seen.instance_id == world.session->instance_id());
  WriterMetadataDocument expected;
  writer::MetadataBuilder builder(expected);
  REQUIRE(describe(builder));
  expected.identity = {world.class_id,
                       world.session->instance_id(),
                       "ledger",
                       "main",
                       UsageType::system_service,
                       SourceType::transacted_db,
                       7,
                       9};
  CHECK(seen.document.identity == expected.identity);
  CHECK(seen.document.restore == expected.restore);
  CHECK(seen.document.components == expected.components);
  CHECK(seen.document.excludes == expected.excludes);
  CHECK(seen.document.excludes_from_snapshot == expected.excludes_from_snapshot);
  CHECK(seen.document.backup_schema == expected.backup_schema);
  CHECK(documents::parse_writer_metadata(seen.xml) == seen.document);
  CHECK(world.umbrad.stop() == 0);
}

TEST_CASE("in a backup each side hears what the other one says",
          "[e2e][umbrad]"
          "[vss:IVssBackupComponents.InitializeForBackup]"
          "[vss:IVssBackupComponents.SetBackupState][vss:IVssBackupComponents.AddComponent]"
          "[vss:IVssBackupComponents.SetBackupSucceeded]"
          "[vss:IVssBackupComponents.BackupComplete]"
          "[vss:IVssBackupComponents.GatherWriterStatus]"
          "[vss:IVssBackupComponents.GetWriterStatus]"
          "[vss:IVssBackupComponents.GetWriterStatusCount]"
          "[vss:IVssBackupComponents.GetWriterComponents]"
          "[vss:IVssBackupComponents.GetWriterComponentsCount]"
          "[vss:IVssBackupComponents.SaveAsXML][vss:IVssBackupComponentsEx3.GetSessionId]"
          "[vss:IVssBackupComponentsEx3.GetWriterStatusEx][vss:CVssWriterEx2.GetSessionId]"
          "[vss:CVssWriterEx2.SetWriterFailureEx][vss:VSS_E_WRITERERROR_PARTIAL_FAILURE]"
          "[vss:CVssWriter.AreComponentsSelected][vss:CVssWriter.GetBackupType]"
          "[vss:CVssWriter.GetContext][vss:CVssWriter.GetCurrentSnapshotSetId]"
          "[vss:CVssWriter.GetCurrentVolumeCount][vss:CVssWriter.GetCurrentVolumeArray]"
          "[vss:CVssWriter.GetSnapshotDeviceName][vss:CVssWriter.IsBootableSystemStateBackedUp]"
          "[vss:CVssWriter.IsPartialFileSupportEnabled][vss:CVssWriter.OnBackupComplete]"
          "[vss:IVssWriterComponents.GetComponentCount][vss:IVssWriterComponents.GetWriterInfo]"
          "[vss:IVssWriterComponents.GetComponent][vss:IVssWriterComponentsExt.GetWriterInfo]"
          "[vss:IVssWriterComponentsExt.GetComponent][vss:IVssComponent.GetLogicalPath]"
          "[vss:IVssComponent.GetComponentType][vss:IVssComponent.GetComponentName]"
          "[vss:IVssComponent.GetBackupSucceeded][vss:IVssComponent.SetBackupMetadata]"
          "[vss:IVssComponent.GetBackupMetadata][vss:IVssComponent.AddPartialFile]"
          "[vss:IVssComponent.GetPartialFile][vss:IVssComponent.SetBackupStamp]"
          "[vss:IVssComponent.GetBackupStamp]"
          "[vss:IVssComponent.AddDifferencedFilesByLastModifyTime]"
          "[vss:IVssComponent.GetDifferencedFile]"
          "[vss:IVssComponentEx.SetPrepareForBackupFailureMsg]"
          "[vss:IVssComponentEx.GetPrepareForBackupFailureMsg]"
          "[vss:IVssComponentEx.SetPostSnapshotFailureMsg]"
          "[vss:IVssComponentEx.GetPostSnapshotFailureMsg][vss:IVssComponentEx2.SetFailure]"
          "[vss:IVssComponentEx2.GetFailure]") {
  std::optional<Heard> at_prepare, at_post, at_complete;
  Told told;
  told.prepare = [&](writer::Context& context) -> Status {
    at_prepare.emplace(context);
    if (auto status = context.set_backup_metadata(kDb, "where the log begins"); !status)
      return status;
    return context.set_failure_message(kDb, "before");
  };
  told.post = [&](writer::Context& context) -> Status {
    at_post.emplace(context);
    at_post->device = context.snapshot_device("data").value_or("none");
    for (const auto& status :
         {context.set_backup_stamp(kDb, "stamp 7"), context.set_failure_message(kDb, "after"),
          context.add_partial_file(kDb, {"/srv/db", "ledger.db", "0:512", "why"}),
          context.add_differenced_file(kDb, {"/srv/log", "*.wal", true, 133'000'000'000'000'001}),
          context.set_component_failure(kDb, {Errc::writererror_retryable, 5, "one table"})})
      if (!status) return status;
    context.report_failure({Errc::writererror_partial_failure, 77, "some of it"});
    return {};
  };
  told.complete = [&](writer::Context& context) -> Status {
    at_complete.emplace(context);
    return {};
  };
  World world;
  world.start(told);
  auto session = requester::BackupSession::connect(world.address());
  REQUIRE(session);
  const auto id = session->initialize_for_backup();
  REQUIRE(id);
  REQUIRE(session->set_context(context::kAppRollback));
  REQUIRE(session->set_backup_state({.component_mode = true,
                                     .bootable_system_state = true,
                                     .backup_type = BackupType::differential,
                                     .partial_file_support = true}));
  REQUIRE(session->gather_writer_metadata());
  auto component = world.db();
  component.instance_id = world.session->instance_id();
  REQUIRE(session->add_component(component));
  const auto set = session->start_snapshot_set();
  REQUIRE(set);
  REQUIRE(session->add_to_snapshot_set(named("data")));
  REQUIRE(session->add_to_snapshot_set(named("more")));
  REQUIRE(session->prepare_for_backup());
  REQUIRE(session->do_snapshot_set({}));

  REQUIRE(at_prepare);
  CHECK(at_prepare->session == *id);
  CHECK(at_prepare->type == BackupType::differential);
  CHECK(at_prepare->component_mode);
  CHECK(at_prepare->bootable);
  CHECK(at_prepare->partial);
  REQUIRE(at_prepare->part);
  REQUIRE(at_prepare->part->components.size() == 1);
  CHECK(at_prepare->part->class_id == world.class_id);
  CHECK(at_prepare->part->instance_id == world.session->instance_id());
  CHECK(at_prepare->part->components[0].logical_path == "accounts");
  CHECK(at_prepare->part->components[0].name == "db");
  CHECK(at_prepare->part->components[0].type == ComponentType::database);
  REQUIRE(at_post);
  CHECK(at_post->set == *set);
  CHECK((at_post->context_bits & context::kMask) == context::kAppRollback);
  REQUIRE(at_post->volumes.size() == 2);
  CHECK(at_post->volumes[0].name == "data");
  CHECK(at_post->device.find("/memory/") == 0);

  const auto document = session->backup_components();
  REQUIRE(document);
  CHECK(document->set_id == *set);
  CHECK(document->backup_type == BackupType::differential);
  const auto& noted = part_of(*document, world).components.at(0);
  CHECK(noted.backup_metadata == "where the log begins");
  CHECK(noted.backup_stamp == "stamp 7");
  CHECK(noted.prepare_for_backup_failure == "before");
  CHECK(noted.post_snapshot_failure == "after");
  CHECK(noted.partial_files == std::vector<PartialFile>{{"/srv/db", "ledger.db", "0:512", "why"}});
  CHECK(noted.differenced_files ==
        std::vector<DifferencedFile>{{"/srv/log", "*.wal", true, 133'000'000'000'000'001}});
  CHECK(noted.failure == ComponentFailure{Errc::writererror_retryable, 5, "one table"});
  const auto status = session->gather_writer_status();
  REQUIRE(status);
  REQUIRE(status->size() == 1);
  CHECK(status->front().failure == Errc::writererror_partial_failure);
  CHECK(status->front().application_code == 77);
  CHECK(status->front().message == "some of it");

  REQUIRE(session->set_backup_succeeded(component, true));
  REQUIRE(session->backup_complete());
  REQUIRE(at_complete);
  REQUIRE(at_complete->part);
  CHECK(at_complete->part->components.at(0).succeeded == true);
  const auto xml = session->save_as_xml();
  REQUIRE(xml);
  const auto kept = documents::parse_backup_components(*xml);
  REQUIRE(kept);
  CHECK(part_of(*kept, world).components.at(0).backup_stamp == "stamp 7");
  CHECK(world.umbrad.stop() == 0);
}

// A document as a backup leaves it.
BackupComponentsDocument kept_document(const World& world) {
  BackupComponentsDocument document;
  document.backup_type = BackupType::log;
  auto& part = document.writers.emplace_back();
  part.instance_id = WriterInstanceId::random();
  part.class_id = world.class_id;
  part.instance_name = "main";
  auto& component = part.components.emplace_back();
  component.type = ComponentType::database;
  component.logical_path = kDb.logical_path;
  component.name = kDb.name;
  component.backup_metadata = "where the log begins";
  component.backup_stamp = "stamp 7";
  component.previous_backup_stamp = "stamp 6";
  component.backup_options = "gently";
  component.partial_files = {{"/srv/db", "ledger.db", "File=/srv/ranges", ""}};
  return document;
}

TEST_CASE("in a restore each side hears what the other one says",
          "[e2e][umbrad]"
          "[vss:IVssBackupComponents.InitializeForRestore]"
          "[vss:IVssBackupComponents.SetRestoreState]"
          "[vss:IVssBackupComponents.SetSelectedForRestore]"
          "[vss:IVssBackupComponents.AddRestoreSubcomponent]"
          "[vss:IVssBackupComponents.SetRestoreOptions][vss:IVssBackupComponents.AddNewTarget]"
          "[vss:IVssBackupComponents.SetAdditionalRestores]"
          "[vss:IVssBackupComponents.PreRestore][vss:IVssBackupComponents.SetRangesFilePath]"
          "[vss:IVssBackupComponents.AddAlternativeLocationMapping]"
          "[vss:IVssBackupComponents.SetFileRestoreStatus]"
          "[vss:IVssBackupComponents.PostRestore][vss:IVssBackupComponents.GetWriterComponents]"
          "[vss:IVssBackupComponentsEx2.SetAuthoritativeRestore]"
          "[vss:IVssBackupComponentsEx2.SetRollForward]"
          "[vss:IVssBackupComponentsEx2.SetRestoreName]"
          "[vss:IVssBackupComponentsEx3.GetSessionId][vss:CVssWriter.GetRestoreType]"
          "[vss:CVssWriter.OnPreRestore][vss:CVssWriter.OnPostRestore]"
          "[vss:CVssWriterEx2.GetSessionId][vss:IVssComponent.IsSelectedForRestore]"
          "[vss:IVssComponent.GetBackupMetadata][vss:IVssComponent.GetBackupStamp]"
          "[vss:IVssComponent.GetPreviousBackupStamp][vss:IVssComponent.GetBackupOptions]"
          "[vss:IVssComponent.GetRestoreSubcomponent][vss:IVssComponent.GetRestoreOptions]"
          "[vss:IVssComponent.GetNewTarget][vss:IVssComponent.GetAdditionalRestores]"
          "[vss:IVssComponent.SetRestoreTarget][vss:IVssComponent.GetRestoreTarget]"
          "[vss:IVssComponent.AddDirectedTarget][vss:IVssComponent.GetDirectedTarget]"
          "[vss:IVssComponent.SetRestoreMetadata][vss:IVssComponent.GetRestoreMetadata]"
          "[vss:IVssComponent.SetPreRestoreFailureMsg]"
          "[vss:IVssComponent.GetPreRestoreFailureMsg]"
          "[vss:IVssComponent.SetPostRestoreFailureMsg]"
          "[vss:IVssComponent.GetPostRestoreFailureMsg][vss:IVssComponent.GetFileRestoreStatus]"
          "[vss:IVssComponent.GetAlternateLocationMapping][vss:IVssComponent.GetPartialFile]"
          "[vss:IVssComponentEx.GetAuthoritativeRestore][vss:IVssComponentEx.GetRollForward]"
          "[vss:IVssComponentEx.GetRestoreName][vss:rule.additional-restores]") {
  std::optional<Heard> at_before, at_after;
  Told told;
  told.before = [&](writer::Context& context) -> Status {
    at_before.emplace(context);
    for (const auto& status :
         {context.set_restore_target(kDb, RestoreTarget::directed),
          context.add_directed_target(kDb, {"/srv/db", "ledger.db", "0:5", "/b", "g", "7:5"}),
          context.set_restore_metadata(kDb, "taken offline"),
          context.set_failure_message(kDb, "before")})
      if (!status) return status;
    return {};
  };
  told.after = [&](writer::Context& context) -> Status {
    at_after.emplace(context);
    return context.set_failure_message(kDb, "after");
  };
  World world;
  world.start(told);
  auto session = requester::RestoreSession::connect(world.address());
  REQUIRE(session);
  const auto id = session->initialize_for_restore(kept_document(world));
  REQUIRE(id);
  REQUIRE(session->set_restore_state(RestoreType::other));
  REQUIRE(session->gather_writer_metadata());
  const auto db = world.db();
  REQUIRE(session->set_selected_for_restore(db));
  REQUIRE(session->add_restore_subcomponent(db, {"accounts\\db", "january"}));
  REQUIRE(session->set_restore_options(db, "Item:x"));
  REQUIRE(session->set_authoritative_restore(db, true));
  REQUIRE(session->set_roll_forward(db, {RollForwardType::partial, "noon"}));
  REQUIRE(session->set_restore_name(db, "copy of db"));
  REQUIRE(session->add_new_target(db, {"/srv/db", "ledger.db", false, "/new"}));
  REQUIRE(session->set_additional_restores(db, true));
  REQUIRE(session->pre_restore());
  REQUIRE(at_before);
  CHECK(at_before->session == *id);
  CHECK(at_before->restore_type == RestoreType::other);
  REQUIRE(at_before->part);
  const auto asked = at_before->part->components.at(0);
  CHECK(asked.selected_for_restore);
  CHECK(asked.backup_metadata == "where the log begins");
  CHECK(asked.backup_stamp == "stamp 7");
  CHECK(asked.previous_backup_stamp == "stamp 6");
  CHECK(asked.backup_options == "gently");
  CHECK(asked.restore_subcomponents ==
        std::vector<RestoreSubcomponent>{{"accounts\\db", "january"}});
  CHECK(asked.restore_options == "Item:x");
  CHECK(asked.authoritative_restore);
  CHECK(asked.roll_forward == RollForward{RollForwardType::partial, "noon"});
  CHECK(asked.restore_name == "copy of db");
  CHECK(asked.new_targets ==
        std::vector<AlternateLocation>{{"/srv/db", "ledger.db", false, "/new"}});
  CHECK(asked.additional_restores);

  const auto between = session->backup_components();
  REQUIRE(between);
  const auto& wanted = part_of(*between, world).components.at(0);
  CHECK(wanted.restore_target == RestoreTarget::directed);
  CHECK(wanted.directed_targets ==
        std::vector<DirectedTarget>{{"/srv/db", "ledger.db", "0:5", "/b", "g", "7:5"}});
  CHECK(wanted.restore_metadata == "taken offline");
  CHECK(wanted.pre_restore_failure == "before");

  REQUIRE(session->set_ranges_file_path(db, 0, "/else/ranges"));
  REQUIRE(session->add_alternative_location_mapping(db, {"/srv/db", "ledger.db", false, "/spare"}));
  REQUIRE(session->set_file_restore_status(db, FileRestoreStatus::all));
  REQUIRE(session->post_restore());
  REQUIRE(at_after);
  REQUIRE(at_after->part);
  const auto& done = at_after->part->components.at(0);
  CHECK(done.file_restore_status == FileRestoreStatus::all);
  CHECK(done.restore_metadata == "taken offline");
  CHECK(done.partial_files.at(0).ranges == "File=/else/ranges");
  CHECK(done.alternate_locations ==
        std::vector<AlternateLocation>{{"/srv/db", "ledger.db", false, "/spare"}});
  const auto ended = session->backup_components();
  REQUIRE(ended);
  CHECK(part_of(*ended, world).components.at(0).post_restore_failure == "after");
  CHECK(world.umbrad.stop() == 0);
}

// --- who is told
// ----------------------------------------------------------------------------------

using Names = std::vector<std::string>;

// The steps of a backup that change nothing between these cases.
void begin_on(Requester& requester, const std::string& volume, bool component_mode) {
  requester.begin();
  rpc::SetBackupState state;
  state.component_mode = component_mode;
  REQUIRE(requester.client.call<rpc::Nothing>("session.set_backup_state", state));
  requester.gather();
  if (volume.empty()) return;
  requester.start_set();
  REQUIRE(requester.add(volume));
}

TEST_CASE("in component mode only writers with a component take part, in volume mode all",
          "[e2e][umbrad]"
          "[vss:rule.component-mode-participation][vss:rule.volume-mode-participation]"
          "[vss:CVssWriter.AreComponentsSelected]") {
  World world;
  FakeWriter chosen(world.umbrad.socket(), {.name = "chosen"});
  FakeWriter other(world.umbrad.socket(), {.name = "other"});
  {
    Requester requester(world.umbrad);
    begin_on(requester, {}, true);
    requester.select(chosen);
    requester.start_set();
    REQUIRE(requester.add("data"));
    requester.run("session.prepare_for_backup");
    CHECK(requester.create().status == Errc::async_finished);
    CHECK(requester.run("session.backup_complete").status == Errc::async_finished);
  }
  CHECK(chosen.saw("backup_shutdown"));
  CHECK(other.events() == Names{"identify"});
  Requester volumes(world.umbrad);
  begin_on(volumes, "data", false);
  volumes.run("session.prepare_for_backup");
  CHECK(volumes.create().status == Errc::async_finished);
  CHECK(other.saw("post_snapshot"));
  CHECK(other.params("post_snapshot").components.empty());
  CHECK_FALSE(other.params("post_snapshot").component_mode);
  CHECK(chosen.saw("post_snapshot", 2));
  CHECK(world.umbrad.stop() == 0);
}

TEST_CASE("sessions whose sets are made go on side by side",
          "[e2e][umbrad]"
          "[vss:rule.sessions-past-creation-coexist]") {
  World world;
  FakeWriter writer(world.umbrad.socket(), {});
  Requester first(world.umbrad);
  first.prepare({&writer}, "data", context::kBackup);
  REQUIRE(first.create().status == Errc::async_finished);
  Requester second(world.umbrad);
  second.prepare({&writer}, "data", context::kBackup);
  REQUIRE(second.create().status == Errc::async_finished);
  CHECK(first.status_of(writer).state == WriterState::waiting_for_backup_complete);
  CHECK(second.run("session.backup_complete").status == Errc::async_finished);
  CHECK(first.run("session.backup_complete").status == Errc::async_finished);
  CHECK(world.memory.query_snapshots(false)->size() == 2);
  CHECK(writer.saw("backup_complete", 2));
  CHECK(world.umbrad.stop() == 0);
}

TEST_CASE("a failure at BackupComplete is the call's and in the status",
          "[e2e][umbrad]"
          "[vss:VSS_E_UNEXPECTED_WRITER_ERROR][vss:VSS_WS.FAILED_AT_BACKUP_COMPLETE]"
          "[vss:limit.backup-complete][vss:IVssBackupComponents.BackupComplete]") {
  World world;
  for (const Act act : {Act::veto, Act::silence}) {
    FakeWriter writer(world.umbrad.socket(), {.name = "late", .acts = {{"backup_complete", act}}});
    Requester requester(world.umbrad);
    requester.prepare({&writer}, "data");
    REQUIRE(requester.create().status == Errc::async_finished);
    CHECK(requester.run("session.backup_complete").status == Errc::unexpected_writer_error);
    CHECK(requester.status_of(writer).state == WriterState::failed_at_backup_complete);
    CHECK(requester.status_of(writer).failure ==
          (act == Act::veto ? Errc::writererror_retryable : Errc::writererror_timeout));
  }
  CHECK(world.umbrad.stop() == 0);
}

TEST_CASE("a writer that does not answer PostRestore is not waited for",
          "[e2e][umbrad]"
          "[vss:limit.post-restore][vss:VSS_WS.FAILED_AT_POST_RESTORE]") {
  World world;
  FakeWriter mute(world.umbrad.socket(),
                  {.name = "mute", .acts = {{"post_restore", Act::silence}}});
  BackupComponentsDocument document;
  auto& part = document.writers.emplace_back();
  part.class_id = mute.class_id();
  part.components.emplace_back().name = "data";
  Requester requester(world.umbrad);
  requester.begin_restore(document);
  requester.gather();
  requester.select_for_restore(mute);
  CHECK(requester.run("session.pre_restore").status == Errc::async_finished);
  CHECK(requester.run("session.post_restore").status == Errc::async_finished);
  CHECK(requester.status_of(mute).state == WriterState::failed_at_post_restore);
  CHECK(requester.status_of(mute).failure == Errc::writererror_timeout);
  CHECK(world.umbrad.stop() == 0);
}

}  // namespace
