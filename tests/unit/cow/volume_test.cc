// SPDX-License-Identifier: Apache-2.0
#include "provider/cow/volume.h"

#include "tests/support/cow_world.h"
#include "tests/support/seed.h"

using namespace umbra;
using namespace umbra::test;

TEST_CASE("a snapshot shows the volume as it was at its commit", "[cow]") {
  CowWorld world(seed());
  world.open();
  REQUIRE(world.write(4096, 8192) == 0);
  const SnapshotId first = world.take(true);
  REQUIRE(world.write(0, 65536) == 0);
  REQUIRE(world.write(512, 512) == 0);
  const SnapshotId second = world.take(false);
  REQUIRE(world.write(16384 - 512, 1024) == 0);
  world.check_all();
  CHECK(world.volume->statistics().chunks_preserved == 4 + 2);
  world.remove(second);
  world.check_all();
  REQUIRE(world.write(0, 1U << 20U) == 0);
  world.check_all();
  REQUIRE(world.volume->close());
  CHECK(world.run(block::Op::flush) == EIO);
  world.volume.reset();
  world.open();
  world.check_all();
  CHECK(world.volume->list().size() == 1);
  CHECK(world.volume->list()[0].id == first);
}
