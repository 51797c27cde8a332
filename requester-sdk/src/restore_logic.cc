// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "requester-sdk/src/restore_logic.h"

#include <utility>

#include "engine/documents/xml.h"
#include "requester-sdk/src/convert.h"
#include "requester-sdk/src/session_calls.h"

namespace umbra::requester {
namespace {

using enum RestoreState;

rpc::RestoreLocation to_wire(const ComponentRef& component, const AlternateLocation& location) {
  return {requester::to_wire(component), location.path, location.pattern, location.recursive,
          location.destination};
}

}  // namespace

std::string_view restore_state_name(RestoreState state) noexcept {
  switch (state) {
    case created: return "created";
    case initialized: return "initialized";
    case metadata_ready: return "metadata_ready";
    case prepared: return "prepared";
    case restored: return "restored";
    case lost: return "lost";
    case gathering: return "gathering";
    case pre_restoring: return "pre_restoring";
    case post_restoring: return "post_restoring";
  }
  return "unknown";
}

Status RestoreLogic::allow(std::string_view call) {
  // What was started may have ended without anybody having looked.
  std::string running;
  if (!check_call(call, state_)) running = operations_.still_running();
  if (!link_.is_open()) state_ = lost;
  return check_call(call, state_, running);
}

template <class Reply, class Request>
Result<Reply> RestoreLogic::request(std::string_view method, const Request& params) {
  Result<Reply> reply = link_.call<Reply>(method, params);
  if (!link_.is_open()) state_ = lost;
  return reply;
}

template <class Request>
Status RestoreLogic::tell(std::string_view call, const Request& params) {
  if (Status allowed = allow(call); !allowed) return allowed;
  const auto done = request<rpc::Nothing>("session." + std::string(call), params);
  if (!done) return fail(done.error());
  return {};
}

Status RestoreLogic::run(std::string_view call, RestoreState after, std::chrono::milliseconds limit,
                         const OnProgress& progress) {
  if (Status allowed = allow(call); !allowed) return allowed;
  const auto started =
      request<rpc::StartedOperation>("session." + std::string(call), rpc::Nothing{});
  if (!started) return fail(started.error());
  const auto done = operations_.wait(call, started->operation, limit, progress);
  state_ = link_.is_open() ? after : lost;
  if (!done) return fail(done.error());
  return {};
}

template <class Request>
Result<AsyncOperation> RestoreLogic::start(std::string_view call, RestoreState during,
                                           RestoreState after, const Request& params) {
  if (Status allowed = allow(call); !allowed) return fail(allowed.error());
  const auto started = request<rpc::StartedOperation>("session." + std::string(call), params);
  if (!started) return fail(started.error());
  state_ = during;
  // A writer's failure is in its status, and no reason to stay where we were.
  return operations_.watch(call, started->operation, false,
                           [this, during, after](const rpc::OperationStatus&) {
                             if (state_ == during) state_ = after;
                           });
}

Result<SessionId> RestoreLogic::initialize_for_restore(const BackupComponentsDocument& document) {
  const Status allowed = allow("initialize_for_restore");
  if (!allowed) return fail(allowed.error());
  const auto info = request<rpc::SessionInfo>(
      "session.initialize_for_restore", rpc::InitializeForRestore{documents::to_xml(document)});
  if (!info) return fail(info.error());
  state_ = initialized;
  session_id_ = info->session_id;
  return info->session_id;
}

Result<SessionId> RestoreLogic::session_id() const {
  if (state_ != created) return session_id_;
  return fail(Errc::bad_state, "session_id: call initialize_for_restore first");
}

Status RestoreLogic::select_writers(std::string_view call, std::vector<Guid> ids) {
  if (Status allowed = allow(call); !allowed) return allowed;
  if (state_ != initialized) return {};  // Without effect, as in VSS.
  return tell(call, rpc::WriterSelection{std::move(ids)});
}

Status RestoreLogic::set_restore_state(RestoreType type) {
  return tell("set_restore_state", rpc::SetRestoreState{type});
}

Status RestoreLogic::gather_writer_metadata(std::chrono::milliseconds limit,
                                            const OnProgress& progress) {
  return run("gather_writer_metadata", metadata_ready, limit, progress);
}

Result<std::vector<WriterMetadata>> RestoreLogic::writer_metadata() {
  const Status allowed = allow("writer_metadata");
  if (!allowed) return fail(allowed.error());
  auto list = request<rpc::WriterMetadataList>("session.get_writer_metadata", rpc::Nothing{});
  if (!list) return fail(list.error());
  return from_wire(std::move(*list));
}

Status RestoreLogic::set_selected_for_restore(const ComponentRef& component, bool selected) {
  return tell("set_selected_for_restore",
              rpc::SetSelectedForRestore{requester::to_wire(component), selected});
}
Status RestoreLogic::add_restore_subcomponent(const ComponentRef& component,
                                              const RestoreSubcomponent& part) {
  return tell(
      "add_restore_subcomponent",
      rpc::AddRestoreSubcomponent{requester::to_wire(component), part.logical_path, part.name});
}
Status RestoreLogic::set_restore_options(const ComponentRef& component,
                                         const std::string& options) {
  return tell("set_restore_options", rpc::SetRestoreText{requester::to_wire(component), options});
}
Status RestoreLogic::set_authoritative_restore(const ComponentRef& component, bool value) {
  return tell("set_authoritative_restore",
              rpc::SetRestoreFlag{requester::to_wire(component), value});
}
Status RestoreLogic::set_roll_forward(const ComponentRef& component, const RollForward& to) {
  return tell("set_roll_forward",
              rpc::SetRollForward{requester::to_wire(component), to.type, to.point});
}
Status RestoreLogic::set_restore_name(const ComponentRef& component, const std::string& name) {
  return tell("set_restore_name", rpc::SetRestoreText{requester::to_wire(component), name});
}
Status RestoreLogic::add_new_target(const ComponentRef& component,
                                    const AlternateLocation& location) {
  return tell("add_new_target", to_wire(component, location));
}
Status RestoreLogic::set_additional_restores(const ComponentRef& component, bool more_follow) {
  return tell("set_additional_restores",
              rpc::SetRestoreFlag{requester::to_wire(component), more_follow});
}
Status RestoreLogic::set_ranges_file_path(const ComponentRef& component, std::uint32_t partial_file,
                                          const std::string& path) {
  return tell("set_ranges_file_path",
              rpc::SetRangesFilePath{requester::to_wire(component), partial_file, path});
}

Status RestoreLogic::pre_restore(std::chrono::milliseconds limit, const OnProgress& progress) {
  return run("pre_restore", prepared, limit, progress);
}

Status RestoreLogic::add_alternative_location_mapping(const ComponentRef& component,
                                                      const AlternateLocation& location) {
  return tell("add_alternative_location_mapping", to_wire(component, location));
}
Status RestoreLogic::set_file_restore_status(const ComponentRef& component,
                                             FileRestoreStatus status) {
  return tell("set_file_restore_status",
              rpc::SetFileRestoreStatus{requester::to_wire(component), status});
}

Status RestoreLogic::post_restore(std::chrono::milliseconds limit, const OnProgress& progress) {
  return run("post_restore", restored, limit, progress);
}

Result<AsyncOperation> RestoreLogic::start_gather_writer_metadata() {
  return start("gather_writer_metadata", gathering, metadata_ready);
}
Result<AsyncOperation> RestoreLogic::start_pre_restore() {
  return start("pre_restore", pre_restoring, prepared);
}
Result<AsyncOperation> RestoreLogic::start_post_restore() {
  return start("post_restore", post_restoring, restored);
}
Result<AsyncOperation> RestoreLogic::start_gather_writer_status() {
  return start("gather_writer_status", state_, state_);
}

Result<AsyncOperation> RestoreLogic::start_recover_set(std::uint32_t flags) {
  return start("recover_set", state_, state_, rpc::RecoverSet{flags});
}

Result<std::vector<WriterStatus>> RestoreLogic::gather_writer_status() {
  const Status gathered =
      run("gather_writer_status", state_, RestoreSession::kGatherLimit, OnProgress{});
  if (!gathered) return fail(gathered.error());
  return writer_status();
}

Result<std::vector<WriterStatus>> RestoreLogic::writer_status() {
  if (const Status allowed = allow("writer_status"); !allowed) return fail(allowed.error());
  auto list = request<rpc::WriterStatusList>("session.get_writer_status", rpc::Nothing{});
  if (!list) return fail(list.error());
  return from_wire(std::move(list->writers));
}

Status RestoreLogic::add_snapshot_to_recovery_set(const SnapshotId& id, std::uint32_t flags,
                                                  const VolumeRef& destination) {
  return tell("add_snapshot_to_recovery_set",
              rpc::AddSnapshotToRecoverySet{id, flags, destination});
}

Status RestoreLogic::recover_set(std::uint32_t flags, std::chrono::milliseconds limit) {
  if (Status allowed = allow("recover_set"); !allowed) return allowed;
  const auto started =
      request<rpc::StartedOperation>("session.recover_set", rpc::RecoverSet{flags});
  if (!started) return fail(started.error());
  const auto done = operations_.wait("recover_set", started->operation, limit, OnProgress{});
  if (!link_.is_open()) state_ = lost;
  if (!done) return fail(done.error());
  return {};
}

Result<BackupComponentsDocument> RestoreLogic::backup_components() {
  const Status allowed = allow("backup_components");
  if (!allowed) return fail(allowed.error());
  const auto document = request<rpc::Document>("session.get_backup_components", rpc::Nothing{});
  if (!document) return fail(document.error());
  return documents::parse_backup_components(document->xml);
}

}  // namespace umbra::requester
