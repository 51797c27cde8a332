// SPDX-License-Identifier: Apache-2.0
//
// VSS's table of allowed calls, letter by letter, against the sessions of the SDK: every call in
// every state.
#include <functional>

#include "requester-sdk/src/restore_logic.h"
#include "requester-sdk/src/session_calls.h"
#include "tests/unit/requester_sdk/fake_link.h"

namespace {

using namespace umbra;
using namespace umbra::requester;
using namespace umbra::requester::test;

using BackupCall = std::function<Status(SessionLogic&)>;
using RestoreCall = std::function<Status(RestoreLogic&)>;

template <class T>
Status status_of(const Result<T>& result) {
  if (!result) return fail(result.error());
  return {};
}

// A row of the table: Y allowed, n bad_state, ~ accepted without effect, ! a rule of its own (the
// session of this test follows it), - not to be called in this kind of session at all. The columns
// are the states; those in which an operation of the session runs are ours, after VSS's BC.
struct Row {
  const char* name;
  const char* backup;   // U BI BM BS BP BC BD BF BX, and BG BQ (completing)
  const char* restore;  // U RI RM RP RX, and gathering, PreRestore, PostRestore
  BackupCall make_backup;
  RestoreCall make_restore;
};

const ComponentRef kRef{.name = "c"};
const AlternateLocation kPlace{"/a", "*", false, "/b"};

VolumeRef named() {
  VolumeRef volume;
  volume.name = "data";
  return volume;
}

const std::vector<Row>& rows() {
  using B = SessionLogic;
  using R = RestoreLogic;
  static const BackupCall kNone;
  static const RestoreCall kNo;
  static const std::vector<Row> table{
      //                             UIMSPCDFX GQE  UIMPX gqp
      {"initialize_for_backup", "Ynnnnnnnn nnn", "",
       [](B& s) { return status_of(s.initialize_for_backup()); }, kNo},
      {"initialize_for_restore", "", "Ynnnn nnn", kNone,
       [](R& s) { return status_of(s.initialize_for_restore({})); }},
      {"enable_writer_classes", "nY~~~~~~~ ~~~", "nY~~~ ~~~",
       [](B& s) { return s.select_writers("enable_writer_classes", {}); },
       [](R& s) { return s.select_writers("enable_writer_classes", {}); }},
      {"disable_writer_classes", "nY~~~~~~~ ~~~", "nY~~~ ~~~",
       [](B& s) { return s.select_writers("disable_writer_classes", {}); },
       [](R& s) { return s.select_writers("disable_writer_classes", {}); }},
      {"disable_writer_instances", "nY~~~~~~~ ~~~", "nY~~~ ~~~",
       [](B& s) { return s.select_writers("disable_writer_instances", {}); },
       [](R& s) { return s.select_writers("disable_writer_instances", {}); }},
      {"set_context", "nYYnnnnnn nnn", "", [](B& s) { return s.set_context(0); }, kNo},
      {"set_backup_state", "nYYYnnnnn nnn", "", [](B& s) { return s.set_backup_state({}); }, kNo},
      {"set_restore_state", "", "nYYnn nnn", kNone,
       [](R& s) { return s.set_restore_state(RestoreType::other); }},
      {"gather_writer_metadata", "nYnnnnnnn nnn", "nYnnn nnn",
       [](B& s) { return s.gather_writer_metadata(10s); },
       [](R& s) { return s.gather_writer_metadata(10s); }},
      {"writer_metadata", "nnYYYYYYY nYY", "nnYYY nYY",
       [](B& s) { return status_of(s.writer_metadata()); },
       [](R& s) { return status_of(s.writer_metadata()); }},
      {"volumes_of", "nnYYYYYYY nYY", "", [](B& s) { return status_of(s.volumes_of({})); }, kNo},
      {"add_component", "nnY!nnnnn nnn", "", [](B& s) { return s.add_component(kRef); }, kNo},
      {"set_backup_options", "nnYYnnnnn nnn", "",
       [](B& s) { return s.set_component_text("set_backup_options", kRef, "x"); }, kNo},
      {"set_previous_backup_stamp", "nnYYnnnnn nnn", "",
       [](B& s) { return s.set_component_text("set_previous_backup_stamp", kRef, "x"); }, kNo},
      {"start_snapshot_set", "nYYnnnnnn nnn", "",
       [](B& s) { return status_of(s.start_snapshot_set(0ms)); }, kNo},
      {"add_to_snapshot_set", "nnnYnnnnn nnn", "",
       [](B& s) { return status_of(s.add_to_snapshot_set({}, {})); }, kNo},
      {"prepare_for_backup", "nnnYnnnnn nnn", "", [](B& s) { return s.prepare_for_backup(10s); },
       kNo},
      {"do_snapshot_set", "nnnnYnnnn nnn", "", [](B& s) { return s.do_snapshot_set({}); }, kNo},
      {"gather_writer_status", "nnYYYnYYY nnn", "nnYYY nnn",
       [](B& s) { return status_of(s.gather_writer_status()); },
       [](R& s) { return status_of(s.gather_writer_status()); }},
      {"writer_status", "nnYYYnYYY nnn", "nnYYY nnn",
       [](B& s) { return status_of(s.writer_status()); },
       [](R& s) { return status_of(s.writer_status()); }},
      {"writer_components", "nYYYYnYYY nnn", "",
       [](B& s) { return status_of(s.writer_components()); }, kNo},
      {"backup_components", "nYYYYnYYY nnn", "nYYYY nnn",
       [](B& s) { return status_of(s.components_xml(false)); },
       [](R& s) { return status_of(s.backup_components()); }},
      {"set_backup_succeeded", "nnnn!nYnn nnn", "",
       [](B& s) { return s.set_backup_succeeded(kRef, true); }, kNo},
      {"backup_complete", "nnnn!nYnn nnn", "", [](B& s) { return s.backup_complete(10s); }, kNo},
      {"abort_backup", "n~~YYYY~~ YYY", "", [](B& s) { return s.abort_backup(); }, kNo},
      {"save_as_xml", "nnnnYnYYY nnn", "", [](B& s) { return status_of(s.components_xml(true)); },
       kNo},
      {"query", "nYYYYYYYY YYY", "", [](B& s) { return status_of(s.query(ObjectType::snapshot)); },
       kNo},
      {"list_snapshots", "nYYYYYYYY YYY", "", [](B& s) { return status_of(s.list_snapshots({})); },
       kNo},
      {"snapshot_properties", "nYYYYYYYY YYY", "",
       [](B& s) { return status_of(s.snapshot_properties(kSnapshot)); }, kNo},
      {"is_volume_supported", "nYYYYYYYY YYY", "",
       [](B& s) { return status_of(s.is_volume_supported(named(), {})); }, kNo},
      {"delete_snapshots", "nYYYYYYYY YYY", "",
       [](B& s) { return status_of(s.delete_snapshots(kSnapshot, ObjectType::snapshot, false)); },
       kNo},
      {"expose_snapshot", "nYYYYYYYY YYY", "",
       [](B& s) { return status_of(s.expose_snapshot(kSnapshot, {})); }, kNo},
      {"unexpose_snapshot", "nYYYYYYYY YYY", "",
       [](B& s) { return s.unexpose_snapshot(kSnapshot); }, kNo},
      {"revert_to_snapshot", "nYYYYYYYY YYY", "",
       [](B& s) { return s.revert_to_snapshot(kSnapshot, false); }, kNo},
      {"query_revert_status", "nYYYYYYYY YYY", "",
       [](B& s) { return status_of(s.query_revert_status(named())); }, kNo},
      // VSS allows it while a set is created; umbrad runs one operation of a session at a time.
      {"break_snapshot_set", "nYYYYnYYY nnn", "",
       [](B& s) { return s.break_snapshot_set(kSet, 0, 10s); }, kNo},
      {"import_snapshots", "nYYnnnnnn nnn", "", [](B& s) { return s.import_snapshots(10s); }, kNo},
      {"set_selected_for_restore", "", "nnYnn nnn", kNone,
       [](R& s) { return s.set_selected_for_restore(kRef, true); }},
      {"add_restore_subcomponent", "", "nnYnn nnn", kNone,
       [](R& s) { return s.add_restore_subcomponent(kRef, {}); }},
      {"set_restore_options", "", "nnYnn nnn", kNone,
       [](R& s) { return s.set_restore_options(kRef, "x"); }},
      {"set_authoritative_restore", "", "nnYnn nnn", kNone,
       [](R& s) { return s.set_authoritative_restore(kRef, true); }},
      {"set_roll_forward", "", "nnYnn nnn", kNone,
       [](R& s) { return s.set_roll_forward(kRef, {}); }},
      {"set_restore_name", "", "nnYnn nnn", kNone,
       [](R& s) { return s.set_restore_name(kRef, "x"); }},
      {"add_new_target", "", "nnYYn nnn", kNone,
       [](R& s) { return s.add_new_target(kRef, kPlace); }},
      {"set_additional_restores", "", "nnYYn nnn", kNone,
       [](R& s) { return s.set_additional_restores(kRef, true); }},
      {"set_ranges_file_path", "", "nnYYn nnn", kNone,
       [](R& s) { return s.set_ranges_file_path(kRef, 0, "/x"); }},
      {"pre_restore", "", "nnYnn nnn", kNone, [](R& s) { return s.pre_restore(10s); }},
      {"add_alternative_location_mapping", "", "nnnYn nnn", kNone,
       [](R& s) { return s.add_alternative_location_mapping(kRef, kPlace); }},
      {"set_file_restore_status", "", "nnnYn nnn", kNone,
       [](R& s) { return s.set_file_restore_status(kRef, FileRestoreStatus::all); }},
      {"post_restore", "", "nnnYn nnn", kNone, [](R& s) { return s.post_restore(10s); }},
      {"add_snapshot_to_recovery_set", "", "nYYYn nnn", kNone,
       [](R& s) { return s.add_snapshot_to_recovery_set(kSnapshot, 0, {}); }},
      {"recover_set", "", "nYYYn nnn", kNone, [](R& s) { return s.recover_set(0, 10s); }},
  };
  return table;
}

struct RestoreWorld {
  FakeLink link;
  RestoreLogic logic{link};
  std::optional<AsyncOperation> handle;

