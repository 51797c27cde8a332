// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// The daemons' log: spdlog behind umbra::Log. One line per record:
//
//   2026-03-01T12:00:00.123456Z info cowd volume attached volume=7b9c2f1e-... path="/srv/my data"
//
// time (UTC), level, component, message, fields; a value that is empty or holds a blank, '=', a
// quote or anything unprintable is quoted and escaped, and cut at kLogValueBytesMax.
//
// write() formats and queues, nothing more; one thread of the log's own writes. So a slow disk or
// an unread pipe costs the log's thread and nobody else: when kLogRecordsMax records wait, the
// oldest go, and a line says how many. hold() stops the writing: nothing reaches the file until
// release(), since that file may lie on a volume that is frozen.

#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "engine/platform/log.h"
#include "umbra/result.h"

namespace umbra {

inline constexpr std::size_t kLogRecordsMax = 16'384;  // Waiting to be written.
inline constexpr std::size_t kLogValueBytesMax = 1'024;

struct SpdlogOptions {
  std::string file;  // Appended to; empty: standard error.
  LogLevel level = LogLevel::info;
  std::size_t records_max = kLogRecordsMax;
};

/// Threads: every member from any thread.
class SpdlogLog final : public Log {
 public:
  /// Starts the writing thread, with the caller's signal mask. Errors: io_error (the file cannot be
  /// opened; the context says why).
  [[nodiscard]] static Result<std::unique_ptr<SpdlogLog>> open(const SpdlogOptions& options);
  /// Writes what waits, for at most two seconds; what a hold() keeps is written as well.
  ~SpdlogLog() override;
  SpdlogLog(const SpdlogLog&) = delete;
  SpdlogLog& operator=(const SpdlogLog&) = delete;

  /// Takes a lock for some nanoseconds and allocates.
  void write(LogLevel level, std::string_view component, std::string_view message,
             std::span<const LogField> fields) noexcept override;

  /// Records below `level` are dropped from now on.
  void set_level(LogLevel level) noexcept;

  /// Closes the file and opens the path anew (after a rotation); nothing to do for standard error.
  /// Blocks for the open. Errors: io_error (the old file stays in use).
  [[nodiscard]] Status reopen();

  /// From its return on nothing is written until release(), whatever is logged; what was logged
  /// before is written first, for at most 100 ms. As many releases as holds are needed.
  void hold() noexcept;
  void release() noexcept;

  /// Waits until everything logged so far is written. False: not within two seconds, or held.
  [[nodiscard]] bool flush() noexcept;

 private:
  struct State;
  explicit SpdlogLog(std::shared_ptr<State> state) noexcept;
  std::shared_ptr<State> state_;  // Shared with the writing thread, which may outlive this object.
};

/// "debug", "info", "warning" or "error". Errors: invalid_argument (names the choices).
[[nodiscard]] Result<LogLevel> parse_log_level(std::string_view text);

}  // namespace umbra
