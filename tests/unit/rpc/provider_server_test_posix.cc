// SPDX-License-Identifier: Apache-2.0
#include "engine/rpc/provider_server.h"

#include <stdlib.h>

#include <boost/asio/io_context.hpp>

#include "engine/rpc/connection.h"
#include "engine/rpc/management_calls.h"
#include "tests/support/catch.h"
#include "tests/support/memory_provider.h"
#include "tests/support/temp_dir.h"
#include "umbra/caller.h"

namespace {

using namespace umbra;
using namespace umbra::rpc;
using namespace std::chrono_literals;

// umbrad's side, as far as providers see it.
class FakeCoordinator {
 public:
  [[nodiscard]] std::string socket() const { return directory_ / "umbrad.sock"; }
  void listen() {
    auto listener = LocalListener::listen(socket(), 0600);
    REQUIRE(listener);
    acceptor_.emplace(
        io, std::move(*listener), null_log(), [this](LocalStream stream, const PeerCredentials&) {
          provider = Connection::start(
              io, std::move(stream), null_log(),
              {[this](auto method, auto params, auto answer) { serve(method, params, answer); },
               [this](const std::string& method, const Json& params) {
                 CHECK(method == "provider.event");
                 events.push_back(*decode<ProviderEvent>(params));
               },
               {}});
        });
  }
  template <class Condition>
  void run_until(Condition condition) {
    const auto end = std::chrono::steady_clock::now() + 20s;
    while (!condition() && std::chrono::steady_clock::now() < end) io.run_for(5ms), io.restart();
    REQUIRE(condition());
  }
  Result<Json> call(const std::string& method, Json params) {
    std::optional<Result<Json>> got;
    provider->call(method, std::move(params), 10s, [&](Result<Json> result) { got = result; });
    run_until([&] { return got.has_value(); });
    return *got;
  }

  boost::asio::io_context io;
  std::shared_ptr<Connection> provider;
  std::vector<std::string> seen;
  std::vector<SessionId> alive;
  std::optional<Error> refuse_registration;
  std::vector<ProviderEvent> events;
  std::uint64_t events_after = 0;
  Guid event_stream;

 private:
  void serve(const std::string& method, const Json& params, const Responder& answer) {
    seen.push_back(method);
    if (method == "hello") {
      CHECK(decode<HelloRequest>(params)->role == "provider");
      return answer.send(Result<HelloReply>(HelloReply{}));
    }
    if (refuse_registration) {
      return answer(tl::unexpected<Error>(*std::exchange(refuse_registration, {})));
    }
    CHECK(decode<RegisterProvider>(params)->properties.name == "memory");
    event_stream = decode<RegisterProvider>(params)->event_stream;
    answer.send(Result<RegisteredProvider>(RegisteredProvider{alive, events_after}));
  }

  test::TempDir directory_;
  std::optional<Acceptor> acceptor_;
};

struct World {
  World() {
    options.socket_path = coordinator.socket();
    options.reconnect_first = 5ms;
  }
  void start(std::map<std::string, ProviderMethod> methods = {}) {
    server.emplace(provider, std::move(methods), options, null_log());
    coordinator.listen();
    coordinator.run_until([&] { return server->is_registered(); });
  }
  // A set of one volume, prepared to begin.
  SnapshotSetId begin() {
    PrepareSnapshot request;
    request.set_id = SnapshotSetId::random();
    request.snapshot_id = snapshot;
    request.volume.id = volume;
    CHECK(coordinator.call("provider.begin_prepare_snapshot", encode(request)));
    return request.set_id;
  }

