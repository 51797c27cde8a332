// SPDX-License-Identifier: Apache-2.0
//
// The state of one writer in one session: VSS's table of transitions, event x answer -> state and
// failure code. Pure. Everybody who sends events to writers goes through it, so that a status means
// the same whoever looks.
//
//   event               from                         ok ->                        failed ->
//   prepare_for_backup  stable                       stable                       7
//   prepare_for_snapshot stable                      waiting_for_freeze           8
//   freeze              waiting_for_freeze           waiting_for_thaw             9
//   thaw                waiting_for_thaw             waiting_for_post_snapshot    10
//   post_snapshot       waiting_for_post_snapshot    waiting_for_backup_complete  11
//   backup_complete     waiting_for_backup_complete  stable                       12
//   abort               any                          stable; a failed state stays
//   backup_shutdown     any                          stable; a failed state stays 15
//   identify            any                          unchanged                    6
//   pre_restore         stable                       stable                       13
//   post_restore        stable                       stable                       14
//
// A failed writer gets no later phase event of the session. Its process' end is failure
// writer_not_responding; the state stays what it was unless an event was unanswered.

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "umbra/ids.h"
#include "umbra/result.h"
#include "umbra/vss.h"

#include "engine/coordinator/limits.h"

namespace umbra::coord {

enum class WriterEvent : std::uint8_t {
  identify,
  prepare_for_backup,
  prepare_for_snapshot,
  freeze,
  thaw,
  post_snapshot,
  abort,
  backup_complete,
  backup_shutdown,
  pre_restore,
  post_restore,
  restore_end,  // No post_restore will come: the session may be forgotten. Not VSS's.
};
/// As on the wire after "writer.", e.g. "prepare_for_snapshot". Static storage.
[[nodiscard]] std::string_view name(WriterEvent event) noexcept;

/// How long a writer may take to answer. freeze: the writer's own window, capped.
[[nodiscard]] milliseconds answer_limit(WriterEvent event, const Limits& limits) noexcept;

struct WriterAnswer {
  bool ok = true;
  Errc failure = Errc::ok;  ///< With ok: "I failed, others go on".
  std::uint32_t application_code = 0;
  std::string message;
};

/// One writer as a session sees it.
struct SessionWriter {
  WriterInstanceId instance_id;
  WriterClassId class_id;
  std::string name;
  ApplicationLevel level = ApplicationLevel::front_end;
  milliseconds freeze_window = kFreezeWindowMax;
  bool involved = false;  ///< Has a selected component on a volume of the set.

  WriterState state = WriterState::stable;
  Errc failure = Errc::ok;
  std::uint32_t application_code = 0;
  std::string message;       ///< The writer's words, or ours; cut to kPeerMessageBytesMax.
  std::string failed_phase;  ///< Name of the event at which `failure` was set.

  bool prepare_sent = false;  ///< PrepareForBackup went out: Abort must follow if things go wrong.
  bool pre_restored = false;  ///< Answered PreRestore well; the restore is not over for it.
  bool lost = false;          ///< Its connection is gone.
};

/// The state that a failure at `event` leads to.
[[nodiscard]] WriterState failed_state(WriterEvent event) noexcept;
/// The state that a good answer to `event` leads to.
[[nodiscard]] WriterState good_state(WriterEvent event, WriterState before) noexcept;

/// Whether the writer takes part in `event` at all, in its present state.
[[nodiscard]] bool takes(const SessionWriter& writer, WriterEvent event) noexcept;

/// Applies an answer. True if the writer is still with us, false if it failed. A veto without a
/// writer's code counts as nonretryable.
bool apply_answer(SessionWriter& writer, WriterEvent event, const WriterAnswer& answer);
/// Applies a failure that the writer did not report itself (time-out, lost connection).
void apply_failure(SessionWriter& writer, WriterEvent event, Errc failure, std::string message);
/// The connection is gone; `unanswered` is the event that was under way, if any, `phase` what the
/// session was doing.
void apply_lost(SessionWriter& writer, std::optional<WriterEvent> unanswered,
                std::string_view phase);

/// "writer 'ledger', phase freeze: the writer's words".
[[nodiscard]] std::string failure_context(const SessionWriter& writer);

}  // namespace umbra::coord
