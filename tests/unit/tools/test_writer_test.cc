// SPDX-License-Identifier: Apache-2.0
#include <filesystem>
#include <fstream>

#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"
#include "tests/tools/test_writer/behaviour.h"
#include "tests/tools/test_writer/config.h"

namespace {

using namespace umbra;
using namespace umbra::test_writer;

std::string mistake(const std::string& xml) {
  const auto config = parse_config(xml);
  return config ? "" : config.error().context;
}

TEST_CASE("a whole configuration is understood") {
  const auto config = parse_config(R"(<TestWriter usage="SYSTEM_SERVICE" deleteFiles="yes"
      checkIncludes="yes" supportsIncremental="yes" supportsStamps="yes" verbosity="high">
    <RestoreMethod method="RESTORE_IF_CAN_BE_REPLACED" writerRestore="always">
      <AlternateLocationMapping path="/srv/a" filespec="*.db" recursive="yes"
          alternatePath="/srv/b"/>
    </RestoreMethod>
    <ExcludeFile path="/srv/a" filespec="*.tmp" recursive="yes"/>
    <ExcludeFileFromSnapshot path="/srv/cache"/>
    <Component componentType="filegroup" logicalPath="p" componentName="c" selectable="no"
        backupStamp="s1" backupMetadata="m" restoreMetadata="r" restoreTarget="directed">
      <ComponentFile path="/srv/a" filespec="*.db" recursive="yes" alternatePath="/srv/spit"
          incBackupRequired="no" logSnapshotRequired="no"/>
      <Dependency writerId="5f0c8d3e-2b52-4d7e-9a43-6f8e1b0c7a11" componentName="x"/>
      <PartialFile path="/srv/a" filespec="big.db" ranges="0:512"/>
      <DifferencedFile path="/srv/a" filespec="*.db" year="1970" month="1" day="2" hour="1"/>
      <DirectedTarget sourcePath="/srv/a" sourceFile="f" sourceRanges="0:1"
          destinationPath="/srv/c" destinationFile="g" destinationRanges="0:1"/>
    </Component>
    <Component componentType="database" componentName="d">
      <ComponentFile path="/srv/d"/>
      <ComponentLogFile path="/srv/log"/>
    </Component>
    <FailEvent writerEvent="Freeze" retryable="no" numFailures="2"/>
    <FailEvent writerEvent="Thaw" code="timeout"/>
    <DelayEvent writerEvent="PostSnapshot" milliseconds="7"/>
  </TestWriter>)");
  INFO((config ? "" : config.error().context));
  REQUIRE(config);
  CHECK(config->usage == UsageType::system_service);
  CHECK(config->schema == (backup_schema::kIncremental | backup_schema::kTimestamped));
  CHECK((config->delete_files && config->check_includes && !config->check_excludes));
  CHECK(config->restore->alternate_locations[0] ==
        AlternateLocation{"/srv/a", "*.db", true, "/srv/b"});
  REQUIRE(config->components.size() == 2);
  const Component& c = config->components[0];
  CHECK_FALSE(c.info.selectable);
  CHECK(c.info.files[0].backup_type_mask == 0x70B);
  CHECK(c.info.files[0].alternate_path == "/srv/spit");
  CHECK(c.partial_files[0].file_name == "big.db");
  CHECK(c.restore_target == RestoreTarget::directed);
  CHECK(c.directed_targets.size() == 1);
  // 1970-01-02 01:00 UTC: 25 hours after the Unix epoch.
  CHECK(c.differenced_files[0].last_modify_filetime == (11'644'473'600LL + 25 * 3600) * 10'000'000);
  CHECK(config->components[1].info.log_files.size() == 1);
  CHECK(config->failures.at("freeze").code == Errc::writererror_nonretryable);
  CHECK(config->failures.at("freeze").left == 2);
  CHECK(config->failures.at("thaw").code == Errc::writererror_timeout);
  CHECK(config->delays.at("post_snapshot") == std::chrono::milliseconds(7));
}

TEST_CASE("what is not understood is named, never passed over") {
  CHECK_THAT(mistake("<TestWriter"), Catch::Contains("at byte"));
  CHECK_THAT(mistake("<Writer/>"), Catch::Contains("TestWriter"));
  CHECK(mistake("<TestWriter/>").empty());
  CHECK(mistake("<TestWriter usge='x'/>") == "TestWriter@usge is not understood");
  CHECK_THAT(mistake("<TestWriter usage='x'/>"), Catch::Contains("BOOTABLE_SYSTEM_STATE"));
  CHECK_THAT(mistake("<TestWriter deleteFiles='1'/>"), Catch::Contains("yes or no"));
  CHECK_THAT(mistake("<TestWriter><Componnt/></TestWriter>"), Catch::Contains("Componnt"));
  CHECK_THAT(mistake("<TestWriter><Component/></TestWriter>"),
             Catch::Contains("componentName is missing"));
  CHECK_THAT(mistake("<TestWriter><Component componentName='c'><File/></Component></TestWriter>"),
             Catch::Contains("Component/File"));
  CHECK_THAT(mistake("<TestWriter><FailEvent writerEvent='Frieze'/></TestWriter>"),
             Catch::Contains("Freeze"));
  CHECK_THAT(mistake("<TestWriter><FailEvent writerEvent='Freeze' numFailures='-1'/></TestWriter>"),
             Catch::Contains("numFailures"));
  CHECK_THAT(mistake("<TestWriter><Component componentName='c'><DifferencedFile path='/a' "
                     "year='2023' month='2' day='30'/></Component></TestWriter>"),
             Catch::Contains("a date"));
  CHECK_THAT(mistake("<TestWriter><Component componentName='c'><Dependency writerId='x' "
                     "componentName='y'/></Component></TestWriter>"),
             Catch::Contains("GUID"));
  CHECK(read_config("/nowhere").error().code == Errc::io_error);
}

TEST_CASE("patterns are VSS's") {
  CHECK(fits("*", "any.thing"));
  CHECK(fits("*", ""));
  CHECK(fits("a*b*c", "a--b-b-c"));
  CHECK_FALSE(fits("a*b*c", "a--b-b-"));
  CHECK(fits("Perfc???.dat", "Perfc009.dat"));
  CHECK_FALSE(fits("Perfc???.dat", "Perfc09.dat"));
  CHECK_FALSE(fits("[ab]", "a"));
  CHECK_FALSE(fits("", "a"));
}

TEST_CASE("an event fails as often as it was told to") {
  auto config =
      parse_config(R"(<TestWriter><FailEvent writerEvent="Freeze" numFailures="2"/></TestWriter>)");
  REQUIRE(config);
  Behaviour behaviour(std::move(*config));
  CHECK(behaviour.fail_if_asked("thaw"));
  CHECK(behaviour.fail_if_asked("freeze").error().code == Errc::writererror_retryable);
  CHECK_FALSE(behaviour.fail_if_asked("freeze"));
  CHECK(behaviour.fail_if_asked("freeze"));
}

TEST_CASE("files of a set are found, links are not followed, and belong to it") {
  const test::TempDir temp;
  const std::string root = temp / "srv";
  std::filesystem::create_directories(root + "/sub/deep");
  for (const char* name : {"/a.db", "/b.txt", "/sub/c.db", "/sub/deep/d.db"}) {
    std::ofstream(root + name) << "x";
  }
  std::filesystem::create_directory_symlink(root + "/sub", root + "/link");
  FileSet files{.path = root, .pattern = "*.db"};
  CHECK(files_in(files) == std::vector<std::string>{root + "/a.db"});
  files.recursive = true;
  CHECK(files_in(files) ==
        std::vector<std::string>{root + "/a.db", root + "/sub/c.db", root + "/sub/deep/d.db"});
  CHECK(files_in(files, root + "/sub").size() == 2);
  CHECK(is_in(files, root + "/sub/c.db"));
  CHECK_FALSE(is_in(files, root + "/b.txt"));
  CHECK_FALSE(is_in(files, root + "2/a.db"));
  files.recursive = false;
  CHECK(is_in(files, root + "/a.db"));
  CHECK_FALSE(is_in(files, root + "/sub/c.db"));
  files.path = root + "/";
  CHECK(is_in(files, root + "/a.db"));
  CHECK(files_in({.path = root + "/none"}).empty());
}

}  // namespace
