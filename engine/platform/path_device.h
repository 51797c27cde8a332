// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// On which device a path lies, as this process's mount namespace sees it.

#pragma once

#include <cstdint>
#include <string>

namespace umbra {

/// The device number of the file system that holds `path`, or would hold it if it existed: that of
/// the nearest directory above that exists. It is st_dev, but for btrfs, whose numbers are of its
/// own making: there it is the block device that the mount names. 0: not absolute, or not to be
/// found out. Threads: any.
[[nodiscard]] std::uint64_t device_of_path(const std::string& path);

}  // namespace umbra
