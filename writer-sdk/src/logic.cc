// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "writer-sdk/src/logic.h"

#include <algorithm>
#include <array>
#include <utility>

namespace umbra::writer {
namespace {

constexpr std::array<std::string_view, 12> kMethods{"writer.identify",
                                                    "writer.prepare_for_backup",
                                                    "writer.prepare_for_snapshot",
                                                    "writer.freeze",
                                                    "writer.thaw",
                                                    "writer.post_snapshot",
                                                    "writer.abort",
                                                    "writer.backup_complete",
                                                    "writer.backup_shutdown",
                                                    "writer.pre_restore",
                                                    "writer.post_restore",
                                                    "writer.restore_end"};

std::optional<Event> event_of(std::string_view method) {
  const auto found = std::find(kMethods.begin(), kMethods.end(), method);
  if (found == kMethods.end()) return std::nullopt;
  return static_cast<Event>(found - kMethods.begin());
}

rpc::WriterReply expiry_reply() {
  rpc::WriterReply reply;
  reply.ok = false;
  reply.failure = Errc::writererror_timeout;
  reply.message = "the freeze window ended before Thaw came; the writer thaws by itself";
  return reply;
}

bool is_idempotent(Event event) {
  return event == Event::thaw || event == Event::abort || event == Event::backup_shutdown ||
         event == Event::restore_end;
}

bool is_of_restore(Event event) {
  return event == Event::pre_restore || event == Event::post_restore || event == Event::restore_end;
}

}  // namespace

std::string_view method_of(Event event) noexcept {
  return kMethods[static_cast<std::size_t>(event)];
}

void Logic::request(const rpc::RequestId& id, std::string_view method, const rpc::Json& params,
                    TimePoint now) {
  time_passed(now);
  std::optional<rpc::RequestId> request = id;
  const std::optional<Event> event = event_of(method);
  if (!event) {
    return answer(request, fail(Errc::not_implemented, "no event '" + std::string(method) + "'"));
  }
  Result<rpc::WriterEvent> decoded = rpc::decode<rpc::WriterEvent>(params);
  if (!decoded) return answer(request, fail(decoded.error()));
  const bool identify = *event == Event::identify;
  const SessionId session = identify ? SessionId{} : decoded->session_id;
  if (!identify && session.is_nil()) {
    return answer(request, fail(Errc::invalid_argument, "session_id: missing"));
  }
  if (refusing_) return answer(request, fail(Errc::bad_state, "the writer is stopping"));
  auto found = backups_.find(session);
  if (found == backups_.end()) {
    // A writer that was not told of the beginning has nothing to undo or to finish.
    if (is_idempotent(*event)) return answer(request, rpc::WriterReply{});
    const bool begins = identify || *event == Event::prepare_for_backup ||
                        *event == Event::prepare_for_snapshot || *event == Event::pre_restore;
    if (!begins) {
      return answer(request, fail(Errc::bad_state, std::string(method) + ": unknown session"));
    }
    if (backups_.size() > kBackupsMax) {
      return answer(request, fail(Errc::writer_status_not_available, "too many open sessions"));
    }
    found = backups_.emplace(session, Backup{}).first;
    if (*event == Event::pre_restore) found->second.restore = *decoded;
  } else if (*event == Event::pre_restore) {
    return answer(request, fail(Errc::bad_state, std::string(method) + ": the session is open"));
  }
  Backup& backup = found->second;
  if (auto refused = refusal(backup, *event)) return answer(request, std::move(*refused));
  if (*event == Event::restore_end) {
    answer(request, rpc::WriterReply{});
    actions_.emplace_back(EndQueue{session});
    backups_.erase(found);
    return;
  }
  take({*event, std::move(request), std::move(*decoded), now}, backup, session);
  run_next(found);
}

std::optional<Result<rpc::WriterReply>> Logic::refusal(const Backup& backup, Event event) const {
  const auto refuse = [&](const char* why) {
    return Result<rpc::WriterReply>(
        fail(Errc::bad_state, std::string(method_of(event)) + ": " + why));
  };
  if (event == Event::identify) return std::nullopt;
  if (backup.restore.has_value() != is_of_restore(event)) {
    return refuse(backup.restore ? "the session is a restore" : "the session is a backup");
  }
  if (event == Event::pre_restore) return std::nullopt;
  if (backup.restore) {
    // PostRestore may come while PreRestore runs: umbrad has given it up.
    const bool pre_restore_runs = backup.running && backup.running->event == Event::pre_restore;
    if (!pre_restore_runs && !backup.pre_restored) return refuse("PreRestore comes first");
    if (!backup.waiting.empty() || (backup.running && !pre_restore_runs)) {
      return refuse("PostRestore is under way");
    }
    if (event == Event::restore_end && pre_restore_runs) return refuse("PreRestore runs");
    return std::nullopt;
  }
  if (event == Event::abort || event == Event::backup_shutdown) return std::nullopt;
  if (backup.expired) return expiry_reply();
  if (event == Event::thaw) {
    if (backup.over || !backup.frozen) return rpc::WriterReply{};  // Thawed already.
    return std::nullopt;
  }
  if (backup.over) return refuse("the session was aborted");
  if (event == Event::freeze && backup.frozen) return refuse("the writer is frozen already");
  if (event == Event::freeze && !backup.prepared) return refuse("PrepareForSnapshot comes first");
  if (event == Event::post_snapshot && backup.frozen) return refuse("the writer is frozen");
  return std::nullopt;
}

void Logic::take(Pending pending, Backup& backup, const SessionId& session) {
  if (!pending.params.set_id.is_nil()) backup.set = pending.params.set_id;
  if (pending.event == Event::freeze) {
    backup.frozen = true;
    backup.prepared = false;
    auto window = freeze_window_;
    if (pending.params.time_limit_ms != 0) {
      window = std::min(window, std::chrono::milliseconds(pending.params.time_limit_ms));
    }
    backup.window_end = pending.arrived + window;
  }
  const bool ends = pending.event == Event::abort || pending.event == Event::backup_shutdown;
  if (!ends) {
    backup.waiting.push_back(std::move(pending));
    return;
  }
  // What waits will not run; what runs should return.
  if (pending.event == Event::abort || backup.frozen) give_up(session, backup);
  if (pending.event == Event::abort && backup.dirty) {
    // Abort of a backup that is being aborted: the one that waits serves both.
    if (!backup.waiting.empty() && !backup.waiting.back().request) {
      backup.waiting.back().request = std::move(pending.request);
    } else {
      backup.waiting.push_back(std::move(pending));
    }
    return;
  }
  if (pending.event == Event::abort) return answer(pending.request, rpc::WriterReply{});
  backup.over = true;
  backup.waiting.push_back(std::move(pending));
}

// Nothing of this backup goes on; on_abort runs if there is anything to undo.
void Logic::give_up(const SessionId& session, Backup& backup) {
  const bool first = !backup.over;
  backup.over = true;
  backup.window_end.reset();
  std::deque<Pending> dropped;
  for (Pending& pending : backup.waiting) {
    if (pending.event != Event::abort && pending.event != Event::backup_shutdown) {
      dropped.push_back(std::move(pending));
    }
  }
  std::erase_if(backup.waiting, [](const Pending& pending) {
    return pending.event != Event::abort && pending.event != Event::backup_shutdown;
  });
  for (Pending& pending : dropped) {
    answer(pending.request, backup.expired ? Result<rpc::WriterReply>(expiry_reply())
                                           : fail(Errc::bad_state, "the session was aborted"));
  }
  if (first) {
    actions_.emplace_back(AskToStop{session});
    enqueue_abort(backup);
  }
}

void Logic::enqueue_abort(Backup& backup) {
  const auto is_abort = [](const Pending& pending) { return pending.event == Event::abort; };
  const bool planned = std::any_of(backup.waiting.begin(), backup.waiting.end(), is_abort) ||
                       (backup.running && is_abort(*backup.running));
  if (!backup.dirty || planned) return;
  Pending pending;
  pending.event = Event::abort;
  pending.params.set_id = backup.set;
  backup.waiting.push_front(std::move(pending));
}

void Logic::run_next(Backups::iterator found) {
  auto& [session, backup] = *found;
  if (backup.running) return;
  while (!backup.waiting.empty() && backup.waiting.front().event == Event::abort && !backup.dirty) {
    answer(backup.waiting.front().request, rpc::WriterReply{});  // Undone meanwhile.
    backup.waiting.pop_front();
  }
  if (backup.waiting.empty()) return;
  backup.running = std::move(backup.waiting.front());
  backup.waiting.pop_front();
  Pending& next = *backup.running;
  if (next.event == Event::thaw || next.event == Event::abort) backup.window_end.reset();
  if (!backup.restore && next.event != Event::identify && next.event != Event::abort &&
      next.event != Event::backup_complete && next.event != Event::backup_shutdown) {
    backup.dirty = true;
  }
  TimePoint deadline = TimePoint::max();
  if (next.params.time_limit_ms != 0) {
    deadline = next.arrived + std::chrono::milliseconds(next.params.time_limit_ms);
  }
  if (backup.window_end && next.event == Event::freeze) deadline = *backup.window_end;
  // Identify says for whom it asks, though it waits in nobody's queue.
  if (next.event != Event::identify) next.params.session_id = session;
  actions_.emplace_back(Start{session, next.event, next.params, deadline, next.edits});
}

void Logic::finished(const SessionId& session, rpc::WriterReply reply, TimePoint now) {
  time_passed(now);
  const auto found = backups_.find(session);
  if (found == backups_.end() || !found->second.running) return;
  Backup& backup = found->second;
  Pending done = std::move(*backup.running);
  backup.running.reset();
  switch (done.event) {
    case Event::prepare_for_snapshot: backup.prepared = reply.ok; break;
    case Event::thaw:
      backup.frozen = false;
      answer_repeated_thaws(backup, reply);
      break;
    case Event::post_snapshot: backup.dirty = false; break;
    case Event::abort:
      backup.frozen = false;
      backup.dirty = false;
      break;
    case Event::pre_restore:
      backup.pre_restored = reply.ok;
      backup.restore_edits = reply.edits;
      if (!backup.pre_restored) drop_waiting(backup, "PreRestore failed");
      if (backup.pre_restored && backup.coordinator_lost && backup.waiting.empty()) {
        enqueue_lost_post_restore(backup, now);
      }
      break;
    default: break;
  }
  const bool not_restored = done.event == Event::pre_restore && !reply.ok;
  answer(done.request, std::move(reply));
  const bool over = done.event == Event::backup_shutdown || done.event == Event::post_restore ||
                    not_restored || (done.event == Event::identify && backup.waiting.empty());
  if (!over) return run_next(found);
  actions_.emplace_back(EndQueue{session});
  backups_.erase(found);
}

void Logic::time_passed(TimePoint now) {
  for (auto found = backups_.begin(); found != backups_.end(); ++found) {
    auto& [session, backup] = *found;
    if (!backup.window_end || now < *backup.window_end) continue;
    backup.expired = true;
    actions_.emplace_back(ReportExpiry{session});
    if (backup.running) answer(backup.running->request, expiry_reply());
    give_up(session, backup);
    run_next(found);
  }
}

void Logic::disconnected(TimePoint now) {
  time_passed(now);
  std::vector<SessionId> sessions;
  for (auto& [session, backup] : backups_) sessions.push_back(session);
  for (const SessionId& session : sessions) {
    const auto found = backups_.find(session);
    Backup& backup = found->second;
    if (backup.running) backup.running->request.reset();
    for (Pending& pending : backup.waiting) pending.request.reset();
    if (session.is_nil()) {
      backup.waiting.clear();
    } else if (backup.restore) {
      lose_restore(session, backup, now);
    } else {
      give_up(session, backup);
      const bool shutting =
          (backup.running && backup.running->event == Event::backup_shutdown) ||
          (!backup.waiting.empty() && backup.waiting.back().event == Event::backup_shutdown);
      if (!shutting) {
        Pending shutdown;
        shutdown.event = Event::backup_shutdown;
        shutdown.params.set_id = backup.set;
        backup.waiting.push_back(std::move(shutdown));
      }
    }
    run_next(found);
  }
}

// Thaws that came while this one ran ask for what it did. No Freeze can wait behind it (the writer
// was frozen), so they all belong to it; left in the queue, they would undo a later Freeze.
void Logic::answer_repeated_thaws(Backup& backup, const rpc::WriterReply& reply) {
  for (Pending& pending : backup.waiting) {
    if (pending.event == Event::thaw) answer(pending.request, reply);
  }
  std::erase_if(backup.waiting,
                [](const Pending& pending) { return pending.event == Event::thaw; });
}

void Logic::lose_restore(const SessionId& session, Backup& backup, TimePoint now) {
  if (std::exchange(backup.coordinator_lost, true)) return;
  actions_.emplace_back(AskToStop{session});
  if (backup.pre_restored && !backup.running) enqueue_lost_post_restore(backup, now);
}

void Logic::drop_waiting(Backup& backup, const char* why) {
  for (Pending& pending : backup.waiting) answer(pending.request, fail(Errc::bad_state, why));
  backup.waiting.clear();
}

// What PreRestore took away from its users has to come back, although nobody says any more how the
// copying ended.
void Logic::enqueue_lost_post_restore(Backup& backup, TimePoint now) {
  Pending pending;
  pending.event = Event::post_restore;
  pending.params = *backup.restore;
  pending.params.time_limit_ms = 0;
  pending.arrived = now;
  pending.edits = backup.restore_edits;
  backup.waiting.push_back(std::move(pending));
}

std::optional<TimePoint> Logic::next_deadline() const {
  std::optional<TimePoint> next;
  for (const auto& [session, backup] : backups_) {
    if (backup.window_end && (!next || *backup.window_end < *next)) next = backup.window_end;
  }
  return next;
}

std::vector<Action> Logic::take_actions() { return std::exchange(actions_, {}); }

void Logic::answer(std::optional<rpc::RequestId>& request, Result<rpc::WriterReply> reply) {
  if (!request) return;
  actions_.emplace_back(Answer{std::move(*request), std::move(reply)});
  request.reset();
}

}  // namespace umbra::writer
