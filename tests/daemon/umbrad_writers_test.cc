// SPDX-License-Identifier: Apache-2.0
//
// What umbrad tells a writer, and what it does not: subscriptions, for whom Identify is asked;
// and writers that it need not tell anything, express writers.

#include <filesystem>
#include <string>
#include <vector>

#include "engine/documents/express.h"
#include "engine/documents/express_store.h"
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

// --- express writers ----------------------------------------------------------------------------

WriterMetadataDocument menu() {
  WriterMetadataDocument document;
  document.identity.class_id = WriterClassId{Guid{{5}}};
  document.identity.name = "menu";
  document.components.emplace_back().name = "recipes";
  document.components[0].files.emplace_back().path = "/var/lib/menu";
  return document;
}

rpc::ComponentRef recipes() {
  rpc::ComponentRef ref;
  ref.class_id = menu().identity.class_id;
  ref.type = ComponentType::file_group;
  ref.name = "recipes";
  return ref;
}

const rpc::WriterMetadata* find(const rpc::WriterMetadataList& list, const WriterClassId& id) {
  for (const auto& writer : list.writers)
    if (writer.class_id == id) return &writer;
  return nullptr;
}

TEST_CASE("an express writer is in a backup without a process, and always stable",
          "[e2e][umbrad]") {
  World world;
  FakeWriter live(world.umbrad.socket(), {.name = "live"});
  const auto directory = documents::express_directory(world.umbrad.run_dir());
  REQUIRE(documents::register_express_writer(directory, menu()));
  Requester requester(world.umbrad);
  requester.begin();
  requester.gather();
  const auto list = requester.client.call<rpc::WriterMetadataList>("session.get_writer_metadata");
  REQUIRE(list);
  CHECK(list->writers.size() == 3);
  const auto* menu_writer = find(*list, menu().identity.class_id);
  REQUIRE(menu_writer != nullptr);
  CHECK(static_cast<Guid>(menu_writer->instance_id) == static_cast<Guid>(menu_writer->class_id));
  CHECK(documents::parse_writer_metadata(menu_writer->metadata)->components == menu().components);
  // Whoever is registered is worth a backup too.
  const auto* store = find(*list, documents::metadata_store_class());
  REQUIRE(store != nullptr);
  CHECK(store->metadata.find(directory) != std::string::npos);

  REQUIRE(requester.client.call<rpc::Nothing>("session.add_component", recipes()));
  requester.select(live);
  requester.start_set();
  REQUIRE(requester.add("data"));
  CHECK(requester.run("session.prepare_for_backup").status == Errc::async_finished);
  CHECK(requester.create(WriterPolicy::all).status == Errc::async_finished);
  rpc::SetBackupSucceeded good;
  good.component = recipes();
  good.succeeded = true;
  CHECK(requester.client.call<rpc::Nothing>("session.set_backup_succeeded", good));
  CHECK(requester.run("session.backup_complete").status == Errc::async_finished);
  const auto statuses = requester.client.call<rpc::WriterStatusList>("session.get_writer_status");
  REQUIRE(statuses);
  for (const auto& status : statuses->writers) {
    CHECK(status.state == WriterState::stable);
    CHECK(status.failure == Errc::ok);
  }
  const auto xml = requester.client.call<rpc::Document>("session.get_backup_components");
  REQUIRE(xml);
  CHECK(xml->xml.find("recipes") != std::string::npos);

  const auto writers = requester.client.call<rpc::WriterEntryList>("query.writers");
  REQUIRE(writers);
  CHECK(writers->writers.size() == 3);

  // Another backup, after it was unregistered.
  REQUIRE(documents::unregister_express_writer(directory, menu().identity.class_id));
  Requester next(world.umbrad);
  next.begin();
  next.gather();
  CHECK(next.client.call<rpc::WriterMetadataList>("session.get_writer_metadata")->writers.size() ==
        1);
}

TEST_CASE("an express writer is restored without being told, and can be disabled",
          "[e2e][umbrad]") {
  World world;
  const auto directory = documents::express_directory(world.umbrad.run_dir());
  REQUIRE(documents::register_express_writer(directory, menu()));
  BackupComponentsDocument document;
  auto& part = document.writers.emplace_back();
  part.class_id = menu().identity.class_id;
  part.components.emplace_back().name = "recipes";
  Requester requester(world.umbrad);
  requester.begin_restore(document);
  requester.gather();
  rpc::SetSelectedForRestore select;
  select.component = recipes();
  REQUIRE(requester.client.call<rpc::Nothing>("session.set_selected_for_restore", select));
  CHECK(requester.run("session.pre_restore").status == Errc::async_finished);
  rpc::SetFileRestoreStatus all;
  all.component = recipes();
  all.status = FileRestoreStatus::all;
  CHECK(requester.client.call<rpc::Nothing>("session.set_file_restore_status", all));
  CHECK(requester.run("session.post_restore").status == Errc::async_finished);

  Requester other(world.umbrad);
  other.begin();
  rpc::WriterSelection without;
  without.ids = {menu().identity.class_id};
  REQUIRE(other.client.call<rpc::Nothing>("session.disable_writer_classes", without));
  other.gather();
  const auto list = other.client.call<rpc::WriterMetadataList>("session.get_writer_metadata");
  REQUIRE(list);
  CHECK(find(*list, menu().identity.class_id) == nullptr);
}

TEST_CASE("a directory that cannot be trusted costs no backup", "[e2e][umbrad]") {
  World world;
  FakeWriter live(world.umbrad.socket(), {.name = "live"});
  const auto directory = documents::express_directory(world.umbrad.run_dir());
  REQUIRE(documents::register_express_writer(directory, menu()));
  std::filesystem::permissions(directory, std::filesystem::perms::all);
  Requester requester(world.umbrad);
  requester.begin();
  requester.gather();
  CHECK(requester.client.call<rpc::WriterMetadataList>("session.get_writer_metadata")
            ->writers.size() == 1);
  CHECK(world.umbrad.logs("express writers are not read"));
}

}  // namespace
