// SPDX-License-Identifier: Apache-2.0
#include "umbra/requester/examine_writer_metadata.h"

#include "tests/support/catch.h"

namespace {

using namespace umbra;
using namespace umbra::requester;

WriterMetadataDocument document() {
  WriterMetadataDocument document;
  document.identity = {.class_id = WriterClassId::random(),
                       .instance_id = WriterInstanceId::random(),
                       .name = "W",
                       .instance_name = "i",
                       .usage = UsageType::system_service,
                       .source = SourceType::transacted_db,
                       .version_major = 3,
                       .version_minor = 4};
  document.backup_schema = backup_schema::kCopy;
  document.restore = RestoreRules{.method = RestoreMethod::custom,
                                  .service = "s",
                                  .writer_restore = WriterRestore::always,
                                  .reboot_required = true,
                                  .alternate_locations = {{"/a", "*", false, "/b"}},
                                  .user_procedure = "https://example.org/how"};
  ComponentInfo database;
  database.type = ComponentType::database;
  database.logical_path = "l";
  database.name = "d";
  database.caption = "c";
  database.icon = std::string("\0\xFF", 2);
  database.restore_metadata = true;
  database.files = {{.path = "/a", .backup_type_mask = 0x101}};
  database.log_files = {{.path = "/a", .pattern = "log?"}};
  database.dependencies = {{WriterClassId::random(), "x", "y"}};
  ComponentInfo group;
  group.name = "g";
  group.files = {{.path = "/g", .recursive = true, .alternate_path = "/spool"}};
  document.components = {database, group};
  document.excludes = {{.path = "/x"}, {.path = "/y"}};
  document.excludes_from_snapshot = {{.path = "/z"}};
  return document;
}

TEST_CASE(
    "a metadata document tells what its writer declared",
    "[vss:IVssExamineWriterMetadata.GetIdentity][vss:IVssExamineWriterMetadata.GetFileCounts]"
    "[vss:IVssExamineWriterMetadata.GetExcludeFile][vss:IVssExamineWriterMetadata.GetComponent]"
    "[vss:IVssExamineWriterMetadata.GetRestoreMethod]"
    "[vss:IVssExamineWriterMetadata.GetAlternateLocationMapping]"
    "[vss:IVssExamineWriterMetadata.GetBackupSchema]"
    "[vss:IVssExamineWriterMetadataEx.GetIdentityEx]"
    "[vss:IVssExamineWriterMetadataEx2.GetVersion]"
    "[vss:IVssExamineWriterMetadataEx2.GetExcludeFromSnapshotCount]"
    "[vss:IVssExamineWriterMetadataEx2.GetExcludeFromSnapshotFile]") {
  const WriterMetadataDocument whole = document();
  const ExamineWriterMetadata writer(whole);
  CHECK(writer.identity() == whole.identity);
  CHECK(writer.file_counts() == ExamineWriterMetadata::FileCounts{0, 2, 2});
  CHECK(writer.backup_schema() == backup_schema::kCopy);
  CHECK(writer.exclude_file(1)->path == "/y");
  CHECK(*writer.component(0) == whole.components[0]);
  const auto method = writer.restore_method();
  REQUIRE(method);
  CHECK(method->method == RestoreMethod::custom);
  CHECK(method->service == "s");
  CHECK(method->user_procedure == "https://example.org/how");
  CHECK(method->writer_restore == WriterRestore::always);
  CHECK(method->reboot_required);
  CHECK(method->mappings == 1);
  CHECK(writer.alternate_location_mapping(0)->destination == "/b");
  CHECK(writer.exclude_from_snapshot_count() == 1);
  CHECK(writer.exclude_from_snapshot_file(0)->path == "/z");
}

TEST_CASE("what a document does not have is not found",
          "[vss:IVssExamineWriterMetadata.GetComponent]"
          "[vss:IVssExamineWriterMetadata.GetExcludeFile]") {
  const ExamineWriterMetadata writer(document());
  CHECK(writer.exclude_file(2).error().code == Errc::object_not_found);
  CHECK(writer.component(2).error().code == Errc::object_not_found);
  CHECK_THAT(writer.component(2).error().context, Catch::Contains("has 2"));
  CHECK(writer.alternate_location_mapping(1).error().code == Errc::object_not_found);
  CHECK(writer.exclude_from_snapshot_file(1).error().code == Errc::object_not_found);
  const ExamineWriterMetadata silent(WriterMetadataDocument{});
  CHECK(silent.restore_method().error().code == Errc::object_not_found);
  CHECK(silent.alternate_location_mapping(0).error().code == Errc::object_not_found);
}

TEST_CASE("a metadata document is saved and loaded whole",
          "[vss:IVssExamineWriterMetadata.SaveAsXML][vss:IVssExamineWriterMetadata.LoadFromXML]"
          "[vss:IVssWMComponent.GetComponentInfo][vss:IVssWMComponent.GetFile]"
          "[vss:IVssWMComponent.GetDatabaseFile][vss:IVssWMComponent.GetDatabaseLogFile]"
          "[vss:IVssWMComponent.GetDependency][vss:IVssWMFiledesc.GetPath]"
          "[vss:IVssWMFiledesc.GetFilespec][vss:IVssWMFiledesc.GetRecursive]"
          "[vss:IVssWMFiledesc.GetAlternateLocation][vss:IVssWMFiledesc.GetBackupTypeMask]"
          "[vss:IVssWMDependency.GetWriterId][vss:IVssWMDependency.GetLogicalPath]"
          "[vss:IVssWMDependency.GetComponentName][vss:function.CreateVssExamineWriterMetadata]") {
  const ExamineWriterMetadata writer(document());
  const auto again = ExamineWriterMetadata::load_from_xml(writer.save_as_xml());
  REQUIRE(again);
  CHECK(again->document() == writer.document());
  const ComponentInfo database = *again->component(0);
  CHECK(database.type == ComponentType::database);
  CHECK(database.logical_path == "l");
  CHECK(database.caption == "c");
  CHECK(database.icon == std::string("\0\xFF", 2));
  CHECK(database.restore_metadata);
  CHECK(database.files[0].path == "/a");
  CHECK(database.files[0].backup_type_mask == 0x101);
  CHECK(database.log_files[0].pattern == "log?");
  CHECK(database.dependencies[0].writer == writer.document().components[0].dependencies[0].writer);
  CHECK(database.dependencies[0].logical_path == "x");
  CHECK(database.dependencies[0].component == "y");
  const ComponentInfo group = *again->component(1);
  CHECK(group.files[0].recursive);
  CHECK(group.files[0].alternate_path == "/spool");
  CHECK(group.files[0].backup_type_mask == file_spec::kDefault);
}

TEST_CASE("text that is no metadata document is not loaded",
          "[vss:IVssExamineWriterMetadata.LoadFromXML]"
          "[vss:function.CreateVssExamineWriterMetadata]") {
  for (const char* wrong : {"", "x", "<a/>", "<writer-metadata version=\"1.0\"/>",
                            "<backup-components version=\"1.0\"/>",
                            "<writer-metadata version=\"1.0\"><identity/><component/>"
                            "</writer-metadata>"}) {
    CAPTURE(wrong);
    const auto refused = ExamineWriterMetadata::load_from_xml(wrong);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == Errc::invalid_xml_document);
  }
}

}  // namespace
