// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "requester-sdk/src/session_logic.h"

#include <algorithm>

#include "engine/documents/rules.h"
#include "engine/documents/xml.h"
#include "requester-sdk/src/convert.h"
#include "requester-sdk/src/session_calls.h"

namespace umbra::requester {
namespace {

// For an error: what the caller meant, as far as we can tell.
std::string in_words(const VolumeRef& volume) {
  if (!volume.path.empty()) return volume.path;
  if (volume.id) return "volume " + volume.id->to_string();
  return "the volume named \"" + volume.name + "\" (a path is written with a slash)";
}

using namespace std::chrono_literals;
using enum SessionState;

}  // namespace

std::string_view session_state_name(SessionState state) noexcept {
  switch (state) {
    case created: return "created";
    case initialized: return "initialized";
    case metadata_ready: return "metadata_ready";
    case set_started: return "set_started";
    case prepared: return "prepared";
    case snapshot_created: return "snapshot_created";
    case completed: return "completed";
    case failed: return "failed";
    case lost: return "lost";
    case gathering: return "gathering";
    case preparing: return "preparing";
    case creating: return "creating";
    case completing: return "completing";
  }
  return "unknown";
}

Status SessionLogic::allow(std::string_view call) {
  // What was started may have ended without anybody having looked.
  std::string running;
  if (!check_call(call, state_)) running = operations_.still_running();
  if (!link_.is_open()) state_ = lost;
  return check_call(call, state_, running);
}

Result<rpc::OperationStatus> SessionLogic::wait(std::string_view call, std::uint32_t operation,
                                                std::chrono::milliseconds limit,
                                                const OnProgress& progress) {
  auto status = operations_.wait(call, operation, limit, progress, [&](auto failed_status) {
    if (call == "do_snapshot_set") report_ = from_wire(std::move(failed_status));
  });
  if (!link_.is_open()) state_ = lost;
  return status;
}

AsyncOperation SessionLogic::watch(std::string_view call, SessionState during,
                                   std::uint32_t operation) {
  before_ = state_;
  state_ = during;
  return operations_.watch(call, operation, call == "do_snapshot_set",
                           [this, during](rpc::OperationStatus status) {
                             if (state_ == during) ended(during, std::move(status));
                           });
}

void SessionLogic::ended(SessionState during, rpc::OperationStatus status) {
  const bool good = status.status == Errc::async_finished;
  switch (during) {
    case gathering:
      state_ = good ? metadata_ready : before_;
      gathered_ = good;
      break;
    case preparing: state_ = good ? prepared : before_; break;
    case creating:
      state_ = good ? snapshot_created : failed;
      report_ = from_wire(std::move(status));
      break;
    case completing:
      // A writer failed, and the session has ended for all: as VSS has it.
      state_ = good || status.status == Errc::unexpected_writer_error ? completed : before_;
      break;
    default: state_ = during; break;
  }
}

Result<SessionId> SessionLogic::initialize_for_backup(const std::string& components) {
  if (const Status allowed = allow("initialize_for_backup"); !allowed) {
    return fail(allowed.error());
  }
  const auto info = request<rpc::SessionInfo>("session.initialize_for_backup",
                                              rpc::InitializeForBackup{components});
  if (!info) return fail(info.error());
  state_ = initialized;
  session_id_ = info->session_id;
  return info->session_id;
}

Result<SessionId> SessionLogic::session_id() const {
  if (state_ != created) return session_id_;
  return fail(Errc::bad_state, "session_id: call initialize_for_backup first");
}

Status SessionLogic::select_writers(std::string_view call, std::vector<Guid> ids) {
  if (const Status allowed = allow(call); !allowed) {
    return allowed;
  }
  if (state_ != initialized) return {};  // Without effect, as in VSS.
  const auto done =
      request<rpc::Nothing>("session." + std::string(call), rpc::WriterSelection{std::move(ids)});
  if (!done) return fail(done.error());
  return {};
}

Status SessionLogic::set_context(std::uint32_t context_and_attributes) {
  if (const Status allowed = allow("set_context"); !allowed) {
    return allowed;
  }
  if (context_set_) return fail(Errc::bad_state, "set_context: the context is set already");
  if (queried_) return fail(Errc::bad_state, "set_context: comes before the first query");
  const auto done =
      request<rpc::Nothing>("session.set_context", rpc::SetContext{context_and_attributes});
  if (!done) return fail(done.error());
  context_ = context_and_attributes;
  context_set_ = true;
  return {};
}

Status SessionLogic::set_backup_state(const BackupState& state) {
  if (const Status allowed = allow("set_backup_state"); !allowed) {
    return allowed;
  }
  const auto done =
      request<rpc::Nothing>("session.set_backup_state",
                            rpc::SetBackupState{state.component_mode, state.bootable_system_state,
                                                state.backup_type, state.partial_file_support});
  if (!done) return fail(done.error());
  component_mode_ = state.component_mode;
  backup_state_set_ = true;
  return {};
}

Status SessionLogic::gather_writer_metadata(std::chrono::milliseconds limit,
                                            const OnProgress& progress) {
  if (const Status allowed = allow("gather_writer_metadata"); !allowed) {
    return allowed;
  }
  const auto done = run("gather_writer_metadata", rpc::Nothing{}, limit, progress);
  if (!done) return fail(done.error());
  state_ = metadata_ready;
  gathered_ = true;
  return {};
}

Result<AsyncOperation> SessionLogic::start_gather_writer_metadata() {
  if (Status allowed = allow("gather_writer_metadata"); !allowed) return fail(allowed.error());
  return start("gather_writer_metadata", gathering, rpc::Nothing{});
}

Result<std::vector<WriterMetadata>> SessionLogic::writer_metadata() {
  const Status allowed = allow("writer_metadata");
  if (!allowed) return fail(allowed.error());
  if (!gathered_)
    return fail(Errc::bad_state, "writer_metadata: call gather_writer_metadata first");
  auto list = request<rpc::WriterMetadataList>("session.get_writer_metadata", rpc::Nothing{});
  if (!list) return fail(list.error());
  return from_wire(std::move(*list));
}

Status SessionLogic::add_component(const ComponentRef& component) {
  if (const Status allowed = allow("add_component"); !allowed) {
    return allowed;
  }
  if (!gathered_) return fail(Errc::bad_state, "add_component: call gather_writer_metadata first");
  if (!component_mode_) {
    return fail(Errc::bad_state, "add_component: the backup state says whole volumes");
  }
  const auto done = request<rpc::Nothing>("session.add_component", to_wire(component));
  if (!done) return fail(done.error());
  return {};
}

Status SessionLogic::set_component_text(std::string_view call, const ComponentRef& component,
                                        const std::string& text) {
  if (const Status allowed = allow(call); !allowed) return allowed;
  const auto done = request<rpc::Nothing>("session." + std::string(call),
                                          rpc::SetComponentText{to_wire(component), text});
  if (!done) return fail(done.error());
  return {};
}

Result<SnapshotSetId> SessionLogic::start_snapshot_set(std::chrono::milliseconds queue_limit) {
  const Status allowed = allow("start_snapshot_set");
  if (!allowed) return fail(allowed.error());
  if (queue_limit < 0ms || queue_limit > 24h) {
    return fail(Errc::invalid_argument, "start_snapshot_set: queue_limit must be 0 to 24 hours");
  }
  const rpc::StartSnapshotSet message{static_cast<std::uint32_t>(queue_limit.count())};
  const auto started = request<rpc::StartedSet>("session.start_snapshot_set", message,
                                                queue_limit + Link::kCallLimit);
  if (!started) return fail(started.error());
  state_ = set_started;
  return started->set_id;
}

Result<AddedSnapshot> SessionLogic::add_to_snapshot_set(const VolumeRef& volume,
                                                        const ProviderId& provider) {
  const Status allowed = allow("add_to_snapshot_set");
  if (!allowed) return fail(allowed.error());
  const auto added = request<rpc::AddedSnapshot>("session.add_to_snapshot_set",
                                                 rpc::AddToSnapshotSet{volume, provider});
  if (!added) return fail(added.error(), in_words(volume));
  return members_.emplace_back(AddedSnapshot{added->snapshot_id, added->volume_id});
}

Status SessionLogic::check_prepare() {
  if (Status allowed = allow("prepare_for_backup"); !allowed) return allowed;
  if (!writers_take_part()) {
    return fail(Errc::bad_state, "prepare_for_backup: the context is one without writers");
  }
  if (!backup_state_set_ || !gathered_) {
    return fail(Errc::bad_state, std::string("prepare_for_backup: call ") +
                                     (gathered_ ? "set_backup_state" : "gather_writer_metadata") +
                                     " first");
  }
  return {};
}

Status SessionLogic::prepare_for_backup(std::chrono::milliseconds limit,
                                        const OnProgress& progress) {
  if (Status allowed = check_prepare(); !allowed) return allowed;
  const auto done = run("prepare_for_backup", rpc::Nothing{}, limit, progress);
  if (!done) return fail(done.error());
  state_ = prepared;
  return {};
}

Result<AsyncOperation> SessionLogic::start_prepare_for_backup() {
  if (Status allowed = check_prepare(); !allowed) return fail(allowed.error());
  return start("prepare_for_backup", preparing, rpc::Nothing{});
}

Status SessionLogic::check_do(const DoOptions& options) {
  if (Status allowed = allow("do_snapshot_set"); !allowed) return allowed;
  if (writers_take_part() && state_ == set_started) {
    return fail(Errc::bad_state,
                "do_snapshot_set in state set_started: call prepare_for_backup first");
  }
  if (options.writer_policy != WriterPolicy::list && !options.policy_list.empty()) {
    return fail(Errc::invalid_argument, "do_snapshot_set: policy_list needs WriterPolicy::list");
  }
  report_ = {};
  return {};
}

Status SessionLogic::do_snapshot_set(const DoOptions& options) {
  if (Status allowed = check_do(options); !allowed) return allowed;
  auto done = run("do_snapshot_set", rpc::DoSnapshotSet{options.writer_policy, options.policy_list},
                  options.time_limit, options.on_progress);
  if (!done) {
    if (state_ != lost) state_ = failed;
    return fail(done.error());
  }
  report_ = from_wire(std::move(*done));
  state_ = snapshot_created;
  return {};
}

Result<AsyncOperation> SessionLogic::start_do_snapshot_set(const DoOptions& options) {
  if (Status allowed = check_do(options); !allowed) return fail(allowed.error());
  return start("do_snapshot_set", creating,
               rpc::DoSnapshotSet{options.writer_policy, options.policy_list});
}

Status SessionLogic::check_status(std::string_view call) {
  if (Status allowed = allow(call); !allowed) return allowed;
  if (gathered_) return {};
  return fail(Errc::bad_state, std::string(call) + ": call gather_writer_metadata first");
}

Result<std::vector<WriterStatus>> SessionLogic::gather_writer_status() {
  if (Status allowed = check_status("gather_writer_status"); !allowed) return fail(allowed.error());
  const auto done =
      run("gather_writer_status", rpc::Nothing{}, BackupSession::kGatherLimit, OnProgress{});
  if (!done) return fail(done.error());
  return writer_status();
}

Result<AsyncOperation> SessionLogic::start_gather_writer_status() {
  if (Status allowed = check_status("gather_writer_status"); !allowed) return fail(allowed.error());
  return start("gather_writer_status", state_, rpc::Nothing{});
}

Result<std::vector<WriterStatus>> SessionLogic::writer_status() {
  if (Status allowed = check_status("writer_status"); !allowed) return fail(allowed.error());
  auto list = request<rpc::WriterStatusList>("session.get_writer_status", rpc::Nothing{});
  if (!list) return fail(list.error());
  return from_wire(std::move(list->writers));
}

Status SessionLogic::set_backup_succeeded(const ComponentRef& component, bool succeeded) {
  if (const Status allowed = allow("set_backup_succeeded"); !allowed) {
    return allowed;
  }
  const auto done = request<rpc::Nothing>("session.set_backup_succeeded",
                                          rpc::SetBackupSucceeded{to_wire(component), succeeded});
  if (!done) return fail(done.error());
  return {};
}

Status SessionLogic::check_complete() {
  if (Status allowed = allow("backup_complete"); !allowed) return allowed;
  if (!writers_take_part()) {
    return fail(Errc::bad_state, "backup_complete: the context is one without writers");
  }
  // A writer takes what nobody speaks of for a failure: its logs would grow for ever.
  const auto parts = writer_components();
  if (!parts) return fail(parts.error());
  for (const WriterComponents& part : *parts) {
    for (const BackupComponent& component : part.components) {
      if (component.succeeded) continue;
      return fail(Errc::bad_state,
                  "backup_complete: say by set_backup_succeeded first how the backup of component "
                  "'" +
                      documents::full_path(component.logical_path, component.name) + "' went");
    }
  }
  return {};
}

Status SessionLogic::backup_complete(std::chrono::milliseconds limit, const OnProgress& progress) {
  if (Status allowed = check_complete(); !allowed) return allowed;
  return complete(limit, progress);
}

Status SessionLogic::complete(std::chrono::milliseconds limit, const OnProgress& progress) {
  const auto done = run("backup_complete", rpc::Nothing{}, limit, progress);
  if (!done && done.error().code != Errc::unexpected_writer_error) return fail(done.error());
  // A writer failed, and the session has ended for all: as VSS has it.
  state_ = completed;
  if (!done) return fail(done.error());
  return {};
}

Result<AsyncOperation> SessionLogic::start_backup_complete() {
  if (Status allowed = check_complete(); !allowed) return fail(allowed.error());
  return start("backup_complete", completing, rpc::Nothing{});
}

Status SessionLogic::abort_backup() {
  if (const Status allowed = allow("abort_backup"); !allowed) {
    return allowed;
  }
  // What umbrad has nothing to abort for stays what it is.
  const bool under_way = state_ != initialized && state_ != metadata_ready && state_ != completed;
  const auto done = request<rpc::Nothing>("session.abort_backup", rpc::Nothing{}, kUndoLimit);
  if (!done) return fail(done.error());
  if (under_way) state_ = failed;
  return {};
}

Result<std::string> SessionLogic::components_xml(bool for_saving) {
  const Status allowed = for_saving ? allow("save_as_xml") : allow("backup_components");
  if (!allowed) return fail(allowed.error());
  auto document = request<rpc::Document>("session.get_backup_components", rpc::Nothing{});
  if (!document) return fail(document.error());
  return std::move(document->xml);
}

Result<std::vector<WriterComponents>> SessionLogic::writer_components() {
  if (const Status allowed = allow("writer_components"); !allowed) return fail(allowed.error());
  const auto document = request<rpc::Document>("session.get_backup_components", rpc::Nothing{});
  if (!document) return fail(document.error());
  auto parsed = documents::parse_backup_components(document->xml);
  if (!parsed) return fail(parsed.error());
  return std::move(parsed->writers);
}

Result<BackupBundle> SessionLogic::bundle() {
  const Status allowed = allow("make_bundle");
  if (!allowed) return fail(allowed.error());
  const auto xml = components_xml(true);
  if (!xml) return fail(xml.error());
  auto components = documents::parse_backup_components(*xml);
  if (!components) return fail(components.error());
  const auto volumes = request<rpc::VolumeList>("volume.list", rpc::Nothing{});
  if (!volumes) return fail(volumes.error());
  BackupBundle bundle;
  bundle.components = std::move(*components);
  bundle_devices_.clear();
  for (const AddedSnapshot& member : members_) {
    bundle.volumes.push_back({member.volume_id, member.snapshot_id, {}, {}});
    bundle_devices_.push_back(0);
    for (const VolumeProperties& volume : volumes->volumes) {
      if (volume.volume_id != member.volume_id) continue;
      bundle.volumes.back().name = volume.name;
      bundle_devices_.back() = volume.device;
    }
  }
  if (!gathered_) return bundle;
  auto writers = writer_metadata();
  if (!writers) return fail(writers.error());
  for (const WriterComponents& part : bundle.components.writers) {
    for (WriterMetadata& writer : *writers) {
      if (writer.instance_id == part.instance_id)
        bundle.writers.push_back(std::move(writer.document));
    }
  }
  return bundle;
}

}  // namespace umbra::requester
