// SPDX-License-Identifier: Apache-2.0
//
// Moving a diff area, as the volume manager does it: what is recorded when, what a failure leaves,
// and what a start after a kill at any moment finds.
#include <algorithm>

#include "tests/unit/cowd/volume_world.h"

using namespace umbra;
using namespace umbra::cowd;
using namespace umbra::cowd::test;

namespace {

using Steps = std::vector<std::string>;
constexpr const char* kFrom = "/var/data.diff";
constexpr const char* kTo = "/mnt/data.diff";

bool go_on(std::uint64_t, std::uint64_t) { return true; }

struct MoveBench : Bench {
  MoveBench() {
    const auto attached = manager.attach(request());
    REQUIRE(attached);
    id = attached->volume.volume_id;
    world.steps.clear();
  }
  Result<VolumeManager::Moved> move(const std::string& to = kTo) {
    return manager.move_diff_area(id, to, go_on);
  }
  Error refused_move(const std::string& to) {
    const auto recorded = world.recorded;
    const auto moved = move(to);
    REQUIRE_FALSE(moved);
    CHECK(world.recorded == recorded);
    return moved.error();
  }
  std::string area() { return manager.list().front().diff_area_path; }

  VolumeId id;
};

}  // namespace

TEST_CASE("a move is recorded before it begins, and the former file goes last", "[cowd]") {
  MoveBench bench;
  World& world = bench.world;
  world.during_move = [&] {
    CHECK(world.recorded.at(bench.id).diff_area_path == kFrom);
    CHECK(world.recorded.at(bench.id).moving_to == kTo);
    CHECK(world.recorded.at(bench.id).moving_makes);
    CHECK(bench.area() == kFrom);
    // Meanwhile it cannot be detached, and nobody else takes the new place.
    const Status detached = bench.manager.detach(Bench::named("data.img"));
    REQUIRE_FALSE(detached);
    CHECK(detached.error().code == Errc::volume_in_use);
    CHECK(mentions(detached.error(), "moved"));
    CHECK(bench.move("/mnt/third.diff").error().code == Errc::bad_state);
    world.steps.clear();
  };
  world.steps.clear();
  const auto moved = bench.move();
  REQUIRE(moved);
  CHECK(moved->diff_area_path == kTo);
  CHECK(moved->kept.empty());
  CHECK(world.steps == Steps{"move", "save", std::string("remove ") + kFrom});
  CHECK(bench.area() == kTo);
  const VolumeConfig& config = world.recorded.at(bench.id);
  CHECK(config.diff_area_path == kTo);
  CHECK(config.moving_to.empty());
  CHECK_FALSE(config.moving_makes);
  bench.restart();
  REQUIRE(bench.next->reattach());
  CHECK(bench.next->list().front().state == "ok");
  CHECK(bench.world.last_open.diff_area_path == kTo);
}

TEST_CASE("a start after a kill goes on with the diff area that is in force", "[cowd]") {
  MoveBench bench;
  World& world = bench.world;
  auto during = world.recorded;
  world.during_move = [&] { during = world.recorded; };
  SECTION("before the switch") {
    world.failing = "move";
    CHECK_FALSE(bench.move());
    bench.restart();
    world.failing.clear();
    world.recorded = during;  // As the kill left it.
    world.file(kTo);
    REQUIRE(bench.next->reattach());
    CHECK(world.last_open.diff_area_path == kFrom);
    CHECK(world.steps == Steps{"load", "settle", "save", std::string("remove ") + kTo, "open",
                               "expose", "register", "complete"});
    CHECK(world.paths.count(kFrom) == 1);
    CHECK(world.paths.count(kTo) == 0);
  }
  SECTION("behind it") {
    world.failing = std::string("remove ") + kFrom;
    const auto moved = bench.move();
    REQUIRE(moved);
    CHECK(moved->kept.find(kFrom) != std::string::npos);
    bench.restart();
    world.failing.clear();
    world.recorded = during;
    REQUIRE(bench.next->reattach());
    CHECK(world.last_open.diff_area_path == kTo);
    CHECK(world.recorded.at(bench.id).diff_area_path == kTo);
    CHECK(world.paths.count(kFrom) == 0);
  }
  SECTION("which cannot be told: it waits, and nothing is removed") {
    REQUIRE(bench.move());
    bench.restart();
    world.recorded = during;
    world.failing = "settle";
    REQUIRE(bench.next->reattach());
    const std::string state = bench.next->list().front().state;
    CHECK(state.find(kFrom) != std::string::npos);
    CHECK(state.find(kTo) != std::string::npos);
    CHECK(world.recorded == during);
    CHECK(world.open_stores.empty());
  }
  SECTION("which cannot be recorded: it waits") {
    REQUIRE(bench.move());
    bench.restart();
    world.recorded = during;
    world.failing = "save";
    REQUIRE(bench.next->reattach());
    CHECK(bench.next->list().front().state != "ok");
    CHECK(world.paths.count(kTo) == 1);
  }
  CHECK(world.recorded.size() == 1);
}