  FakeCoordinator coordinator;
  test::MemoryProvider provider{system_clock()};
  VolumeId volume = provider.add_volume("data");
  SnapshotId snapshot = SnapshotId::random();
  ProviderServerOptions options;
  std::optional<ProviderServer> server;
};

TEST_CASE("a provider registers and serves its volumes") {
  World world;
  world.start();
  CHECK(world.coordinator.seen == std::vector<std::string>{"hello", "provider.register"});
  const auto list = world.coordinator.call("provider.list_volumes", {});
  REQUIRE(list);
  CHECK(decode<VolumeList>(*list)->volumes.at(0).volume_id == world.volume);
  VolumeRequest request;
  request.volume.name = "nothing";
  CHECK(world.coordinator.call("provider.find_volume", encode(request)).error().code ==
        Errc::object_not_found);
}

TEST_CASE("a whole set is created over the wire") {
  World world;
  world.start();
  SetRequest set;
  set.set_id = world.begin();
  set.members = {world.snapshot};
  for (const char* call :
       {"end_prepare_snapshots", "pre_commit_snapshots", "flush_and_hold", "commit_snapshots",
        "release_hold", "post_commit_snapshots", "pre_final_commit_snapshots",
        "post_final_commit_snapshots", "confirm_set"}) {
    INFO(call);
    const auto result = world.coordinator.call(std::string("provider.") + call, encode(set));
    if (!result) FAIL(result.error().to_string());
  }
  const auto list = world.coordinator.call("provider.query_snapshots", encode(QuerySnapshots{}));
  const auto snapshots = decode<SnapshotList>(*list)->snapshots;
  REQUIRE(snapshots.size() == 1);
  const auto deleted =
      world.coordinator.call("provider.delete_snapshots",
                             encode(DeleteSnapshots{set.set_id, ObjectType::snapshot_set, false}));
  CHECK(decode<DeletedSnapshots>(*deleted)->deleted == 1);
}

TEST_CASE("abort passes a call that blocks", "[vss:rule.abort-passes-end-prepare]") {
  World world;
  world.options.threads = 1;
  world.start();
  SetRequest set;
  set.set_id = world.begin();
  world.provider.block("end_prepare_snapshots");
  std::optional<Result<Json>> ended;
  world.coordinator.provider->call("provider.end_prepare_snapshots", encode(set), 10s,
                                   [&](Result<Json> result) { ended = result; });
  REQUIRE(world.provider.wait_blocked("end_prepare_snapshots", 20s));
  CHECK(world.coordinator.call("provider.abort_snapshots", encode(set)));
  world.coordinator.run_until([&] { return ended.has_value(); });
  CHECK_FALSE(*ended);
  CHECK(world.provider.unfinished_sets() == 0);
}

TEST_CASE("sessions that ended meanwhile are told before any call",
          "[vss:IVssProviderNotifications.OnLoad]") {
  World world;
  world.coordinator.alive = {SessionId::random()};
  world.start();
  CHECK(world.provider.calls().at(0) == "retain_sessions");
}

TEST_CASE("a provider comes back when umbrad does, and after a refusal") {
  World world;
  world.coordinator.refuse_registration = Error{Errc::provider_already_registered, "twice"};
  world.start();
  CHECK(world.coordinator.seen.size() == 4);
  world.coordinator.provider->close({Errc::unexpected, "restart"});
  world.coordinator.run_until([&] { return !world.server->is_registered(); });
  world.coordinator.run_until([&] { return world.server->is_registered(); });
  CHECK(world.coordinator.call("provider.list_volumes", {}));
}

TEST_CASE("without umbrad a provider waits and says why") {
  World world;
  world.server.emplace(world.provider, std::map<std::string, ProviderMethod>{}, world.options,
                       null_log());
  const Status status = world.server->wait_until_registered(50ms);
  REQUIRE_FALSE(status);
  CHECK(status.error().code == Errc::coordinator_lost);
  CHECK_THAT(status.error().context, Catch::Contains(world.coordinator.socket()));
}

TEST_CASE("methods of its own are served, unknown ones and bad params refused") {
  World world;
  world.start({{"volume.detach", provider_method<DetachVolume, Nothing>([](const auto& request) {
                  if (request.volume.name == "busy") {
                    return Result<Nothing>(fail(Errc::volume_in_use, "open"));
                  }
                  return Result<Nothing>(Nothing{});
                })}});
  DetachVolume detach;
  CHECK(world.coordinator.call("volume.detach", encode(detach)));
  detach.volume.name = "busy";
  CHECK(world.coordinator.call("volume.detach", encode(detach)).error().code ==
        Errc::volume_in_use);
  CHECK(world.coordinator.call("volume.detach", Json(5)).error().code == Errc::invalid_argument);
  CHECK(world.coordinator.call("provider.confirm_set", Json(5)).error().code ==
        Errc::invalid_argument);
  CHECK(world.coordinator.call("provider.explode", {}).error().code == Errc::not_implemented);
}

// Management that notes what it was asked, and whose long call waits to be cancelled.
class NotingManagement final : public DiffAreaManagement {
 public:
  Result<std::vector<SupportedVolume>> query_volumes_supported_for_snapshots(
      std::uint32_t context) override {
    return std::vector<SupportedVolume>{{VolumeId{}, std::to_string(context)}};
  }
  Result<std::vector<SnapshotProperties>> query_snapshots_by_volume(const VolumeRef&) override {
    return fail(Errc::object_not_found, "no such volume");
  }
  Result<std::uint64_t> get_min_diff_area_size() override { return std::uint64_t{1} << 60U; }
  Status add_diff_area(const DiffAreaRef& area, std::int64_t maximum_bytes) override {
    added = area.volume.name + "@" + area.diff_volume + "=" + std::to_string(maximum_bytes);
    caller = current_caller();
    return {};
  }
  Status change_diff_area_maximum_size(const DiffAreaRef&, std::int64_t, bool,
                                       OperationMonitor& monitor) override {
    monitor.fact("deleted_snapshot", current_caller());
    while (monitor.progress(1, 2)) {
    }
    return fail(Errc::async_cancelled, "as asked");
  }
  Result<std::vector<DiffVolumeProperties>> query_volumes_supported_for_diff_areas(
      const VolumeRef&) override {
    return std::vector<DiffVolumeProperties>{};
  }
  Result<std::vector<DiffAreaProperties>> query_diff_areas_for_volume(const VolumeRef&) override {
    DiffAreaProperties area;
    area.diff_area_path = "/a\xFF";
    area.maximum_bytes = kAssocNoMaxSpace;
    return std::vector{area};
  }
  Result<std::vector<DiffAreaProperties>> query_diff_areas_on_volume(const std::string&) override {
    return std::vector<DiffAreaProperties>{};
  }
  Result<std::vector<DiffAreaProperties>> query_diff_areas_for_snapshot(
      const SnapshotId&) override {
    return std::vector<DiffAreaProperties>{};
  }
  Status revert_to_snapshot(const SnapshotId& snapshot, bool force_dismount,
                            OperationMonitor& monitor) override {
    monitor.fact("started", snapshot.to_string() + (force_dismount ? " by force" : ""));
    return {};
  }
  Status scrub_diff_area(const VolumeRef& volume, std::uint64_t bytes_per_second,
                         OperationMonitor& monitor) override {
    monitor.fact("outcome", volume.name + " " + std::to_string(bytes_per_second));
    return fail(Errc::diff_area_corrupt, "one place");
  }
  Result<std::vector<RevertInfo>> query_revert_status(const VolumeRef& volume) override {
    if (volume.name != "data") return fail(Errc::object_not_found, "not being reverted");
    RevertInfo info;
    info.volume_name = "data";
    info.total_bytes = std::uint64_t{1} << 60U;
    info.stopped = true;
    info.trouble = "the origin fails";
    return std::vector{info};
  }
  Status abandon_revert(const VolumeRef& volume) override {
    added = "abandoned " + volume.name;
    return {};
  }
  Result<CheckpointProperties> create_checkpoint(const SnapshotId& snapshot,
                                                 const std::string& name) override {
    CheckpointProperties checkpoint;
    checkpoint.snapshot_id = snapshot;
    checkpoint.name = name;
    checkpoint.creation_filetime = std::int64_t{1} << 60U;
    checkpoint.lost = true;
    return checkpoint;
  }
  Result<std::vector<CheckpointProperties>> query_checkpoints(const VolumeRef&) override {
    return std::vector{*create_checkpoint({}, "one")};
  }
  Status delete_checkpoint(const CheckpointId& checkpoint) override {
    added = "deleted " + checkpoint.to_string();
    return {};
  }
  Result<SnapshotDelta> query_changes(const Guid& since, const SnapshotId& until,
                                      std::uint64_t first_block) override {
    added = since.to_string() + " " + until.to_string();
    SnapshotDelta delta;
    delta.next_block = first_block + 1;
    return delta;
  }

