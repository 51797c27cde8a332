// SPDX-License-Identifier: Apache-2.0
#include "engine/documents/xml.h"

#include "engine/platform/prng.h"
#include "tests/support/catch.h"
#include "tests/support/seed.h"

namespace {

using namespace umbra;
using namespace umbra::documents;

WriterMetadataDocument full_metadata() {
  WriterMetadataDocument document;
  document.identity = {.class_id = WriterClassId::random(),
                       .instance_id = WriterInstanceId::random(),
                       .name = "Ledger & Söhne <\"1\">",
                       .instance_name = "main",
                       .usage = UsageType::user_data,
                       .source = SourceType::transacted_db,
                       .version_major = 2,
                       .version_minor = 7};
  document.backup_schema = 881;
  document.restore = RestoreRules{.method = RestoreMethod::stop_restore_start,
                                  .service = "ledger.service",
                                  .writer_restore = WriterRestore::always,
                                  .reboot_required = true,
                                  .alternate_locations = {{"/srv", "wal-????", false, "/b"}}};
  ComponentInfo database;
  database.type = ComponentType::database;
  database.logical_path = "accounts\\eu";
  database.name = "ledger";
  database.caption = "line one\nline two\ttab \x01";
  database.selectable = false;
  database.flags = component_flag::kAppRollbackRecovery;
  database.files = {{.path = "/srv/caf\xFF", .pattern = "ledger.db"}};
  database.log_files = {{.path = "/srv", .pattern = "wal-????"}};
  database.dependencies = {{WriterClassId::random(), "", "other"}};
  ComponentInfo group;
  group.name = "config";
  group.notify_on_backup_complete = true;
  group.selectable_for_restore = true;
  group.files = {{"/etc/ledger", "*", true, "/var/spool/ledger", 0x101}};
  document.components = {database, group};
  document.excludes = {{.path = "/srv", .pattern = "*.tmp", .recursive = true}};
  document.excludes_from_snapshot = {{.path = "/srv/cache"}};
  return document;
}

TransportedSnapshot transported(const std::string& volume) {
  TransportedSnapshot snapshot;
  snapshot.snapshot_id = SnapshotId::random();
  snapshot.set_id = SnapshotSetId::random();
  snapshot.provider_id = ProviderId::random();
  snapshot.volume_id = VolumeId::random();
  snapshot.volume_name = volume;
  snapshot.originating_machine = "archive";
  snapshot.snapshots_count = 2;
  snapshot.attributes = context::kNasRollback | attribute::kTransportable;
  snapshot.creation_filetime = 133'500'000'000'000'000;
  LunInformation lun{.vendor = "VENDOR",
                     .product = "array <1>",
                     .revision = "7",
                     .serial = "S1",
                     .size_bytes = 1ULL << 60U,
                     .identifiers = {{LunIdentifierType::relative_port, "1", {}},
                                     {LunIdentifierType::naa, "600508b1001c", {}}},
                     .device_path = "/dev/caf\xFF"};
  LunInformation copy = lun;
  copy.identifiers = {{LunIdentifierType::uuid, "6ba7b810", {}}};
  snapshot.luns = {{lun, copy, {}}};
  return snapshot;
}

BackupComponentsDocument full_components() {
  BackupComponentsDocument document;
  document.component_mode = false;
  document.bootable_system_state = true;
  document.partial_file_support = true;
  document.backup_type = BackupType::log;
  document.restore_type = RestoreType::by_copy;
  document.set_id = SnapshotSetId::random();
  document.snapshots = {transported("data"), transported("logs")};
  WriterComponents part{WriterInstanceId::random(), WriterClassId::random(), "main", 3, {}};
  BackupComponent component;
  component.logical_path = "a\\b";
  component.name = "c";
  component.succeeded = false;
  component.previous_backup_stamp = "";
  component.backup_options = "x=y";
  component.backup_metadata = std::string("\0\x01binary\xFF", 9);
  component.backup_stamp = "stamp";
  component.prepare_for_backup_failure = "p";
  component.post_snapshot_failure = "q";
  component.failure = ComponentFailure{Errc::writererror_retryable, 0xFFFF'FFFFU, "m"};
  component.partial_files = {{"/a", "f", "0:512", ""}};
  component.differenced_files = {{"/a", "*", true, 133'000'000'000'000'001}};
  component.selected_for_restore = true;
  component.additional_restores = true;
  component.authoritative_restore = true;
  component.restore_options = "";
  component.roll_forward = RollForward{RollForwardType::partial, "lsn 7"};
  component.restore_name = "other";
  component.restore_subcomponents = {{"a\\b\\c", "d"}};
  component.new_targets = {{"/a", "*", true, "/new\xFF"}};
  component.alternate_locations = {{"/a", "f", false, "/else"}};
  component.file_restore_status = FileRestoreStatus::failed;
  component.restore_target = RestoreTarget::original_location;
  component.directed_targets = {{"/a", "f", "0:5", "/b", "g", "0x10:5"}};
  component.restore_metadata = "m";
  component.pre_restore_failure = "r";
  component.post_restore_failure = "s";
  part.components = {component, BackupComponent{.name = "d"}};
  document.writers = {part, WriterComponents{}};
  return document;
}

template <class T>
void check_refused(const Result<T>& result, const std::string& part) {
  INFO(part);
  REQUIRE_FALSE(result);
  CHECK(result.error().code == Errc::invalid_xml_document);
  CHECK_THAT(result.error().context, Catch::Contains(part));
}

std::string metadata_with(const std::string& inside) {
  return "<writer-metadata version=\"1.0\"><identity name=\"w\"/>" + inside + "</writer-metadata>";
}

TEST_CASE("a metadata document survives text, whatever its strings hold",
          "[vss:IVssExamineWriterMetadata.GetIdentity]"
          "[vss:IVssExamineWriterMetadata.GetFileCounts]"
          "[vss:IVssExamineWriterMetadata.GetExcludeFile]"
          "[vss:IVssExamineWriterMetadata.GetComponent]"
          "[vss:IVssExamineWriterMetadata.GetRestoreMethod]"
          "[vss:IVssExamineWriterMetadata.GetAlternateLocationMapping]"
          "[vss:IVssExamineWriterMetadata.GetBackupSchema]"
          "[vss:IVssExamineWriterMetadata.SaveAsXML][vss:IVssExamineWriterMetadata.LoadFromXML]"
          "[vss:IVssExamineWriterMetadataEx.GetIdentityEx]"
          "[vss:IVssExamineWriterMetadataEx2.GetVersion]"
          "[vss:IVssExamineWriterMetadataEx2.GetExcludeFromSnapshotCount]"
          "[vss:IVssExamineWriterMetadataEx2.GetExcludeFromSnapshotFile]"
          "[vss:IVssWMComponent.GetComponentInfo][vss:IVssWMComponent.GetFile]"
          "[vss:IVssWMComponent.GetDatabaseFile][vss:IVssWMComponent.GetDatabaseLogFile]"
          "[vss:IVssWMComponent.GetDependency][vss:IVssWMFiledesc.GetPath]"
          "[vss:IVssWMFiledesc.GetFilespec][vss:IVssWMFiledesc.GetRecursive]"
          "[vss:IVssWMFiledesc.GetAlternateLocation][vss:IVssWMFiledesc.GetBackupTypeMask]"
          "[vss:IVssWMDependency.GetWriterId][vss:IVssWMDependency.GetLogicalPath]"
          "[vss:IVssWMDependency.GetComponentName][vss:function.CreateVssExamineWriterMetadata]") {
  const WriterMetadataDocument document = full_metadata();
  const auto back = parse_writer_metadata(to_xml(document));
  REQUIRE(back);
  CHECK(*back == document);
  CHECK(*parse_writer_metadata(to_xml(WriterMetadataDocument{})) == WriterMetadataDocument{});
}

TEST_CASE("a components document survives text, whole and by writer",
          "[vss:IVssWriterComponentsExt.GetComponentCount]"
          "[vss:IVssWriterComponentsExt.GetWriterInfo]"
          "[vss:IVssWriterComponentsExt.GetComponent][vss:IVssComponent.GetLogicalPath]"
          "[vss:IVssComponent.GetComponentType][vss:IVssComponent.GetComponentName]"
          "[vss:IVssComponent.GetBackupSucceeded]"
          "[vss:IVssComponent.GetAlternateLocationMappingCount]"
          "[vss:IVssComponent.GetAlternateLocationMapping]"
          "[vss:IVssComponent.GetPartialFileCount][vss:IVssComponent.GetPartialFile]"
          "[vss:IVssComponent.GetAdditionalRestores][vss:IVssComponent.GetNewTargetCount]"
          "[vss:IVssComponent.GetNewTarget][vss:IVssComponent.GetDirectedTargetCount]"
          "[vss:IVssComponent.GetDirectedTarget][vss:IVssComponent.GetPreviousBackupStamp]"
          "[vss:IVssComponent.GetBackupOptions][vss:IVssComponent.GetRestoreOptions]"
          "[vss:IVssComponent.GetRestoreSubcomponentCount]"
          "[vss:IVssComponent.GetRestoreSubcomponent]"
          "[vss:IVssComponent.GetDifferencedFilesCount][vss:IVssComponent.GetDifferencedFile]"
          "[vss:IVssComponentEx.GetAuthoritativeRestore][vss:IVssComponentEx.GetRollForward]"
          "[vss:IVssComponentEx.GetRestoreName]") {
  const BackupComponentsDocument document = full_components();
  const auto back = parse_backup_components(to_xml(document));
  REQUIRE(back);
  CHECK(*back == document);
  CHECK(*parse_writer_components(to_xml(document.writers[0])) == document.writers[0]);
  CHECK(*parse_backup_components(to_xml(BackupComponentsDocument{})) == BackupComponentsDocument{});
}

TEST_CASE("copies in a document can be found again, or it is refused") {
  const auto refused = [](const auto& spoil) {
    BackupComponentsDocument document;
    document.snapshots = {transported("data")};
    REQUIRE(parse_backup_components(to_xml(document)));
    spoil(document.snapshots);
    const auto back = parse_backup_components(to_xml(document));
    return !back && back.error().code == Errc::invalid_xml_document;
  };
  using Snapshots = std::vector<TransportedSnapshot>;
  CHECK(refused([](Snapshots& all) { all[0].snapshot_id = {}; }));
  CHECK(refused([](Snapshots& all) { all[0].provider_id = {}; }));
  CHECK(refused([](Snapshots& all) { all[0].luns.clear(); }));
  CHECK(refused([](Snapshots& all) { all[0].luns.resize(65, all[0].luns[0]); }));
  CHECK(refused([](Snapshots& all) { all[0].luns[0].target.identifiers.clear(); }));
  CHECK(refused([](Snapshots& all) {
    all[0].luns[0].source.identifiers = {{LunIdentifierType::port_group, "1", {}}};
  }));
  CHECK(refused([](Snapshots& all) { all.resize(65, all[0]); }));
}

TEST_CASE("a backup's document says nothing of restores") {
  BackupComponentsDocument document;
  document.writers.emplace_back().components.push_back(BackupComponent{.name = "c"});
  const std::string xml = to_xml(document);
  CHECK(xml.find("restore") == std::string::npos);
  CHECK(xml.find("target") == std::string::npos);
}

TEST_CASE("unknown elements and attributes and any order are accepted") {
  const auto document = parse_writer_metadata(
      "<?xml version=\"1.0\"?><!-- c --><writer-metadata version=\"1.9\" new=\"1\">"
      "<exclude path=\"/x\"/>text<later><a/></later><identity name=\"w\" color=\"red\"/>"
      "<exclude path=\"/y\"/></writer-metadata>");
  REQUIRE(document);
  CHECK(document->identity.name == "w");
  CHECK(document->excludes.size() == 2);
}

TEST_CASE("hostile documents are refused with the place",
          "[vss:VSS_E_INVALID_XML_DOCUMENT][vss:IVssExamineWriterMetadata.LoadFromXML]"
          "[vss:function.CreateVssExamineWriterMetadata]") {
  check_refused(parse_writer_metadata(""), "");
  check_refused(parse_writer_metadata("<writer-metadata"), "at byte");
  check_refused(parse_writer_metadata(to_xml(BackupComponentsDocument{})), "backup-components");
  check_refused(parse_writer_metadata("<writer-metadata/>"), "version");
  check_refused(parse_writer_metadata("<writer-metadata version=\"2.0\"/>"), "version 2.0");
  check_refused(parse_writer_metadata("<writer-metadata version=\"1x\"/>"), "malformed");
  check_refused(parse_writer_metadata("<writer-metadata version=\"1.0\"/>"), "identity");
  check_refused(parse_writer_metadata("<!DOCTYPE x [<!ENTITY a \"b\">]>" + metadata_with("")),
                "document type");
  check_refused(parse_writer_metadata(metadata_with("") + metadata_with("")), "one element");
  check_refused(parse_writer_metadata(metadata_with("") + std::string(1, '\0')), "NUL");
  check_refused(parse_writer_metadata(metadata_with("\xFF")), "UTF-8");
  check_refused(parse_writer_metadata(metadata_with("<component name=\"a\" flags=\"-1\"/>")),
                "component@flags");
  check_refused(parse_writer_metadata(metadata_with("<component name=\"a\" type=\"tape\"/>")),
                "component@type");
  check_refused(parse_writer_metadata(metadata_with("<component name=\"a\" selectable=\"1\"/>")),
                "component@selectable");
  check_refused(parse_writer_metadata(metadata_with("<component name=\"␛1\"/>")), "component@name");
  check_refused(parse_writer_metadata(metadata_with("<component/>")), "name must not be empty");
  check_refused(parse_backup_components("<backup-components version=\"1.0\" "
                                        "snapshot-set-id=\"7\"/>"),
                "snapshot-set-id");
  check_refused(parse_writer_components(
                    "<writer-components version=\"1.0\"><component/></writer-components>"),
                "component@name");
  check_refused(parse_writer_components("<writer-components version=\"1.0\"><component name=\"a\">"
                                        "<failure code=\"7\"/></component></writer-components>"),
                "failure@code");
}

TEST_CASE("a document that is too long, too wide or too deep is refused before it costs much") {
  check_refused(parse_writer_metadata(std::string(kDocumentBytesMax + 1, ' ')), "longer than");
  std::string wide;
  for (std::size_t i = 0; i <= 2 * kElementsMax; ++i) wide += "<a/>";
  check_refused(parse_writer_metadata(metadata_with(wide)), "too many elements");
  check_refused(
      parse_writer_metadata(metadata_with("<a " + std::string(16 * kElementsMax + 1, '=') + "/>")),
      "too many attributes");
  std::string deep;
  for (int i = 0; i < 100'000; ++i) deep += "<a>";
  for (int i = 0; i < 100'000; ++i) deep += "</a>";
  check_refused(parse_writer_metadata(metadata_with(deep)), "too deep");
}

TEST_CASE("a damaged document is refused or read, never worse") {
  const std::string xml = to_xml(full_components());
  Prng prng(umbra::test::seed());
  for (int round = 0; round < 3000; ++round) {
    std::string damaged = xml;
    for (std::uint64_t i = 1 + prng.below(4); i > 0; --i) {
      damaged[prng.below(damaged.size())] = static_cast<char>(prng.below(256));
    }
    if (prng.chance(1, 4)) damaged.resize(prng.below(damaged.size()));
    const auto result = parse_backup_components(damaged);
    if (!result) CHECK(result.error().code == Errc::invalid_xml_document);
  }
}

}  // namespace
