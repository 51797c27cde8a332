// SPDX-License-Identifier: Apache-2.0
//
// Sets over two providers, one in memory and one over the real store, whose umbrad or providers die
// between any two of their steps, and come back in any order: the set is whole or gone at both, and
// what the requester was told is true.
//
// Method: a provider stops in a call, before or after it has had its effect, and stays there while
// the processes are killed. "Killed" is: the connection breaks, no answer and no further effect
// comes, and what is not durable is gone.

#include <condition_variable>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "engine/platform/log.h"
#include "engine/rpc/provider_server.h"
#include "tests/support/catch.h"
#include "tests/support/memory_provider.h"
#include "tests/support/seed.h"
#include "tests/support/store_world.h"
#include "tests/support/wire_client.h"

namespace {

using namespace umbra;
using namespace umbra::test;

// A provider that is away is waited for, but not for long where it does not come.
constexpr const char* kShortWaits = "[limits]\nconfirm = 1500\nabort_wait = 1500\n";

enum class Effect : std::uint8_t { before, after };  // Of the call in which it dies.

/// Forwards every call; stops in one of them until it is let go, and that call then has no answer.
class Stopping final : public Provider {
 public:
  explicit Stopping(Provider& to) : to_(&to) {}

  void stop_in(const std::string& call, Effect effect) {
    const std::lock_guard lock(mutex_);
    call_ = call;
    effect_ = effect;
  }
  [[nodiscard]] bool wait_stopped() {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, kSoon, [this] { return stopped_; });
  }
  void let_go() {
    const std::lock_guard lock(mutex_);
    call_.clear();
    stopped_ = false;
    changed_.notify_all();
  }
  void forward_to(Provider& to) { to_ = &to; }

  ProviderProperties properties() const override { return to_->properties(); }
  Result<VolumeProperties> find_volume(const VolumeRef& volume) override {
    return to_->find_volume(volume);
  }
  Result<std::vector<VolumeProperties>> list_volumes() override { return to_->list_volumes(); }
  Result<bool> is_volume_supported(const VolumeRef& volume, std::uint32_t attributes) override {
    return to_->is_volume_supported(volume, attributes);
  }
  Status begin_prepare_snapshot(const PrepareSnapshot& request) override {
    return to_->begin_prepare_snapshot(request);
  }
  Status end_prepare_snapshots(const SnapshotSetId& set) override {
    return to_->end_prepare_snapshots(set);
  }
  Status pre_commit_snapshots(const SnapshotSetId& set) override {
    return to_->pre_commit_snapshots(set);
  }
  Status flush_and_hold(const SnapshotSetId& set, const HoldLimits& limits) override {
    return to_->flush_and_hold(set, limits);
  }
  Status commit_snapshots(const SnapshotSetId& set) override { return to_->commit_snapshots(set); }
  Result<HoldReport> release_hold(const SnapshotSetId& set) override {
    return to_->release_hold(set);
  }
  Result<HoldReport> flush_commit_release(const SnapshotSetId& set,
                                          const HoldLimits& limits) override {
    return to_->flush_commit_release(set, limits);
  }
  Status post_commit_snapshots(const SnapshotSetId& set,
                               const std::vector<SnapshotId>& members) override {
    return at("post_commit", [&] { return to_->post_commit_snapshots(set, members); });
  }
  Status pre_final_commit_snapshots(const SnapshotSetId& set) override {
    return at("pre_final", [&] { return to_->pre_final_commit_snapshots(set); });
  }
  Status post_final_commit_snapshots(const SnapshotSetId& set) override {
    return at("post_final", [&] { return to_->post_final_commit_snapshots(set); });
  }
  Status confirm_set(const SnapshotSetId& set) override {
    return at("confirm", [&] { return to_->confirm_set(set); });
  }
  void abort_snapshots(const SnapshotSetId& set) noexcept override { to_->abort_snapshots(set); }
  Result<SetFate> query_set(const SnapshotSetId& set) override { return to_->query_set(set); }
  Status complete_set(const SnapshotSetId& set) override { return to_->complete_set(set); }
  Result<std::vector<SnapshotProperties>> query_snapshots(bool incomplete) override {
    return to_->query_snapshots(incomplete);
  }
  DeleteReport delete_snapshots(const Guid& id, ObjectType type, bool force) override {
    return to_->delete_snapshots(id, type, force);
  }
  void end_session(const SessionId& session) noexcept override { to_->end_session(session); }
  void retain_sessions(const std::vector<SessionId>& alive) noexcept override {
    to_->retain_sessions(alive);
  }

