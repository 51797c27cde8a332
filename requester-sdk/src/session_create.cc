// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// A whole creation in one call, out of the single ones.
#include <algorithm>

#include "engine/documents/rules.h"
#include "requester-sdk/src/derive.h"
#include "requester-sdk/src/session_logic.h"

namespace umbra::requester {
namespace {

bool is_of(const ComponentRef& component, const WriterMetadata& writer) {
  const bool instance =
      component.instance_id.is_nil() || component.instance_id == writer.instance_id;
  return instance && (component.class_id.is_nil() || component.class_id == writer.class_id);
}

bool has_component(const WriterMetadataDocument& writer, const std::string& full_path) {
  return std::any_of(
      writer.components.begin(), writer.components.end(), [&](const ComponentInfo& one) {
        return documents::same_path(documents::full_path(one.logical_path, one.name), full_path);
      });
}

}  // namespace

using namespace std::chrono_literals;
using enum SessionState;

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

Result<std::vector<VolumeRef>> SessionLogic::volumes_of(
    const std::vector<ComponentRef>& components) {
  if (const Status allowed = allow("volumes_of"); !allowed) return fail(allowed.error());
  const auto writers = writer_metadata();
  if (!writers) return fail(writers.error());
  const auto list = request<rpc::VolumeList>("volume.list", rpc::Nothing{});
  if (!list) return fail(list.error());
  std::vector<FileSet> files;
  for (const ComponentRef& component : components) {
    const std::string name = documents::full_path(component.logical_path, component.name);
    bool found = false;
    for (const WriterMetadata& writer : *writers) {
      if (!is_of(component, writer)) continue;
      const auto part = files_of(writer.document, component.logical_path, component.name);
      found = found || has_component(writer.document, name);
      files.insert(files.end(), part.begin(), part.end());
    }
    if (!found) {
      return fail(Errc::object_not_found,
                  "volumes_of: no running writer has component '" + name + "'");
    }
  }
  std::vector<VolumeRef> volumes;
  for (const NeededDevice& needed : needed_devices(files, mounts_(), device_of_)) {
    const auto volume =
        std::find_if(list->volumes.begin(), list->volumes.end(), [&](const VolumeProperties& one) {
          return one.device != 0 && one.device == needed.device;
        });
    if (volume == list->volumes.end()) {
      std::string context = "volumes_of: " + needed.directory;
      context += needed.mounted_below ? " is mounted below the files of a component and" : "";
      return fail(Errc::volume_not_supported,
                  context + " lies on no attached volume; attach it, or leave the component out");
    }
    volumes.push_back({.id = volume->volume_id, .path = needed.directory});
  }
  return volumes;
}

// Those the caller named. What lies elsewhere than on the volumes it named is told, as below.
Status SessionLogic::select_given(const CreateOptions& options, SnapshotSetInfo& info) {
  for (const ComponentRef& component : options.components) {
    if (Status added = add_component(component); !added) return added;
    info.components.push_back(component);
  }
  if (options.volumes.empty()) return {};
  const auto devices = devices_of(options.volumes);
  if (!devices) return fail(devices.error());
  const auto writers = writer_metadata();
  if (!writers) return fail(writers.error());
  for (const ComponentRef& component : options.components) {
    for (const WriterMetadata& writer : *writers) {
      if (!is_of(component, writer)) continue;
      const auto files = files_of(writer.document, component.logical_path, component.name);
      const auto needed = needed_devices(files, mounts_(), device_of_);
      const bool held = std::all_of(needed.begin(), needed.end(), [&](const NeededDevice& one) {
        return std::find(devices->begin(), devices->end(), one.device) != devices->end();
      });
      if (!held) info.partly_held.push_back(component);
    }
  }
  return {};
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
    done = options.components.empty() ? select_automatically(options, info)
                                      : select_given(options, info);
    if (!done) return fail(done.error());
  }
  std::vector<VolumeRef> volumes = options.volumes;
  if (volumes.empty()) {
    auto derived = volumes_of(options.components);
    if (!derived) return fail(derived.error());
    volumes = std::move(*derived);
  }
  const auto set = start_snapshot_set(options.queue_limit);
  if (!set) return fail(set.error());
  info.set_id = *set;
  std::vector<SnapshotId> members;
  for (const VolumeRef& volume : volumes) {
    const auto added = add_to_snapshot_set(volume, options.provider_id);
    if (!added) return fail(added.error());
    members.push_back(added->snapshot_id);
  }
  if (writers_take_part()) {
    if (done = prepare_for_backup(left(), options.on_progress); !done) return fail(done.error());
  }
  done = do_snapshot_set({.writer_policy = options.writer_policy,
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
  if (const Status allowed = allow("create_snapshot_set"); !allowed) {
    return fail(allowed.error());
  }
  const bool derived = options.volumes.empty() && !options.components.empty();
  if (derived && !has_writers(options.context)) {
    return fail(Errc::invalid_argument,
                "create_snapshot_set: the context is one without writers; name the volumes");
  }
  if ((options.volumes.empty() && !derived) || options.volumes.size() > kVolumesPerSetMax) {
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
  const Status done = complete(BackupSession::kCompleteLimit, options.on_progress);
  if (done) return info;
  if (done.error().code != Errc::unexpected_writer_error) return fail(done.error());
  // The copies were good before and stay; what the writer missed is its own affair, and told.
  if (auto writers = gather_writer_status()) info->report.writers = std::move(*writers);
  if (state_ == lost) return fail(Errc::coordinator_lost, "while asking for the writers' status");
  state_ = completed;
  return info;
}

}  // namespace umbra::requester
