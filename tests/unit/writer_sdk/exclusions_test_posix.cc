// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "engine/platform/unique_fd.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"
#include "writer-sdk/src/exclusions.h"

namespace {

using namespace umbra;
using namespace umbra::writer;
namespace fs = std::filesystem;

// A directory that poses as the mounted copy of the volume on /vol.
struct Copy {
  Copy() {
    fs::create_directories(root() + "/cache/deep");
    fs::create_directories(root() + "/data");
    for (const char* name : {"/cache/a.tmp", "/cache/b.keep", "/cache/deep/c.tmp", "/data/d.tmp"}) {
      std::ofstream(root() + name) << "content";
    }
  }
  [[nodiscard]] std::string root() const { return temp / "copy"; }
  [[nodiscard]] bool has(const std::string& name) const { return fs::exists(root() + name); }
  ExclusionReport run(const std::vector<FileSet>& files) const {
    const UniqueFd fd(::open(root().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    REQUIRE(fd);
    return delete_excluded_in(files, "/vol", fd.get());
  }
  test::TempDir temp;
};

FileSet set_of(const std::string& path, const std::string& pattern, bool recursive) {
  FileSet files;
  files.path = path;
  files.pattern = pattern;
  files.recursive = recursive;
  return files;
}

TEST_CASE("announced files go from the copy, and nothing else does",
          "[vss:IVssCreateWriterMetadataEx.AddExcludeFilesFromSnapshot]") {
  Copy copy;
  SECTION("in one directory") {
    const auto report = copy.run({set_of("/vol/cache", "*.tmp", false)});
    CHECK(report.deleted == 1);
    CHECK(report.bytes > 0);
    CHECK_FALSE(copy.has("/cache/a.tmp"));
    CHECK(copy.has("/cache/deep/c.tmp"));
  }
  SECTION("in a tree") {
    CHECK(copy.run({set_of("/vol/cache/", "*.tmp", true)}).deleted == 2);
    CHECK_FALSE(copy.has("/cache/deep/c.tmp"));
    CHECK(copy.has("/cache/deep"));
  }
  SECTION("of another volume, of a directory that is not there, of a path that leads out") {
    const auto report =
        copy.run({set_of("/volume/cache", "*", true), set_of("/srv", "*", true),
                  set_of("/vol/none", "*", true), set_of("/vol/cache/../data", "*", true)});
    CHECK(report.deleted == 0);
    CHECK(report.failed == 0);
    CHECK(copy.has("/cache/a.tmp"));
  }
  CHECK(copy.has("/cache/b.keep"));
  CHECK(copy.has("/data/d.tmp"));
}

TEST_CASE("links in the copy lead nowhere") {
  Copy copy;
  const std::string outside = copy.temp / "outside";
  fs::create_directories(outside);
  std::ofstream(outside + "/live.tmp") << "live";
  fs::create_directory_symlink(outside, copy.root() + "/cache/link");
  fs::create_directory_symlink(outside, copy.root() + "/linked");
  fs::create_symlink(outside + "/live.tmp", copy.root() + "/cache/file.tmp");
  const auto report =
      copy.run({set_of("/vol/cache", "*.tmp", true), set_of("/vol/linked", "*", true)});
  CHECK(report.deleted == 3);  // The link itself, too.
  CHECK_FALSE(fs::is_symlink(copy.root() + "/cache/file.tmp"));
  CHECK(fs::exists(outside + "/live.tmp"));
  CHECK(copy.has("/cache/link"));
}

TEST_CASE("live files are never taken for the copy's") {
  const Copy copy;
  const std::vector<FileSet> all{set_of(copy.root(), "*", true)};
  CHECK(delete_excluded_files(all, {copy.root(), copy.root()}).error().code == Errc::bad_state);
  CHECK(delete_excluded_files(all, {copy.temp / ".", copy.root()}).error().code == Errc::bad_state);
  CHECK(delete_excluded_files(all, {"vol", copy.root()}).error().code == Errc::invalid_argument);
  CHECK(delete_excluded_files(all, {"/", "copy"}).error().code == Errc::invalid_argument);
  CHECK(delete_excluded_files(all, {"/", copy.root() + "/none"}).error().code == Errc::io_error);
  CHECK(copy.has("/cache/a.tmp"));
  // /proc is another file system: nothing of the set is there.
  CHECK(delete_excluded_files(all, {copy.root(), "/proc"})->deleted == 0);
}

TEST_CASE("what cannot be deleted is told, and the rest goes") {
  const Copy copy;
  std::string deep = copy.root() + "/cache";
  for (int level = 0; level < 300; ++level) deep += "/d";
  fs::create_directories(deep);
  const auto report = copy.run({set_of("/vol/cache", "*.tmp", true)});
  CHECK(report.deleted == 2);
  CHECK(report.failed == 1);
  REQUIRE(report.failures.size() == 1);
  CHECK_THAT(report.failures[0], Catch::Contains("too deep"));
}

TEST_CASE("paths below a volume are found part by part") {
  using Parts = std::vector<std::string>;
  CHECK(parts_below("/vol", "/vol/a/b") == Parts{"a", "b"});
  CHECK(parts_below("/vol/", "/vol//a/./b/") == Parts{"a", "b"});
  CHECK(parts_below("/", "/a") == Parts{"a"});
  CHECK(parts_below("/vol", "/vol") == Parts{});
  CHECK_FALSE(parts_below("/vol", "/volume"));
  CHECK_FALSE(parts_below("/vol/a", "/vol"));
  CHECK_FALSE(parts_below("/vol", "/vol/../etc"));
}

TEST_CASE("exclusion patterns are VSS's") {
  CHECK(fits_pattern("*", "any.thing"));
  CHECK(fits_pattern("a*b*c", "a--b-b-c"));
  CHECK_FALSE(fits_pattern("a*b*c", "a--b-b-"));
  CHECK(fits_pattern("Perfc???.dat", "Perfc009.dat"));
  CHECK_FALSE(fits_pattern("Perfc???.dat", "Perfc09.dat"));
  CHECK_FALSE(fits_pattern("[ab]", "a"));
}

}  // namespace