 private:
  template <class Call>
  Status at(const std::string& name, Call call) {
    std::unique_lock lock(mutex_);
    if (call_ != name) {
      lock.unlock();
      return call();
    }
    if (effect_ == Effect::after) static_cast<void>(call());
    stopped_ = true;
    changed_.notify_all();
    changed_.wait(lock, [this] { return call_.empty(); });
    return fail(Errc::provider_veto, "nobody hears this");
  }

  Provider* to_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::string call_;
  Effect effect_ = Effect::before;
  bool stopped_ = false;
};

/// A provider and its connection.
class Peer {
 public:
  Peer(Provider& provider, const Umbrad& umbrad) : stopping(provider), umbrad_(umbrad) {}
  virtual ~Peer() { disconnect(); }
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;

  void connect() {
    rpc::ProviderServerOptions options;
    options.socket_path = umbrad_.socket();
    options.program = "test-provider";
    server_ = std::make_unique<rpc::ProviderServer>(
        stopping, std::map<std::string, rpc::ProviderMethod>{}, options, null_log());
    REQUIRE(server_->wait_until_registered(kSoon));
  }
  /// The connection breaks while a call is stopped: it has no answer.
  void disconnect() {
    if (server_ == nullptr) return;
    auto ended = std::async(std::launch::async, [this] { server_.reset(); });
    // What ends first is the connection; then it waits for the call.
    while (server_is_listed()) {
    }
    stopping.let_go();
    ended.wait();
  }
  virtual void kill_and_restart() = 0;

  Stopping stopping;

 private:
  bool server_is_listed() const {
    if (!umbrad_.is_running()) return false;
    WireClient client(umbrad_.socket(), "requester");
    const auto list = client.call<rpc::ProviderList>("query.providers");
    if (!list) return false;
    for (const auto& one : list->providers)
      if (one.properties.provider_id == stopping.properties().provider_id) return one.connected;
    return false;
  }

  const Umbrad& umbrad_;
  std::unique_ptr<rpc::ProviderServer> server_;
};

struct InMemory {
  InMemory() { memory.add_volume("memory"); }
  MemoryProvider memory{system_clock()};
};

class MemoryPeer final : private InMemory, public Peer {
 public:
  explicit MemoryPeer(const Umbrad& umbrad) : Peer(memory, umbrad) {}
  ~MemoryPeer() override { disconnect(); }
  void kill_and_restart() override {
    disconnect();
    memory.restart();
  }
};

struct OnDisks : StoreWorld {
  OnDisks() : StoreWorld(seed()) {
    add("a");
    add("b");
    provider->all_volumes_attached();
  }
};

class StorePeer final : private OnDisks, public Peer {
 public:
  explicit StorePeer(const Umbrad& umbrad) : Peer(*provider, umbrad) {}
  ~StorePeer() override { disconnect(); }
  void kill_and_restart() override {
    disconnect();
    die_and_restart(false);
    stopping.forward_to(*provider);
  }
};

struct World {
  explicit World(const std::string& config = {}) : umbrad(config), memory(umbrad), store(umbrad) {
    memory.connect();
    store.connect();
  }
  ~World() {
    memory.stopping.let_go();
    store.stopping.let_go();
  }

