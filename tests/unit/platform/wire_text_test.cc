// SPDX-License-Identifier: Apache-2.0
#include "engine/platform/wire_text.h"

#include "engine/platform/prng.h"
#include "tests/support/catch.h"
#include "tests/support/seed.h"

namespace {

using namespace umbra;

TEST_CASE("common names travel as they are") {
  CHECK(escape_bytes("/srv/caf\xC3\xA9/\xF0\x9F\x98\x80 %41\\x") ==
        "/srv/caf\xC3\xA9/\xF0\x9F\x98\x80 %41\\x");
  CHECK(escape_bytes("").empty());
}

TEST_CASE("bytes that are no text are escaped one by one") {
  CHECK(escape_bytes("a\xFFz") ==
        "a\xE2\x90\x9B"
        "FFz");
  CHECK(escape_bytes("\n") ==
        "\xE2\x90\x9B"
        "0A");
  CHECK(escape_bytes("\xE2\x90\x9B") ==
        "\xE2\x90\x9B"
        "E2\xE2\x90\x9B"
        "90\xE2\x90\x9B"
        "9B");
  CHECK(escape_bytes("\xED\xA0\x80").find("ED") != std::string::npos);  // A surrogate.
  CHECK(escape_bytes("\xC0\x80").find("C0") != std::string::npos);      // Overlong.
}

TEST_CASE("any bytes come back and their text is well-formed") {
  Prng prng(umbra::test::seed());
  for (int round = 0; round < 20'000; ++round) {
    std::string bytes;
    for (std::uint64_t i = prng.below(12); i > 0; --i) {
      constexpr std::string_view kLikely = "a/\xE2\x90\x9B\xEF\xBF\xBE\x80\xC3\xA9\xF0\x00\n";
      bytes.push_back(prng.chance(1, 2) ? kLikely[prng.below(kLikely.size())]
                                        : static_cast<char>(prng.below(256)));
    }
    const std::string text = escape_bytes(bytes);
    REQUIRE(is_utf8(text));
    REQUIRE(is_utf8(to_utf8(bytes)));
    REQUIRE(unescape_bytes(text) == bytes);
  }
}

TEST_CASE("a broken escape is refused") {
  CHECK_FALSE(unescape_bytes("\xE2\x90\x9B"));
  CHECK_FALSE(
      unescape_bytes("\xE2\x90\x9B"
                     "F"));
  CHECK_FALSE(
      unescape_bytes("\xE2\x90\x9B"
                     "FG"));
  CHECK(unescape_bytes("\xE2\x90\x9B"
                       "ff") == "\xFF");
}

}  // namespace
