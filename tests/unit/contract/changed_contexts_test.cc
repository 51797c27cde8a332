// SPDX-License-Identifier: Apache-2.0
//
// Changed blocks as NBD's contexts, over a provider whose volume is a double: which are offered for
// what, and that nothing that may have changed is ever told as clean.
#include "provider/daemon/changed_contexts.h"

#include "provider/daemon/export_details.h"
#include "provider/frontend/nbd/protocol.h"
#include "tests/support/catch.h"
#include "tests/support/contract_doubles.h"
#include "tests/support/fake_volume.h"

using namespace umbra;
using namespace umbra::contract;
using namespace umbra::test;

namespace {

constexpr std::uint64_t kSize = FakeDisk::kBytes;
const std::string kStart = "qemu:dirty-bitmap:";

struct World {
  World() : volume(disk.open()) { REQUIRE(provider.add_volume(volume, description())); }
  static VolumeDescription description() {
    VolumeDescription description;
    description.name = "db";
    description.origin_path = "/srv/db.img";
    return description;
  }
  SnapshotId take(bool persistent = true) {
    const SnapshotId id = SnapshotId::random();
    cow::PrepareRequest request;
    request.id = id;
    request.set_id = SnapshotSetId::random();
    request.persistent = persistent;
    REQUIRE(volume->prepare(request));
    volume->hold();
    volume->commit(id, 133'000'000'000'000'000);
    volume->release();
    REQUIRE(volume->post_commit(id, {id}));
    REQUIRE(volume->confirm(id));
    return id;
  }
  void checkpoint(const SnapshotId& at, const std::string& name, bool everything = false) {
    cow::CheckpointRecord record;
    record.id = CheckpointId::random();
    record.name = name;
    record.epoch = volume->find(at)->epoch;
    record.everything = everything;
    disk.checkpoints.push_back(record);
  }
  std::vector<std::string> listed(const std::string& export_name) {
    auto names = details.contexts(export_name)->list();
    for (auto& name : names) {
      REQUIRE(name.starts_with(kStart));
      name.erase(0, kStart.size());
    }
    return names;
  }
  std::shared_ptr<nbd::Context> open(const std::string& export_name, const std::string& leaf) {
    return details.contexts(export_name)->open(kStart + leaf);
  }

  Events events;
  FakeFreezer freezer{events};
  FakeSurfaces surfaces{events};
  FakeDisk disk{"db", &events};
  std::shared_ptr<cow::Volume> volume;
  SystemProvider provider{freezer, surfaces, null_log(), system_clock(), {}};
  cowd::ExportDetails details{provider};
};

using Told = std::vector<std::pair<std::uint64_t, std::uint32_t>>;
Told ask(nbd::Context& context, std::uint64_t offset, std::uint64_t size, std::size_t room = 16) {
  std::vector<nbd::StatusExtent> out(room);
  out.resize(context.extents(offset, size, out));
  REQUIRE_FALSE(out.empty());
  Told told;
  for (const auto& extent : out) told.emplace_back(extent.size_bytes, extent.flags);
  return told;
}
const Told kAllDirty{{kSize, nbd::kStateDirty}};

}  // namespace

TEST_CASE("a copy's export offers what is older, the live one all of it", "[contract][nbd]") {
  World world;
  const auto first = world.take();
  const auto second = world.take();
  world.checkpoint(first, "monday");
  world.checkpoint(second, "tuesday");
  using Names = std::vector<std::string>;
  CHECK(world.listed(first.to_string()) == Names{"monday"});
  CHECK(world.listed(second.to_string()) == Names{"monday", "tuesday", first.to_string()});
  CHECK(world.listed("db") == Names{"monday", "tuesday", first.to_string(), second.to_string()});
  CHECK(world.open(first.to_string(), second.to_string()) == nullptr);
  CHECK(world.open(first.to_string(), "tuesday") == nullptr);
  CHECK(world.open(first.to_string(), first.to_string()) == nullptr);
  CHECK(world.open("db", "") == nullptr);
  CHECK(world.open("db", "nothing") == nullptr);
  CHECK(world.details.contexts("db")->open("qemu:allocation-depth") == nullptr);
  CHECK(world.details.contexts("nothing") == nullptr);
  CHECK(world.details.contexts(SnapshotId::random().to_string()) == nullptr);
}

TEST_CASE("a checkpoint is found by its name and by its id", "[contract][nbd]") {
  World world;
  const auto first = world.take();
  world.checkpoint(first, "monday");
  world.checkpoint(first, "not \xff UTF-8");
  world.checkpoint(first, Guid::random().to_string());
  const auto& all = world.disk.checkpoints;
  CHECK(world.listed(first.to_string()) ==
        std::vector<std::string>{"monday", all[1].id.to_string(), all[2].id.to_string()});
  for (const auto& checkpoint : all) {
    auto context = world.open("db", checkpoint.id.to_string());
    REQUIRE(context != nullptr);
    (void)ask(*context, 0, kSize);
    CHECK(world.disk.changes_from == checkpoint.id);
    CHECK_FALSE(world.disk.changes_to);
  }
  CHECK(world.open("db", all[2].name) == nullptr);  // Would be taken for an id.
  auto context = world.open(first.to_string(), "monday");
  REQUIRE(context != nullptr);
  (void)ask(*context, 0, kSize);
  CHECK(world.disk.changes_from == all[0].id);
  CHECK(world.disk.changes_to == first);
}

TEST_CASE("what is not known is not offered", "[contract][nbd]") {
  World world;
  const auto first = world.take();
  const auto second = world.take();
  world.checkpoint(first, "monday", true);
  CHECK(world.open("db", "monday") == nullptr);
  CHECK(world.listed(second.to_string()) == std::vector<std::string>{first.to_string()});
  world.disk.set_lost(first);
  CHECK(world.listed(second.to_string()).empty());
  CHECK(world.open(second.to_string(), first.to_string()) == nullptr);
  world.disk.set_lost(second);
  world.checkpoint(first, "tuesday");
  CHECK(world.listed(second.to_string()).empty());
  CHECK(world.open(second.to_string(), "tuesday") == nullptr);
}

TEST_CASE("clean and dirty parts cover what is asked, and nothing else", "[contract][nbd]") {
  World world;
  const auto first = world.take();
  world.disk.changed = {{0, 4096}, {12288, 8192}};
  auto context = world.open("db", first.to_string());
  REQUIRE(context != nullptr);
  constexpr auto kDirty = nbd::kStateDirty;
  CHECK(ask(*context, 0, kSize) ==
        Told{{4096, kDirty}, {8192, 0}, {8192, kDirty}, {kSize - 20480, 0}});
  CHECK(ask(*context, 12288, 512) == Told{{512, kDirty}});
  CHECK(ask(*context, 12800, 512) == Told{{512, kDirty}});
  CHECK(ask(*context, 0, 4096) == Told{{4096, kDirty}});
  CHECK(ask(*context, 20480, 4096) == Told{{4096, 0}});
  // As much as there is room for, and no gap is told as something it is not.
  CHECK(ask(*context, 0, kSize, 1) == Told{{4096, kDirty}});
  CHECK(ask(*context, 0, kSize, 2) == Told{{4096, kDirty}, {8192, 0}});
  CHECK(ask(*context, 0, kSize, 3) == Told{{4096, kDirty}, {8192, 0}, {8192, kDirty}});
}

TEST_CASE("what becomes unknown meanwhile is dirty", "[contract][nbd]") {
  World world;
  const auto first = world.take();
  auto context = world.open("db", first.to_string());
  REQUIRE(context != nullptr);
  CHECK(ask(*context, 0, kSize) == Told{{kSize, 0}});
  world.disk.changed = {{0, 4096}};
  world.disk.fail_next("changed_blocks", Errc::object_not_found);
  CHECK(ask(*context, 0, kSize) == kAllDirty);
  CHECK(ask(*context, 0, kSize) == Told{{4096, nbd::kStateDirty}, {kSize - 4096, 0}});
  REQUIRE(world.provider.remove_volume(world.disk.id, true));
  world.volume.reset();
  CHECK(ask(*context, 0, kSize) == kAllDirty);
  CHECK(world.details.contexts("db") == nullptr);
}

TEST_CASE("exports say what they are", "[contract][nbd]") {
  World world;
  const auto copy = world.take();
  CHECK(world.details.describe("db") == "live volume, origin /srv/db.img");
  CHECK(world.details.describe("nothing").empty());
  const auto set = world.volume->find(copy)->set_id.to_string();
  const std::string text = "copy of volume db, taken 2022-06-18 04:26:40 UTC, set " + set;
  CHECK(world.details.describe(copy.to_string()) == text);
  CHECK(world.details.describe(world.take(false).to_string()).ends_with(", goes with its session"));
  world.disk.set_lost(copy);
  CHECK(world.details.describe(copy.to_string()) == text + ", LOST: it cannot be read");
}