TEST_CASE("a move that fails or is cancelled leaves everything as it was", "[cowd]") {
  MoveBench bench;
  World& world = bench.world;
  const auto recorded = world.recorded;
  SECTION("it fails") {
    world.failing = "move";
    const auto moved = bench.move();
    REQUIRE_FALSE(moved);
    CHECK(moved.error().code == Errc::io_error);
    CHECK(mentions(moved.error(), kTo));
    world.failing.clear();
  }
  SECTION("it is cancelled") {
    const auto moved =
        bench.manager.move_diff_area(bench.id, kTo, [](auto, auto) { return false; });
    REQUIRE_FALSE(moved);
    CHECK(moved.error().code == Errc::async_cancelled);
  }
  SECTION("it cannot be recorded") {
    world.failing = "save";
    CHECK_FALSE(bench.move());
    CHECK(std::find(world.steps.begin(), world.steps.end(), "move") == world.steps.end());
    world.failing.clear();
  }
  CHECK(world.recorded == recorded);
  CHECK(bench.area() == kFrom);
  world.steps.clear();
  CHECK(bench.move());
  CHECK(bench.manager.detach(Bench::named("data.img")));
}

TEST_CASE("a move whose end cannot be recorded keeps both, and a start settles it", "[cowd]") {
  MoveBench bench;
  World& world = bench.world;
  SECTION("the record fails") {
    world.during_move = [&] { world.failing = "save"; };
  }
  SECTION("the new area could not be told") { world.settles = false; }
  const auto moved = bench.move();
  REQUIRE(moved);
  CHECK(moved->kept.find("keep both") != std::string::npos);
  world.failing.clear();
  world.during_move = nullptr;
  CHECK(bench.area() == kTo);
  CHECK(world.paths.count(kFrom) == 1);
  CHECK(bench.move("/mnt/third.diff").error().code == Errc::bad_state);
  CHECK(bench.manager.detach(Bench::named("data.img")).error().code == Errc::bad_state);
  bench.restart();
  REQUIRE(bench.next->reattach());
  CHECK(world.last_open.diff_area_path == kTo);
  CHECK(world.recorded.at(bench.id).diff_area_path == kTo);
}

