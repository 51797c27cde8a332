// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// What the example provider does to files, apart from the rules of a provider: gates, copies, and
// text that survives a power cut. Nothing here is of Umbra.

#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "umbra/result.h"

namespace example {

using umbra::Result;
using umbra::Status;
using Clock = std::chrono::steady_clock;

/// An exclusive lock on a file, which ends with the object, or with the process however it ends.
/// Whoever writes to the file takes a shared one around each write (flock).
class Gate {
 public:
  /// Nothing: somebody writes now. Errors: io_error.
  [[nodiscard]] static Result<std::optional<Gate>> try_shut(const std::string& path);
  Gate(Gate&& other) noexcept;
  Gate& operator=(Gate&& other) noexcept;
  ~Gate();

 private:
  explicit Gate(int fd) noexcept : fd_(fd) {}
  int fd_;
};

/// `to` becomes a copy of `from`: sharing its blocks where the file system can (XFS, btrfs), else
/// piece by piece. `to` is not durable yet. Errors: hold_writes_timeout (not done by `until`);
/// insufficient_storage; io_error. A part of `to` may be left.
[[nodiscard]] Status copy_file(const std::string& from, const std::string& to,
                               Clock::time_point until);

/// Errors of these: io_error; insufficient_storage.
[[nodiscard]] Status make_durable(const std::string& path);
[[nodiscard]] Status set_writable(const std::string& path, bool writable);
/// The file has this text, or what it had before, also after a power cut.
[[nodiscard]] Status write_text(const std::string& path, const std::string& text);
[[nodiscard]] Result<std::string> read_text(const std::string& path);
[[nodiscard]] Result<std::uint64_t> size_of(const std::string& path);
/// Names in a directory, which is made if it is not there.
[[nodiscard]] Result<std::vector<std::string>> list_directory(const std::string& path);
/// Whether it is gone afterwards, durably; it need not have been there.
[[nodiscard]] Status remove_file(const std::string& path);

}  // namespace example
