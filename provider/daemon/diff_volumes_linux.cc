// SPDX-License-Identifier: Apache-2.0
#include "provider/daemon/diff_volumes_linux.h"

#include <sys/statvfs.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <set>

#include "provider/daemon/system_view_linux.h"

namespace umbra::cowd {
namespace {

// Loop devices whose reads and writes a FUSE server answers, ours or another's.
std::set<std::uint64_t> served_loops(const std::vector<MountEntry>& mounts) {
  std::set<std::uint64_t> served;
  for (const LoopEntry& loop : read_loops()) {
    const MountEntry* below = mount_of(loop.backing_file, mounts);
    // One that was deleted or lies in another namespace is not looked into either.
    if (below == nullptr || below->type.starts_with("fuse")) served.insert(loop.device);
  }
  return served;
}

contract::DiffVolume describe(const MountEntry& mount, const std::string& own_directory) {
  contract::DiffVolume volume;
  volume.properties.diff_volume = mount.target;
  volume.properties.display_name = mount.target + " (" + mount.type + ")";
  volume.stands_on = full_stack_of(disk_of(mount), own_directory);
  return volume;
}

}  // namespace

Result<contract::DiffVolume> LinuxDiffVolumes::of(const std::string& path) const {
  if (path.empty() || path.front() != '/') {
    return fail(Errc::invalid_argument, "name it by an absolute path");
  }
  if (const auto device = block_device_at(path)) {
    contract::DiffVolume volume;
    volume.properties.diff_volume = device_name(*device);
    volume.properties.display_name = volume.properties.diff_volume + " (block device)";
    volume.stands_on = full_stack_of(*device, own_directory_);
    return volume;
  }
  const auto mounts = read_mounts();
  if (!mounts) return fail(mounts.error());
  const MountEntry* mount = mount_of(path, *mounts);
  if (mount == nullptr) return fail(Errc::object_not_found, "nothing is mounted at " + path);
  return describe(*mount, own_directory_);
}

Result<std::vector<contract::DiffVolume>> LinuxDiffVolumes::all() const {
  const auto mounts = read_mounts();
  if (!mounts) return fail(mounts.error());
  const auto served = served_loops(*mounts);
  std::set<std::uint64_t> seen;  // File systems; the other mounts of one are the same place.
  std::vector<contract::DiffVolume> volumes;
  for (const MountEntry& mount : *mounts) {
    const bool on_disk = major(disk_of(mount)) != 0;
    if (!on_disk && mount.type != "overlay") continue;
    auto volume = describe(mount, own_directory_);
    const bool waits = std::any_of(volume.stands_on.begin(), volume.stands_on.end(),
                                   [&](auto device) { return served.count(device) != 0; });
    if (waits || mount_of(mount.target, *mounts) != &mount) continue;  // Or hidden by another.
    struct statvfs sizes {};
    if (::statvfs(mount.target.c_str(), &sizes) != 0 || (sizes.f_flag & ST_RDONLY) != 0) continue;
    if (!seen.insert(mount.device).second) continue;
    volume.properties.free_bytes = std::uint64_t{sizes.f_bavail} * sizes.f_frsize;
    volume.properties.total_bytes = std::uint64_t{sizes.f_blocks} * sizes.f_frsize;
    volumes.push_back(std::move(volume));
  }
  return volumes;
}

}  // namespace umbra::cowd
