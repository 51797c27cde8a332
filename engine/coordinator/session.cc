// SPDX-License-Identifier: Apache-2.0

#include "engine/coordinator/session.h"

#include <array>
#include <string>

#include "engine/coordinator/context_rules.h"
#include "engine/platform/assert.h"

namespace umbra::coord {
namespace {

enum class Cell : std::uint8_t { no, yes, idle };  // idle: accepted without effect.
constexpr auto n = Cell::no;
constexpr auto Y = Cell::yes;
constexpr auto o = Cell::idle;

constexpr std::size_t kStates = 19;
struct Row {
  SessionCall call;
  std::array<Cell, kStates> cells;
};

// clang-format off
constexpr std::array kMatrix{
    // First a backup's states:
    //   U  BI BG BM BS BQ BP BC BD .. BF BX
    // then a restore's:
    //   RI .. RM .. RP .. RX
    Row{SessionCall::initialize_for_backup,
        {Y, n, n, n, n, n, n, n, n, n, n, n,  n, n, n, n, n, n, n}},
    Row{SessionCall::select_writers,
        {n, Y, o, o, o, o, o, o, o, o, o, o,  Y, o, o, o, o, o, o}},
    Row{SessionCall::set_context,
        {n, Y, n, Y, n, n, n, n, n, n, n, n,  n, n, n, n, n, n, n}},
    Row{SessionCall::set_backup_state,
        {n, Y, n, Y, Y, n, n, n, n, n, n, n,  n, n, n, n, n, n, n}},
    Row{SessionCall::gather_writer_metadata,
        {n, Y, n, n, n, n, n, n, n, n, n, n,  Y, n, n, n, n, n, n}},
    Row{SessionCall::get_writer_metadata,
        {n, n, n, Y, Y, Y, Y, Y, Y, Y, Y, Y,  n, n, Y, Y, Y, Y, Y}},
    Row{SessionCall::add_component,
        {n, n, n, Y, Y, n, n, n, n, n, n, n,  n, n, n, n, n, n, n}},
    Row{SessionCall::start_snapshot_set,
        {n, Y, n, Y, n, n, n, n, n, n, n, n,  n, n, n, n, n, n, n}},
    Row{SessionCall::add_to_snapshot_set,
        {n, n, n, n, Y, n, n, n, n, n, n, n,  n, n, n, n, n, n, n}},
    Row{SessionCall::prepare_for_backup,
        {n, n, n, n, Y, n, n, n, n, n, n, n,  n, n, n, n, n, n, n}},
    Row{SessionCall::do_snapshot_set,
        {n, n, n, n, Y, n, Y, n, n, n, n, n,  n, n, n, n, n, n, n}},
    Row{SessionCall::gather_writer_status,
        {n, n, n, Y, Y, n, Y, n, Y, n, Y, Y,  n, n, Y, n, Y, n, Y}},
    Row{SessionCall::get_writer_status,
        {n, n, n, Y, Y, n, Y, n, Y, n, Y, Y,  n, n, Y, n, Y, n, Y}},
    Row{SessionCall::get_backup_components,
        {n, Y, n, Y, Y, n, Y, n, Y, Y, Y, Y,  Y, n, Y, n, Y, n, Y}},
    Row{SessionCall::set_backup_succeeded,
        {n, n, n, n, n, n, Y, n, Y, n, n, n,  n, n, n, n, n, n, n}},
    Row{SessionCall::backup_complete,
        {n, n, n, n, n, n, Y, n, Y, n, n, n,  n, n, n, n, n, n, n}},
    Row{SessionCall::abort_backup,
        {n, o, Y, o, Y, Y, Y, Y, Y, Y, o, o,  n, n, n, n, n, n, n}},
    Row{SessionCall::initialize_for_restore,
        {Y, n, n, n, n, n, n, n, n, n, n, n,  n, n, n, n, n, n, n}},
    Row{SessionCall::set_restore_state,
        {n, n, n, n, n, n, n, n, n, n, n, n,  Y, n, Y, n, n, n, n}},
    Row{SessionCall::set_selected_for_restore,
        {n, n, n, n, n, n, n, n, n, n, n, n,  n, n, Y, n, n, n, n}},
    Row{SessionCall::add_restore_subcomponent,
        {n, n, n, n, n, n, n, n, n, n, n, n,  n, n, Y, n, n, n, n}},
    Row{SessionCall::set_restore_options,
        {n, n, n, n, n, n, n, n, n, n, n, n,  n, n, Y, n, n, n, n}},
    Row{SessionCall::set_authoritative_restore,
        {n, n, n, n, n, n, n, n, n, n, n, n,  n, n, Y, n, n, n, n}},
    Row{SessionCall::set_roll_forward,
        {n, n, n, n, n, n, n, n, n, n, n, n,  n, n, Y, n, n, n, n}},
    Row{SessionCall::set_restore_name,
        {n, n, n, n, n, n, n, n, n, n, n, n,  n, n, Y, n, n, n, n}},
    Row{SessionCall::add_new_target,
        {n, n, n, n, n, n, n, n, n, n, n, n,  n, n, Y, n, Y, n, n}},
    Row{SessionCall::set_additional_restores,
        {n, n, n, n, n, n, n, n, n, n, n, n,  n, n, Y, n, Y, n, n}},
    Row{SessionCall::set_ranges_file_path,
        {n, n, n, n, n, n, n, n, n, n, n, n,  n, n, Y, n, Y, n, n}},
    Row{SessionCall::pre_restore,
        {n, n, n, n, n, n, n, n, n, n, n, n,  n, n, Y, n, n, n, n}},
    Row{SessionCall::add_alternative_location_mapping,
        {n, n, n, n, n, n, n, n, n, n, n, n,  n, n, n, n, Y, n, n}},
    Row{SessionCall::set_file_restore_status,
        {n, n, n, n, n, n, n, n, n, n, n, n,  n, n, n, n, Y, n, n}},
    Row{SessionCall::post_restore,
        {n, n, n, n, n, n, n, n, n, n, n, n,  n, n, n, n, Y, n, n}},
    Row{SessionCall::set_backup_options,
        {n, n, n, Y, Y, n, n, n, n, n, n, n,  n, n, n, n, n, n, n}},
    Row{SessionCall::set_previous_backup_stamp,
        {n, n, n, Y, Y, n, n, n, n, n, n, n,  n, n, n, n, n, n, n}},
    Row{SessionCall::is_volume_supported,
        {n, Y, Y, Y, Y, Y, Y, Y, Y, Y, Y, Y,  n, n, n, n, n, n, n}},
    Row{SessionCall::import_snapshots,
        {n, Y, n, Y, n, n, n, n, n, n, n, n,  n, n, n, n, n, n, n}},
    Row{SessionCall::break_snapshot_set,
        {n, Y, n, Y, Y, n, Y, n, Y, n, Y, Y,  n, n, n, n, n, n, n}},
    Row{SessionCall::add_snapshot_to_recovery_set,
        {n, n, n, n, n, n, n, n, n, n, n, n,  Y, n, Y, n, Y, n, n}},
    Row{SessionCall::recover_set,
        {n, n, n, n, n, n, n, n, n, n, n, n,  Y, n, Y, n, Y, n, n}},
};
// clang-format on
static_assert(kMatrix.size() == kSessionCalls);

}  // namespace

std::string_view name(SessionState state) noexcept {
  switch (state) {
    case SessionState::created: return "created";
    case SessionState::initialised: return "initialised";
    case SessionState::gathering: return "gathering writer metadata";
    case SessionState::gathered: return "metadata gathered";
    case SessionState::set_open: return "snapshot set open";
    case SessionState::preparing: return "preparing for backup";
    case SessionState::prepared: return "prepared for backup";
    case SessionState::creating: return "creating the snapshot set";
    case SessionState::snapshot_created: return "snapshot set created";
    case SessionState::completing: return "completing the backup";
    case SessionState::finished: return "finished";
    case SessionState::failed: return "failed";
    case SessionState::restore_initialised: return "restore initialised";
    case SessionState::restore_gathering: return "gathering writer metadata for a restore";
    case SessionState::restore_gathered: return "metadata gathered for a restore";
    case SessionState::pre_restoring: return "preparing the restore";
    case SessionState::pre_restored: return "prepared for restore";
    case SessionState::post_restoring: return "completing the restore";
    case SessionState::restored: return "restored";
  }
  UMBRA_UNREACHABLE();
}

std::string_view name(SessionCall call) noexcept {
  switch (call) {
    case SessionCall::initialize_for_backup: return "initialize_for_backup";
    case SessionCall::select_writers: return "enable_writer_classes";
    case SessionCall::set_context: return "set_context";
    case SessionCall::set_backup_state: return "set_backup_state";
    case SessionCall::gather_writer_metadata: return "gather_writer_metadata";
    case SessionCall::get_writer_metadata: return "get_writer_metadata";
    case SessionCall::add_component: return "add_component";
    case SessionCall::start_snapshot_set: return "start_snapshot_set";
    case SessionCall::add_to_snapshot_set: return "add_to_snapshot_set";
    case SessionCall::prepare_for_backup: return "prepare_for_backup";
    case SessionCall::do_snapshot_set: return "do_snapshot_set";
    case SessionCall::gather_writer_status: return "gather_writer_status";
    case SessionCall::get_writer_status: return "get_writer_status";
    case SessionCall::get_backup_components: return "get_backup_components";
    case SessionCall::set_backup_succeeded: return "set_backup_succeeded";
    case SessionCall::backup_complete: return "backup_complete";
    case SessionCall::abort_backup: return "abort_backup";
    case SessionCall::initialize_for_restore: return "initialize_for_restore";
    case SessionCall::set_restore_state: return "set_restore_state";
    case SessionCall::set_selected_for_restore: return "set_selected_for_restore";
    case SessionCall::add_restore_subcomponent: return "add_restore_subcomponent";
    case SessionCall::set_restore_options: return "set_restore_options";
    case SessionCall::set_authoritative_restore: return "set_authoritative_restore";
    case SessionCall::set_roll_forward: return "set_roll_forward";
    case SessionCall::set_restore_name: return "set_restore_name";
    case SessionCall::add_new_target: return "add_new_target";
    case SessionCall::set_additional_restores: return "set_additional_restores";
    case SessionCall::set_ranges_file_path: return "set_ranges_file_path";
    case SessionCall::pre_restore: return "pre_restore";
    case SessionCall::add_alternative_location_mapping: return "add_alternative_location_mapping";
    case SessionCall::set_file_restore_status: return "set_file_restore_status";
    case SessionCall::post_restore: return "post_restore";
    case SessionCall::set_backup_options: return "set_backup_options";
    case SessionCall::set_previous_backup_stamp: return "set_previous_backup_stamp";
    case SessionCall::is_volume_supported: return "is_volume_supported";
    case SessionCall::import_snapshots: return "import_snapshots";
    case SessionCall::break_snapshot_set: return "break_snapshot_set";
    case SessionCall::add_snapshot_to_recovery_set: return "add_snapshot_to_recovery_set";
    case SessionCall::recover_set: return "recover_set";
  }
  UMBRA_UNREACHABLE();
}

Result<Permission> Session::check(SessionCall call) const {
  const auto& row = kMatrix[static_cast<std::size_t>(call)];
  UMBRA_ASSERT(row.call == call);
  const auto refuse = [&](std::string_view why) {
    return fail(Errc::bad_state, std::string(name(call)) + " in state '" +
                                     std::string(name(state_)) + "'" + std::string(why));
  };
  const auto cell = row.cells[static_cast<std::size_t>(state_)];
  if (cell == Cell::no) return refuse("");
  if (slot_requested_ && call != SessionCall::abort_backup)
    return refuse(": start_snapshot_set has not returned");
  const bool starts = call == SessionCall::start_snapshot_set;
  if (starts && context_ == context::kAll)
    return fail(Errc::unsupported_context,
                "start_snapshot_set: VSS_CTX_ALL is for queries and deletions; open another "
                "session and set the context that the copies are to have");
  const bool early = state_ == SessionState::initialised;
  if (starts && early && with_writers())
    return refuse(": contexts with writers need gather_writer_metadata first");
  if (call == SessionCall::do_snapshot_set && state_ == SessionState::set_open && with_writers())
    return refuse(": contexts with writers need prepare_for_backup first");
  if (call == SessionCall::prepare_for_backup && !with_writers())
    return refuse(": the context is without writers");
  if (call == SessionCall::set_context && context_set_) return refuse(": the context is set once");
  return cell == Cell::idle ? Permission::without_effect : Permission::allowed;
}

Status Session::set_context(std::uint32_t context) {
  if (auto known = check_context(context); !known) return known;
  context_ = context;
  context_set_ = true;
  return {};
}

void Session::gather_started() {
  state_ = is_restore() ? SessionState::restore_gathering : SessionState::gathering;
}

void Session::gather_finished() {
  if (state_ == SessionState::gathering) state_ = SessionState::gathered;
  if (state_ == SessionState::restore_gathering) state_ = SessionState::restore_gathered;
}

void Session::set_opened(TimePoint now) {
  slot_requested_ = false;
  state_ = SessionState::set_open;
  deadline_ = now + limits_.sequence;
}

void Session::prepare_started() {
  state_ = SessionState::preparing;
  deadline_.reset();
}

void Session::prepare_finished(TimePoint now) {
  if (state_ != SessionState::preparing) return;
  state_ = SessionState::prepared;
  deadline_ = now + limits_.sequence_long;
}

void Session::creation_started() {
  state_ = SessionState::creating;
  deadline_.reset();
}

void Session::creation_finished(bool good) {
  if (state_ != SessionState::creating) return;
  if (!good) return fail_session();
  state_ = SessionState::snapshot_created;
}

void Session::completion_started() {
  state_ = SessionState::completing;
  deadline_.reset();
}

void Session::completion_finished() {
  if (state_ == SessionState::completing) state_ = SessionState::finished;
}

void Session::call_ended(TimePoint now, SessionCall call, bool good) {
  if (state_ != SessionState::set_open && state_ != SessionState::prepared) return;
  const bool long_pause =
      good && (call == SessionCall::add_to_snapshot_set || state_ == SessionState::prepared);
  deadline_ = now + (long_pause ? limits_.sequence_long : limits_.sequence);
}

bool Session::holds_set() const noexcept {
  return state_ == SessionState::set_open || state_ == SessionState::preparing ||
         state_ == SessionState::prepared || state_ == SessionState::creating;
}

bool Session::is_restore() const noexcept { return state_ >= SessionState::restore_initialised; }

void Session::fail_session() {
  state_ = SessionState::failed;
  slot_requested_ = false;
  deadline_.reset();
}

}  // namespace umbra::coord
