// SPDX-License-Identifier: Apache-2.0 OR MIT
#include <sys/stat.h>

#include "engine/platform/path_device.h"

namespace umbra {

std::uint64_t device_of_path(const std::string& path) {
  if (path.empty() || path.front() != '/') return 0;
  std::string existing = path;
  while (true) {
    struct stat status {};
    if (::stat(existing.c_str(), &status) == 0) return status.st_dev;
    if (existing == "/") return 0;
    const std::size_t slash = existing.find_last_of('/');
    existing.resize(slash == 0 ? 1 : slash);
  }
}

}  // namespace umbra
