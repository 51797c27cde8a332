// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "umbra/requester/functions.h"

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "engine/platform/path_device.h"
#include "requester-sdk/src/derive.h"
#include "requester-sdk/src/link.h"
#include "requester-sdk/src/mounts.h"
#include "umbra/requester/backup_session.h"

namespace umbra::requester {
namespace {

bool is_meant(const VolumeRef& wanted, const VolumeProperties& volume) {
  if (wanted.id && *wanted.id != volume.volume_id) return false;
  if (!wanted.name.empty() && wanted.name != volume.name &&
      wanted.name != volume.volume_id.to_string())
    return false;
  if (wanted.device && (*wanted.device != volume.device || volume.device == 0)) return false;
  return wanted.id || wanted.device || !wanted.name.empty();
}

Error not_found(std::string what, const std::vector<std::string>& absent) {
  for (const std::string& name : absent) what += "; provider '" + name + "' is away";
  return {Errc::object_not_found, std::move(what)};
}

Result<VolumeProperties> find_volume(Link& link, const VolumeRef& wanted) {
  auto list = link.call<rpc::VolumeList>("volume.list", rpc::Nothing{});
  if (!list) return fail(list.error());
  for (VolumeProperties& volume : list->volumes) {
    if (is_meant(wanted, volume)) return std::move(volume);
  }
  return tl::unexpected<Error>(
      not_found("no attached volume " + (wanted.path.empty() ? wanted.name : wanted.path),
                list->absent_providers));
}

bool lies_on(const WriterMetadata& writer, std::uint64_t device) {
  for (const ComponentInfo& component : writer.document.components) {
    for (const auto* sets : {&component.files, &component.log_files}) {
      for (const FileSet& set : *sets) {
        const std::uint64_t lies = device_of_path(set.path);
        if (device == 0 || lies == 0 || lies == device) return true;
      }
    }
  }
  return false;
}

}  // namespace

Result<VolumeSnapshotted> is_volume_snapshotted(const VolumeRef& volume,
                                                const ConnectOptions& options) {
  const auto link = connect_link(options);
  if (!link) return fail(link.error());
  const auto found = find_volume(**link, volume);
  if (!found) return fail(found.error());
  const auto list = (*link)->call<rpc::SnapshotList>("query.snapshots", rpc::QuerySnapshots{});
  if (!list) return fail(list.error());
  VolumeSnapshotted answer;
  answer.present = std::any_of(list->snapshots.begin(), list->snapshots.end(),
                               [&](const auto& one) { return one.volume_id == found->volume_id; });
  if (answer.present) answer.compatibility = snapshot_compatibility::kDisableDefrag;
  return answer;
}

Result<bool> should_block_revert(const VolumeRef& volume, const ConnectOptions& options) {
  std::uint64_t device = 0;
  std::vector<WriterClassId> classes;
  {
    const auto link = connect_link(options);
    if (!link) return fail(link.error());
    const auto found = find_volume(**link, volume);
    if (!found) return fail(found.error());
    device = found->device;
    auto settings = (*link)->call<rpc::CoordinatorSettings>("query.settings", rpc::Nothing{});
    if (!settings) return fail(settings.error());
    classes = std::move(settings->writers_blocking_revert);
  }
  if (classes.empty()) return false;
  auto session = BackupSession::connect(options);
  if (!session) return fail(session.error());
  if (const auto begun = session->initialize_for_backup(); !begun) return fail(begun.error());
  Status done = session->enable_writer_classes(classes);
  if (done) done = session->gather_writer_metadata();
  if (!done) return fail(done.error());
  const auto writers = session->writer_metadata();
  if (!writers) return fail(writers.error());
  return std::any_of(writers->begin(), writers->end(),
                     [&](const WriterMetadata& writer) { return lies_on(writer, device); });
}

Result<RootAndPrefix> get_root_and_logical_prefix_paths(const std::string& file_path,
                                                        const ConnectOptions& options) {
  if (!file_path.starts_with('/'))
    return fail(Errc::invalid_argument, "'" + file_path + "' is not absolute");
  std::error_code error;
  const std::string real = std::filesystem::canonical(file_path, error).string();
  if (error) return fail(Errc::object_not_found, file_path + ": " + error.message());
  const std::vector<Mount> mounts = own_mounts();
  const Mount* mount = mount_above(mounts, real);
  if (mount == nullptr) return fail(Errc::object_not_found, real + " lies on no mount");
  const auto link = connect_link(options);
  if (!link) return fail(link.error());
  VolumeRef volume;
  volume.device = device_of_path(real);
  volume.path = file_path;
  const auto found = find_volume(**link, volume);
  if (!found) return fail(found.error());
  RootAndPrefix answer;
  answer.root_path = mount->where.point;
  if (!answer.root_path.ends_with('/')) answer.root_path += '/';
  answer.logical_prefix = found->volume_id.to_string();
  return answer;
}

}  // namespace umbra::requester
