// SPDX-License-Identifier: Apache-2.0
#include "provider/daemon/copy_mounts_linux.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include "provider/daemon/helper_linux.h"
#include "provider/daemon/system_view_linux.h"

namespace umbra::cowd {
namespace {

bool has_loop(const std::string& file) {
  const auto loops = read_loops();
  return std::any_of(loops.begin(), loops.end(),
                     [&](const LoopEntry& loop) { return loop.backing_file == file; });
}

}  // namespace

CopyMounts::CopyMounts(std::string run_dir, Log& log)
    : run_dir_(std::move(run_dir)), log_(log, "frontend") {}

std::string CopyMounts::file_of(const SnapshotId& snapshot) const {
  return run_dir_ + "/fuse/snapshots/" + snapshot.to_string();
}

std::string CopyMounts::own_mount_point(const SnapshotId& snapshot) const {
  return run_dir_ + "/mnt/" + snapshot.to_string();
}

bool CopyMounts::is_own(const std::string& mount_point) const {
  return mount_point.starts_with(run_dir_ + "/mnt/");
}

// Loop devices over the file, with where they are mounted.
std::vector<std::string> CopyMounts::targets(const SnapshotId& snapshot) const {
  const std::string file = file_of(snapshot);
  std::vector<std::string> targets;
  for (const LoopEntry& loop : read_loops()) {
    if (loop.backing_file != file) continue;
    for (std::string& target : mount_points_of(loop.device)) targets.push_back(std::move(target));
  }
  return targets;
}

Result<rpc::MountedSnapshot> CopyMounts::mount(const SnapshotId& snapshot,
                                               const std::string& directory) {
  const std::string name = "copy " + snapshot.to_string();
  if (!directory.empty() && directory.front() != '/') {
    return fail(Errc::invalid_argument,
                "the directory must be an absolute path: " + printable(directory));
  }
  rpc::MountedSnapshot reply;
  const std::string file = file_of(snapshot);
  if (const auto mounted = targets(snapshot); !mounted.empty()) {
    if (!directory.empty() && directory != mounted.front()) {
      return fail(Errc::volume_in_use,
                  name + " is mounted at " + printable(mounted.front()) + " already");
    }
    for (const LoopEntry& loop : read_loops()) {
      if (loop.backing_file == file) reply.device_path = loop.path;
    }
    reply.path = mounted.front();
    return reply;
  }
  const bool ours = directory.empty();
  reply.path = ours ? own_mount_point(snapshot) : directory;
  if (ours && ::mkdir(reply.path.c_str(), 0755) != 0 && errno != EEXIST) {
    return fail(Errc::io_error, reply.path + ": " + std::generic_category().message(errno));
  }
  auto device = run_helper({"mount", file, reply.path});
  if (!device) {
    if (ours) (void)::rmdir(reply.path.c_str());
    return fail(device.error(), name);
  }
  reply.device_path = std::move(*device);
  log_.info("copy mounted", {{"snapshot", snapshot.to_string()}, {"path", reply.path}});
  return reply;
}

Status CopyMounts::unmount(const SnapshotId& snapshot) {
  const std::string name = "copy " + snapshot.to_string();
  if (targets(snapshot).empty()) {
    (void)end(snapshot, false);  // A loop device that somebody's own umount left.
    return fail(Errc::bad_state, name + " is not mounted");
  }
  if (const Status unmounted = end(snapshot, false); !unmounted) {
    return fail(unmounted.error(), name);
  }
  log_.info("copy unmounted", {{"snapshot", snapshot.to_string()}});
  return {};
}

Status CopyMounts::end(const SnapshotId& snapshot, bool lazily) {
  const std::string file = file_of(snapshot);
  auto mounted = targets(snapshot);
  std::reverse(mounted.begin(), mounted.end());
  for (const std::string& target : mounted) {
    auto done = run_helper({"unmount", target, file});
    if (!done && lazily) done = run_helper({"detach-mount", target});
    if (!done) return fail(done.error());
    if (is_own(target)) (void)::rmdir(target.c_str());
  }
  if (!has_loop(file)) return {};
  const auto detached = run_helper({"detach-loop", file, "0"});
  if (detached) return {};
  return fail(detached.error());
}

}  // namespace umbra::cowd