  /// Starts a persistent set over `volumes`.
  std::uint32_t start_set(Requester& requester, const std::vector<std::string>& volumes) {
    requester.begin(context::kNasRollback);
    requester.start_set();
    for (const auto& volume : volumes) REQUIRE(requester.add(volume));
    const auto started = requester.client.call<rpc::StartedOperation>("session.do_snapshot_set");
    REQUIRE(started);
    return started->operation;
  }
  /// How many copies there are, with those that wait.
  std::size_t copies(bool incomplete) {
    Requester probe(umbrad);
    rpc::QuerySnapshots query;
    query.incomplete = incomplete;
    const auto list = probe.client.call<rpc::SnapshotList>("query.snapshots", query);
    REQUIRE(list);
    return list->snapshots.size();
  }
  /// Waits until there are `wanted` copies, all created.
  bool settles_at(std::size_t wanted) {
    const auto end = system_clock().now() + kSoon;
    while (system_clock().now() < end)
      if (copies(false) == wanted && copies(true) == wanted) return true;
    return false;
  }
  void delete_all() {
    Requester probe(umbrad);
    const auto list =
        probe.client.call<rpc::SnapshotList>("query.snapshots", rpc::QuerySnapshots{});
    REQUIRE(list);
    for (const auto& one : list->snapshots) {
      rpc::DeleteSnapshots removal;
      removal.id = one.snapshot_id;
      removal.type = ObjectType::snapshot;
      REQUIRE(probe.client.call<rpc::DeletedSnapshots>("snapshot.delete", removal));
    }
  }

  Umbrad umbrad;
  MemoryPeer memory;
  StorePeer store;
};

struct Death {
  std::string call;
  Effect memory;
  Effect store;
  bool memory_dies = false;
  bool store_dies = false;
  bool memory_first = true;  // To come back.
};

// umbrad dies, and whoever else is named, when both providers are in `call`.
void die_and_settle(World& world, const Death& death) {
  INFO(death.call << ", memory " << (death.memory == Effect::after ? "after" : "before")
                  << (death.memory_dies ? " dies" : "") << ", store "
                  << (death.store == Effect::after ? "after" : "before")
                  << (death.store_dies ? " dies" : "")
                  << ", first back: " << (death.memory_first ? "memory" : "store"));
  world.memory.stopping.stop_in(death.call, death.memory);
  world.store.stopping.stop_in(death.call, death.store);
  {
    Requester requester(world.umbrad);
    static_cast<void>(world.start_set(requester, {"memory", "a", "b"}));
    REQUIRE(world.memory.stopping.wait_stopped());
    REQUIRE(world.store.stopping.wait_stopped());
    world.umbrad.kill();
  }
  death.memory_dies ? world.memory.kill_and_restart() : world.memory.disconnect();
  death.store_dies ? world.store.kill_and_restart() : world.store.disconnect();
  world.umbrad.start();
  (death.memory_first ? static_cast<Peer&>(world.memory) : world.store).connect();
  const bool created =
      death.call == "confirm" && (death.memory == Effect::after || death.store == Effect::after);
  // While one is away nothing that may be created elsewhere goes.
  if (created) CHECK(world.copies(true) > 0);
  (death.memory_first ? static_cast<Peer&>(world.store) : world.memory).connect();
  CHECK(world.settles_at(created ? 3 : 0));
  world.delete_all();
}

TEST_CASE("umbrad dies between any two ConfirmSets, alone or with providers: whole or gone",
          "[e2e][umbrad]"
          "[vss:rule.no-partial-commit]") {
  World world;
  for (unsigned choice = 0; choice < 32; ++choice)
    die_and_settle(world, {"confirm", (choice & 1U) != 0 ? Effect::after : Effect::before,
                           (choice & 2U) != 0 ? Effect::after : Effect::before, (choice & 4U) != 0,
                           (choice & 8U) != 0, (choice & 16U) != 0});
  CHECK(world.umbrad.stop() == 0);
}

TEST_CASE("umbrad dies at any earlier step, and no provider keeps its part",
          "[e2e][umbrad]"
          "[vss:rule.no-partial-commit]") {
  World world;
  Prng random{seed()};
  for (const auto* const call : {"post_commit", "pre_final", "post_final"})
    for (unsigned effects = 0; effects < 4; ++effects)
      die_and_settle(world, {call, (effects & 1U) != 0 ? Effect::after : Effect::before,
                             (effects & 2U) != 0 ? Effect::after : Effect::before,
                             random.chance(1, 2), random.chance(1, 2), random.chance(1, 2)});
  CHECK(world.umbrad.stop() == 0);
}

