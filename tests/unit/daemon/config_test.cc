// SPDX-License-Identifier: Apache-2.0

#include "engine/daemon/config.h"

#include <fstream>
#include <string>

#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

namespace {

using namespace umbra;
using namespace umbra::daemon;

TEST_CASE("a configuration file sets limits and groups", "[daemon]") {
  Config config;
  REQUIRE(apply_toml(config, R"(
[roles]
writers = "postgres"
requesters = 1000
[limits]
post_snapshot = 60000
connections = 10
)"));
  CHECK(config.writer_group == "postgres");
  CHECK(config.requester_group == "1000");
  CHECK(config.limits.post_snapshot == std::chrono::seconds{60});
  CHECK(config.connections == 10);
  CHECK(config.limits.identify == coord::Limits{}.identify);
}

TEST_CASE("an empty configuration changes nothing", "[daemon]") {
  Config config;
  REQUIRE(apply_toml(config, ""));
  CHECK(config.writer_group == "umbra-writer");
}

TEST_CASE("a mistake names key or line, and nothing of the file is applied",
          "[daemon]"
          "[vss:limit.freeze-to-thaw-60s][vss:limit.hold-of-writes-10s]") {
  struct Mistake {
    std::string text;
    std::string word;
  };
  for (const auto& [text, word] : {Mistake{"[limits\n", "line 1"},
                                   {"\n\nx = = 1\n", "line 3"},
                                   {"[limits]\nidentify = 0\n", "limits.identify"},
                                   {"[limits]\nidentify = -5\n", "limits.identify"},
                                   {"[limits]\nidentify = \"long\"\n", "limits.identify"},
                                   {"[limits]\nidentify = 1000000000\n", "limits.identify"},
                                   {"[limits]\nfreeze_window = 60001\n", "60000"},
                                   {"[limits]\nhold_lease = 10001\n", "10000"},
                                   {"[limits]\nconnections = 0\n", "limits.connections"},
                                   {"[limits]\npatience = 1\n", "no such limit"},
                                   {"[roles]\nadmins = \"x\"\n", "roles.admins"},
                                   {"[roles]\nwriters = \"\"\n", "roles.writers"},
                                   {"[roles]\nwriters = -1\n", "roles.writers"},
                                   {"[colours]\n", "colours"},
                                   {"identify = 5\n", "identify"}}) {
    INFO(text);
    Config config;
    const auto status = apply_toml(config, "[roles]\nrequesters = 'kept'\n" + text);
    const auto alone = apply_toml(config, text);
    REQUIRE(!alone);
    CHECK(alone.error().code == Errc::invalid_argument);
    CHECK(alone.error().context.find(word) != std::string::npos);
    CHECK(!status);
    CHECK(config.requester_group == "umbra");
  }
}

TEST_CASE("a file that cannot be read is an error with its name", "[daemon]") {
  const test::TempDir directory;
  Config config;
  const auto missing = apply_toml_file(config, directory / "none.toml");
  REQUIRE(!missing);
  CHECK(missing.error().code == Errc::io_error);
  std::ofstream(directory / "bad.toml") << "[limits]\npatience = 1\n";
  const auto bad = apply_toml_file(config, directory / "bad.toml");
  REQUIRE(!bad);
  CHECK(bad.error().context.find("bad.toml") != std::string::npos);
  std::ofstream(directory / "good.toml") << "[limits]\nthaw = 1000\n";
  CHECK(apply_toml_file(config, directory / "good.toml"));
}

}  // namespace
