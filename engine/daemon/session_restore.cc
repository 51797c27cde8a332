// SPDX-License-Identifier: Apache-2.0
//
// Restores. VSS knows no abort here: a writer that took its data offline at PreRestore brings it
// back at PostRestore. So every writer that answered PreRestore well gets PostRestore, also when
// the requester is gone (with the files' status `failed` where it said nothing) and when its answer
// came too late (with `none`: nobody writes then).

#include <algorithm>
#include <utility>

#include "engine/daemon/requester_session.h"
#include "engine/documents/rules.h"
#include "engine/documents/xml.h"

namespace umbra::daemon {

using coord::SessionCall;
using Event = coord::WriterEvent;

namespace {

Status needs(std::uint32_t schema, std::uint32_t bit, std::string_view what) {
  if ((schema & bit) != 0) return {};
  return fail(Errc::not_supported, "the writer does not support " + std::string(what));
}

bool is_named(const BackupComponent& component, const rpc::ComponentRef& ref) {
  const bool type = ref.type == ComponentType::undefined || ref.type == component.type;
  return type && documents::same_path(documents::full_path(component.logical_path, component.name),
                                      documents::full_path(ref.logical_path, ref.name));
}

std::string described(const rpc::ComponentRef& ref) {
  return "component '" + printable(documents::full_path(ref.logical_path, ref.name)) + "'";
}

}  // namespace

// --- the document -------------------------------------------------------------------------------

void RequesterSession::initialize_for_restore(const Json& params, const Reply& reply) {
  auto message = take<rpc::InitializeForRestore>(params, reply);
  if (!message || !allowed(SessionCall::initialize_for_restore, reply)) return;
  // What is captured moves on: nothing of ours is to be destroyed on the other thread.
  server_.aside([self = shared_from_this(), xml = std::move(message->components),
                 reply = reply]() mutable -> std::function<void()> {
    auto document = documents::parse_backup_components(xml);
    return
        [self = std::move(self), document = std::move(document),
         reply = std::move(reply)]() mutable { self->restore_parsed(std::move(document), reply); };
  });
}

void RequesterSession::restore_parsed(Result<BackupComponentsDocument> document,
                                      const Reply& reply) {
  // The session may have become a backup, or have ended, in the meantime.
  if (ending_ || !allowed(SessionCall::initialize_for_restore, reply)) return;
  if (!document) return reply.error(document.error());
  documents::clear_restore(*document);
  load(std::move(*document));
  id_ = SessionId::random();
  session_.restore_initialised();
  server_.log().info("restore begins", {{"session", id_.to_string()}, {"peer", peer_.describe()}});
  reply.good(rpc::SessionInfo{id_});
}

// Each part goes to the live writer it is of: that of the same instance name, if it had one (to
// another only by set_selected_for_restore with its id), else any of its class.
void RequesterSession::bind_parts() {
  std::erase_if(restore_.writers, [&](WriterComponents& part) {
    for (auto& writer : writers_) {
      const bool same =
          writer.status.class_id == part.class_id &&
          (part.instance_name.empty() || writer.part.instance_name == part.instance_name);
      if (!same || writer.status.lost) continue;
      auto& components = writer.part.components;
      components.insert(components.end(), std::make_move_iterator(part.components.begin()),
                        std::make_move_iterator(part.components.end()));
      return true;
    }
    return false;
  });
}

Result<RequesterSession::Found> RequesterSession::find_for_restore(const rpc::ComponentRef& ref) {
  for (auto& writer : writers_) {
    if (writer.status.class_id != ref.class_id) continue;
    for (auto& component : writer.part.components)
      if (is_named(component, ref)) return Found{&writer, &component};
  }
  for (auto& part : restore_.writers) {
    if (part.class_id != ref.class_id) continue;
    for (auto& component : part.components)
      if (is_named(component, ref)) return Found{nullptr, &component};
  }
  return fail(Errc::object_not_found, described(ref) + " is not in the document");
}

Status RequesterSession::move_to(Found& found, const WriterInstanceId& instance) {
  const auto target = std::find_if(writers_.begin(), writers_.end(), [&](const Writer& writer) {
    return writer.status.instance_id == instance && !writer.status.lost;
  });
  if (target == writers_.end()) return fail(Errc::object_not_found, "no such writer is running");
  if (&*target == found.writer) return {};
  if (auto able = needs(target->metadata.backup_schema, backup_schema::kRestoreWithMove,
                        "components of another instance (RESTORE_WITH_MOVE)");
      !able)
    return able;
  auto moved = std::move(*found.component);
  const auto drop = [&](WriterComponents& part) {
    std::erase_if(part.components, [&](const auto& one) { return &one == found.component; });
  };
  if (found.writer != nullptr) drop(found.writer->part);
  for (auto& part : restore_.writers) drop(part);
  std::erase_if(restore_.writers, [](const auto& part) { return part.components.empty(); });
  target->part.components.push_back(std::move(moved));
  found = {&*target, &target->part.components.back()};
  return {};
}

template <class Message>
std::optional<std::pair<Message, RequesterSession::Found>> RequesterSession::take_for_restore(
    SessionCall call, const Json& params, const Reply& reply) {
  auto message = take<Message>(params, reply);
  if (!message || !allowed(call, reply)) return std::nullopt;
  auto found = find_for_restore(message->component);
  if (!found) {
    reply.error(found.error());
    return std::nullopt;
  }
  // Only selecting can name another writer, which may be the one that runs.
  const bool selecting = call == SessionCall::set_selected_for_restore;
  const bool moves = selecting && !message->component.instance_id.is_nil();
  if (!moves && (found->writer == nullptr || found->writer->status.lost)) {
    reply.error({Errc::object_not_found,
                 "the writer of " + described(message->component) + " is not running"});
    return std::nullopt;
  }
  if (!selecting && !found->component->selected_for_restore) {
    reply.error(
        {Errc::object_not_found, described(message->component) + " is not selected for restore"});
    return std::nullopt;
  }
  return std::pair{std::move(*message), *found};
}

// --- what the requester asks
// ----------------------------------------------------------------------

void RequesterSession::set_restore_state(const Json& params, const Reply& reply) {
  const auto message = take<rpc::SetRestoreState>(params, reply);
  if (!message || !allowed(SessionCall::set_restore_state, reply)) return;
  restore_.restore_type = message->restore_type;
  reply.good();
}

void RequesterSession::set_selected_for_restore(const Json& params, const Reply& reply) {
  auto taken = take_for_restore<rpc::SetSelectedForRestore>(SessionCall::set_selected_for_restore,
                                                            params, reply);
  if (!taken) return;
  auto& [message, found] = *taken;
  if (!message.component.instance_id.is_nil())
    if (const auto moved = move_to(found, message.component.instance_id); !moved)
      return reply.error(moved.error());
  found.component->selected_for_restore = message.selected;
  reply.good();
}

void RequesterSession::add_restore_subcomponent(const Json& params, const Reply& reply) {
  const auto taken = take_for_restore<rpc::AddRestoreSubcomponent>(
      SessionCall::add_restore_subcomponent, params, reply);
  if (!taken) return;
  const auto& [message, found] = *taken;
  reply.send(
      documents::add_restore_subcomponent(*found.component, message.logical_path, message.name));
}

void RequesterSession::set_restore_options(const Json& params, const Reply& reply) {
  auto taken =
      take_for_restore<rpc::SetRestoreText>(SessionCall::set_restore_options, params, reply);
  if (!taken) return;
  auto& [message, found] = *taken;
  if (found.component->restore_options)
    return reply.error({Errc::object_already_exists,
                        described(message.component) + " has its restore options already"});
  found.component->restore_options = std::move(message.text);
  reply.good();
}

void RequesterSession::set_authoritative_restore(const Json& params, const Reply& reply) {
  const auto taken =
      take_for_restore<rpc::SetRestoreFlag>(SessionCall::set_authoritative_restore, params, reply);
  if (!taken) return;
  const auto& [message, found] = *taken;
  const auto able = needs(found.writer->metadata.backup_schema,
                          backup_schema::kAuthoritativeRestore, "authoritative restores");
  if (able) found.component->authoritative_restore = message.value;
  reply.send(able);
}

void RequesterSession::set_roll_forward(const Json& params, const Reply& reply) {
  auto taken = take_for_restore<rpc::SetRollForward>(SessionCall::set_roll_forward, params, reply);
  if (!taken) return;
  auto& [message, found] = *taken;
  const auto able = needs(found.writer->metadata.backup_schema, backup_schema::kRollForwardRestore,
                          "rolling forward");
  if (able) found.component->roll_forward = RollForward{message.type, std::move(message.point)};
  reply.send(able);
}

void RequesterSession::set_restore_name(const Json& params, const Reply& reply) {
  auto taken = take_for_restore<rpc::SetRestoreText>(SessionCall::set_restore_name, params, reply);
  if (!taken) return;
  auto& [message, found] = *taken;
  const auto able = needs(found.writer->metadata.backup_schema, backup_schema::kRestoreRename,
                          "restoring under another name");
  if (able) found.component->restore_name = std::move(message.text);
  reply.send(able);
}

void RequesterSession::add_new_target(const Json& params, const Reply& reply) {
  const auto taken =
      take_for_restore<rpc::RestoreLocation>(SessionCall::add_new_target, params, reply);
  if (!taken) return;
  const auto& [message, found] = *taken;
  auto able = needs(found.writer->metadata.backup_schema, backup_schema::kNewTarget, "new targets");
  if (able)
    able = documents::add_location(
        found.component->new_targets,
        {message.path, message.pattern, message.recursive, message.destination});
  reply.send(able);
}

void RequesterSession::set_additional_restores(const Json& params, const Reply& reply) {
  const auto taken =
      take_for_restore<rpc::SetRestoreFlag>(SessionCall::set_additional_restores, params, reply);
  if (!taken) return;
  taken->second.component->additional_restores = taken->first.value;
  reply.good();
}

void RequesterSession::set_ranges_file_path(const Json& params, const Reply& reply) {
  const auto taken =
      take_for_restore<rpc::SetRangesFilePath>(SessionCall::set_ranges_file_path, params, reply);
  if (!taken) return;
  const auto& [message, found] = *taken;
  auto& files = found.component->partial_files;
  if (message.partial_file >= files.size())
    return reply.error({Errc::object_not_found,
                        described(message.component) + " has no partial file of that index"});
  if (!message.path.starts_with('/'))
    return reply.error({Errc::invalid_argument, "path: must be absolute"});
  files[message.partial_file].ranges = "File=" + message.path;
  reply.good();
}

void RequesterSession::add_alternative_location_mapping(const Json& params, const Reply& reply) {
  const auto taken = take_for_restore<rpc::RestoreLocation>(
      SessionCall::add_alternative_location_mapping, params, reply);
  if (!taken) return;
  const auto& [message, found] = *taken;
  reply.send(documents::add_location(
      found.component->alternate_locations,
      {message.path, message.pattern, message.recursive, message.destination}));
}

void RequesterSession::set_file_restore_status(const Json& params, const Reply& reply) {
  const auto taken = take_for_restore<rpc::SetFileRestoreStatus>(
      SessionCall::set_file_restore_status, params, reply);
  if (!taken) return;
  if (taken->first.status == FileRestoreStatus::undefined)
    return reply.error({Errc::invalid_argument, "status: none, all or failed"});
  taken->second.component->file_restore_status = taken->first.status;
  reply.good();
}

// --- the events
// -----------------------------------------------------------------------------------

void RequesterSession::pre_restore(const Json&, const Reply& reply) {
  if (!allowed(SessionCall::pre_restore, reply)) return;
  const auto operation = begin_operation(SessionCall::pre_restore);
  session_.pre_restore_started();
  reply.good(rpc::StartedOperation{operation});
  run_round(Event::pre_restore, [self = shared_from_this(), operation] {
    self->session_.pre_restore_finished();
    self->finish_operation(operation, Errc::async_finished, "");
    self->server_.touch();
  });
}

bool RequesterSession::replaced_everything(const Writer& writer) const {
  return std::all_of(
      writer.part.components.begin(), writer.part.components.end(), [](const auto& one) {
        return !one.selected_for_restore || (one.file_restore_status == FileRestoreStatus::all &&
                                             one.alternate_locations.empty());
      });
}

void RequesterSession::post_restore(const Json&, const Reply& reply) {
  if (!allowed(SessionCall::post_restore, reply)) return;
  const auto operation = begin_operation(SessionCall::post_restore);
  session_.post_restore_started();
  reply.good(rpc::StartedOperation{operation});
  run_round(Event::post_restore, [self = shared_from_this(), operation] {
    self->session_.post_restore_finished();
    std::string gone;
    for (const auto& writer : self->writers_)
      if (writer.status.lost && self->receives(writer, Event::post_restore))
        gone += (gone.empty() ? "writer '" : ", '") + printable(writer.status.name) + "'";
    self->end_restores();
    if (gone.empty())
      self->finish_operation(operation, Errc::async_finished, "");
    else
      self->finish_operation(operation, Errc::writer_not_responding,
                             gone + " went away in the restore and did not see its end");
    self->server_.touch();
  });
}

// PostRestore without anybody who waits for the answer.
void RequesterSession::give_up_restore(Writer& writer, FileRestoreStatus unsaid) {
  for (auto& component : writer.part.components)
    if (component.selected_for_restore &&
        component.file_restore_status == FileRestoreStatus::undefined)
      component.file_restore_status = unsaid;
  writer.status.pre_restored = false;
  const auto link = server_.writer(writer.status.instance_id);
  if (!link) return;
  server_.log().warning("restore given up",
                        {{"session", id_.to_string()}, {"writer", printable(writer.status.name)}});
  link->send(Event::post_restore, event_params(writer, Event::post_restore),
             coord::answer_limit(Event::post_restore, server_.limits()),
             [](const WriterOutcome&) {});
}

// Whoever took PreRestore and will not be asked again: PostRestore, or word that none comes.
void RequesterSession::end_restores() {
  if (!session_.is_restore()) return;
  for (auto& writer : writers_) {
    if (!writer.status.pre_restored || writer.status.lost || writer.pending) continue;
    if (session_.state() != coord::SessionState::restored) {
      give_up_restore(writer, FileRestoreStatus::failed);
      continue;
    }
    const auto link = server_.writer(writer.status.instance_id);
    if (!link) continue;
    writer.status.pre_restored = false;
    link->send(Event::restore_end, event_params(writer, Event::restore_end),
               coord::answer_limit(Event::restore_end, server_.limits()),
               [](const WriterOutcome&) {});
  }
}

}  // namespace umbra::daemon
