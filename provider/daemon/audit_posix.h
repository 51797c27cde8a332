// SPDX-License-Identifier: Apache-2.0
//
// Takes events off the volumes' executors, and keeps the audit: a line for every copy that was
// deleted, lost or faulted for, in a file off the volumes.
//
//   2026-11-22T23:50:01.250Z snapshot_deleted volume=ID snapshot=ID set=ID reason=evicted who="..."
//
// Lines are appended (O_APPEND) and synced before the next events are taken. At 1 MiB the file is
// renamed to audit.log.1, and so on up to .4. Nothing is written between hold() and release(),
// while file systems are frozen that the file may lie on. A line that was not written when the
// process is killed is missing: the deletion itself does not wait for its line. When more than
// kQueuedMax events wait, further ones are counted, and a line says how many.

#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "engine/platform/log.h"
#include "provider/cow/events.h"

namespace umbra::cowd {

/// Threads: any.
class AuditLog final : public cow::EventSink {
 public:
  static constexpr std::size_t kQueuedMax = 4096;
  static constexpr std::uint64_t kFileBytesMax = 1U << 20U;
  static constexpr int kFilesKept = 4;

  /// `path`: of the audit file. `handler` gets every event on the audit's own thread, after its
  /// line was written; it may block. The log outlives the audit.
  AuditLog(std::string path, Log& log, std::function<void(const cow::Event&)> handler);
  /// Writes what is left.
  ~AuditLog() override;
  AuditLog(const AuditLog&) = delete;
  AuditLog& operator=(const AuditLog&) = delete;

  void on_event(const cow::Event& event) noexcept override;
  /// From now on nothing is written. Returns when nothing is being written any more, or after
  /// `limit`. Counts.
  void hold(std::chrono::milliseconds limit);
  void release();

 private:
  void run();
  void handle(const cow::Event& event);
  void append(const std::string& line);

  const std::string path_;
  const Logger log_;
  const std::function<void(const cow::Event&)> handler_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<cow::Event> waiting_;
  std::uint64_t dropped_ = 0;
  unsigned holds_ = 0;
  bool writing_ = false;
  bool stopping_ = false;
  std::thread thread_;
};

/// The line of an event, without its end; empty: it is none for the audit.
[[nodiscard]] std::string audit_line(const cow::Event& event);

}  // namespace umbra::cowd
