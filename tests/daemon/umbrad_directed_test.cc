// SPDX-License-Identifier: Apache-2.0
//
// A whole restore whose writer directs it: what a writer says in PreRestore reaches the requester
// through umbrad, and the files' bytes go where it said.

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"
#include "tests/support/wire_client.h"
#include "umbra/requester/bundle.h"
#include "umbra/requester/restore_session.h"
#include "umbra/writer/writer.h"

namespace {

using namespace umbra;
using namespace umbra::test;
namespace fs = std::filesystem;

const writer::ComponentName kDb{"", "db"};

class Directing final : public writer::Writer {
 public:
  Status on_identify(writer::MetadataBuilder& metadata) override {
    RestoreRules rules;
    rules.method = RestoreMethod::restore_if_can_replace;
    rules.writer_restore = WriterRestore::always;
    if (auto status = metadata.set_restore_rules(rules); !status) return status;
    ComponentInfo db;
    db.name = kDb.name;
    db.files = {{.path = directory, .pattern = "*.db"}};
    return metadata.add_component(db);
  }
  Status on_prepare_for_snapshot(writer::Context&) override { return {}; }
  Status on_freeze(writer::Context&) override { return {}; }
  void on_thaw(writer::Context&) noexcept override {}
  void on_abort(writer::Context&) noexcept override {}
  Status on_pre_restore(writer::Context& context) override {
    if (target != RestoreTarget::undefined) {
      if (auto status = context.set_restore_target(kDb, target); !status) return status;
    }
    return context.add_directed_target(
        kDb, {directory, "old.db", "2:3, 8:2", directory, "new.db", "0:3, 0xA:2"});
  }
  Status on_post_restore(writer::Context&) override { return {}; }

  std::string directory;  // Set before anybody asks.
  RestoreTarget target = RestoreTarget::undefined;
};

std::string text_of(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

struct World {
  World() {
    writer.directory = live;
    fs::create_directories(live);
    fs::create_directories(kept + live);
    std::ofstream(kept + live + "/old.db") << "0123456789";
    std::ofstream(kept + live + "/other.db") << "other";
    std::ofstream(live + "/new.db") << "ABCDEFGHIJKLMNOP";
  }
  requester::RestoreReport restore() {
    writer::Options registration;
    registration.class_id = class_id;
    registration.name = "directing";
    registration.socket_path = umbrad.socket();
    auto connected = writer::Session::connect(writer, registration);
    REQUIRE(connected);
    requester::ConnectOptions address;
    address.socket_path = umbrad.socket();
    auto session = requester::RestoreSession::connect(address);
    REQUIRE(session);
    requester::RestoreOptions options;
    options.source_directory = kept;
    auto report = session->restore(bundle(), options);
    INFO((report ? "" : report.error().to_string()));
    REQUIRE(report);
    REQUIRE(report->components.size() == 1);
    CHECK(report->components[0].with_writer);
    CHECK(report->components[0].status == FileRestoreStatus::all);
    return std::move(*report);
  }
  // Of a backup that was made when the writer ran.
  BackupBundle bundle() {
    BackupBundle made;
    auto& metadata = made.writers.emplace_back();
    writer::MetadataBuilder builder(metadata);
    REQUIRE(writer.on_identify(builder));
    metadata.identity.class_id = class_id;
    metadata.identity.name = "directing";
    auto& part = made.components.writers.emplace_back();
    part.class_id = class_id;
    part.instance_id = WriterInstanceId::random();
    part.components.emplace_back().name = kDb.name;
    return made;
  }

  TempDir top;
  const std::string live = top / "live";
  const std::string kept = top / "kept";
  const WriterClassId class_id = WriterClassId::random();
  Directing writer;
  Umbrad umbrad;
};

TEST_CASE("ranges of files go where their writer directs them, and other files to their own place",
          "[e2e][umbrad][vss:rule.directed-target]") {
  World world;
  world.writer.target = RestoreTarget::directed;
  const auto report = world.restore();
  CHECK(text_of(world.live + "/new.db") == "234DEFGHIJ89MNOP");
  CHECK_FALSE(fs::exists(world.live + "/old.db"));
  CHECK(text_of(world.live + "/other.db") == "other");
  REQUIRE(report.components[0].files.size() == 2);
  CHECK(report.components[0].files[0].original == world.live + "/old.db");
  CHECK(report.components[0].files[0].destination == world.live + "/new.db");
  CHECK(world.umbrad.stop() == 0);
}

TEST_CASE("what a writer directs counts only if it says that the restore is directed",
          "[e2e][umbrad][vss:rule.directed-target]") {
  World world;
  world.writer.target = GENERATE(RestoreTarget::undefined, RestoreTarget::original);
  (void)world.restore();
  CHECK(text_of(world.live + "/new.db") == "ABCDEFGHIJKLMNOP");
  CHECK(text_of(world.live + "/old.db") == "0123456789");
  CHECK(text_of(world.live + "/other.db") == "other");
  CHECK(world.umbrad.stop() == 0);
}

}  // namespace
