// SPDX-License-Identifier: Apache-2.0

#include "engine/coordinator/writer_registry.h"

#include "tests/support/catch.h"

namespace {

using namespace umbra;
using namespace umbra::coord;

RegisteredWriter writer(const std::string& name = "ledger") {
  RegisteredWriter one;
  one.instance_id = WriterInstanceId::random();
  one.class_id = WriterClassId::random();
  one.name = name;
  return one;
}

TEST_CASE("a registration is checked", "[coordinator]") {
  WriterRegistry registry;
  auto bad = writer();
  SECTION("class") { bad.class_id = {}; }
  SECTION("no name") { bad.name.clear(); }
  SECTION("long name") { bad.name.assign(kPeerNameBytesMax + 1, 'x'); }
  SECTION("no window") { bad.freeze_window = milliseconds{0}; }
  SECTION("long window") { bad.freeze_window = kFreezeWindowMax + milliseconds{1}; }
  SECTION("subscription to nothing") { bad.subscription = 0; }
  SECTION("subscription to reserved events") { bad.subscription = 0xFFFFFFFF; }
  SECTION("level") { bad.level = ApplicationLevel::unknown; }
  const auto status = registry.add(bad);
  REQUIRE(!status);
  CHECK(status.error().code == Errc::invalid_argument);
  CHECK(registry.all().empty());
}

TEST_CASE("the number of writers is bounded", "[coordinator]") {
  WriterRegistry registry;
  for (std::size_t i = 0; i < kWritersMax; ++i) REQUIRE(registry.add(writer()));
  const auto status = registry.add(writer());
  REQUIRE(!status);
  CHECK(status.error().code == Errc::limit_reached);
}

TEST_CASE("a filter admits enabled classes less what is disabled",
          "[coordinator]"
          "[vss:IVssBackupComponents.EnableWriterClasses]"
          "[vss:IVssBackupComponents.DisableWriterClasses]"
          "[vss:IVssBackupComponents.DisableWriterInstances]") {
  const auto a = writer("a");
  const auto b = writer("b");
  WriterFilter filter;
  CHECK((filter.admits(a) && filter.admits(b)));
  filter.enable_classes({a.class_id});
  CHECK((filter.admits(a) && !filter.admits(b)));
  filter.disabled_instances = {a.instance_id};
  CHECK(!filter.admits(a));
  filter = {};
  filter.disable_classes({b.class_id});
  CHECK((filter.admits(a) && !filter.admits(b)));
}

TEST_CASE("the first call about classes decides, calls of the other kind take back",
          "[coordinator]"
          "[vss:IVssBackupComponents.EnableWriterClasses]"
          "[vss:IVssBackupComponents.DisableWriterClasses]") {
  const auto a = writer("a");
  const auto b = writer("b");
  WriterFilter only;
  only.enable_classes({a.class_id});
  only.enable_classes({b.class_id});
  CHECK((only.admits(a) && only.admits(b)));
  only.disable_classes({a.class_id});
  CHECK((!only.admits(a) && only.admits(b)));
  only.disable_classes({b.class_id});  // Nobody is listed any more, and nobody takes part.
  CHECK((!only.admits(a) && !only.admits(b)));
  only.enable_classes({a.class_id});
  CHECK((only.admits(a) && !only.admits(b)));

  WriterFilter but;
  but.disable_classes({a.class_id});
  but.disable_classes({b.class_id});
  CHECK((!but.admits(a) && !but.admits(b)));
  but.enable_classes({a.class_id});
  CHECK((but.admits(a) && !but.admits(b)));
  but.enable_classes({b.class_id});
  CHECK((but.admits(a) && but.admits(b)));
}

TEST_CASE("the last failure outlives the state", "[coordinator]") {
  WriterRegistry registry;
  const auto entry = writer();
  REQUIRE(registry.add(entry));
  SessionWriter seen;
  seen.instance_id = entry.instance_id;
  apply_answer(seen, WriterEvent::freeze, {false, Errc::writererror_retryable, 7, "busy"});
  registry.note(seen, 100);
  CHECK(registry.find(entry.instance_id)->state == WriterState::failed_at_freeze);
  SessionWriter next;
  next.instance_id = entry.instance_id;
  registry.note(next, 200);
  const auto* now = registry.find(entry.instance_id);
  CHECK(now->state == WriterState::stable);
  CHECK(now->last_failure == Errc::writererror_retryable);
  CHECK(now->last_failure_phase == "freeze");
  CHECK(now->last_failure_message == "busy");
  CHECK(now->last_failure_filetime == 100);
}

TEST_CASE("answers move a writer along VSS's states",
          "[coordinator]"
          "[vss:VSS_WS.STABLE][vss:VSS_WS.WAITING_FOR_FREEZE][vss:VSS_WS.WAITING_FOR_THAW]"
          "[vss:VSS_WS.WAITING_FOR_POST_SNAPSHOT][vss:VSS_WS.WAITING_FOR_BACKUP_COMPLETE]") {
  SessionWriter w;
  const WriterAnswer good;
  for (const auto& [event, state] :
       {std::pair{WriterEvent::prepare_for_backup, WriterState::stable},
        std::pair{WriterEvent::prepare_for_snapshot, WriterState::waiting_for_freeze},
        std::pair{WriterEvent::freeze, WriterState::waiting_for_thaw},
        std::pair{WriterEvent::thaw, WriterState::waiting_for_post_snapshot},
        std::pair{WriterEvent::post_snapshot, WriterState::waiting_for_backup_complete},
        std::pair{WriterEvent::backup_complete, WriterState::stable}}) {
    w.prepare_sent = true;
    CHECK(takes(w, event));
    CHECK(apply_answer(w, event, good));
    CHECK(w.state == state);
  }
  CHECK(!takes(w, WriterEvent::thaw));
}

TEST_CASE("a failed writer keeps its first failure and gets no later phase",
          "[coordinator]"
          "[vss:VSS_WS.FAILED_AT_PREPARE_SNAPSHOT]") {
  SessionWriter w;
  w.name = "ledger";
  CHECK(!apply_answer(w, WriterEvent::prepare_for_snapshot, {false, Errc::ok, 0, "no"}));
  CHECK(w.state == WriterState::failed_at_prepare_snapshot);
  CHECK(w.failure == Errc::writererror_nonretryable);
  CHECK(!takes(w, WriterEvent::freeze));
  apply_failure(w, WriterEvent::thaw, Errc::writererror_timeout, "late");
  apply_answer(w, WriterEvent::abort, {});
  apply_lost(w, std::nullopt, "aborting");
  CHECK(w.state == WriterState::failed_at_prepare_snapshot);
  CHECK(failure_context(w) == "writer 'ledger', phase prepare_for_snapshot: no");
}

TEST_CASE("a failure that vetoes nothing is kept beside a good state",
          "[coordinator]"
          "[vss:rule.veto-by-code][vss:VSS_E_WRITERERROR_PARTIAL_FAILURE]") {
  SessionWriter w;
  CHECK(apply_answer(w, WriterEvent::prepare_for_backup,
                     {true, Errc::writererror_partial_failure, 3, "one table"}));
  CHECK(w.state == WriterState::stable);
  CHECK(w.failure == Errc::writererror_partial_failure);
  CHECK(w.application_code == 3);
}

TEST_CASE("a code that writers may set is kept as it is",
          "[coordinator]"
          "[vss:VSS_E_WRITERERROR_INCONSISTENTSNAPSHOT][vss:VSS_E_WRITERERROR_OUTOFRESOURCES]"
          "[vss:VSS_E_WRITERERROR_TIMEOUT][vss:VSS_E_WRITERERROR_RETRYABLE]"
          "[vss:VSS_E_WRITERERROR_NONRETRYABLE][vss:VSS_E_WRITERERROR_PARTIAL_FAILURE]"
          "[vss:VSS_E_WRITERERROR_RECOVERY_FAILED]") {
  for (const Errc code :
       {Errc::writererror_inconsistentsnapshot, Errc::writererror_outofresources,
        Errc::writererror_timeout, Errc::writererror_retryable, Errc::writererror_nonretryable,
        Errc::writererror_partial_failure, Errc::writererror_recovery_failed}) {
    CAPTURE(code_name(code));
    SessionWriter w;
    apply_answer(w, WriterEvent::post_snapshot, {false, code, 3, "why"});
    CHECK(w.failure == code);
    CHECK(w.application_code == 3);
    CHECK(w.message == "why");
  }
}

TEST_CASE("a code that writers may not set becomes nonretryable",
          "[coordinator]"
          "[vss:VSS_E_WRITERERROR_NONRETRYABLE]") {
  SessionWriter w;
  apply_answer(w, WriterEvent::prepare_for_backup, {false, Errc::async_finished, 0, ""});
  CHECK(w.failure == Errc::writererror_nonretryable);
}

TEST_CASE("a lost writer is not responding, in the state of its unanswered event",
          "[coordinator]"
          "[vss:VSS_E_WRITER_NOT_RESPONDING]") {
  SessionWriter idle;
  apply_lost(idle, std::nullopt, "end_prepare");
  CHECK(idle.state == WriterState::stable);
  CHECK(idle.failure == Errc::writer_not_responding);
  SessionWriter asked;
  apply_lost(asked, WriterEvent::freeze, "freeze");
  CHECK(asked.state == WriterState::failed_at_freeze);
  CHECK(!takes(asked, WriterEvent::abort));
}

}  // namespace
