// SPDX-License-Identifier: Apache-2.0
//
// The volume manager among doubles. One list, `World::steps`, records what was done to the outside
// in order; `World::failing` makes the named step fail once. Every failing step must leave the
// world as it was before.
#include "provider/daemon/volume_manager.h"

#include <algorithm>

#include "tests/unit/cowd/volume_world.h"

using namespace umbra;
using namespace umbra::cowd;
using namespace umbra::cowd::test;

TEST_CASE("attach opens, serves, registers and records, in this order", "[cowd]") {
  Bench bench;
  const auto attached = bench.manager.attach(Bench::request());
  REQUIRE(attached);
  CHECK(bench.world.steps ==
        std::vector<std::string>{"open", "expose", "register", "save", "complete"});
  CHECK(attached->volume.name == "data.img");
  CHECK(attached->volume.size_bytes == kOriginBytes);
  CHECK(attached->volume.device_path.rfind("/dev/ublkb", 0) == 0);
  CHECK(attached->volume.nbd_uri == "nbd+unix:///data.img");
  CHECK(attached->volume.state == "ok");
  CHECK_FALSE(attached->notes.empty());
  CHECK(bench.world.last_open.may_format);
  CHECK(bench.world.last_open.diff_initial_bytes == cow::kDiffBytesInitialDefault);
  CHECK(bench.manager.list().size() == 1);
}

TEST_CASE("whatever step of attach fails, everything before it is undone", "[cowd]") {
  for (const char* step : {"look", "open", "expose", "register", "save"}) {
    CAPTURE(step);
    Bench bench;
    bench.world.failing = step;
    CHECK(mentions(bench.refused(Bench::request()), std::string(step) + " failed"));
    CHECK(bench.world.idle());
    CHECK(bench.manager.list().empty());
    bench.world.failing.clear();
    CHECK(bench.manager.attach(Bench::request()));
  }
}

TEST_CASE("an origin that cannot be attached is refused before anything is opened",
          "[cowd]"
          "[vss:limit.volume-size-64TB]") {
  Bench bench;
  PathFacts& origin = bench.world.paths["/srv/data.img"];
  SECTION("missing") {
    const Error error = bench.refused(Bench::request("/srv/none.img"));
    CHECK(error.code == Errc::object_not_found);
    CHECK(mentions(error, "/srv/none.img"));
  }
  SECTION("a directory") {
    origin.kind = PathKind::other;
    CHECK(bench.refused(Bench::request()).code == Errc::invalid_argument);
  }
  SECTION("mounted") {
    origin.uses = {"/dev/sda1 is mounted at /srv"};
    const Error error = bench.refused(Bench::request());
    CHECK(error.code == Errc::volume_in_use);
    CHECK(mentions(error, "mounted at /srv"));
    CHECK(mentions(error, "unmount"));
  }
  SECTION("empty") {
    origin.size_bytes = 0;
    CHECK(mentions(bench.refused(Bench::request()), "0 bytes"));
  }
  SECTION("too big") {
    origin.size_bytes = kOriginBytesMax + 512;
    CHECK(bench.refused(Bench::request()).code == Errc::invalid_argument);
  }
  SECTION("a size that is no multiple of a sector") {
    origin.size_bytes = 1000;
    CHECK(mentions(bench.refused(Bench::request()), "multiple of 512"));
  }
  CHECK(bench.world.steps.empty());
}

