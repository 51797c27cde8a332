// SPDX-License-Identifier: Apache-2.0
//
// The guardian's log: the same line as the daemons', without spdlog's libraries. While something is
// frozen nothing is written, since the log may lie on a frozen file system: lines are held back
// (kHeldLinesMax; further ones are counted) and follow after the thaw.

#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "engine/platform/log.h"

namespace umbra::guardian {

inline constexpr std::size_t kHeldLinesMax = 1000;

/// Threads: one. `fd` stays the caller's.
class GuardianLog final : public Log {
 public:
  explicit GuardianLog(int fd) : fd_(fd) {}

  void write(LogLevel level, std::string_view component, std::string_view message,
             std::span<const LogField> fields) noexcept override;

  /// Holds lines back, or lets them go.
  void hold(bool held) noexcept;
  /// Has a process of its own write what is held back, for a thaw that may never come; it may hang.
  void let_go_aside() noexcept;

 private:
  void put(const std::string& line) const noexcept;

  int fd_;
  bool held_ = false;
  std::vector<std::string> lines_;
  std::size_t dropped_ = 0;
};

}  // namespace umbra::guardian