  void begin(Result<AsyncOperation> operation) {
    REQUIRE(operation);
    handle.emplace(std::move(*operation));
    link.pending_waits = 1'000'000;
  }
  void reach(RestoreState state) {
    using enum RestoreState;
    if (state == created) return;
    REQUIRE(logic.initialize_for_restore({}));
    if (state == initialized) return;
    if (state == gathering) return begin(logic.start_gather_writer_metadata());
    REQUIRE(logic.gather_writer_metadata(10s));
    if (state == metadata_ready) return;
    if (state == pre_restoring) return begin(logic.start_pre_restore());
    REQUIRE(logic.pre_restore(10s));
    if (state == prepared) return;
    if (state == post_restoring) return begin(logic.start_post_restore());
    REQUIRE(logic.post_restore(10s));
  }
};

// What was sent but for the look whether an operation has ended.
std::size_t sent(const FakeLink& link) {
  return link.calls.size() - static_cast<std::size_t>(std::count(
                                 link.calls.begin(), link.calls.end(), "operation.status"));
}

template <class World, class State, class Make>
void check_cell(const char* name, char cell, State state, const Make& make) {
  World world;
  world.reach(state);
  REQUIRE(world.logic.state() == state);
  const std::size_t before = sent(world.link);
  const Status status = make(world.logic);
  if (cell != 'n') {
    // Whatever else may be wrong with it, the state was not.
    CHECK((status || status.error().code != Errc::bad_state));
    if (!status && status.error().code == Errc::bad_state) WARN(status.error().context);
    if (cell == '~') CHECK(status);
    return;
  }
  REQUIRE_FALSE(status);
  CHECK(status.error().code == Errc::bad_state);
  CHECK_THAT(status.error().context, Catch::Contains(name));
  CHECK(sent(world.link) == before);
  CHECK(world.logic.state() == state);
  if (world.handle) CHECK_THAT(status.error().context, Catch::Contains("has not ended"));
}

TEST_CASE("a backup session allows each call in the states of VSS's table and in no other",
          "[vss:VSS_E_BAD_STATE][vss:IVssBackupComponents.SaveAsXML]"
          "[vss:rule.retry-new-session]") {
  using enum SessionState;
  constexpr std::array kStates{created,  initialized, metadata_ready,   set_started,
                               prepared, creating,    snapshot_created, completed,
                               failed,   gathering,   preparing,        completing};
  for (const Row& row : rows()) {
    if (*row.backup == 0) continue;
    std::string cells(row.backup);
    std::erase(cells, ' ');
    REQUIRE(cells.size() == kStates.size());
    for (std::size_t i = 0; i < kStates.size(); ++i) {
      INFO(row.name << " in " << session_state_name(kStates[i]));
      check_cell<Session>(row.name, cells[i], kStates[i], row.make_backup);
    }
  }
}

TEST_CASE("a restore session allows each call in the states of VSS's table and in no other",
          "[vss:VSS_E_BAD_STATE]") {
  using enum RestoreState;
  constexpr std::array kStates{created,  initialized, metadata_ready, prepared,
                               restored, gathering,   pre_restoring,  post_restoring};
  for (const Row& row : rows()) {
    if (*row.restore == 0) continue;
    std::string cells(row.restore);
    std::erase(cells, ' ');
    REQUIRE(cells.size() == kStates.size());
    for (std::size_t i = 0; i < kStates.size(); ++i) {
      INFO(row.name << " in " << restore_state_name(kStates[i]));
      check_cell<RestoreWorld>(row.name, cells[i], kStates[i], row.make_restore);
    }
  }
}

TEST_CASE("every call that the SDK has a rule for is in the table") {
  const auto known = [](std::string_view call, bool restore) {
    return std::any_of(rows().begin(), rows().end(), [&](const Row& row) {
      return row.name == call && *(restore ? row.restore : row.backup) != 0;
    });
  };
  for (const CallRow& row : backup_calls()) {
    INFO(row.call);
    // The two that are made of others.
    CHECK(
        (row.call == "create_snapshot_set" || row.call == "make_bundle" || known(row.call, false)));
  }
  for (const CallRow& row : restore_calls()) {
    INFO(row.call);
    CHECK(known(row.call, true));
  }
}

TEST_CASE("a session whose connection is gone gives coordinator_lost to every call",
          "[vss:VSS_E_WRITER_INFRASTRUCTURE]") {
  for (const Row& row : rows()) {
    INFO(row.name);
    if (*row.backup != 0) {
      Session session;
      session.reach(SessionState::lost);
      const Status status = row.make_backup(session.logic);
      REQUIRE_FALSE(status);
      CHECK(status.error().code == Errc::coordinator_lost);
    }
  }
}

}  // namespace
