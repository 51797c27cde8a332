// SPDX-License-Identifier: Apache-2.0
//
// The provider SDK against a real umbrad: the example's provider and another make sets together,
// umbrad and the provider end and come back at any time.

#include <fstream>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "engine/platform/log.h"
#include "engine/rpc/provider_server.h"
#include "provider-sdk/examples/file_provider.h"
#include "tests/support/catch.h"
#include "tests/support/memory_provider.h"
#include "tests/support/no_threads.h"
#include "tests/support/wire_client.h"
#include "umbra/provider/session.h"

namespace {

using namespace umbra;
using namespace umbra::test;
using namespace std::chrono_literals;
using example::FileProvider;

/// The example's provider, as its program serves it.
class Served {
 public:
  explicit Served(const Umbrad& umbrad) : umbrad_(umbrad) {
    std::ofstream(volume()) << std::string(64 * 1024, '1');
    start();
    REQUIRE(session->wait_until_registered(kSoon));
  }
  void start() {
    auto opened = FileProvider::open(directory_ / "store", properties);
    REQUIRE(opened);
    files = std::move(*opened);
    REQUIRE(files->add_volume("vm", volume()));
    auto connected = provider::Session::connect(*files, options());
    REQUIRE(connected);
    session.emplace(std::move(*connected));
  }
  void end() {
    session.reset();
    files.reset();
  }
  [[nodiscard]] provider::Options options() const {
    provider::Options options;
    options.socket_path = umbrad_.socket();
    options.coordinator_required = false;
    return options;
  }
  [[nodiscard]] std::string volume() const { return directory_ / "vm.img"; }

  const ProviderProperties properties{ProviderId::random(), "files", ProviderType::software, "1"};
  std::unique_ptr<FileProvider> files;
  std::optional<provider::Session> session;

