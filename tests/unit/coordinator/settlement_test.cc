// SPDX-License-Identifier: Apache-2.0

#include "engine/coordinator/settlement.h"

#include "tests/support/catch.h"

namespace {

using namespace umbra;
using namespace umbra::coord;
using enum SetFate;

TEST_CASE("one created member completes the set, whoever is away", "[coordinator]") {
  CHECK(decide_settlement({{prepared, created}, true, true, false}) == Settlement::complete);
  CHECK(decide_settlement({{prepared, created, undecided}, false, false, false}) ==
        Settlement::complete);
}

TEST_CASE("a set that nobody has created goes when everybody has said so", "[coordinator]") {
  CHECK(decide_settlement({{prepared, none}, true, true, false}) == Settlement::discard);
  CHECK(decide_settlement({{prepared, prepared}, true, true, false}) == Settlement::discard);
  CHECK(decide_settlement({{prepared, none}, false, true, true}) == Settlement::wait);
  CHECK(decide_settlement({{prepared, undecided}, true, true, true}) == Settlement::wait);
}

TEST_CASE("a set with members that nobody has shown waits for who may have them, not for ever",
          "[coordinator]") {
  CHECK(decide_settlement({{prepared}, true, false, false}) == Settlement::wait);
  CHECK(decide_settlement({{prepared, none}, true, false, false}) == Settlement::wait);
  CHECK(decide_settlement({{prepared, none}, true, false, true}) == Settlement::discard);
  CHECK(decide_settlement({{prepared}, false, false, true}) == Settlement::wait);
}

}  // namespace
