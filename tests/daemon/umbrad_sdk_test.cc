// SPDX-License-Identifier: Apache-2.0
//
// umbrad between the real writer SDK and the real requester SDK, with a provider in memory: what an
// application and a backup program see of the whole.

#include <algorithm>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "engine/platform/log.h"
#include "engine/rpc/provider_server.h"
#include "tests/support/catch.h"
#include "tests/support/memory_provider.h"
#include "tests/support/wire_client.h"
#include "umbra/requester/backup_session.h"
#include "umbra/requester/client.h"
#include "umbra/writer/writer.h"

namespace {

using namespace umbra;
using namespace umbra::test;

// Notes its events; vetoes the one it was told to.
class NotingWriter final : public writer::Writer {
 public:
  explicit NotingWriter(std::string veto = {}) : veto_(std::move(veto)) {}

  Status on_identify(writer::MetadataBuilder& metadata) override {
    ComponentInfo component;
    component.name = "data";
    return metadata.add_component(component);
  }
  Status on_prepare_for_backup(writer::Context&) override { return note("prepare_for_backup"); }
  Status on_prepare_for_snapshot(writer::Context&) override { return note("prepare_for_snapshot"); }
  Status on_freeze(writer::Context&) override { return note("freeze"); }
  void on_thaw(writer::Context&) noexcept override { static_cast<void>(note("thaw")); }
  Status on_post_snapshot(writer::Context& context) override {
    const auto device = context.snapshot_device("data");
    return note(device ? "post_snapshot " + device->substr(0, 8) : "post_snapshot nowhere");
  }
  void on_abort(writer::Context&) noexcept override { static_cast<void>(note("abort")); }
  Status on_backup_complete(writer::Context&) override { return note("backup_complete"); }
  void on_backup_shutdown(const SnapshotSetId&) noexcept override {
    static_cast<void>(note("backup_shutdown"));
  }

  [[nodiscard]] bool saw(const std::string& event) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, kSoon, [&] {
      return std::find(events_.begin(), events_.end(), event) != events_.end();
    });
  }
  [[nodiscard]] std::vector<std::string> events() {
    const std::lock_guard lock(mutex_);
    return events_;
  }

 private:
  Status note(const std::string& event) {
    const std::lock_guard lock(mutex_);
    events_.push_back(event);
    changed_.notify_all();
    if (event == veto_) return fail(Errc::writererror_retryable, "the disk is busy");
    return {};
  }
  std::string veto_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> events_;
};

struct World {
  explicit World(std::string veto = {}, std::chrono::milliseconds window = std::chrono::seconds{60})
      : noting(std::move(veto)) {
    memory.add_volume("data");
    rpc::ProviderServerOptions options;
    options.socket_path = umbrad.socket();
    server = std::make_unique<rpc::ProviderServer>(
        memory, std::map<std::string, rpc::ProviderMethod>{}, options, null_log());
    REQUIRE(server->wait_until_registered(kSoon));
    writer::Options registration;
    registration.class_id = WriterClassId::random();
    registration.name = "noting";
    registration.freeze_window = window;
    registration.socket_path = umbrad.socket();
    auto connected = writer::Session::connect(noting, registration);
    REQUIRE(connected);
    session.emplace(std::move(*connected));
  }
  ~World() { memory.unblock("pre_commit_snapshots"); }

  [[nodiscard]] Result<requester::BackupSession> open() {
    requester::ConnectOptions options;
    options.socket_path = umbrad.socket();
    return requester::BackupSession::connect(options);
  }
  [[nodiscard]] static requester::CreateOptions of_data(std::uint32_t context) {
    requester::CreateOptions options;
    VolumeRef volume;
    volume.name = "data";
    options.volumes = {volume};
    options.context = context;
    options.time_limit = kSoon;
    return options;
  }

  Umbrad umbrad;
  MemoryProvider memory{system_clock()};
  std::unique_ptr<rpc::ProviderServer> server;
  NotingWriter noting;
  std::optional<writer::Session> session;
};

TEST_CASE("one call makes a persistent copy with a writer taking part",
          "[e2e][umbrad]"
          "[vss:CVssWriter.OnPrepareBackup][vss:CVssWriter.OnPrepareSnapshot]"
          "[vss:CVssWriter.OnFreeze][vss:CVssWriter.OnThaw][vss:CVssWriter.OnPostSnapshot]"
          "[vss:CVssWriter.OnBackupComplete][vss:CVssWriter.Subscribe]"
          "[vss:CVssWriter.GetSnapshotDeviceName][vss:function.CreateVssBackupComponents]"
          "[vss:VSS_CTX.APP_ROLLBACK][vss:IVssBackupComponents.StartSnapshotSet]"
          "[vss:IVssBackupComponents.AddToSnapshotSet]") {
  World world;
  auto session = world.open();
  REQUIRE(session);
  const auto set = session->create_snapshot_set(World::of_data(context::kAppRollback));
  INFO((set ? std::string() : set.error().to_string()));
  REQUIRE(set);
  CHECK(set->snapshots.size() == 1);
  CHECK(set->report.timeline.size() == 11);
  REQUIRE(set->report.writers.size() == 1);
  CHECK(set->report.writers[0].failure == Errc::ok);
  CHECK(world.noting.events() ==
        std::vector<std::string>{"prepare_for_backup", "prepare_for_snapshot", "freeze", "thaw",
                                 "post_snapshot /memory/", "backup_complete"});
  CHECK(world.umbrad.stop() == 0);
}