 private:
  const Umbrad& umbrad_;
  TempDir directory_;
};

struct Memory {
  explicit Memory(const Umbrad& umbrad) {
    provider.add_volume("data");
    rpc::ProviderServerOptions options;
    options.socket_path = umbrad.socket();
    options.program = "test-provider";
    server.emplace(provider, std::map<std::string, rpc::ProviderMethod>{}, options, null_log());
    REQUIRE(server->wait_until_registered(kSoon));
  }
  MemoryProvider provider{system_clock()};
  std::optional<rpc::ProviderServer> server;
};

std::vector<SnapshotProperties> copies(const Umbrad& umbrad) {
  auto list =
      Requester(umbrad).client.call<rpc::SnapshotList>("query.snapshots", rpc::QuerySnapshots{});
  REQUIRE(list);
  return std::move(list->snapshots);
}

TEST_CASE("a set over the example's provider and another is whole at both, and stays",
          "[e2e][umbrad]"
          "[vss:IVssProviderNotifications.OnLoad][vss:IVssAdmin.RegisterProvider]"
          "[vss:rule.persistent-over-restart]") {
  const Umbrad umbrad;
  Memory memory(umbrad);
  Served served(umbrad);
  Requester requester(umbrad);
  requester.begin(context::kNasRollback);
  requester.start_set();
  REQUIRE(requester.add("data"));
  REQUIRE(requester.add("vm"));
  const auto outcome = requester.create();
  INFO(outcome.context);
  REQUIRE(outcome.status == Errc::async_finished);
  std::ofstream(served.volume()) << "changed";
  served.end();
  CHECK(copies(umbrad).size() == 1);
  served.start();
  REQUIRE(served.session->wait_until_registered(kSoon));
  const auto list = copies(umbrad);
  REQUIRE(list.size() == 2);
  CHECK(list[0].set_id == list[1].set_id);
  for (const auto& copy : list) {
    CHECK(copy.snapshots_count == 2);
    if (copy.provider_id != served.properties.provider_id) continue;
    std::ifstream file(copy.device_object);
    CHECK(std::string(std::istreambuf_iterator<char>(file), {}) == std::string(64 * 1024, '1'));
  }
  rpc::DeleteSnapshots removal;
  removal.id = list[0].set_id;
  removal.type = ObjectType::snapshot_set;
  const auto removed = requester.client.call<rpc::DeletedSnapshots>("snapshot.delete", removal);
  REQUIRE(removed);
  CHECK(removed->deleted == 2);
}

TEST_CASE("umbrad dies while the set is confirmed: the example's part follows the other's",
          "[e2e][umbrad]"
          "[vss:rule.no-partial-commit]") {
  Umbrad umbrad;
  Memory memory(umbrad);
  Served served(umbrad);
  {
    Requester requester(umbrad);
    requester.begin(context::kNasRollback);
    requester.start_set();
    REQUIRE(requester.add("data"));
    REQUIRE(requester.add("vm"));
    memory.provider.block("confirm_set");
    REQUIRE(requester.client.call<rpc::StartedOperation>("session.do_snapshot_set"));
    REQUIRE(memory.provider.wait_blocked("confirm_set", kSoon));
    umbrad.kill();
  }
  memory.provider.unblock("confirm_set");  // Nobody hears the answer, but it is created.
  served.end();
  umbrad.start();
  served.start();
  REQUIRE(umbrad.sees_all_providers());
  const auto until = system_clock().now() + kSoon;
  while (copies(umbrad).size() < 2 && system_clock().now() < until) std::this_thread::yield();
  CHECK(copies(umbrad).size() == 2);
  CHECK(umbrad.stop() == 0);
}

TEST_CASE("a session waits for umbrad, comes back with it, and ends when it is told to",
          "[e2e][umbrad]"
          "[vss:IVssProviderNotifications.OnLoad][vss:IVssProviderNotifications.OnUnload]") {
  Umbrad umbrad;
  Served served(umbrad);
  auto& session = *served.session;
  CHECK(session.is_registered());
  REQUIRE(umbrad.stop() == 0);
  umbrad.start();
  CHECK(umbrad.sees_all_providers());
  std::optional<Status> ended;
  std::thread runner([&] { ended = session.run(); });
  session.request_stop();
  runner.join();
  REQUIRE(ended);
  CHECK(*ended);
  CHECK(session.stop());
  CHECK(!session.is_registered());
  const auto late = session.wait_until_registered(1s);
  REQUIRE(!late);
  CHECK(late.error().code == Errc::coordinator_lost);
}

TEST_CASE("what keeps a provider out is said",
          "[e2e][umbrad]"
          "[vss:VSS_E_PROVIDER_ALREADY_REGISTERED][vss:VSS_E_PROVIDER_NOT_REGISTERED]") {
  Umbrad umbrad;
  Served served(umbrad);
  MemoryProvider twin(system_clock());
  const auto refused = [&](Provider& provider, provider::Options options, Errc code,
                           const std::string& word) {
    options.coordinator_required = true;
    options.connect_limit = 1s;
    const auto session = provider::Session::connect(provider, options);
    REQUIRE(!session);
    CHECK(session.error().code == code);
    INFO(session.error().to_string());
    CHECK(session.error().context.find(word) != std::string::npos);
  };
  refused(*served.files, served.options(), Errc::coordinator_lost, "is connected");
  auto options = served.options();
  options.threads = 0;
  refused(twin, options, Errc::invalid_argument, "threads");
  options = served.options();
  options.socket_path += ".nobody";
  refused(twin, options, Errc::coordinator_lost, ".nobody");
  MemoryProvider nameless(system_clock(), "");
  refused(nameless, served.options(), Errc::invalid_argument, "name");
  MemoryProvider untyped(system_clock(), "untyped", ProviderType::unknown);
  refused(untyped, served.options(), Errc::invalid_argument, "type");
  {
    const NoThreads none;
    refused(twin, served.options(), Errc::out_of_memory, "limits");
  }

  served.end();
  WireClient admin(umbrad.socket(), "admin");
  REQUIRE(
      admin.call<ProviderProperties>("coordinator.unregister_provider",
                                     rpc::UnregisterProvider{served.properties.provider_id, true}));
  served.start();
  refused(*served.files, served.options(), Errc::coordinator_lost, "unregistered");
}

}  // namespace
