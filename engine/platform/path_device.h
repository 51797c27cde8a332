// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// On which device a path lies, as this process's mount namespace sees it.

#pragma once

#include <cstdint>
#include <string>

namespace umbra {

/// The device number (st_dev) of the file system that holds `path`, or would hold it if it existed:
/// that of the nearest directory above that exists. 0: not absolute, or not to be found out.
/// Threads: any.
[[nodiscard]] std::uint64_t device_of_path(const std::string& path);

}  // namespace umbra