TEST_CASE("a diff area that cannot be one is refused before anything is opened", "[cowd]") {
  Bench bench;
  bench.world.file("/var/data.diff");
  PathFacts& diff = bench.world.paths["/var/data.diff"];
  SECTION("the origin, by the same path") {
    CHECK(mentions(bench.refused(Bench::request("/srv/data.img", "/srv/data.img")), "itself"));
  }
  SECTION("the origin, by another path") {
    diff = bench.world.paths["/srv/data.img"];
    CHECK(mentions(bench.refused(Bench::request()), "itself"));
  }
  SECTION("a directory") {
    diff.kind = PathKind::other;
    CHECK(bench.refused(Bench::request()).code == Errc::invalid_argument);
  }
  SECTION("on the file system that lives on the origin") {
    PathFacts& origin = bench.world.paths["/srv/data.img"];
    origin.kind = PathKind::block_device;
    origin.device = 0x810;
    diff.stands_on = {0x811, 0x810};
    CHECK(mentions(bench.refused(Bench::request()), "lies on the origin"));
  }
  SECTION("the disk that has the origin as a partition") {
    PathFacts& origin = bench.world.paths["/srv/data.img"];
    origin.kind = PathKind::block_device;
    origin.device = 0x811;
    origin.stands_on = {0x811, 0x810};
    diff.kind = PathKind::block_device;
    diff.device = 0x810;
    diff.stands_on = {0x810};
    CHECK(mentions(bench.refused(Bench::request()), "the origin lies on"));
  }
  SECTION("in use") {
    diff.uses = {"it is the backing file of /dev/loop9"};
    const Error error = bench.refused(Bench::request());
    CHECK(error.code == Errc::volume_in_use);
    CHECK(mentions(error, "/dev/loop9"));
  }
  CHECK(bench.world.steps.empty());
}

TEST_CASE("what belongs to an attached volume cannot be attached again", "[cowd]") {
  Bench bench;
  REQUIRE(bench.manager.attach(Bench::request()));
  auto wanted = Bench::request("/srv/data.img", "/var/second.diff");
  wanted.name = "second";
  CHECK(bench.refused(wanted).code == Errc::volume_attached);
  CHECK(mentions(bench.refused(wanted), "\"data.img\""));
  wanted = Bench::request("/srv/other.img", "/var/data.diff");
  CHECK(bench.refused(wanted).code == Errc::volume_attached);
  wanted = Bench::request("/srv/other.img", "/srv/data.img");
  CHECK(bench.refused(wanted).code == Errc::volume_attached);
  wanted = Bench::request("/srv/other.img", "/var/other.diff");
  wanted.name = "data.img";
  CHECK(bench.refused(wanted).code == Errc::object_already_exists);
}

TEST_CASE("a block device is made where it can be, and the notes say why not", "[cowd]") {
  Bench bench;
  auto wanted = Bench::request();
  const std::string no_root = "umbra-cowd does not run as root";
  SECTION("auto takes the best, and says which and why") {
    const auto attached = bench.manager.attach(wanted);
    REQUIRE(attached);
    CHECK(attached->volume.device_path == "/dev/ublkb1792");
    CHECK(attached->volume.front_end == "ublk");
    CHECK(attached->notes.front() == "served as " + attached->volume.front_end_why);
  }
  SECTION("auto goes on with NBD alone") {
    bench.world.offer = {no_root, no_root, no_root};
    const auto attached = bench.manager.attach(wanted);
    REQUIRE(attached);
    CHECK(attached->volume.device_path.empty());
    CHECK(attached->volume.front_end == "none");
    CHECK(attached->notes.front().find("does not run as root") != std::string::npos);
  }
  SECTION("auto takes the next where the kernel has no more of the best") {
    bench.world.cannot_expose[FrontEnd::ublk] = {Errc::limit_reached, "no more ublk devices"};
    const auto attached = bench.manager.attach(wanted);
    REQUIRE(attached);
    CHECK(attached->volume.front_end == "fuse");
    CHECK(attached->volume.front_end_why.find("no more ublk devices") != std::string::npos);
    CHECK(bench.world.steps ==
          std::vector<std::string>{"open", "expose", "expose", "register", "save", "complete"});
  }
  SECTION("what was asked for by name is not replaced") {
    bench.world.cannot_expose[FrontEnd::ublk] = {Errc::limit_reached, "no more ublk devices"};
    wanted.expose = "ublk";
    CHECK(bench.refused(wanted).code == Errc::limit_reached);
    CHECK(bench.world.idle());
  }
  SECTION("another error than that there is none is an error") {
    bench.world.cannot_expose[FrontEnd::ublk] = {Errc::io_error, "broken"};
    CHECK(bench.refused(wanted).code == Errc::io_error);
    CHECK(bench.world.idle());
  }
  SECTION("fuse demanded is refused") {
    bench.world.offer = {no_root, no_root, no_root};
    wanted.expose = "fuse";
    const Error error = bench.refused(wanted);
    CHECK(mentions(error, "does not run as root"));
    CHECK(mentions(error, "expose \"none\""));
    CHECK(bench.world.steps.empty());
  }
  SECTION("none asked for never makes one") {
    wanted.expose = "none";
    const auto attached = bench.manager.attach(wanted);
    REQUIRE(attached);
    CHECK(attached->volume.device == 0);
  }
}

