// SPDX-License-Identifier: Apache-2.0
#include "requester-sdk/cli/parse.h"

#include <boost/json/parse.hpp>
#include <boost/json/value.hpp>

#include "tests/support/catch.h"
#include "tests/unit/cli/fake_service.h"

namespace umbra::cli::test {
namespace {

using namespace std::chrono_literals;

TEST_CASE("durations have units and a bound", "[cli]") {
  CHECK(parse_duration("90") == 90s);
  CHECK(parse_duration("90s") == 90s);
  CHECK(parse_duration("500ms") == 500ms);
  CHECK(parse_duration("10m") == 10min);
  CHECK(parse_duration("2h") == 2h);
  for (const char* wrong :
       {"", "s", "-1", "1.5s", "1d", "1 s", "9999999h", "99999999999999999999"}) {
    CAPTURE(wrong);
    CHECK_FALSE(parse_duration(wrong));
  }
}

TEST_CASE("sizes have units and a bound", "[cli]") {
  CHECK(parse_bytes("0") == 0);
  CHECK(parse_bytes("4096") == 4096);
  CHECK(parse_bytes("16K") == 16 * 1024);
  CHECK(parse_bytes("16k") == 16 * 1024);
  CHECK(parse_bytes("3G") == 3ULL << 30);
  CHECK(parse_bytes("1E") == 1ULL << 60);
  for (const char* wrong : {"", "K", "-1", "1KB", "1.5G", "99999999E", "1{"}) {
    CAPTURE(wrong);
    CHECK_FALSE(parse_bytes(wrong));
  }
}

TEST_CASE("what people get without options: persistent, APP_ROLLBACK, COPY, involved", "[cli]") {
  auto state = without_error();
  REQUIRE(umbra(state, {"create", "shadow", "db"}).status == 0);
  CHECK(state.created.context == context::kAppRollback);
  CHECK(state.created.backup_type == BackupType::copy);
  CHECK(state.created.writer_policy == WriterPolicy::involved);
  CHECK(state.created.time_limit == 600s);
  CHECK(state.created.queue_limit == 0s);
  REQUIRE(state.created.volumes.size() == 1);
  CHECK(state.created.volumes[0].name == "db");
}

TEST_CASE("the options of a creation reach the session", "[cli]") {
  auto state = without_error();
  REQUIRE(umbra(state, {"create", "shadow", "a", "b", "--context", "nas-rollback", "--type", "full",
                        "--timeout", "90s", "--queue", "5m", "--writers",
                        kOne.to_string() + "," + kTwo.to_string()})
              .status == 0);
  CHECK(state.created.volumes.size() == 2);
  CHECK(state.created.context == context::kNasRollback);
  CHECK(state.created.backup_type == BackupType::full);
  CHECK(state.created.time_limit == 90s);
  CHECK(state.created.queue_limit == 300s);
  CHECK(state.created.writer_policy == WriterPolicy::list);
  CHECK(state.created.policy_list ==
        std::vector<WriterClassId>{WriterClassId{kOne}, WriterClassId{kTwo}});
  REQUIRE(umbra(state, {"create", "shadow", "a", "--writers", "none"}).status == 0);
  CHECK(state.created.writer_policy == WriterPolicy::none);
  REQUIRE(umbra(state, {"create", "shadow", "a", "--writers", "all"}).status == 0);
  CHECK(state.created.writer_policy == WriterPolicy::all);
}

TEST_CASE("a wrong command line ends with 2, says why, and asks nothing of umbrad", "[cli]") {
  const std::vector<std::vector<std::string>> wrong{
      {},
      {"freeze"},
      {"list"},
      {"list", "snapshots"},
      {"create", "shadow"},
      {"create", "shadow", "db", "--context", "weekly"},
      {"create", "shadow", "db", "--context", "backup"},
      {"create", "shadow", "db", "--writers", "most"},
      {"create", "shadow", "db", "--writers", ""},
      {"create", "shadow", "db", "--timeout", "soon"},
      {"delete", "shadows"},
      {"delete", "shadows", "everything"},
      {"delete", "shadows", "--all", "--volume", "db"},
      {"delete", "shadows", kOne.to_string(), "--all"},
      {"attach", "origin"},
      {"attach", "origin", "--diff", "d", "--expose", "usb"},
      {"attach", "origin", "--diff", "d", "--chunk", "big"},
      {"mount"},
      {"mount", "not-an-id"},
      {"unmount"},
      {"detach"},
      {"exec", "db"},
      {"exec", "db", "--"},
      {"status", "--verbose"},
      {"add", "shadowstorage"},
      {"add", "shadowstorage", "--for", "db", "--max", "much"},
      {"resize", "shadowstorage", "--for", "db", "--max", "0"},
      {"resize", "shadowstorage", "--for", "db", "--max", "101%"},
      {"delete", "shadowstorage"},
      {"protection"},
      {"protection", "db", "set"},
      {"protection", "db", "set", "nothing"},
      {"retain", kOne.to_string()},
      {"retain", kOne.to_string(), "--until", "soon"},
      {"retain", kOne.to_string(), "--until", "2027-02-30"},
      {"retain", kOne.to_string(), "--for", "1d", "--until", "2027-01-01"},
      {"operations", "--wait", kOne.to_string(), "--cancel", kOne.to_string()},
  };
  for (const auto& words : wrong) {
    auto state = without_error();
    const auto ran = umbra(state, words);
    CAPTURE(words);
    CHECK(ran.status == 2);
    CHECK(ran.err.find("umbra: ") == 0);
    CHECK(ran.out.empty());
    CHECK(state.calls.empty());
  }
}

TEST_CASE("a wrong command line with --json is one JSON object on standard error", "[cli]") {
  auto state = without_error();
  const auto ran = umbra(state, {"create", "shadow", "--json"});
  CHECK(ran.status == 2);
  const auto value = boost::json::parse(ran.err);
  CHECK(value.at("error").at("exit_status").as_int64() == 2);
  CHECK(value.at("error").at("name").as_string() == "E_INVALIDARG");
}

TEST_CASE("every command's help ends with the exit statuses", "[cli]") {
  const std::vector<std::vector<std::string>> commands{{},
                                                       {"attach"},
                                                       {"detach"},
                                                       {"list"},
                                                       {"list", "volumes"},
                                                       {"list", "shadows"},
                                                       {"list", "writers"},
                                                       {"list", "providers"},
                                                       {"list", "shadowstorage"},
                                                       {"list", "events"},
                                                       {"add", "shadowstorage"},
                                                       {"resize", "shadowstorage"},
                                                       {"delete", "shadowstorage"},
                                                       {"protection"},
                                                       {"retain"},
                                                       {"operations"},
                                                       {"events"},
                                                       {"create"},
                                                       {"create", "shadow"},
                                                       {"delete"},
                                                       {"delete", "shadows"},
                                                       {"mount"},
                                                       {"unmount"},
                                                       {"abort"},
                                                       {"register"},
                                                       {"register", "provider"},
                                                       {"unregister", "provider"},
                                                       {"status"},
                                                       {"exec"}};
  for (auto words : commands) {
    words.emplace_back("--help");
    auto state = without_error();
    const auto ran = umbra(state, words);
    CAPTURE(words);
    CHECK(ran.status == 0);
    CHECK(ran.out.find("EXIT STATUS") != std::string::npos);
    CHECK(ran.err.empty());
  }
}

TEST_CASE("global options may stand anywhere before --", "[cli]") {
  for (const auto& words :
       std::vector<std::vector<std::string>>{{"--run-dir", "/r", "--json", "list", "volumes"},
                                             {"list", "--run-dir", "/r", "volumes", "--json"},
                                             {"list", "volumes", "--json", "--run-dir", "/r"}}) {
    auto state = without_error();
    const auto ran = umbra(state, words);
    CHECK(ran.status == 0);
    CHECK(state.socket == "/r/umbrad.sock");
    CHECK(boost::json::parse(ran.out).is_object());
  }
  auto state = without_error();
  CHECK(umbra(state, {"status", "--socket", "/s", "--run-dir", "/r"}).status == 0);
  CHECK(state.socket == "/s");
  CHECK(umbra(state, {"status"}).status == 0);
  CHECK(state.socket.empty());
}

TEST_CASE("attach passes everything on, with absolute paths", "[cli]") {
  auto state = without_error();
  REQUIRE(umbra(state, {"attach",
                        "images/db.img",
                        "--diff",
                        "/diff/db",
                        "--name",
                        "db",
                        "--chunk",
                        "64K",
                        "--diff-size",
                        "1G",
                        "--diff-max",
                        "20G",
                        "--snapshots-max",
                        "512",
                        "--expose",
                        "nbd",
                        "--cache",
                        "none",
                        "--preserve",
                        "reflink",
                        "--accept-changed-origin",
                        "--origin-moved",
                        "--force"})
              .status == 0);
  CHECK(state.attached.origin_path.front() == '/');
  CHECK(state.attached.origin_path.ends_with("/images/db.img"));
  CHECK(state.attached.diff_area_path == "/diff/db");
  CHECK(state.attached.name == "db");
  CHECK(state.attached.chunk_bytes == 64 * 1024);
  CHECK(state.attached.diff_initial_bytes == 1ULL << 30);
  CHECK(state.attached.diff_maximum_bytes == 20ULL << 30);
  CHECK(state.attached.snapshots_max == 512);
  CHECK(state.attached.front_end == requester::FrontEnd::nbd);
  CHECK(state.attached.cache == requester::OriginCache::none);
  CHECK(state.attached.preserve == requester::Preservation::reflink);
  CHECK(state.attached.accept_changed_origin);
  CHECK(state.attached.origin_moved);
  CHECK(state.attached.force);
}

}  // namespace
}  // namespace umbra::cli::test
