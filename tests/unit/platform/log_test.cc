// SPDX-License-Identifier: Apache-2.0
#include "engine/platform/log.h"
#include "tests/support/catch.h"

using namespace umbra;

TEST_CASE("printable keeps text and escapes what could deceive a terminal", "[platform]") {
  CHECK(printable("grün") == "grün");
  CHECK(printable("a\nb") == "a\\x0ab");
  CHECK(printable("\x1b[2J") == "\\x1b[2J");
  CHECK(printable("say \"hi\"") == "say \\\"hi\\\"");
  CHECK(printable("\xff\xfe") == "\\xff\\xfe");
  CHECK(printable("\xc2\x9b") == "\\xc2\\x9b");           // A C1 control: 8-bit CSI.
  CHECK(printable("\xed\xa0\x80") == "\\xed\\xa0\\x80");  // A surrogate.
  CHECK(printable("\xc0\xaf") == "\\xc0\\xaf");           // Overlong.
}

TEST_CASE("printable cuts at the limit without splitting a character", "[platform]") {
  CHECK(printable("ääää", 5) == "ää...");
}
