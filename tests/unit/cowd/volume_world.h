// SPDX-License-Identifier: Apache-2.0
//
// The volume manager's surroundings as doubles. One list, `World::steps`, records what was done to
// the outside in order; `World::failing` makes the named step fail once.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "provider/daemon/volume_manager.h"
#include "tests/support/catch.h"
#include "tests/support/ram_device.h"

namespace umbra::cowd::test {

using umbra::test::RamDevice;

inline constexpr std::uint64_t kOriginBytes = 1U << 20U;
inline constexpr std::uint64_t kHostDisk = 0x801;

struct World {
  std::vector<std::string> steps;
  std::string failing;
  std::map<std::string, PathFacts> paths;
  std::map<std::string, VolumeId> diff_areas;  // Formatted ones, by path.
  std::set<std::string> open_stores;           // By diff area path.
  std::map<VolumeId, Exposed> exposed;
  std::map<std::string, std::vector<std::string>> users;  // By id.
  std::set<VolumeId> registered;
  std::map<VolumeId, VolumeConfig> recorded;
  std::vector<std::string> bad_records;
  std::vector<cow::SnapshotRecord> snapshots;
  FrontEndOffer offer;
  std::map<VolumeId, FrontEnd> kept;
  std::map<FrontEnd, Error> cannot_expose;
  std::vector<std::uint64_t> last_host_devices;
  OpenStore last_open;
  std::set<std::string> looked_at;
  int next_device = 0x700;
  std::set<std::string> moved_away;  // Diff areas that say so.
  bool settles = true;               // A move ends wholly.
  bool locked = false;               // A copy is under retention lock.
  std::function<void()> during_move;
  std::uint64_t move_rate = 0;

  std::optional<int> steps_left;  // Then the process is dead: nothing is done any more.

  bool step(const std::string& name) {
    if (steps_left && (*steps_left)-- <= 0) return false;
    steps.push_back(name);
    return failing != name;
  }
  void file(const std::string& path, std::uint64_t size = kOriginBytes) {
    PathFacts facts;
    facts.kind = PathKind::file;
    facts.size_bytes = size;
    facts.device = kHostDisk;
    facts.inode = 100 + paths.size();
    facts.stands_on = {kHostDisk};
    paths[path] = facts;
  }
  // Nothing is served, open, registered or recorded.
  bool idle() const {
    return open_stores.empty() && exposed.empty() && registered.empty() && recorded.empty();
  }
};

inline tl::unexpected<Error> failure(const std::string& step) {
  return fail(Errc::io_error, step + " failed");
}

class FakeStore final : public Store {
 public:
  FakeStore(World& world, std::string diff, VolumeId id)
      : world_(world), diff_(std::move(diff)), id_(id) {}
  ~FakeStore() override { world_.open_stores.erase(diff_); }
  VolumeId id() const override { return id_; }
  std::shared_ptr<block::Device> live() override { return device_; }
  cow::Statistics statistics() const override {
    cow::Statistics result;
    result.chunk_bytes = 16384;
    result.state = "ok";
    return result;
  }
  std::vector<cow::SnapshotRecord> snapshots() const override { return world_.snapshots; }
  Status check_retention() const override {
    if (world_.locked) return fail(Errc::access_denied, "a copy is locked");
    return {};
  }
  std::string io_text() const override { return "origin: threads; diff area: threads"; }
  Result<MovedDiffArea> move_diff_area(const MoveDiffArea& request) override {
    world_.move_rate = request.bytes_per_second;
    if (world_.during_move) world_.during_move();
    if (!request.on_progress({1000, 500, 0, 1})) return fail(Errc::bad_state, "given up");
    if (!world_.step("move")) return failure("move");
    if (request.makes) world_.file(request.path);
    world_.diff_areas[request.path] = id_;
    world_.moved_away.insert(diff_);
    world_.open_stores.erase(diff_);
    world_.open_stores.insert(request.path);
    diff_ = request.path;
    return MovedDiffArea{{1000, 1000, 0, 1}, world_.settles, true};
  }
  Status close() override {
    if (!world_.step("close")) return failure("close");
    world_.open_stores.erase(diff_);
    return {};
  }

