// SPDX-License-Identifier: Apache-2.0

#include "engine/coordinator/session.h"

#include <set>
#include <vector>

#include "tests/support/catch.h"

namespace {

using namespace umbra;
using namespace umbra::coord;
using std::chrono::seconds;
using Calls = std::set<SessionCall>;

const TimePoint kNow{};

Calls allowed(const Session& session) {
  Calls calls;
  for (int i = 0; i < kSessionCalls; ++i) {
    const auto call = static_cast<SessionCall>(i);
    const auto permission = session.check(call);
    if (permission && *permission == Permission::allowed) calls.insert(call);
    if (!permission) CHECK(permission.error().code == Errc::bad_state);
  }
  return calls;
}

// A session on the whole way, stopped after `steps` events.
Session at(int steps, std::uint32_t context = context::kAppRollback) {
  Session session{Limits{}};
  const std::vector<void (*)(Session&)> way{
      [](Session& s) { s.initialised(); },        [](Session& s) { s.gather_started(); },
      [](Session& s) { s.gather_finished(); },    [](Session& s) { s.set_opened(kNow); },
      [](Session& s) { s.prepare_started(); },    [](Session& s) { s.prepare_finished(kNow); },
      [](Session& s) { s.creation_started(); },   [](Session& s) { s.creation_finished(true); },
      [](Session& s) { s.completion_started(); }, [](Session& s) { s.completion_finished(); }};
  for (int i = 0; i < steps; ++i) {
    way[static_cast<std::size_t>(i)](session);
    if (i == 0) REQUIRE(session.set_context(context));
  }
  return session;
}

TEST_CASE("each state allows VSS's calls and no others",
          "[coordinator]"
          "[vss:VSS_E_BAD_STATE]") {
  using enum SessionCall;
  CHECK(allowed(at(0)) == Calls{initialize_for_backup, initialize_for_restore});
  CHECK(allowed(at(1)) == Calls{select_writers, set_backup_state, gather_writer_metadata,
                                get_backup_components, is_volume_supported, import_snapshots,
                                break_snapshot_set});
  CHECK(allowed(at(2)) == Calls{abort_backup, is_volume_supported});
  CHECK(allowed(at(3)) == Calls{set_backup_state, get_writer_metadata, add_component,
                                start_snapshot_set, gather_writer_status, get_writer_status,
                                get_backup_components, set_backup_options,
                                set_previous_backup_stamp, is_volume_supported, import_snapshots,
                                break_snapshot_set});
  CHECK(allowed(at(4)) == Calls{set_backup_state, get_writer_metadata, add_component,
                                add_to_snapshot_set, prepare_for_backup, gather_writer_status,
                                get_writer_status, get_backup_components, abort_backup,
                                set_backup_options, set_previous_backup_stamp, is_volume_supported,
                                break_snapshot_set});
  CHECK(allowed(at(5)) == Calls{get_writer_metadata, abort_backup, is_volume_supported});
  CHECK(allowed(at(6)) == Calls{get_writer_metadata, do_snapshot_set, gather_writer_status,
                                get_writer_status, get_backup_components, set_backup_succeeded,
                                backup_complete, abort_backup, is_volume_supported,
                                break_snapshot_set});
  CHECK(allowed(at(7)) == Calls{get_writer_metadata, abort_backup, is_volume_supported});
  CHECK(allowed(at(8)) == Calls{get_writer_metadata, gather_writer_status, get_writer_status,
                                get_backup_components, set_backup_succeeded, backup_complete,
                                abort_backup, is_volume_supported, break_snapshot_set});
  CHECK(allowed(at(9)) ==
        Calls{get_writer_metadata, get_backup_components, abort_backup, is_volume_supported});
  CHECK(allowed(at(10)) == Calls{get_writer_metadata, gather_writer_status, get_writer_status,
                                 get_backup_components, is_volume_supported, break_snapshot_set});
}

TEST_CASE("each state of a restore allows VSS's calls and no others", "[coordinator]") {
  using enum SessionCall;
  Session session{Limits{}};
  session.restore_initialised();
  CHECK(session.is_restore());
  CHECK(allowed(session) == Calls{select_writers, set_restore_state, gather_writer_metadata,
                                  get_backup_components, add_snapshot_to_recovery_set,
                                  recover_set});
  session.gather_started();
  CHECK(allowed(session).empty());
  session.gather_finished();
  CHECK(allowed(session) ==
        Calls{set_restore_state, get_writer_metadata, gather_writer_status, get_writer_status,
              get_backup_components, set_selected_for_restore, add_restore_subcomponent,
              set_restore_options, set_authoritative_restore, set_roll_forward, set_restore_name,
              add_new_target, set_additional_restores, set_ranges_file_path, pre_restore,
              add_snapshot_to_recovery_set, recover_set});
  session.pre_restore_started();
  CHECK(allowed(session) == Calls{get_writer_metadata});
  session.pre_restore_finished();
  CHECK(allowed(session) == Calls{get_writer_metadata, gather_writer_status, get_writer_status,
                                  get_backup_components, add_new_target, set_additional_restores,
                                  set_ranges_file_path, add_alternative_location_mapping,
                                  set_file_restore_status, post_restore,
                                  add_snapshot_to_recovery_set, recover_set});
  session.post_restore_started();
  CHECK(allowed(session) == Calls{get_writer_metadata});
  session.post_restore_finished();
  CHECK(allowed(session) ==
        Calls{get_writer_metadata, gather_writer_status, get_writer_status, get_backup_components});
}

TEST_CASE("a context without writers skips their calls",
          "[coordinator]"
          "[vss:VSS_VOLSNAP_ATTR.NO_WRITERS][vss:VSS_CTX.NAS_ROLLBACK]") {
  const auto early = at(1, context::kNasRollback);
  CHECK(early.check(SessionCall::start_snapshot_set));
  auto open = at(1, context::kNasRollback);
  open.set_opened(kNow);
  CHECK(open.check(SessionCall::do_snapshot_set));
  CHECK(!open.check(SessionCall::prepare_for_backup));
}

TEST_CASE("a failed session allows status, documents and a needless abort",
          "[coordinator]"
          "[vss:rule.retry-new-session]") {
  auto session = at(7);
  session.creation_finished(false);
  CHECK(session.state() == SessionState::failed);
  CHECK(!session.holds_set());
  CHECK(session.check(SessionCall::gather_writer_status));
  CHECK(session.check(SessionCall::abort_backup) == Permission::without_effect);
  CHECK(!session.check(SessionCall::backup_complete));
  auto late = at(5);
  late.aborted();
  late.prepare_finished(kNow);  // The answer of what was aborted changes nothing.
  CHECK(late.state() == SessionState::failed);
}

TEST_CASE("selecting writers after the gathering is accepted without effect",
          "[coordinator]"
          "[vss:IVssBackupComponents.EnableWriterClasses]"
          "[vss:IVssBackupComponents.DisableWriterClasses]"
          "[vss:IVssBackupComponents.DisableWriterInstances]") {
  CHECK(at(3).check(SessionCall::select_writers) == Permission::without_effect);
}

TEST_CASE("only VSS's contexts are taken, once",
          "[coordinator]"
          "[vss:IVssBackupComponents.SetContext][vss:VSS_E_UNSUPPORTED_CONTEXT]"
          "[vss:VSS_CTX.BACKUP][vss:VSS_CTX.FILE_SHARE_BACKUP][vss:VSS_CTX.NAS_ROLLBACK]"
          "[vss:VSS_CTX.APP_ROLLBACK][vss:VSS_CTX.CLIENT_ACCESSIBLE]"
          "[vss:VSS_CTX.CLIENT_ACCESSIBLE_WRITERS][vss:VSS_CTX.ALL]") {
  for (const auto context :
       {context::kBackup, context::kFileShareBackup, context::kNasRollback, context::kAppRollback,
        context::kClientAccessible, context::kClientAccessibleWriters}) {
    Session session{Limits{}};
    session.initialised();
    CHECK(session.set_context(context | attribute::kNotTransacted));
    CHECK(!session.check(SessionCall::set_context));
  }
  Session session{Limits{}};
  for (const auto bad : {0x1U, 0xFFFFFFFEU, 0x80000000U, attribute::kImported,
                         attribute::kPlex | attribute::kDifferential,
                         attribute::kTransportable | attribute::kAutorecover}) {
    const auto status = session.set_context(bad);
    REQUIRE(!status);
    CHECK(status.error().code == Errc::unsupported_context);
  }
}

TEST_CASE("VSS_CTX_ALL is taken, but no set is started in it", "[coordinator]") {
  auto session = at(1, context::kAll);
  session.gather_started();
  session.gather_finished();
  const auto started = session.check(SessionCall::start_snapshot_set);
  REQUIRE(!started);
  CHECK(started.error().code == Errc::unsupported_context);
  CHECK(session.check(SessionCall::break_snapshot_set));
}

TEST_CASE("the sequence timer runs between calls of an open set only", "[coordinator]") {
  auto session = at(3);
  CHECK(!session.deadline());
  session.set_opened(kNow);
  CHECK(session.deadline() == kNow + seconds{180});
  session.call_began();
  CHECK(!session.deadline());
  session.call_ended(kNow, SessionCall::add_to_snapshot_set, true);
  CHECK(session.deadline() == kNow + seconds{1800});
  session.call_ended(kNow, SessionCall::add_to_snapshot_set, false);
  CHECK(session.deadline() == kNow + seconds{180});
  session.prepare_started();
  CHECK(!session.deadline());
  session.prepare_finished(kNow);
  CHECK(session.deadline() == kNow + seconds{1800});
  session.creation_started();
  CHECK(!session.deadline());
  session.creation_finished(true);
  session.call_ended(kNow, SessionCall::set_backup_succeeded, true);
  CHECK(!session.deadline());
}

TEST_CASE("while StartSnapshotSet waits in the queue only AbortBackup is allowed",
          "[coordinator]") {
  auto session = at(3);
  session.slot_requested();
  CHECK(!session.check(SessionCall::start_snapshot_set));
  CHECK(session.check(SessionCall::abort_backup));
  session.slot_refused();
  CHECK(session.check(SessionCall::start_snapshot_set));
}

}  // namespace
