// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// block::Device over a file or a block device of the system.
//
// Every device has threads of its own (a small pool, or one that serves an io_uring, with the
// kernel's workers for it): one stalled device never starves another, whoever submits to both.
// Files are read and written through the page cache unless told otherwise, block devices with
// O_DIRECT. The descriptor that does the I/O carries the lock (flock on files, O_EXCL on block
// devices), and is never handed to another process: a successor that holds the lock knows that no
// write of its predecessor can still land.
//
// A failed flush is sticky: the kernel may have dropped the dirty pages, and tells one caller only.
// So flushes of a device go to the kernel one at a time, those that wait are served together by the
// next one, and after a failure every later one fails as well, without asking the kernel, until the
// device is opened anew. A write with `fua` that fails counts as a failed flush.

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "engine/platform/block.h"
#include "engine/platform/unique_fd.h"

namespace umbra {

enum class FileEngine : std::uint8_t {
  automatic,  ///< Threads for the page cache; io_uring for O_DIRECT where the kernel permits it.
  threads,
  io_uring,  ///< missing_kernel_feature if it is not there, or not permitted.
};

/// What the kernel is made to answer, for tests. Threads: called by the device's threads.
class FileFaults {
 public:
  virtual ~FileFaults() = default;
  /// Instead of a sync: an errno value. 0: sync.
  virtual int flush() noexcept { return 0; }
  /// How many of the `left` bytes the next call moves at most, or a negative errno value that it
  /// gives instead.
  virtual std::int64_t transfer(const block::Request& /*request*/, std::uint64_t left) noexcept {
    return static_cast<std::int64_t>(left);
  }
  /// What io_uring_enter() gives instead: a negative errno value. 0: it is called.
  virtual int enter() noexcept { return 0; }
};

struct FileDeviceOptions {
  FileEngine engine = FileEngine::automatic;
  bool read_only = false;
  /// False for readers beside the owner: takes no lock.
  bool lock = true;
  /// Files: O_DIRECT instead of the page cache; not_supported if the file system has none. Block
  /// devices always use it.
  bool direct = false;
  /// Create the file if it is missing (empty; resize() gives it a size).
  bool create = false;
  unsigned threads = 4;  // Of the thread engine; 1 to kFileThreadsMax.
  /// For what may lie on a device that this process serves itself. Blocking calls are made by
  /// threads whose descriptor table holds nothing but this file: one that waits for the device, and
  /// cannot end when the process is killed, keeps no lock and no session of the process but this
  /// file's. Costs a hand-over per request; always the thread engine; holes are not told.
  bool apart = false;
  FileFaults* faults = nullptr;  // Null but in tests. Outlives the device.
};

inline constexpr unsigned kFileThreadsMax = 64;

/// What a path stands for, whatever it is called: two paths with equal identities are one storage.
struct FileIdentity {
  bool block_device = false;
  std::uint64_t device = 0;  // Block devices: st_rdev. Files: st_dev, of the file system it is on.
  std::uint64_t inode = 0;   // Files only.
  friend bool operator==(const FileIdentity&, const FileIdentity&) = default;
};

class FileDevice : public block::ResizableDevice {
 public:
  [[nodiscard]] virtual const std::string& path() const noexcept = 0;
  [[nodiscard]] virtual FileIdentity identity() const noexcept = 0;
  /// What stays with the file as long as it is that one, of whatever content; for a block device
  /// nothing that would survive a restart of the machine.
  [[nodiscard]] virtual std::array<std::byte, 32> lasting_identity() const noexcept = 0;
  /// Of a file: when it was last written, in ns since 1970, durable as told. Blocks: writes the
  /// file's pages back. 0: a block device, apart, or not to
  /// be found out.
  [[nodiscard]] virtual std::int64_t settled_change_time() noexcept = 0;
  /// A descriptor of its own, for reading only and without a lock, for another process; O_DIRECT
  /// where this device is. Errors: not_supported (apart: opening may wait for ourselves); io_error.
  [[nodiscard]] virtual Result<UniqueFd> open_for_reader() const = 0;
  /// The engine in use: "threads" or "io_uring".
  [[nodiscard]] virtual const char* engine_name() const noexcept = 0;
  /// For people: the engine, why it is not the one that `automatic` prefers, and O_DIRECT or page
  /// cache: "io_uring, O_DIRECT".
  [[nodiscard]] virtual std::string io_text() const = 0;
};

/// Blocks shortly. Errors: volume_attached (somebody holds the lock, or the block device is mounted
/// or in use); object_not_found; access_denied; invalid_argument (neither a file nor a block
/// device, or a size that is no multiple of the sector); not_supported (O_DIRECT);
/// missing_kernel_feature; io_error.
/// Destruction waits for nothing: destroy only when nothing is in flight.
[[nodiscard]] Result<std::unique_ptr<FileDevice>> open_file_device(
    const std::string& path, const FileDeviceOptions& options);

/// Refuses a diff area that is its own origin. Errors: invalid_argument.
[[nodiscard]] Status check_distinct(const FileDevice& origin, const FileDevice& diff);

}  // namespace umbra
