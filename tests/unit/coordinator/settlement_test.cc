// SPDX-License-Identifier: Apache-2.0

#include "engine/coordinator/settlement.h"

#include "tests/support/catch.h"

namespace {

using namespace umbra;
using namespace umbra::coord;
using enum SetFate;

TEST_CASE("one created member completes the set, whoever is away", "[coordinator]") {
  CHECK(decide_settlement({prepared, created}, true) == Settlement::complete);
  CHECK(decide_settlement({prepared, created, undecided}, false) == Settlement::complete);
}

TEST_CASE("a set that nobody has created goes when everybody has said so", "[coordinator]") {
  CHECK(decide_settlement({prepared, none}, true) == Settlement::discard);
  CHECK(decide_settlement({prepared, prepared}, true) == Settlement::discard);
  CHECK(decide_settlement({prepared, none}, false) == Settlement::wait);
  CHECK(decide_settlement({prepared, undecided}, true) == Settlement::wait);
}

}  // namespace
