// SPDX-License-Identifier: Apache-2.0
#include "provider/frontend/nbd/tcp_options.h"

#include "tests/support/catch.h"

using namespace umbra;
using namespace umbra::nbd;

TEST_CASE("an address to listen on is a port, with an address before it or the loopback's",
          "[nbd]") {
  const auto listens = [](std::string_view text) {
    const auto options = parse_tcp_options(text);
    REQUIRE(options);
    CHECK_FALSE(options->writable);
    return options->address + " " + std::to_string(options->port);
  };
  CHECK(listens("10809") == "127.0.0.1 10809");
  CHECK(listens("0") == "127.0.0.1 0");
  CHECK(listens("192.0.2.7:65535") == "192.0.2.7 65535");
  CHECK(listens("[::1]:10809") == "::1 10809");
}

TEST_CASE("what is no address to listen on is refused with the forms that are", "[nbd]") {
  const char* text = GENERATE("", ":", "10809x", "65536", "-1", ":10809", "127.0.0.1",
                              "127.0.0.1:", "::1:10809", "[::1]", "[]:10809");
  CAPTURE(text);
  const auto options = parse_tcp_options(text);
  REQUIRE_FALSE(options);
  CHECK(options.error().code == Errc::invalid_argument);
  CHECK(options.error().context.find("ADDRESS:PORT") != std::string::npos);
}
