// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// Time as a seam. Deadlines are values computed from now(); nobody reads the system clock directly,
// so a test owns time.

#pragma once

#include <chrono>

namespace umbra {

using Duration = std::chrono::nanoseconds;
/// Monotonic; meaningless across processes.
using TimePoint = std::chrono::time_point<std::chrono::steady_clock, Duration>;

class Clock {
 public:
  virtual ~Clock() = default;
  /// Monotonic time. Threads: any.
  [[nodiscard]] virtual TimePoint now() const noexcept = 0;
  /// 100 ns ticks since 1601-01-01 UTC, as VSS_SNAPSHOT_PROP::m_tsCreationTimestamp. Threads: any.
  [[nodiscard]] virtual std::int64_t wall_filetime() const noexcept = 0;
};

/// The machine's clocks. Static storage. Threads: any.
[[nodiscard]] const Clock& system_clock() noexcept;

}  // namespace umbra
