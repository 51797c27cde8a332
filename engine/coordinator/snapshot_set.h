// SPDX-License-Identifier: Apache-2.0
//
// The phase machine of one snapshot set, from DoSnapshotSet to its end. Pure: events go in with the
// time they happened at, actions come out; no socket, clock, lock or wire bytes. A value: copying
// it copies the whole state, which is how the exhaustive test explores every order of events.
//
//   end_prepare -> prepare_for_snapshot -> freeze (front-end, back-end, system) -> pre_commit
//     -> hold (one provider) | flush_and_hold -> commit -> release (several) -> post_commit
//     -> thaw (system, back-end, front-end) -> pre_final_commit -> post_snapshot
//     -> post_final_commit -> confirm -> done
//   any of them -> aborting -> done
//
// What it guarantees, whatever writers, providers and the requester do, and in any order:
//   - Every writer that was sent Freeze and is still connected is sent Thaw or Abort.
//   - No commit is asked for once the window of a frozen writer may have ended; the smallest window
//     left travels with the hold, so that the provider can refuse too.
//   - No half sets. A failure before `confirm` aborts the set at every provider that is connected;
//     in `confirm` nothing is undone before every provider has said what it did, and then what is
//     created goes before what is only prepared: whoever dies in between leaves a set that rolls
//     forward or goes. A provider that is lost in `confirm` may come back within the call's limit
//     and is asked to complete the set; one that does not leaves the set in doubt: nothing is
//     undone any more, and settlement.h makes it whole or gone once everybody is back.
//   - Actions end with exactly one ReportOutcome and one ReleaseSlot, within the sum of `Limits`.
//   - Answers that nobody asked for (late, twice, of another phase) change nothing.
//
// What fails the set. A provider's failure always does. A writer's does if the policy binds that
// writer; and a window that ends between Freeze and the commit does under every policy, since the
// copy would be taken while a writer that promised silence writes. `cancel` waits for the end of a
// hold that is under way (VSS's rule: it lasts seconds and must not be torn); a requester's end, an
// operator's abort and a shutdown do not wait. From `confirm` on it is too late for all of them:
// the set is created, and the end of the session removes auto-release copies.
//
// It does not do: Identify, PrepareForBackup, BackupComplete (single events without an order among
// writers: writer_state.h and the daemon); BeginPrepare and the
// requester's order of calls (session.h); the creation slot (creation_slot.h).

#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "umbra/ids.h"
#include "umbra/provider.h"
#include "umbra/result.h"
#include "umbra/vss.h"

#include "engine/coordinator/limits.h"
#include "engine/coordinator/writer_state.h"
#include "engine/platform/clock.h"

