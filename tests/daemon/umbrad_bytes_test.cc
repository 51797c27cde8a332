// SPDX-License-Identifier: Apache-2.0
//
// Names that are no UTF-8, in every place that has one: of a writer, a component, a volume, a
// directory, a file. Writer SDK, documents, wire, umbrad, requester SDK, bundle, list of files and
// restore carry the bytes that they are.

#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/platform/log.h"
#include "engine/rpc/provider_server.h"
#include "tests/support/catch.h"
#include "tests/support/memory_provider.h"
#include "tests/support/temp_dir.h"
#include "tests/support/wire_client.h"
#include "umbra/requester/backup_session.h"
#include "umbra/requester/bundle.h"
#include "umbra/requester/file_list.h"
#include "umbra/requester/restore_session.h"
#include "umbra/writer/writer.h"

namespace {

using namespace umbra;
using namespace umbra::test;
namespace fs = std::filesystem;

// Also what the escape of the wire and of documents is made of.
const writer::ComponentName kDb{"acc\xFF\\ounts\xE2\x90\x9B", "d\xFE\nb"};
constexpr const char* kVolume = "dat\xFF";
constexpr const char* kWriter = "led\xFFger";

class Writer final : public writer::Writer {
 public:
  Status on_identify(writer::MetadataBuilder& metadata) override {
    RestoreRules rules;
    rules.method = RestoreMethod::restore_if_can_replace;
    rules.writer_restore = WriterRestore::always;
    if (auto status = metadata.set_restore_rules(rules); !status) return status;
    ComponentInfo db;
    db.logical_path = kDb.logical_path;
    db.name = kDb.name;
    db.files = {{.path = directory, .pattern = "f\xFD*"}};
    return metadata.add_component(db);
  }
  Status on_prepare_for_backup(writer::Context& context) override {
    volumes = context.volumes();
    options = context.components()->components.at(0).backup_options.value_or("");
    return context.set_backup_metadata(kDb, "m\xFF\n");
  }
  Status on_prepare_for_snapshot(writer::Context&) override { return {}; }
  Status on_freeze(writer::Context&) override { return {}; }
  void on_thaw(writer::Context&) noexcept override {}
  void on_abort(writer::Context&) noexcept override {}
  Status on_post_snapshot(writer::Context& context) override {
    volumes = context.volumes();
    return context.add_partial_file(kDb, {directory, "f\xFD\xFE", "1:2", "why\xFC"});
  }
  Status on_pre_restore(writer::Context& context) override {
    restored = *context.components();
    return {};
  }
  Status on_post_restore(writer::Context&) override { return {}; }

  std::string directory;  // Set before anybody asks. The rest: between events.
  std::vector<writer::AffectedVolume> volumes;
  std::string options;
  WriterComponents restored;
};

struct World {
  World() {
    memory.add_volume(kVolume);
    rpc::ProviderServerOptions options;
    options.socket_path = umbrad.socket();
    server = std::make_unique<rpc::ProviderServer>(
        memory, std::map<std::string, rpc::ProviderMethod>{}, options, null_log());
    REQUIRE(server->wait_until_registered(kSoon));
    writer.directory = live;
    fs::create_directories(kept + live);
    std::ofstream(kept + live +
                  "/f\xFD"
                  "1")
        << "one";
    std::ofstream(kept + live + "/f\xFD\xFE") << "partly";
    std::ofstream(kept + live + "/f\xEF\xBF\xBD") << "what a repaired name would match";
    writer::Options registration;
    registration.class_id = class_id;
    registration.name = kWriter;
    registration.instance_name = kWriter;
    registration.socket_path = umbrad.socket();
    auto connected = writer::Session::connect(writer, registration);
    REQUIRE(connected);
    session.emplace(std::move(*connected));
    address.socket_path = umbrad.socket();
  }
  // A whole backup, kept in a file and read again.
  BackupBundle back_up() {
    auto backup = requester::BackupSession::connect(address);
    REQUIRE(backup);
    REQUIRE(backup->initialize_for_backup());
    REQUIRE(backup->set_backup_state({.partial_file_support = true}));
    REQUIRE(backup->gather_writer_metadata());
    const auto list = backup->writer_metadata();
    REQUIRE(list);
    REQUIRE(list->size() == 1);
    CHECK(list->front().name == kWriter);
    CHECK(list->front().document.identity.name == kWriter);
    CHECK(list->front().document.identity.instance_name == kWriter);
    CHECK(list->front().document.components.at(0).logical_path == kDb.logical_path);
    const requester::ComponentRef db{
        {}, class_id, ComponentType::file_group, kDb.logical_path, kDb.name};
    REQUIRE(backup->add_component(db));
    REQUIRE(backup->set_backup_options(db, "o\xFF"));
    REQUIRE(backup->start_snapshot_set());
    VolumeRef volume;
    volume.name = kVolume;
    REQUIRE(backup->add_to_snapshot_set(volume));
    REQUIRE(backup->prepare_for_backup());
    REQUIRE(backup->do_snapshot_set());
    REQUIRE(backup->set_backup_succeeded(db, true));
    REQUIRE(backup->backup_complete());
    const auto status = backup->gather_writer_status();
    REQUIRE(status);
    CHECK(status->at(0).name == kWriter);
    const auto bundle = backup->make_bundle();
    REQUIRE(bundle);
    REQUIRE(requester::save_bundle(*bundle, top / "bundle\xFF"));
    auto again = requester::load_bundle(top / "bundle\xFF");
    REQUIRE(again);
    return std::move(*again);
  }

