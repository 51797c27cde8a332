// SPDX-License-Identifier: Apache-2.0

#include "engine/coordinator/writer_state.h"

#include <utility>

#include "engine/platform/assert.h"
#include "engine/platform/log.h"

namespace umbra::coord {
namespace {

void record(SessionWriter& writer, WriterEvent event, Errc failure, std::uint32_t application_code,
            std::string message) {
  writer.failure = failure;
  writer.application_code = application_code;
  if (message.size() > kPeerMessageBytesMax) message.resize(kPeerMessageBytesMax);
  writer.message = std::move(message);
  writer.failed_phase = name(event);
}

// Codes that a writer may set; VSS generates the others itself.
bool is_writers_code(Errc code) {
  switch (code) {
    case Errc::writererror_inconsistentsnapshot:
    case Errc::writererror_outofresources:
    case Errc::writererror_timeout:
    case Errc::writererror_retryable:
    case Errc::writererror_nonretryable:
    case Errc::writererror_partial_failure:
    case Errc::writererror_recovery_failed:
    case Errc::writer_status_not_available: return true;
    default: return false;
  }
}

}  // namespace

std::string_view name(WriterEvent event) noexcept {
  switch (event) {
    case WriterEvent::identify: return "identify";
    case WriterEvent::prepare_for_backup: return "prepare_for_backup";
    case WriterEvent::prepare_for_snapshot: return "prepare_for_snapshot";
    case WriterEvent::freeze: return "freeze";
    case WriterEvent::thaw: return "thaw";
    case WriterEvent::post_snapshot: return "post_snapshot";
    case WriterEvent::abort: return "abort";
    case WriterEvent::backup_complete: return "backup_complete";
    case WriterEvent::backup_shutdown: return "backup_shutdown";
    case WriterEvent::pre_restore: return "pre_restore";
    case WriterEvent::post_restore: return "post_restore";
    case WriterEvent::restore_end: return "restore_end";
  }
  UMBRA_UNREACHABLE();
}

milliseconds answer_limit(WriterEvent event, const Limits& limits) noexcept {
  switch (event) {
    case WriterEvent::identify: return limits.identify;
    case WriterEvent::prepare_for_backup: return limits.prepare_for_backup;
    case WriterEvent::prepare_for_snapshot: return limits.prepare_for_snapshot;
    case WriterEvent::freeze: return limits.freeze_window;
    case WriterEvent::thaw: return limits.thaw;
    case WriterEvent::post_snapshot: return limits.post_snapshot;
    case WriterEvent::abort: return limits.abort;
    case WriterEvent::backup_complete: return limits.backup_complete;
    case WriterEvent::backup_shutdown:
    case WriterEvent::restore_end: return limits.backup_shutdown;
    case WriterEvent::pre_restore: return limits.pre_restore;
    case WriterEvent::post_restore: return limits.post_restore;
  }
  UMBRA_UNREACHABLE();
}

WriterState failed_state(WriterEvent event) noexcept {
  switch (event) {
    case WriterEvent::identify: return WriterState::failed_at_identify;
    case WriterEvent::prepare_for_backup: return WriterState::failed_at_prepare_backup;
    case WriterEvent::prepare_for_snapshot: return WriterState::failed_at_prepare_snapshot;
    case WriterEvent::freeze: return WriterState::failed_at_freeze;
    case WriterEvent::thaw: return WriterState::failed_at_thaw;
    case WriterEvent::post_snapshot: return WriterState::failed_at_post_snapshot;
    case WriterEvent::backup_complete: return WriterState::failed_at_backup_complete;
    case WriterEvent::pre_restore: return WriterState::failed_at_pre_restore;
    case WriterEvent::post_restore:
    case WriterEvent::restore_end: return WriterState::failed_at_post_restore;
    case WriterEvent::abort:
    case WriterEvent::backup_shutdown: return WriterState::failed_at_backup_shutdown;
  }
  UMBRA_UNREACHABLE();
}

WriterState good_state(WriterEvent event, WriterState before) noexcept {
  switch (event) {
    case WriterEvent::prepare_for_snapshot: return WriterState::waiting_for_freeze;
    case WriterEvent::freeze: return WriterState::waiting_for_thaw;
    case WriterEvent::thaw: return WriterState::waiting_for_post_snapshot;
    case WriterEvent::post_snapshot: return WriterState::waiting_for_backup_complete;
    case WriterEvent::prepare_for_backup:
    case WriterEvent::backup_complete:
    case WriterEvent::pre_restore:
    case WriterEvent::post_restore: return WriterState::stable;
    case WriterEvent::abort:
    case WriterEvent::restore_end:
    case WriterEvent::backup_shutdown: return is_failed(before) ? before : WriterState::stable;
    case WriterEvent::identify: return before;
  }
  UMBRA_UNREACHABLE();
}

bool takes(const SessionWriter& writer, WriterEvent event) noexcept {
  if (writer.lost) return false;
  switch (event) {
    case WriterEvent::identify:
    case WriterEvent::abort:
    case WriterEvent::backup_shutdown: return true;
    case WriterEvent::prepare_for_backup:
    case WriterEvent::prepare_for_snapshot:
    case WriterEvent::pre_restore: return writer.state == WriterState::stable;
    case WriterEvent::post_restore:
      return writer.pre_restored && writer.state == WriterState::stable;
    case WriterEvent::restore_end: return writer.pre_restored;
    case WriterEvent::freeze: return writer.state == WriterState::waiting_for_freeze;
    case WriterEvent::thaw: return writer.state == WriterState::waiting_for_thaw;
    case WriterEvent::post_snapshot: return writer.state == WriterState::waiting_for_post_snapshot;
    case WriterEvent::backup_complete:
      // Also from stable: a backup that needed no snapshot skips the set.
      return writer.prepare_sent && (writer.state == WriterState::waiting_for_backup_complete ||
                                     writer.state == WriterState::stable);
  }
  UMBRA_UNREACHABLE();
}

bool apply_answer(SessionWriter& writer, WriterEvent event, const WriterAnswer& answer) {
  const bool reported = answer.failure != Errc::ok;
  const Errc code =
      is_writers_code(answer.failure) ? answer.failure : Errc::writererror_nonretryable;
  if (event == WriterEvent::pre_restore) writer.pre_restored = answer.ok;
  if (event == WriterEvent::post_restore || event == WriterEvent::restore_end)
    writer.pre_restored = false;
  if (event == WriterEvent::abort ||
      event == WriterEvent::restore_end) {  // Cannot fail in a way anyone could act on.
    writer.state = good_state(event, writer.state);
    return !is_failed(writer.state);
  }
  if (!answer.ok) {
    if (!is_failed(writer.state)) {
      writer.state = failed_state(event);
      record(writer, event, code, answer.application_code, answer.message);
    }
    return false;
  }
  writer.state = good_state(event, writer.state);
  if (reported) record(writer, event, code, answer.application_code, answer.message);
  return true;
}

void apply_failure(SessionWriter& writer, WriterEvent event, Errc failure, std::string message) {
  if (is_failed(writer.state)) return;  // The first failure is the one that explains.
  if (event != WriterEvent::abort) writer.state = failed_state(event);
  record(writer, event, failure, 0, std::move(message));
}

void apply_lost(SessionWriter& writer, std::optional<WriterEvent> unanswered,
                std::string_view phase) {
  writer.lost = true;
  if (is_failed(writer.state)) return;
  if (unanswered && *unanswered != WriterEvent::abort) writer.state = failed_state(*unanswered);
  writer.failure = Errc::writer_not_responding;
  writer.application_code = 0;
  writer.message = "the connection was lost";
  writer.failed_phase = unanswered ? name(*unanswered) : phase;
}

std::string failure_context(const SessionWriter& writer) {
  std::string text = "writer '" + printable(writer.name) + "', phase " + writer.failed_phase;
  if (!writer.message.empty()) text += ": " + printable(writer.message, kPeerMessageBytesMax);
  return text;
}

}  // namespace umbra::coord
