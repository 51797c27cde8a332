// SPDX-License-Identifier: Apache-2.0
#include "umbra/writer/express.h"

#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

namespace {

using namespace umbra;
using writer::ExpressWriter;

const WriterClassId kClass{Guid{{5}}};

ComponentInfo group() {
  ComponentInfo component;
  component.name = "recipes";
  return component;
}

ExpressWriter menu() {
  auto express = ExpressWriter::create_metadata({.class_id = kClass, .name = "menu"});
  REQUIRE(express);
  return std::move(*express);
}

FileSet files_of(const std::string& path) {
  FileSet files;
  files.path = path;
  return files;
}

TEST_CASE("an express writer needs an identity that VSS allows",
          "[vss:IVssExpressWriter.CreateMetadata]") {
  const auto code = [](writer::ExpressIdentity identity) {
    const auto express = ExpressWriter::create_metadata(std::move(identity));
    return express ? Errc::ok : express.error().code;
  };
  CHECK(code({.class_id = kClass, .name = "menu"}) == Errc::ok);
  CHECK(code({.class_id = kClass, .name = "menu", .usage = UsageType::bootable_system_state}) ==
        Errc::ok);
  CHECK(code({.class_id = kClass, .name = "menu", .usage = UsageType::other}) ==
        Errc::invalid_argument);
  CHECK(code({.class_id = kClass, .name = "menu", .usage = UsageType::undefined}) ==
        Errc::invalid_argument);
  CHECK(code({.name = "menu"}) == Errc::invalid_argument);
  CHECK(code({.class_id = kClass}) == Errc::invalid_argument);
}

TEST_CASE("an express writer is described call by call; a refused call changes nothing",
          "[vss:IVssCreateExpressWriterMetadata.AddExcludeFiles]"
          "[vss:IVssCreateExpressWriterMetadata.AddComponent]"
          "[vss:IVssCreateExpressWriterMetadata.AddFilesToFileGroup]"
          "[vss:IVssCreateExpressWriterMetadata.SetRestoreMethod]"
          "[vss:IVssCreateExpressWriterMetadata.AddComponentDependency]"
          "[vss:IVssCreateExpressWriterMetadata.SetBackupSchema]") {
  ExpressWriter express = menu();
  const auto refused = [&](const Status& status, Errc code) {
    REQUIRE_FALSE(status);
    CHECK(status.error().code == code);
  };
  const writer::ComponentName name{"", "recipes"};
  refused(express.add_files_to_file_group(name, files_of("/srv")), Errc::object_not_found);
  refused(express.add_component_dependency(name, {}), Errc::object_not_found);
  CHECK(express.add_component(group()));
  refused(express.add_component(group()), Errc::object_already_exists);
  ComponentInfo database = group();
  database.name = "database";
  database.type = ComponentType::database;
  refused(express.add_component(database), Errc::not_supported);
  ComponentInfo recovered = group();
  recovered.name = "recovered";
  recovered.flags = component_flag::kBackupRecovery;
  refused(express.add_component(recovered), Errc::not_supported);

  CHECK(express.add_files_to_file_group(name, files_of("/srv")));
  refused(express.add_files_to_file_group(name, files_of("srv")), Errc::invalid_argument);
  FileSet elsewhere = files_of("/srv/a");
  elsewhere.alternate_path = "/srv/b";
  refused(express.add_files_to_file_group(name, elsewhere), Errc::not_supported);
  FileSet differential = files_of("/srv/a");
  differential.backup_type_mask = 0x303;
  refused(express.add_files_to_file_group(name, differential), Errc::not_supported);

  CHECK(express.add_exclude_files(files_of("/srv/tmp")));
  refused(express.add_exclude_files(files_of("tmp")), Errc::invalid_argument);
  CHECK(express.add_component_dependency(name, {WriterClassId{Guid{{6}}}, "", "x"}));
  refused(express.add_component_dependency(name, {kClass, "", "x"}), Errc::invalid_argument);

  RestoreRules rules;
  rules.method = RestoreMethod::restore_if_can_replace;
  rules.writer_restore = WriterRestore::always;
  refused(express.set_restore_rules(rules), Errc::not_supported);
  rules.writer_restore = WriterRestore::never;
  CHECK(express.set_restore_rules(rules));
  refused(express.set_restore_rules(rules), Errc::bad_state);
  CHECK(express.set_backup_schema(backup_schema::kCopy));
  refused(express.set_backup_schema(backup_schema::kIncremental), Errc::not_supported);

  const WriterMetadataDocument& document = express.metadata();
  CHECK(document.components.size() == 1);
  CHECK(document.components[0].files.size() == 1);
  CHECK(document.components[0].dependencies.size() == 1);
  CHECK(document.excludes.size() == 1);
  CHECK(document.backup_schema == backup_schema::kCopy);
  CHECK(document.restore->method == RestoreMethod::restore_if_can_replace);
}

TEST_CASE("an express writer's text is loaded again, and nobody else's",
          "[vss:IVssExpressWriter.LoadMetadata][vss:IVssCreateExpressWriterMetadata.SaveAsXML]") {
  ExpressWriter express = menu();
  REQUIRE(express.add_component(group()));
  const auto loaded = ExpressWriter::load_metadata(express.save_as_xml());
  REQUIRE(loaded);
  CHECK(loaded->metadata() == express.metadata());
  CHECK(ExpressWriter::load_metadata("<x/>").error().code == Errc::invalid_xml_document);
  std::string other = express.save_as_xml();
  other.replace(other.find("file-group"), 10, "database");
  CHECK(ExpressWriter::load_metadata(other).error().code == Errc::not_supported);
}

TEST_CASE("an express writer is registered in a directory, and listed") {
  const test::TempDir temp;
  const std::string directory = temp / "writers.d";
  const ExpressWriter express = menu();
  CHECK(express.register_writer("relative").error().code == Errc::invalid_argument);
  CHECK(express.register_writer(directory));
  CHECK(express.register_writer(directory).error().code == Errc::object_already_exists);
  const auto registered = ExpressWriter::list(directory);
  REQUIRE(registered);
  REQUIRE(registered->writers.size() == 1);
  CHECK(registered->writers[0] == express.metadata());
  CHECK(ExpressWriter::unregister_writer(kClass, directory));
  CHECK(ExpressWriter::unregister_writer(kClass, directory).error().code == Errc::object_not_found);
  CHECK(ExpressWriter::list(directory)->writers.empty());
  CHECK(*ExpressWriter::directory_of("/run/umbra") == "/etc/umbra/writers.d");
}

}  // namespace
