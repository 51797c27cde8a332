// SPDX-License-Identifier: Apache-2.0
//
// What frozen file systems have free, asked of the kernel (FS_IOC_GETFSMAP: ext4, XFS; others have
// nothing to say) while they are frozen, and only then.
//
// Why the answer is right for the point in time, whenever between freeze and thaw it is read: a
// freeze has written everything that was dirty or only reserved (delayed allocation) and committed
// the journal or log, and lets no allocation, no write and no discard of the file system begin.
// What an answer calls free was therefore free at every moment of the freeze. Unwritten extents,
// preallocated blocks, the journal, and blocks that a deleted, still open file holds are not free.
//
// The freeze is never made longer for it: an answer that is not there when the first thaw begins
// is not used, nobody waits for it, and what came before is right without the rest.

#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <span>

#include "engine/platform/unique_fd.h"
#include "provider/guardian/free_list.h"

namespace umbra::guardian {

/// Where the file system of a device lies on a volume.
struct Placement {
  std::uint64_t device = 0;  // The volume's.
  std::uint64_t offset_bytes = 0;
};

/// Looks into `sysfs`. Only where it is certain: on the volume itself, or on one of its partitions.
[[nodiscard]] std::optional<Placement> placement_of(std::uint64_t device,
                                                    std::span<const std::uint64_t> volumes,
                                                    const std::filesystem::path& sysfs = "/sys");

class FreeBlocks {
 public:
  /// Takes all memory that it will need. Null: there is none to be had.
  [[nodiscard]] static std::unique_ptr<FreeBlocks> make();
  ~FreeBlocks();
  FreeBlocks(const FreeBlocks&) = delete;
  FreeBlocks& operator=(const FreeBlocks&) = delete;

  /// Blocks until everything is listed or nothing more is taken. The file system that `fd` leads
  /// to, of device `device`, is frozen. Threads: any, side by side.
  void list(int fd, std::uint64_t device, const Placement& placement) noexcept;
  /// From now on nothing is taken any more. Does not wait for list().
  void close() noexcept;
  /// After close(): the file that holds the list; ours. -1: it is empty.
  [[nodiscard]] int file() const noexcept;

 private:
  FreeBlocks(UniqueFd file, std::byte* bytes) noexcept : file_(std::move(file)), bytes_(bytes) {}
  [[nodiscard]] bool take(std::span<const contract::FreeExtent> extents) noexcept;

  UniqueFd file_;
  std::byte* bytes_;  // kFreeListBytesMax of the file.
  mutable std::mutex mutex_;
  bool closed_ = false;    // mutex_
  std::size_t count_ = 0;  // mutex_
};

/// What another process has listed. Errors: those of decode_free_list(); io_error.
[[nodiscard]] Result<std::vector<contract::FreeExtent>> read_free_list(int fd);

}  // namespace umbra::guardian
