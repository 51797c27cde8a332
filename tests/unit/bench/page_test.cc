// SPDX-License-Identifier: Apache-2.0
#include <sstream>
#include <string>

#include "bench/harness/page.h"
#include "bench/harness/scenario.h"
#include "tests/support/catch.h"

using namespace umbra;

namespace {

std::string line_of(const std::string& key, std::optional<bench::Target> target,
                    const std::vector<double>& values, const std::string& baseline) {
  bench::Scenario scenario;
  scenario.key = key;
  scenario.unit = "ratio";
  scenario.target = target;
  bench::Outcome outcome;
  outcome.values = values;
  outcome.skipped = "no rival";
  outcome.baseline = baseline;
  return bench::to_json(scenario, outcome, {}) + "\n";
}

}  // namespace

TEST_CASE("the page says which targets are met, and what was skipped", "[bench]") {
  std::istringstream lines(
      line_of("first_write_vs_plain", bench::Target{0.65, true}, {0.7, 0.7, 0.7, 0.7, 0.8},
              "plain") +
      line_of("rewrite_vs_plain", bench::Target{0.97, true}, {0.7, 1, 1, 1, 1}, "plain") +
      line_of("first_write_vs_nbdkit_cow", {}, {}, ""));
  bench::Page page;
  REQUIRE(page.add(lines, "lines"));
  const auto html = page.html();
  REQUIRE(html);
  CHECK(html->find(">met<") != std::string::npos);
  CHECK(html->find(">not met<") != std::string::npos);
  CHECK(html->find("skipped: no rival") != std::string::npos);
  CHECK(html->find("nan") == std::string::npos);
}

TEST_CASE("what is in the lines stays text in the page", "[bench]") {
  std::istringstream lines(
      line_of("first_write_vs_plain", {}, {1, 1, 1, 1, 1}, "<img src=x onerror=\"alert(1)\">&"));
  bench::Page page;
  REQUIRE(page.add(lines, "lines"));
  const auto html = page.html();
  REQUIRE(html);
  CHECK(html->find("<img") == std::string::npos);
  CHECK(html->find("&lt;img src=x onerror=&quot;alert(1)&quot;&gt;&amp;") != std::string::npos);
}

TEST_CASE("the last line of a key counts", "[bench]") {
  std::istringstream lines(line_of("rewrite_vs_plain", {}, {1, 1, 1, 1, 1}, "the first") +
                           line_of("rewrite_vs_plain", {}, {1, 1, 1, 1, 1}, "the second"));
  bench::Page page;
  REQUIRE(page.add(lines, "lines"));
  CHECK(page.html()->find("the first") == std::string::npos);
  CHECK(page.html()->find("the second") != std::string::npos);
}

TEST_CASE("lines that are no figures are refused, by name", "[bench]") {
  for (const char* bad : {"key median", "[1]", "{\"key\":"}) {
    std::istringstream lines(std::string("\n") + bad + "\n");
    bench::Page page;
    const auto added = page.add(lines, "file.jsonl");
    REQUIRE_FALSE(added);
    CHECK(added.error().code == Errc::invalid_argument);
    CHECK(added.error().context.find("file.jsonl, line 2") != std::string::npos);
  }
  const bench::Page empty;
  CHECK_FALSE(empty.html());
  // Series of nonsense are left out, nothing else happens.
  std::istringstream odd(
      R"({"key":"latency_across_snapshot","median":1,"series":[1,{"points":[3,["a",1],[1]]}]})");
  bench::Page page;
  REQUIRE(page.add(odd, "odd"));
  CHECK(page.html());
}

TEST_CASE("the page of a long run says how it drifted, and escapes it", "[bench]") {
  std::istringstream lines(
      R"({"soak":{"seconds":3600,"medium":"a <disk>","smoke":false,"drift":[{"of":"memory of <it>",)"
      R"("unit":"MiB","first_quarter":10,"last_quarter":11.5,"slope_per_hour":2}],"series":[)"
      R"({"name":"memory of <it>","x":"seconds","y":"MiB","points":[[0,10],[3600,12]]}]}})");
  bench::Page page;
  REQUIRE(page.add(lines, "lines"));
  const auto html = page.html();
  REQUIRE(html);
  CHECK(html->find("A long run") != std::string::npos);
  CHECK(html->find("11.5") != std::string::npos);
  CHECK(html->find("<it>") == std::string::npos);
  CHECK(html->find("<disk>") == std::string::npos);
  CHECK(html->find("<svg") != std::string::npos);
  CHECK(html->find("All figures") == std::string::npos);  // There are none.
}

TEST_CASE("the page draws how the cost grows", "[bench]") {
  std::istringstream lines(
      R"({"key":"first_write_by_depth","unit":"ratio","median":0.5,"series":[{"name":"first writes",)"
      R"("points":[[1,100],[4,40]]},{"name":"without a snapshot","points":[[1,50],[4,20]]}]})");
  bench::Page page;
  REQUIRE(page.add(lines, "lines"));
  const auto html = page.html();
  REQUIRE(html);
  CHECK(html->find("Cost against the requests in flight") != std::string::npos);
  CHECK(html->find("without a snapshot") != std::string::npos);
  // Its figure belongs to its last point: it is no bar among those that can be compared.
  CHECK(html->find("What a snapshot costs") == std::string::npos);
}