namespace umbra::coord {

enum class Phase : std::uint8_t {
  idle,  // start() has not been called.
  end_prepare,
  prepare_for_snapshot,
  freeze,
  pre_commit,
  hold,  // flush_commit_release
  flush_and_hold,
  commit,
  release,
  post_commit,
  thaw,
  pre_final_commit,
  post_snapshot,
  post_final_commit,
  confirm,
  aborting,
  done,
};
/// As in the timeline on the wire, e.g. "post_commit". Static storage.
[[nodiscard]] std::string_view name(Phase phase) noexcept;

enum class ProviderCall : std::uint8_t {
  end_prepare_snapshots,
  pre_commit_snapshots,
  flush_and_hold,
  commit_snapshots,
  release_hold,
  flush_commit_release,
  post_commit_snapshots,
  pre_final_commit_snapshots,
  post_final_commit_snapshots,
  confirm_set,
  complete_set,  // Of a provider that was lost in `confirm` and is back.
  abort_snapshots,
  delete_set,  // delete_snapshots of the set, forced: only after a failure in `confirm`.
};
/// The member of umbra::Provider. Static storage.
[[nodiscard]] std::string_view name(ProviderCall call) noexcept;

/// What a provider's error becomes for the requester: codes that the contract allows pass, others
/// are unexpected_provider_error. The context names provider and call in either case.
[[nodiscard]] Error map_provider_error(std::string_view provider, std::string_view call,
                                       const Error& error);

struct SendToWriter {
  std::size_t writer = 0;  // Index in SetPlan::writers.
  WriterEvent event = WriterEvent::abort;
  milliseconds limit{0};
  friend bool operator==(const SendToWriter&, const SendToWriter&) = default;
};
struct CallProvider {
  std::size_t provider = 0;  // Index in SetPlan::providers.
  ProviderCall call = ProviderCall::abort_snapshots;
  HoldLimits limits;      // flush_and_hold, flush_commit_release.
  milliseconds limit{0};  // For the answer.
};
/// outcome() is final; said once.
struct ReportOutcome {};
/// The creation slot is free; said once, right after ReportOutcome.
struct ReleaseSlot {};
using Action = std::variant<SendToWriter, CallProvider, ReportOutcome, ReleaseSlot>;

struct PhaseSpan {
  Phase phase = Phase::idle;
  TimePoint begin;
  TimePoint end;
};

struct Outcome {
  Errc code = Errc::async_finished;  // async_finished, async_cancelled, or the error.
  std::string context;               // Names writer or provider, and the phase.
  Phase phase = Phase::done;         // Where it failed; done if it did not.
  std::optional<std::size_t> writer;
  std::optional<std::size_t> provider;
};

struct SetProvider {
  ProviderId id;
  std::string name;
};

struct SetPlan {
  SnapshotSetId set_id;
  std::vector<SessionWriter> writers;  // Those that take part; none for contexts without writers.
  std::vector<SetProvider> providers;  // Those with a volume in the set; may be empty.
  WriterPolicy policy = WriterPolicy::none;
  std::vector<WriterClassId> policy_list;
};

enum class StopCause : std::uint8_t {
  cancel,          // The requester cancelled the operation.
  requester_gone,  // Its connection ended.
  abort_backup,    // The requester's AbortBackup.
  administrator,   // `umbra abort`.
  sequence_timer,  // It made no call for too long.
  shutdown,        // umbrad is ending.
};

/// For logs and messages, e.g. "the requester's connection ended". Static storage.
[[nodiscard]] std::string_view describe(StopCause cause) noexcept;

/// Threads: one. Errors of peers become states and the outcome; nothing here fails.
class SnapshotSet {
 public:
  SnapshotSet(SetPlan plan, const Limits& limits);

  void start(TimePoint now);

  /// False: nobody asked for this answer, and it changed nothing.
  bool writer_replied(TimePoint now, std::size_t writer, WriterEvent event,
                      const WriterAnswer& answer);
  void writer_lost(TimePoint now, std::size_t writer);
  /// The writer says that its freeze window has ended and it goes on writing.
  void writer_window_expired(TimePoint now, std::size_t writer);

  /// False as above. `report` counts for the hold calls only; its error is what
  /// map_provider_error() made of the provider's.
  bool provider_replied(TimePoint now, std::size_t provider, ProviderCall call,
                        const Result<HoldReport>& report);
  void provider_lost(TimePoint now, std::size_t provider);
  /// It has registered again. Of interest in `confirm` only.
  void provider_returned(TimePoint now, std::size_t provider);

  void stop(TimePoint now, StopCause cause, std::string_view reason);

  /// Call it when next_deadline() has come; harmless before.
  void deadline_passed(TimePoint now);
  /// None only before start() and in `done`.
  [[nodiscard]] std::optional<TimePoint> next_deadline() const;

  /// What is to be done since the last call, in order.
  [[nodiscard]] std::vector<Action> take_actions();

  [[nodiscard]] Phase phase() const noexcept { return phase_; }
  [[nodiscard]] bool done() const noexcept { return phase_ == Phase::done; }
  [[nodiscard]] const Outcome& outcome() const noexcept { return outcome_; }
  [[nodiscard]] const std::vector<SessionWriter>& writers() const noexcept { return plan_.writers; }
  [[nodiscard]] const std::vector<PhaseSpan>& timeline() const noexcept { return timeline_; }
  /// The largest of each over the providers.
  [[nodiscard]] const HoldReport& hold() const noexcept { return hold_; }
  /// Whether it ended without knowing what became of the set: it must be settled.
  [[nodiscard]] bool in_doubt() const noexcept { return in_doubt_; }
  /// Providers that could not be told to abort, or did not answer: to be told when they come back.
  /// None of a set in doubt.
  [[nodiscard]] const std::vector<std::size_t>& untold() const noexcept { return untold_; }

