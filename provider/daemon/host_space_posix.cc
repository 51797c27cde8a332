// SPDX-License-Identifier: Apache-2.0
#include "provider/daemon/host_space_posix.h"

#include <sys/stat.h>
#include <sys/statvfs.h>

#include <algorithm>

namespace umbra::cowd {

Result<cow::HostRoom> FileHostSpace::room() {
  struct stat diff {};
  struct stat origin {};
  struct statvfs host {};
  if (::stat(diff_path_.c_str(), &diff) != 0 || !S_ISREG(diff.st_mode) ||
      ::statvfs(diff_path_.c_str(), &host) != 0) {
    return fail(Errc::io_error, diff_path_ + ": its file system cannot be asked");
  }
  cow::HostRoom room;
  room.free_bytes = std::uint64_t{host.f_bavail} * host.f_frsize;
  const bool shared = ::stat(origin_path_.c_str(), &origin) == 0 && S_ISREG(origin.st_mode) &&
                      origin.st_dev == diff.st_dev;
  if (shared) {
    constexpr std::int64_t kStatBlockBytes = 512;
    const std::int64_t missing = origin.st_size - origin.st_blocks * kStatBlockBytes;
    room.promised_bytes = static_cast<std::uint64_t>(std::max<std::int64_t>(missing, 0));
  }
  return room;
}

}  // namespace umbra::cowd
