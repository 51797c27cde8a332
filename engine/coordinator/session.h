// SPDX-License-Identifier: Apache-2.0
//
// The states of one backup session and which call is allowed in which: VSS's table, with bad_state
// for the rest. Pure.
//
//   created -> initialised -> gathering -> gathered -> set_open -> preparing -> prepared
//     -> creating -> snapshot_created -> completing -> finished
//   any -> failed (DoSnapshotSet failed, AbortBackup, the sequence timer)
//
// Contexts without writers go initialised -> set_open -> creating. A backup that needs no snapshot
// goes prepared -> completing.
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
  created,           // U
  initialised,       // BI
  gathering,         // BG
  gathered,          // BM
  set_open,          // BS
  preparing,         // BQ
  prepared,          // BP
  creating,          // BC
  snapshot_created,  // BD
  completing,        // BackupComplete runs.
  finished,          // BF
  failed,            // BX
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
};
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

  /// Whether `call` may be made now. Errors: bad_state (names call and state).
  [[nodiscard]] Result<Permission> check(SessionCall call) const;

  /// Errors: unsupported_context (not one of VSS's contexts with attributes that may be added).
  [[nodiscard]] Status set_context(std::uint32_t context);

  // What happened. Each belongs to a call that check() allowed.
  void initialised() { state_ = SessionState::initialised; }
  void gather_started() { state_ = SessionState::gathering; }
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
