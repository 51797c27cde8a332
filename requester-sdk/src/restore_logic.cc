// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "requester-sdk/src/restore_logic.h"

#include <algorithm>

#include "engine/documents/xml.h"
#include "requester-sdk/src/convert.h"

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
  }
  return "unknown";
}

Status RestoreLogic::allow(std::string_view call,
                           std::initializer_list<RestoreState> states) const {
  if (state_ == lost) return fail(Errc::coordinator_lost, std::string(call) + ": session lost");
  if (std::find(states.begin(), states.end(), state_) != states.end()) return {};
  std::string context(call);
  context.append(" in state ").append(restore_state_name(state_)).append("; allowed in");
  for (const RestoreState state : states) context.append(" ").append(restore_state_name(state));
  return fail(Errc::bad_state, std::move(context));
}

template <class Reply, class Request>
Result<Reply> RestoreLogic::request(std::string_view method, const Request& params) {
  Result<Reply> reply = link_.call<Reply>(method, params);
  if (!link_.is_open()) state_ = lost;
  return reply;
}

template <class Request>
Status RestoreLogic::tell(std::string_view call, std::initializer_list<RestoreState> states,
                          const Request& params) {
  if (const Status allowed = allow(call, states); !allowed) return allowed;
  const auto done = request<rpc::Nothing>("session." + std::string(call), params);
  if (!done) return fail(done.error());
  return {};
}

Status RestoreLogic::run(std::string_view call, RestoreState before, RestoreState after,
                         std::chrono::milliseconds limit, const OnProgress& progress) {
  if (const Status allowed = allow(call, {before}); !allowed) return allowed;
  const auto started =
      request<rpc::StartedOperation>("session." + std::string(call), rpc::Nothing{});
  if (!started) return fail(started.error());
  const auto done = operations_.wait(call, started->operation, limit, progress);
  state_ = link_.is_open() ? after : lost;
  if (!done) return fail(done.error());
  return {};
}

Result<SessionId> RestoreLogic::initialize_for_restore(const BackupComponentsDocument& document) {
  const Status allowed = allow("initialize_for_restore", {created});
  if (!allowed) return fail(allowed.error());
  const auto info = request<rpc::SessionInfo>(
      "session.initialize_for_restore", rpc::InitializeForRestore{documents::to_xml(document)});
  if (!info) return fail(info.error());
  state_ = initialized;
  return info->session_id;
}

Status RestoreLogic::select_writers(std::string_view call, std::vector<Guid> ids) {
  return tell(call, {initialized, metadata_ready, prepared, restored},
              rpc::WriterSelection{std::move(ids)});
}

Status RestoreLogic::set_restore_state(RestoreType type) {
  return tell("set_restore_state", {initialized, metadata_ready}, rpc::SetRestoreState{type});
}

Status RestoreLogic::gather_writer_metadata(std::chrono::milliseconds limit,
                                            const OnProgress& progress) {
  return run("gather_writer_metadata", initialized, metadata_ready, limit, progress);
}

Result<std::vector<WriterMetadata>> RestoreLogic::writer_metadata() {
  const Status allowed = allow("writer_metadata", {metadata_ready, prepared, restored});
  if (!allowed) return fail(allowed.error());
  auto list = request<rpc::WriterMetadataList>("session.get_writer_metadata", rpc::Nothing{});
  if (!list) return fail(list.error());
  return from_wire(std::move(*list));
}

Status RestoreLogic::set_selected_for_restore(const ComponentRef& component, bool selected) {
  return tell("set_selected_for_restore", {metadata_ready},
              rpc::SetSelectedForRestore{requester::to_wire(component), selected});
}
Status RestoreLogic::add_restore_subcomponent(const ComponentRef& component,
                                              const RestoreSubcomponent& part) {
  return tell(
      "add_restore_subcomponent", {metadata_ready},
      rpc::AddRestoreSubcomponent{requester::to_wire(component), part.logical_path, part.name});
}
Status RestoreLogic::set_restore_options(const ComponentRef& component,
                                         const std::string& options) {
  return tell("set_restore_options", {metadata_ready},
              rpc::SetRestoreText{requester::to_wire(component), options});
}
Status RestoreLogic::set_authoritative_restore(const ComponentRef& component, bool value) {
  return tell("set_authoritative_restore", {metadata_ready},
              rpc::SetRestoreFlag{requester::to_wire(component), value});
}
Status RestoreLogic::set_roll_forward(const ComponentRef& component, const RollForward& to) {
  return tell("set_roll_forward", {metadata_ready},
              rpc::SetRollForward{requester::to_wire(component), to.type, to.point});
}
Status RestoreLogic::set_restore_name(const ComponentRef& component, const std::string& name) {
  return tell("set_restore_name", {metadata_ready},
              rpc::SetRestoreText{requester::to_wire(component), name});
}
Status RestoreLogic::add_new_target(const ComponentRef& component,
                                    const AlternateLocation& location) {
  return tell("add_new_target", {metadata_ready, prepared}, to_wire(component, location));
}
Status RestoreLogic::set_additional_restores(const ComponentRef& component, bool more_follow) {
  return tell("set_additional_restores", {metadata_ready, prepared},
              rpc::SetRestoreFlag{requester::to_wire(component), more_follow});
}
Status RestoreLogic::set_ranges_file_path(const ComponentRef& component, std::uint32_t partial_file,
                                          const std::string& path) {
  return tell("set_ranges_file_path", {metadata_ready, prepared},
              rpc::SetRangesFilePath{requester::to_wire(component), partial_file, path});
}

Status RestoreLogic::pre_restore(std::chrono::milliseconds limit, const OnProgress& progress) {
  return run("pre_restore", metadata_ready, prepared, limit, progress);
}

Status RestoreLogic::add_alternative_location_mapping(const ComponentRef& component,
                                                      const AlternateLocation& location) {
  return tell("add_alternative_location_mapping", {prepared}, to_wire(component, location));
}
Status RestoreLogic::set_file_restore_status(const ComponentRef& component,
                                             FileRestoreStatus status) {
  return tell("set_file_restore_status", {prepared},
              rpc::SetFileRestoreStatus{requester::to_wire(component), status});
}

Status RestoreLogic::post_restore(std::chrono::milliseconds limit, const OnProgress& progress) {
  return run("post_restore", prepared, restored, limit, progress);
}

Result<std::vector<WriterStatus>> RestoreLogic::gather_writer_status() {
  const Status allowed = allow("gather_writer_status", {metadata_ready, prepared, restored});
  if (!allowed) return fail(allowed.error());
  const Status gathered =
      run("gather_writer_status", state_, state_, RestoreSession::kGatherLimit, OnProgress{});
  if (!gathered) return fail(gathered.error());
  auto list = request<rpc::WriterStatusList>("session.get_writer_status", rpc::Nothing{});
  if (!list) return fail(list.error());
  return from_wire(std::move(list->writers));
}

Result<BackupComponentsDocument> RestoreLogic::backup_components() {
  const Status allowed =
      allow("backup_components", {initialized, metadata_ready, prepared, restored});
  if (!allowed) return fail(allowed.error());
  const auto document = request<rpc::Document>("session.get_backup_components", rpc::Nothing{});
  if (!document) return fail(document.error());
  return documents::parse_backup_components(document->xml);
}

}  // namespace umbra::requester