TEST_CASE("sizes and force reach the store", "[cowd]") {
  Bench bench;
  auto wanted = Bench::request();
  wanted.force = true;
  wanted.chunk_bytes = 4096;
  wanted.diff_maximum_bytes = 16U << 20U;
  wanted.snapshots_max = 512;
  wanted.accept_changed_origin = true;
  REQUIRE(bench.manager.attach(wanted));
  CHECK(bench.world.last_open.force);
  CHECK(bench.world.last_open.chunk_bytes == 4096);
  CHECK(bench.world.last_open.diff_maximum_bytes == 16U << 20U);
  CHECK(bench.world.last_open.diff_initial_bytes == 16U << 20U);
  CHECK(bench.world.last_open.snapshots_max == 512);
  CHECK_FALSE(bench.world.last_open.direct);
  CHECK(bench.world.last_open.accept_changed_origin);
}

TEST_CASE("how files are used reaches the store, also after a restart", "[cowd]") {
  Bench bench;
  auto wanted = Bench::request();
  wanted.cache = "none";
  wanted.preserve = "reflink";
  const auto attached = bench.manager.attach(wanted);
  REQUIRE(attached);
  CHECK(std::any_of(attached->notes.begin(), attached->notes.end(), [](const std::string& note) {
    return note.find("diff area: threads") != std::string::npos;
  }));
  CHECK(bench.world.last_open.direct);
  CHECK(bench.world.last_open.reflink);
  bench.restart();
  bench.world.last_open = {};
  REQUIRE(bench.next->reattach());
  CHECK(bench.world.last_open.direct);
  CHECK(bench.world.last_open.reflink);
}

TEST_CASE("a volume that lies on another one knows it, and says so", "[cowd]") {
  Bench bench;
  const auto host = bench.manager.attach(Bench::request());
  REQUIRE(host);
  bench.world.paths["/srv/other.img"].stands_on = {host->volume.device};
  const auto nested = bench.manager.attach(Bench::request("/srv/other.img", "/var/other.diff"));
  REQUIRE(nested);
  CHECK(nested->notes.back().find("lies on the volume \"data.img\"") != std::string::npos);
  const auto& devices = bench.world.last_host_devices;
  CHECK(std::count(devices.begin(), devices.end(), host->volume.device) == 1);
  CHECK(bench.world.last_open.apart);
  CHECK(bench.world.recorded[nested->volume.volume_id].hosts ==
        std::vector{host->volume.volume_id});

  const auto detached = bench.manager.detach(Bench::named("data.img"));
  REQUIRE_FALSE(detached);
  CHECK(detached.error().code == Errc::volume_in_use);
  CHECK(mentions(detached.error(), "\"other.img\" lies on volume \"data.img\""));
  REQUIRE(bench.manager.detach(Bench::named("other.img")));
  REQUIRE(bench.manager.detach(Bench::named("data.img")));
}

