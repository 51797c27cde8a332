// SPDX-License-Identifier: Apache-2.0
//
// Which file systems are mounted from a block device: directly, from its partitions, or from what
// is stacked on it (LUKS, LVM), in this mount namespace or, failing that, in another one. Freezing
// acts on the file system, not on a mount, so one mount of each is enough: a bind mount, one of a
// subdirectory or of a single file, a read-only one.
//
// A mount is recognised by its id and not by st_dev, which in btrfs is the subvolume's. That a file
// system is in use although no mount leads to it (umount -l, a mount namespace without a process)
// shows in /sys/fs, for ext2/3/4, XFS, btrfs and F2FS.
//
// Opening the root of a mount whose volume is not served may hang: only holder processes call this.

#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "engine/platform/unique_fd.h"
#include "umbra/result.h"

namespace umbra::guardian {

struct Mount {
  std::uint64_t device = 0;  // Of the file system (st_dev).
  std::string path;
  UniqueFd fd{};  // Its root directory, read-only, close-on-exec.
};

enum class Depth : std::uint8_t {
  exact,    // What is mounted from the device itself.
  stacked,  // And from what stacked_on() finds.
};

struct OpenMounts {
  std::vector<Mount> mounts;
  std::vector<Error> unreachable;        // freeze_failed; each names a mount or a device.
  std::vector<std::uint64_t> unmounted;  // Devices without a file system in use.
};

/// One open mount per file system on `devices` (st_rdev numbers), in their order. What is being
/// unmounted at the moment is waited for, some seconds. Errors: limit_reached.
[[nodiscard]] Result<OpenMounts> open_mounts(const std::vector<std::uint64_t>& devices,
                                             Depth depth);

/// Whether a file system on the device is in use, as far as /sys/fs tells.
[[nodiscard]] bool has_file_system_in_use(std::uint64_t device);

/// Every mount of this file system type below `directory`: what waits for it gets an error, and it
/// is gone if nobody uses it. May wait.
void unmount_by_force(const std::filesystem::path& directory, const char* type);

/// The device and everything above it: partitions and holders, from /sys/dev/block.
[[nodiscard]] std::vector<std::uint64_t> stacked_on(std::uint64_t device);

}  // namespace umbra::guardian
