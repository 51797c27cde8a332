// SPDX-License-Identifier: Apache-2.0
//
// Serves block devices as files of a FUSE mount, speaking the kernel's protocol on /dev/fuse.
//
// Two shapes: the mount point is a file, which is the one device (a live volume), or a directory
// of devices (the snapshots). Every live volume has a session of its own: the kernel bounds the
// requests in flight per session, so that in a common one a volume that stands still (its gate is
// shut, its diff area hangs) would stop its neighbours, and one that lies on another would stop
// itself.
//
// Surviving kill -9: the kernel keeps a session as long as somebody holds its descriptor. The owner
// leaves descriptor() and saved_state() with a keeper; the next process gives both to take_over(),
// adds the same names, and start() asks the kernel for every request that was not answered. Nobody
// above sees more than a pause. A write that was done but not answered is done again: it had not
// been acknowledged, so nobody could rely on either outcome. For this to hold
//   - a node's number is a function of its name, so there is no table to lose;
//   - buffers are locked and prefaulted: the kernel ends a request with EIO that it cannot copy;
//   - the process must never wait inside its own mounts, or its own death would wait for its
//     successor and the successor for its death: whoever opens, mounts or scans what is served
//     here does so in another process.
//
// Requests go to the device without blocking, replies are written by whoever completes them. Reads
// need not be aligned; writes must be (loop devices are), others get EINVAL.

#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "engine/platform/block.h"
#include "engine/platform/log.h"
#include "engine/platform/unique_fd.h"
#include "umbra/result.h"

namespace umbra::fuse {

inline constexpr std::uint32_t kPayloadBytesMax = 256U << 10U;  // One read or write.
inline constexpr std::size_t kInFlightMax = 64;                 // Requests, per session.
inline constexpr std::size_t kReaderThreads = 2;
inline constexpr int kStartSecondsMax = 10;  // For the kernel's first request.

enum class Shape : std::uint8_t { one_file, directory };

struct SessionOptions {
  std::string mount_point;  // An existing empty file or directory, as `shape` says; absolute.
  Shape shape = Shape::directory;
  std::uint32_t group = 0;         // Group of the files.
  unsigned directory_mode = 0750;  // Shape::directory.
};

struct FileOptions {
  unsigned mode = 0600;  // Permission bits; write bits are dropped for read-only devices.
};

class Session {
 public:
  /// Mounts; nothing is served before start(). Errors: missing_privilege; missing_kernel_feature
  /// (no /dev/fuse); io_error.
  [[nodiscard]] static Result<std::unique_ptr<Session>> create(const SessionOptions& options,
                                                               Log& log);
  /// Goes on with a session whose process has gone. Add the files, then start(). Errors:
  /// version_mismatch (state of another version); invalid_argument (not a state).
  [[nodiscard]] static Result<std::unique_ptr<Session>> take_over(UniqueFd descriptor,
                                                                  std::string_view saved_state,
                                                                  Log& log);
  /// Aborts the session and unmounts, waits for requests in flight. Whoever still has a file open
  /// gets errors.
  virtual ~Session() = default;

  /// Starts the threads. Blocks until the kernel has greeted (a new session). Errors:
  /// missing_kernel_feature (too old to resend requests, i.e. Linux before 6.9: the session would
  /// not survive us); io_error. Call it once.
  [[nodiscard]] virtual Status start() = 0;

  /// Shape::one_file has one file with an empty name. Errors: object_already_exists;
  /// invalid_argument (name). Threads: any.
  [[nodiscard]] virtual Status add(std::string_view name, std::shared_ptr<block::Device> device,
                                   const FileOptions& options) = 0;
  /// Takes the file away and waits for its requests in flight; afterwards the device is not touched
  /// any more and open files answer EIO. Errors: object_not_found; volume_in_use (open, and not
  /// `force`). What a predecessor's clients have open is not known here.
  [[nodiscard]] virtual Status remove(std::string_view name, bool force) = 0;
  /// Opens minus releases in this process's life.
  [[nodiscard]] virtual std::size_t open_count(std::string_view name) const = 0;
  [[nodiscard]] virtual const std::string& mount_point() const noexcept = 0;

  /// To be kept for take_over(), once start() has returned.
  [[nodiscard]] virtual int descriptor() const noexcept = 0;
  [[nodiscard]] virtual std::string saved_state() const = 0;

 protected:
  Session() = default;
};

/// The number of the node with this name: never 0 or 1, the same in every process.
[[nodiscard]] std::uint64_t node_of(std::string_view name) noexcept;

}  // namespace umbra::fuse
