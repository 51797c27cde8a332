// SPDX-License-Identifier: Apache-2.0
#include "requester-sdk/cli/commands.h"
#include "tests/support/catch.h"

namespace umbra::cli {
namespace {

TEST_CASE("a command gets its additions to the environment and gives its status", "[cli]") {
  const auto shell = [](const std::string& script) {
    return run_command({"sh", "-c", script}, {{"UMBRA_X", "a b"}});
  };
  CHECK(shell("test \"$UMBRA_X\" = 'a b'") == 0);
  CHECK(shell("exit 7") == 7);
  CHECK(shell("kill -TERM $$") == 128 + 15);
  // Interrupts end the command, not us.
  CHECK(shell("kill -INT $PPID; kill -INT $$") == 128 + 2);
}

TEST_CASE("a command that does not exist is told from one that cannot be run", "[cli]") {
  CHECK(run_command({"/nonexistent/program"}, {}).error().code == Errc::object_not_found);
  CHECK(run_command({"/etc/passwd"}, {}).error().code == Errc::access_denied);
}

}  // namespace
}  // namespace umbra::cli