TEST_CASE("a volume is not looked at while the one that it lies on is not attached", "[cowd]") {
  Bench bench;
  REQUIRE(bench.manager.attach(Bench::request()));
  const auto host = bench.manager.list().front();
  bench.world.paths["/srv/other.img"].stands_on = {host.device};
  REQUIRE(bench.manager.attach(Bench::request("/srv/other.img", "/var/other.diff")));
  bench.restart();
  SECTION("it is attached again after its host") {
    bench.world.paths["/srv/other.img"].stands_on = {
        static_cast<std::uint64_t>(bench.world.next_device)};
    REQUIRE(bench.next->reattach());
    CHECK(bench.next->not_attached().empty());
    CHECK(bench.world.last_open.origin_path == "/srv/other.img");
    CHECK(bench.world.last_open.apart);
  }
  SECTION("it waits for its host") {
    const PathFacts origin = bench.world.paths["/srv/data.img"];
    bench.world.paths.erase("/srv/data.img");
    REQUIRE(bench.next->reattach());
    CHECK(bench.world.looked_at.count("/srv/other.img") == 0);
    const auto missing = bench.next->not_attached();
    REQUIRE(missing.size() == 2);
    for (const auto& volume : missing) {
      if (volume.name != "other.img") continue;
      CHECK(volume.state.find("lies on the volume \"data.img\"") != std::string::npos);
    }
    // By hand, once the cause has gone.
    bench.world.paths["/srv/data.img"] = origin;
    REQUIRE(bench.next->attach(Bench::request()));
    REQUIRE(bench.next->attach(Bench::request("/srv/other.img", "/var/other.diff")));
    CHECK(bench.next->not_attached().empty());
  }
  SECTION("also if that is forgotten altogether") {
    bench.world.recorded.erase(host.volume_id);
    REQUIRE(bench.next->reattach());
    const auto missing = bench.next->not_attached();
    REQUIRE(missing.size() == 1);
    CHECK(missing.front().state.find(host.volume_id.to_string()) != std::string::npos);
  }
}

TEST_CASE("a volume is found by name, id and device, if all agree", "[cowd]") {
  Bench bench;
  const auto attached = bench.manager.attach(Bench::request());
  REQUIRE(attached);
  const VolumeProperties& volume = attached->volume;
  CHECK(bench.manager.find(Bench::named("data.img")));
  CHECK(bench.manager.find(Bench::named(volume.volume_id.to_string())));
  VolumeRef ref;
  ref.device = volume.device;
  CHECK(bench.manager.find(ref));
  ref.name = "data.img";
  ref.id = volume.volume_id;
  CHECK(bench.manager.find(ref));
  ref.device = volume.device + 1;
  CHECK(bench.manager.find(ref).error().code == Errc::object_not_found);
  CHECK_FALSE(bench.manager.find({}));
  ref = {};
  ref.device = 0;
  ref.path = "/mnt/x";
  CHECK(mentions(bench.manager.find(ref).error(), "/mnt/x"));
}

TEST_CASE("detach takes everything away and forgets the volume", "[cowd]") {
  Bench bench;
  REQUIRE(bench.manager.attach(Bench::request()));
  bench.world.steps.clear();
  REQUIRE(bench.manager.detach(Bench::named("data.img")));
  CHECK(bench.world.steps == std::vector<std::string>{"unregister", "conceal", "close", "forget"});
  CHECK(bench.world.idle());
  CHECK(bench.manager.list().empty());
  CHECK(bench.manager.detach(Bench::named("data.img")).error().code == Errc::object_not_found);
  const auto again = bench.manager.attach(Bench::request());
  REQUIRE(again);
  CHECK(again->notes.back().find("took over the diff area") != std::string::npos);
  // Attaching deletes no copies: a lower maximum could.
  REQUIRE(bench.manager.detach(Bench::named("data.img")));
  auto other = Bench::request();
  other.diff_maximum_bytes = 16U << 20U;
  const auto kept = bench.manager.attach(other);
  REQUIRE(kept);
  CHECK(kept->notes.back().find("resize shadowstorage") != std::string::npos);
}

