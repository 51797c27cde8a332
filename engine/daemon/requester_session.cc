// SPDX-License-Identifier: Apache-2.0

#include "engine/daemon/requester_session.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "engine/daemon/provider_link.h"
#include "engine/documents/xml.h"
#include "engine/rpc/management_calls.h"

namespace umbra::daemon {

using coord::SessionCall;
using coord::SessionState;
using coord::StopCause;

RequesterSession::RequesterSession(Server& server, SessionKey key, PeerInfo peer)
    : server_(server), key_(key), peer_(std::move(peer)), session_(server.limits()) {}

RequesterSession::~RequesterSession() = default;

void RequesterSession::notification(const std::string&, const Json&) {}  // Requesters have none.

void RequesterSession::request(const std::string& method, const Json& params, const Reply& reply) {
  struct Entry {
    std::string_view method;
    Handler handler;
  };
  using S = RequesterSession;
  static constexpr std::array kMethods{
      Entry{"session.initialize_for_backup", &S::initialize_for_backup},
      Entry{"session.set_context", &S::set_context},
      Entry{"session.set_backup_state", &S::set_backup_state},
      Entry{"session.enable_writer_classes", &S::enable_writer_classes},
      Entry{"session.disable_writer_classes", &S::disable_writer_classes},
      Entry{"session.disable_writer_instances", &S::disable_writer_instances},
      Entry{"session.gather_writer_metadata", &S::gather_writer_metadata},
      Entry{"session.get_writer_metadata", &S::get_writer_metadata},
      Entry{"session.add_component", &S::add_component},
      Entry{"session.start_snapshot_set", &S::start_snapshot_set},
      Entry{"session.add_to_snapshot_set", &S::add_to_snapshot_set},
      Entry{"session.prepare_for_backup", &S::prepare_for_backup},
      Entry{"session.gather_writer_status", &S::gather_writer_status},
      Entry{"session.get_writer_status", &S::get_writer_status},
      Entry{"session.do_snapshot_set", &S::do_snapshot_set},
      Entry{"session.set_backup_options", &S::set_backup_options},
      Entry{"session.set_previous_backup_stamp", &S::set_previous_backup_stamp},
      Entry{"session.is_volume_supported", &S::is_volume_supported},
      Entry{"session.import_snapshots", &S::import_snapshots},
      Entry{"session.break_snapshot_set", &S::break_snapshot_set},
      Entry{"session.add_snapshot_to_recovery_set", &S::add_snapshot_to_recovery_set},
      Entry{"session.recover_set", &S::recover_set},
      Entry{"session.set_backup_succeeded", &S::set_backup_succeeded},
      Entry{"session.backup_complete", &S::backup_complete},
      Entry{"session.abort_backup", &S::abort_backup},
      Entry{"session.get_backup_components", &S::get_backup_components},
      Entry{"session.initialize_for_restore", &S::initialize_for_restore},
      Entry{"session.set_restore_state", &S::set_restore_state},
      Entry{"session.set_selected_for_restore", &S::set_selected_for_restore},
      Entry{"session.add_restore_subcomponent", &S::add_restore_subcomponent},
      Entry{"session.set_restore_options", &S::set_restore_options},
      Entry{"session.set_authoritative_restore", &S::set_authoritative_restore},
      Entry{"session.set_roll_forward", &S::set_roll_forward},
      Entry{"session.set_restore_name", &S::set_restore_name},
      Entry{"session.add_new_target", &S::add_new_target},
      Entry{"session.set_additional_restores", &S::set_additional_restores},
      Entry{"session.set_ranges_file_path", &S::set_ranges_file_path},
      Entry{"session.pre_restore", &S::pre_restore},
      Entry{"session.add_alternative_location_mapping", &S::add_alternative_location_mapping},
      Entry{"session.set_file_restore_status", &S::set_file_restore_status},
      Entry{"session.post_restore", &S::post_restore},
      Entry{"operation.wait", &S::wait_operation},
      Entry{"operation.status", &S::operation_status},
      Entry{"operation.cancel", &S::cancel_operation},
      Entry{"query.snapshots", &S::list_snapshots},
      Entry{"query.providers", &S::list_providers},
      Entry{"query.writers", &S::list_writers},
      Entry{"query.events", &S::query_events},
      Entry{"query.settings", &S::query_settings},
      Entry{"query.trace", &S::query_trace},
      Entry{"query.traces", &S::query_traces},
      Entry{"snapshot.delete", &S::delete_snapshots},
      Entry{"volume.list", &S::list_volumes},
      Entry{"coordinator.status", &S::coordinator_status},
      Entry{"coordinator.abort", &S::coordinator_abort},
      Entry{"coordinator.register_provider", &S::register_provider},
      Entry{"coordinator.unregister_provider", &S::unregister_provider},
  };
  if (ending_) return reply.error({Errc::bad_state, "the session is over"});
  if (method == "snapshot.mount" || method == "snapshot.unmount")
    return pass_on(method, params, reply);
  if (method == "volume.attach" || method == "volume.detach") {
    if (peer_.role == "admin") return pass_on(method, params, reply);
    return reply.error({Errc::access_denied, method + " needs the role admin"});
  }
  if (method.starts_with(rpc::kManagementPrefix)) return manage(method, params, reply);
  for (const auto& entry : kMethods) {
    if (entry.method != method) continue;
    (this->*entry.handler)(params, traced(method, reply));
    return server_.touch();
  }
  refuse_method(method, peer_.role, reply);
}

// From StartSnapshotSet on, what the requester does is part of the set's story.
Reply RequesterSession::traced(const std::string& method, const Reply& reply) {
  if (set_id_.is_nil() || !method.starts_with("session.")) return reply;
  const auto span = server_.traces.asked(set_id_, "requester", method.substr(method.find('.') + 1));
  if (!span) return reply;
  return reply.watched([self = shared_from_this(), span](const Result<Json>& result) {
    const auto error = result ? Error{Errc::ok, {}} : result.error();
    self->server_.traces.answered(span, error.code, error.context);
  });
}

bool RequesterSession::allowed(SessionCall call, const Reply& reply, bool* without_effect) {
  auto permission = session_.check(call);
  const bool any_time = call == SessionCall::abort_backup ||
                        call == SessionCall::get_writer_metadata ||
                        call == SessionCall::is_volume_supported;
  if (permission && running_ != 0 && !any_time)
    permission = fail(Errc::bad_state, std::string(name(call)) + ": an operation is running");
  if (permission && adding_ && call != SessionCall::abort_backup)
    permission =
        fail(Errc::bad_state, std::string(name(call)) + ": add_to_snapshot_set has not returned");
  if (!permission) {
    auto error = permission.error();
    if (!end_reason_.empty()) error.context += "; " + end_reason_;
    reply.error(std::move(error));
    return false;
  }
  if (without_effect != nullptr) *without_effect = *permission == coord::Permission::without_effect;
  return true;
}

bool RequesterSession::allowed(SessionCall call, const Reply& reply) {
  return allowed(call, reply, nullptr);
}

// --- the calls before the set -------------------------------------------------------------------

void RequesterSession::initialize_for_backup(const Json& params, const Reply& reply) {
  auto message = take<rpc::InitializeForBackup>(params, reply);
  if (!message || !allowed(SessionCall::initialize_for_backup, reply)) return;
  if (message->components.empty()) return begin_backup(reply);
  server_.aside([self = shared_from_this(), xml = std::move(message->components),
                 reply = reply]() mutable -> std::function<void()> {
    auto document = documents::parse_backup_components(xml);
    return
        [self = std::move(self), document = std::move(document),
         reply = std::move(reply)]() mutable { self->import_parsed(std::move(document), reply); };
  });
}

void RequesterSession::import_parsed(Result<BackupComponentsDocument> document,
                                     const Reply& reply) {
  // The session may have begun otherwise, or have ended, in the meantime.
  if (ending_ || !allowed(SessionCall::initialize_for_backup, reply)) return;
  if (!document) return reply.error(document.error());
  load(std::move(*document));
  import_loaded_ = true;
  begin_backup(reply);
}

void RequesterSession::load(BackupComponentsDocument document) {
  restore_ = std::move(document);
  backup_state_.component_mode = restore_.component_mode;
  backup_state_.bootable_system_state = restore_.bootable_system_state;
  backup_state_.backup_type = restore_.backup_type;
  backup_state_.partial_file_support = restore_.partial_file_support;
}

void RequesterSession::begin_backup(const Reply& reply) {
  id_ = SessionId::random();
  session_.initialised();
  server_.log().info("session begins", {{"session", id_.to_string()}, {"peer", peer_.describe()}});
  reply.good(rpc::SessionInfo{id_});
}

void RequesterSession::set_context(const Json& params, const Reply& reply) {
  const auto message = take<rpc::SetContext>(params, reply);
  if (!message || !allowed(SessionCall::set_context, reply)) return;
  reply.send(session_.set_context(message->context));
}

void RequesterSession::set_backup_state(const Json& params, const Reply& reply) {
  const auto message = take<rpc::SetBackupState>(params, reply);
  if (!message || !allowed(SessionCall::set_backup_state, reply)) return;
  backup_state_ = *message;
  session_.call_ended(server_.now(), SessionCall::set_backup_state, true);
  reply.good();
}

void RequesterSession::enable_writer_classes(const Json& params, const Reply& reply) {
  if (const auto ids = selected_writers(params, reply)) filter_.enable_classes(*ids);
}
void RequesterSession::disable_writer_classes(const Json& params, const Reply& reply) {
  if (const auto ids = selected_writers(params, reply)) filter_.disable_classes(*ids);
}
void RequesterSession::disable_writer_instances(const Json& params, const Reply& reply) {
  auto& list = filter_.disabled_instances;
  if (const auto ids = selected_writers(params, reply))
    list.insert(list.end(), ids->begin(), ids->end());
}

std::optional<std::vector<Guid>> RequesterSession::selected_writers(const Json& params,
                                                                    const Reply& reply) {
  auto message = take<rpc::WriterSelection>(params, reply);
  bool without_effect = false;
  if (!message || !allowed(SessionCall::select_writers, reply, &without_effect))
    return std::nullopt;
  const auto known = filter_.classes.size() + filter_.disabled_instances.size();
  if (known + message->ids.size() > coord::kWritersMax) {
    reply.error({Errc::limit_reached, "more ids than there can be writers"});
    return std::nullopt;
  }
  reply.good();
  if (without_effect) return std::nullopt;
  return std::move(message->ids);
}

void RequesterSession::start_snapshot_set(const Json& params, const Reply& reply) {
  const auto message = take<rpc::StartSnapshotSet>(params, reply);
  if (!message || !allowed(SessionCall::start_snapshot_set, reply)) return;
  const auto* holder = server_.holder();
  const auto granted =
      server_.slot.acquire(key_, server_.now(), coord::milliseconds{message->queue_limit_ms});
  if (!granted) {
    auto error = granted.error();
    if (holder != nullptr) error.context += ": " + holder->peer().describe();
    return reply.error(std::move(error));
  }
  session_.slot_requested();
  waiting_for_slot_ = reply;
  if (*granted) slot_granted();
}

void RequesterSession::slot_granted() {
  if (!waiting_for_slot_) return server_.leave_slot(key_);
  const auto reply = *std::exchange(waiting_for_slot_, std::nullopt);
  set_id_ = SnapshotSetId::random();
  set_begun_ = server_.now();
  session_.set_opened(set_begun_);
  server_.traces.begin(set_id_, id_, peer_.describe(), peer_.credentials.uid);
  server_.log().info(
      "set begins",
      {{"set", set_id_.to_string()}, {"session", id_.to_string()}, {"peer", peer_.describe()}});
  reply.good(rpc::StartedSet{set_id_});
}

void RequesterSession::slot_refused() {
  if (!waiting_for_slot_) return;
  const auto reply = *std::exchange(waiting_for_slot_, std::nullopt);
  session_.slot_refused();
  std::string context = "the time in the queue is over";
  if (const auto* holder = server_.holder()) context += ": " + holder->peer().describe();
  reply.error({Errc::snapshot_set_in_progress, std::move(context)});
}

void RequesterSession::abort_backup(const Json&, const Reply& reply) {
  bool without_effect = false;
  if (!allowed(SessionCall::abort_backup, reply, &without_effect)) return;
  if (waiting_for_slot_) {
    server_.leave_slot(key_);
    const auto waiting = *std::exchange(waiting_for_slot_, std::nullopt);
    session_.slot_refused();
    waiting.error({Errc::async_cancelled, "abort_backup"});
  }
  if (without_effect) return reply.good();
  if (set_) {
    aborting_.push_back(reply);
    set_->stop(server_.now(), StopCause::abort_backup, "");
    return run_actions();
  }
  drop_set(StopCause::abort_backup, "");
  reply.good();
}

// --- operations ---------------------------------------------------------------------------------

std::uint32_t RequesterSession::begin_operation(SessionCall call) {
  for (auto it = operations_.begin(); operations_.size() >= kOperationsMax;)
    it = it->second.finished ? operations_.erase(it) : std::next(it);
  running_ = next_operation_++;
  Operation operation{call, server_.now(), false, {}, {}};
  operation.status.phase = name(call);
  operations_.emplace(running_, std::move(operation));
  session_.call_began();
  return running_;
}

void RequesterSession::finish_operation(std::uint32_t id, Errc code, std::string context) {
  const auto found = operations_.find(id);
  if (found == operations_.end() || found->second.finished) return;
  auto& operation = found->second;
  operation.status = status_of(operation);
  operation.status.status = code;
  operation.status.context = std::move(context);
  operation.finished = true;
  if (running_ == id) running_ = 0;
  for (const auto& waiter : std::exchange(operation.waiters, {}))
    waiter.reply.good(operation.status);
}

RequesterSession::Operation* RequesterSession::find_operation(std::uint32_t id,
                                                              const Reply& reply) {
  const auto found = operations_.find(id);
  if (found != operations_.end()) return &found->second;
  reply.error({Errc::object_not_found, "no operation " + std::to_string(id)});
  return nullptr;
}

rpc::OperationStatus RequesterSession::status_of(const Operation& operation) const {
  if (operation.finished) return operation.status;
  auto status = operation.status;
  status.writers = writer_statuses();
  if (operation.call != SessionCall::do_snapshot_set || !set_) return status;
  status.phase = name(set_->phase());
  status.hold = set_->hold();
  const auto since = [&](TimePoint time) {
    return static_cast<std::uint64_t>(
        std::chrono::duration_cast<std::chrono::microseconds>(time - operation.begun).count());
  };
  for (const auto& span : set_->timeline()) {
    const bool current = &span == &set_->timeline().back() && !set_->done();
    status.timeline.push_back({std::string(name(span.phase)), since(span.begin),
                               since(current ? server_.now() : span.end)});
  }
  return status;
}

void RequesterSession::wait_operation(const Json& params, const Reply& reply) {
  const auto message = take<rpc::WaitOperation>(params, reply);
  auto* operation = message ? find_operation(message->operation, reply) : nullptr;
  if (operation == nullptr) return;
  const auto limit = std::min(coord::milliseconds{message->time_limit_ms}, kWaitLimitMax);
  if (operation->finished || limit.count() == 0) return reply.good(status_of(*operation));
  operation->waiters.push_back({reply, server_.now() + limit});
}

void RequesterSession::operation_status(const Json& params, const Reply& reply) {
  const auto message = take<rpc::WaitOperation>(params, reply);
  if (const auto* operation = message ? find_operation(message->operation, reply) : nullptr)
    reply.good(status_of(*operation));
}

// DoSnapshotSet can be undone; the other operations end by themselves, and a cancel of theirs
// comes too late, which VSS allows.
void RequesterSession::cancel_operation(const Json& params, const Reply& reply) {
  const auto message = take<rpc::WaitOperation>(params, reply);
  const auto* operation = message ? find_operation(message->operation, reply) : nullptr;
  if (operation == nullptr) return;
  if (!operation->finished && operation->call == SessionCall::do_snapshot_set && set_) {
    set_->stop(server_.now(), StopCause::cancel, "");
    run_actions();
  }
  const auto found = operations_.find(message->operation);
  reply.good(status_of(found->second));
}

// --- time, and the end --------------------------------------------------------------------------

std::optional<TimePoint> RequesterSession::next_deadline() const {
  auto next = set_ ? set_->next_deadline() : session_.deadline();
  for (const auto& waiter : event_waiters_)
    next = next ? std::min(*next, waiter.until) : waiter.until;
  for (const auto& [id, operation] : operations_)
    for (const auto& waiter : operation.waiters)
      next = next ? std::min(*next, waiter.until) : waiter.until;
  if (const auto look = import_ ? import_->next_deadline() : std::nullopt)
    next = next ? std::min(*next, *look) : *look;
  return next;
}

void RequesterSession::tick(TimePoint now) {
  const auto due = std::stable_partition(event_waiters_.begin(), event_waiters_.end(),
                                         [&](const auto& one) { return one.until > now; });
  for (auto it = due; it != event_waiters_.end(); ++it) answer_events(it->query, it->reply);
  event_waiters_.erase(due, event_waiters_.end());
  for (auto& [id, operation] : operations_) {
    auto& waiters = operation.waiters;
    const auto over = std::stable_partition(waiters.begin(), waiters.end(),
                                            [&](const Waiter& one) { return one.until > now; });
    for (auto it = over; it != waiters.end(); ++it) it->reply.good(status_of(operation));
    waiters.erase(over, waiters.end());
  }
  if (const auto running = import_) running->tick(now);
  if (set_) {
    set_->deadline_passed(now);
    run_actions();
  } else if (const auto deadline = session_.deadline(); deadline && *deadline <= now) {
    drop_set(StopCause::sequence_timer, "");
  }
}

void RequesterSession::abort_set(StopCause cause, const std::string& reason) {
  if (set_) {
    set_->stop(server_.now(), cause, reason);
    run_actions();
  } else if (session_.holds_set()) {
    drop_set(cause, reason);
  }
}

void RequesterSession::end(StopCause cause) {
  if (ending_) return;
  ending_ = true;
  if (waiting_for_slot_) {
    waiting_for_slot_->error({Errc::async_cancelled, "the session ends"});
    waiting_for_slot_.reset();
    server_.leave_slot(key_);
  }
  if (set_) {
    set_->stop(server_.now(), cause, "");
    run_actions();  // The set's end ends the session.
    return;
  }
  if (session_.holds_set()) drop_set(cause, "");
  end_now();
}

void RequesterSession::end_now() {
  abandon_import();
  if (!id_.is_nil()) {
    tell_writers(coord::WriterEvent::backup_shutdown);
    end_restores();
    for (const auto& provider : server_.connected_providers()) provider->end_session(id_);
    server_.traces.note(set_id_, "umbrad", "session ends", "");
    server_.log().info("session ends", {{"session", id_.to_string()}, {"peer", peer_.describe()}});
  }
  server_.remove_session(key_);
}

void RequesterSession::describe_set(rpc::CoordinatorStatus& status) const {
  status.set_in_progress = set_id_;
  status.set_phase = set_ ? name(set_->phase()) : name(session_.state());
  status.set_holder = peer_.describe();
  status.set_age_ms = static_cast<std::uint64_t>(
      std::chrono::duration_cast<coord::milliseconds>(server_.now() - set_begun_).count());
}

}  // namespace umbra::daemon
