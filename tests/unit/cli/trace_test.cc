// SPDX-License-Identifier: Apache-2.0
#include <boost/json/parse.hpp>
#include <boost/json/value.hpp>
#include <fstream>
#include <iterator>

#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"
#include "tests/unit/cli/fake_service.h"

namespace umbra::cli::test {
namespace {

using namespace std::chrono_literals;

requester::SetTrace story() {
  requester::SetTrace trace;
  trace.set_id = SnapshotSetId{kOne};
  trace.requester = "uid 7 pid 8";
  trace.begin_filetime = 134'150'976'000'000'000;
  trace.ended = true;
  trace.code = Errc::writererror_timeout;
  trace.context = "writer 'ledger', phase freeze";
  trace.spans = {{.actor = "umbrad", .what = "freeze", .begin = 10us, .end = 900us, .ended = true},
                 {.actor = "writer 'ledger'", .what = "freeze", .begin = 20us},
                 {.actor = "provider 'cow'",
                  .what = "abort_snapshots",
                  .begin = 700us,
                  .end = 800us,
                  .ended = true,
                  .code = Errc::bad_state,
                  .text = "no\x1b set"}};
  return trace;
}

TEST_CASE("a set's story is shown with who answered what, and who did not", "[cli]") {
  auto state = without_error();
  state.trace = story();
  const auto ran = umbra(state, {"trace", kOne.to_string()});
  CHECK(ran.status == 0);
  CHECK(state.calls == std::vector<std::string>{"trace " + kOne.to_string()});
  CHECK(ran.out.find("begun 2026-02-09T08:00:00Z by uid 7 pid 8") != std::string::npos);
  CHECK(ran.out.find("VSS_E_WRITERERROR_TIMEOUT: writer 'ledger', phase freeze") !=
        std::string::npos);
  CHECK(ran.out.find("20 us   writer 'ledger'  freeze           -       none") !=
        std::string::npos);
  CHECK(ran.out.find("VSS_E_BAD_STATE: no\\x1B set") != std::string::npos);
}

TEST_CASE("without an id it is the newest set's story", "[cli]") {
  auto state = without_error();
  state.trace = story();
  CHECK(umbra(state, {"trace"}).status == 0);
  CHECK(state.calls[0] == "trace 00000000-0000-0000-0000-000000000000");
  CHECK(umbra(state, {"trace", "nonsense"}).status != 0);
}

TEST_CASE("the sets whose story is known are listed", "[cli]") {
  auto state = without_error();
  state.trace = story();
  const auto ran = umbra(state, {"trace", "--list"});
  CHECK(ran.out.find(kOne.to_string() + "  2026-02-09T08:00:00Z  VSS_E_WRITERERROR_TIMEOUT") !=
        std::string::npos);
  CHECK(state.calls[0] == "traces");
}

TEST_CASE("a story as JSON: what has no answer has no end", "[cli]") {
  auto state = without_error();
  state.trace = story();
  const auto value = boost::json::parse(umbra(state, {"trace", "--json"}).out);
  CHECK(value.at("spans").as_array().size() == 3);
  CHECK(value.at("spans").at(0).at("end_us").as_int64() == 900);
  CHECK(value.at("spans").at(1).at("end_us").is_null());
  CHECK(value.at("code_name").as_string() == "VSS_E_WRITERERROR_TIMEOUT");
}

TEST_CASE("a story for trace viewers has a row for each who was asked", "[cli]") {
  const umbra::test::TempDir directory;
  auto state = without_error();
  state.trace = story();
  CHECK(umbra(state, {"trace", "--perfetto", directory / "story.json"}).status == 0);
  std::ifstream file(directory / "story.json");
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const auto value = boost::json::parse(text);
  const auto& events = value.at("traceEvents").as_array();
  std::size_t complete = 0;
  std::size_t rows = 0;
  for (const auto& event : events) {
    if (event.at("ph").as_string() == "X") {
      ++complete;
      CHECK(event.at("dur").as_int64() >= 0);
    }
    if (event.at("name").as_string() == "thread_name") ++rows;
  }
  CHECK(complete == 3);
  CHECK(rows == 4);
  // What was never answered lasts to the end of what is known.
  CHECK(events.at(1).at("dur").as_int64() == 880);
  CHECK(umbra(state, {"trace", "--perfetto", directory / "no/such/place"}).status != 0);
}

}  // namespace
}  // namespace umbra::cli::test