 private:
  World& world_;
  std::string diff_;
  VolumeId id_;
  std::shared_ptr<block::Device> device_ = std::make_shared<RamDevice>(kOriginBytes);
};

class Doubles final : public Host,
                      public Stores,
                      public FrontEnds,
                      public Registry,
                      public ConfigStore {
 public:
  explicit Doubles(World& world) : world_(world) {}

  Result<PathFacts> look_at(const std::string& path) const override {
    if (world_.failing == "look") return failure("look");
    world_.looked_at.insert(path);
    const auto found = world_.paths.find(path);
    return found == world_.paths.end() ? PathFacts{} : found->second;
  }

  Result<OpenedStore> open(const OpenStore& request) override {
    world_.last_open = request;
    if (!world_.step("open")) return failure("open");
    OpenedStore opened;
    auto& areas = world_.diff_areas;
    if (areas.count(request.diff_area_path) == 0) {
      if (!request.may_format) return fail(Errc::diff_area_foreign, "no diff area");
      areas[request.diff_area_path] = VolumeId::random();
      if (world_.paths.count(request.diff_area_path) == 0) world_.file(request.diff_area_path);
      opened.formatted = true;
    }
    const VolumeId id = areas[request.diff_area_path];
    if (request.volume_id && *request.volume_id != id) {
      return fail(Errc::diff_area_wrong_origin, "another volume's");
    }
    world_.open_stores.insert(request.diff_area_path);
    opened.store = std::make_unique<FakeStore>(world_, request.diff_area_path, id);
    return opened;
  }

  Result<cow::MoveSide> settle(const SettleMove& request) override {
    if (!world_.step("settle")) return failure("settle");
    CHECK(world_.open_stores.empty());
    return world_.moved_away.count(request.from) != 0 ? cow::MoveSide::target
                                                      : cow::MoveSide::source;
  }
  Status remove_area(const std::string& path) override {
    if (!world_.step("remove " + path)) return failure("remove");
    // Never what the record names.
    for (const auto& [id, config] : world_.recorded) {
      CHECK(config.diff_area_path != path);
      CHECK(config.moving_to != path);
    }
    world_.paths.erase(path);
    world_.diff_areas.erase(path);
    return {};
  }

  Status discard_area(const DiscardArea& request) override {
    if (!world_.step("discard " + request.path + " for " + request.who)) return failure("discard");
    if (world_.locked) return fail(Errc::access_denied, "a copy is locked");
    CHECK(world_.diff_areas[request.path] == request.volume_id);
    world_.paths.erase(request.path);
    world_.diff_areas.erase(request.path);
    return {};
  }

  FrontEndOffer offer() const override { return world_.offer; }
  std::optional<FrontEnd> kept(const VolumeId& volume) const override {
    const auto found = world_.kept.find(volume);
    if (found == world_.kept.end()) return {};
    return found->second;
  }
  Result<Exposed> expose(const VolumeId& volume, const std::string& name,
                         std::shared_ptr<block::Device>, FrontEnd front_end) override {
    if (!world_.step("expose")) return failure("expose");
    const auto refused = world_.cannot_expose.find(front_end);
    if (refused != world_.cannot_expose.end()) return fail(refused->second);
    Exposed exposed;
    exposed.nbd_uri = "nbd+unix:///" + name;
    if (front_end != FrontEnd::none) {
      exposed.device = static_cast<std::uint64_t>(world_.next_device++);
      exposed.device_path = (front_end == FrontEnd::ublk ? "/dev/ublkb" : "/dev/loop") +
                            std::to_string(exposed.device);
    }
    return world_.exposed[volume] = exposed;
  }
  std::vector<std::string> users(const VolumeId& volume) const override {
    return users_of(volume.to_string());
  }
  std::vector<std::string> users(const SnapshotId& snapshot) const override {
    return users_of(snapshot.to_string());
  }
  Status conceal(const VolumeId& volume) override {
    if (!world_.step("conceal")) return failure("conceal");
    world_.exposed.erase(volume);
    return {};
  }

  void cut_off(const VolumeId& volume) override {
    (void)world_.step("cut off");
    world_.exposed.erase(volume);
  }

  Status add(const Registration& registration, Store&) override {
    if (!world_.step("register")) return failure("register");
    world_.last_host_devices = registration.host_devices;
    world_.registered.insert(registration.volume_id);
    return {};
  }
  Status remove(const VolumeId& volume) override {
    if (!world_.step("unregister")) return failure("unregister");
    world_.registered.erase(volume);
    return {};
  }
  void all_attached() override { (void)world_.step("complete"); }

  Result<Loaded> load() override {
    if (!world_.step("load")) return failure("load");
    Loaded loaded;
    for (const auto& [id, config] : world_.recorded) loaded.volumes.push_back(config);
    loaded.problems = world_.bad_records;
    return loaded;
  }
  Status save(const VolumeConfig& config) override {
    if (!world_.step("save")) return failure("save");
    world_.recorded[config.volume_id] = config;
    return {};
  }
  Status forget(const VolumeId& volume) override {
    if (!world_.step("forget")) return failure("forget");
    world_.recorded.erase(volume);
    return {};
  }

 private:
  std::vector<std::string> users_of(const std::string& id) const {
    const auto found = world_.users.find(id);
    return found == world_.users.end() ? std::vector<std::string>{} : found->second;
  }
  World& world_;
};

struct Bench {
  Bench() {
    world.file("/srv/data.img");
    world.file("/srv/other.img");
  }
  static rpc::AttachVolume request(const std::string& origin = "/srv/data.img",
                                   const std::string& diff = "/var/data.diff") {
    rpc::AttachVolume wanted;
    wanted.origin_path = origin;
    wanted.diff_area_path = diff;
    return wanted;
  }
  Error refused(const rpc::AttachVolume& wanted) {
    const World before = world;
    const auto attached = manager.attach(wanted);
    REQUIRE_FALSE(attached);
    CHECK(world.exposed.size() == before.exposed.size());
    CHECK(world.registered == before.registered);
    CHECK(world.recorded == before.recorded);
    CHECK(world.open_stores == before.open_stores);
    return attached.error();
  }
  static VolumeRef named(const std::string& name) {
    VolumeRef ref;
    ref.name = name;
    return ref;
  }
  // A new life of the process over the same world.
  void restart() {
    manager.close();
    world.exposed.clear();
    world.registered.clear();
    world.steps.clear();
    world.looked_at.clear();
    next.emplace(VolumeManager::Ports{doubles, doubles, doubles, doubles, doubles, null_log()});
  }

  World world;
  Doubles doubles{world};
  VolumeManager manager{{doubles, doubles, doubles, doubles, doubles, null_log()}};
  std::optional<VolumeManager> next;
};

inline bool mentions(const Error& error, const std::string& text) {
  return error.context.find(text) != std::string::npos;
}

}  // namespace umbra::cowd::test