TEST_CASE("detach is refused while a copy is under retention lock", "[cowd]") {
  Bench bench;
  REQUIRE(bench.manager.attach(Bench::request()));
  bench.world.locked = true;
  const Status refused = bench.manager.detach(Bench::named("data.img"));
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == Errc::access_denied);
  CHECK(mentions(refused.error(), "data.img"));
  CHECK(bench.manager.list().size() == 1);
  bench.world.locked = false;
  CHECK(bench.manager.detach(Bench::named("data.img")));
}

TEST_CASE("detach is refused while anybody uses the volume or a copy, and says who", "[cowd]") {
  Bench bench;
  const auto attached = bench.manager.attach(Bench::request());
  REQUIRE(attached);
  bench.world.steps.clear();
  SECTION("the volume") {
    bench.world.users[attached->volume.volume_id.to_string()] = {"mounted at /srv/data"};
  }
  SECTION("a copy") {
    cow::SnapshotRecord copy;
    copy.id = SnapshotId::random();
    bench.world.snapshots = {copy};
    bench.world.users[copy.id.to_string()] = {"mounted at /srv/data"};
  }
  const Status detached = bench.manager.detach(Bench::named("data.img"));
  REQUIRE_FALSE(detached);
  CHECK(detached.error().code == Errc::volume_in_use);
  CHECK(mentions(detached.error(), "mounted at /srv/data"));
  CHECK(bench.world.steps.empty());
  CHECK(bench.manager.in_use().size() == 1);
}

TEST_CASE("a detach that fails leaves the volume attached", "[cowd]") {
  for (const char* step : {"unregister", "conceal"}) {
    CAPTURE(step);
    Bench bench;
    REQUIRE(bench.manager.attach(Bench::request()));
    bench.world.failing = step;
    REQUIRE_FALSE(bench.manager.detach(Bench::named("data.img")));
    CHECK(bench.world.registered.size() == 1);
    CHECK(bench.world.exposed.size() == 1);
    CHECK(bench.world.recorded.size() == 1);
    CHECK(bench.manager.list().front().state == "ok");
    bench.world.failing.clear();
    CHECK(bench.manager.detach(Bench::named("data.img")));
  }
}

TEST_CASE("a store that cannot be closed cleanly is detached all the same", "[cowd]") {
  Bench bench;
  REQUIRE(bench.manager.attach(Bench::request()));
  bench.world.failing = "close";
  CHECK(bench.manager.detach(Bench::named("data.img")));
  CHECK(bench.world.idle());
}

TEST_CASE("a record that cannot be removed is reported, and detach can be repeated", "[cowd]") {
  Bench bench;
  REQUIRE(bench.manager.attach(Bench::request()));
  bench.world.failing = "forget";
  const Status detached = bench.manager.detach(Bench::named("data.img"));
  REQUIRE_FALSE(detached);
  CHECK(mentions(detached.error(), "attached again at the next start"));
  REQUIRE(bench.manager.list().size() == 1);
  CHECK(bench.manager.list().front().state.find("detach it again") != std::string::npos);
  bench.world.failing.clear();
  CHECK(bench.manager.detach(Bench::named("data.img")));
  CHECK(bench.world.idle());
}

TEST_CASE("a restart attaches what is recorded, in the order it was attached", "[cowd]") {
  Bench bench;
  REQUIRE(bench.manager.attach(Bench::request("/srv/other.img", "/var/other.diff")));
  REQUIRE(bench.manager.attach(Bench::request()));
  const auto before = bench.manager.list();
  bench.restart();
  REQUIRE(bench.next->reattach());
  CHECK(bench.world.last_open.diff_area_path == "/var/data.diff");
  CHECK_FALSE(bench.world.last_open.may_format);
  CHECK(bench.world.last_open.lock_patience == kLockPatience);
  CHECK(bench.world.last_open.volume_id == before.front().volume_id);
  CHECK(bench.next->list().size() == 2);
  CHECK(std::count(bench.world.steps.begin(), bench.world.steps.end(), "save") == 0);
}

