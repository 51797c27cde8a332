// SPDX-License-Identifier: Apache-2.0
//
// IVssAdmin over the wire: providers are registered before they come, unregistered when they are
// not used, and stay so over restarts of umbrad.

#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "engine/platform/log.h"
#include "engine/rpc/provider_server.h"
#include "tests/support/catch.h"
#include "tests/support/memory_provider.h"
#include "tests/support/wire_client.h"

namespace {

using namespace umbra;
using namespace umbra::test;

struct World {
  Umbrad umbrad{};
  MemoryProvider provider{system_clock()};
  std::unique_ptr<rpc::ProviderServer> server;

  World() {
    provider.add_volume("data");
    connect();
    REQUIRE(server->wait_until_registered(kSoon));
  }
  void connect() {
    rpc::ProviderServerOptions options;
    options.socket_path = umbrad.socket();
    options.program = "test-provider";
    options.reconnect_max = std::chrono::milliseconds{200};
    server = std::make_unique<rpc::ProviderServer>(
        provider, std::map<std::string, rpc::ProviderMethod>{}, options, null_log());
  }
  [[nodiscard]] ProviderProperties properties() const { return provider.properties(); }
  /// A copy that stays when its session ends.
  void make_copy() {
    Requester requester(umbrad);
    requester.begin(context::kNasRollback);
    requester.start_set();
    REQUIRE(requester.add("data"));
    REQUIRE(requester.create().status == Errc::async_finished);
  }
  void delete_copies() {
    const auto copies = provider.query_snapshots(false);
    REQUIRE(copies);
    for (const auto& copy : *copies)
      REQUIRE(provider.delete_snapshots(copy.snapshot_id, ObjectType::snapshot, true).status);
  }
};

struct Admin {
  explicit Admin(const Umbrad& umbrad) : client(umbrad.socket(), "admin") {}
  Errc unregister(const ProviderId& id, bool force = false) {
    return code(client.call<ProviderProperties>("coordinator.unregister_provider",
                                                rpc::UnregisterProvider{id, force}));
  }
  Errc register_it(const ProviderProperties& properties) {
    return code(client.call<rpc::Nothing>("coordinator.register_provider", properties));
  }
  std::vector<rpc::ProviderEntry> listed() {
    auto list = client.call<rpc::ProviderList>("query.providers");
    REQUIRE(list);
    return std::move(list->providers);
  }
  template <class Answer>
  Errc code(const Result<Answer>& answer) {
    context = answer ? std::string() : answer.error().context;
    return answer ? Errc::ok : answer.error().code;
  }
  WireClient client;
  std::string context;
};

TEST_CASE("a provider that is unregistered is gone until it is registered again",
          "[e2e][umbrad]"
          "[vss:IVssAdmin.UnregisterProvider][vss:IVssAdmin.RegisterProvider]"
          "[vss:IVssAdmin.QueryProviders][vss:VSS_E_PROVIDER_NOT_REGISTERED]"
          "[vss:VSS_E_PROVIDER_ALREADY_REGISTERED]") {
  World world;
  Admin admin(world.umbrad);
  const auto properties = world.properties();
  CHECK(admin.unregister(ProviderId::random()) == Errc::provider_not_registered);
  REQUIRE(admin.unregister(properties.provider_id) == Errc::ok);
  CHECK(admin.listed().empty());
  CHECK(admin.unregister(properties.provider_id) == Errc::provider_not_registered);
  // It tries to come back, and is refused; nobody counts it as one that is away.
  WireClient knocking(world.umbrad.socket(), "provider");
  const auto refused = knocking.call<rpc::RegisteredProvider>(
      "provider.register", rpc::RegisterProvider{properties, {}});
  REQUIRE(!refused);
  CHECK(refused.error().code == Errc::provider_not_registered);
  Requester requester(world.umbrad);
  const auto volumes = requester.client.call<rpc::VolumeList>("volume.list");
  REQUIRE(volumes);
  CHECK(volumes->volumes.empty());
  CHECK(volumes->absent_providers.empty());
  // So it is after a restart of umbrad.
  REQUIRE(world.umbrad.stop() == 0);
  world.umbrad.start();
  Admin later(world.umbrad);
  CHECK(later.listed().empty());
  WireClient again(world.umbrad.socket(), "provider");
  const auto still = again.call<rpc::RegisteredProvider>("provider.register",
                                                         rpc::RegisterProvider{properties, {}});
  REQUIRE(!still);
  CHECK(still.error().code == Errc::provider_not_registered);
  // Registered, it comes by itself.
  REQUIRE(later.register_it(properties) == Errc::ok);
  CHECK(later.register_it(properties) == Errc::provider_already_registered);
  REQUIRE(world.umbrad.sees_all_providers());
  world.make_copy();
  CHECK(world.umbrad.stop() == 0);
}

TEST_CASE("a provider is registered before it first comes",
          "[e2e][umbrad]"
          "[vss:IVssAdmin.RegisterProvider][vss:IVssAdmin.QueryProviders]") {
  World world;
  Admin admin(world.umbrad);
  ProviderProperties other{ProviderId::random(), "other", ProviderType::hardware, "7"};
  REQUIRE(admin.register_it(other) == Errc::ok);
  for (int start = 0; start < 2; ++start) {
    const auto list = Admin(world.umbrad).listed();
    REQUIRE(list.size() == 2);
    CHECK(list[1].properties.provider_id == other.provider_id);
    CHECK(list[1].properties.name == "other");
    CHECK(list[1].properties.type == ProviderType::hardware);
    CHECK(list[1].properties.version == "7");
    CHECK(!list[1].connected);
    const auto volumes = Requester(world.umbrad).client.call<rpc::VolumeList>("volume.list");
    REQUIRE(volumes);
    CHECK(volumes->absent_providers.back() == "other");
    REQUIRE(world.umbrad.stop() == 0);
    world.umbrad.start();
  }
  Admin next(world.umbrad);
  for (const ProviderProperties& wrong :
       {ProviderProperties{{}, "nobody", ProviderType::software, ""},
        ProviderProperties{ProviderId::random(), "", ProviderType::software, ""},
        ProviderProperties{ProviderId::random(), std::string(300, 'x'), ProviderType::software, ""},
        ProviderProperties{ProviderId::random(), "untyped", ProviderType::unknown, ""}})
    CHECK(next.register_it(wrong) == Errc::invalid_argument);
}

TEST_CASE("a provider with copies, or one that is away, goes only by force",
          "[e2e][umbrad]"
          "[vss:IVssAdmin.UnregisterProvider][vss:VSS_E_PROVIDER_IN_USE]") {
  World world;
  Admin admin(world.umbrad);
  const auto id = world.properties().provider_id;
  world.make_copy();
  CHECK(admin.unregister(id) == Errc::provider_in_use);
  CHECK(admin.context.find("1 copies") != std::string::npos);
  REQUIRE(admin.listed().size() == 1);
  CHECK(admin.listed()[0].connected);
  REQUIRE(admin.unregister(id, true) == Errc::ok);
  CHECK(admin.listed().empty());
  CHECK(world.provider.query_snapshots(false)->size() == 1);  // It stays with its provider.
  REQUIRE(admin.register_it(world.properties()) == Errc::ok);
  REQUIRE(world.umbrad.sees_all_providers());
  const auto copies = Requester(world.umbrad)
                          .client.call<rpc::SnapshotList>("query.snapshots", rpc::QuerySnapshots{});
  REQUIRE(copies);
  CHECK(copies->snapshots.size() == 1);
  world.delete_copies();
  world.server.reset();
  REQUIRE(admin.unregister(id) == Errc::provider_in_use);
  CHECK(admin.context.find("nobody can say") != std::string::npos);
  CHECK(admin.unregister(id, true) == Errc::ok);
  CHECK(admin.listed().empty());
}

TEST_CASE("a provider on which a set is made is not unregistered",
          "[e2e][umbrad]"
          "[vss:IVssAdmin.UnregisterProvider][vss:VSS_E_PROVIDER_IN_USE]") {
  World world;
  Admin admin(world.umbrad);
  const auto id = world.properties().provider_id;
  {
    Requester requester(world.umbrad);
    requester.begin(context::kNasRollback);
    const auto set = requester.start_set();
    // A set that has no member there is no use of it, but one that may get one is.
    world.provider.block("begin_prepare_snapshot");
    rpc::AddToSnapshotSet adding;
    adding.volume.name = "data";
    const auto added = requester.client.post("session.add_to_snapshot_set", rpc::encode(adding));
    REQUIRE(world.provider.wait_blocked("begin_prepare_snapshot", kSoon));
    CHECK(admin.unregister(id, true) == Errc::provider_in_use);
    world.provider.unblock("begin_prepare_snapshot");
    REQUIRE(requester.client.answer(added));
    for (const bool force : {false, true}) {
      CHECK(admin.unregister(id, force) == Errc::provider_in_use);
      CHECK(admin.context.find(set.to_string()) != std::string::npos);
    }
    REQUIRE(requester.create().status == Errc::async_finished);
    CHECK(world.provider.query_snapshots(false)->size() == 1);
  }
  // The set begins while the provider is asked for its copies.
  world.delete_copies();
  Requester requester(world.umbrad);
  requester.begin(context::kNasRollback);
  requester.start_set();
  world.provider.block("query_snapshots");
  const auto asked = admin.client.post("coordinator.unregister_provider",
                                       rpc::encode(rpc::UnregisterProvider{id, false}));
  REQUIRE(world.provider.wait_blocked("query_snapshots", kSoon));
  REQUIRE(requester.add("data"));
  world.provider.unblock("query_snapshots");
  CHECK(admin.code(admin.client.answer(asked)) == Errc::provider_in_use);
  CHECK(requester.create().status == Errc::async_finished);
}

}  // namespace
