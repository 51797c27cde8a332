// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "requester-sdk/src/session_logic.h"

#include <algorithm>

#include "engine/documents/rules.h"
#include "engine/documents/xml.h"
#include "requester-sdk/src/convert.h"

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
  }
  return "unknown";
}

Status SessionLogic::allow(std::string_view call,
                           std::initializer_list<SessionState> states) const {
  if (state_ == lost) return fail(Errc::coordinator_lost, std::string(call) + ": session lost");
  if (std::find(states.begin(), states.end(), state_) != states.end()) return {};
  std::string context(call);
  context.append(" in state ").append(session_state_name(state_)).append("; allowed in");
  for (const SessionState state : states) context.append(" ").append(session_state_name(state));
  return fail(Errc::bad_state, std::move(context));
}

template <class Reply, class Request>
Result<Reply> SessionLogic::request(std::string_view method, const Request& params,
                                    std::chrono::milliseconds limit) {
  Result<Reply> reply = link_.call<Reply>(method, params, limit);
  if (!link_.is_open()) state_ = lost;
  return reply;
}

template <class Request>
Result<rpc::OperationStatus> SessionLogic::run(std::string_view call, const Request& params,
                                               std::chrono::milliseconds limit,
                                               const OnProgress& progress) {
  const auto started = request<rpc::StartedOperation>("session." + std::string(call), params);
  if (!started) return fail(started.error());
  return wait(call, started->operation, limit, progress);
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

Result<SessionId> SessionLogic::initialize_for_backup() {
  if (const Status allowed = allow("initialize_for_backup", {created}); !allowed) {
    return fail(allowed.error());
  }
  const auto info =
      request<rpc::SessionInfo>("session.initialize_for_backup", rpc::InitializeForBackup{});
  if (!info) return fail(info.error());
  state_ = initialized;
  return info->session_id;
}

Status SessionLogic::select_writers(std::string_view call, std::vector<Guid> ids) {
  if (const Status allowed = allow(call, {initialized, metadata_ready, set_started, prepared,
                                          snapshot_created, completed, failed});
      !allowed) {
    return allowed;
  }
  if (state_ != initialized) return {};  // Without effect, as in VSS.
  const auto done =
      request<rpc::Nothing>("session." + std::string(call), rpc::WriterSelection{std::move(ids)});
  if (!done) return fail(done.error());
  return {};
}

Status SessionLogic::set_context(std::uint32_t context_and_attributes) {
  if (const Status allowed = allow("set_context", {initialized, metadata_ready}); !allowed) {
    return allowed;
  }
  if (context_set_) return fail(Errc::bad_state, "set_context: the context is set already");
  const auto done =
      request<rpc::Nothing>("session.set_context", rpc::SetContext{context_and_attributes});
  if (!done) return fail(done.error());
  context_ = context_and_attributes;
  context_set_ = true;
  return {};
}

Status SessionLogic::set_backup_state(const BackupState& state) {
  if (const Status allowed = allow("set_backup_state", {initialized, metadata_ready, set_started});
      !allowed) {
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
  if (const Status allowed = allow("gather_writer_metadata", {initialized}); !allowed) {
    return allowed;
  }
  const auto done = run("gather_writer_metadata", rpc::Nothing{}, limit, progress);
  if (!done) return fail(done.error());
  state_ = metadata_ready;
  gathered_ = true;
  return {};
}

Result<std::vector<WriterMetadata>> SessionLogic::writer_metadata() {
  const Status allowed = allow("writer_metadata", {metadata_ready, set_started, prepared,
                                                   snapshot_created, completed, failed});
  if (!allowed) return fail(allowed.error());
  if (!gathered_)
    return fail(Errc::bad_state, "writer_metadata: call gather_writer_metadata first");
  auto list = request<rpc::WriterMetadataList>("session.get_writer_metadata", rpc::Nothing{});
  if (!list) return fail(list.error());
  return from_wire(std::move(*list));
}

Status SessionLogic::add_component(const ComponentRef& component) {
  if (const Status allowed = allow("add_component", {metadata_ready, set_started}); !allowed) {
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

Result<SnapshotSetId> SessionLogic::start_snapshot_set(std::chrono::milliseconds queue_limit) {
  const Status allowed = allow("start_snapshot_set", {initialized, metadata_ready});
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
  const Status allowed = allow("add_to_snapshot_set", {set_started});
  if (!allowed) return fail(allowed.error());
  const auto added = request<rpc::AddedSnapshot>("session.add_to_snapshot_set",
                                                 rpc::AddToSnapshotSet{volume, provider});
  if (!added) return fail(added.error(), in_words(volume));
  return members_.emplace_back(AddedSnapshot{added->snapshot_id, added->volume_id});
}

Status SessionLogic::prepare_for_backup(std::chrono::milliseconds limit,
                                        const OnProgress& progress) {
  if (const Status allowed = allow("prepare_for_backup", {set_started}); !allowed) return allowed;
  if (!writers_take_part()) {
    return fail(Errc::bad_state, "prepare_for_backup: the context is one without writers");
  }
  if (!backup_state_set_ || !gathered_) {
    return fail(Errc::bad_state, std::string("prepare_for_backup: call ") +
                                     (gathered_ ? "set_backup_state" : "gather_writer_metadata") +
                                     " first");
  }
  const auto done = run("prepare_for_backup", rpc::Nothing{}, limit, progress);
  if (!done) return fail(done.error());
  state_ = prepared;
  return {};
}

Status SessionLogic::do_snapshot_set(const DoOptions& options) {
  Status allowed = writers_take_part() ? allow("do_snapshot_set", {prepared})
                                       : allow("do_snapshot_set", {set_started});
  if (!allowed) return allowed;
  if (options.policy != WriterPolicy::list && !options.policy_list.empty()) {
    return fail(Errc::invalid_argument, "do_snapshot_set: policy_list needs WriterPolicy::list");
  }
  report_ = {};
  auto done = run("do_snapshot_set", rpc::DoSnapshotSet{options.policy, options.policy_list},
                  options.time_limit, options.on_progress);
  if (!done) {
    if (state_ != lost) state_ = failed;
    return fail(done.error());
  }
  report_ = from_wire(std::move(*done));
  state_ = snapshot_created;
  return {};
}

Result<std::vector<WriterStatus>> SessionLogic::gather_writer_status() {
  const Status allowed = allow("gather_writer_status", {metadata_ready, set_started, prepared,
                                                        snapshot_created, completed, failed});
  if (!allowed) return fail(allowed.error());
  if (!gathered_) {
    return fail(Errc::bad_state, "gather_writer_status: call gather_writer_metadata first");
  }
  const auto done =
      run("gather_writer_status", rpc::Nothing{}, BackupSession::kGatherLimit, OnProgress{});
  if (!done) return fail(done.error());
  auto list = request<rpc::WriterStatusList>("session.get_writer_status", rpc::Nothing{});
  if (!list) return fail(list.error());
  return from_wire(std::move(list->writers));
}

Status SessionLogic::set_backup_succeeded(const ComponentRef& component, bool succeeded) {
  if (const Status allowed = allow("set_backup_succeeded", {prepared, snapshot_created});
      !allowed) {
    return allowed;
  }
  const auto done = request<rpc::Nothing>("session.set_backup_succeeded",
                                          rpc::SetBackupSucceeded{to_wire(component), succeeded});
  if (!done) return fail(done.error());
  return {};
}

Status SessionLogic::backup_complete(std::chrono::milliseconds limit, const OnProgress& progress) {
  if (const Status allowed = allow("backup_complete", {prepared, snapshot_created}); !allowed) {
    return allowed;
  }
  if (!writers_take_part()) {
    return fail(Errc::bad_state, "backup_complete: the context is one without writers");
  }
  const auto done = run("backup_complete", rpc::Nothing{}, limit, progress);
  if (!done) return fail(done.error());
  state_ = completed;
  return {};
}

Status SessionLogic::abort_backup() {
  if (const Status allowed = allow("abort_backup", {initialized, metadata_ready, set_started,
                                                    prepared, snapshot_created, completed, failed});
      !allowed) {
    return allowed;
  }
  const bool under_way = state_ == set_started || state_ == prepared || state_ == snapshot_created;
  const auto done = request<rpc::Nothing>("session.abort_backup", rpc::Nothing{}, kUndoLimit);
  if (!done) return fail(done.error());
  if (under_way) state_ = failed;
  return {};
}

Result<std::string> SessionLogic::components_xml(bool for_saving) {
  const Status allowed =
      for_saving ? allow("save_as_xml", {prepared, snapshot_created, completed, failed})
                 : allow("backup_components", {initialized, metadata_ready, set_started, prepared,
                                               snapshot_created, completed, failed});
  if (!allowed) return fail(allowed.error());
  auto document = request<rpc::Document>("session.get_backup_components", rpc::Nothing{});
  if (!document) return fail(document.error());
  return std::move(document->xml);
}

Result<BackupBundle> SessionLogic::bundle() {
  const Status allowed = allow("make_bundle", {prepared, snapshot_created, completed});
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

Result<SnapshotList> SessionLogic::list_snapshots(const SnapshotQuery& query) {
  const Status allowed = allow("list_snapshots", {initialized, metadata_ready, set_started,
                                                  prepared, snapshot_created, completed, failed});
  if (!allowed) return fail(allowed.error());
  auto list = request<rpc::SnapshotList>("query.snapshots",
                                         rpc::QuerySnapshots{query.context, query.incomplete});
  if (!list) return fail(list.error());
  return from_wire(std::move(*list));
}

Result<SnapshotProperties> SessionLogic::snapshot_properties(const SnapshotId& id) {
  const Result<SnapshotList> list = list_snapshots({});
  if (!list) return fail(list.error());
  return find_snapshot(*list, id);
}

// --- the whole creation --------------------------------------------------------------------------

// Device numbers of the volumes, as far as they are served as block devices.
Result<std::vector<std::uint64_t>> SessionLogic::devices_of(const std::vector<VolumeRef>& volumes) {
  const auto list = request<rpc::VolumeList>("volume.list", rpc::Nothing{});
  if (!list) return fail(list.error());
  std::vector<std::uint64_t> devices;
  for (const VolumeRef& volume : volumes) {
    if (volume.device) devices.push_back(*volume.device);
    for (const VolumeProperties& known : list->volumes) {
      const bool same = (volume.id && *volume.id == known.volume_id) ||
                        (!volume.name.empty() && volume.name == known.name);
      if (same && known.device != 0) devices.push_back(known.device);
    }
  }
  return devices;
}

Status SessionLogic::select_automatically(const CreateOptions& options, SnapshotSetInfo& info) {
  const auto devices = devices_of(options.volumes);
  if (!devices) return fail(devices.error());
  const auto writers = writer_metadata();
  if (!writers) return fail(writers.error());
  const auto holds = [&](const std::string& directory) {
    const std::uint64_t device = device_of_(directory);
    return std::find(devices->begin(), devices->end(), device) != devices->end();
  };
  for (const WriterMetadata& writer : *writers) {
    const auto add_to = [&writer](std::vector<ComponentRef>& refs, const auto& indices) {
      for (const std::size_t i : indices) {
        const ComponentInfo& component = writer.document.components[i];
        refs.push_back({writer.instance_id, writer.class_id, component.type, component.logical_path,
                        component.name});
      }
    };
    add_to(info.components, documents::select_components(writer.document, holds));
    add_to(info.partly_held, documents::partly_held_components(writer.document, holds));
  }
  for (const ComponentRef& component : info.components) {
    if (Status added = add_component(component); !added) return added;
  }
  return {};
}

Result<SnapshotSetInfo> SessionLogic::create_steps(const CreateOptions& options) {
  const TimePoint deadline = link_.now() + options.time_limit;
  const auto left = [&] {
    const auto time = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - link_.now());
    return std::max(time, 1ms);
  };
  SnapshotSetInfo info;
  Status done;
  if (const auto session = initialize_for_backup(); !session) return fail(session.error());
  if (done = set_context(options.context); !done) return fail(done.error());
  const BackupState backup{.component_mode = true, .backup_type = options.backup_type};
  if (done = set_backup_state(backup); !done) return fail(done.error());
  if (writers_take_part()) {
    if (done = gather_writer_metadata(left(), options.on_progress); !done) {
      return fail(done.error());
    }
    if (done = select_automatically(options, info); !done) return fail(done.error());
  }
  const auto set = start_snapshot_set(options.queue_limit);
  if (!set) return fail(set.error());
  info.set_id = *set;
  std::vector<SnapshotId> members;
  for (const VolumeRef& volume : options.volumes) {
    const auto added = add_to_snapshot_set(volume, options.provider_id);
    if (!added) return fail(added.error());
    members.push_back(added->snapshot_id);
  }
  if (writers_take_part()) {
    if (done = prepare_for_backup(left(), options.on_progress); !done) return fail(done.error());
  }
  done = do_snapshot_set({.policy = options.writer_policy,
                          .policy_list = options.policy_list,
                          .time_limit = left(),
                          .on_progress = options.on_progress});
  if (!done) return fail(done.error());
  info.report = report_;
  for (const SnapshotId& member : members) {
    auto properties = snapshot_properties(member);
    if (!properties && (state_ == lost || is_auto_release(context_))) {
      return fail(properties.error());
    }
    // A persistent set stays, so it is no failure that its provider is away now.
    info.snapshots.push_back(
        std::move(properties)
            .value_or(SnapshotProperties{.snapshot_id = member, .set_id = info.set_id}));
  }
  return info;
}

Result<SnapshotSetInfo> SessionLogic::create_snapshot_set(const CreateOptions& options) {
  if (const Status allowed = allow("create_snapshot_set", {created}); !allowed) {
    return fail(allowed.error());
  }
  if (options.volumes.empty() || options.volumes.size() > kVolumesPerSetMax) {
    return fail(Errc::invalid_argument,
                "create_snapshot_set: 1 to " + std::to_string(kVolumesPerSetMax) + " volumes");
  }
  Result<SnapshotSetInfo> info = create_steps(options);
  if (!info) {
    if (state_ == lost) return info;
    // What went wrong is the error worth reporting; undoing is umbrad's duty in any case.
    if (state_ != created) {
      const Status undone = abort_backup();
      static_cast<void>(undone);
    }
    if (state_ != lost) state_ = failed;
    return info;
  }
  if (!writers_take_part() || is_auto_release(context_)) return info;
  for (const ComponentRef& component : info->components) {
    if (const Status told = set_backup_succeeded(component, true); !told) return fail(told.error());
  }
  const Status done = backup_complete(BackupSession::kCompleteLimit, options.on_progress);
  if (done) return info;
  if (done.error().code != Errc::unexpected_writer_error) return fail(done.error());
  // The copies were good before and stay; what the writer missed is its own affair, and told.
  if (auto writers = gather_writer_status()) info->report.writers = std::move(*writers);
  if (state_ == lost) return fail(Errc::coordinator_lost, "while asking for the writers' status");
  state_ = completed;
  return info;
}

}  // namespace umbra::requester
