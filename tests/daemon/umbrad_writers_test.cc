// SPDX-License-Identifier: Apache-2.0
//
// What umbrad tells a writer, and what it does not: subscriptions, for whom Identify is asked.

#include <string>
#include <vector>

#include "engine/documents/xml.h"
#include "engine/platform/log.h"
#include "engine/rpc/provider_server.h"
#include "tests/support/catch.h"
#include "tests/support/memory_provider.h"
#include "tests/support/wire_client.h"

namespace {

using namespace umbra;
using namespace umbra::test;

using Names = std::vector<std::string>;

struct World {
  World() {
    memory.add_volume("data");
    rpc::ProviderServerOptions options;
    options.socket_path = umbrad.socket();
    server = std::make_unique<rpc::ProviderServer>(
        memory, std::map<std::string, rpc::ProviderMethod>{}, options, null_log());
    REQUIRE(server->wait_until_registered(kSoon));
  }
  ~World() { CHECK(umbrad.stop() == 0); }

  Umbrad umbrad;
  MemoryProvider memory{system_clock()};
  std::unique_ptr<rpc::ProviderServer> server;
};

TEST_CASE("a writer without backup events takes no part in a backup",
          "[e2e][umbrad][vss:VSS_SM.BACKUP_EVENTS]") {
  World world;
  FakeWriter both(world.umbrad.socket(), {.name = "both"});
  FakeWriter restores(world.umbrad.socket(),
                      {.name = "restores", .subscription = subscribe::kRestoreEvents});
  {
    Requester requester(world.umbrad);
    requester.prepare({&both, &restores}, "data");
    const auto outcome = requester.create(WriterPolicy::all);
    INFO(outcome.context);
    CHECK(outcome.status == Errc::async_finished);
    CHECK(requester.run("session.backup_complete").status == Errc::async_finished);
    CHECK(requester.status_of(both).state == WriterState::stable);
    CHECK(requester.status_of(restores).failure == Errc::ok);
  }
  CHECK(both.saw("backup_shutdown"));
  CHECK(restores.events() == Names{"identify"});
}

TEST_CASE("a writer without restore events is restored without being told",
          "[e2e][umbrad][vss:VSS_SM.RESTORE_EVENTS]") {
  World world;
  FakeWriter both(world.umbrad.socket(), {.name = "both"});
  FakeWriter backups(world.umbrad.socket(),
                     {.name = "backups", .subscription = subscribe::kBackupEvents});
  BackupComponentsDocument document;
  for (const auto* writer : {&both, &backups}) {
    auto& part = document.writers.emplace_back();
    part.class_id = writer->class_id();
    part.components.emplace_back().name = "data";
  }
  Requester requester(world.umbrad);
  requester.begin_restore(document);
  requester.gather();
  requester.select_for_restore(both);
  requester.select_for_restore(backups);
  CHECK(requester.run("session.pre_restore").status == Errc::async_finished);
  CHECK(requester.set_status(both, FileRestoreStatus::all));
  CHECK(requester.set_status(backups, FileRestoreStatus::all));
  CHECK(requester.run("session.post_restore").status == Errc::async_finished);
  CHECK(both.events() == Names{"identify", "pre_restore", "post_restore"});
  CHECK(backups.events() == Names{"identify"});
}

TEST_CASE("Identify says for which session it is asked", "[e2e][umbrad]") {
  World world;
  FakeWriter writer(world.umbrad.socket(), {.name = "writer"});
  Requester requester(world.umbrad);
  requester.prepare({&writer}, "data");
  CHECK_FALSE(writer.params("identify").session_id.is_nil());
  CHECK(writer.params("identify").session_id == writer.params("prepare_for_backup").session_id);
}

}  // namespace
