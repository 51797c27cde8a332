// SPDX-License-Identifier: Apache-2.0
// Which files a selection of components means, over directories that stand for copies.
#include "umbra/requester/file_list.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <set>

#include "engine/documents/ranges.h"
#include "requester-sdk/src/files.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

namespace {

using namespace umbra;
using namespace umbra::requester;
namespace fs = std::filesystem;

using Names = std::vector<std::string>;
const WriterClassId kWriter{Guid{{7}}};

struct World {
  World() {
    bundle.components.partial_file_support = true;
    part().class_id = kWriter;
    writer().identity.class_id = kWriter;
    writer().identity.name = "Ledger";
    writer().backup_schema = backup_schema::kIncremental | backup_schema::kDifferential |
                             backup_schema::kLog | backup_schema::kLastModify;
    options.sources = {{"/", top.path().string()}};
    options.variables.emplace();
    options.not_to_backup.clear();
  }
  WriterComponents& part() {
    if (bundle.components.writers.empty()) bundle.components.writers.emplace_back();
    return bundle.components.writers[0];
  }
  WriterMetadataDocument& writer() {
    if (bundle.writers.empty()) bundle.writers.emplace_back();
    return bundle.writers[0];
  }
  // Declares a component, and takes it into the backup if that is wanted.
  ComponentInfo& declare(const std::string& logical_path, const std::string& name,
                         bool selected = true) {
    ComponentInfo& info = writer().components.emplace_back();
    info.logical_path = logical_path;
    info.name = name;
    if (selected)
      part().components.push_back(BackupComponent{.logical_path = logical_path, .name = name});
    return info;
  }
  std::string make(const std::string& path, std::size_t bytes = 1) const {
    std::string place = top.path().string() + path;
    fs::create_directories(fs::path(place).parent_path());
    std::ofstream(place) << std::string(bytes, 'x');
    return place;
  }
  Names list() {
    files.clear();
    const auto done = list_files(bundle, options, [this](const ListedFile& file) -> Status {
      files.push_back(file);
      return {};
    });
    INFO((done ? "" : done.error().context));
    REQUIRE(done);
    summary = *done;
    Names names;
    for (const ListedFile& file : files)
      names.push_back(file.original + (file.kind == FileKind::directory ? "/" : ""));
    return names;
  }
  Error failure() {
    const auto done = list_files(bundle, options, [](const ListedFile&) { return Status(); });
    REQUIRE_FALSE(done);
    return done.error();
  }