TEST_CASE("a diff area does not move to where it could not be, and the error says why", "[cowd]") {
  MoveBench bench;
  World& world = bench.world;
  CHECK(bench.refused_move("relative.diff").code == Errc::invalid_argument);
  CHECK(mentions(bench.refused_move(kFrom), "already"));
  CHECK(mentions(bench.refused_move("/srv/data.img"), "origin"));

  world.file("/mnt/used.diff");
  world.paths["/mnt/used.diff"].uses = {"it is the backing file of /dev/loop3"};
  CHECK(bench.refused_move("/mnt/used.diff").code == Errc::volume_in_use);

  // On the volume itself.
  world.file("/live/x.diff");
  world.paths["/live/x.diff"].stands_on = {bench.manager.list().front().device};
  CHECK(bench.refused_move("/live/x.diff").code == Errc::volume_not_supported);

  // On one that was attached later, which a start would attach later too.
  const auto other = bench.manager.attach(Bench::request("/srv/other.img", "/var/other.diff"));
  REQUIRE(other);
  CHECK(bench.refused_move("/var/other.diff").code == Errc::volume_attached);
  world.file("/other/x.diff");
  world.paths["/other/x.diff"].stands_on = {other->volume.device};
  const Error later = bench.refused_move("/other/x.diff");
  CHECK(later.code == Errc::volume_not_supported);
  CHECK(mentions(later, "attached after"));
  // The other way round it works, and its host is recorded from the beginning.
  world.file("/data/y.diff");
  world.paths["/data/y.diff"].stands_on = {bench.manager.list().front().device};
  world.during_move = [&] {
    const auto& hosts = world.recorded.at(other->volume.volume_id).hosts;
    CHECK(std::find(hosts.begin(), hosts.end(), bench.id) != hosts.end());
  };
  CHECK(bench.manager.move_diff_area(other->volume.volume_id, "/data/y.diff", go_on));
  CHECK(world.recorded.at(other->volume.volume_id).hosts == std::vector<VolumeId>{bench.id});
  CHECK(bench.manager.detach(Bench::named("data.img")).error().code == Errc::volume_in_use);

  VolumeId nobody = VolumeId::random();
  CHECK(bench.manager.move_diff_area(nobody, kTo, go_on).error().code == Errc::object_not_found);
}

TEST_CASE("a directory gets a file of the same name; a device keeps what it says", "[cowd]") {
  MoveBench bench;
  PathFacts directory;
  directory.kind = PathKind::directory;
  bench.world.paths["/mnt"] = directory;
  auto moved = bench.move("/mnt/");
  REQUIRE(moved);
  CHECK(moved->diff_area_path == "/mnt/data.diff");
  PathFacts device;
  device.kind = PathKind::block_device;
  device.device = 0x810;
  device.stands_on = {0x810};
  bench.world.paths["/dev/sdb"] = device;
  REQUIRE(bench.move("/dev/sdb"));
  CHECK_FALSE(bench.world.recorded.at(bench.id).moving_makes);
  moved = bench.move("/mnt");
  REQUIRE(moved);
  CHECK(moved->diff_area_path == "/mnt/data.img.diff");
  CHECK(moved->kept.find("/dev/sdb") != std::string::npos);
  CHECK(bench.world.paths.count("/dev/sdb") == 1);
}

TEST_CASE("a move's rate limit reaches the store", "[cowd]") {
  MoveBench bench;
  REQUIRE(bench.manager.move_diff_area(bench.id, kTo, go_on, 5'000'000));
  CHECK(bench.world.move_rate == 5'000'000);
}

TEST_CASE("settling a move is cut at every step, and the next start goes on with it", "[cowd]") {
  for (const bool switched : {false, true}) {
    bool whole = false;
    for (int cut = 0; !whole; ++cut) {
      INFO((switched ? "behind" : "before") << " the switch, cut after " << cut << " steps");
      REQUIRE(cut < 20);
      MoveBench bench;
      World& world = bench.world;
      auto during = world.recorded;
      world.during_move = [&] { during = world.recorded; };
      world.failing = switched ? std::string("remove ") + kFrom : "move";
      CHECK(bench.move().has_value() == switched);
      world.failing.clear();
      bench.restart();
      world.recorded = during;
      if (!switched) world.file(kTo);  // As far as it had come.
      world.steps_left = cut;
      (void)bench.next->reattach();
      whole = *world.steps_left > 0;
      // Whatever the record names is there, and so is the one that is in force.
      const VolumeConfig& left = world.recorded.at(bench.id);
      CHECK(world.paths.count(left.diff_area_path) == 1);
      CHECK(world.paths.count(switched ? kTo : kFrom) == 1);
      world.steps_left.reset();
      bench.restart();
      REQUIRE(bench.next->reattach());
      REQUIRE(bench.next->list().size() == 1);
      CHECK(bench.next->list().front().state == "ok");
      CHECK(world.last_open.diff_area_path == (switched ? kTo : kFrom));
      const VolumeConfig& settled = world.recorded.at(bench.id);
      CHECK(settled.diff_area_path == (switched ? kTo : kFrom));
      CHECK(settled.moving_to.empty());
    }
  }
}