  std::string added;
  std::string caller;  // Of add_diff_area().
};

TEST_CASE("what a call throws is its failure, and no more") {
  World world;
  world.start({{"test.memory", [](const Json&) -> Result<Json> { throw std::bad_alloc(); }},
               {"test.error", [](const Json&) -> Result<Json> { throw std::runtime_error("why"); }},
               {"test.number", [](const Json&) -> Result<Json> { throw 7; }}});
  CHECK(world.coordinator.call("test.memory", {}).error().code == Errc::out_of_memory);
  const auto error = world.coordinator.call("test.error", {}).error();
  CHECK(error.code == Errc::provider_veto);
  CHECK(error.context.find("why") != std::string::npos);
  CHECK(world.coordinator.call("test.number", {}).error().code == Errc::provider_veto);
  CHECK(world.coordinator.call("provider.list_volumes", {}));
}

TEST_CASE("management is served, and what is not offered says so") {
  World world;
  NotingManagement management;
  world.provider.set_management(&management);
  world.start();
  auto& umbrad = world.coordinator;
  ManagementDiffArea area;
  area.volume.name = "data";
  area.diff_volume = "/var";
  CHECK(umbrad.call("management.add_diff_area", encode(area)));
  CHECK(management.added == "data@/var=-1");
  const auto areas = umbrad.call("management.query_diff_areas_for_volume", {});
  REQUIRE(areas);
  const auto list = decode<DiffAreaList>(*areas);
  REQUIRE(list);
  CHECK(list->diff_areas.at(0).diff_area_path == "/a\xFF");
  CHECK(list->diff_areas.at(0).maximum_bytes == kAssocNoMaxSpace);
  const auto least = umbrad.call("management.get_min_diff_area_size", {});
  REQUIRE(least);
  CHECK(decode<MinDiffAreaSize>(*least)->minimum_bytes == std::uint64_t{1} << 60U);
  CHECK(umbrad.call("management.query_snapshots_by_volume", {}).error().code ==
        Errc::object_not_found);
  for (const char* call : {"set_snapshot_priority", "retain_snapshot", "get_volume_protect_level",
                           "query_snapshot_delta_bitmap", "no_such_call"}) {
    INFO(call);
    CHECK(umbrad.call(std::string("management.") + call, {}).error().code == Errc::not_implemented);
  }
}

TEST_CASE("a scrub is an operation whose facts outlive its failure") {
  World world;
  NotingManagement management;
  world.provider.set_management(&management);
  world.start();
  auto& umbrad = world.coordinator;
  ScrubDiffArea scrub;
  scrub.volume.name = "data";
  scrub.bytes_per_second = std::uint64_t{1} << 60U;
  const auto begun = umbrad.call("management.scrub_diff_area", encode(scrub));
  REQUIRE(begun);
  ProviderOperation operation;
  operation.operation_id = decode<StartedProviderOperation>(*begun)->operation_id;
  operation.time_limit_ms = 60'000;
  const auto waited = umbrad.call("management.wait_operation", encode(operation));
  REQUIRE(waited);
  const auto ended = decode<OperationInfo>(*waited);
  CHECK(ended->kind == "scrub_diff_area");
  CHECK(ended->subject == "data");
  CHECK(ended->status == Errc::diff_area_corrupt);
  CHECK(ended->facts.at(0).value == "data 1152921504606846976");
}

TEST_CASE("reverts and checkpoints are served") {
  World world;
  NotingManagement management;
  world.provider.set_management(&management);
  world.start();
  auto& umbrad = world.coordinator;
  const auto snapshot = SnapshotId::random();
  const auto begun =
      umbrad.call("management.revert_to_snapshot", encode(RevertToSnapshot{{}, snapshot, true}));
  REQUIRE(begun);
  ProviderOperation operation;
  operation.operation_id = decode<StartedProviderOperation>(*begun)->operation_id;
  operation.time_limit_ms = 60'000;
  const auto waited = umbrad.call("management.wait_operation", encode(operation));
  REQUIRE(waited);
  const auto ended = decode<OperationInfo>(*waited);
  CHECK(ended->status == Errc::async_finished);
  CHECK(ended->kind == "revert_to_snapshot");
  CHECK(ended->subject == snapshot.to_string());
  CHECK(ended->facts.at(0).value == snapshot.to_string() + " by force");

  ManagementVolume volume;
  CHECK(umbrad.call("management.query_revert_status", encode(volume)).error().code ==
        Errc::object_not_found);
  volume.volume.name = "data";
  const auto status = umbrad.call("management.query_revert_status", encode(volume));
  REQUIRE(status);
  const auto reverts = decode<RevertList>(*status);
  REQUIRE(reverts);
  CHECK(reverts->reverts.at(0).total_bytes == std::uint64_t{1} << 60U);
  CHECK(reverts->reverts.at(0).stopped);
  CHECK(reverts->reverts.at(0).trouble == "the origin fails");
  REQUIRE(umbrad.call("management.abandon_revert", encode(volume)));
  CHECK(management.added == "abandoned data");

  const auto made =
      umbrad.call("management.create_checkpoint", encode(CreateCheckpoint{{}, snapshot, "one"}));
  REQUIRE(made);
  const auto checkpoint = decode<CheckpointProperties>(*made);
  CHECK(checkpoint->snapshot_id == snapshot);
  CHECK(checkpoint->name == "one");
  CHECK(checkpoint->creation_filetime == std::int64_t{1} << 60U);
  const auto list = umbrad.call("management.query_checkpoints", {});
  REQUIRE(list);
  CHECK(decode<CheckpointList>(*list)->checkpoints.at(0).lost);
  const auto id = CheckpointId::random();
  REQUIRE(umbrad.call("management.delete_checkpoint", encode(DeleteCheckpoint{{}, id})));
  CHECK(management.added == "deleted " + id.to_string());
  const auto part =
      umbrad.call("management.query_changes", encode(QueryChanges{{}, id, snapshot, 5}));
  REQUIRE(part);
  CHECK(decode<SnapshotDelta>(*part)->next_block == 6);
  CHECK(management.added == id.to_string() + " " + snapshot.to_string());
  // What is no message of theirs.
  for (const char* call : {"revert_to_snapshot", "create_checkpoint", "query_changes"}) {
    INFO(call);
    CHECK(umbrad.call(std::string("management.") + call, Json(5)).error().code ==
          Errc::invalid_argument);
  }
}

TEST_CASE("a provider without management refuses it") {
  World world;
  world.start();
  CHECK(world.coordinator.call("management.get_min_diff_area_size", {}).error().code ==
        Errc::not_implemented);
  CHECK(world.coordinator.call("management.operations", {}));
}

TEST_CASE("a long management call is an operation that is waited for and cancelled",
          "[vss:IVssAsync.Wait][vss:IVssAsync.Cancel]"
          "[vss:IVssDifferentialSoftwareSnapshotMgmt2.QueryMigrationStatus]") {
  World world;
  NotingManagement management;
  world.provider.set_management(&management);
  world.start();
  auto& umbrad = world.coordinator;
  ManagementDiffArea area;
  area.volume.name = "data";
  const auto begun = umbrad.call("management.change_diff_area_maximum_size", encode(area));
  REQUIRE(begun);
  ProviderOperation operation;
  operation.operation_id = decode<StartedProviderOperation>(*begun)->operation_id;
  operation.time_limit_ms = 1;
  const auto running = umbrad.call("management.wait_operation", encode(operation));
  REQUIRE(running);
  CHECK(decode<OperationInfo>(*running)->status == Errc::async_pending);

  // A wait of a minute ends with the operation.
  std::optional<Result<Json>> waited;
  operation.time_limit_ms = 60'000;
  umbrad.provider->call("management.wait_operation", encode(operation), 10s,
                        [&](Result<Json> result) { waited = result; });
  REQUIRE(umbrad.call("management.cancel_operation", encode(operation)));
  umbrad.run_until([&] { return waited.has_value(); });
  REQUIRE(*waited);
  const auto ended = decode<OperationInfo>(**waited);
  REQUIRE(ended);
  CHECK(ended->status == Errc::async_cancelled);
  CHECK(ended->subject == "data");
  REQUIRE(ended->facts.size() == 1);
  CHECK(ended->facts.front().value.empty());  // umbrad said nobody's name.
  const auto list = umbrad.call("management.operations", {});
  REQUIRE(list);
  CHECK(decode<OperationList>(*list)->operations.size() == 1);
  operation.operation_id = OperationId::random();
  CHECK(umbrad.call("management.wait_operation", encode(operation)).error().code ==
        Errc::object_not_found);
}

TEST_CASE("a call is served for the caller that umbrad names, and so is its operation") {
  World world;
  NotingManagement management;
  world.provider.set_management(&management);
  world.start();
  auto& umbrad = world.coordinator;
  Json params = encode(ManagementDiffArea{});
  params.as_object()["caller"] = "uid 7 pid 8 (a\nb)";
  REQUIRE(umbrad.call("management.add_diff_area", params));
  CHECK(management.caller.find("uid 7 pid 8 (a") == 0);
  CHECK(management.caller.find('\n') == std::string::npos);
  const auto begun = umbrad.call("management.change_diff_area_maximum_size", params);
  REQUIRE(begun);
  ProviderOperation operation;
  operation.operation_id = decode<StartedProviderOperation>(*begun)->operation_id;
  REQUIRE(umbrad.call("management.cancel_operation", encode(operation)));
  operation.time_limit_ms = 60'000;
  const auto ended = umbrad.call("management.wait_operation", encode(operation));
  REQUIRE(ended);
  CHECK(decode<OperationInfo>(*ended)->facts.front().value == management.caller);
  // The next call is somebody else's, or nobody's.
  REQUIRE(umbrad.call("management.add_diff_area", encode(ManagementDiffArea{})));
  CHECK(management.caller.empty());
}

TEST_CASE("a provider that stops ends its operations", "[vss:IVssProviderNotifications.OnUnload]") {
  World world;
  NotingManagement management;
  world.provider.set_management(&management);
  world.start();
  REQUIRE(world.coordinator.call("management.change_diff_area_maximum_size",
                                 encode(ManagementDiffArea{})));
  world.server.reset();  // Would wait for ever.
  SUCCEED();
}

TEST_CASE("events reach umbrad from where it has them, also what came while it was away") {
  EventLog log;  // Before the server, which stops listening to it at its end.
  World world;
  ProviderEvent event;
  event.name = "before";
  log.add(event);
  event.name = "known";
  log.add(event);
  event.name = "new";
  log.add(event);
  world.options.events = &log;
  world.coordinator.events_after = 2;
  world.start();
  auto& umbrad = world.coordinator;
  umbrad.run_until([&] { return umbrad.events.size() == 1; });
  CHECK(umbrad.events[0].name == "new");
  CHECK(umbrad.events[0].sequence == 3);
  CHECK(umbrad.event_stream == log.stream());
  event.name = "now";
  log.add(event);
  umbrad.run_until([&] { return umbrad.events.size() == 2; });
  // Another umbrad has none of them.
  umbrad.events.clear();
  umbrad.events_after = 0;
  umbrad.provider->close({Errc::coordinator_lost, "a restart"});
  umbrad.run_until([&] { return umbrad.events.size() == 4; });
  CHECK(umbrad.events[0].name == "before");
  CHECK(umbrad.events[3].name == "now");
}

}  // namespace
