// SPDX-License-Identifier: Apache-2.0
//
// umbrad as a process, with writers that fail in every way, requesters that end at every step, and
// a provider in memory served over the socket. Whatever happens: the set ends in a defined state,
// every frozen writer is thawed or aborted, the slot is free, and the error names writer and phase.

#include <algorithm>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "engine/platform/log.h"
#include "engine/rpc/provider_server.h"
#include "tests/support/catch.h"
#include "tests/support/manual_clock.h"
#include "tests/support/memory_provider.h"
#include "tests/support/wire_client.h"

namespace {

using namespace umbra;
using namespace umbra::test;

// Silence must end within a test's patience.
constexpr const char* kShortLimits = R"(
[limits]
identify = 1500
prepare_for_backup = 1500
prepare_for_snapshot = 1500
freeze_window = 1500
post_snapshot = 1500
backup_complete = 1500
thaw_level = 300
abort_wait = 500
end_prepare = 2500
pre_commit = 1500
hold_flush = 1000
hold_lease = 1000
post_commit = 1500
final_commit = 1500
confirm = 1500
)";

// A provider in this process, connected to umbrad as third parties are.
struct ServedProvider {
  ServedProvider(const Umbrad& umbrad, std::string name = "memory",
                 ProviderType type = ProviderType::software)
      : provider(system_clock(), std::move(name), type) {
    provider.add_volume("data");
    connect(umbrad);
  }
  ~ServedProvider() {
    for (const auto& call : blocked) provider.unblock(call);
  }
  void connect(const Umbrad& umbrad) {
    rpc::ProviderServerOptions options;
    options.socket_path = umbrad.socket();
    options.program = "test-provider";
    server = std::make_unique<rpc::ProviderServer>(
        provider, std::map<std::string, rpc::ProviderMethod>{}, options, null_log());
    REQUIRE(server->wait_until_registered(kSoon));
  }
  void block(const std::string& call) {
    blocked.insert(call);
    provider.block(call);
  }
  std::set<std::string> blocked;
  MemoryProvider provider;
  std::unique_ptr<rpc::ProviderServer> server;
};

struct World {
  Umbrad umbrad{kShortLimits};
  ServedProvider memory{umbrad};

  // Waits until nobody holds the slot.
  bool slot_becomes_free() {
    Requester probe(umbrad);
    probe.begin(context::kNasRollback);
    rpc::StartSnapshotSet request;
    request.queue_limit_ms = static_cast<std::uint32_t>(
        std::chrono::duration_cast<std::chrono::milliseconds>(kSoon).count());
    return probe.client.call<rpc::StartedSet>("session.start_snapshot_set", request).has_value();
  }
  // The next set works: nothing of the last one is in its way.
  void next_set_works() {
    Requester next(umbrad);
    next.begin(context::kNasRollback);
    rpc::StartSnapshotSet request;
    request.queue_limit_ms = 20'000;
    REQUIRE(next.client.call<rpc::StartedSet>("session.start_snapshot_set", request));
    REQUIRE(next.add("data"));
    CHECK(next.create().status == Errc::async_finished);
  }
  void ends_well() { CHECK(umbrad.stop() == 0); }
};

bool thawed_or_aborted(const FakeWriter& writer) {
  const auto events = writer.events();
  const std::set<std::string> seen(events.begin(), events.end());
  return seen.count("freeze") == 0 || seen.count("thaw") > 0 || seen.count("abort") > 0;
}

