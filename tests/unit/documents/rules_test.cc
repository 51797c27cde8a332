// SPDX-License-Identifier: Apache-2.0
#include "engine/documents/rules.h"

#include "tests/support/catch.h"

namespace {

using namespace umbra;
using namespace umbra::documents;

ComponentInfo component(const std::string& path, bool selectable, const std::string& dir = {}) {
  ComponentInfo info;
  const std::size_t cut = path.rfind('\\');
  info.logical_path = cut == std::string::npos ? "" : path.substr(0, cut);
  info.name = cut == std::string::npos ? path : path.substr(cut + 1);
  info.selectable = selectable;
  if (!dir.empty()) info.files = {{.path = dir}};
  return info;
}

std::vector<std::string> selected(const WriterMetadataDocument& metadata,
                                  const std::string& elsewhere = "/else") {
  std::vector<std::string> names;
  for (const std::size_t i : select_components(
           metadata, [&](const std::string& dir) { return !dir.starts_with(elsewhere); })) {
    names.push_back(full_path(metadata.components[i].logical_path, metadata.components[i].name));
  }
  return names;
}

// Microsoft's "MyWriter" (writer-and-documents 5.5).
WriterMetadataDocument my_writer() {
  WriterMetadataDocument document;
  document.components = {component("Executables", false, "/bin"),
                         component("Executables\\ConfigFiles", false, "/etc"),
                         component("LicenseInfo", true, "/etc"),
                         component("Security", true),
                         component("Security\\UserInfo", false, "/etc"),
                         component("writerData", true),
                         component("writerData\\Set1", false, "/data"),
                         component("writerData\\Usage", true, "/data"),
                         component("writerData\\Usage\\Jan", false, "/data")};
  return document;
}

using Names = std::vector<std::string>;

TEST_CASE("full paths are compared without regard to case") {
  CHECK(full_path("", "a") == "a");
  CHECK(full_path("x\\y", "a") == "x\\y\\a");
  CHECK(same_path("A\\b", "a\\B"));
  CHECK_FALSE(same_path("a", "ab"));
  CHECK(is_ancestor("A", "a\\b\\c"));
  CHECK_FALSE(is_ancestor("a", "ab\\c"));
  CHECK_FALSE(is_ancestor("a", "a"));
}

TEST_CASE("mandatory components and the topmost selectable ones are selected",
          "[vss:rule.selectability-for-backup][vss:rule.implicit-inclusion]") {
  CHECK(selected(my_writer()) ==
        Names{"Executables", "Executables\\ConfigFiles", "LicenseInfo", "Security", "writerData"});
}

TEST_CASE("a set with one file elsewhere is left out and its selectable parts stand alone",
          "[vss:rule.selectability-for-backup][vss:rule.implicit-inclusion]") {
  WriterMetadataDocument metadata = my_writer();
  metadata.components[6].files[0].path = "/else/set1";
  CHECK(selected(metadata) == Names{"Executables", "Executables\\ConfigFiles", "LicenseInfo",
                                    "Security", "writerData\\Usage"});
}

TEST_CASE("a component with a part of its files here is told, by the one that can be selected") {
  const auto partly = [](const WriterMetadataDocument& metadata) {
    Names names;
    for (const std::size_t i : partly_held_components(
             metadata, [](const std::string& dir) { return !dir.starts_with("/else"); })) {
      names.push_back(full_path(metadata.components[i].logical_path, metadata.components[i].name));
    }
    return names;
  };
  WriterMetadataDocument metadata = my_writer();
  CHECK(partly(metadata).empty());
  // Set1 comes with writerData, which has nothing else: all of it is elsewhere.
  metadata.components[6].files[0].path = "/else/set1";
  CHECK(partly(metadata).empty());
  metadata.components[5].log_files = {{.path = "/log"}};
  CHECK(partly(metadata) == Names{"writerData"});
  metadata.components[8].files.push_back({.path = "/else/jan"});
  CHECK(partly(metadata) == Names{"writerData", "writerData\\Usage"});
  // Nothing can be done about one that cannot be selected.
  metadata.components[0].files.push_back({.path = "/else/bin"});
  CHECK(partly(metadata) == Names{"writerData", "writerData\\Usage"});
  // The place that counts is the one it is read from.
  metadata.components[6].files[0].alternate_path = "/spool";
  CHECK(partly(metadata) == Names{"writerData\\Usage"});
}

TEST_CASE("a mandatory component elsewhere leaves the whole writer out",
          "[vss:rule.selectability-for-backup]") {
  WriterMetadataDocument metadata = my_writer();
  metadata.components[1].files[0].path = "/else";
  CHECK(selected(metadata).empty());
  // Its alternate place is where it is read from.
  metadata.components[1].files[0].alternate_path = "/spool";
  CHECK(selected(metadata).size() == 5);
}

TEST_CASE("a component without files fits everywhere") {
  WriterMetadataDocument metadata;
  metadata.components = {component("app", true)};
  CHECK(selected(metadata) == Names{"app"});
  CHECK(selected(WriterMetadataDocument{}).empty());
}

TEST_CASE("very many components are selected in a moment") {
  WriterMetadataDocument metadata;
  for (int i = 0; i < 50'000; ++i) {
    metadata.components.push_back(component("a\\b\\c" + std::to_string(i), i % 2 == 0, "/x"));
  }
  CHECK(selected(metadata).size() == 50'000);
  CHECK(check(metadata));
}

void check_declaration(ComponentInfo info, Errc expected) {
  WriterMetadataDocument document;
  document.identity.class_id = WriterClassId{Guid{{1}}};
  document.components = {component("first", true), std::move(info)};
  const Status status = check(document);
  REQUIRE_FALSE(status);
  CHECK(status.error().code == expected);
}

TEST_CASE("a writer's declarations are checked one by one",
          "[vss:IVssCreateWriterMetadata.AddComponent]"
          "[vss:IVssCreateWriterMetadata.AddFilesToFileGroup]"
          "[vss:IVssCreateWriterMetadata.AddDatabaseFiles]"
          "[vss:IVssCreateWriterMetadata.AddDatabaseLogFiles]"
          "[vss:IVssCreateWriterMetadata.AddComponentDependency]"
          "[vss:IVssCreateWriterMetadata.AddExcludeFiles][vss:E_INVALIDARG]") {
  check_declaration(component("", true), Errc::invalid_argument);
  check_declaration(component("FIRST", true), Errc::object_already_exists);
  check_declaration(component("a\\\\b", true), Errc::invalid_argument);
  check_declaration(component("a", true, "relative"), Errc::invalid_argument);
  ComponentInfo info = component("a", true, "/x");
  info.name = "a\\b";
  check_declaration(info, Errc::invalid_argument);
  info = component("a", true, "/x");
  info.type = ComponentType::undefined;
  check_declaration(info, Errc::invalid_argument);
  info = component("a", true, "/x");
  info.log_files = info.files;
  check_declaration(info, Errc::invalid_argument);
  info = component("a", true, "/x");
  info.type = ComponentType::database;
  info.files[0].recursive = true;
  check_declaration(info, Errc::invalid_argument);
  info = component("a", true, "/x");
  info.files[0].pattern = "b/c";
  check_declaration(info, Errc::invalid_argument);
  info = component("a", true, "/x");
  info.files[0].alternate_path = "b";
  check_declaration(info, Errc::invalid_argument);
  info = component("a", true, "/x");
  info.dependencies = {{WriterClassId{Guid{{1}}}, "", "x"}};
  check_declaration(info, Errc::invalid_argument);
  WriterMetadataDocument document;
  document.excludes = {{.path = "x"}};
  CHECK(check(document).error().code == Errc::invalid_argument);
  document.excludes.clear();
  document.components.resize(kComponentsPerWriterMax + 1);
  CHECK(check(document).error().code == Errc::limit_reached);
}

TEST_CASE("components are added by their declaration, once",
          "[vss:IVssBackupComponents.AddComponent][vss:VSS_E_OBJECT_ALREADY_EXISTS]"
          "[vss:rule.implicit-inclusion]") {
  const WriterMetadataDocument metadata = my_writer();
  WriterComponents part;
  const auto add = [&](const char* path, const char* name,
                       ComponentType type = ComponentType::file_group) {
    const Status status = add_component(part, metadata, type, path, name);
    return status ? Errc::ok : status.error().code;
  };
  CHECK(add("", "writerdata") == Errc::ok);
  CHECK(part.components[0].name == "writerData");
  CHECK(add("", "writerData") == Errc::object_already_exists);
  CHECK(add("", "nothing") == Errc::object_not_found);
  CHECK(add("", "LicenseInfo", ComponentType::database) == Errc::object_not_found);
  CHECK(add("writerData", "Set1") == Errc::invalid_argument);
  CHECK(add("Executables", "ConfigFiles") == Errc::ok);
}

struct Part {
  Part() { part.components = {BackupComponent{.logical_path = "p", .name = "c"}}; }
  Errc apply(const char* op, std::vector<std::string> values,
             EditPhase phase = EditPhase::post_snapshot, const char* name = "c") {
    const WriterComponents before = part;
    const Status status = documents::apply(part, {op, "p", name, std::move(values)}, phase);
    if (!status) CHECK(part == before);
    return status ? Errc::ok : status.error().code;
  }
  WriterComponents part;
};

TEST_CASE("a writer's changes are applied from PrepareForBackup to PostSnapshot",
          "[vss:IVssComponent.SetBackupMetadata][vss:IVssComponent.GetBackupMetadata]"
          "[vss:IVssComponent.SetBackupStamp][vss:IVssComponent.GetBackupStamp]"
          "[vss:IVssComponent.AddPartialFile]"
          "[vss:IVssComponent.AddDifferencedFilesByLastModifyTime]"
          "[vss:IVssComponentEx.SetPrepareForBackupFailureMsg]"
          "[vss:IVssComponentEx.GetPrepareForBackupFailureMsg]"
          "[vss:IVssComponentEx.SetPostSnapshotFailureMsg]"
          "[vss:IVssComponentEx.GetPostSnapshotFailureMsg][vss:IVssComponentEx2.SetFailure]"
          "[vss:IVssComponentEx2.GetFailure]") {
  Part part;
  CHECK(part.apply("set_backup_metadata", {"m"}, EditPhase::prepare_for_backup) == Errc::ok);
  CHECK(part.apply("set_backup_metadata", {"m"}) == Errc::object_already_exists);
  CHECK(part.apply("set_backup_stamp", {"1"}) == Errc::ok);
  CHECK(part.apply("set_backup_stamp", {"2"}) == Errc::ok);
  CHECK(part.apply("set_failure_message", {"before"}, EditPhase::prepare_for_backup) == Errc::ok);
  CHECK(part.apply("set_failure_message", {"after"}) == Errc::ok);
  CHECK(part.apply("set_failure", {"0x800423F3", "7", "why"}) == Errc::ok);
  CHECK(part.apply("add_partial_file", {"/d", "f", "0:1", ""}) == Errc::ok);
  CHECK(part.apply("add_differenced_file", {"/d", "*", "yes", "5"}) == Errc::ok);
  const BackupComponent& component = part.part.components[0];
  CHECK(component.backup_metadata == "m");
  CHECK(component.backup_stamp == "2");
  CHECK(component.prepare_for_backup_failure == "before");
  CHECK(component.post_snapshot_failure == "after");
  CHECK(component.failure == ComponentFailure{Errc::writererror_retryable, 7, "why"});
  CHECK(component.partial_files.size() == 1);
  CHECK(component.differenced_files == std::vector<DifferencedFile>{{"/d", "*", true, 5}});
}

TEST_CASE("changes at the wrong time or of the wrong form change nothing",
          "[vss:IVssComponent.SetBackupStamp][vss:IVssComponent.SetBackupMetadata]"
          "[vss:IVssComponent.AddPartialFile]"
          "[vss:IVssComponent.AddDifferencedFilesByLastModifyTime]"
          "[vss:IVssComponentEx2.SetFailure]") {
  Part part;
  constexpr auto kPrepare = EditPhase::prepare_for_snapshot;
  CHECK(part.apply("add_partial_file", {"/d", "f", "0:1", ""}, kPrepare) == Errc::bad_state);
  CHECK(part.apply("add_differenced_file", {"/d", "*", "yes", "5"}, kPrepare) == Errc::bad_state);
  CHECK(part.apply("set_backup_stamp", {"1"}, EditPhase::frozen) == Errc::bad_state);
  CHECK(part.apply("set_backup_stamp", {"1"}, EditPhase::read_only) == Errc::bad_state);
  CHECK(part.apply("set_backup_stamp", {"1"}, EditPhase::post_snapshot, "x") ==
        Errc::object_not_found);
  CHECK(part.apply("set_backup_stamp", {}) == Errc::invalid_argument);
  CHECK(part.apply("set_backup_stamp", {std::string(kStringBytesMax + 1, 'x')}) ==
        Errc::invalid_argument);
  CHECK(part.apply("set_backup_metadata", {"a", "b"}) == Errc::invalid_argument);
  CHECK(part.apply("set_failure_message", {}) == Errc::invalid_argument);
  CHECK(part.apply("set_failure", {"800423F3", "7", "why"}) == Errc::invalid_argument);
  CHECK(part.apply("set_failure", {"0x800423F3", "-7", "why"}) == Errc::invalid_argument);
  CHECK(part.apply("set_failure", {"0x80"}) == Errc::invalid_argument);
  CHECK(part.apply("add_partial_file", {"/d", "*", "0:1", ""}) == Errc::invalid_argument);
  const std::string nul("/d\0", 3);  // The kernel would take another name.
  CHECK(part.apply("add_partial_file", {nul, "f", "0:1", ""}) == Errc::invalid_argument);
  CHECK(part.apply("add_partial_file", {"/d", nul.substr(1), "0:1", ""}) == Errc::invalid_argument);
  CHECK(check_file_set({.path = "/\xFF", .pattern = "\xFE*"}));
  for (const FileSet& files :
       {FileSet{.path = nul}, FileSet{.path = "/d", .pattern = nul.substr(1)},
        FileSet{.path = "/d", .alternate_path = nul}})
    CHECK(check_file_set(files).error().code == Errc::invalid_argument);
  CHECK(part.apply("add_differenced_file", {"/d", "*", "true", "5"}) == Errc::invalid_argument);
  CHECK(part.apply("add_differenced_file", {"/d"}) == Errc::invalid_argument);
  CHECK(part.apply("format_disk", {}) == Errc::invalid_argument);
}

TEST_CASE("a restore's changes are made in PreRestore, to what is selected",
          "[vss:IVssComponent.SetRestoreTarget][vss:IVssComponent.AddDirectedTarget]"
          "[vss:IVssComponent.SetRestoreMetadata][vss:IVssComponent.GetRestoreMetadata]"
          "[vss:IVssComponent.SetPreRestoreFailureMsg]"
          "[vss:IVssComponent.GetPreRestoreFailureMsg]"
          "[vss:IVssComponent.SetPostRestoreFailureMsg]"
          "[vss:IVssComponent.GetPostRestoreFailureMsg]") {
  Part part;
  part.part.components[0].selected_for_restore = true;
  constexpr auto kPre = EditPhase::pre_restore;
  CHECK(part.apply("set_restore_target", {"directed"}, kPre) == Errc::ok);
  CHECK(part.apply("add_directed_target", {"/a", "f", "0:5", "/b", "g", "7:5"}, kPre) == Errc::ok);
  CHECK(part.apply("set_restore_metadata", {"m"}, kPre) == Errc::ok);
  CHECK(part.apply("set_restore_metadata", {"m"}, kPre) == Errc::object_already_exists);
  CHECK(part.apply("set_failure_message", {"before"}, kPre) == Errc::ok);
  CHECK(part.apply("set_failure_message", {"after"}, EditPhase::post_restore) == Errc::ok);
  CHECK(part.apply("set_failure", {"0x800423F3", "7", "why"}, EditPhase::post_restore) == Errc::ok);
  const BackupComponent& component = part.part.components[0];
  CHECK(component.restore_target == RestoreTarget::directed);
  CHECK(component.directed_targets.size() == 1);
  CHECK(component.restore_metadata == "m");
  CHECK(component.pre_restore_failure == "before");
  CHECK(component.post_restore_failure == "after");
  CHECK(component.failure == ComponentFailure{Errc::writererror_retryable, 7, "why"});
}

TEST_CASE("a restore's changes at the wrong time or of the wrong form change nothing",
          "[vss:IVssComponent.SetRestoreTarget][vss:IVssComponent.AddDirectedTarget]"
          "[vss:IVssComponent.SetRestoreMetadata]") {
  Part part;
  constexpr auto kPre = EditPhase::pre_restore;
  CHECK(part.apply("set_restore_target", {"alternate"}, kPre) == Errc::object_not_found);
  part.part.components[0].selected_for_restore = true;
  for (const auto phase : {EditPhase::prepare_for_backup, EditPhase::post_snapshot,
                           EditPhase::frozen, EditPhase::read_only, EditPhase::post_restore}) {
    CHECK(part.apply("set_restore_target", {"alternate"}, phase) == Errc::bad_state);
    CHECK(part.apply("set_restore_metadata", {"m"}, phase) == Errc::bad_state);
    CHECK(part.apply("add_directed_target", {"/a", "f", "0:5", "/b", "g", "7:5"}, phase) ==
          Errc::bad_state);
  }
  CHECK(part.apply("set_backup_stamp", {"1"}, kPre) == Errc::bad_state);
  CHECK(part.apply("set_backup_metadata", {"1"}, kPre) == Errc::bad_state);
  CHECK(part.apply("set_restore_target", {"undefined"}, kPre) == Errc::invalid_argument);
  CHECK(part.apply("set_restore_target", {}, kPre) == Errc::invalid_argument);
  CHECK(part.apply("add_directed_target", {"/a", "f", "0:5"}, kPre) == Errc::invalid_argument);
  CHECK(part.apply("add_directed_target", {"/a", "f", "0:5", "b", "g", "7:5"}, kPre) ==
        Errc::invalid_argument);
  CHECK(part.apply("add_directed_target", {"/a", "*", "0:5", "/b", "g", "7:5"}, kPre) ==
        Errc::invalid_argument);
  const std::string nul("/b\0", 3);
  CHECK(part.apply("add_directed_target", {"/a", "f", "0:5", nul, "g", "7:5"}, kPre) ==
        Errc::invalid_argument);
  CHECK(part.apply("add_directed_target", {"/a", "f", "0:5", "/b", nul.substr(1), "7:5"}, kPre) ==
        Errc::invalid_argument);
  CHECK(part.apply("add_directed_target", {"/a", "f", "0:5", "/b", "..", "7:5"}, kPre) ==
        Errc::invalid_argument);
  CHECK(part.apply("add_directed_target", {"/a", "f", "0:5", "/b", "g", "7:6"}, kPre) ==
        Errc::invalid_argument);
  CHECK(part.apply("add_directed_target", {"/a", "f", "0:5,9:1", "/b", "g", "7:5"}, kPre) ==
        Errc::invalid_argument);
}

TEST_CASE("ranges are pairs of numbers, decimal or hexadecimal", "[vss:rule.ranges]") {
  const auto ranges = parse_ranges("64:448, 0x1239E8577A:65536,0:0x10");
  REQUIRE(ranges);
  CHECK(*ranges == std::vector<ByteRange>{{64, 448}, {0x1239E8577AULL, 65536}, {0, 16}});
  for (const char* wrong :
       {"", "1", "1:", ":1", "1:0", "1:2,", "1:2;3:4", "-1:2", "1:2 ,3:4", "0x:1", "File=/x",
        "18446744073709551616:1", "9223372036854775808:1", "1:9223372036854775808"}) {
    CAPTURE(wrong);
    const auto refused = parse_ranges(wrong);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == Errc::invalid_argument);
  }
}

TEST_CASE("an alternate location belongs to a file set of a component",
          "[vss:IVssCreateWriterMetadata.AddAlternateLocationMapping]") {
  WriterMetadataDocument document;
  document.components.push_back(ComponentInfo{.name = "c", .files = {{.path = "/a"}}});
  document.restore = RestoreRules{.alternate_locations = {{"/a", "*", false, "/b"}}};
  CHECK(check(document));
  document.restore->alternate_locations[0].recursive = true;
  CHECK(check(document).error().code == Errc::invalid_argument);
  document.restore->alternate_locations[0] = {"/a", "*", false, "b"};
  CHECK(check(document).error().code == Errc::invalid_argument);
}

}  // namespace
