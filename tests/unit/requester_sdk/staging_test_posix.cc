// SPDX-License-Identifier: Apache-2.0
#include "requester-sdk/src/staging.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

namespace {

using namespace umbra;
using namespace umbra::requester;
namespace fs = std::filesystem;

void write(const std::string& path, const std::string& text) {
  fs::create_directories(fs::path(path).parent_path());
  std::ofstream(path) << text;
}
std::string read(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}
std::size_t entries(const fs::path& directory) {
  return static_cast<std::size_t>(std::distance(fs::recursive_directory_iterator(directory), {}));
}

// "from" with two files and a directory, to be placed in "to".
struct Scene {
  Scene() {
    write(top / "from/a", "new a");
    write(top / "from/sub/b", "new b");
    fs::create_directories(top / "to");
    ::chmod((top / "from/sub").c_str(), 0750);
    add("", FileKind::directory);
    add("/a", FileKind::regular);
    add("/sub", FileKind::directory);
    add("/sub/b", FileKind::regular);
  }
  void add(const std::string& name, FileKind kind) {
    const std::string source = top.path().string() + "/from" + name;
    const std::uint64_t bytes = kind == FileKind::regular ? fs::file_size(source) : 0;
    placements.push_back({{"/o" + name, source, kind, bytes}, top.path().string() + "/to" + name});
  }
  Status run(Staging& staging) {
    Status done = staging.stage(placements);
    if (done) done = staging.flush();
    if (done) done = staging.commit();
    return done;
  }
  const test::TempDir top;
  std::vector<Placement> placements;
};

Staging::OnBytes always() {
  return [](std::uint64_t, bool) { return true; };
}

TEST_CASE("staged files replace what is there, with directories, and leave nothing beside") {
  Scene scene;
  write(scene.top / "to/a", "old a");
  std::uint64_t bytes = 0;
  std::size_t files = 0;
  Staging staging([&](std::uint64_t count, bool done) {
    bytes += count;
    files += done ? 1 : 0;
    return true;
  });
  REQUIRE(staging.stage(scene.placements));
  CHECK(read(scene.top / "to/a") == "old a");
  REQUIRE(staging.flush());
  REQUIRE(staging.commit());
  CHECK(staging.has_changed());
  CHECK(bytes == 10);
  CHECK(files == 2);
  CHECK(read(scene.top / "to/a") == "new a");
  CHECK(read(scene.top / "to/sub/b") == "new b");
  CHECK((fs::status(scene.top / "to/sub").permissions() & fs::perms::all) ==
        static_cast<fs::perms>(0750));
  CHECK(entries(scene.top.path() / "to") == 3);
}

TEST_CASE("what is not committed leaves the destination as it was") {
  Scene scene;
  write(scene.top / "to/a", "old a");
  SECTION("given up") {
    Staging staging(always());
    REQUIRE(staging.stage(scene.placements));
  }
  SECTION("cancelled at any moment") {
    const int after = GENERATE(range(0, 6));
    int calls = 0;
    Staging staging([&](std::uint64_t, bool) { return calls++ < after; });
    const Status done = staging.stage(scene.placements);
    REQUIRE_FALSE(done);
    CHECK(done.error().code == Errc::async_cancelled);
  }
  SECTION("a source that cannot be read") {
    fs::remove(scene.top / "from/sub/b");
    Staging staging(always());
    const Status done = staging.stage(scene.placements);
    REQUIRE_FALSE(done);
    CHECK(done.error().code == Errc::object_not_found);
    CHECK_FALSE(staging.has_changed());
  }
  SECTION("a source that has become shorter") {
    scene.placements[1].file.bytes += 100'000;
    Staging staging(always());
    REQUIRE_FALSE(staging.stage(scene.placements));
  }
  CHECK(read(scene.top / "to/a") == "old a");
  CHECK(entries(scene.top.path() / "to") == 1);
}

TEST_CASE("files and directories do not replace each other") {
  Scene scene;
  Staging staging(always());
  SECTION("a directory in a file's place") { fs::create_directories(scene.top / "to/a"); }
  SECTION("a file in a directory's place") { write(scene.top / "to/sub", "file"); }
  const Status done = staging.stage(scene.placements);
  REQUIRE_FALSE(done);
  CHECK(done.error().code == Errc::object_already_exists);
}

TEST_CASE("a link is replaced, not followed, and restored as a link") {
  Scene scene;
  write(scene.top / "precious", "precious");
  fs::create_symlink(scene.top / "precious", scene.top / "to/a");
  fs::create_symlink("a", scene.top / "from/link");
  scene.add("/link", FileKind::link);
  Staging staging(always());
  REQUIRE(scene.run(staging));
  CHECK(read(scene.top / "precious") == "precious");
  CHECK(fs::is_regular_file(fs::symlink_status(scene.top / "to/a")));
  CHECK(fs::read_symlink(scene.top / "to/link") == "a");
}

TEST_CASE("hard links stay together, holes stay holes, times are kept") {
  Scene scene;
  fs::create_hard_link(scene.top / "from/a", scene.top / "from/c");
  scene.add("/c", FileKind::regular);
  write(scene.top / "from/holes", "");
  fs::resize_file(scene.top / "from/holes", 4U << 20U);
  scene.add("/holes", FileKind::regular);
  const timespec times[2]{{1'000'000'000, 1}, {1'000'000'000, 7}};
  REQUIRE(::utimensat(AT_FDCWD, (scene.top / "from/a").c_str(), times, 0) == 0);
  Staging staging(always());
  REQUIRE(scene.run(staging));
  struct stat a {};
  struct stat c {};
  struct stat holes {};
  REQUIRE(::stat((scene.top / "to/a").c_str(), &a) == 0);
  REQUIRE(::stat((scene.top / "to/c").c_str(), &c) == 0);
  REQUIRE(::stat((scene.top / "to/holes").c_str(), &holes) == 0);
  CHECK(a.st_ino == c.st_ino);
  CHECK(a.st_mtim.tv_nsec == 7);
  CHECK(holes.st_size == 4 << 20);
  CHECK(holes.st_blocks < 100);
}

TEST_CASE("ranges go into a copy of what is there", "[vss:rule.ranges]") {
  Scene scene;
  write(scene.top / "to/a", "0123456789");
  scene.placements.resize(2);
  scene.placements[1].from = {{0, 3}, {4, 1}};
  scene.placements[1].to = {{1, 3}, {8, 1}};
  Staging staging(always());
  REQUIRE(staging.stage(scene.placements));
  CHECK(read(scene.top / "to/a") == "0123456789");
  REQUIRE(staging.commit());
  CHECK(read(scene.top / "to/a") == "0new4567a9");
  CHECK(entries(scene.top.path() / "to") == 1);
}

TEST_CASE("ranges into a file that is not there make one") {
  Scene scene;
  scene.placements.resize(2);
  scene.placements[1].from = {{0, 3}};
  scene.placements[1].to = {{2, 3}};
  Staging staging(always());
  REQUIRE(scene.run(staging));
  CHECK(read(scene.top / "to/a") == std::string("\0\0new", 5));
}

TEST_CASE("room is looked at before anything is copied") {
  Scene scene;
  CHECK(Staging::check_room(scene.placements));
  Placement huge = scene.placements[1];
  huge.file.source = scene.top / "from/huge";
  write(huge.file.source, "x");
  fs::resize_file(huge.file.source, 1ULL << 42U);
  huge.file.bytes = 1ULL << 42U;
  CHECK(Staging::check_room({huge}));  // A hole needs none.
}

}  // namespace
