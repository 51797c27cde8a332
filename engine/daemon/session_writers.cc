// SPDX-License-Identifier: Apache-2.0

#include <algorithm>
#include <utility>

#include "engine/daemon/express.h"
#include "engine/daemon/provider_link.h"
#include "engine/daemon/requester_session.h"
#include "engine/documents/rules.h"
#include "engine/documents/xml.h"

namespace umbra::daemon {

using coord::SessionCall;
using Event = coord::WriterEvent;

namespace {

documents::EditPhase edit_phase(Event event) {
  switch (event) {
    case Event::prepare_for_backup: return documents::EditPhase::prepare_for_backup;
    case Event::prepare_for_snapshot: return documents::EditPhase::prepare_for_snapshot;
    case Event::freeze:
    case Event::thaw:
    case Event::abort: return documents::EditPhase::frozen;
    case Event::post_snapshot: return documents::EditPhase::post_snapshot;
    case Event::pre_restore: return documents::EditPhase::pre_restore;
    case Event::post_restore: return documents::EditPhase::post_restore;
    default: return documents::EditPhase::read_only;
  }
}

// Events whose handlers may look at the document.
bool carries_components(Event event) {
  return event == Event::prepare_for_backup || event == Event::prepare_for_snapshot ||
         event == Event::post_snapshot || event == Event::backup_complete ||
         event == Event::pre_restore || event == Event::post_restore;
}

}  // namespace

// --- GatherWriterMetadata -----------------------------------------------------------------------

void RequesterSession::gather_writer_metadata(const Json&, const Reply& reply) {
  if (!allowed(SessionCall::gather_writer_metadata, reply)) return;
  const auto operation = begin_operation(SessionCall::gather_writer_metadata);
  session_.gather_started();
  reply.good(rpc::StartedOperation{operation});
  identify_all(operation);
}

void RequesterSession::identify_all(std::uint32_t operation) {
  const auto left = std::make_shared<std::size_t>(1);  // One for this loop itself.
  const auto count_down = [self = shared_from_this(), left, operation] {
    if (--*left > 0) return;
    self->session_.gather_finished();
    if (self->session_.is_restore()) self->bind_parts();
    self->finish_operation(operation, Errc::async_finished, "");
    self->server_.touch();
  };
  ++*left;
  gather_express(count_down);
  for (const auto& [instance, entry] : server_.writers.all()) {
    const auto link = server_.writer(instance);
    if (!link || !filter_.admits(entry)) continue;
    ++*left;
    rpc::WriterEvent params;
    params.session_id = id_;
    params.time_limit_ms = static_cast<std::uint32_t>(server_.limits().identify.count());
    link->send(Event::identify, std::move(params), server_.limits().identify,
               [self = shared_from_this(), entry = entry, count_down](WriterOutcome outcome) {
                 self->identified(entry, std::move(outcome));
                 count_down();
               });
  }
  count_down();
}

// A writer that does not answer, or not understandably, is missing in the list; nobody is vetoed.
void RequesterSession::identified(const coord::RegisteredWriter& entry, WriterOutcome outcome) {
  const bool answered = outcome.kind == WriterOutcome::Kind::answered;
  if (!answered || !outcome.answer.ok) {
    server_.log().warning("writer did not identify itself",
                          {{"writer", printable(entry.name)},
                           {"session", id_.to_string()},
                           {"why", answered ? printable(outcome.answer.message) : "no answer"}});
    return;
  }
  if (ending_) return;
  add_writer(entry, std::move(outcome.metadata), std::move(outcome.metadata_xml)).status.lost =
      server_.writer(entry.instance_id) == nullptr;
}

void RequesterSession::gather_express(std::function<void()> done) {
  read_express(server_, [self = shared_from_this(),
                         done = std::move(done)](documents::ExpressWriters found) {
    for (auto& express : found.writers) {
      const auto entry = express_entry(express.document.identity);
      if (self->ending_ || !self->filter_.admits(entry)) continue;
      self->add_writer(entry, std::move(express.document), std::move(express.xml));
    }
    done();
  });
}

RequesterSession::Writer& RequesterSession::add_writer(const coord::RegisteredWriter& entry,
                                                       WriterMetadataDocument metadata,
                                                       std::string xml) {
  Writer writer;
  writer.status.instance_id = entry.instance_id;
  writer.status.class_id = entry.class_id;
  writer.status.name = entry.name;
  writer.status.level = entry.level;
  writer.status.freeze_window = entry.freeze_window;
  writer.subscription = entry.subscription;
  writer.part.instance_id = entry.instance_id;
  writer.part.class_id = entry.class_id;
  writer.part.instance_name = entry.instance_name;
  writer.part.backup_schema = metadata.backup_schema;
  writer.metadata = std::move(metadata);
  writer.metadata_xml = std::move(xml);
  writers_.push_back(std::move(writer));
  return writers_.back();
}

void RequesterSession::get_writer_metadata(const Json&, const Reply& reply) {
  if (!allowed(SessionCall::get_writer_metadata, reply)) return;
  rpc::WriterMetadataList list;
  for (const auto& writer : writers_)
    list.writers.push_back({writer.status.instance_id, writer.status.class_id, writer.status.name,
                            writer.metadata_xml});
  reply.good(list);
}

// --- the document -------------------------------------------------------------------------------

bool RequesterSession::is_meant(const Writer& writer, const rpc::ComponentRef& ref) {
  const bool same_instance =
      ref.instance_id.is_nil() || ref.instance_id == writer.status.instance_id;
  const bool same_class = ref.class_id.is_nil() || ref.class_id == writer.status.class_id;
  const bool named = !ref.instance_id.is_nil() || !ref.class_id.is_nil();
  return named && same_instance && same_class;
}

RequesterSession::Writer* RequesterSession::find_writer(const rpc::ComponentRef& ref) {
  for (auto& writer : writers_)
    if (is_meant(writer, ref)) return &writer;
  return nullptr;
}

void RequesterSession::add_component(const Json& params, const Reply& reply) {
  const auto message = take<rpc::ComponentRef>(params, reply);
  if (!message || !allowed(SessionCall::add_component, reply)) return;
  auto* writer = find_writer(*message);
  if (writer == nullptr || writer->status.lost)
    return reply.error({Errc::object_not_found, "no such writer in this session"});
  const auto status = documents::add_component(writer->part, writer->metadata, message->type,
                                               message->logical_path, message->name);
  session_.call_ended(server_.now(), SessionCall::add_component, status.has_value());
  reply.send(status);
}

// By class alone, as VSS names components here, all running writers of the class are looked
// through.
BackupComponent* RequesterSession::added_component(const rpc::ComponentRef& ref,
                                                   const Reply& reply) {
  const auto wanted = documents::full_path(ref.logical_path, ref.name);
  bool known = false;
  for (auto& writer : writers_) {
    if (!is_meant(writer, ref)) continue;
    known = true;
    for (auto& component : writer.part.components)
      if (documents::same_path(documents::full_path(component.logical_path, component.name),
                               wanted))
        return &component;
  }
  reply.error({Errc::object_not_found,
               known ? "component '" + printable(wanted) + "' was not added to this backup"
                     : "no such writer in this session"});
  return nullptr;
}

void RequesterSession::set_backup_succeeded(const Json& params, const Reply& reply) {
  const auto message = take<rpc::SetBackupSucceeded>(params, reply);
  if (!message || !allowed(SessionCall::set_backup_succeeded, reply)) return;
  auto* component = added_component(message->component, reply);
  if (component == nullptr) return;
  component->succeeded = message->succeeded;
  reply.good();
}

void RequesterSession::set_backup_options(const Json& params, const Reply& reply) {
  auto message = take<rpc::SetComponentText>(params, reply);
  if (!message || !allowed(SessionCall::set_backup_options, reply)) return;
  session_.call_ended(server_.now(), SessionCall::set_backup_options, true);
  auto* component = added_component(message->component, reply);
  if (component == nullptr) return;
  component->backup_options = std::move(message->text);
  reply.good();
}

void RequesterSession::set_previous_backup_stamp(const Json& params, const Reply& reply) {
  auto message = take<rpc::SetComponentText>(params, reply);
  if (!message || !allowed(SessionCall::set_previous_backup_stamp, reply)) return;
  session_.call_ended(server_.now(), SessionCall::set_previous_backup_stamp, true);
  auto* component = added_component(message->component, reply);
  if (component == nullptr) return;
  component->previous_backup_stamp = std::move(message->text);
  reply.good();
}

void RequesterSession::get_backup_components(const Json&, const Reply& reply) {
  if (!allowed(SessionCall::get_backup_components, reply)) return;
  BackupComponentsDocument document = restore_;
  document.component_mode = backup_state_.component_mode;
  document.bootable_system_state = backup_state_.bootable_system_state;
  document.partial_file_support = backup_state_.partial_file_support;
  document.backup_type = backup_state_.backup_type;
  if (!session_.is_restore() && !set_id_.is_nil()) {
    document.set_id = set_id_;
    document.snapshots = carried_;
  }
  for (const auto& writer : writers_)
    if (!writer.part.components.empty()) document.writers.push_back(writer.part);
  reply.good(rpc::Document{documents::to_xml(document)});
}

void RequesterSession::apply_edits(Writer& writer, Event event,
                                   const std::vector<rpc::ComponentEdit>& edits) {
  for (const auto& edit : edits) {
    const auto status = documents::apply(
        writer.part, {edit.op, edit.logical_path, edit.component, edit.values}, edit_phase(event));
    if (status) continue;
    server_.log().warning("writer's change to the document dropped",
                          {{"writer", printable(writer.status.name)},
                           {"set", set_id_.to_string()},
                           {"change", printable(edit.op)},
                           {"why", status.error().context}});
  }
}

// --- events -------------------------------------------------------------------------------------

bool RequesterSession::participates(const Writer& writer) const {
  if ((writer.subscription & subscribe::kBackupEvents) == 0) return false;
  return !backup_state_.component_mode || !writer.part.components.empty();
}

bool RequesterSession::receives(const Writer& writer, Event event) const {
  if (!session_.is_restore()) return participates(writer);
  if ((writer.subscription & subscribe::kRestoreEvents) == 0) return false;
  const auto& rules = writer.metadata.restore;
  const auto wish = rules ? rules->writer_restore : WriterRestore::undefined;
  const auto& components = writer.part.components;
  const bool selected = std::any_of(components.begin(), components.end(),
                                    [](const auto& c) { return c.selected_for_restore; });
  if (!selected || wish == WriterRestore::never) return false;
  return event != Event::post_restore || wish != WriterRestore::if_replace_fails ||
         !replaced_everything(writer);
}

rpc::WriterEvent RequesterSession::event_params(const Writer& writer, Event event) const {
  rpc::WriterEvent params;
  params.session_id = id_;
  params.set_id = set_id_;
  params.context = session_.context() | recovery_;
  params.backup_type = backup_state_.backup_type;
  params.component_mode = backup_state_.component_mode;
  params.bootable_system_state = backup_state_.bootable_system_state;
  params.partial_file_support = backup_state_.partial_file_support;
  params.restore_type = restore_.restore_type;
  params.time_limit_ms =
      static_cast<std::uint32_t>(coord::answer_limit(event, server_.limits()).count());
  for (const auto& member : members_) {
    rpc::AffectedVolume volume{member.volume.volume_id, member.volume.name, member.volume.device,
                               member.snapshot, ""};
    if (event == Event::post_snapshot) volume.snapshot_device = member.device_object;
    params.volumes.push_back(std::move(volume));
  }
  if (backup_state_.component_mode && carries_components(event))
    params.components = documents::to_xml(writer.part);
  return params;
}

void RequesterSession::run_round(Event event, std::function<void()> done) {
  const auto left = std::make_shared<std::size_t>(1);
  const auto count_down = [left, done = std::move(done)] {
    if (--*left == 0) done();
  };
  for (std::size_t w = 0; w < writers_.size(); ++w) {
    auto& writer = writers_[w];
    const auto link = server_.writer(writer.status.instance_id);
    if (!link || !receives(writer, event) || !coord::takes(writer.status, event)) continue;
    ++*left;
    writer.pending = event;
    if (event == Event::prepare_for_backup) writer.status.prepare_sent = true;
    link->send(event, event_params(writer, event), coord::answer_limit(event, server_.limits()),
               [self = shared_from_this(), w, event, count_down](WriterOutcome outcome) {
                 self->apply_outcome(self->writers_[w], event, std::move(outcome));
                 count_down();
               });
  }
  count_down();
}

void RequesterSession::apply_outcome(Writer& writer, Event event, WriterOutcome outcome) {
  writer.pending.reset();
  auto& status = writer.status;
  switch (outcome.kind) {
    case WriterOutcome::Kind::answered:
      apply_edits(writer, event, outcome.edits);
      coord::apply_answer(status, event, outcome.answer);
      break;
    case WriterOutcome::Kind::late:
      coord::apply_failure(status, event, Errc::writererror_timeout, "no answer in time");
      break;
    case WriterOutcome::Kind::lost:
      if (!status.lost) coord::apply_lost(status, event, name(event));
      break;
  }
  note(status);
  // PreRestore has or will have done what nobody but PostRestore undoes.
  const bool late = outcome.kind == WriterOutcome::Kind::late;
  if (event == Event::pre_restore && (late || (ending_ && status.pre_restored)))
    give_up_restore(writer, FileRestoreStatus::none);
  if (status.failure == Errc::ok) return;
  server_.log().warning("writer failed", {{"set", set_id_.to_string()},
                                          {"session", id_.to_string()},
                                          {"code", std::string(code_name(status.failure))},
                                          {"what", coord::failure_context(status)}});
}

// Abort and BackupShutdown: nobody waits for the answers.
void RequesterSession::tell_writers(Event event) {
  for (auto& writer : writers_) {
    const auto& status = writer.status;
    const bool finished = status.state == WriterState::waiting_for_backup_complete;
    if (!status.prepare_sent || (event == Event::abort && finished)) continue;
    const auto link = server_.writer(status.instance_id);
    if (!link) continue;
    const auto limit = coord::answer_limit(event, server_.limits());
    link->send(event, event_params(writer, event), limit, [](const WriterOutcome&) {});
    coord::apply_answer(writer.status, event, {});
    note(writer.status);
  }
}

void RequesterSession::prepare_for_backup(const Json&, const Reply& reply) {
  if (!allowed(SessionCall::prepare_for_backup, reply)) return;
  const auto operation = begin_operation(SessionCall::prepare_for_backup);
  session_.prepare_started();
  reply.good(rpc::StartedOperation{operation});
  run_round(Event::prepare_for_backup, [self = shared_from_this(), operation] {
    self->session_.prepare_finished(self->server_.now());
    self->finish_operation(operation, Errc::async_finished, "");
    self->server_.touch();
  });
}

void RequesterSession::backup_complete(const Json&, const Reply& reply) {
  if (!allowed(SessionCall::backup_complete, reply)) return;
  // Without a snapshot (PrepareForBackup, copy, BackupComplete) the set that was opened goes.
  if (session_.holds_set()) {
    for (const auto& provider : set_providers())
      if (const auto link = server_.provider(provider)) link->abort_set(set_id_);
    members_.clear();
    server_.traces.ended(set_id_, Errc::async_finished, "completed without a snapshot");
    server_.leave_slot(key_);
  }
  const auto operation = begin_operation(SessionCall::backup_complete);
  session_.completion_started();
  reply.good(rpc::StartedOperation{operation});
  run_round(Event::backup_complete, [self = shared_from_this(), operation] {
    self->session_.completion_finished();
    const bool good =
        std::none_of(self->writers_.begin(), self->writers_.end(), [](const Writer& writer) {
          return writer.status.state == WriterState::failed_at_backup_complete;
        });
    self->finish_operation(
        operation, good ? Errc::async_finished : Errc::unexpected_writer_error,
        good ? "" : "a writer failed at BackupComplete; see the writers' status");
    self->server_.touch();
  });
}

// --- status -------------------------------------------------------------------------------------

void RequesterSession::gather_writer_status(const Json&, const Reply& reply) {
  if (!allowed(SessionCall::gather_writer_status, reply)) return;
  // Nobody has to be asked: every answer went through here.
  const auto operation = begin_operation(SessionCall::gather_writer_status);
  session_.call_ended(server_.now(), SessionCall::gather_writer_status, true);
  reply.good(rpc::StartedOperation{operation});
  finish_operation(operation, Errc::async_finished, "");
}

void RequesterSession::get_writer_status(const Json&, const Reply& reply) {
  if (!allowed(SessionCall::get_writer_status, reply)) return;
  session_.call_ended(server_.now(), SessionCall::get_writer_status, true);
  reply.good(rpc::WriterStatusList{writer_statuses()});
}

std::vector<rpc::WriterStatus> RequesterSession::writer_statuses() const {
  std::vector<rpc::WriterStatus> list;
  const auto append = [&](const coord::SessionWriter& writer) {
    list.push_back({writer.instance_id, writer.class_id, writer.name, writer.state, writer.failure,
                    writer.application_code, writer.message});
  };
  for (std::size_t w = 0; w < writers_.size(); ++w) {
    const auto in_set = std::find(set_writers_.begin(), set_writers_.end(), w);
    if (set_ && in_set != set_writers_.end())
      append(set_->writers()[static_cast<std::size_t>(in_set - set_writers_.begin())]);
    else
      append(writers_[w].status);
  }
  return list;
}

void RequesterSession::note(const coord::SessionWriter& status) {
  server_.writers.note(status, server_.clock().wall_filetime());
}

void RequesterSession::writer_lost(const WriterInstanceId& instance) {
  for (std::size_t w = 0; w < writers_.size(); ++w) {
    auto& writer = writers_[w];
    if (writer.status.instance_id != instance) continue;
    const auto in_set = std::find(set_writers_.begin(), set_writers_.end(), w);
    if (set_ && in_set != set_writers_.end()) {
      set_->writer_lost(server_.now(), static_cast<std::size_t>(in_set - set_writers_.begin()));
      run_actions();
    } else if (!writer.status.lost) {
      coord::apply_lost(writer.status, writer.pending, name(session_.state()));
    }
  }
}

void RequesterSession::writer_window_expired(const WriterInstanceId& instance) {
  if (!set_) return;
  for (std::size_t i = 0; i < set_writers_.size(); ++i)
    if (writers_[set_writers_[i]].status.instance_id == instance)
      set_->writer_window_expired(server_.now(), i);
  run_actions();
}

}  // namespace umbra::daemon
