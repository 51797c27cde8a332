// SPDX-License-Identifier: Apache-2.0
//
// What nobody serves any more: FUSE mounts below a run directory whose umbra-cowd has gone, loop
// devices over their files, ublk and NBD devices, and what is mounted from these. umbra-cowd
// removes it when it starts, `umbra cleanup` at any time. Found by mountinfo and sysfs alone;
// nothing that may wait is touched in the process that asks (helper_linux.h).

#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "umbra/result.h"

namespace umbra::cowd {

struct Leftover {
  enum class Kind : std::uint8_t {
    copy_mount,     // Of a copy, below RUN/mnt: ours.
    foreign_mount,  // Somebody's own, of a volume or copy: not ours to unmount.
    loop_device,
    kernel_device,  // ublk or NBD: whoever uses it waits, and gets errors when it is removed.
    fuse_mount,
  };
  Kind kind = Kind::fuse_mount;
  std::string path;    // Of the mount, or of the device.
  std::string device;  // Of mounts.
};

/// "a mount of a copy", "a loop device", ... For people.
[[nodiscard]] const char* text_of(Leftover::Kind kind) noexcept;

/// In the order in which they can be removed. `is_dead` judges files and mounts of RUN/fuse, by
/// path, and may be asked from this call only.
[[nodiscard]] std::vector<Leftover> find_leftovers(
    const std::string& run_dir, const std::function<bool(const std::string& file)>& is_dead);

/// The ublk and NBD devices that are this run directory's, by what the kernel knows of them, each
/// before what is mounted from it; served or not: ask only when no umbra-cowd lives there.
[[nodiscard]] std::vector<Leftover> find_devices(const std::string& run_dir);

/// A mount is gone for new users at once, and a device with its last user; mount points of our own
/// go, too. Blocks at most kHelperLimit. Errors: io_error.
[[nodiscard]] Status remove_leftover(const Leftover& leftover);

}  // namespace umbra::cowd
