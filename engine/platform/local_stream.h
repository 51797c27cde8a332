// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// Local byte streams between processes of one machine: AF_UNIX on POSIX. Who the peer is (process,
// user, all its groups) is known before its first byte is read. Descriptors are close-on-exec and
// non-blocking; writing to a closed peer is an error, never SIGPIPE.

#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/platform/clock.h"
#include "engine/platform/unique_fd.h"
#include "umbra/result.h"

namespace umbra {

/// The peer as the kernel vouches for it, at the time it connected.
struct PeerCredentials {
  std::int64_t pid = 0;  // 0: in a pid namespace we cannot see.
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::vector<std::uint32_t> groups;  // Supplementary ones.
};

/// Lets another thread interrupt LocalStream::wait(). Threads: wake() from any; also from a signal
/// handler.
class Waker {
 public:
  /// Errors: io_error (out of descriptors).
  [[nodiscard]] static Result<Waker> create();
  void wake() const noexcept;
  /// Forgets the wake-ups so far.
  void drain() const noexcept;
  [[nodiscard]] int native() const noexcept { return read_end_.get(); }

 private:
  Waker(UniqueFd read_end, UniqueFd write_end) noexcept
      : read_end_(std::move(read_end)), write_end_(std::move(write_end)) {}
  UniqueFd read_end_;
  UniqueFd write_end_;
};

struct StreamReady {
  bool readable = false;  // Data, end of file, or an error to be met by read_some().
  bool writable = false;
  bool woken = false;  // Never set without a Waker.
};

/// One end of a stream. Threads: one at a time.
class LocalStream {
 public:
  LocalStream() noexcept = default;
  explicit LocalStream(UniqueFd fd) noexcept : fd_(std::move(fd)) {}

  /// Connects to a listener. Blocks until `deadline` at most (a full backlog makes it wait).
  /// Errors: coordinator_lost (nobody listens at `path`, or not in time); access_denied;
  /// invalid_argument (the path is too long for an address: 107 bytes).
  [[nodiscard]] static Result<LocalStream> connect(const std::string& path, TimePoint deadline);
  /// Two connected ends in this process, for tests. Errors: io_error.
  [[nodiscard]] static Result<std::pair<LocalStream, LocalStream>> pair();

  /// The peer's credentials. Errors: io_error.
  [[nodiscard]] Result<PeerCredentials> peer() const;

  /// Reads what is there. 0: the peer has closed. Nothing: nothing is there yet. Errors:
  /// coordinator_lost (the connection broke).
  [[nodiscard]] Result<std::optional<std::size_t>> read_some(std::span<char> buffer);
  /// Writes what fits without waiting, possibly 0 bytes. Errors: coordinator_lost.
  [[nodiscard]] Result<std::size_t> write_some(std::span<const char> bytes);

  /// Waits until something can be read, or written if `for_writing`, or `waker` is woken, or
  /// `deadline` has passed; nothing set then. Nothing as `deadline`: no bound.
  [[nodiscard]] StreamReady wait(bool for_writing, const Waker* waker,
                                 std::optional<TimePoint> deadline) const noexcept;

  [[nodiscard]] bool is_open() const noexcept { return static_cast<bool>(fd_); }
  [[nodiscard]] int native() const noexcept { return fd_.get(); }
  /// Gives the descriptor to the caller.
  [[nodiscard]] UniqueFd release() noexcept { return std::move(fd_); }
  void close() noexcept { fd_.reset(); }

 private:
  UniqueFd fd_;
};

/// A listening socket at a path. While it lives it holds a lock on "PATH.lock", so that two daemons
/// never share a path and a socket left by a killed one is replaced without a race.
class LocalListener {
 public:
  /// `mode`: permissions of the socket, e.g. 0666 where credentials decide. Errors:
  /// object_already_exists (another process listens there); access_denied; invalid_argument (path
  /// too long); io_error.
  [[nodiscard]] static Result<LocalListener> listen(const std::string& path, unsigned mode);

  LocalListener(LocalListener&&) noexcept = default;
  LocalListener& operator=(LocalListener&&) = delete;
  /// Removes the socket.
  ~LocalListener();

  /// The next connection; nothing if none is waiting. Errors: io_error (out of descriptors: wait
  /// before trying again).
  [[nodiscard]] Result<std::optional<LocalStream>> accept();

  [[nodiscard]] int native() const noexcept { return fd_.get(); }
  [[nodiscard]] const std::string& path() const noexcept { return path_; }

 private:
  LocalListener(UniqueFd fd, UniqueFd lock, std::string path) noexcept
      : fd_(std::move(fd)), lock_(std::move(lock)), path_(std::move(path)) {}
  UniqueFd fd_;
  UniqueFd lock_;
  std::string path_;
};

}  // namespace umbra
