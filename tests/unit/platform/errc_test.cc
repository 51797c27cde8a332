// SPDX-License-Identifier: Apache-2.0
#include <set>
#include <string>

#include "tests/support/catch.h"
#include "umbra/errc.h"
#include "umbra/result.h"

using namespace umbra;

namespace {

struct Row {
  Errc code;
  std::string_view name;
};
#define UMBRA_TEST_ROW(name, number, text_name, remedy_class, text) {Errc::name, text_name},
const Row kRows[] = {UMBRA_ERRC_TABLE(UMBRA_TEST_ROW)};

}  // namespace

TEST_CASE("no two error codes share a number or a name", "[platform]") {
  std::set<Errc> codes;
  std::set<std::string_view> names;
  for (const auto& row : kRows) {
    CAPTURE(row.name);
    CHECK(codes.insert(row.code).second);
    CHECK(names.insert(row.name).second);
    CHECK(code_name(row.code) == row.name);
    CHECK_FALSE(describe(row.code).empty());
  }
}

TEST_CASE("codes of our own lie in the customer range and VSS's do not", "[platform]") {
  constexpr std::uint32_t kCustomerBit = 0x20000000;
  for (const auto& row : kRows) {
    CAPTURE(row.name);
    const bool ours = row.name.substr(0, 6) == "UMBRA_";
    CHECK(((static_cast<std::uint32_t>(row.code) & kCustomerBit) != 0) == ours);
  }
}

TEST_CASE("a number from a newer peer has a name, a text and a remedy", "[platform]") {
  const auto unknown = Errc{0xA004FFFF};
  CHECK(code_name(unknown) == "unknown");
  CHECK(remedy(unknown) == Remedy::give_up);
}

TEST_CASE("facts are put in front of an error's context", "[platform]") {
  const auto inner = fail(Errc::io_error, "read at 4096");
  const auto outer = fail(inner.value(), "volume 'db'");
  CHECK(outer.value().context == "volume 'db': read at 4096");
  CHECK(outer.value().to_string() ==
        "UMBRA_E_IO (0xA0040301): reading or writing failed: volume 'db': read at 4096");
}
