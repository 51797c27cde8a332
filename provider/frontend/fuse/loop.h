// SPDX-License-Identifier: Apache-2.0
//
// Loop devices: a block device path for a file. Stateless: a device is found again by its backing
// file, so nothing is leaked when the process that made it has died.
//
// Every call may wait for the backing file, so a process that serves the file itself must make them
// in another process (see session.h).

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "umbra/result.h"

namespace umbra::fuse {

struct LoopOptions {
  std::uint32_t block_bytes = 512;
  bool read_only = false;
  /// fuse_session_number() of the session that serves the file; 0: unknown, or another kind of
  /// file. With it a device is also found when somebody has unmounted the session's mount.
  std::uint32_t session = 0;
};

/// The path of a loop device ("/dev/loop3") over `backing_file`, with direct I/O and without
/// discard (a loop device turns it into zeroes, which a copy-on-write volume must preserve for).
/// One that exists already for the same file and access is returned as it is. Errors:
/// missing_kernel_feature (no loop devices); missing_privilege; object_not_found (also: the path
/// does not lead to `options.session`'s file any more); io_error.
[[nodiscard]] Result<std::string> attach_loop(const std::string& backing_file,
                                              const LoopOptions& options);
/// The loop device of `backing_file`, if there is one.
[[nodiscard]] std::optional<std::string> find_loop(const std::string& backing_file,
                                                   std::uint32_t session = 0);
/// Detaches; waits a moment for a mount that is on its way out, then until the device is free, at
/// most kDetachSecondsMax. No loop device: no error. Errors: volume_in_use (mounted or open);
/// io_error.
[[nodiscard]] Status detach_loop(const std::string& backing_file, std::uint32_t session = 0);

/// The same by the device's path, also when its backing file has gone.
[[nodiscard]] Status detach_loop_device(const std::string& device);
/// Loop devices that were made by attach_loop() for files below `directory`, whatever has become of
/// the files. Threads: any.
[[nodiscard]] std::vector<std::string> list_loops_below(const std::string& directory);

inline constexpr int kDetachSecondsMax = 5;

}  // namespace umbra::fuse
