// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// A POSIX file descriptor with one owner. Included by *_posix.cc and *_linux.cc files and by
// POSIX-only folders.

#pragma once

#include <utility>

namespace umbra {

/// Closes a descriptor, ignoring errors (nothing can be done about them here). No-op below 0.
void close_fd(int fd) noexcept;

class UniqueFd {
 public:
  UniqueFd() noexcept = default;
  explicit UniqueFd(int fd) noexcept : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) reset(other.release());
    return *this;
  }
  ~UniqueFd() { close_fd(fd_); }

  [[nodiscard]] int get() const noexcept { return fd_; }
  [[nodiscard]] explicit operator bool() const noexcept { return fd_ >= 0; }
  [[nodiscard]] int release() noexcept { return std::exchange(fd_, -1); }
  void reset(int fd = -1) noexcept {
    const int old = std::exchange(fd_, fd);
    if (old != fd) close_fd(old);
  }

 private:
  int fd_ = -1;
};

}  // namespace umbra