  test::TempDir top;
  BackupBundle bundle;
  FileListOptions options;
  std::vector<ListedFile> files;
  FileListSummary summary;
};

TEST_CASE("the tree of VSS's documentation gives the files that it says",
          "[vss:rule.file-sets-recursion]") {
  World world;
  for (const char* name :
       {"/D1/File1.txt", "/D1/File2.txt", "/D1/D2/File1.txt", "/D1/D2/File2.txt"})
    world.make(name);
  fs::create_directories(world.top / "D1/D3");
  ComponentInfo& info = world.declare("", "c");
  info.files = {{.path = "/D1", .pattern = "File1.*", .recursive = true}};
  CHECK(world.list() == Names{"/D1/", "/D1/File1.txt", "/D1/D2/", "/D1/D2/File1.txt", "/D1/D3/"});
  info.files = {{.path = "/D1", .recursive = true}};
  CHECK(world.list() == Names{"/D1/", "/D1/File1.txt", "/D1/File2.txt", "/D1/D2/",
                              "/D1/D2/File1.txt", "/D1/D2/File2.txt", "/D1/D3/"});
  CHECK(world.summary.files == 4);
  CHECK(world.summary.directories == 3);
  CHECK(world.summary.bytes == 4);
  info.files = {{.path = "/D1"}};
  CHECK(world.list() == Names{"/D1/", "/D1/File1.txt", "/D1/File2.txt"});
}

TEST_CASE("a selection is the components and what comes with them",
          "[vss:rule.implicit-inclusion]") {
  World world;
  for (const char* name : {"/a/1", "/b/2", "/c/3", "/d/4"}) world.make(name);
  world.declare("", "all").files = {{.path = "/a", .pattern = "1"}};
  ComponentInfo& below = world.declare("all", "below", false);
  below.selectable = false;
  below.files = {{.path = "/b", .pattern = "2"}};
  world.declare("", "other").files = {{.path = "/c", .pattern = "3"}};
  world.declare("", "left out", false).files = {{.path = "/d", .pattern = "4"}};
  CHECK(world.list() == Names{"/a/", "/a/1", "/b/", "/b/2", "/c/", "/c/3"});
  CHECK(world.files[3].component == "all\\below");
  CHECK(world.files[3].class_id == kWriter);
  world.options.components = {{kWriter, "ALL\\below"}};
  CHECK(world.list() == Names{"/b/", "/b/2"});
  world.options.components = {{kWriter, "all"}};
  CHECK(world.list() == Names{"/a/", "/a/1", "/b/", "/b/2"});
  world.options.components = {{kWriter, ""}};
  CHECK(world.list().size() == 6);
  world.options.components = {{kWriter, "left out"}};
  CHECK(world.failure().code == Errc::object_not_found);
  world.options.components = {{WriterClassId{Guid{{8}}}, ""}};
  CHECK(world.failure().code == Errc::object_not_found);
}

TEST_CASE("a file that several sets name is listed once, one that is excluded never",
          "[vss:rule.exclude-wins][vss:rule.alternate-path]") {
  World world;
  for (const char* name :
       {"/a/x.db", "/a/y.db", "/a/z.tmp", "/a/s/x.db", "/spool/dump", "/spool/z.tmp"})
    world.make(name);
  ComponentInfo& info = world.declare("", "c");
  info.files = {{.path = "/a", .pattern = "x*"},
                {.path = "/a", .recursive = true},
                {.path = "/a/s", .recursive = true}};
  world.writer().excludes = {{.path = "/a", .pattern = "*.tmp", .recursive = true}};
  CHECK(world.list() == Names{"/a/", "/a/x.db", "/a/y.db", "/a/s/", "/a/s/x.db"});
  // Excludes are of the place where files belong, not of the one they are read from.
  info.files = {{.path = "/data", .alternate_path = "/spool"}};
  CHECK(world.list() == Names{"/data/", "/data/dump", "/data/z.tmp"});
  CHECK(world.files[1].source == world.top / "spool/dump");
  world.writer().excludes = {{.path = "/data", .pattern = "z*"}};
  CHECK(world.list() == Names{"/data/", "/data/dump"});
}

TEST_CASE("a name without wildcards has to be there, if it is copied at all") {
  World world;
  world.make("/a/here");
  ComponentInfo& info = world.declare("", "c");
  info.files = {{.path = "/a", .pattern = "here"}, {.path = "/a", .pattern = "not?"}};
  CHECK(world.list() == Names{"/a/", "/a/here"});
  info.files.push_back({.path = "/a", .pattern = "not"});
  CHECK(world.failure().code == Errc::object_not_found);
  CHECK_THAT(world.failure().context, Catch::Contains("component 'c'"));
  info.files[2].backup_type_mask = file_spec::kLogBackup;
  CHECK(world.list().size() == 2);
  info.files = {{.path = "/a", .pattern = "here"}};
  world.writer().excludes = {{.path = "/a", .pattern = "here"}};
  CHECK(world.list() == Names{"/a/"});
}

TEST_CASE("files that a writer makes during the backup are found where they will have been",
          "[vss:VSS_FSBT.CREATED_DURING_BACKUP]") {
  World world;
  const test::TempDir live;
  const std::string real = fs::canonical(live.path()).string() + "/real";
  const std::string link = fs::canonical(live.path()).string() + "/link";
  fs::create_directory(real);
  fs::create_directory_symlink(real, link);
  FileSet made{.path = link + "/dump", .pattern = "part.1"};
  made.backup_type_mask = file_spec::kFullBackup | file_spec::kCreatedDuringBackup;
  world.declare("", "c").files = {made};
  // Before the copy is made the directory is not there: it counts for the volume that would have
  // it,
  CHECK(device_of_declared(made.path) == device_of_declared(real));
  CHECK(device_of_declared(made.path) != 0);
  complete_bundle(world.bundle, {});
  CHECK(world.bundle.resolved_paths == std::vector<ResolvedPath>{{made.path, real + "/dump"}});
  // and what never came is missed.
  CHECK(world.failure().code == Errc::object_not_found);
  // The writer makes it in the copy, where links lead to the live file system.
  const std::string there = world.make(real + "/dump/part.1");
  fs::create_directory_symlink(real, world.top.path().string() + link);
  CHECK(world.list() == Names{made.path + "/", made.path + "/part.1"});
  CHECK(world.files[1].source == there);
  CHECK_FALSE(world.files[1].from_snapshot);  // The mask did not ask for it.
  // The bit says when, not whether: a mask without a type is part of no backup.
  world.writer().components[0].files[0].backup_type_mask = file_spec::kCreatedDuringBackup;
  CHECK(world.list().empty());
}

TEST_CASE("the type of the backup chooses sets, and of a database the logs") {
  World world;
  for (const char* name : {"/a/f", "/a/i", "/db/d", "/db/log1"}) world.make(name);
  ComponentInfo& info = world.declare("", "c");
  info.files = {{.path = "/a", .pattern = "f", .backup_type_mask = 0x101},
                {.path = "/a", .pattern = "i", .backup_type_mask = 0x004}};
  ComponentInfo& database = world.declare("", "db");
  database.type = ComponentType::database;
  database.files = {{.path = "/db", .pattern = "d"}};
  database.log_files = {{.path = "/db", .pattern = "log*"}};
  CHECK(world.list() == Names{"/a/", "/a/f", "/db/", "/db/d", "/db/log1"});
  CHECK(world.files[1].from_snapshot);
  world.options.type = BackupType::incremental;
  CHECK(world.list() == Names{"/a/", "/a/i", "/db/", "/db/d", "/db/log1"});
  CHECK_FALSE(world.files[1].from_snapshot);
  world.options.type = BackupType::log;
  CHECK(world.list() == Names{"/db/", "/db/log1"});
  world.writer().backup_schema = 0;  // It can only full backups, so it makes one.
  CHECK(world.list().size() == 5);
}

TEST_CASE("differenced files are copied by their time, new ones too",
          "[vss:rule.differenced-files]") {
  World world;
  const std::string old_file = world.make("/a/old");
  world.make("/a/young");
  world.make("/new/n");
  const struct timespec long_ago[2] = {{1'000'000, 0}, {1'000'000, 0}};
  REQUIRE(::utimensat(AT_FDCWD, old_file.c_str(), long_ago, 0) == 0);
  constexpr std::int64_t kOld = (11'644'473'600 + 1'000'000) * 10'000'000;
  world.declare("", "c").files = {{.path = "/a", .backup_type_mask = 0x101}};
  world.options.type = BackupType::incremental;
  CHECK(world.list().empty());
  auto& component = world.part().components[0];
  component.differenced_files = {{"/a", "*", false, 0}};
  world.options.base_filetime = kOld;
  CHECK(world.list() == Names{"/a/young"});
  world.options.base_filetime.reset();
  CHECK(world.list() == Names{"/a/old", "/a/young"});
  world.options.base_filetime = kOld + 100;
  component.differenced_files = {{"/a", "*", false, kOld}};
  CHECK(world.list() == Names{"/a/young"});
  component.differenced_files = {{"/a", "*", false, kOld}, {"/new", "*", false, 0}};
  CHECK(world.list() == Names{"/a/young", "/new/n"});
  CHECK(world.files[1].component == "c");
}

TEST_CASE("of partial files the ranges are copied, inline or from a file",
          "[vss:rule.partial-files][vss:rule.ranges]") {
  World world;
  world.make("/a/big", 100);
  world.make("/a/small", 10);
  world.make("/elsewhere/new", 50);
  world.declare("", "c").files = {{.path = "/a"}};
  auto& component = world.part().components[0];
  component.partial_files = {{"/a", "big", "90:50, 0:5,3:4", ""},
                             {"/elsewhere", "new", "File=/ranges/r", ""}};
  fs::create_directories(world.top / "ranges");
  std::ofstream(world.top / "ranges/r") << documents::encode_ranges({{1, 2}});
  CHECK(world.list() == Names{"/a/", "/a/big", "/a/small", "/elsewhere/new", "/ranges/r"});
  CHECK(world.files[1].ranges == std::vector<FileRange>{{0, 7}, {90, 10}});
  CHECK(world.files[2].ranges.empty());
  CHECK(world.files[3].ranges == std::vector<FileRange>{{1, 2}});
  CHECK(world.files[4].ranges.empty());
  CHECK(world.summary.bytes == 17 + 10 + 2 + 24);
  CHECK(world.summary.notes.size() == 1);
  // A requester that did not say it can handle ranges gets whole files.
  world.bundle.components.partial_file_support = false;
  world.list();
  CHECK(world.files[1].ranges.empty());
  world.bundle.components.partial_file_support = true;
  std::ofstream(world.top / "ranges/r") << "short";
  CHECK(world.failure().code == Errc::invalid_argument);
  component.partial_files = {{"/a", "gone", "0:1", ""}};
  CHECK(world.failure().code == Errc::object_not_found);
  component.partial_files = {{"/a", "big", "200:1", ""}};
  CHECK(world.list() == Names{"/a/", "/a/small"});
  component.differenced_files = {{"/a", "*", false, 0}};
  CHECK(world.list() == Names{"/a/", "/a/big", "/a/small"});
  CHECK(world.files[1].ranges.empty());
  CHECK_THAT(world.summary.notes.at(0), Catch::Contains("both"));
}

TEST_CASE("variables in paths are those of the machine, or they are told to be missing") {
  World world;
  world.make("/srv/data/f");
  world.make("/srv/data/t.tmp");
  world.declare("", "c").files = {{.path = "${DATA}/data"}};
  world.writer().excludes = {{.path = "%DATA%/data", .pattern = "*.tmp"}};
  (*world.options.variables)["DATA"] = "/srv";
  CHECK(world.list() == Names{"/srv/data/", "/srv/data/f"});
  world.options.variables->clear();
  CHECK(world.failure().code == Errc::object_not_found);
  CHECK_THAT(world.failure().context, Catch::Contains("'DATA'"));
}

TEST_CASE("the requester's own list is applied, but not against a writer that runs",
          "[vss:rule.files-not-to-backup][vss:config.FilesNotToBackup]") {
  World world;
  world.make("/a/f.swp");
  world.make("/a/deep/g.swp");
  world.make("/a/h");
  world.declare("", "c").files = {{.path = "/a", .recursive = true}};
  const std::string list = world.top / "list";
  world.options.not_to_backup = list;
  CHECK(world.failure().code == Errc::object_not_found);  // There is no such file.
  std::ofstream(list) << "[Editors]\n/a/*.swp /s\n";
  CHECK(world.list() == Names{"/a/", "/a/h", "/a/deep/"});
  std::ofstream(list) << "[ledger]\n/a/*.swp /s\n[x]\n/a/h\n";
  CHECK(world.list() == Names{"/a/", "/a/f.swp", "/a/deep/", "/a/deep/g.swp"});
  std::ofstream(list) << "a/*.swp";
  CHECK(world.failure().code == Errc::invalid_argument);
  CHECK_THAT(world.failure().context, Catch::Contains(list));
}

TEST_CASE("mounted volumes are read where they are, names are bytes, links are not followed") {
  World world;
  world.make("/one/f\xFF\n");
  fs::create_directories(world.top / "one/mnt");
  world.make("/two/sub/g");
  fs::create_directory_symlink("/etc", world.top / "one/link");
  world.declare("", "c").files = {{.path = "/data", .recursive = true}};
  world.options.sources = {{"/data", world.top / "one"}, {"/data/mnt", world.top / "two"}};
  CHECK(world.list() == Names{"/data/", "/data/f\xFF\n", "/data/link", "/data/mnt/",
                              "/data/mnt/sub/", "/data/mnt/sub/g"});
  CHECK(world.files[2].kind == FileKind::link);
  CHECK(world.files[5].source == world.top / "two/sub/g");
  // A directory of a set that leads out of the copies, and one that was resolved at backup time.
  world.writer().components[0].files = {{.path = "/data/link"}};
  CHECK(world.failure().code == Errc::access_denied);
  world.bundle.resolved_paths = {{"/data/link", "/data/mnt/sub"}};
  CHECK(world.list() == Names{"/data/link/", "/data/link/g"});
  world.writer().components[0].files = {{.path = "/elsewhere"}};
  CHECK(world.failure().code == Errc::object_not_found);
}

TEST_CASE("an error of the caller ends the list and is its error") {
  World world;
  world.make("/a/1");
  world.declare("", "c").files = {{.path = "/a"}};
  int calls = 0;
  const auto done = list_files(world.bundle, world.options, [&](const ListedFile&) -> Status {
    ++calls;
    return fail(Errc::insufficient_storage, "the tape is full");
  });
  REQUIRE_FALSE(done);
  CHECK(done.error().code == Errc::insufficient_storage);
  CHECK(calls == 1);
  world.options.sources.clear();
  CHECK(world.failure().code == Errc::invalid_argument);
  world.options.sources = {{"/", "/"}};
  world.bundle.writers.clear();
  CHECK(world.failure().code == Errc::invalid_xml_document);
}

}  // namespace
