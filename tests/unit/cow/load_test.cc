// SPDX-License-Identifier: Apache-2.0
//
// The random load that the model and crash tests share: what it does when a test fails.
#include <algorithm>

#include "tests/support/cow_load.h"
#include "tests/support/seed.h"

using namespace umbra;
using namespace umbra::test;

namespace {

CowLoadOptions all_sorts() {
  CowLoadOptions options;
  options.live_reads = options.windows = options.reverts = options.moves = true;
  return options;
}

}  // namespace

TEST_CASE("a load that is given up ends what it has in flight before it goes", "[cow][load]") {
  // As after a failed assertion, anywhere. A sanitizer sees what is wrong here.
  for (std::uint64_t actions = 0; actions < 40; ++actions) {
    CowWorld world(seed() + actions);
    CowLoad load(world, seed() * 3 + actions, all_sorts());
    world.open();
    for (std::uint64_t i = 0; i < actions * 5; ++i) load.act();
  }
  SUCCEED();
}

TEST_CASE("what a completion finds wrong is told by the load, not thrown", "[cow][load]") {
  CowWorld world(seed());
  CowLoadOptions options = all_sorts();
  options.reverts = options.moves = false;
  CowLoad load(world, seed() + 1, options);
  world.open();
  for (int i = 0; i < 100; ++i) load.act();
  CHECK(load.wrong().empty());
  auto& bytes = world.origin.bytes();
  std::fill(bytes.begin(), bytes.end(), std::byte{0x5A});
  for (int i = 0; i < 10'000 && load.wrong().empty(); ++i) load.act();
  CHECK_FALSE(load.wrong().empty());
}