  /// All state that decides what happens next, with times relative to `now`: equal texts behave
  /// equally. For tests and for debug logs.
  [[nodiscard]] std::string fingerprint(TimePoint now) const;

 private:
  struct WriterTrack {
    std::optional<WriterEvent> pending;
    TimePoint deadline;    // Of `pending`.
    TimePoint window_end;  // While `frozen`.
    bool frozen = false;   // Sent Freeze; neither Thaw answered, nor Abort sent, nor lost.
    bool abort_sent = false;
    bool prepare_sent = false;  // PrepareForBackup or PrepareForSnapshot.
  };
  struct ProviderTrack {
    std::optional<ProviderCall> pending;
    TimePoint deadline;  // Of `pending`, and of the return while `away`.
    bool lost = false;
    bool away = false;       // Lost in `confirm`, and awaited.
    bool confirmed = false;  // Its part is created.
  };

  void enter(TimePoint now, Phase phase);
  void advance(TimePoint now);
  [[nodiscard]] bool phase_complete(TimePoint now);
  [[nodiscard]] Phase next_phase() const noexcept;
  void issue_phase(TimePoint now);

  void send(TimePoint now, std::size_t writer, WriterEvent event);
  void send_all(TimePoint now, WriterEvent event);
  void send_level(TimePoint now, WriterEvent event);
  [[nodiscard]] bool waits_for(WriterEvent event) const noexcept;
  [[nodiscard]] bool level_waits() const noexcept;
  void call(TimePoint now, std::size_t provider, ProviderCall call, milliseconds limit,
            const HoldLimits& limits = {});
  void call_all(TimePoint now, ProviderCall call, milliseconds limit);
  void call_hold(TimePoint now, ProviderCall call);
  [[nodiscard]] bool providers_pending() const noexcept;

  void writer_failed(TimePoint now, std::size_t writer);
  void window_ended(TimePoint now, std::size_t writer);
  void provider_failed(TimePoint now, std::size_t provider, const Error& error);
  void provider_timed_out(TimePoint now, std::size_t provider);
  void check_deadlines(TimePoint now);
  [[nodiscard]] bool binds(const SessionWriter& writer) const noexcept;
  [[nodiscard]] bool check_windows(TimePoint now);

  void begin_abort(TimePoint now, Outcome outcome);
  void abort_providers(TimePoint now);
  [[nodiscard]] bool confirm_waits() const noexcept;
  void confirm_answered(std::size_t provider, ProviderCall call, const Status& status);
  void conclude_confirm(TimePoint now);
  void undo_created(TimePoint now);
  void finish(TimePoint now);

  SetPlan plan_;
  Limits limits_;
  Phase phase_ = Phase::idle;
  std::vector<WriterTrack> writer_tracks_;
  std::vector<ProviderTrack> provider_tracks_;
  std::size_t level_ = 0;      // Index into the order of levels, in freeze and thaw.
  TimePoint level_deadline_;   // Thaw only.
  bool committed_ = false;     // Every provider has answered the commit.
  bool confirm_sent_ = false;  // confirm_set went out: abort alone may not undo it.
  bool in_doubt_ = false;
  bool undoing_ = false;                 // What is created is being deleted; the rest comes after.
  std::optional<Outcome> refused_;       // The first provider's that did not confirm.
  std::optional<Outcome> doubted_;       // The first one's of which it is not known.
  std::optional<Outcome> stop_pending_;  // A cancel that waits for the end of the hold.
  Outcome outcome_;
  HoldReport hold_;
  std::vector<PhaseSpan> timeline_;
  std::vector<std::size_t> untold_;
  std::vector<Action> actions_;
};

}  // namespace umbra::coord
