// SPDX-License-Identifier: Apache-2.0

#include "engine/coordinator/snapshot_set.h"

#include <algorithm>
#include <array>
#include <utility>

#include "engine/platform/assert.h"
#include "engine/platform/log.h"

namespace umbra::coord {
namespace {

constexpr std::array kFreezeOrder{ApplicationLevel::front_end, ApplicationLevel::back_end,
                                  ApplicationLevel::system, ApplicationLevel::system_rm};

// Thaw goes the other way round. An unknown level freezes first and thaws last, like front-end.
ApplicationLevel level_at(WriterEvent event, std::size_t index) {
  return event == WriterEvent::freeze ? kFreezeOrder[index]
                                      : kFreezeOrder[kFreezeOrder.size() - 1 - index];
}

bool at_level(const SessionWriter& writer, ApplicationLevel level) {
  const auto own =
      writer.level == ApplicationLevel::unknown ? ApplicationLevel::front_end : writer.level;
  return own == level;
}

bool in_hold(Phase phase) {
  return phase == Phase::hold || phase == Phase::flush_and_hold || phase == Phase::commit ||
         phase == Phase::release;
}

std::string in_phase(std::string_view text, Phase phase) {
  return std::string(text) + ", phase " + std::string(name(phase));
}

// The contract's list (umbra/provider.h), and what single calls name themselves.
bool is_providers_code(Errc code) {
  switch (code) {
    case Errc::out_of_memory:
    case Errc::invalid_argument:
    case Errc::access_denied:
    case Errc::bad_state:
    case Errc::object_not_found:
    case Errc::object_already_exists:
    case Errc::insufficient_storage:
    case Errc::volume_not_supported:
    case Errc::volume_not_supported_by_provider:
    case Errc::maximum_number_of_snapshots_reached:
    case Errc::maximum_number_of_volumes_reached:
    case Errc::provider_veto:
    case Errc::flush_writes_timeout:
    case Errc::hold_writes_timeout:
    case Errc::nested_volume_limit:
    case Errc::snapshot_lost:
    case Errc::volume_in_use:
    case Errc::freeze_failed:
    case Errc::writererror_timeout:
    case Errc::autorecovery_failed:
    case Errc::revert_in_progress:
    case Errc::break_revert_id_failed:
    case Errc::cannot_revert_diskid:
    // Not ours: a provider may have a bound of them, lose a volume, or have to wait for a start.
    case Errc::maximum_diffarea_associations_reached:
    case Errc::revert_volume_lost:
    case Errc::reboot_required:
    case Errc::unsupported_context: return true;
    default: return false;
  }
}

}  // namespace

std::string_view name(Phase phase) noexcept {
  switch (phase) {
    case Phase::idle: return "idle";
    case Phase::end_prepare: return "end_prepare";
    case Phase::prepare_for_snapshot: return "prepare_for_snapshot";
    case Phase::freeze: return "freeze";
    case Phase::pre_commit: return "pre_commit";
    case Phase::hold: return "hold";
    case Phase::flush_and_hold: return "flush_and_hold";
    case Phase::commit: return "commit";
    case Phase::release: return "release";
    case Phase::post_commit: return "post_commit";
    case Phase::thaw: return "thaw";
    case Phase::pre_final_commit: return "pre_final_commit";
    case Phase::post_snapshot: return "post_snapshot";
    case Phase::post_final_commit: return "post_final_commit";
    case Phase::confirm: return "confirm";
    case Phase::aborting: return "aborting";
    case Phase::done: return "done";
  }
  UMBRA_UNREACHABLE();
}

std::string_view name(ProviderCall call) noexcept {
  switch (call) {
    case ProviderCall::end_prepare_snapshots: return "end_prepare_snapshots";
    case ProviderCall::pre_commit_snapshots: return "pre_commit_snapshots";
    case ProviderCall::flush_and_hold: return "flush_and_hold";
    case ProviderCall::commit_snapshots: return "commit_snapshots";
    case ProviderCall::release_hold: return "release_hold";
    case ProviderCall::flush_commit_release: return "flush_commit_release";
    case ProviderCall::post_commit_snapshots: return "post_commit_snapshots";
    case ProviderCall::pre_final_commit_snapshots: return "pre_final_commit_snapshots";
    case ProviderCall::post_final_commit_snapshots: return "post_final_commit_snapshots";
    case ProviderCall::confirm_set: return "confirm_set";
    case ProviderCall::complete_set: return "complete_set";
    case ProviderCall::abort_snapshots: return "abort_snapshots";
    case ProviderCall::delete_set: return "delete_snapshots";
  }
  UMBRA_UNREACHABLE();
}

std::string_view describe(StopCause cause) noexcept {
  switch (cause) {
    case StopCause::cancel: return "cancelled by the requester";
    case StopCause::requester_gone: return "the requester's connection ended";
    case StopCause::abort_backup: return "aborted by the requester";
    case StopCause::administrator: return "aborted by an administrator";
    case StopCause::sequence_timer: return "the requester made no call for too long";
    case StopCause::shutdown: return "umbrad is shutting down";
  }
  UMBRA_UNREACHABLE();
}

Error map_provider_error(std::string_view provider, std::string_view call, const Error& error) {
  std::string context = "provider '" + printable(provider) + "', " + std::string(call);
  if (is_providers_code(error.code)) {
    if (!error.context.empty()) context += ": " + printable(error.context, kPeerMessageBytesMax);
    return {error.code, std::move(context)};
  }
  context += " answered " + printable(error.to_string(), kPeerMessageBytesMax);
  return {Errc::unexpected_provider_error, std::move(context)};
}

SnapshotSet::SnapshotSet(SetPlan plan, const Limits& limits)
    : plan_(std::move(plan)),
      limits_(limits),
      writer_tracks_(plan_.writers.size()),
      provider_tracks_(plan_.providers.size()) {
  for (std::size_t w = 0; w < plan_.writers.size(); ++w)
    writer_tracks_[w].prepare_sent = plan_.writers[w].prepare_sent;
}

void SnapshotSet::start(TimePoint now) {
  UMBRA_ASSERT(phase_ == Phase::idle);
  enter(now, Phase::end_prepare);
  // A writer that failed at PrepareForBackup, or is gone since, fails the set before anything is
  // asked of a provider.
  for (std::size_t w = 0; w < plan_.writers.size() && phase_ != Phase::aborting; ++w)
    if (plan_.writers[w].lost || plan_.writers[w].failure != Errc::ok) writer_failed(now, w);
  if (phase_ == Phase::end_prepare) issue_phase(now);
  advance(now);
}

// --- moving through the phases ----------------------------------------------------------------

void SnapshotSet::enter(TimePoint now, Phase phase) {
  if (!timeline_.empty()) timeline_.back().end = now;
  phase_ = phase;
  if (phase != Phase::done) timeline_.push_back({phase, now, now});
}

Phase SnapshotSet::next_phase() const noexcept {
  switch (phase_) {
    case Phase::pre_commit:
      // One call where one provider owns all volumes, so that no round trip lies inside the hold.
      return plan_.providers.size() > 1 ? Phase::flush_and_hold : Phase::hold;
    case Phase::hold: return Phase::post_commit;
    case Phase::confirm:
    case Phase::aborting: return Phase::done;
    default: return static_cast<Phase>(static_cast<std::uint8_t>(phase_) + 1);
  }
}

void SnapshotSet::advance(TimePoint now) {
  while (phase_ != Phase::idle && phase_ != Phase::done && phase_complete(now)) {
    if (phase_ == Phase::commit || phase_ == Phase::hold) committed_ = true;
    if (stop_pending_ && !in_hold(next_phase())) {
      begin_abort(now, *std::exchange(stop_pending_, std::nullopt));
      continue;
    }
    if (phase_ == Phase::confirm && (refused_ || doubted_)) {
      conclude_confirm(now);
      continue;
    }
    if (undoing_) {
      undoing_ = false;
      if (!in_doubt_) abort_providers(now);
      continue;
    }
    const Phase next = next_phase();
    if (next == Phase::done) {
      finish(now);
      return;
    }
    enter(now, next);
    issue_phase(now);
  }
}

// True when the phase has nothing left to wait for; in freeze and thaw it moves to the next level
// on the way.
bool SnapshotSet::phase_complete(TimePoint now) {
  switch (phase_) {
    case Phase::prepare_for_snapshot: return !waits_for(WriterEvent::prepare_for_snapshot);
    case Phase::post_snapshot: return !waits_for(WriterEvent::post_snapshot);
    case Phase::freeze:
      while (!waits_for(WriterEvent::freeze)) {
        if (++level_ >= kFreezeOrder.size()) return true;
        send_level(now, WriterEvent::freeze);
      }
      return false;
    case Phase::thaw:
      while (level_ < kFreezeOrder.size() && (!level_waits() || now >= level_deadline_)) {
        if (++level_ < kFreezeOrder.size()) send_level(now, WriterEvent::thaw);
      }
      return !waits_for(WriterEvent::thaw);
    case Phase::confirm: return !confirm_waits();
    case Phase::aborting:
      return !providers_pending() && (undoing_ || !waits_for(WriterEvent::abort));
    default: return !providers_pending();
  }
}

void SnapshotSet::issue_phase(TimePoint now) {
  switch (phase_) {
    case Phase::end_prepare:
      return call_all(now, ProviderCall::end_prepare_snapshots, limits_.end_prepare);
    case Phase::prepare_for_snapshot: return send_all(now, WriterEvent::prepare_for_snapshot);
    case Phase::freeze: level_ = 0; return send_level(now, WriterEvent::freeze);
    case Phase::pre_commit:
      return call_all(now, ProviderCall::pre_commit_snapshots, limits_.pre_commit);
    case Phase::hold: return call_hold(now, ProviderCall::flush_commit_release);
    case Phase::flush_and_hold: return call_hold(now, ProviderCall::flush_and_hold);
    case Phase::commit:
      if (check_windows(now))
        call_all(now, ProviderCall::commit_snapshots, limits_.hold_lease + limits_.provider_grace);
      return;
    case Phase::release:
      return call_all(now, ProviderCall::release_hold, limits_.hold_lease + limits_.provider_grace);
    case Phase::post_commit:
      return call_all(now, ProviderCall::post_commit_snapshots, limits_.post_commit);
    case Phase::thaw: level_ = 0; return send_level(now, WriterEvent::thaw);
    case Phase::pre_final_commit:
      return call_all(now, ProviderCall::pre_final_commit_snapshots, limits_.final_commit);
    case Phase::post_snapshot: return send_all(now, WriterEvent::post_snapshot);
    case Phase::post_final_commit:
      return call_all(now, ProviderCall::post_final_commit_snapshots, limits_.final_commit);
    case Phase::confirm:
      confirm_sent_ = true;
      return call_all(now, ProviderCall::confirm_set, limits_.confirm);
    case Phase::idle:
    case Phase::aborting:
    case Phase::done: break;
  }
  UMBRA_UNREACHABLE();
}

// --- what goes out ----------------------------------------------------------------------------

void SnapshotSet::send(TimePoint now, std::size_t w, WriterEvent event) {
  auto& track = writer_tracks_[w];
  milliseconds limit = answer_limit(event, limits_);
  if (event == WriterEvent::freeze) {
    limit = std::min(limit, plan_.writers[w].freeze_window);
    track.frozen = true;
    track.window_end = now + limit;
  }
  if (event == WriterEvent::prepare_for_snapshot) track.prepare_sent = true;
  if (event == WriterEvent::abort) {
    track.abort_sent = true;
    track.frozen = false;
  }
  track.pending = event;
  track.deadline = now + (event == WriterEvent::abort ? limits_.abort_wait : limit);
  actions_.emplace_back(SendToWriter{w, event, limit});
}

void SnapshotSet::send_all(TimePoint now, WriterEvent event) {
  for (std::size_t w = 0; w < plan_.writers.size(); ++w)
    if (takes(plan_.writers[w], event) && !writer_tracks_[w].abort_sent) send(now, w, event);
}

void SnapshotSet::send_level(TimePoint now, WriterEvent event) {
  level_deadline_ = now + limits_.thaw_level;
  const auto level = level_at(event, level_);
  for (std::size_t w = 0; w < plan_.writers.size(); ++w) {
    const auto& writer = plan_.writers[w];
    if (at_level(writer, level) && takes(writer, event) && !writer_tracks_[w].abort_sent)
      send(now, w, event);
  }
}

bool SnapshotSet::waits_for(WriterEvent event) const noexcept {
  return std::any_of(writer_tracks_.begin(), writer_tracks_.end(),
                     [&](const WriterTrack& track) { return track.pending == event; });
}

// Whether a writer of the level that was sent Thaw last has not answered it.
bool SnapshotSet::level_waits() const noexcept {
  const auto level = level_at(WriterEvent::thaw, level_);
  for (std::size_t w = 0; w < plan_.writers.size(); ++w)
    if (writer_tracks_[w].pending == WriterEvent::thaw && at_level(plan_.writers[w], level))
      return true;
  return false;
}

void SnapshotSet::call(TimePoint now, std::size_t p, ProviderCall call, milliseconds limit,
                       const HoldLimits& limits) {
  provider_tracks_[p].pending = call;
  provider_tracks_[p].deadline = now + limit;
  actions_.emplace_back(CallProvider{p, call, limits, limit});
}

void SnapshotSet::call_all(TimePoint now, ProviderCall kind, milliseconds limit) {
  for (std::size_t p = 0; p < plan_.providers.size(); ++p) call(now, p, kind, limit);
}

// Refuses if a window may have ended; true if the commit may be asked for.
bool SnapshotSet::check_windows(TimePoint now) {
  for (std::size_t w = 0; w < plan_.writers.size(); ++w) {
    if (!writer_tracks_[w].frozen || now + limits_.hand_over < writer_tracks_[w].window_end)
      continue;
    window_ended(now, w);
    return false;
  }
  return true;
}

void SnapshotSet::call_hold(TimePoint now, ProviderCall kind) {
  if (plan_.providers.empty() || !check_windows(now)) return;
  Duration window = limits_.freeze_window;
  for (const auto& track : writer_tracks_)
    if (track.frozen) window = std::min<Duration>(window, track.window_end - now);
  HoldLimits limits;
  limits.window = std::chrono::floor<milliseconds>(window) - limits_.hand_over;
  limits.flush = std::min(limits_.hold_flush, limits.window);
  limits.hold = limits_.hold_lease;
  const auto limit = limits.flush + limits.hold + limits_.provider_grace;
  for (std::size_t p = 0; p < plan_.providers.size(); ++p) call(now, p, kind, limit, limits);
}

bool SnapshotSet::providers_pending() const noexcept {
  return std::any_of(provider_tracks_.begin(), provider_tracks_.end(),
                     [](const ProviderTrack& track) { return track.pending.has_value(); });
}

// --- events -----------------------------------------------------------------------------------

bool SnapshotSet::writer_replied(TimePoint now, std::size_t w, WriterEvent event,
                                 const WriterAnswer& answer) {
  UMBRA_ASSERT(w < writer_tracks_.size());
  auto& track = writer_tracks_[w];
  if (phase_ == Phase::done || track.pending != event) return false;
  // A deadline that has passed counts even if its timer comes second: a late Thaw must not turn an
  // expired window into a good one.
  check_deadlines(now);
  if (phase_ == Phase::done || track.pending != event) {
    advance(now);
    return false;
  }
  track.pending.reset();
  if (event == WriterEvent::thaw) track.frozen = false;
  apply_answer(plan_.writers[w], event, answer);
  if (event != WriterEvent::abort && (!answer.ok || answer.failure != Errc::ok))
    writer_failed(now, w);
  advance(now);
  return true;
}

void SnapshotSet::writer_lost(TimePoint now, std::size_t w) {
  UMBRA_ASSERT(w < writer_tracks_.size());
  auto& track = writer_tracks_[w];
  auto& writer = plan_.writers[w];
  if (phase_ == Phase::done || writer.lost) return;
  const bool had_failed = writer.failure != Errc::ok;
  const bool finished = writer.state == WriterState::waiting_for_backup_complete;
  apply_lost(writer, track.pending, name(phase_));
  track.pending.reset();
  track.frozen = false;
  if (!had_failed && !finished) writer_failed(now, w);
  advance(now);
}

void SnapshotSet::writer_window_expired(TimePoint now, std::size_t w) {
  UMBRA_ASSERT(w < writer_tracks_.size());
  if (phase_ == Phase::done || !writer_tracks_[w].frozen) return;
  window_ended(now, w);
  advance(now);
}

bool SnapshotSet::provider_replied(TimePoint now, std::size_t p, ProviderCall kind,
                                   const Result<HoldReport>& report) {
  UMBRA_ASSERT(p < provider_tracks_.size());
  auto& track = provider_tracks_[p];
  if (phase_ == Phase::done || track.pending != kind) return false;
  check_deadlines(now);
  if (phase_ == Phase::done || track.pending != kind) {
    advance(now);
    return false;
  }
  track.pending.reset();
  if (phase_ == Phase::aborting) {
    if (undoing_ && !report) in_doubt_ = true;  // What it created may be there still.
    if (kind == ProviderCall::abort_snapshots && confirm_sent_)
      call(now, p, ProviderCall::delete_set, limits_.abort_wait);
  } else if (phase_ == Phase::confirm) {
    confirm_answered(p, kind, report.map([](const HoldReport&) {}));
  } else if (!report) {
    provider_failed(now, p, report.error());
  } else {
    hold_.flush = std::max(hold_.flush, report->flush);
    hold_.freeze = std::max(hold_.freeze, report->freeze);
    hold_.gate = std::max(hold_.gate, report->gate);
  }
  advance(now);
  return true;
}

void SnapshotSet::provider_lost(TimePoint now, std::size_t p) {
  UMBRA_ASSERT(p < provider_tracks_.size());
  auto& track = provider_tracks_[p];
  if (phase_ == Phase::done || track.lost) return;
  track.lost = true;
  const bool asked = track.pending.has_value();
  track.pending.reset();
  if (phase_ == Phase::aborting) {
    if (undoing_) {
      if (asked) in_doubt_ = true;  // What it had created may be there still: the rest must stay.
    } else if (!in_doubt_) {
      untold_.push_back(p);
    }
  } else if (phase_ == Phase::confirm) {
    track.away = asked;
  } else {
    provider_failed(
        now, p,
        {Errc::unexpected_provider_error,
         "provider '" + printable(plan_.providers[p].name) + "': the connection was lost"});
  }
  advance(now);
}

void SnapshotSet::provider_returned(TimePoint now, std::size_t p) {
  UMBRA_ASSERT(p < provider_tracks_.size());
  auto& track = provider_tracks_[p];
  if (phase_ != Phase::confirm || !track.lost) return;
  track.lost = false;
  if (!std::exchange(track.away, false)) return;
  call(now, p, ProviderCall::complete_set,
       std::max(std::chrono::ceil<milliseconds>(track.deadline - now), milliseconds{1}));
}

void SnapshotSet::stop(TimePoint now, StopCause cause, std::string_view reason) {
  if (phase_ == Phase::done || phase_ == Phase::aborting || phase_ == Phase::confirm) return;
  Outcome outcome;
  outcome.code = Errc::async_cancelled;
  outcome.context = in_phase(describe(cause), phase_);
  if (!reason.empty()) outcome.context += ": " + printable(reason);
  outcome.phase = phase_;
  if (cause == StopCause::cancel && in_hold(phase_)) {
    stop_pending_ = std::move(outcome);
    return;
  }
  begin_abort(now, std::move(outcome));
  advance(now);
}

void SnapshotSet::deadline_passed(TimePoint now) {
  check_deadlines(now);
  advance(now);
}

void SnapshotSet::check_deadlines(TimePoint now) {
  if (phase_ == Phase::idle || phase_ == Phase::done) return;
  for (std::size_t w = 0; w < writer_tracks_.size(); ++w) {
    auto& track = writer_tracks_[w];
    if (track.frozen && track.window_end <= now && track.pending != WriterEvent::freeze) {
      window_ended(now, w);
    } else if (track.pending && track.deadline <= now) {
      const auto event = *std::exchange(track.pending, std::nullopt);
      const auto limit = event == WriterEvent::freeze
                             ? std::min(limits_.freeze_window, plan_.writers[w].freeze_window)
                             : answer_limit(event, limits_);
      if (event == WriterEvent::abort) continue;  // Its late answer interests nobody.
      apply_failure(plan_.writers[w], event, Errc::writererror_timeout,
                    "no answer in " + std::to_string(limit.count()) + " ms");
      writer_failed(now, w);
    }
  }
  for (std::size_t p = 0; p < provider_tracks_.size(); ++p) {
    auto& track = provider_tracks_[p];
    if ((track.pending || track.away) && track.deadline <= now) provider_timed_out(now, p);
  }
}

std::optional<TimePoint> SnapshotSet::next_deadline() const {
  if (phase_ == Phase::idle || phase_ == Phase::done) return std::nullopt;
  std::optional<TimePoint> next;
  const auto take = [&](TimePoint time) { next = next ? std::min(*next, time) : time; };
  for (const auto& track : writer_tracks_) {
    if (track.pending) take(track.deadline);
    if (track.frozen) take(track.window_end);
  }
  for (const auto& track : provider_tracks_)
    if (track.pending || track.away) take(track.deadline);
  if (phase_ == Phase::thaw && level_ < kFreezeOrder.size()) take(level_deadline_);
  return next;
}

// --- failures ---------------------------------------------------------------------------------

bool SnapshotSet::binds(const SessionWriter& writer) const noexcept {
  switch (plan_.policy) {
    case WriterPolicy::none: return false;
    case WriterPolicy::involved: return writer.involved;
    case WriterPolicy::all: return true;
    case WriterPolicy::list:
      return std::find(plan_.policy_list.begin(), plan_.policy_list.end(), writer.class_id) !=
             plan_.policy_list.end();
  }
  UMBRA_UNREACHABLE();
}

// The writer's state says what happened. One that failed at Freeze or Thaw gets Abort; one that
// only reported a failure ("others go on") stays in the set if the policy lets it.
void SnapshotSet::writer_failed(TimePoint now, std::size_t w) {
  const auto& writer = plan_.writers[w];
  if (phase_ == Phase::aborting || phase_ == Phase::done) return;
  if (!writer.lost && !writer_tracks_[w].abort_sent &&
      (writer.state == WriterState::failed_at_freeze ||
       writer.state == WriterState::failed_at_thaw))
    send(now, w, WriterEvent::abort);
  if (!binds(writer) || phase_ == Phase::confirm) return;
  begin_abort(now, {writer.failure, failure_context(writer), phase_, w, std::nullopt});
}

void SnapshotSet::window_ended(TimePoint now, std::size_t w) {
  auto& writer = plan_.writers[w];
  auto& track = writer_tracks_[w];
  const auto window = std::min(limits_.freeze_window, writer.freeze_window);
  const bool promised = track.pending != WriterEvent::freeze;  // It answered Freeze.
  track.pending.reset();
  apply_failure(writer, WriterEvent::freeze, Errc::writererror_timeout,
                "the freeze window of " + std::to_string(window.count()) + " ms ended in phase " +
                    std::string(name(phase_)));
  writer_failed(now, w);
  track.frozen = false;
  if (promised && !committed_)  // The copy would be torn; see the top of the header.
    begin_abort(now, {writer.failure, failure_context(writer), phase_, w, std::nullopt});
}

void SnapshotSet::provider_failed(TimePoint now, std::size_t p, const Error& error) {
  begin_abort(now, {error.code, in_phase(error.context, phase_), phase_, std::nullopt, p});
}

void SnapshotSet::provider_timed_out(TimePoint now, std::size_t p) {
  auto& track = provider_tracks_[p];
  const bool away = std::exchange(track.away, false);
  const auto kind = std::exchange(track.pending, std::nullopt).value_or(ProviderCall::confirm_set);
  if (phase_ == Phase::aborting) {
    if (undoing_) {
      in_doubt_ = true;
    } else {
      untold_.push_back(p);
    }
    return;
  }
  if (phase_ == Phase::confirm) {
    const char* what = away ? ": the connection was lost" : ": no answer in time";
    Outcome outcome{Errc::unexpected_provider_error,
                    in_phase("provider '" + printable(plan_.providers[p].name) + "', " +
                                 std::string(name(kind)) + what,
                             phase_),
                    phase_, std::nullopt, p};
    if (!doubted_) doubted_ = std::move(outcome);
    return;
  }
  auto code = Errc::unexpected_provider_error;
  if (kind == ProviderCall::flush_and_hold) code = Errc::flush_writes_timeout;
  if (kind == ProviderCall::commit_snapshots || kind == ProviderCall::release_hold ||
      kind == ProviderCall::flush_commit_release)
    code = Errc::hold_writes_timeout;
  provider_failed(now, p,
                  {code, "provider '" + printable(plan_.providers[p].name) + "', " +
                             std::string(name(kind)) + ": no answer in time"});
}

// --- the end ----------------------------------------------------------------------------------

void SnapshotSet::begin_abort(TimePoint now, Outcome outcome) {
  if (phase_ == Phase::aborting || phase_ == Phase::done) return;
  outcome_ = std::move(outcome);
  stop_pending_.reset();
  enter(now, Phase::aborting);
  if (confirm_sent_ && !in_doubt_) undo_created(now);
  // First: held writes must flow again before writers write.
  if (!undoing_ && !in_doubt_) abort_providers(now);
  for (std::size_t w = 0; w < plan_.writers.size(); ++w) {
    const auto& writer = plan_.writers[w];
    auto& track = writer_tracks_[w];
    if (writer.lost || track.abort_sent) continue;
    // Never to a writer that has finished PostSnapshot; BackupShutdown ends its session.
    const bool finished = writer.state == WriterState::waiting_for_backup_complete;
    track.pending.reset();
    if (track.prepare_sent && !finished) send(now, w, WriterEvent::abort);
  }
}

bool SnapshotSet::confirm_waits() const noexcept {
  return std::any_of(provider_tracks_.begin(), provider_tracks_.end(),
                     [](const ProviderTrack& track) { return track.pending || track.away; });
}

void SnapshotSet::confirm_answered(std::size_t p, ProviderCall kind, const Status& status) {
  provider_tracks_[p].confirmed = status.has_value();
  if (status) return;
  Outcome outcome{status.error().code, in_phase(status.error().context, phase_), phase_,
                  std::nullopt, p};
  // A provider that is back and has nothing of the set was told by nobody to discard it: it had not
  // created it when it died. Any other answer leaves open what is there.
  const bool known =
      kind == ProviderCall::confirm_set || status.error().code == Errc::object_not_found;
  auto& first = known ? refused_ : doubted_;
  if (!first) first = std::move(outcome);
}

void SnapshotSet::conclude_confirm(TimePoint now) {
  in_doubt_ = doubted_.has_value();
  Outcome outcome = *std::exchange(in_doubt_ ? doubted_ : refused_, std::nullopt);
  begin_abort(now, std::move(outcome));
}

// A crash while this goes on must not leave a created member beside one that is gone: prepared ones
// can still roll forward, so they go last.
void SnapshotSet::undo_created(TimePoint now) {
  for (std::size_t p = 0; p < provider_tracks_.size(); ++p) {
    if (!provider_tracks_[p].confirmed) continue;
    undoing_ = true;
    if (provider_tracks_[p].lost) {
      in_doubt_ = true;
    } else {
      call(now, p, ProviderCall::delete_set, limits_.abort_wait);
    }
  }
}

void SnapshotSet::abort_providers(TimePoint now) {
  for (std::size_t p = 0; p < provider_tracks_.size(); ++p) {
    if (provider_tracks_[p].confirmed) continue;  // Deleted already.
    if (provider_tracks_[p].lost) {
      untold_.push_back(p);
    } else {
      call(now, p, ProviderCall::abort_snapshots, limits_.abort_wait);
    }
  }
}

void SnapshotSet::finish(TimePoint now) {
  // Also where the doubt came up while it was being undone: who hears only of a failure would
  // believe that nothing is there.
  if (in_doubt_) outcome_.context += "; the set is in doubt, see `umbra list shadows --incomplete`";
  enter(now, Phase::done);
  for (auto& track : writer_tracks_) track.pending.reset();
  actions_.emplace_back(ReportOutcome{});
  actions_.emplace_back(ReleaseSlot{});
}

std::vector<Action> SnapshotSet::take_actions() { return std::exchange(actions_, {}); }

std::string SnapshotSet::fingerprint(TimePoint now) const {
  std::string text(name(phase_));
  const auto number = [&](auto value) { text += ' ' + std::to_string(value); };
  const auto time = [&](TimePoint value) {
    number(std::chrono::duration_cast<milliseconds>(value - now).count());
  };
  number(level_);
  if (phase_ == Phase::thaw) time(level_deadline_);
  number((committed_ ? 1 : 0) + (confirm_sent_ ? 2 : 0) + (stop_pending_ ? 4 : 0) +
         (in_doubt_ ? 8 : 0) + (undoing_ ? 16 : 0) + (refused_ ? 32 : 0) + (doubted_ ? 64 : 0));
  number(static_cast<std::uint32_t>(outcome_.code));
  for (std::size_t w = 0; w < writer_tracks_.size(); ++w) {
    const auto& track = writer_tracks_[w];
    const auto& writer = plan_.writers[w];
    text += " w";
    number(static_cast<int>(writer.state));
    number(static_cast<std::uint32_t>(writer.failure));
    number((track.frozen ? 1 : 0) + (track.abort_sent ? 2 : 0) + (track.prepare_sent ? 4 : 0) +
           (writer.lost ? 8 : 0));
    number(track.pending ? static_cast<int>(*track.pending) : -1);
    if (track.pending) time(track.deadline);
    if (track.frozen) time(track.window_end);
  }
  for (const auto& track : provider_tracks_) {
    text += " p";
    number(track.pending ? static_cast<int>(*track.pending) : -1);
    number((track.lost ? 1 : 0) + (track.away ? 2 : 0) + (track.confirmed ? 4 : 0));
    if (track.pending || track.away) time(track.deadline);
  }
  return text;
}

}  // namespace umbra::coord
