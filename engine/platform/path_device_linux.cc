// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// btrfs gives every subvolume a device number of its own making (major 0), which no mount table and
// no block device shows. The mount that the path is on names a real device. Read here and not with
// libmount: this is linked into applications.
#include "engine/platform/path_device.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <fstream>
#include <sstream>

namespace umbra {
namespace {

// "/dev/sdb1", the source of the mount with this id; empty if there is none.
std::string source_of_mount(std::uint64_t mount_id) {
  std::ifstream table("/proc/self/mountinfo");
  for (std::string line; std::getline(table, line);) {
    std::istringstream words(line);
    std::uint64_t id = 0;
    if (!(words >> id) || id != mount_id) continue;
    std::string word;
    while (words >> word && word != "-") {
    }
    std::string source;
    words >> word >> source;  // Type and source.
    return source;
  }
  return {};
}

// 0: it is no block device, as far as can be told from here.
std::uint64_t number_of_device(const std::string& path) {
  if (path.rfind("/dev/", 0) != 0) return 0;
  struct stat status {};
  if (::stat(path.c_str(), &status) == 0) return S_ISBLK(status.st_mode) ? status.st_rdev : 0;
  // A container's /dev may lack it.
  std::ifstream file("/sys/class/block/" + path.substr(path.rfind('/') + 1) + "/dev");
  unsigned major_number = 0;
  unsigned minor_number = 0;
  char colon = 0;
  if (!(file >> major_number >> colon >> minor_number)) return 0;
  return makedev(major_number, minor_number);
}

std::uint64_t device_of(const struct statx& status) {
  const std::uint64_t device = makedev(status.stx_dev_major, status.stx_dev_minor);
  if (status.stx_dev_major != 0 || (status.stx_mask & STATX_MNT_ID) == 0) return device;
  const std::uint64_t real = number_of_device(source_of_mount(status.stx_mnt_id));
  return real != 0 ? real : device;
}

}  // namespace

std::uint64_t device_of_path(const std::string& path) {
  if (path.empty() || path.front() != '/') return 0;
  std::string existing = path;
  while (true) {
    struct statx status {};
    if (::statx(AT_FDCWD, existing.c_str(), 0, STATX_TYPE | STATX_MNT_ID, &status) == 0) {
      return device_of(status);
    }
    if (existing == "/") return 0;
    const std::size_t slash = existing.find_last_of('/');
    existing.resize(slash == 0 ? 1 : slash);
  }
}

}  // namespace umbra
