// SPDX-License-Identifier: Apache-2.0
#include "umbra/requester/async.h"

#include "requester-sdk/src/restore_logic.h"
#include "tests/unit/requester_sdk/fake_link.h"

namespace {

using namespace umbra;
using namespace umbra::requester;
using namespace umbra::requester::test;

AsyncOperation creation_of(Session& session, int waits) {
  session.reach(SessionState::prepared);
  auto operation = session.logic.start_do_snapshot_set({});
  REQUIRE(operation);
  session.link.pending_waits = waits;
  return std::move(*operation);
}

TEST_CASE("a handle tells that its operation runs and what it came to",
          "[vss:IVssAsync.QueryStatus][vss:VSS_S_ASYNC_PENDING][vss:VSS_S_ASYNC_FINISHED]") {
  Session session;
  auto creation = creation_of(session, 2);
  CHECK(session.logic.state() == SessionState::creating);
  for (int i = 0; i < 2; ++i) {
    const auto pending = creation.query_status();
    REQUIRE(pending);
    CHECK(pending->code == Errc::async_pending);
    CHECK(pending->phase == "freeze");
  }
  CHECK(creation.query_status()->code == Errc::async_finished);
  CHECK(session.logic.state() == SessionState::snapshot_created);
  CHECK(session.logic.last_report().writers.size() == 1);
  // What is known is not asked for again.
  const auto asked = session.link.calls.size();
  CHECK(creation.query_status()->code == Errc::async_finished);
  CHECK(creation.wait()->code == Errc::async_finished);
  CHECK(session.link.calls.size() == asked);
}

TEST_CASE("waiting with a limit ends with the limit and leaves the operation alone",
          "[vss:IVssAsync.Wait]") {
  Session session;
  auto creation = creation_of(session, 5);
  const auto pending = creation.wait(600ms);
  REQUIRE(pending);
  CHECK(pending->code == Errc::async_pending);
  CHECK(session.sent("operation.cancel") == 0);
  CHECK(session.logic.state() == SessionState::creating);
  CHECK(creation.wait(-1ms).error().code == Errc::invalid_argument);
  CHECK(creation.wait(0ms)->code == Errc::async_pending);
  CHECK(creation.wait()->code == Errc::async_finished);
  CHECK(session.logic.state() == SessionState::snapshot_created);
}

TEST_CASE("an operation that failed is no failure of waiting for it", "[vss:IVssAsync.Wait]") {
  Session session;
  auto creation = creation_of(session, 0);
  session.link.operation_error = {Errc::hold_writes_timeout, "phase hold"};
  const auto end = creation.wait();
  REQUIRE(end);
  CHECK(end->code == Errc::hold_writes_timeout);
  CHECK(end->context == "phase hold");
  CHECK(session.logic.state() == SessionState::failed);
  CHECK(creation.cancel() == Errc::hold_writes_timeout);
}

TEST_CASE("a cancel is accepted, comes too late, or was there before",
          "[vss:IVssAsync.Cancel][vss:VSS_S_ASYNC_CANCELLED]") {
  Session session;
  auto creation = creation_of(session, 1'000'000);
  CHECK(creation.cancel() == Errc::ok);
  CHECK(session.sent("operation.cancel") == 1);
  const auto end = creation.wait();
  REQUIRE(end);
  CHECK(end->code == Errc::async_cancelled);
  CHECK(creation.cancel() == Errc::async_cancelled);
  CHECK(session.sent("operation.cancel") == 1);
  CHECK(session.logic.state() == SessionState::failed);

  Session late;
  auto done = creation_of(late, 0);
  REQUIRE(done.wait());
  CHECK(done.cancel() == Errc::async_finished);
  CHECK(late.sent("operation.cancel") == 0);
}

TEST_CASE("a creation that nobody holds any more is cancelled, another operation is not") {
  Session session;
  { const auto creation = creation_of(session, 1'000'000); }
  CHECK(session.sent("operation.cancel") == 1);
  // The session sees its end with its next call.
  CHECK(session.logic.gather_writer_status().error().code != Errc::ok);
  session.link.pending_waits = 0;
  CHECK(session.logic.state() == SessionState::failed);

  Session gathering;
  gathering.reach(SessionState::gathering);
  gathering.handle.reset();
  CHECK(gathering.sent("operation.cancel") == 0);
  gathering.link.pending_waits = 0;
  CHECK(gathering.logic.add_component({}));
  CHECK(gathering.logic.state() == SessionState::metadata_ready);
}

TEST_CASE("a handle may be moved, and abandons what it held before") {
  Session one;
  Session two;
  auto first = creation_of(one, 1'000'000);
  auto second = creation_of(two, 1);
  first = std::move(second);
  CHECK(one.sent("operation.cancel") == 1);
  CHECK(two.sent("operation.cancel") == 0);
  CHECK(first.wait()->code == Errc::async_finished);
}

TEST_CASE("a handle that outlives its session knows nothing more") {
  std::optional<AsyncOperation> creation;
  {
    Session session;
    creation.emplace(creation_of(session, 1'000'000));
  }
  CHECK(creation->query_status().error().code == Errc::coordinator_lost);
  CHECK(creation->wait(1s).error().code == Errc::coordinator_lost);
  CHECK(creation->cancel().error().code == Errc::coordinator_lost);
  creation.reset();

  std::optional<AsyncOperation> ended;
  {
    Session session;
    ended.emplace(creation_of(session, 0));
    REQUIRE(ended->wait());
  }
  CHECK(ended->query_status()->code == Errc::async_finished);
}

TEST_CASE("a lost connection is an error of the handle and ends the session") {
  Session session;
  auto creation = creation_of(session, 1'000'000);
  session.link.errors["operation.wait"] = {Errc::coordinator_lost, "gone"};
  CHECK(creation.wait().error().code == Errc::coordinator_lost);
  CHECK(session.logic.add_component({}).error().code == Errc::coordinator_lost);
  CHECK(session.logic.state() == SessionState::lost);
}

TEST_CASE("each operation leads where the blocking call leads") {
  using enum SessionState;
  Session session;
  session.reach(gathering);
  session.link.pending_waits = 1;
  REQUIRE(session.handle->wait());
  CHECK(session.logic.state() == metadata_ready);
  REQUIRE(session.logic.start_snapshot_set(0ms));
  auto prepare = session.logic.start_prepare_for_backup();
  REQUIRE(prepare);
  CHECK(session.logic.state() == preparing);
  // Ended, but nobody has looked: the next call does.
  session.link.pending_waits = 0;
  auto creation = session.logic.start_do_snapshot_set({});
  REQUIRE(creation);
  REQUIRE(creation->wait());
  auto status = session.logic.start_gather_writer_status();
  REQUIRE(status);
  REQUIRE(status->wait());
  CHECK(session.logic.writer_status());
  auto complete = session.logic.start_backup_complete();
  REQUIRE(complete);
  session.link.operation_error = {Errc::unexpected_writer_error, "a writer failed"};
  CHECK(complete->wait()->code == Errc::unexpected_writer_error);
  CHECK(session.logic.state() == completed);
}

TEST_CASE("an abort while an operation runs is the last word") {
  Session session;
  session.reach(SessionState::preparing);
  REQUIRE(session.logic.abort_backup());
  CHECK(session.logic.state() == SessionState::failed);
  session.link.cancelled = true;
  CHECK(session.handle->wait()->code == Errc::async_cancelled);
  CHECK(session.logic.state() == SessionState::failed);
}

// --- what goes on without a session ------------------------------------------------------------

RevertInfo reverting(std::uint64_t done) {
  return {.volume_id = kVolume, .volume_name = "data", .total_bytes = 100, .done_bytes = done};
}

struct Watch {
  Watch() {
    session.reach(SessionState::initialized);
    session.link.reverts = {reverting(0)};
    VolumeRef volume;
    volume.name = "data";
    auto handle = session.logic.start_query_revert_status(volume);
    REQUIRE(handle);
    revert.emplace(std::move(*handle));
  }
  Session session;
  std::optional<AsyncOperation> revert;
};

TEST_CASE("a revert that is under way is watched by a handle until it ends",
          "[vss:IVssBackupComponents.QueryRevertStatus][vss:IVssAsync.QueryStatus]"
          "[vss:IVssAsync.Wait][vss:IVssAsync.Cancel]") {
  Watch watch;
  FakeLink& link = watch.session.link;
  CHECK(watch.revert->query_status()->code == Errc::async_pending);
  link.reverts = {reverting(60)};
  const auto pending = watch.revert->wait(600ms);
  REQUIRE(pending);
  CHECK(pending->code == Errc::async_pending);
  CHECK(pending->phase == "copied back 60 of 100 bytes");
  CHECK(watch.session.sent("query.events") == 3);
  CHECK(watch.revert->cancel().error().code == Errc::bad_state);  // As in VSS it goes on.
  CHECK(watch.session.sent("operation.cancel") == 0);
  CHECK(watch.revert->query_status()->code == Errc::async_pending);
  // The session goes on beside it, with an operation of its own.
  REQUIRE(watch.session.logic.set_backup_state({}));
  auto gathering = watch.session.logic.start_gather_writer_metadata();
  REQUIRE(gathering);
  CHECK(gathering->wait()->code == Errc::async_finished);
  int looks = 0;
  link.meanwhile = [&] {
    if (++looks == 5) link.reverts.clear();
  };
  const auto end = watch.revert->wait();
  REQUIRE(end);
  CHECK(end->code == Errc::async_finished);
  CHECK(looks == 5);
  CHECK(watch.revert->cancel() == Errc::async_finished);
  const auto asked = link.calls.size();
  CHECK(watch.revert->query_status()->code == Errc::async_finished);
  CHECK(link.calls.size() == asked);
}

TEST_CASE("a revert that does not end well is told by its handle",
          "[vss:IVssBackupComponents.QueryRevertStatus][vss:VSS_E_REVERT_VOLUME_LOST]") {
  Watch watch;
  FakeLink& link = watch.session.link;
  SECTION("it stops") {
    link.reverts[0].stopped = true;
    link.reverts[0].trouble = "the origin fails";
    const auto end = watch.revert->wait();
    REQUIRE(end);
    CHECK(end->code == Errc::io_error);
    CHECK_THAT(end->context, Catch::Contains("'data' has stopped: the origin fails"));
  }
  SECTION("its volume goes") {
    link.errors["management.query_revert_status"] = {Errc::object_not_found, "no such volume"};
    link.volume_is_there = false;
    CHECK(watch.revert->wait()->code == Errc::revert_volume_lost);
  }
  SECTION("its provider is away: nothing is known, until it is back") {
    link.reverts.clear();
    link.volume_is_there = link.provider_is_there = false;
    CHECK(watch.revert->wait().error().code == Errc::provider_not_registered);
    link.volume_is_there = link.provider_is_there = true;
    link.reverts = {reverting(70)};
    CHECK(watch.revert->query_status()->code == Errc::async_pending);
  }
  SECTION("umbrad goes") {
    link.errors["query.events"] = {Errc::coordinator_lost, "gone"};
    CHECK(watch.revert->wait().error().code == Errc::coordinator_lost);
  }
}

TEST_CASE("there is a handle only for a revert that is under way, and for as long as its session",
          "[vss:IVssBackupComponents.QueryRevertStatus]") {
  Session idle;
  idle.reach(SessionState::initialized);
  VolumeRef volume;
  volume.name = "data";
  CHECK(idle.logic.start_query_revert_status(volume).error().code == Errc::object_not_found);
  CHECK(idle.logic.start_query_revert_status({}).error().code == Errc::invalid_argument);
  std::optional<AsyncOperation> revert;
  {
    Watch watch;
    revert.swap(watch.revert);
    auto another = watch.session.logic.start_query_revert_status(volume);
    REQUIRE(another);
    CHECK(another->query_status()->code == Errc::async_pending);
  }
  CHECK(revert->query_status().error().code == Errc::coordinator_lost);
  CHECK(revert->wait().error().code == Errc::coordinator_lost);
  CHECK(revert->cancel().error().code == Errc::coordinator_lost);
}

TEST_CASE("a recovery of LUNs is an operation with a handle",
          "[vss:IVssBackupComponentsEx3.RecoverSet][vss:IVssAsync.Wait]") {
  FakeLink link;
  RestoreLogic logic(link);
  CHECK(logic.start_recover_set(0).error().code == Errc::bad_state);
  REQUIRE(logic.initialize_for_restore({}));
  auto recovery = logic.start_recover_set(recovery_option::kRevertIdentityAll);
  REQUIRE(recovery);
  CHECK(rpc::decode<rpc::RecoverSet>(link.last_params)->flags ==
        recovery_option::kRevertIdentityAll);
  link.pending_waits = 2;
  CHECK(recovery->query_status()->code == Errc::async_pending);
  link.operation_error = {Errc::missing_volume, "data"};
  const auto end = recovery->wait();
  REQUIRE(end);
  CHECK(end->code == Errc::missing_volume);
  CHECK(logic.state() == RestoreState::initialized);
  link.errors["session.recover_set"] = {Errc::bad_state, "no snapshot was added"};
  CHECK(logic.start_recover_set(0).error().code == Errc::bad_state);
}

}  // namespace
