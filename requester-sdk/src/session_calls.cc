// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "requester-sdk/src/session_calls.h"

#include <array>

#include "engine/platform/assert.h"

namespace umbra::requester {
namespace {

// While an operation runs (G, Q, C, E) what needs no document and no state is allowed: queries,
// what was gathered before, giving up.
constexpr std::string_view kAnyTime = "IGMSQPCDEFX";

constexpr std::array kBackupCalls{
    CallRow{"initialize_for_backup", "U"},
    CallRow{"create_snapshot_set", "U"},
    CallRow{"enable_writer_classes", kAnyTime},
    CallRow{"disable_writer_classes", kAnyTime},
    CallRow{"disable_writer_instances", kAnyTime},
    CallRow{"set_context", "IM"},
    CallRow{"set_backup_state", "IMS"},
    CallRow{"gather_writer_metadata", "I"},
    CallRow{"writer_metadata", "MSQPCDEFX"},
    CallRow{"volumes_of", "MSQPCDEFX"},
    CallRow{"add_component", "MS"},
    CallRow{"set_backup_options", "MS"},
    CallRow{"set_previous_backup_stamp", "MS"},
    CallRow{"start_snapshot_set", "IM"},
    CallRow{"add_to_snapshot_set", "S"},
    CallRow{"prepare_for_backup", "S"},
    CallRow{"do_snapshot_set", "SP"},
    CallRow{"gather_writer_status", "MSPDFX"},
    CallRow{"writer_status", "MSPDFX"},
    CallRow{"backup_components", "IMSPDFX"},
    CallRow{"writer_components", "IMSPDFX"},
    CallRow{"set_backup_succeeded", "PD"},
    CallRow{"backup_complete", "PD"},
    CallRow{"abort_backup", kAnyTime},
    CallRow{"save_as_xml", "PDFX"},
    CallRow{"make_bundle", "PDF"},
    CallRow{"list_snapshots", kAnyTime},
    CallRow{"query", kAnyTime},
    CallRow{"snapshot_properties", kAnyTime},
    CallRow{"is_volume_supported", kAnyTime},
    CallRow{"delete_snapshots", kAnyTime},
    CallRow{"expose_snapshot", kAnyTime},
    CallRow{"unexpose_snapshot", kAnyTime},
    CallRow{"break_snapshot_set", "IMSPDFX"},
    CallRow{"revert_to_snapshot", kAnyTime},
    CallRow{"query_revert_status", kAnyTime},
    CallRow{"import_snapshots", "IM"},
};

constexpr std::array kRestoreCalls{
    CallRow{"initialize_for_restore", "U"},
    CallRow{"enable_writer_classes", "IGMQPCF"},
    CallRow{"disable_writer_classes", "IGMQPCF"},
    CallRow{"disable_writer_instances", "IGMQPCF"},
    CallRow{"set_restore_state", "IM"},
    CallRow{"gather_writer_metadata", "I"},
    CallRow{"writer_metadata", "MQPCF"},
    CallRow{"gather_writer_status", "MPF"},
    CallRow{"writer_status", "MPF"},
    CallRow{"backup_components", "IMPF"},
    CallRow{"set_selected_for_restore", "M"},
    CallRow{"add_restore_subcomponent", "M"},
    CallRow{"set_restore_options", "M"},
    CallRow{"set_authoritative_restore", "M"},
    CallRow{"set_roll_forward", "M"},
    CallRow{"set_restore_name", "M"},
    CallRow{"add_new_target", "MP"},
    CallRow{"set_additional_restores", "MP"},
    CallRow{"set_ranges_file_path", "MP"},
    CallRow{"pre_restore", "M"},
    CallRow{"add_alternative_location_mapping", "P"},
    CallRow{"set_file_restore_status", "P"},
    CallRow{"post_restore", "P"},
    CallRow{"add_snapshot_to_recovery_set", "IMP"},
    CallRow{"recover_set", "IMP"},
};

template <class State>
Status check(std::span<const CallRow> rows, std::string_view call, State state,
             std::string_view name, std::string_view (*name_of)(State) noexcept, State last,
             std::string_view running) {
  if (state == State::lost)
    return fail(Errc::coordinator_lost, std::string(call) + ": session lost");
  for (const CallRow& row : rows) {
    if (row.call != call) continue;
    if (row.states.find(letter_of(state)) != std::string_view::npos) return {};
    std::string context(call);
    context.append(" in state ").append(name).append("; allowed in");
    for (int i = 0; i <= static_cast<int>(last); ++i) {
      const auto one = static_cast<State>(i);
      if (row.states.find(letter_of(one)) != std::string_view::npos)
        context.append(" ").append(name_of(one));
    }
    if (!running.empty())
      context.append("; ").append(running).append(" has not ended: wait for it, or abort");
    return fail(Errc::bad_state, std::move(context));
  }
  UMBRA_UNREACHABLE();
}

}  // namespace

char letter_of(SessionState state) noexcept {
  switch (state) {
    case SessionState::created: return 'U';
    case SessionState::initialized: return 'I';
    case SessionState::metadata_ready: return 'M';
    case SessionState::set_started: return 'S';
    case SessionState::prepared: return 'P';
    case SessionState::snapshot_created: return 'D';
    case SessionState::completed: return 'F';
    case SessionState::failed: return 'X';
    case SessionState::lost: return 'L';
    case SessionState::gathering: return 'G';
    case SessionState::preparing: return 'Q';
    case SessionState::creating: return 'C';
    case SessionState::completing: return 'E';
  }
  return '?';
}

char letter_of(RestoreState state) noexcept {
  switch (state) {
    case RestoreState::created: return 'U';
    case RestoreState::initialized: return 'I';
    case RestoreState::metadata_ready: return 'M';
    case RestoreState::prepared: return 'P';
    case RestoreState::restored: return 'F';
    case RestoreState::lost: return 'L';
    case RestoreState::gathering: return 'G';
    case RestoreState::pre_restoring: return 'Q';
    case RestoreState::post_restoring: return 'C';
  }
  return '?';
}

std::span<const CallRow> backup_calls() noexcept { return kBackupCalls; }
std::span<const CallRow> restore_calls() noexcept { return kRestoreCalls; }

Status check_call(std::string_view call, SessionState state, std::string_view running) {
  return check(backup_calls(), call, state, session_state_name(state), session_state_name,
               SessionState::completing, running);
}
Status check_call(std::string_view call, RestoreState state, std::string_view running) {
  return check(restore_calls(), call, state, restore_state_name(state), restore_state_name,
               RestoreState::post_restoring, running);
}

}  // namespace umbra::requester
