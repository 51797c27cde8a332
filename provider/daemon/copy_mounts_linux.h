// SPDX-License-Identifier: Apache-2.0
//
// Where copies are mounted, and how. The kernel is the only record: a mount of a copy is one of a
// loop device over a file of the copy, whoever made it and in whichever life of umbra-cowd. So
// nothing is forgotten by a crash, and a mount that somebody unmounted by hand is none any more.
//
//   RUN/fuse/snapshots/ID             the copy: mounted as it is, journals are not replayed
//   RUN/fuse/snapshots/ID.view        btrfs: the same with another UUID
//   RUN/fuse/snapshots/ID.recovered   the journal replayed
//   RUN/fuse/snapshots/ID.writable    mounted for writing
//
// What is written to the last three goes to an overlay (copy_overlay_posix.h), which goes with the
// mount; the copy never changes. The overlay's descriptor is kept by the guardian like those of
// the FUSE sessions, so these mounts survive kill -9 of umbra-cowd as the others do.
//
// Whatever touches what is served here happens in a helper process; see helper_linux.h.

#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "engine/platform/block.h"
#include "engine/platform/log.h"
#include "engine/rpc/messages.h"
#include "provider/frontend/fuse/session.h"
#include "provider/guardian/client.h"
#include "umbra/ids.h"
#include "umbra/result.h"

namespace umbra::cowd {

/// Threads: mount(), unmount(), end(), serve_kept() and close() one at a time, which the owner sees
/// to; the others any.
class CopyMounts {
 public:
  struct Options {
    std::string run_dir;  // Real path.
    std::string state_dir;
    guardian::GuardianClient* guardian = nullptr;  // Null: overlays do not survive.
    Log* log = nullptr;
  };
  /// What `options` points to outlives the object.
  explicit CopyMounts(Options options);

  [[nodiscard]] std::string file_of(const SnapshotId& snapshot) const;
  /// Where it is mounted.
  [[nodiscard]] std::vector<std::string> targets(const SnapshotId& snapshot) const;
  /// The first place at which each copy is mounted that is.
  [[nodiscard]] std::map<SnapshotId, std::string> all() const;
  /// Whether "ID.view" and the like is served.
  [[nodiscard]] bool has_overlay(std::string_view file_name) const;

  /// The session whose files the copies are, for as long as close() was not called.
  void use(fuse::Session& session) { session_ = &session; }
  /// Whether the guardian keeps an overlay under this name; serve_kept() takes it.
  [[nodiscard]] static bool is_overlay(std::string_view kept_name);
  /// Whose; nil if it is no overlay's.
  [[nodiscard]] static SnapshotId copy_of(std::string_view kept_name);
  /// What the life before left for a copy that is surfaced again; `copy` reads it.
  void serve_kept(guardian::KeptDescriptor kept, const std::shared_ptr<block::Device>& copy);

  /// Mounts a surfaced copy, which `copy` reads, at request.directory, or at RUN/mnt/ID if that is
  /// empty. One that is mounted there in the same way already is fine. Blocks: up to kHelperLimit.
  /// On failure nothing is left. Errors: object_not_found (the directory is missing);
  /// invalid_argument (not an absolute path of a directory); volume_in_use (mounted elsewhere or in
  /// another way; the directory is a mount point); not_supported (no file system, or a btrfs that
  /// cannot be told from the live volume); insufficient_storage (the overlay); io_error (the kernel
  /// refused).
  [[nodiscard]] Result<rpc::MountedSnapshot> mount(const rpc::MountSnapshot& request,
                                                   const std::shared_ptr<block::Device>& copy);
  /// Errors: bad_state (not mounted); volume_in_use (files are open); io_error.
  [[nodiscard]] Status unmount(const SnapshotId& snapshot);
  /// Every mount, newest first, the loop devices and the overlays. `lazily`: also with files open;
  /// it is gone for new users at once. Errors: volume_in_use, io_error; what was unmounted before
  /// stays so.
  [[nodiscard]] Status end(const SnapshotId& snapshot, bool lazily);
  /// Before the session ends: no overlay is left.
  void close();

 private:
  struct Mounted {
    std::string file;
    std::string device_path;
    std::vector<std::string> targets;
  };
  [[nodiscard]] std::vector<Mounted> mounted(const SnapshotId& snapshot) const;
  [[nodiscard]] std::string own_mount_point(const SnapshotId& snapshot) const;
  [[nodiscard]] bool is_own(const std::string& mount_point) const;
  [[nodiscard]] Result<rpc::MountedSnapshot> mount_file(const std::string& file,
                                                        const rpc::MountSnapshot& request);
  [[nodiscard]] Status make_overlay(const std::string& name,
                                    const std::shared_ptr<block::Device>& copy, bool new_identity);
  [[nodiscard]] Status serve(const std::string& name, std::shared_ptr<block::Device> overlay);
  void drop_overlay(const std::string& name, bool force);
  void drop_unused_overlays();

  Options options_;
  Logger log_;
  fuse::Session* session_ = nullptr;  // Null: NBD only.
  mutable std::mutex mutex_;          // Guards what follows; a leaf.
  std::map<std::string, std::shared_ptr<block::Device>, std::less<>> overlays_;  // By file name.
};

}  // namespace umbra::cowd
