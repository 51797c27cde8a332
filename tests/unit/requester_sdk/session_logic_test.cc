// SPDX-License-Identifier: Apache-2.0
#include "requester-sdk/src/session_logic.h"

#include "tests/unit/requester_sdk/fake_link.h"

namespace {

using namespace umbra;
using namespace umbra::requester;
using namespace umbra::requester::test;

TEST_CASE("what a call needs besides its state is asked for by name",
          "[vss:IVssBackupComponents.SetBackupState][vss:IVssBackupComponents.AddComponent]"
          "[vss:IVssBackupComponents.PrepareForBackup]") {
  Session session;
  session.reach(SessionState::initialized);
  CHECK(session.logic.set_context(context::kBackup));
  CHECK(session.logic.set_context(context::kBackup).error().code == Errc::bad_state);
  REQUIRE(session.logic.start_snapshot_set(0ms));
  CHECK_THAT(session.logic.prepare_for_backup(10s).error().context,
             Catch::Contains("gather_writer_metadata first"));
  CHECK_THAT(session.logic.add_component({}).error().context,
             Catch::Contains("gather_writer_metadata first"));
  CHECK(session.logic.gather_writer_status().error().code == Errc::bad_state);
  CHECK(session.logic.writer_metadata().error().code == Errc::bad_state);

  Session volumes;
  volumes.reach(SessionState::metadata_ready);
  REQUIRE(volumes.logic.set_backup_state({.component_mode = false}));
  CHECK(volumes.logic.add_component({}).error().code == Errc::bad_state);
  CHECK(volumes.logic.start_snapshot_set(-1ms).error().code == Errc::invalid_argument);

  Session list;
  list.reach(SessionState::prepared);
  DoOptions options;
  options.policy_list = {WriterClassId{}};
  CHECK(list.logic.do_snapshot_set(options).error().code == Errc::invalid_argument);
}

TEST_CASE("a context without writers goes from the set to the creation",
          "[vss:VSS_VOLSNAP_ATTR.NO_WRITERS]") {
  Session session;
  session.reach(SessionState::initialized);
  REQUIRE(session.logic.set_context(context::kNasRollback));
  REQUIRE(session.logic.start_snapshot_set(0ms));
  CHECK(session.logic.prepare_for_backup(10s).error().code == Errc::bad_state);
  CHECK(session.logic.do_snapshot_set({}));
  CHECK(session.logic.backup_complete(10s).error().code == Errc::bad_state);
}

TEST_CASE("a failed creation keeps the report and the session for its status") {
  Session session;
  session.reach(SessionState::prepared);
  session.link.operation_error = {Errc::writererror_retryable, "writer 'w', phase freeze"};
  const Status done = session.logic.do_snapshot_set({});
  REQUIRE_FALSE(done);
  CHECK(done.error().code == Errc::writererror_retryable);
  CHECK_THAT(done.error().context, Catch::Contains("writer 'w', phase freeze"));
  CHECK(session.logic.state() == SessionState::failed);
  CHECK(session.logic.last_report().writers.size() == 1);
  CHECK(session.logic.last_report().timeline.size() == 1);
  session.link.operation_error = {Errc::ok, {}};
  CHECK(session.logic.gather_writer_status());
}

TEST_CASE("progress is reported with the phase") {
  Session session;
  session.reach(SessionState::prepared);
  session.link.pending_waits = 3;
  std::vector<std::string> seen;
  DoOptions options;
  options.on_progress = [&](const Progress& progress) {
    seen.push_back(std::string(progress.operation) + ":" + std::string(progress.phase));
  };
  CHECK(session.logic.do_snapshot_set(options));
  CHECK(seen == std::vector<std::string>(3, "do_snapshot_set:freeze"));
}

TEST_CASE("cancel and the time limit cancel the operation and wait for it",
          "[vss:IVssAsync.Wait][vss:IVssAsync.Cancel]") {
  for (const bool by_hand : {true, false}) {
    Session session;
    session.reach(SessionState::prepared);
    session.link.pending_waits = 1'000'000;
    if (by_hand) session.logic.cancel();
    const Status done = session.logic.do_snapshot_set({.time_limit = 2s});
    REQUIRE_FALSE(done);
    CHECK(done.error().code == Errc::async_cancelled);
    CHECK_THAT(done.error().context,
               Catch::Contains(by_hand ? "cancelled by the caller" : "not finished in 2000 ms"));
    CHECK(session.sent("operation.cancel") == 1);
    CHECK(session.logic.state() == SessionState::failed);
  }
}

TEST_CASE("an umbrad that does not end a cancelled operation is given up") {
  Session session;
  session.reach(SessionState::prepared);
  session.link.pending_waits = 1'000'000;
  session.link.ends_when_cancelled = false;
  session.logic.cancel();
  CHECK(session.logic.do_snapshot_set({}).error().code == Errc::coordinator_lost);
}

WriterMetadataDocument writer_with(const std::string& directory) {
  WriterMetadataDocument document;
  document.components.resize(1);
  document.components[0].name = "c";
  document.components[0].files.emplace_back().path = directory;
  return document;
}

CreateOptions creation() {
  CreateOptions options;
  options.volumes.resize(1);
  options.volumes[0].name = "data";
  return options;
}

TEST_CASE("a whole creation selects what lies on the volumes and completes a persistent set") {
  Session session;
  session.link.writers = {writer_with("/data/x"), writer_with("/elsewhere")};
  const auto info = session.logic.create_snapshot_set(creation());
  REQUIRE(info);
  CHECK(info->set_id == kSet);
  CHECK(info->snapshots.at(0).snapshot_id == kSnapshot);
  CHECK(info->components.size() == 1);
  CHECK(info->partly_held.empty());
  CHECK(session.sent("session.add_component") == 1);
  CHECK(session.sent("session.set_backup_succeeded") == 1);
  CHECK(session.logic.state() == SessionState::completed);
}

TEST_CASE("a component that lies on the volumes only in part is told and not selected") {
  Session session;
  session.link.writers = {writer_with("/data/x"), writer_with("/data/y")};
  session.link.writers[1].components[0].name = "split";
  session.link.writers[1].components[0].files.emplace_back().path = "/elsewhere";
  const auto info = session.logic.create_snapshot_set(creation());
  REQUIRE(info);
  CHECK(info->components.size() == 1);
  REQUIRE(info->partly_held.size() == 1);
  CHECK(info->partly_held[0].name == "split");
  CHECK(session.sent("session.add_component") == 1);
}

TEST_CASE("an auto-release creation stays open for copying") {
  Session session;
  CreateOptions options = creation();
  options.context = context::kBackup;
  REQUIRE(session.logic.create_snapshot_set(options));
  CHECK(session.logic.state() == SessionState::snapshot_created);
}

TEST_CASE("a persistent set is a success although nothing can be asked about its copies") {
  Session session;
  session.link.errors["query.snapshots"] = {Errc::limit_reached, "as asked"};
  const auto info = session.logic.create_snapshot_set(creation());
  REQUIRE(info);
  CHECK(info->set_id == kSet);
  CHECK(info->snapshots.at(0).snapshot_id == kSnapshot);
  CHECK(info->snapshots.at(0).set_id == kSet);
  CHECK(info->snapshots.at(0).device_object.empty());
  CHECK(session.logic.state() == SessionState::completed);
  CHECK(session.sent("session.abort_backup") == 0);

  // Copies that go with the session are of no use without a place to read them from.
  Session copying;
  copying.link.errors["query.snapshots"] = {Errc::limit_reached, "as asked"};
  CreateOptions options = creation();
  options.context = context::kBackup;
  CHECK(copying.logic.create_snapshot_set(options).error().code == Errc::limit_reached);

  Session dead;
  dead.link.errors["query.snapshots"] = {Errc::coordinator_lost, "gone"};
  CHECK(dead.logic.create_snapshot_set(creation()).error().code == Errc::coordinator_lost);
}

TEST_CASE("a writer that fails at BackupComplete is told and does not fail the set") {
  Session session;
  session.link.errors["session.backup_complete"] = {Errc::unexpected_writer_error, "as asked"};
  const auto info = session.logic.create_snapshot_set(creation());
  REQUIRE(info);
  CHECK(info->snapshots.at(0).snapshot_id == kSnapshot);
  CHECK(session.sent("session.get_writer_status") == 1);
  CHECK(session.sent("session.abort_backup") == 0);
  CHECK(session.logic.state() == SessionState::completed);

  Session dead;
  dead.link.errors = {{"session.backup_complete", {Errc::unexpected_writer_error, "as asked"}},
                      {"session.get_writer_status", {Errc::coordinator_lost, "gone"}}};
  CHECK(dead.logic.create_snapshot_set(creation()).error().code == Errc::coordinator_lost);
}

TEST_CASE("a creation that fails at any call is aborted and leaves the session failed") {
  Session good;
  good.link.writers = {writer_with("/data")};
  REQUIRE(good.logic.create_snapshot_set(creation()));
  std::vector<std::string> calls = good.link.calls;
  std::sort(calls.begin(), calls.end());
  calls.erase(std::unique(calls.begin(), calls.end()), calls.end());
  std::erase(calls, "query.snapshots");  // Asked after the set is created.
  for (const std::string& call : calls) {
    INFO(call);
    Session session;
    session.link.writers = {writer_with("/data")};
    session.link.errors[call] = {Errc::limit_reached, "as asked"};
    const auto info = session.logic.create_snapshot_set(creation());
    REQUIRE_FALSE(info);
    CHECK(info.error().code == Errc::limit_reached);
    if (call == "session.set_backup_succeeded" || call == "session.backup_complete") continue;
    CHECK(session.logic.state() == SessionState::failed);
    CHECK(session.sent("session.abort_backup") ==
          (call.ends_with("for_backup") && session.link.calls.size() == 1 ? 0 : 1));
    Session dead;
    dead.link.writers = {writer_with("/data")};
    dead.link.errors[call] = {Errc::coordinator_lost, "gone"};
    CHECK(dead.logic.create_snapshot_set(creation()).error().code == Errc::coordinator_lost);
    CHECK(dead.logic.state() == SessionState::lost);
  }
}

TEST_CASE("a creation needs 1 to 64 volumes", "[vss:limit.volumes-per-set-64]") {
  Session session;
  CreateOptions options;
  CHECK(session.logic.create_snapshot_set(options).error().code == Errc::invalid_argument);
  options.volumes.resize(kVolumesPerSetMax + 1);
  CHECK(session.logic.create_snapshot_set(options).error().code == Errc::invalid_argument);
  CHECK(session.link.calls.empty());
}

TEST_CASE("a snapshot that is not listed names who is away",
          "[vss:IVssBackupComponents.GetSnapshotProperties]") {
  Session session;
  session.reach(SessionState::initialized);
  CHECK(session.logic.snapshot_properties(kSnapshot));
  const auto missing = session.logic.snapshot_properties(SnapshotId{});
  CHECK(missing.error().code == Errc::object_not_found);
  CHECK_THAT(missing.error().context, Catch::Contains("away"));
}

}  // namespace
