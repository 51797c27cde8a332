// SPDX-License-Identifier: Apache-2.0
//
// What is mounted, which loop devices there are, and what lies on what: read from mountinfo and
// sysfs only. Nothing here opens a device or touches a file that a FUSE server may serve, be it
// this umbra-cowd or another one: two that look at each other's files while they restart would wait
// for ever. The one exception is the path that the caller asks about.

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "provider/daemon/ports.h"

namespace umbra::cowd {

struct MountEntry {
  std::string source;
  std::string target;
  std::string type;
  std::uint64_t device = 0;  // Of the file system; anonymous for some (btrfs, overlay).
};
struct LoopEntry {
  std::string path;  // "/dev/loop3".
  std::uint64_t device = 0;
  std::string backing_file;  // As it was called when it was attached.
};

/// The number of a block device below /dev; nothing if the path is none.
[[nodiscard]] std::optional<std::uint64_t> block_device_at(const std::string& path);
/// The block device of a mount; the file system's own number if there is none.
[[nodiscard]] std::uint64_t disk_of(const MountEntry& mount);
/// The mount that a path is on, by the mount table alone; null: none. Points into `mounts`.
[[nodiscard]] const MountEntry* mount_of(const std::string& path,
                                         const std::vector<MountEntry>& mounts);

/// This process's mount namespace, oldest first. Errors: io_error.
[[nodiscard]] Result<std::vector<MountEntry>> read_mounts();
[[nodiscard]] std::vector<LoopEntry> read_loops();
/// Where a file system on `device`, or on a partition or mapping of it, is mounted.
[[nodiscard]] std::vector<std::string> mount_points_of(std::uint64_t device);
/// `device` and all block devices below it: disks of partitions, what LUKS and LVM stand on.
[[nodiscard]] std::vector<std::uint64_t> stack_of(std::uint64_t device);
/// The same, and the hosts of loop devices' files, but for files in `own_directory`.
[[nodiscard]] std::vector<std::uint64_t> full_stack_of(std::uint64_t device,
                                                       const std::string& own_directory);
/// Has the kernel tell udev of a block device once more. Waits for nobody; what goes wrong is left.
void announce_device(std::uint64_t device);
/// "/dev/loop3" from its number, or "8:1" if it has no name.
[[nodiscard]] std::string device_name(std::uint64_t device);

/// Threads: any.
class LinuxHost final : public Host {
 public:
  /// Paths in `own_directory` (the run directory) are refused: we serve them.
  explicit LinuxHost(std::string own_directory) : own_directory_(std::move(own_directory)) {}
  [[nodiscard]] Result<PathFacts> look_at(const std::string& path) const override;

 private:
  [[nodiscard]] std::vector<std::uint64_t> hosts_of_file(const std::string& path,
                                                         std::uint64_t st_dev) const;
  std::string own_directory_;
};

/// The id of this start of the machine. Errors: io_error.
[[nodiscard]] Result<Guid> read_boot_id();

}  // namespace umbra::cowd