TEST_CASE("a whole backup goes through every event and every phase",
          "[e2e][umbrad]"
          "[vss:event.Identify][vss:event.PrepareForBackup][vss:event.PrepareForSnapshot]"
          "[vss:event.Freeze][vss:event.Thaw][vss:event.PostSnapshot][vss:event.BackupComplete]"
          "[vss:event.BackupShutdown][vss:IVssBackupComponents.GatherWriterMetadata]"
          "[vss:IVssBackupComponents.PrepareForBackup][vss:IVssBackupComponents.DoSnapshotSet]"
          "[vss:IVssBackupComponents.BackupComplete][vss:IVssBackupComponents.DeleteSnapshots]"
          "[vss:VSS_WS.WAITING_FOR_BACKUP_COMPLETE][vss:VSS_WS.STABLE]"
          "[vss:VSS_S_ASYNC_FINISHED][vss:VSS_E_OBJECT_NOT_FOUND][vss:VSS_SS.PREPARING]"
          "[vss:VSS_SS.PROCESSING_PREPARE][vss:VSS_SS.PREPARED]"
          "[vss:VSS_SS.PROCESSING_PRECOMMIT][vss:VSS_SS.PRECOMMITTED]"
          "[vss:VSS_SS.PROCESSING_COMMIT][vss:VSS_SS.COMMITTED]"
          "[vss:VSS_SS.PROCESSING_POSTCOMMIT][vss:VSS_SS.POSTCOMMITTED]"
          "[vss:VSS_SS.PROCESSING_PREFINALCOMMIT][vss:VSS_SS.PREFINALCOMMITTED]"
          "[vss:VSS_SS.PROCESSING_POSTFINALCOMMIT][vss:VSS_SS.CREATED]"
          "[vss:VSS_VOLSNAP_ATTR.NO_AUTO_RELEASE]") {
  World world;
  FakeWriter front(world.umbrad.socket(), {"front", ApplicationLevel::front_end, 60'000, {}});
  FakeWriter back(world.umbrad.socket(), {"back", ApplicationLevel::back_end, 60'000, {}});
  Requester requester(world.umbrad);
  requester.prepare({&front, &back}, "data");
  const auto outcome = requester.create(WriterPolicy::all);
  INFO(outcome.context);
  REQUIRE(outcome.status == Errc::async_finished);
  std::vector<std::string> phases;
  for (const auto& phase : outcome.timeline) {
    phases.push_back(phase.phase);
    CHECK(phase.begin_us <= phase.end_us);
  }
  CHECK(phases == std::vector<std::string>{"end_prepare", "prepare_for_snapshot", "freeze",
                                           "pre_commit", "hold", "post_commit", "thaw",
                                           "pre_final_commit", "post_snapshot", "post_final_commit",
                                           "confirm"});
  CHECK(requester.status_of(front).state == WriterState::waiting_for_backup_complete);
  CHECK(back.params("freeze").volumes.size() == 1);
  CHECK(back.params("freeze").volumes[0].snapshot_device.empty());
  CHECK(back.params("post_snapshot").volumes[0].snapshot_device.find("/memory/") == 0);
  CHECK(back.params("prepare_for_backup").components.find("data") != std::string::npos);

  const auto copies =
      requester.client.call<rpc::SnapshotList>("query.snapshots", rpc::QuerySnapshots{});
  REQUIRE(copies);
  REQUIRE(copies->snapshots.size() == 1);
  CHECK(copies->absent_providers.empty());
  rpc::SetBackupSucceeded good;
  good.component.instance_id = front.instance();
  good.component.name = "data";
  good.succeeded = true;
  CHECK(requester.client.call<rpc::Nothing>("session.set_backup_succeeded", good));
  CHECK(requester.run("session.backup_complete").status == Errc::async_finished);
  CHECK(requester.status_of(front).state == WriterState::stable);
  requester.client.close();
  CHECK(front.saw("backup_shutdown"));
  CHECK(front.events() ==
        std::vector<std::string>{"identify", "prepare_for_backup", "prepare_for_snapshot", "freeze",
                                 "thaw", "post_snapshot", "backup_complete", "backup_shutdown"});
  Requester other(world.umbrad);
  const auto kept = other.client.call<rpc::SnapshotList>("query.snapshots", rpc::QuerySnapshots{});
  CHECK(kept->snapshots.size() == 1);  // Persistent: it outlives its session.
  rpc::DeleteSnapshots removal;
  removal.id = kept->snapshots[0].set_id;
  removal.type = ObjectType::snapshot_set;
  CHECK(other.client.call<rpc::DeletedSnapshots>("snapshot.delete", removal)->deleted == 1);
  const auto again = other.client.call<rpc::DeletedSnapshots>("snapshot.delete", removal);
  REQUIRE(!again);
  CHECK(again.error().code == Errc::object_not_found);
  world.ends_well();
}

struct Failure {
  const char* event;
  Act act;
  WriterState state;
  Errc code;
  bool aborted;  // The failing writer itself gets Abort when the set goes on without it.
};

// The table of every way to fail, at every event of DoSnapshotSet.
const std::vector<Failure>& failures() {
  using enum Act;
  using W = WriterState;
  static const std::vector<Failure> table{
      {"prepare_for_snapshot", veto, W::failed_at_prepare_snapshot, Errc::writererror_retryable,
       false},
      {"prepare_for_snapshot", silence, W::failed_at_prepare_snapshot, Errc::writererror_timeout,
       false},
      {"prepare_for_snapshot", vanish, W::failed_at_prepare_snapshot, Errc::writer_not_responding,
       false},
      {"freeze", veto, W::failed_at_freeze, Errc::writererror_retryable, true},
      {"freeze", error, W::failed_at_freeze, Errc::writererror_nonretryable, true},
      {"freeze", garbage, W::failed_at_freeze, Errc::writererror_nonretryable, true},
      {"freeze", silence, W::failed_at_freeze, Errc::writererror_timeout, true},
      {"freeze", vanish, W::failed_at_freeze, Errc::writer_not_responding, false},
      {"thaw", veto, W::failed_at_thaw, Errc::writererror_retryable, true},
      {"thaw", silence, W::failed_at_freeze, Errc::writererror_timeout, true},
      {"thaw", vanish, W::failed_at_thaw, Errc::writer_not_responding, false},
      {"post_snapshot", veto, W::failed_at_post_snapshot, Errc::writererror_retryable, false},
      {"post_snapshot", silence, W::failed_at_post_snapshot, Errc::writererror_timeout, false},
      {"post_snapshot", vanish, W::failed_at_post_snapshot, Errc::writer_not_responding, false},
  };
  return table;
}

TEST_CASE("a writer's failure at any event fails a set that is bound to it",
          "[e2e][umbrad]"
          "[vss:IVssBackupComponents.AbortBackup][vss:IVssBackupComponents.GetWriterStatus]"
          "[vss:IVssBackupComponents.DoSnapshotSet]"
          "[vss:IVssBackupComponentsEx3.GetWriterStatusEx]"
          "[vss:VSS_WS.FAILED_AT_PREPARE_SNAPSHOT][vss:VSS_WS.FAILED_AT_FREEZE]"
          "[vss:VSS_WS.FAILED_AT_THAW][vss:VSS_WS.FAILED_AT_POST_SNAPSHOT]"
          "[vss:VSS_E_WRITERERROR_RETRYABLE][vss:VSS_E_WRITERERROR_NONRETRYABLE]"
          "[vss:VSS_E_WRITERERROR_TIMEOUT][vss:VSS_E_WRITER_NOT_RESPONDING]"
          "[vss:VSS_E_BAD_STATE][vss:event.Abort][vss:limit.prepare-for-snapshot]"
          "[vss:limit.post-snapshot][vss:rule.veto-by-false][vss:rule.no-partial-commit]") {
  World world;
  for (const auto& failure : failures()) {
    INFO(failure.event << " " << static_cast<int>(failure.act));
    FakeWriter bad(world.umbrad.socket(),
                   {"bad", ApplicationLevel::front_end, 60'000, {{failure.event, failure.act}}});
    FakeWriter good(world.umbrad.socket(), {"good", ApplicationLevel::system, 60'000, {}});
    Requester requester(world.umbrad);
    requester.prepare({&bad, &good}, "data");
    const auto outcome = requester.create(WriterPolicy::involved);
    CHECK(outcome.status == failure.code);
    CHECK(outcome.context.find("writer 'bad', phase ") == 0);
    const auto status = requester.status_of(bad);
    CHECK(status.state == failure.state);
    CHECK(status.failure == failure.code);
    if (failure.act == Act::veto) CHECK(status.application_code == 42);
    // Never to a writer that has finished PostSnapshot, as the good one may have by then.
    if (std::string(failure.event) != "post_snapshot") CHECK(good.saw("abort"));
    CHECK(thawed_or_aborted(good));
    CHECK((thawed_or_aborted(bad) || failure.act == Act::vanish));
    CHECK(requester.coordinator().set_in_progress.is_nil());
    CHECK(world.memory.provider.unfinished_sets() == 0);
    const auto list =
        requester.client.call<rpc::SnapshotList>("query.snapshots", rpc::QuerySnapshots{});
    CHECK(list->snapshots.empty());
    // VSS's own BX: only status, documents and abort are left.
    CHECK(requester.client.call<rpc::Nothing>("session.abort_backup"));
    const auto late = requester.client.call<rpc::StartedOperation>("session.backup_complete");
    REQUIRE(!late);
    CHECK(late.error().code == Errc::bad_state);
    CHECK(late.error().context.find("writer 'bad'") != std::string::npos);
  }
  world.next_set_works();
  world.ends_well();
}

TEST_CASE("without a policy the set is created and the failure is in the writer's status",
          "[e2e][umbrad]"
          "[vss:IVssBackupComponents.DoSnapshotSet][vss:rule.veto-by-false]"
          "[vss:VSS_WS.FAILED_AT_PREPARE_SNAPSHOT][vss:VSS_WS.FAILED_AT_FREEZE]"
          "[vss:VSS_WS.FAILED_AT_THAW][vss:VSS_WS.FAILED_AT_POST_SNAPSHOT]") {
  World world;
  for (const auto& failure : failures()) {
    // A level that waits for silence uses up the windows of those before it.
    if (failure.act == Act::silence && std::string(failure.event) == "freeze") continue;
    INFO(failure.event << " " << static_cast<int>(failure.act));
    FakeWriter bad(world.umbrad.socket(),
                   {"bad", ApplicationLevel::front_end, 60'000, {{failure.event, failure.act}}});
    FakeWriter good(world.umbrad.socket(), {"good", ApplicationLevel::back_end, 60'000, {}});
    Requester requester(world.umbrad);
    requester.prepare({&bad, &good}, "data", context::kBackup);
    const auto outcome = requester.create(WriterPolicy::none);
    INFO(outcome.context);
    CHECK(outcome.status == Errc::async_finished);
    CHECK(requester.status_of(bad).state == failure.state);
    CHECK(requester.status_of(bad).failure == failure.code);
    CHECK(requester.status_of(good).state == WriterState::waiting_for_backup_complete);
    if (failure.aborted) CHECK(bad.saw("abort"));
  }
  world.ends_well();
}

TEST_CASE("a second answer and a reported failure change no state",
          "[e2e][umbrad]"
          "[vss:rule.veto-by-code]") {
  World world;
  FakeWriter twice(world.umbrad.socket(), {"twice",
                                           ApplicationLevel::front_end,
                                           60'000,
                                           {{"freeze", Act::twice}, {"thaw", Act::twice}}});
  FakeWriter report(world.umbrad.socket(),
                    {"report", ApplicationLevel::front_end, 60'000, {{"freeze", Act::report}}});
  Requester requester(world.umbrad);
  requester.prepare({&twice, &report}, "data");
  CHECK(requester.create(WriterPolicy::none).status == Errc::async_finished);
  CHECK(requester.status_of(twice).failure == Errc::ok);
  CHECK(requester.status_of(report).state == WriterState::waiting_for_backup_complete);
  CHECK(requester.status_of(report).failure == Errc::writererror_retryable);
  CHECK(requester.run("session.backup_complete").status == Errc::async_finished);
  world.ends_well();
}

TEST_CASE("a writer that does not identify itself is in no list, and vetoes nothing",
          "[e2e][umbrad]"
          "[vss:IVssBackupComponents.GatherWriterMetadata]"
          "[vss:IVssBackupComponents.GetWriterMetadata]"
          "[vss:IVssBackupComponents.GetWriterMetadataCount][vss:limit.identify]"
          "[vss:VSS_WS.FAILED_AT_IDENTIFY]") {
  World world;
  std::vector<std::unique_ptr<FakeWriter>> writers;
  for (const auto act : {Act::veto, Act::silence, Act::vanish, Act::error, Act::garbage})
    writers.push_back(std::make_unique<FakeWriter>(
        world.umbrad.socket(),
        FakeWriterOptions{"mute", ApplicationLevel::front_end, 60'000, {{"identify", act}}}));
  FakeWriter good(world.umbrad.socket(), {});
  Requester requester(world.umbrad);
  requester.begin();
  requester.gather();
  const auto list = requester.client.call<rpc::WriterMetadataList>("session.get_writer_metadata");
  REQUIRE(list);
  REQUIRE(list->writers.size() == 1);
  CHECK(list->writers[0].instance_id == good.instance());
  world.ends_well();
}

TEST_CASE("a failure at PrepareForBackup shows in the status and fails a bound set",
          "[e2e][umbrad]"
          "[vss:IVssBackupComponents.PrepareForBackup][vss:VSS_WS.FAILED_AT_PREPARE_BACKUP]"
          "[vss:limit.prepare-for-backup]") {
  World world;
  const auto act = GENERATE(Act::veto, Act::silence, Act::vanish);
  FakeWriter bad(world.umbrad.socket(),
                 {"bad", ApplicationLevel::front_end, 60'000, {{"prepare_for_backup", act}}});
  Requester requester(world.umbrad);
  requester.prepare({&bad}, "data");
  CHECK(requester.status_of(bad).state == WriterState::failed_at_prepare_backup);
  const auto outcome = requester.create(WriterPolicy::all);
  CHECK(is_failed(requester.status_of(bad).state));
  CHECK(outcome.context.find("writer 'bad', phase prepare_for_backup") == 0);
  world.next_set_works();
  world.ends_well();
}

TEST_CASE("a writer's own expired window before the commit fails the set",
          "[e2e][umbrad]"
          "[vss:limit.freeze-to-thaw-60s][vss:VSS_E_WRITERERROR_TIMEOUT]") {
  World world;
  world.memory.block("pre_commit_snapshots");
  FakeWriter writer(world.umbrad.socket(), {"slow", ApplicationLevel::front_end, 60'000, {}});
  Requester requester(world.umbrad);
  requester.prepare({&writer}, "data");
  const auto started = requester.client.call<rpc::StartedOperation>("session.do_snapshot_set");
  REQUIRE(started);
  REQUIRE(world.memory.provider.wait_blocked("pre_commit_snapshots", kSoon));
  writer.say_expired(writer.params("freeze").session_id);
  const auto outcome = requester.wait(started->operation);
  CHECK(outcome.status == Errc::writererror_timeout);
  CHECK(outcome.context.find("writer 'slow', phase freeze") == 0);
  CHECK(requester.status_of(writer).state == WriterState::failed_at_freeze);
  CHECK(writer.saw("abort"));
  world.memory.provider.unblock("pre_commit_snapshots");
  world.next_set_works();
  world.ends_well();
}

const std::vector<std::string> kCalls{"end_prepare_snapshots",
                                      "pre_commit_snapshots",
                                      "flush_commit_release",
                                      "post_commit_snapshots",
                                      "pre_final_commit_snapshots",
                                      "post_final_commit_snapshots",
                                      "confirm_set"};

TEST_CASE("a provider's failure at any step fails the set and frees everybody",
          "[e2e][umbrad]"
          "[vss:VSS_E_INSUFFICIENT_STORAGE][vss:rule.no-partial-commit]"
          "[vss:IVssProviderCreateSnapshotSet.AbortSnapshots]") {
  World world;
  for (const auto& call : kCalls) {
    INFO(call);
    FakeWriter writer(world.umbrad.socket(), {});
    Requester requester(world.umbrad);
    requester.prepare({&writer}, "data");
    world.memory.provider.fail_next(call, {Errc::insufficient_storage, "as told"});
    const auto outcome = requester.create();
    CHECK(outcome.status == Errc::insufficient_storage);
    CHECK(outcome.context.find("provider 'memory', " + call + ": as told") == 0);
    CHECK(thawed_or_aborted(writer));
    CHECK(world.memory.provider.unfinished_sets() == 0);
    CHECK(requester.coordinator().set_in_progress.is_nil());
  }
  world.next_set_works();
  world.ends_well();
}

TEST_CASE("a provider that hangs at any step is given up, and what it made goes",
          "[e2e][umbrad]"
          "[vss:rule.abort-passes-end-prepare]") {
  World world;
  for (const auto& call : kCalls) {
    INFO(call);
    FakeWriter writer(world.umbrad.socket(), {});
    Requester requester(world.umbrad);
    requester.prepare({&writer}, "data");
    world.memory.block(call);
    const auto outcome = requester.create();
    CHECK(outcome.status != Errc::async_finished);
    CHECK(!outcome.context.empty());
    CHECK(thawed_or_aborted(writer));
    world.memory.provider.unblock(call);
    world.next_set_works();
  }
  world.ends_well();
}

TEST_CASE("a provider that vanishes in a set fails it, and is told when it comes back",
          "[e2e][umbrad]"
          "[vss:VSS_E_UNEXPECTED_PROVIDER_ERROR]") {
  World world;
  for (const auto& call : kCalls) {
    INFO(call);
    FakeWriter writer(world.umbrad.socket(), {});
    Requester requester(world.umbrad);
    requester.prepare({&writer}, "data");
    world.memory.block(call);
    const auto started = requester.client.call<rpc::StartedOperation>("session.do_snapshot_set");
    REQUIRE(started);
    REQUIRE(world.memory.provider.wait_blocked(call, kSoon));
    world.memory.provider.unblock(call);
    world.memory.server.reset();  // Its answer is dropped, or has just arrived: both are met.
    const auto outcome = requester.wait(started->operation);
    if (outcome.status != Errc::async_finished) {
      CHECK(outcome.status == Errc::unexpected_provider_error);
      CHECK(outcome.context.find("provider 'memory'") == 0);
    }
    const auto list =
        requester.client.call<rpc::SnapshotList>("query.snapshots", rpc::QuerySnapshots{});
    CHECK(list->absent_providers == std::vector<std::string>{"memory"});
    world.memory.connect(world.umbrad);
    world.next_set_works();
    CHECK(thawed_or_aborted(writer));
  }
  CHECK(world.memory.provider.unfinished_sets() == 0);
  world.ends_well();
}

TEST_CASE("two providers are held together",
          "[e2e][umbrad]"
          "[vss:rule.providers-mixed][vss:rule.provider-by-id][vss:rule.no-partial-commit]"
          "[vss:VSS_E_PROVIDER_VETO][vss:IVssBackupComponents.AddToSnapshotSet]") {
  World world;
  ServedProvider second(world.umbrad, "second");
  second.provider.add_volume("more");
  Requester requester(world.umbrad);
  requester.begin(context::kNasRollback);
  requester.start_set();
  REQUIRE(requester.add("more"));
  rpc::AddToSnapshotSet named;
  named.volume.name = "data";
  named.provider_id = world.memory.provider.properties().provider_id;
  REQUIRE(requester.client.call<rpc::AddedSnapshot>("session.add_to_snapshot_set", named));
  const auto outcome = requester.create();
  INFO(outcome.context);
  CHECK(outcome.status == Errc::async_finished);
  const auto list =
      requester.client.call<rpc::SnapshotList>("query.snapshots", rpc::QuerySnapshots{});
  REQUIRE(list->snapshots.size() == 2);
  CHECK(list->snapshots[0].snapshots_count == 2);
  const auto calls = second.provider.calls();
  CHECK(std::count(calls.begin(), calls.end(), "flush_and_hold") == 1);
  rpc::DeleteSnapshots removal;
  removal.id = list->snapshots[0].set_id;
  removal.type = ObjectType::snapshot_set;
  CHECK(requester.client.call<rpc::DeletedSnapshots>("snapshot.delete", removal)->deleted == 2);

  // One of them fails at the last step: neither keeps its half.
  Requester next(world.umbrad);
  next.begin(context::kNasRollback);
  next.start_set();
  REQUIRE(next.add("more"));
  REQUIRE(next.client.call<rpc::AddedSnapshot>("session.add_to_snapshot_set", named));
  second.provider.fail_next("confirm_set", {Errc::provider_veto, "as told"});
  CHECK(next.create().status == Errc::provider_veto);
  CHECK(next.client.call<rpc::SnapshotList>("query.snapshots", rpc::QuerySnapshots{})
            ->snapshots.empty());
  world.ends_well();
}

// Where a requester ends: before DoSnapshotSet by its calls, in it by what is blocked meanwhile.
TEST_CASE("a requester that ends at any step frees the slot and everybody",
          "[e2e][umbrad]"
          "[vss:rule.lock-ends-with-its-holder][vss:event.Abort][vss:event.BackupShutdown]"
          "[vss:limit.session-kept-2-days]") {
  World world;
  for (int step = 0; step < 5; ++step) {
    INFO("step " << step);
    FakeWriter writer(world.umbrad.socket(), {});
    {
      Requester requester(world.umbrad);
      requester.begin(context::kBackup);
      if (step > 0) requester.gather();
      if (step > 1) {
        requester.select(writer);
        requester.start_set();
      }
      if (step > 2) REQUIRE(requester.add("data"));
      if (step > 3) requester.run("session.prepare_for_backup");
    }
    if (step > 3) {
      CHECK(writer.saw("abort"));
      CHECK(writer.saw("backup_shutdown"));
    }
    CHECK(world.slot_becomes_free());
    world.next_set_works();
  }
  world.ends_well();
}

TEST_CASE("a requester that ends in any phase of the creation frees the slot and everybody",
          "[e2e][umbrad]"
          "[vss:rule.lock-ends-with-its-holder][vss:rule.auto-release-on-disconnect]") {
  World world;
  for (const auto& call : kCalls) {
    INFO(call);
    FakeWriter writer(world.umbrad.socket(), {});
    {
      Requester requester(world.umbrad);
      requester.prepare({&writer}, "data", context::kBackup);
      world.memory.block(call);
      REQUIRE(requester.client.call<rpc::StartedOperation>("session.do_snapshot_set"));
      REQUIRE(world.memory.provider.wait_blocked(call, kSoon));
    }
    if (call == "confirm_set") world.memory.provider.unblock(call);  // Too late to stop.
    CHECK(writer.saw("backup_shutdown"));
    CHECK(thawed_or_aborted(writer));
    world.memory.provider.unblock(call);
    world.next_set_works();
    Requester probe(world.umbrad);
    const auto list =
        probe.client.call<rpc::SnapshotList>("query.snapshots", rpc::QuerySnapshots{});
    for (const auto& one : list->snapshots) CHECK(is_persistent(one.attributes));
  }
  world.ends_well();
}

TEST_CASE("a cancelled creation is undone",
          "[e2e][umbrad]"
          "[vss:IVssAsync.Cancel][vss:IVssAsync.QueryStatus][vss:VSS_S_ASYNC_CANCELLED]"
          "[vss:event.Abort]") {
  World world;
  FakeWriter writer(world.umbrad.socket(), {});
  Requester requester(world.umbrad);
  requester.prepare({&writer}, "data");
  world.memory.block("end_prepare_snapshots");
  const auto started = requester.client.call<rpc::StartedOperation>("session.do_snapshot_set");
  REQUIRE(world.memory.provider.wait_blocked("end_prepare_snapshots", kSoon));
  rpc::WaitOperation operation;
  operation.operation = started->operation;
  CHECK(requester.client.call<rpc::OperationStatus>("operation.status", operation)->phase ==
        "end_prepare");
  REQUIRE(requester.client.call<rpc::OperationStatus>("operation.cancel", operation));
  CHECK(requester.wait(started->operation).status == Errc::async_cancelled);
  CHECK(writer.saw("abort"));
  CHECK(world.memory.provider.unfinished_sets() == 0);
  world.memory.provider.unblock("end_prepare_snapshots");
  world.next_set_works();
  world.ends_well();
}

TEST_CASE("AbortBackup in the middle returns when everything is undone",
          "[e2e][umbrad]"
          "[vss:IVssBackupComponents.AbortBackup]") {
  World world;
  FakeWriter writer(world.umbrad.socket(), {});
  Requester requester(world.umbrad);
  requester.prepare({&writer}, "data");
  world.memory.block("post_commit_snapshots");
  const auto started = requester.client.call<rpc::StartedOperation>("session.do_snapshot_set");
  REQUIRE(world.memory.provider.wait_blocked("post_commit_snapshots", kSoon));
  CHECK(requester.client.call<rpc::Nothing>("session.abort_backup"));
  CHECK(writer.saw("abort"));
  CHECK(world.memory.provider.unfinished_sets() == 0);
  CHECK(requester.wait(started->operation).status == Errc::async_cancelled);
  world.memory.provider.unblock("post_commit_snapshots");
  world.ends_well();
}

TEST_CASE("a second requester is refused with the holder's name, or waits in the queue",
          "[e2e][umbrad]"
          "[vss:rule.one-creation-at-a-time][vss:VSS_E_SNAPSHOT_SET_IN_PROGRESS]"
          "[vss:IVssBackupComponents.StartSnapshotSet]") {
  World world;
  Requester first(world.umbrad);
  first.begin(context::kNasRollback);
  first.start_set();
  Requester second(world.umbrad);
  second.begin(context::kNasRollback);
  const auto refused = second.client.call<rpc::StartedSet>("session.start_snapshot_set");
  REQUIRE(!refused);
  CHECK(refused.error().code == Errc::snapshot_set_in_progress);
  CHECK(refused.error().context.find("uid ") != std::string::npos);
  rpc::StartSnapshotSet brief;
  brief.queue_limit_ms = 50;
  const auto late = second.client.call<rpc::StartedSet>("session.start_snapshot_set", brief);
  REQUIRE(!late);
  CHECK(late.error().code == Errc::snapshot_set_in_progress);
  rpc::StartSnapshotSet patient;
  patient.queue_limit_ms = 20'000;
  const auto waiting = second.client.post("session.start_snapshot_set", rpc::encode(patient));
  CHECK(first.client.call<rpc::Nothing>("session.abort_backup"));
  CHECK(second.client.answer(waiting));
  CHECK(second.coordinator().set_holder.find("uid ") == 0);
  world.ends_well();
}

TEST_CASE("an administrator ends the holder's set",
          "[e2e][umbrad]"
          "[vss:IVssAdmin.AbortAllSnapshotsInProgress]") {
  World world;
  Requester requester(world.umbrad);
  requester.begin(context::kNasRollback);
  const auto set = requester.start_set();
  REQUIRE(requester.add("data"));
  Requester admin(world.umbrad, "admin");
  CHECK(admin.coordinator().set_in_progress == set);
  const auto aborted =
      admin.client.call<rpc::AbortedSet>("coordinator.abort", rpc::AbortSet{"stuck"});
  REQUIRE(aborted);
  CHECK(aborted->set_id == set);
  const auto again = admin.client.call<rpc::AbortedSet>("coordinator.abort", rpc::AbortSet{""});
  REQUIRE(!again);
  CHECK(again.error().code == Errc::object_not_found);
  const auto late = requester.client.call<rpc::StartedOperation>("session.do_snapshot_set");
  REQUIRE(!late);
  CHECK(late.error().code == Errc::bad_state);
  CHECK(late.error().context.find("stuck") != std::string::npos);
  world.next_set_works();
  world.ends_well();
}

TEST_CASE("a requester that forgets its set loses it to the sequence timer", "[e2e][umbrad]") {
  Umbrad umbrad("[limits]\nsequence = 100\nsequence_long = 100\n");
  ServedProvider memory(umbrad);
  Requester idle(umbrad);
  idle.begin(context::kNasRollback);
  idle.start_set();
  REQUIRE(idle.add("data"));
  Requester next(umbrad);
  next.begin(context::kNasRollback);
  rpc::StartSnapshotSet patient;
  patient.queue_limit_ms = 20'000;
  CHECK(next.client.call<rpc::StartedSet>("session.start_snapshot_set", patient));
  const auto late = idle.add("data");
  REQUIRE(!late);
  CHECK(late.error().code == Errc::bad_state);
  CHECK(late.error().context.find("too long") != std::string::npos);
  CHECK(umbrad.stop() == 0);
}

TEST_CASE("other sessions' events wait while a writer is frozen",
          "[e2e][umbrad]"
          "[vss:rule.identify-during-freeze]") {
  World world;
  FakeWriter writer(world.umbrad.socket(), {});
  Requester requester(world.umbrad);
  requester.prepare({&writer}, "data");
  world.memory.block("pre_commit_snapshots");
  const auto started = requester.client.call<rpc::StartedOperation>("session.do_snapshot_set");
  REQUIRE(world.memory.provider.wait_blocked("pre_commit_snapshots", kSoon));
  Requester curious(world.umbrad);
  curious.begin();
  const auto gathering =
      curious.client.call<rpc::StartedOperation>("session.gather_writer_metadata");
  REQUIRE(gathering);
  CHECK(curious.coordinator().writers == 1);  // A round trip: the events would have gone out.
  world.memory.provider.unblock("pre_commit_snapshots");
  CHECK(requester.wait(started->operation).status == Errc::async_finished);
  CHECK(curious.wait(gathering->operation).status == Errc::async_finished);
  const auto events = writer.events();
  const auto thaw = std::find(events.begin(), events.end(), "thaw");
  REQUIRE(thaw != events.end());
  CHECK(std::count(events.begin(), thaw, "identify") == 1);
  CHECK(std::count(thaw, events.end(), "identify") == 1);
  world.ends_well();
}

TEST_CASE("SIGTERM in the middle of a set thaws the writers and ends cleanly", "[e2e][umbrad]") {
  World world;
  FakeWriter writer(world.umbrad.socket(), {});
  Requester requester(world.umbrad);
  requester.prepare({&writer}, "data");
  world.memory.block("pre_commit_snapshots");
  REQUIRE(requester.client.call<rpc::StartedOperation>("session.do_snapshot_set"));
  REQUIRE(world.memory.provider.wait_blocked("pre_commit_snapshots", kSoon));
  CHECK(world.umbrad.stop() == 0);
  CHECK(writer.saw("abort"));
  CHECK(writer.saw("backup_shutdown"));
  CHECK(world.memory.provider.unfinished_sets() == 0);
}

TEST_CASE("after kill -9 of umbrad a new one takes over, and unfinished sets go", "[e2e][umbrad]") {
  World world;
  FakeWriter writer(world.umbrad.socket(), {});
  {
    Requester requester(world.umbrad);
    requester.prepare({&writer}, "data");
    world.memory.block("pre_commit_snapshots");
    REQUIRE(requester.client.call<rpc::StartedOperation>("session.do_snapshot_set"));
    REQUIRE(world.memory.provider.wait_blocked("pre_commit_snapshots", kSoon));
    world.umbrad.kill();
  }
  world.memory.provider.unblock("pre_commit_snapshots");
  world.umbrad.start();
  REQUIRE(world.umbrad.sees_all_providers());
  world.next_set_works();
  CHECK(world.memory.provider.unfinished_sets() == 0);
  world.ends_well();
}

TEST_CASE("a provider that has not come back is named after a restart",
          "[e2e][umbrad]"
          "[vss:VSS_E_PROVIDER_NOT_REGISTERED][vss:IVssAdmin.QueryProviders]") {
  World world;
  CHECK(world.umbrad.stop() == 0);
  world.memory.server.reset();
  world.umbrad.start();
  Requester requester(world.umbrad);
  const auto list =
      requester.client.call<rpc::SnapshotList>("query.snapshots", rpc::QuerySnapshots{});
  REQUIRE(list);
  CHECK(list->absent_providers == std::vector<std::string>{"memory"});
  const auto providers = requester.client.call<rpc::ProviderList>("query.providers");
  REQUIRE(providers->providers.size() == 1);
  CHECK(!providers->providers[0].connected);
  rpc::DeleteSnapshots removal;
  removal.id = Guid::random();
  const auto missing = requester.client.call<rpc::DeletedSnapshots>("snapshot.delete", removal);
  REQUIRE(!missing);
  CHECK(missing.error().code == Errc::provider_not_registered);
  world.ends_well();
}

TEST_CASE("auto-release copies go with their session, also when the provider was away",
          "[e2e][umbrad]"
          "[vss:rule.auto-release-on-disconnect][vss:VSS_CTX.FILE_SHARE_BACKUP]") {
  World world;
  {
    Requester requester(world.umbrad);
    requester.begin(context::kFileShareBackup);
    requester.start_set();
    REQUIRE(requester.add("data"));
    REQUIRE(requester.create().status == Errc::async_finished);
    CHECK(world.memory.provider.query_snapshots(false)->size() == 1);
    world.memory.server.reset();
    Requester probe(world.umbrad);
    CHECK(probe.coordinator().sessions == 1);
  }
  CHECK(world.slot_becomes_free());
  world.memory.connect(world.umbrad);
  world.next_set_works();
  const auto left = world.memory.provider.query_snapshots(false);
  for (const auto& one : *left) CHECK(is_persistent(one.attributes));
  world.ends_well();
}

TEST_CASE("writers and providers are listed, with the last failure",
          "[e2e][umbrad]"
          "[vss:IVssAdmin.QueryProviders][vss:VSS_OBJECT_TYPE.PROVIDER]") {
  World world;
  Requester requester(world.umbrad);
  {
    FakeWriter bad(world.umbrad.socket(),
                   {"bad", ApplicationLevel::front_end, 60'000, {{"freeze", Act::veto}}});
    requester.prepare({&bad}, "data");
    CHECK(requester.create().status == Errc::async_finished);
    const auto list = requester.client.call<rpc::WriterEntryList>("query.writers");
    REQUIRE(list->writers.size() == 1);
    CHECK(list->writers[0].last_failure == Errc::writererror_retryable);
    CHECK(list->writers[0].last_failure_phase == "freeze");
    CHECK(list->writers[0].last_failure_filetime > 0);
  }
  const auto providers = requester.client.call<rpc::ProviderList>("query.providers");
  REQUIRE(providers->providers.size() == 1);
  CHECK(providers->providers[0].connected);
  CHECK(requester.client.call<rpc::VolumeList>("volume.list")->volumes.size() == 1);
  const auto mount =
      requester.client.call<rpc::MountedSnapshot>("snapshot.mount", rpc::MountSnapshot{});
  REQUIRE(!mount);
  CHECK(mount.error().code == Errc::provider_not_registered);
  world.ends_well();
}

TEST_CASE("events of a provider are kept, waited for and sent again after a restart",
          "[e2e][umbrad]") {
  Umbrad umbrad(kShortLimits);
  ServedProvider served(umbrad);
  rpc::EventLog log;
  rpc::ProviderServerOptions options;
  options.socket_path = umbrad.socket();
  options.program = "test-provider";
  options.events = &log;
  ProviderEvent event;
  event.name = "first";
  log.add(event);
  served.server.reset();
  served.server = std::make_unique<rpc::ProviderServer>(
      served.provider, std::map<std::string, rpc::ProviderMethod>{}, options, null_log());
  REQUIRE(served.server->wait_until_registered(kSoon));

  Requester requester(umbrad);
  rpc::QueryEvents query;
  query.time_limit_ms = 20'000;
  const auto first = requester.client.call<rpc::EventList>("query.events", query);
  REQUIRE(first);
  REQUIRE(first->events.size() == 1);
  CHECK(first->events[0].name == "first");
  CHECK(first->events[0].provider_id == served.provider.properties().provider_id);
  CHECK(first->lost == 0);

  query.after = ~std::uint64_t{0};
  query.time_limit_ms = 1;
  const auto end = requester.client.call<rpc::EventList>("query.events", query);
  REQUIRE(end);
  CHECK(end->events.empty());
  CHECK(end->next == first->next);
  event.name = "second";
  log.add(event);
  query.after = end->next;
  query.time_limit_ms = 20'000;
  const auto second = requester.client.call<rpc::EventList>("query.events", query);
  REQUIRE(second);
  REQUIRE(second->events.size() == 1);
  CHECK(second->events[0].name == "second");

  // A new umbrad has none; the provider tells it all that it keeps.
  umbrad.kill();
  umbrad.start();
  Requester again(umbrad);
  query.after = 0;
  std::size_t seen = 0;
  while (seen < 2) {
    const auto page = again.client.call<rpc::EventList>("query.events", query);
    REQUIRE(page);
    REQUIRE_FALSE(page->events.empty());
    seen += page->events.size();
    query.after = page->next;
  }
  CHECK(seen == 2);
  CHECK(umbrad.stop() == 0);
}

TEST_CASE("management goes to the provider that is named, with its answer as it is",
          "[e2e][umbrad]"
          "[vss:function.GetProviderMgmtInterface]"
          "[vss:IVssSnapshotMgmt.GetProviderMgmtInterface][vss:E_NOTIMPL]") {
  World world;
  Requester requester(world.umbrad);
  rpc::ManagementQuery query;
  const auto nobody =
      requester.client.call<rpc::MinDiffAreaSize>("management.get_min_diff_area_size", query);
  REQUIRE_FALSE(nobody);
  CHECK(nobody.error().code == Errc::provider_not_registered);  // No system provider is there.
  query.provider_id = world.memory.provider.properties().provider_id;
  const auto none =
      requester.client.call<rpc::MinDiffAreaSize>("management.get_min_diff_area_size", query);
  REQUIRE_FALSE(none);
  CHECK(none.error().code == Errc::not_implemented);
  CHECK(requester.client.call<rpc::OperationList>("management.operations", query));
  world.ends_well();
}

}  // namespace
