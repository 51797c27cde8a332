// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <filesystem>

#include "provider/daemon/process_linux.h"
#include "provider/daemon/system_view_linux.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

namespace fs = std::filesystem;
using namespace umbra;
using namespace umbra::cowd;

TEST_CASE("a lock file is one process's, says whose, and is free afterwards", "[cowd]") {
  const test::TempDir top;
  const std::string path = top / "cowd.lock";
  {
    const auto held = lock_file(path, std::chrono::milliseconds(0));
    REQUIRE(held);
    const auto second = lock_file(path, std::chrono::milliseconds(30));
    REQUIRE_FALSE(second);
    CHECK(second.error().code == Errc::volume_attached);
    CHECK(second.error().context.find("process " + std::to_string(::getpid())) == 0);
  }
  CHECK(lock_file(path, std::chrono::milliseconds(0)));
  CHECK(lock_file(top / "none/x", std::chrono::milliseconds(0)).error().code == Errc::io_error);
}

TEST_CASE("the host tells files, missing paths and others apart", "[cowd]") {
  const test::TempDir top;
  const auto real = real_path(top.path().string());
  REQUIRE(real);
  const LinuxHost host(*real + "/run");
  fs::create_directory(top / "run");
  const auto own = lock_file(top / "run/file", std::chrono::milliseconds(0));
  const auto file = lock_file(top / "file", std::chrono::milliseconds(0));
  REQUIRE(file);

  const auto facts = host.look_at(top / "file");
  REQUIRE(facts);
  CHECK(facts->kind == PathKind::file);
  CHECK(facts->size_bytes > 0);
  CHECK(facts->uses.empty());
  CHECK_FALSE(facts->stands_on.empty());
  fs::create_symlink("file", top / "link");
  CHECK(host.look_at(top / "link")->same_as(*facts));
  CHECK(host.look_at(top / "none")->kind == PathKind::missing);
  CHECK(host.look_at(top / "none")->stands_on == facts->stands_on);
  CHECK(host.look_at(top / "file/below")->kind == PathKind::missing);
  CHECK(host.look_at(top.path().string())->kind == PathKind::directory);
  CHECK(host.look_at("/dev/null")->kind == PathKind::other);
  CHECK(host.look_at(*real + "/run/file").error().code == Errc::invalid_argument);
}

TEST_CASE("the machine's start has an id, and mounts can be read", "[cowd]") {
  CHECK(read_boot_id());
  const auto mounts = read_mounts();
  REQUIRE(mounts);
  CHECK_FALSE(mounts->empty());
}
