// SPDX-License-Identifier: Apache-2.0
#include "provider/daemon/device_names_posix.h"

#include <filesystem>

#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

using namespace umbra;
namespace fs = std::filesystem;

TEST_CASE("a volume's name leads to its device, until it has none", "[device_names]") {
  const test::TempDir run;
  const cowd::DeviceNames names(run.path());
  names.remove("db");  // There is not even a directory.
  names.keep_only({});
  REQUIRE(names.set("db", "/dev/loop1"));
  REQUIRE(names.set("db", "/dev/loop2"));
  REQUIRE(names.set("mail", "/dev/loop3"));
  CHECK(fs::read_symlink(run / "dev/db") == "/dev/loop2");
  names.keep_only({"mail"});
  CHECK_FALSE(fs::is_symlink(run / "dev/db"));
  CHECK(fs::read_symlink(run / "dev/mail") == "/dev/loop3");
  names.remove("mail");
  CHECK(fs::is_empty(run / "dev"));
  fs::create_directory(run / "dev/taken");
  CHECK(names.set("taken", "/dev/loop1").error().code == Errc::io_error);
}
