// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "requester-sdk/src/derive.h"

#include <algorithm>

#include "engine/documents/rules.h"

namespace umbra::requester {
namespace {

bool is_at_or_below(std::string_view path, std::string_view directory) {
  while (directory.size() > 1 && directory.ends_with('/')) directory.remove_suffix(1);
  if (!path.starts_with(directory)) return false;
  return directory == "/" || path.size() == directory.size() || path[directory.size()] == '/';
}

}  // namespace

std::vector<NeededDevice> needed_devices(
    std::span<const FileSet> files, const std::vector<Mount>& mounts,
    const std::function<std::uint64_t(const std::string& directory)>& device_of) {
  std::vector<NeededDevice> needed;
  const auto add = [&](std::uint64_t device, const std::string& directory, bool below) {
    const bool known = std::any_of(needed.begin(), needed.end(), [&](const NeededDevice& one) {
      return one.device == device && (device != 0 || one.directory == directory);
    });
    if (!known) needed.push_back({device, directory, below});
  };
  for (const FileSet& set : files) {
    const std::string& directory = set.alternate_path.empty() ? set.path : set.alternate_path;
    add(device_of(directory), directory, false);
    if (!set.recursive) continue;
    for (const Mount& mount : mounts) {
      if (!mount.block_device) continue;
      // Only what is to be seen: a mount that another covers shows nothing.
      const bool below = is_at_or_below(mount.where.point, directory);
      if (below && device_of(mount.where.point) == mount.device)
        add(mount.device, mount.where.point, true);
    }
  }
  return needed;
}

std::vector<FileSet> files_of(const WriterMetadataDocument& writer, std::string_view logical_path,
                              std::string_view name) {
  const std::string wanted = documents::full_path(logical_path, name);
  std::vector<FileSet> files;
  for (const ComponentInfo& component : writer.components) {
    const std::string path = documents::full_path(component.logical_path, component.name);
    if (!documents::same_path(path, wanted) && !documents::is_ancestor(wanted, path)) continue;
    files.insert(files.end(), component.files.begin(), component.files.end());
    files.insert(files.end(), component.log_files.begin(), component.log_files.end());
  }
  return files;
}

const Mount* mount_above(const std::vector<Mount>& mounts, std::string_view path) {
  const Mount* best = nullptr;
  for (const Mount& mount : mounts) {
    if (!is_at_or_below(path, mount.where.point)) continue;
    if (best == nullptr || mount.where.point.size() >= best->where.point.size()) best = &mount;
  }
  return best;
}

}  // namespace umbra::requester