TEST_CASE("a recorded volume that cannot be attached is listed with the reason",
          "[cowd]"
          "[vss:VSS_PROTECTION_FAULT.DIFF_AREA_MISSING]"
          "[vss:VSS_PROTECTION_FAULT.IO_FAILURE_DURING_ONLINE]") {
  for (const char* step : {"look", "open", "expose", "register"}) {
    CAPTURE(step);
    Bench bench;
    const auto attached = bench.manager.attach(Bench::request());
    REQUIRE(attached);
    bench.restart();
    bench.world.failing = step;
    REQUIRE(bench.next->reattach());
    CHECK(bench.world.open_stores.empty());
    CHECK(bench.world.exposed.empty());
    CHECK(bench.world.recorded.size() == 1);
    REQUIRE(bench.next->list().size() == 1);
    CHECK(bench.next->list().front().state.find("not attached: ") == 0);
    CHECK(bench.next->list().front().device_path.empty());
    bench.world.failing.clear();
    const auto again = bench.next->attach(Bench::request());
    REQUIRE(again);
    CHECK(again->volume.volume_id == attached->volume.volume_id);
    CHECK(bench.next->list().size() == 1);
    CHECK(bench.world.recorded.size() == 1);
  }
}

TEST_CASE("a recorded volume that cannot be attached is forgotten by detaching it", "[cowd]") {
  Bench bench;
  REQUIRE(bench.manager.attach(Bench::request()));
  bench.restart();
  bench.world.failing = "open";
  REQUIRE(bench.next->reattach());
  REQUIRE(bench.next->detach(Bench::named("data.img")));
  CHECK(bench.world.idle());
}

TEST_CASE("a re-attached volume must find its own diff area and a free origin", "[cowd]") {
  Bench bench;
  REQUIRE(bench.manager.attach(Bench::request()));
  bench.restart();
  SECTION("another volume's diff area") {
    bench.world.diff_areas["/var/data.diff"] = VolumeId::random();
    REQUIRE(bench.next->reattach());
    CHECK(bench.next->list().front().state.find("DIFF_AREA_WRONG_ORIGIN") != std::string::npos);
  }
  SECTION("no diff area: none is made") {
    bench.world.diff_areas.clear();
    REQUIRE(bench.next->reattach());
    CHECK(bench.world.diff_areas.empty());
  }
  SECTION("an origin that somebody mounted meanwhile") {
    bench.world.paths["/srv/data.img"].uses = {"it is mounted at /x"};
    REQUIRE(bench.next->reattach());
    CHECK(bench.next->list().front().state.find("mounted at /x") != std::string::npos);
    CHECK(bench.world.open_stores.empty());
  }
}

TEST_CASE("the provider hears once that nothing is missing, and only when it is so", "[cowd]") {
  Bench bench;
  REQUIRE(bench.manager.attach(Bench::request()));
  bench.restart();
  const auto told = [&] {
    return std::count(bench.world.steps.begin(), bench.world.steps.end(), "complete");
  };
  SECTION("at once if all is well") {
    REQUIRE(bench.next->reattach());
    CHECK(told() == 1);
    CHECK(bench.next->not_attached().empty());
  }
  SECTION("when what failed is attached") {
    bench.world.failing = "open";
    REQUIRE(bench.next->reattach());
    CHECK(told() == 0);
    CHECK(bench.next->not_attached().size() == 1);
    bench.world.failing.clear();
    REQUIRE(bench.next->attach(Bench::request()));
    CHECK(told() == 1);
  }
  SECTION("when what failed is forgotten") {
    bench.world.failing = "expose";
    REQUIRE(bench.next->reattach());
    REQUIRE(bench.next->detach(Bench::named("data.img")));
    CHECK(told() == 1);
  }
  SECTION("never while a record cannot be read") {
    bench.world.bad_records = {"volumes/x.json: torn"};
    REQUIRE(bench.next->reattach());
    REQUIRE(bench.next->detach(Bench::named("data.img")));
    CHECK(told() == 0);
  }
}

