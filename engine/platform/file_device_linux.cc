// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// Linux: block devices, O_DIRECT, hole punching.
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "engine/platform/file_device_engine.h"

namespace umbra::file_device {

int direct_flag() noexcept { return O_DIRECT; }

Status describe_block_device(OpenFile& file) {
  std::uint64_t size_bytes = 0;
  int sector_bytes = 0;
  if (::ioctl(file.fd.get(), BLKGETSIZE64, &size_bytes) != 0 ||
      ::ioctl(file.fd.get(), BLKSSZGET, &sector_bytes) != 0) {
    return fail(Errc::io_error,
                file.path + ": its size cannot be read: errno " + std::to_string(errno));
  }
  file.geometry.size_bytes = size_bytes;
  file.geometry.block_bytes = static_cast<std::uint32_t>(sector_bytes);
  file.geometry.alignment_bytes = static_cast<std::uint32_t>(sector_bytes);
  return {};
}

DirectAlignment direct_alignment(int fd) noexcept {
#ifdef STATX_DIOALIGN
  struct statx facts {};
  if (::statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &facts) == 0 &&
      (facts.stx_mask & STATX_DIOALIGN) != 0) {
    return {facts.stx_dio_offset_align, facts.stx_dio_mem_align};
  }
#endif
  return {};
}

// By its descriptor: the path may lead elsewhere by now.
Result<UniqueFd> Base::open_for_reader() const {
  if (file_.apart) {
    return fail(Errc::not_supported, file_.path + ": it may lie on a volume of Umbra's own");
  }
  const std::string path = "/proc/self/fd/" + std::to_string(fd());
  UniqueFd reader(::open(path.c_str(), O_RDONLY | O_CLOEXEC | (file_.direct ? O_DIRECT : 0)));
  if (!reader) {
    return fail(Errc::io_error,
                file_.path + ": opening it for a reader: errno " + std::to_string(errno));
  }
  return reader;
}

std::uint32_t file_generation(int fd) noexcept {
  int generation = 0;
  if (::ioctl(fd, FS_IOC_GETVERSION, &generation) != 0) return 0;
  return static_cast<std::uint32_t>(generation);
}

int zero_range(int fd, const block::Request& request) noexcept {
  const auto offset = static_cast<off_t>(request.offset_bytes);
  const auto size = static_cast<off_t>(request.size_bytes);
  if (!request.no_hole &&
      ::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, size) == 0) {
    return 0;
  }
  if (::fallocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, offset, size) == 0) return 0;
  return errno == EINVAL || errno == ENODEV ? EOPNOTSUPP : errno;
}

int discard_range(int fd, bool block_device, const block::Request& request) noexcept {
  int error = 0;
  if (block_device) {
    std::array<std::uint64_t, 2> range = {request.offset_bytes, request.size_bytes};
    if (::ioctl(fd, BLKDISCARD, range.data()) != 0) error = errno;
  } else if (::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                         static_cast<off_t>(request.offset_bytes),
                         static_cast<off_t>(request.size_bytes)) != 0) {
    error = errno;
  }
  return error == EOPNOTSUPP ? 0 : error;
}

bool lies_in_memory(int fd) noexcept {
  struct statfs facts {};
  return ::fstatfs(fd, &facts) == 0 && (facts.f_type == TMPFS_MAGIC || facts.f_type == RAMFS_MAGIC);
}

std::uint64_t read_cached(int fd, const block::Request& request) noexcept {
  iovec piece{request.buffer, request.size_bytes};
  const ssize_t moved =
      ::preadv2(fd, &piece, 1, static_cast<off_t>(request.offset_bytes), RWF_NOWAIT);
  return moved == static_cast<ssize_t>(request.size_bytes) ? request.size_bytes : 0;
}

void keep_only(int fd) noexcept {
  if (::unshare(CLONE_FILES) != 0) return;  // For want of memory; all is as without.
  const auto kept = static_cast<unsigned>(fd);
  if (kept > 0) (void)::close_range(0, kept - 1, 0);
  (void)::close_range(kept + 1, ~0U, 0);
}

}  // namespace umbra::file_device
