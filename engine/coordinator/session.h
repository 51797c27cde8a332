// SPDX-License-Identifier: Apache-2.0
//
// The states of one session, a backup or a restore, and which call is allowed in which: VSS's
// table, with bad_state for the rest. Pure.
//
//   created -> initialised -> gathering -> gathered -> set_open -> preparing -> prepared
//     -> creating -> snapshot_created -> completing -> finished
//   any -> failed (DoSnapshotSet failed, AbortBackup, the sequence timer)
//
// Contexts without writers go initialised -> set_open -> creating. A backup that needs no snapshot
// goes prepared -> completing. A restore goes
//
//   created -> restore_initialised -> restore_gathering -> restore_gathered -> pre_restoring
//     -> pre_restored -> post_restoring -> restored
//
// and has no abort: whoever gives up says so by the files' status, in PostRestore.
//
// The sequence timer runs while the session holds the creation slot and no call of its own runs: a
// requester that forgets its set must not keep all others waiting. 180 s, 1800 s after a good Add
// or Prepare (the requester may be computing).

#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "engine/coordinator/limits.h"
#include "engine/platform/clock.h"
#include "umbra/result.h"
#include "umbra/vss.h"

namespace umbra::coord {

enum class SessionState : std::uint8_t {
  created,              // U
  initialised,          // BI
  gathering,            // BG
  gathered,             // BM
  set_open,             // BS
  preparing,            // BQ
  prepared,             // BP
  creating,             // BC
  snapshot_created,     // BD
  completing,           // BackupComplete runs.
  finished,             // BF
  failed,               // BX
  restore_initialised,  // RI
  restore_gathering,    // GatherWriterMetadata runs.
  restore_gathered,     // RM
  pre_restoring,        // PreRestore runs.
  pre_restored,         // RP
  post_restoring,       // PostRestore runs.
  restored,             // RX
};
[[nodiscard]] std::string_view name(SessionState state) noexcept;

enum class SessionCall : std::uint8_t {
  initialize_for_backup,
  select_writers,  // Enable and disable, classes and instances.
  set_context,
  set_backup_state,
  gather_writer_metadata,
  get_writer_metadata,
  add_component,
  start_snapshot_set,
  add_to_snapshot_set,
  prepare_for_backup,
  do_snapshot_set,
  gather_writer_status,
  get_writer_status,
  get_backup_components,
  set_backup_succeeded,
  backup_complete,
  abort_backup,
  initialize_for_restore,
  set_restore_state,
  set_selected_for_restore,
  add_restore_subcomponent,
  set_restore_options,
  set_authoritative_restore,
  set_roll_forward,
  set_restore_name,
  add_new_target,
  set_additional_restores,
  set_ranges_file_path,
  pre_restore,
  add_alternative_location_mapping,
  set_file_restore_status,
  post_restore,
  set_backup_options,
  set_previous_backup_stamp,
  is_volume_supported,
  import_snapshots,
  break_snapshot_set,
  add_snapshot_to_recovery_set,
  recover_set,
};
inline constexpr int kSessionCalls = static_cast<int>(SessionCall::recover_set) + 1;
/// As on the wire after "session.". Static storage.
[[nodiscard]] std::string_view name(SessionCall call) noexcept;

enum class Permission : std::uint8_t {
  allowed,
  without_effect,  // Accepted, as VSS does, but too late to change anything.
};

/// Threads: one.
class Session {
 public:
  explicit Session(const Limits& limits) : limits_(limits) {}

  /// Whether `call` may be made now. Errors: bad_state (names call and state); unsupported_context
  /// (a set cannot be started in context::kAll).
  [[nodiscard]] Result<Permission> check(SessionCall call) const;

  /// Errors: those of check_context().
  [[nodiscard]] Status set_context(std::uint32_t context);

  // What happened. Each belongs to a call that check() allowed.
  void initialised() { state_ = SessionState::initialised; }
  void restore_initialised() { state_ = SessionState::restore_initialised; }
  void gather_started();
  void gather_finished();
  void slot_requested() { slot_requested_ = true; }
  void slot_refused() { slot_requested_ = false; }
  void set_opened(TimePoint now);
  void prepare_started();
  void prepare_finished(TimePoint now);
  void creation_started();
  void creation_finished(bool good);
  void completion_started();
  void completion_finished();
  void aborted() { fail_session(); }
  void pre_restore_started() { state_ = SessionState::pre_restoring; }
  void pre_restore_finished() { state_ = SessionState::pre_restored; }
  void post_restore_started() { state_ = SessionState::post_restoring; }
  void post_restore_finished() { state_ = SessionState::restored; }

  /// A call of the requester that uses the set begins or ends; the timer stands still in between.
  void call_began() { deadline_.reset(); }
  void call_ended(TimePoint now, SessionCall call, bool good);

  /// When the sequence timer ends the set; none while it does not run.
  [[nodiscard]] std::optional<TimePoint> deadline() const noexcept { return deadline_; }

  [[nodiscard]] SessionState state() const noexcept { return state_; }
  [[nodiscard]] std::uint32_t context() const noexcept { return context_; }
  [[nodiscard]] bool with_writers() const noexcept { return has_writers(context_); }
  /// Between StartSnapshotSet and the end of DoSnapshotSet.
  [[nodiscard]] bool holds_set() const noexcept;
  [[nodiscard]] bool is_restore() const noexcept;

 private:
  void fail_session();

  Limits limits_;
  SessionState state_ = SessionState::created;
  std::uint32_t context_ = context::kBackup;
  bool context_set_ = false;
  bool slot_requested_ = false;  // StartSnapshotSet waits in the queue.
  std::optional<TimePoint> deadline_;
};

}  // namespace umbra::coord
