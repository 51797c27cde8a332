// SPDX-License-Identifier: Apache-2.0
#include "umbra/ids.h"
#include "tests/support/catch.h"

using namespace umbra;

TEST_CASE("a GUID's text form reads back as the same GUID", "[platform]") {
  const auto id = VolumeId::random();
  CHECK(VolumeId::parse(id.to_string()).value() == id);
  CHECK(VolumeId::parse("{" + id.to_string() + "}").value() == id);
  CHECK_FALSE(id.is_nil());
}

TEST_CASE("upper case is accepted and printed in lower case", "[platform]") {
  const auto id = Guid::parse("7B9C2F1E-5D0A-4F4E-9C37-3F3F0A5B1C2D");
  REQUIRE(id);
  CHECK(id->to_string() == "7b9c2f1e-5d0a-4f4e-9c37-3f3f0a5b1c2d");
}

TEST_CASE("what is not a GUID is refused with the text in the error", "[platform]") {
  const auto text =
      GENERATE("", "x", "7b9c2f1e-5d0a-4f4e-9c37-3f3f0a5b1c2", "{7b9c2f1e}",
               "7b9c2f1e05d0a-4f4e-9c37-3f3f0a5b1c2d", "7b9c2f1e-5d0a-4f4e-9c37-3f3f0a5b1c2g");
  const auto id = Guid::parse(text);
  REQUIRE_FALSE(id);
  CHECK(id.error().code == Errc::invalid_argument);
  CHECK(id.error().context == "'" + std::string(text) + "' is not a GUID");
}
