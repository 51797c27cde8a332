// SPDX-License-Identifier: Apache-2.0
// Synthetic documents in VSS's element names, of the shapes that real writers' documents have
// (writer-and-documents 8.3, 8.4). Every value in them is made up; names marked "ours" in
// vss_names.cc claim nothing about Windows.
#include "engine/documents/vss_names.h"

#include "engine/documents/rules.h"
#include "engine/documents/selection.h"
#include "engine/documents/xml.h"
#include "tests/support/catch.h"

namespace {

using namespace umbra;
using namespace umbra::documents;

constexpr const char* kWriterId = "11111111-aaaa-BBBB-cccc-555555555555";
constexpr const char* kInstanceId = "99999999-2222-3333-4444-555555555555";

// Attributes of the identification that are not the same for all, and what follows it.
std::string metadata(const std::string& identity, const std::string& inside,
                     const std::string& root = {}) {
  return "<WRITER_METADATA xmlns=\"x-schema:#VssWriterMetadataInfo\" version=\"1.2\"" + root +
         "><IDENTIFICATION writerId=\"" + kWriterId + "\" instanceId=\"" + kInstanceId +
         "\" friendlyName=\"W\" majorVersion=\"0\" minorVersion=\"0\" " + identity + "/>" + inside +
         "</WRITER_METADATA>";
}

std::string method(const std::string& name, const char* writer = "never", const char* boot = "no") {
  return "<RESTORE_METHOD method=\"" + name + "\" writerRestore=\"" + writer +
         "\" rebootRequired=\"" + boot + "\"/>";
}

constexpr const char* kFlags =
    " restoreMetadata=\"no\" notifyOnBackupComplete=\"no\" selectable=\"yes\" "
    "selectableForRestore=\"no\" componentFlags=\"0\"";

// Read, and the same again in our own names.
WriterMetadataDocument read(const std::string& xml) {
  const auto document = parse_writer_metadata(xml);
  INFO((document ? "" : document.error().context));
  REQUIRE(document);
  CHECK(document->identity.class_id == WriterClassId{*Guid::parse(kWriterId)});
  CHECK(document->identity.instance_id == WriterInstanceId{*Guid::parse(kInstanceId)});
  const auto again = parse_writer_metadata(to_xml(*document));
  REQUIRE(again);
  CHECK(*again == *document);
  return *document;
}

TEST_CASE("an express writer's document: recursive sets, blanks between elements") {
  const auto document = read(metadata(
      "usage=\"BOOTABLE_SYSTEM_STATE\" dataSource=\"OTHER\"",
      "\n\t" + method("REPLACE_AT_REBOOT_IF_CANNOT_REPLACE") +
          "\n\t<BACKUP_LOCATIONS>\n\t\t<FILE_GROUP componentName=\"TasksStore\"" + kFlags +
          "><FILE_LIST path=\"%WinDir%\\Jobs\" filespec=\"*\" recursive=\"yes\" "
          "filespecBackupType=\"3855\"/>\n<FILE_LIST path=\"%WinDir%\\Other\" "
          "filespec=\"Perf?.dat\" "
          "recursive=\"no\" filespecBackupType=\"3855\"/></FILE_GROUP>\n\t</BACKUP_LOCATIONS>\n"));
  CHECK(document.identity.usage == UsageType::bootable_system_state);
  CHECK(document.identity.source == SourceType::other);
  CHECK(document.restore->method == RestoreMethod::restore_at_reboot_if_cannot_replace);
  CHECK(document.restore->writer_restore == WriterRestore::never);
  REQUIRE(document.components.size() == 1);
  const ComponentInfo& group = document.components[0];
  CHECK(group.type == ComponentType::file_group);
  CHECK(group.files == std::vector<FileSet>{{.path = "%WinDir%\\Jobs", .recursive = true},
                                            {.path = "%WinDir%\\Other", .pattern = "Perf?.dat"}});
  CHECK(document.unknown.empty());
}

TEST_CASE("a system writer's document: two groups, very many sets of one file") {
  std::string lists;
  for (int i = 0; i < 19'000; ++i)
    lists += "<FILE_LIST path=\"%SystemRoot%\\d\" filespec=\"f" + std::to_string(i) +
             "\" filespecBackupType=\"3855\"/>";
  const auto document = read(metadata(
      "usage=\"BOOTABLE_SYSTEM_STATE\" dataSource=\"OTHER\"",
      method("REPLACE_AT_REBOOT_IF_CANNOT_REPLACE", "never", "yes") +
          "<BACKUP_LOCATIONS><FILE_GROUP componentName=\"System Files\"" + kFlags + ">" + lists +
          "</FILE_GROUP><FILE_GROUP componentName=\"Services\" selectable=\"yes\" "
          "componentFlags=\"4\"/></BACKUP_LOCATIONS>"));
  CHECK(document.components[0].files.size() == 19'000);
  CHECK(document.restore->reboot_required);
  CHECK(is_system_state(document, 0));
  CHECK_FALSE(is_system_state(document, 1));
}

TEST_CASE("a recovery writer's document: components without files, volumes, disks",
          "[vss:VSS_CT.FILEGROUP]") {
  const auto document = read(metadata(
      "usage=\"BOOTABLE_SYSTEM_STATE\" dataSource=\"OTHER\"",
      method("RESTORE_IF_CAN_BE_REPLACED", "never", "yes") +
          "<BACKUP_LOCATIONS><FILE_GROUP logicalPath=\"ASR\" componentName=\"ASR\" "
          "caption=\"a&#10;b\" "
          "selectable=\"no\"/><FILE_GROUP logicalPath=\"Volumes\" componentName=\"Volume{1}\" "
          "selectable=\"yes\" selectableForRestore=\"yes\"/><FILE_GROUP logicalPath=\"Disks\" "
          "componentName=\"harddisk0\"/><FILE_GROUP logicalPath=\"BCD\" componentName=\"BCD\">"
          "<FILE_LIST path=\"\\\\?\\Volume{1}\\Boot\" filespec=\"*.*\" recursive=\"yes\"/>"
          "</FILE_GROUP></BACKUP_LOCATIONS>"));
  REQUIRE(document.components.size() == 4);
  CHECK(document.components[0].caption == "a\nb");
  CHECK(document.components[0].files.empty());
  CHECK(participation(document, 0) == Participation::mandatory);
  CHECK(document.components[3].files[0].path == "\\\\?\\Volume{1}\\Boot");
}

TEST_CASE("a database server's document: schema, instance name, excludes between groups") {
  const auto document = read(metadata(
      "instanceName=\"Server 2017:Writer\" usage=\"USER_DATA\" dataSource=\"TRANSACTION_DB\"",
      method("RESTORE_IF_CAN_BE_REPLACED", "always") +
          "<BACKUP_LOCATIONS><EXCLUDE_FILES path=\"E:\\bad\" filespec=\"x.mdf\" recursive=\"no\"/>"
          "<FILE_GROUP logicalPath=\"HOST\\INST\" componentName=\"master\" restoreMetadata=\"no\" "
          "notifyOnBackupComplete=\"yes\" selectable=\"yes\" selectableForRestore=\"yes\" "
          "componentFlags=\"2\"><FILE_LIST path=\"C:\\data\" filespec=\"m.mdf\" "
          "filespecBackupType=\"3855\"/></FILE_GROUP><EXCLUDE_FILES path=\"F:\\bad\" "
          "filespec=\"y.ldf\" recursive=\"yes\"/></BACKUP_LOCATIONS>",
      " backupSchema=\"881\""));
  CHECK(document.backup_schema == 881);
  CHECK(document.identity.instance_name == "Server 2017:Writer");
  CHECK(document.identity.source == SourceType::transacted_db);
  CHECK(document.components[0].notify_on_backup_complete);
  CHECK(document.components[0].flags == component_flag::kAppRollbackRecovery);
  REQUIRE(document.excludes.size() == 2);
  CHECK(document.excludes[1] == FileSet{.path = "F:\\bad", .pattern = "y.ldf", .recursive = true});
  // What is another system's is read, not accepted of a writer here.
  CHECK(check(document, Paths::any));
  CHECK(check(document).error().code == Errc::invalid_argument);
}

TEST_CASE("documents with excludes only, without a restore method, in another order") {
  const auto optimizer = read(metadata(
      "usage=\"USER_DATA\" dataSource=\"OTHER\"",
      "<BACKUP_LOCATIONS><EXCLUDE_FILES_FROM_SNAPSHOT path=\"\\System Volume Information\\Heat\" "
      "filespec=\"*.*\" recursive=\"yes\"/><EXCLUDE_FILES_FROM_SNAPSHOT path=\"%Temp%\" "
      "filespec=\"*\" recursive=\"no\"/></BACKUP_LOCATIONS>"));
  CHECK_FALSE(optimizer.restore);
  CHECK(optimizer.components.empty());
  CHECK(optimizer.excludes_from_snapshot.size() == 2);
  const auto repository = read(metadata(
      "usage=\"SYSTEM_SERVICE\" dataSource=\"OTHER\"",
      "<BACKUP_LOCATIONS><FILE_GROUP componentName=\"WMI\" selectable=\"no\"/></BACKUP_LOCATIONS>" +
          method("REPLACE_AT_REBOOT", "never", "yes")));
  CHECK(repository.identity.usage == UsageType::system_service);
  CHECK(repository.restore->method == RestoreMethod::restore_at_reboot);
}

TEST_CASE("a directory service's document: a database with files and logs",
          "[vss:VSS_CT.DATABASE]") {
  const auto document = read(metadata(
      "usage=\"BOOTABLE_SYSTEM_STATE\" dataSource=\"NONTRANSACTEDDB\"",
      method("CUSTOM", "if_replace_fails") +
          "<BACKUP_LOCATIONS><DATABASE logicalPath=\"C:_Windows_NTDS\" componentName=\"ntds\" "
          "caption=\"\" selectable=\"no\" selectableForRestore=\"no\" componentFlags=\"3\" "
          "icon=\"AAH/\"><DATABASE_FILES path=\"C:\\N\" filespec=\"ntds.dit\"/><DATABASE_LOGFILES "
          "path=\"C:\\N\" filespec=\"edb*.log\" filespecBackupType=\"2056\"/><DATABASE_LOGFILES "
          "path=\"C:\\N\" filespec=\"edb.chk\"/><DEPENDENCY "
          "writerId=\"11111111-2222-3333-4444-555555555556\" logicalPath=\"\\\\dc2\\a\" "
          "componentName=\"b\"/></DATABASE></BACKUP_LOCATIONS>"));
  CHECK(document.identity.source == SourceType::nontransacted_db);
  CHECK(document.restore->method == RestoreMethod::custom);
  CHECK(document.restore->writer_restore == WriterRestore::if_replace_fails);
  const ComponentInfo& database = document.components[0];
  CHECK(database.type == ComponentType::database);
  CHECK(database.icon == std::string("\0\1\xFF", 3));
  CHECK(database.files.size() == 1);
  REQUIRE(database.log_files.size() == 2);
  CHECK(database.log_files[0].backup_type_mask == 2056);
  CHECK(parsed(database.dependencies[0]).machine == "dc2");
}

TEST_CASE("names that are ours: mappings, alternate paths, every restore method") {
  const std::string set = "path=\"D:\\a\" filespec=\"*\" recursive=\"yes\" ";
  const auto document = read(
      metadata("usage=\"OTHER\" dataSource=\"OTHER\"",
               "<RESTORE_METHOD method=\"STOP_RESTORE_START\" service=\"svc\" userProcedure=\"u\" "
               "writerRestore=\"always\" rebootRequired=\"no\"><ALTERNATE_LOCATION_MAPPING " +
                   set +
                   "alternatePath=\"D:\\b\"/></RESTORE_METHOD><BACKUP_LOCATIONS><FILE_GROUP "
                   "componentName=\"c\"><FILE_LIST " +
                   set + "alternatePath=\"D:\\spool\"/></FILE_GROUP></BACKUP_LOCATIONS>"));
  CHECK(document.restore->service == "svc");
  CHECK(document.restore->user_procedure == "u");
  CHECK(document.restore->alternate_locations[0] == AlternateLocation{"D:\\a", "*", true, "D:\\b"});
  CHECK(document.components[0].files[0].alternate_path == "D:\\spool");
  constexpr std::pair<const char*, RestoreMethod> kMethods[] = {
      {"RESTORE_IF_NOT_THERE", RestoreMethod::restore_if_not_there},
      {"RESTORE_TO_ALTERNATE_LOCATION", RestoreMethod::restore_to_alternate_location},
      {"CUSTOM", RestoreMethod::custom},
      {"RESTORE_STOP_START", RestoreMethod::restore_stop_start}};
  for (const auto& [name, wanted] : kMethods)
    CHECK(read(metadata("usage=\"OTHER\"", method(name))).restore->method == wanted);
}

TEST_CASE("what their documents say beyond it is kept") {
  const auto document = read(metadata(
      "usage=\"OTHER\" later=\"1\"",
      "<BACKUP_LOCATIONS><FILE_GROUP componentName=\"c\" color=\"red\"><SHAPE round=\"yes\"/>"
      "</FILE_GROUP><TAPES/></BACKUP_LOCATIONS><SIGNATURE/>"));
  const std::string xml = to_xml(document);
  for (const char* kept :
       {"later=\"1\"", "color=\"red\"", "<SHAPE round=\"yes\"", "<TAPES", "<SIGNATURE"})
    CHECK_THAT(xml, Catch::Contains(kept));
  CHECK_FALSE(parse_writer_metadata(metadata("usage=\"NEVER_HEARD\"", "")));
  CHECK_FALSE(parse_writer_metadata(metadata("usage=\"OTHER\"",
                                             "<BACKUP_LOCATIONS><FILE_GROUP componentName=\"c\" "
                                             "name=\"d\"/></BACKUP_LOCATIONS>")));
}

TEST_CASE("a components document of their shape is read, with what is ours in it") {
  const auto document = parse_backup_components(
      "<BACKUP_COMPONENTS xmlns=\"x-schema:#VssComponentMetadata\" version=\"1.2\" "
      "bootableSystemStateBackup=\"yes\" selectComponents=\"yes\" backupType=\"full\" "
      "partialFileSupport=\"no\" snapshotSetId=\"11111111-2222-3333-4444-555555555557\">"
      "<WRITER_COMPONENTS instanceId=\"11111111-2222-3333-4444-555555555555\" writerId=\"" +
      std::string(kWriterId) +
      "\" instanceName=\"i\" backupSchema=\"881\" xmlns=\"x-schema:#VssComponentMetadata\">"
      "<COMPONENT logicalPath=\"HOST\" componentName=\"db\" componentType=\"filegroup\" "
      "backupStamp=\"CAAAAA==\" restoreTarget=\"original_location\" fileRestoreStatus=\"all\" "
      "rollForwardType=\"partial\" rollForwardPoint=\"7\"><BACKUP_METADATA xmlns=\"\" "
      "metadata=\"abc\"/><PARTIAL_FILE path=\"C:\\\" filespec=\"f\" ranges=\"0:1\"/>"
      "<DIFFERENCED_FILE path=\"C:\\\" filespec=\"*\" recursive=\"yes\" lastModifyTime=\"5\"/>"
      "<DIRECTED_TARGET sourcePath=\"C:\\\" sourceFilename=\"f\" sourceRangeList=\"0:1\" "
      "destinationPath=\"D:\\\" destinationFilename=\"g\" destinationRangeList=\"0:1\"/>"
      "<RESTORE_SUBCOMPONENT logicalPath=\"HOST\\db\" componentName=\"s\" repair=\"no\"/>"
      "<FAILURE hr=\"0x800423F4\" hrApplication=\"7\" applicationMessage=\"m\"/>"
      "<NEW_TARGET path=\"C:\\\" filespec=\"*\" alternatePath=\"E:\\\"/></COMPONENT>"
      "</WRITER_COMPONENTS></BACKUP_COMPONENTS>");
  INFO((document ? "" : document.error().context));
  REQUIRE(document);
  CHECK(document->bootable_system_state);
  CHECK(document->backup_type == BackupType::full);
  const BackupComponent& component = document->writers.at(0).components.at(0);
  CHECK(component.type == ComponentType::file_group);
  CHECK(component.backup_stamp == "CAAAAA==");
  CHECK(component.backup_metadata == "abc");
  CHECK(component.restore_target == RestoreTarget::original_location);
  CHECK(component.roll_forward == RollForward{RollForwardType::partial, "7"});
  CHECK(component.partial_files == std::vector<PartialFile>{{"C:\\", "f", "0:1", ""}});
  CHECK(component.differenced_files == std::vector<DifferencedFile>{{"C:\\", "*", true, 5}});
  CHECK(component.directed_targets.size() == 1);
  CHECK(component.restore_subcomponents.size() == 1);
  CHECK(component.failure == ComponentFailure{Errc::writererror_nonretryable, 7, "m"});
  CHECK(component.new_targets[0].destination == "E:\\");
  CHECK(document->unknown.empty());
  CHECK(component.unknown.empty());
  CHECK(*parse_backup_components(to_xml(*document)) == *document);
}

}  // namespace
