// SPDX-License-Identifier: Apache-2.0
//
// A revert that a session begins and watches by a handle: requester SDK, umbrad, and the system
// provider's own waiting and events, over a volume in memory.

#include <memory>
#include <string>
#include <vector>

#include "engine/platform/log.h"
#include "engine/rpc/event_log.h"
#include "engine/rpc/operation_table.h"
#include "engine/rpc/provider_server.h"
#include "provider/contract/system_provider.h"
#include "tests/support/catch.h"
#include "tests/support/contract_doubles.h"
#include "tests/support/fake_volume.h"
#include "tests/support/wire_client.h"
#include "umbra/requester/backup_session.h"

namespace {

using namespace umbra;
using namespace umbra::test;

struct World {
  World() {
    contract::SystemProviderOptions options;
    options.on_event = [this](const ProviderEvent& event) { events.add(event); };
    options.claim_live = [](const VolumeId&, bool) -> Result<std::shared_ptr<void>> {
      return std::make_shared<int>(0);
    };
    provider = std::make_unique<contract::SystemProvider>(freezer, surfaces, null_log(),
                                                          system_clock(), options);
    attach();
    provider->all_volumes_attached();
    rpc::ProviderServerOptions serving;
    serving.socket_path = umbrad.socket();
    serving.operations = &operations;
    serving.events = &events;
    server = std::make_unique<rpc::ProviderServer>(
        *provider, std::map<std::string, rpc::ProviderMethod>{}, serving, null_log());
    REQUIRE(server->wait_until_registered(kSoon));
    session = open(true);
    watching = open(false);  // Who did not begin it, and is no administrator.
    REQUIRE(session->set_context(context::kAppRollback | attribute::kNoWriters));
    volume.name = "db";
  }
  [[nodiscard]] std::unique_ptr<requester::BackupSession> open(bool admin) const {
    requester::ConnectOptions address;
    address.socket_path = umbrad.socket();
    address.admin = admin;
    auto opened = requester::BackupSession::connect(address);
    REQUIRE(opened);
    REQUIRE(opened->initialize_for_backup());
    return std::make_unique<requester::BackupSession>(std::move(*opened));
  }
  ~World() {
    disk.set_revert({});
    provider->stop_waiting();
  }
  void attach() {
    contract::VolumeDescription description;
    description.name = "db";
    description.device = 0x701;
    REQUIRE(provider->add_volume(disk.open(), std::move(description)));
  }
  // A copy is made, and the volume is on its way back to it.
  requester::AsyncOperation revert() {
    REQUIRE(session->start_snapshot_set());
    const auto copy = session->add_to_snapshot_set(volume);
    REQUIRE(copy);
    REQUIRE(session->do_snapshot_set());
    CHECK(session->start_query_revert_status(volume).error().code == Errc::object_not_found);
    target = copy->snapshot_id;
    const auto begun = session->revert_to_snapshot(target);
    INFO((begun ? "" : begun.error().to_string()));
    REQUIRE(begun);
    auto watched = watching->start_query_revert_status(volume);
    REQUIRE(watched);
    return std::move(*watched);
  }

  // As the volume says it of itself; not read from there, where the provider's thread writes.
  [[nodiscard]] cow::RevertStatus going_on() const {
    cow::RevertStatus status;
    status.under_way = true;
    status.snapshot = target;
    status.bytes_total = 100;
    return status;
  }

  Umbrad umbrad;
  rpc::EventLog events;
  Events steps;
  FakeFreezer freezer{steps};
  FakeSurfaces surfaces{steps};
  FakeDisk disk{"db", &steps};
  std::unique_ptr<contract::SystemProvider> provider;
  rpc::OperationTable operations{system_clock(), null_log()};
  std::unique_ptr<rpc::ProviderServer> server;
  std::unique_ptr<requester::BackupSession> session, watching;
  VolumeRef volume;
  SnapshotId target;
};

TEST_CASE("a revert is waited for by whoever asks, and its end is known at once",
          "[e2e][umbrad][vss:IVssBackupComponents.QueryRevertStatus][vss:IVssAsync.Wait]") {
  World world;
  auto revert = world.revert();
  auto status = world.going_on();
  const auto begun = revert.query_status();
  REQUIRE(begun);
  CHECK(begun->code == Errc::async_pending);
  CHECK(begun->phase == "copied back 0 of 100 bytes");
  status.bytes_done = 60;
  world.disk.set_revert(status);
  CHECK(revert.wait(std::chrono::milliseconds(1))->phase == "copied back 60 of 100 bytes");
  CHECK(revert.cancel().error().code == Errc::bad_state);
  world.disk.set_revert({});
  const auto end = revert.wait();
  REQUIRE(end);
  CHECK(end->code == Errc::async_finished);
  CHECK(world.session->start_query_revert_status(world.volume).error().code ==
        Errc::object_not_found);
  CHECK(world.umbrad.stop() == 0);
}

TEST_CASE("a revert whose volume goes is lost to who watches it, and is there again with it",
          "[e2e][umbrad][vss:VSS_E_REVERT_VOLUME_LOST]") {
  World world;
  auto revert = world.revert();
  auto status = world.going_on();
  status.stopped = true;  // Else the volume would be kept from going.
  world.disk.set_revert(status);
  REQUIRE(world.provider->remove_volume(world.disk.id, false));
  const auto end = revert.wait();
  REQUIRE(end);
  CHECK(end->code == Errc::revert_volume_lost);
  status.stopped = false;
  world.disk.set_revert(status);
  world.attach();
  auto again = world.session->start_query_revert_status(world.volume);
  REQUIRE(again);
  world.disk.set_revert({});
  CHECK(again->wait()->code == Errc::async_finished);
  CHECK(world.umbrad.stop() == 0);
}

}  // namespace