TEST_CASE("records that cannot be listed are an error of the start", "[cowd]") {
  Bench bench;
  bench.world.failing = "load";
  CHECK(bench.manager.reattach().error().code == Errc::io_error);
}

TEST_CASE("close closes every store and keeps every record", "[cowd]") {
  Bench bench;
  REQUIRE(bench.manager.attach(Bench::request()));
  REQUIRE(bench.manager.attach(Bench::request("/srv/other.img", "/var/other.diff")));
  bench.world.steps.clear();
  bench.manager.close();
  // The younger one may lie on the older: that takes what it flushes.
  CHECK(bench.world.steps == std::vector<std::string>{"cut off", "close", "cut off", "close"});
  CHECK(bench.world.exposed.empty());
  CHECK(bench.world.open_stores.empty());
  CHECK(bench.world.recorded.size() == 2);
  CHECK(bench.manager.list().empty());
}

TEST_CASE("the diff area of a volume that has gone is deleted, then its record", "[cowd]") {
  Bench bench;
  const auto attached = bench.manager.attach(Bench::request());
  const auto other = bench.manager.attach(Bench::request("/srv/other.img", "/var/other.diff"));
  REQUIRE(attached);
  REQUIRE(other);
  const VolumeId id = attached->volume.volume_id;
  CHECK(bench.manager.unused().empty());
  CHECK(bench.manager.discard_unused(id, "me").error().code == Errc::object_not_found);
  bench.restart();
  bench.world.failing = "open";  // Something else is wrong with the other one.
  bench.world.paths.erase("/srv/data.img");
  REQUIRE(bench.next->reattach());
  bench.world.failing.clear();
  const auto unused = bench.next->unused();
  REQUIRE(unused.size() == 1);
  CHECK(unused[0].volume_id == id);
  CHECK(unused[0].diff_area_path == "/var/data.diff");
  const auto refused = bench.next->discard_unused(other->volume.volume_id, "me");
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == Errc::object_not_found);

  bench.world.locked = true;
  const auto locked = bench.next->discard_unused(id, "me");
  REQUIRE_FALSE(locked);
  CHECK(locked.error().code == Errc::access_denied);
  CHECK(bench.world.recorded.count(id) == 1);
  CHECK(bench.next->unused().size() == 1);
  bench.world.locked = false;

  bench.world.steps.clear();
  bench.world.failing = "forget";
  CHECK(bench.next->discard_unused(id, "me").error().code == Errc::io_error);
  CHECK(bench.next->unused().size() == 1);  // It can be repeated.
  CHECK(bench.world.steps == std::vector<std::string>{"discard /var/data.diff for me", "forget"});
  bench.world.failing.clear();
  bench.world.diff_areas["/var/data.diff"] = id;  // The double's own check.
  REQUIRE(bench.next->discard_unused(id, "me"));
  CHECK(bench.world.recorded.count(id) == 0);
  CHECK(bench.next->unused().empty());
  CHECK(bench.next->list().size() == 1);
}

TEST_CASE("a volume whose origin lies on another one has not gone if it is not there", "[cowd]") {
  Bench bench;
  REQUIRE(bench.manager.attach(Bench::request()));
  const std::uint64_t device = bench.manager.list().front().device;
  bench.world.paths["/srv/other.img"].stands_on.push_back(device);
  REQUIRE(bench.manager.attach(Bench::request("/srv/other.img", "/var/other.diff")));
  bench.restart();
  bench.world.paths.erase("/srv/other.img");  // Not mounted yet.
  REQUIRE(bench.next->reattach());
  CHECK(bench.next->not_attached().size() == 1);
  CHECK(bench.next->unused().empty());
}
