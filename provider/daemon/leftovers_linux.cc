// SPDX-License-Identifier: Apache-2.0
#include "provider/daemon/leftovers_linux.h"

#include <unistd.h>

#include <string_view>

#include "provider/daemon/helper_linux.h"
#include "provider/daemon/system_view_linux.h"
#include "provider/frontend/nbd_device/control.h"
#include "provider/frontend/ublk/control.h"

namespace umbra::cowd {

const char* text_of(Leftover::Kind kind) noexcept {
  switch (kind) {
    case Leftover::Kind::copy_mount: return "mount of a copy";
    case Leftover::Kind::foreign_mount: return "file system that is mounted from a dead device";
    case Leftover::Kind::loop_device: return "loop device";
    case Leftover::Kind::kernel_device: return "device that nobody serves";
    case Leftover::Kind::fuse_mount: return "FUSE mount";
  }
  return "";
}

namespace {

constexpr std::string_view kUblkPath = "/dev/ublkb";
constexpr std::string_view kNbdPath = "/dev/nbd";

std::vector<std::string> device_paths(const std::string& run_dir) {
  std::vector<std::string> paths;
  if (const auto control = ublk::Control::open()) {
    for (const std::uint32_t id : control->list()) {
      const auto info = control->info(id);
      if (info && info->mark == ublk::owner_mark(run_dir)) paths.push_back(ublk::block_path(id));
    }
  }
  for (const nbd_device::Found& found : nbd_device::list()) {
    if (nbd_device::volume_of(found.identifier, run_dir)) {
      paths.push_back(nbd_device::block_path(found.id));
    }
  }
  return paths;
}

std::vector<std::string> removal_of(const std::string& device) {
  if (device.starts_with(kUblkPath)) {
    return {"remove-ublk", device.substr(kUblkPath.size())};
  }
  const std::string id = device.substr(kNbdPath.size());
  const auto number = static_cast<std::uint32_t>(std::stoul(id));
  return {"remove-nbd", id, nbd_device::identifier_of(number)};
}

}  // namespace

std::vector<Leftover> find_devices(const std::string& run_dir) {
  std::vector<Leftover> found;
  for (const std::string& path : device_paths(run_dir)) {
    found.push_back({Leftover::Kind::kernel_device, path, {}});
    const auto number = block_device_at(path);
    if (!number) continue;
    const auto targets = mount_points_of(*number);
    for (auto target = targets.rbegin(); target != targets.rend(); ++target) {
      found.push_back({Leftover::Kind::foreign_mount, *target, path});
    }
  }
  return found;
}

std::vector<Leftover> find_leftovers(const std::string& run_dir,
                                     const std::function<bool(const std::string&)>& is_dead) {
  std::vector<Leftover> found;
  const auto mounts = read_mounts();
  if (!mounts) return found;
  const std::string served = run_dir + "/fuse/";
  for (const LoopEntry& loop : read_loops()) {
    if (!loop.backing_file.starts_with(served) || !is_dead(loop.backing_file)) continue;
    const auto targets = mount_points_of(loop.device);
    for (auto target = targets.rbegin(); target != targets.rend(); ++target) {
      const bool ours = target->starts_with(run_dir + "/mnt/");
      found.push_back(
          {ours ? Leftover::Kind::copy_mount : Leftover::Kind::foreign_mount, *target, loop.path});
    }
    found.push_back({Leftover::Kind::loop_device, loop.path, {}});
  }
  for (const MountEntry& mount : *mounts) {
    const bool candidate = mount.type.starts_with("fuse") && mount.target.starts_with(served);
    if (candidate && is_dead(mount.target)) {
      found.push_back({Leftover::Kind::fuse_mount, mount.target, {}});
    }
  }
  return found;
}

Status remove_leftover(const Leftover& leftover) {
  std::vector<std::string> step = {"detach-mount", leftover.path};
  if (leftover.kind == Leftover::Kind::loop_device) step.front() = "clear-device";
  if (leftover.kind == Leftover::Kind::kernel_device) step = removal_of(leftover.path);
  const auto done = run_helper(step);
  if (!done) return fail(done.error());
  // Of ours; that of the copies' session stays.
  if (leftover.kind == Leftover::Kind::copy_mount) (void)::rmdir(leftover.path.c_str());
  if (leftover.kind == Leftover::Kind::fuse_mount) (void)::unlink(leftover.path.c_str());
  return {};
}

}  // namespace umbra::cowd