TEST_CASE("a provider that dies in ConfirmSet is waited for, and the requester learns the truth",
          "[e2e][umbrad]") {
  World world;
  const bool dies = GENERATE(false, true);
  const auto effect = GENERATE(Effect::before, Effect::after);
  const bool both = GENERATE(false, true);
  INFO("killed " << dies << ", after " << (effect == Effect::after) << ", both " << both);
  world.store.stopping.stop_in("confirm", effect);
  Requester requester(world.umbrad);
  const auto volumes =
      both ? std::vector<std::string>{"memory", "a", "b"} : std::vector<std::string>{"a", "b"};
  const auto operation = world.start_set(requester, volumes);
  REQUIRE(world.store.stopping.wait_stopped());
  dies ? world.store.kill_and_restart() : world.store.disconnect();
  world.store.connect();
  const auto outcome = requester.wait(operation);
  INFO(outcome.context);
  // Alone, and killed before the first member was marked, it goes: nobody can have created it.
  const bool created = both || !dies || effect == Effect::after;
  CHECK((outcome.status == Errc::async_finished) == created);
  CHECK(world.settles_at(created ? volumes.size() : 0));
  CHECK(world.umbrad.stop() == 0);
}

TEST_CASE("a provider that stays away in ConfirmSet leaves the set in doubt until it is back",
          "[e2e][umbrad]") {
  World world(kShortWaits);
  const auto effect = GENERATE(Effect::before, Effect::after);
  const bool umbrad_restarts = GENERATE(false, true);
  world.store.stopping.stop_in("confirm", effect);
  Requester requester(world.umbrad);
  const auto operation = world.start_set(requester, {"memory", "a", "b"});
  REQUIRE(world.store.stopping.wait_stopped());
  world.store.kill_and_restart();
  const auto outcome = requester.wait(operation);
  CHECK(outcome.status == Errc::unexpected_provider_error);
  CHECK(outcome.context.find("the set is in doubt") != std::string::npos);
  CHECK(world.copies(false) == 1);  // What is created is shown.
  if (umbrad_restarts) {
    world.umbrad.kill();
    world.umbrad.start();
  }
  world.store.connect();
  CHECK(world.settles_at(3));
  CHECK(world.umbrad.stop() == 0);
}

TEST_CASE("a set that waits for an absent provider can be deleted", "[e2e][umbrad]") {
  World world;
  world.memory.stopping.stop_in("confirm", Effect::before);
  world.store.stopping.stop_in("confirm", Effect::before);
  {
    Requester requester(world.umbrad);
    static_cast<void>(world.start_set(requester, {"memory", "a", "b"}));
    REQUIRE(world.memory.stopping.wait_stopped());
    REQUIRE(world.store.stopping.wait_stopped());
    world.umbrad.kill();
  }
  world.memory.disconnect();
  world.store.kill_and_restart();
  world.umbrad.start();
  world.store.connect();
  CHECK(world.copies(false) == 0);
  CHECK(world.copies(true) == 2);
  Requester probe(world.umbrad);
  rpc::QuerySnapshots query;
  query.incomplete = true;
  const auto list = probe.client.call<rpc::SnapshotList>("query.snapshots", query);
  REQUIRE(list);
  CHECK(list->absent_providers == std::vector<std::string>{"memory"});
  rpc::DeleteSnapshots removal;
  removal.id = list->snapshots.at(0).set_id;
  removal.type = ObjectType::snapshot_set;
  CHECK(probe.client.call<rpc::DeletedSnapshots>("snapshot.delete", removal)->deleted == 2);
  world.memory.connect();
  CHECK(world.settles_at(0));
  CHECK(world.umbrad.stop() == 0);
}

}  // namespace
