// SPDX-License-Identifier: Apache-2.0
#include "provider/daemon/leftovers_linux.h"

#include <unistd.h>

#include "provider/daemon/helper_linux.h"
#include "provider/daemon/system_view_linux.h"

namespace umbra::cowd {

const char* text_of(Leftover::Kind kind) noexcept {
  switch (kind) {
    case Leftover::Kind::copy_mount: return "mount of a copy";
    case Leftover::Kind::foreign_mount: return "file system that is mounted from a dead device";
    case Leftover::Kind::loop_device: return "loop device";
    case Leftover::Kind::fuse_mount: return "FUSE mount";
  }
  return "";
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
  const bool device = leftover.kind == Leftover::Kind::loop_device;
  const auto done = run_helper({device ? "clear-device" : "detach-mount", leftover.path});
  if (!done) return fail(done.error());
  // Of ours; that of the copies' session stays.
  if (leftover.kind == Leftover::Kind::copy_mount) (void)::rmdir(leftover.path.c_str());
  if (leftover.kind == Leftover::Kind::fuse_mount) (void)::unlink(leftover.path.c_str());
  return {};
}

}  // namespace umbra::cowd