TEST_CASE("a writer's veto is the error of the call, with writer, phase and words",
          "[e2e][umbrad]"
          "[vss:CVssWriter.OnFreeze][vss:CVssWriter.OnAbort][vss:VSS_E_WRITERERROR_RETRYABLE]") {
  World world("freeze");
  auto session = world.open();
  REQUIRE(session);
  const auto set = session->create_snapshot_set(World::of_data(context::kAppRollback));
  REQUIRE(!set);
  CHECK(set.error().code == Errc::writererror_retryable);
  CHECK(set.error().context.find("writer 'noting', phase freeze: the disk is busy") !=
        std::string::npos);
  REQUIRE(session->last_report().writers.size() == 1);
  CHECK(session->last_report().writers[0].state == WriterState::failed_at_freeze);
  CHECK(world.noting.saw("abort"));
  CHECK(world.memory.unfinished_sets() == 0);
  CHECK(world.umbrad.stop() == 0);
}

TEST_CASE("auto-release copies live as long as the session object",
          "[e2e][umbrad]"
          "[vss:VSS_CTX.BACKUP][vss:CVssWriter.OnBackupShutdown]"
          "[vss:rule.auto-release-on-disconnect]") {
  World world;
  {
    auto session = world.open();
    REQUIRE(session);
    REQUIRE(session->create_snapshot_set(World::of_data(context::kBackup)));
    CHECK(world.memory.query_snapshots(false)->size() == 1);
  }
  CHECK(world.noting.saw("backup_shutdown"));
  // The next set begins only when the last session is over at the provider, too.
  auto next = world.open();
  REQUIRE(next);
  REQUIRE(next->create_snapshot_set(World::of_data(context::kAppRollback)));
  CHECK(world.memory.query_snapshots(false)->size() == 1);
  CHECK(world.umbrad.stop() == 0);
}

TEST_CASE("a window that ends by itself thaws the writer and fails the set",
          "[e2e][umbrad]"
          "[vss:limit.freeze-to-thaw-60s][vss:CVssWriter.OnAbort]") {
  World world({}, std::chrono::milliseconds{300});
  world.memory.block("pre_commit_snapshots");
  auto session = world.open();
  REQUIRE(session);
  const auto set = session->create_snapshot_set(World::of_data(context::kAppRollback));
  REQUIRE(!set);
  CHECK(set.error().code == Errc::writererror_timeout);
  CHECK(set.error().context.find("writer 'noting', phase freeze") != std::string::npos);
  CHECK(world.noting.saw("abort"));
  CHECK(world.umbrad.stop() == 0);
}

TEST_CASE("kill -9 of umbrad while a writer is frozen: it thaws, and a new umbrad serves both",
          "[e2e][umbrad]") {
  World world;
  world.memory.block("pre_commit_snapshots");
  std::thread killer([&] {
    if (world.memory.wait_blocked("pre_commit_snapshots", kSoon)) world.umbrad.kill();
    world.memory.unblock("pre_commit_snapshots");
  });
  auto session = world.open();
  REQUIRE(session);
  const auto set = session->create_snapshot_set(World::of_data(context::kAppRollback));
  killer.join();
  REQUIRE(!set);
  CHECK(set.error().code == Errc::coordinator_lost);
  CHECK(world.noting.saw("abort"));
  world.umbrad.start();
  REQUIRE(world.umbrad.sees_all_providers());
  const auto until = system_clock().now() + kSoon;  // The writer comes back by itself.
  requester::ConnectOptions options;
  options.socket_path = world.umbrad.socket();
  auto client = requester::Client::connect(options);
  REQUIRE(client);
  while (client->status()->writers == 0 && system_clock().now() < until) std::this_thread::yield();
  auto again = world.open();
  REQUIRE(again);
  const auto second = again->create_snapshot_set(World::of_data(context::kAppRollback));
  INFO((second ? std::string() : second.error().to_string()));
  REQUIRE(second);
  CHECK(second->report.writers.size() == 1);
  CHECK(world.memory.query_snapshots(true)->size() == 1);
  CHECK(world.umbrad.stop() == 0);
}

}  // namespace
