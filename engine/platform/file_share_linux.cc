// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// Linux: files that share blocks (FICLONERANGE, which XFS with reflink=1 and btrfs have).
#include <fcntl.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstdlib>

#include "engine/platform/file_device_engine.h"

namespace umbra::file_device {
namespace {

constexpr std::uint32_t kExtentsAtATime = 64;
constexpr mode_t kTrialMode = 0600;

[[nodiscard]] int clone(int fd, std::uint64_t offset_bytes, int source_fd,
                        std::uint64_t source_offset_bytes, std::uint64_t size_bytes) noexcept {
  file_clone_range range{};
  range.src_fd = source_fd;
  range.src_offset = source_offset_bytes;
  range.src_length = size_bytes;
  range.dest_offset = offset_bytes;
  while (::ioctl(fd, FICLONERANGE, &range) != 0) {
    if (errno != EINTR) return errno;
  }
  return 0;
}

[[nodiscard]] tl::unexpected<Error> refusal(const std::string& path, int error) {
  constexpr const char* kElse = ", or attach with --preserve copy";
  switch (error) {
    case EXDEV:
      return fail(Errc::not_supported,
                  path +
                      ": on another file system than the origin; blocks can be "
                      "shared within one only: put it beside the origin" +
                      kElse);
    case EOPNOTSUPP:
    case ENOTTY:
      return fail(Errc::not_supported,
                  path +
                      ": its file system cannot share blocks; XFS (made with reflink=1) and "
                      "btrfs can: put origin and diff area on one of these" +
                      kElse);
    default:
      return fail(Errc::not_supported,
                  path + ": sharing blocks with the origin was tried and fails (" +
                      error_text(error) + "); put both on one XFS or btrfs, with the same flags" +
                      kElse);
  }
}

}  // namespace

int share_range(int fd, int source_fd, const block::Request& request) noexcept {
  return clone(fd, request.offset_bytes, source_fd, request.source_offset_bytes,
               request.size_bytes);
}

Result<std::uint32_t> try_sharing(int fd, const std::string& path, int source_fd) {
  struct statfs facts {};
  if (::fstatfs(fd, &facts) != 0) return refusal(path, errno);
  const auto unit = static_cast<std::uint32_t>(facts.f_bsize);
  char real[PATH_MAX];  // Beside what a link leads to.
  if (::realpath(path.c_str(), real) == nullptr) return refusal(path, errno);
  const std::string file = real;
  const std::string folder = file.substr(0, file.find_last_of('/') + 1);
  const UniqueFd trial(::open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, kTrialMode));
  if (!trial) return refusal(path, errno);
  if (::ftruncate(trial.get(), unit) != 0) return refusal(path, errno);
  if (const int error = clone(trial.get(), 0, source_fd, 0, unit); error != 0) {
    return refusal(path, error);
  }
  return unit;
}

std::uint64_t shared_in_range(int fd, std::uint64_t offset_bytes,
                              std::uint64_t size_bytes) noexcept {
  const std::uint64_t end = offset_bytes + size_bytes;
  std::uint64_t shared = 0;
  for (std::uint64_t at = offset_bytes; at < end;) {
    // The kernel's header, and its extents behind it.
    alignas(fiemap) std::array<std::byte, sizeof(fiemap) + kExtentsAtATime * sizeof(fiemap_extent)>
        answer{};
    auto* const map = reinterpret_cast<fiemap*>(answer.data());
    map->fm_start = at;
    map->fm_length = end - at;
    map->fm_extent_count = kExtentsAtATime;
    // Not to be found out: all of the rest is.
    if (::ioctl(fd, FS_IOC_FIEMAP, map) != 0) return shared + (end - at);
    if (map->fm_mapped_extents == 0) break;
    const std::uint64_t before = at;
    for (std::uint32_t i = 0; i < map->fm_mapped_extents; ++i) {
      const fiemap_extent& extent = map->fm_extents[i];
      const std::uint64_t first = std::max<std::uint64_t>(extent.fe_logical, offset_bytes);
      const std::uint64_t last = std::min<std::uint64_t>(extent.fe_logical + extent.fe_length, end);
      if ((extent.fe_flags & FIEMAP_EXTENT_SHARED) != 0 && last > first) shared += last - first;
      at = std::max<std::uint64_t>(at, extent.fe_logical + extent.fe_length);
      if ((extent.fe_flags & FIEMAP_EXTENT_LAST) != 0) return shared;
    }
    if (at == before) return shared + (end - at);  // As above.
  }
  return shared;
}

}  // namespace umbra::file_device