  TempDir top;
  const std::string live = top / "liv\xFF";
  const std::string kept = top / "kep\xFF";
  const WriterClassId class_id = WriterClassId::random();
  Writer writer;
  requester::ConnectOptions address;
  Umbrad umbrad;
  MemoryProvider memory{system_clock()};
  std::unique_ptr<rpc::ProviderServer> server;
  std::optional<writer::Session> session;
};

TEST_CASE("names that are no UTF-8 pass a backup, its list of files and a restore whole",
          "[e2e][umbrad]") {
  World world;
  const auto bundle = world.back_up();
  CHECK(world.writer.options == "o\xFF");
  REQUIRE(world.writer.volumes.size() == 1);
  CHECK(world.writer.volumes[0].name == kVolume);
  REQUIRE(bundle.components.writers.size() == 1);
  const auto& component = bundle.components.writers[0].components.at(0);
  CHECK(component.logical_path == kDb.logical_path);
  CHECK(component.name == kDb.name);
  CHECK(component.backup_metadata == "m\xFF\n");
  CHECK(component.partial_files ==
        std::vector<PartialFile>{{world.live, "f\xFD\xFE", "1:2", "why\xFC"}});

  requester::FileListOptions listing;
  listing.sources = {{"/", world.kept}};
  listing.components = {{world.class_id, kDb.logical_path + "\\" + kDb.name}};
  std::vector<std::string> originals;
  std::vector<requester::FileRange> ranges;
  const auto listed =
      requester::list_files(bundle, listing, [&](const requester::ListedFile& file) -> Status {
        originals.push_back(file.original);
        if (!file.ranges.empty()) ranges = file.ranges;
        return {};
      });
  REQUIRE(listed);
  CHECK(originals == std::vector<std::string>{world.live,
                                              world.live + "/f\xFD"
                                                           "1",
                                              world.live + "/f\xFD\xFE"});
  CHECK(ranges == std::vector<requester::FileRange>{{1, 2}});

  auto restore = requester::RestoreSession::connect(world.address);
  REQUIRE(restore);
  requester::RestoreOptions options;
  options.source_directory = world.kept;
  const auto report = restore->restore(bundle, options);
  INFO((report ? "" : report.error().to_string()));
  REQUIRE(report);
  CHECK(report->components.at(0).with_writer);
  REQUIRE(report->components[0].files.size() == 2);
  CHECK(report->components[0].files[1].destination == world.live + "/f\xFD\xFE");
  CHECK(fs::exists(world.live + "/f\xFD"
                                "1"));
  CHECK(fs::file_size(world.live + "/f\xFD\xFE") == 6);
  CHECK(world.writer.restored.components.at(0).name == kDb.name);
  CHECK(world.writer.restored.components[0].backup_metadata == "m\xFF\n");
  CHECK(world.umbrad.stop() == 0);
}

}  // namespace
