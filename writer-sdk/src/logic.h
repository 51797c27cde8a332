// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// What a writer's registration decides, without threads, socket or clock: requests, finished
// callbacks and the time go in, actions come out. Its invariants:
//
//   (1) callbacks of one backup run one after the other, Identify beside them;
//   (2) every on_freeze that was started is followed by on_thaw or on_abort, whatever umbrad does:
//       when the window ends or umbrad is lost, on_abort runs as soon as the running callback has
//       returned, and the end of the window is reported at once;
//   (3) every request gets one answer, except those of a connection that is gone;
//   (4) after an abort, an expiry or a loss no callback of that backup runs but on_abort and
//       on_backup_shutdown. on_abort is not repeated unless something happened since;
//   (5) every on_pre_restore that succeeded is followed by on_post_restore, also when umbrad is
//       lost (nobody then says how the copying ended), unless umbrad says that none will come.
//
// A late Thaw is refused and changes nothing: the state of the failed freeze stays.

#pragma once

#include <deque>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "engine/platform/clock.h"
#include "engine/rpc/peer.h"
#include "umbra/ids.h"

namespace umbra::writer {

inline constexpr std::size_t kBackupsMax = 64;  // At a time; VSS keeps as many session slots.

enum class Event : std::uint8_t {
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
  restore_end,  // Without a callback: no on_post_restore will come.
};
/// "writer.freeze" and so on. Static storage.
[[nodiscard]] std::string_view method_of(Event event) noexcept;

/// Run the callback of `event` on the queue of `session`, then call Logic::finished().
struct Start {
  SessionId session;  // Nil: the queue of Identify.
  Event event = Event::identify;
  rpc::WriterEvent params;
  TimePoint deadline;  // For Context::time_left().
  /// Of on_pre_restore, which an on_post_restore without umbrad has to see.
  std::vector<rpc::ComponentEdit> edits{};
};
struct Answer {
  rpc::RequestId request;
  Result<rpc::WriterReply> reply;
};
/// Tell umbrad that the window of the session has ended.
struct ReportExpiry {
  SessionId session;
};
/// Callbacks of the session see stop_requested() from now on.
struct AskToStop {
  SessionId session;
};
/// The backup is over; its queue will not be used again.
struct EndQueue {
  SessionId session;
};
using Action = std::variant<Start, Answer, ReportExpiry, AskToStop, EndQueue>;

/// Threads: one at a time.
class Logic {
 public:
  explicit Logic(std::chrono::milliseconds freeze_window) : freeze_window_(freeze_window) {}

  /// A writer.* request of umbrad.
  void request(const rpc::RequestId& id, std::string_view method, const rpc::Json& params,
               TimePoint now);
  /// The callback that was started last on this queue has returned.
  void finished(const SessionId& session, rpc::WriterReply reply, TimePoint now);
  /// To be called at next_deadline(), at the latest.
  void time_passed(TimePoint now);
  /// umbrad is gone, or we are: whatever is under way is undone.
  void disconnected(TimePoint now);
  /// From now on requests are refused.
  void refuse_requests() noexcept { refusing_ = true; }

  [[nodiscard]] std::optional<TimePoint> next_deadline() const;
  /// Nothing runs and nothing waits.
  [[nodiscard]] bool is_idle() const noexcept { return backups_.empty(); }
  [[nodiscard]] std::vector<Action> take_actions();

 private:
  struct Pending {
    Event event = Event::identify;
    std::optional<rpc::RequestId> request;  // Nothing: nobody waits for the answer (any more).
    rpc::WriterEvent params;
    TimePoint arrived;
    std::vector<rpc::ComponentEdit> edits{};
  };
  struct Backup {
    std::deque<Pending> waiting;
    std::optional<Pending> running;
    std::optional<TimePoint> window_end;
    SnapshotSetId set;
    bool prepared = false;  // on_prepare_for_snapshot succeeded.
    bool frozen = false;    // on_freeze was started, neither on_thaw nor on_abort since.
    bool dirty = false;     // Something that on_abort undoes was started.
    bool expired = false;
    bool over = false;  // Only on_abort and on_backup_shutdown from now on.
    // Of a restore: its PreRestore, what it changed, and how far it has come.
    std::optional<rpc::WriterEvent> restore;
    std::vector<rpc::ComponentEdit> restore_edits;
    bool pre_restored = false;
    bool coordinator_lost = false;
  };
  using Backups = std::map<SessionId, Backup>;

  void take(Pending pending, Backup& backup, const SessionId& session);
  std::optional<Result<rpc::WriterReply>> refusal(const Backup& backup, Event event) const;
  void run_next(Backups::iterator backup);
  void give_up(const SessionId& session, Backup& backup);
  void answer(std::optional<rpc::RequestId>& request, Result<rpc::WriterReply> reply);
  void enqueue_abort(Backup& backup);
  void answer_repeated_thaws(Backup& backup, const rpc::WriterReply& reply);
  void lose_restore(const SessionId& session, Backup& backup, TimePoint now);
  void drop_waiting(Backup& backup, const char* why);
  void enqueue_lost_post_restore(Backup& backup, TimePoint now);

  std::chrono::milliseconds freeze_window_;
  Backups backups_;  // Identify's queue is that of the nil session.
  bool refusing_ = false;
  std::vector<Action> actions_;
};

}  // namespace umbra::writer
