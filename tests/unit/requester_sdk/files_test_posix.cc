// SPDX-License-Identifier: Apache-2.0
#include "requester-sdk/src/files.h"

#include <sys/sysmacros.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "requester-sdk/src/mounts.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"
#include "umbra/requester/bundle.h"

namespace {

using namespace umbra;
using namespace umbra::requester;
namespace fs = std::filesystem;

void make(const std::string& path) {
  fs::create_directories(fs::path(path).parent_path());
  std::ofstream(path) << path;
}

// Original paths below /data, without it; directories end with a slash.
std::vector<std::string> list(const SourceTree& tree, const FileSet& files,
                              const std::vector<FileSet>& excludes = {}) {
  const auto found = list_files(tree, files, excludes);
  REQUIRE(found);
  std::vector<std::string> names;
  for (const SourceFile& file : *found)
    names.push_back(file.original.substr(5) + (file.kind == FileKind::directory ? "/" : ""));
  return names;
}
using Names = std::vector<std::string>;

TEST_CASE("patterns know * and ? and nothing else") {
  CHECK(matches("*", ""));
  CHECK(matches("*", "any.thing"));
  CHECK(matches("a?c*", "abcde"));
  CHECK(matches("*.d*", "x.d.d"));
  CHECK(matches("**", "x"));
  CHECK(matches("[a]", "[a]"));
  CHECK_FALSE(matches("[a]", "a"));
  CHECK_FALSE(matches("?", ""));
  CHECK_FALSE(matches("a*b", "ac"));
  CHECK_FALSE(matches("a", "A"));
  CHECK_FALSE(matches("*a*a*a*a*a*a*a*b", std::string(500, 'a')));  // And in a moment.
}

TEST_CASE("file sets list what they mean, from where it is",
          "[vss:rule.file-sets-recursion][vss:rule.exclude-wins]") {
  const test::TempDir top;
  const std::string copy = top / "copy";
  for (const char* name : {"/data/a.db", "/data/b.txt", "/data/sub/a.db", "/data/sub/deep/c.db"})
    make(copy + name);
  fs::create_directories(copy + "/data/empty");
  fs::create_symlink("a.db", copy + "/data/link.db");
  SourceTree tree;
  tree.add("/", copy);
  CHECK(list(tree, {.path = "/data"}) == Names{"/", "/a.db", "/b.txt", "/link.db"});
  CHECK(list(tree, {.path = "/data/", .pattern = "a.*", .recursive = true}) ==
        Names{"//", "/a.db", "/empty/", "/sub/", "/sub/a.db", "/sub/deep/"});
  const std::vector<FileSet> excludes{{.path = "/data", .pattern = "a.*"},
                                      {.path = "/data/sub", .recursive = true}};
  CHECK(list(tree, {.path = "/data", .recursive = true}, excludes) ==
        Names{"/", "/b.txt", "/link.db", "/empty/", "/sub/", "/sub/deep/"});
  CHECK(list(tree, {.path = "/data/nowhere"}).empty());
  const auto missing = list_files(tree, {.path = "/data", .pattern = "must-be"}, {});
  REQUIRE_FALSE(missing);
  CHECK(missing.error().code == Errc::object_not_found);
}

TEST_CASE("an alternate path is read, the original path is told", "[vss:rule.alternate-path]") {
  const test::TempDir top;
  make(top / "spool/dump");
  SourceTree tree;
  tree.add("/", top.path().string());
  CHECK(list(tree, {.path = "/data", .alternate_path = "/spool"}) == Names{"/", "/dump"});
}

TEST_CASE("several volumes are read as they were mounted") {
  const test::TempDir top;
  make(top / "outer/file");
  fs::create_directories(top / "outer/inner");
  make(top / "second/hidden/there");
  SourceTree tree;
  tree.add("/data", top / "outer");
  tree.add("/data/inner", top / "second/hidden");
  CHECK(list(tree, {.path = "/data", .recursive = true}) ==
        Names{"/", "/file", "/inner/", "/inner/there"});
  CHECK(tree.locate("/data/inner/x") == top / "second/hidden/x");
  CHECK(tree.locate("/database") == std::nullopt);
  tree.add_resolved("/link/to", "/data/inner");
  CHECK(tree.locate("/link/to/") == top / "second/hidden");
  const auto outside = list_files(tree, {.path = "/database"}, {});
  REQUIRE_FALSE(outside);
  CHECK(outside.error().code == Errc::object_not_found);
}

TEST_CASE("the kernel's table of mounts is read with its escapes") {
  const auto mounts = parse_mountinfo(
      "21 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
      "22 21 7:3 /pg\\040data /var/lib/a\\134b rw,relatime shared:1 - ext4 /dev/loop3 rw\n"
      "nonsense\n"
      "23 21 7:x / /y rw - a b c\n");
  REQUIRE(mounts.size() == 2);
  CHECK(mounts[0].device == makedev(8, 1));
  CHECK(mounts[1].file_system == "ext4");
  CHECK(mounts[1].where == MountPoint{"/var/lib/a\\b", "/pg data"});
  CHECK(mounts[1].device == makedev(7, 3));
  CHECK_FALSE(own_mounts().empty());
}

BackupBundle bundle() {
  BackupBundle bundle;
  bundle.created_filetime = 133'000'000'000'000'001;
  bundle.machine = "host";
  bundle.volumes = {{VolumeId::random(), SnapshotId::random(), "v", {{"/srv", "/"}, {"/b", "/x"}}}};
  bundle.resolved_paths = {{"/link\xFF", "/srv/real"}};
  bundle.components.writers.emplace_back().components.push_back(BackupComponent{.name = "c"});
  bundle.writers.emplace_back().components.push_back(ComponentInfo{.name = "c"});
  bundle.writers[0].identity.name = "w";
  return bundle;
}

TEST_CASE("a bundle is kept whole, or the old one stays") {
  const test::TempDir top;
  const std::string path = top / "b.umbra.xml";
  const BackupBundle first = bundle();
  REQUIRE(save_bundle(first, path));
  CHECK(*load_bundle(path) == first);
  CHECK((fs::status(path).permissions() & fs::perms::all) ==
        (fs::perms::owner_read | fs::perms::owner_write));
  const BackupBundle second = bundle();
  REQUIRE(save_bundle(second, path));
  CHECK(*load_bundle(path) == second);
  CHECK(std::distance(fs::directory_iterator(top.path()), {}) == 1);
  CHECK(save_bundle(first, top / "no/such/place").error().code == Errc::object_not_found);
  CHECK(load_bundle(top / "nothing").error().code == Errc::object_not_found);
  fs::resize_file(path, fs::file_size(path) / 2);
  CHECK(load_bundle(path).error().code == Errc::invalid_xml_document);
}

}  // namespace
