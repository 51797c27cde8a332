// SPDX-License-Identifier: Apache-2.0
//
// Where copies are mounted. The kernel is the only record: a mount of a copy is one of a loop
// device over the copy's file, whoever made it and in whichever life of umbra-cowd. So nothing is
// forgotten by a crash, and a mount that somebody unmounted by hand is none any more.
//
// Whatever touches what is served here happens in a helper process; see helper_linux.h.

#pragma once

#include <string>
#include <vector>

#include "engine/platform/log.h"
#include "engine/rpc/messages.h"
#include "umbra/ids.h"
#include "umbra/result.h"

namespace umbra::cowd {

/// Threads: mount(), unmount() and end() one at a time, which the owner sees to; the others any.
class CopyMounts {
 public:
  /// `run_dir` is a real path; the copies' files are RUN/fuse/snapshots/ID. `log` outlives this.
  CopyMounts(std::string run_dir, Log& log);

  [[nodiscard]] std::string file_of(const SnapshotId& snapshot) const;
  /// Where it is mounted, oldest first.
  [[nodiscard]] std::vector<std::string> targets(const SnapshotId& snapshot) const;

  /// Mounts a surfaced copy read-only at `directory`, or at RUN/mnt/ID if that is empty. One that
  /// is mounted there already is fine. Blocks: up to kHelperLimit. On failure nothing is left.
  /// Errors: object_not_found (the directory is missing); invalid_argument (not an absolute path of
  /// a directory); volume_in_use (mounted elsewhere; the directory is a mount point); not_supported
  /// (no file system); io_error (the kernel refused).
  [[nodiscard]] Result<rpc::MountedSnapshot> mount(const SnapshotId& snapshot,
                                                   const std::string& directory);
  /// Errors: bad_state (not mounted); volume_in_use (files are open); io_error.
  [[nodiscard]] Status unmount(const SnapshotId& snapshot);
  /// Every mount, newest first, and the loop device. `lazily`: also with files open; it is gone for
  /// new users at once. Errors: volume_in_use, io_error; what was unmounted before stays so.
  [[nodiscard]] Status end(const SnapshotId& snapshot, bool lazily);

 private:
  [[nodiscard]] std::string own_mount_point(const SnapshotId& snapshot) const;
  [[nodiscard]] bool is_own(const std::string& mount_point) const;

  std::string run_dir_;
  Logger log_;
};

}  // namespace umbra::cowd
