// SPDX-License-Identifier: Apache-2.0
//
// Doubles of the system provider's surroundings: a freezer and front ends that record what is asked
// of them, in order, and fail or block on demand; and a log that keeps its records.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <stop_token>
#include <string>
#include <vector>

#include "engine/platform/log.h"
#include "provider/contract/ports.h"
#include "umbra/ids.h"
#include "umbra/result.h"

namespace umbra::test {

/// What happened, in order: "a.hold", "freeze", ... Threads: any.
class Events {
 public:
  void add(std::string event);
  [[nodiscard]] std::vector<std::string> all() const;
  [[nodiscard]] bool contains(const std::string& event) const;
  void clear();

 private:
  mutable std::mutex mutex_;
  std::vector<std::string> events_;
};

/// Threads: any. Set the public members before anybody uses it.
class FakeFreezer final : public contract::Freezer {
 public:
  explicit FakeFreezer(Events& events) : events_(events) {}

  std::function<Status()> on_flush;
  std::function<Status()> on_freeze;
  std::function<void(std::chrono::milliseconds)> on_lease;  // Of each freeze.
  std::function<Result<bool>()> on_thaw;                    // Called after the thaw.
  std::vector<contract::FreeExtent> free;                   // Told with every thaw.
  [[nodiscard]] bool is_frozen() const;
  /// Of every freeze since the start.
  [[nodiscard]] std::vector<std::vector<std::uint64_t>> freezes() const;
  [[nodiscard]] std::chrono::milliseconds flush_limit() const;  // Of the last flush.

  /// flush() blocks from now on, until let() or until it is stopped.
  void block();
  [[nodiscard]] bool wait_blocked();  // False: not within 20 s.
  void let();

  [[nodiscard]] Status flush(const std::vector<std::uint64_t>& devices,
                             std::chrono::milliseconds limit, std::stop_token stop) override;
  [[nodiscard]] Status freeze(const SnapshotSetId& set, const std::vector<std::uint64_t>& devices,
                              std::chrono::milliseconds limit, std::chrono::milliseconds lease,
                              std::stop_token stop) override;
  [[nodiscard]] Result<contract::Thawed> thaw(const SnapshotSetId& set) override;

 private:
  Events& events_;
  mutable std::mutex mutex_;
  std::condition_variable_any changed_;
  std::chrono::milliseconds flush_limit_{0};
  std::map<SnapshotSetId, std::vector<std::uint64_t>> frozen_;
  std::vector<std::vector<std::uint64_t>> freezes_;
  bool blocking_ = false;
  int blocked_ = 0;
};

/// Threads: any.
class FakeSurfaces final : public contract::Surfaces {
 public:
  explicit FakeSurfaces(Events& events) : events_(events) {}

  std::function<Status(const SnapshotId&)> on_surface;
  void set_mounted(const SnapshotId& snapshot, bool mounted);
  [[nodiscard]] std::size_t count() const;
  [[nodiscard]] bool has(const SnapshotId& snapshot) const;
  void forget();  // The front ends' process has died.
  /// What a reader of the surfaced copy sees. Errors: object_not_found; io_error.
  [[nodiscard]] Result<std::string> read(const SnapshotId& snapshot, std::size_t offset,
                                         std::size_t size) const;

  [[nodiscard]] Result<contract::Surfaced> surface(const SnapshotId& snapshot,
                                                   std::shared_ptr<block::Device> device) override;
  [[nodiscard]] Status withdraw(const SnapshotId& snapshot, bool force) override;
  [[nodiscard]] MountPoints mount_points() const override;

 private:
  Events& events_;
  mutable std::mutex mutex_;
  std::map<SnapshotId, std::shared_ptr<block::Device>> devices_;
  std::set<SnapshotId> mounted_;
};

/// Records become events "log MESSAGE", and their fields can be asked for.
class EventLog final : public Log {
 public:
  explicit EventLog(Events& events) : events_(events) {}
  void write(LogLevel level, std::string_view component, std::string_view message,
             std::span<const LogField> fields) noexcept override;
  /// Of the newest record with this message; empty without.
  [[nodiscard]] std::string field(const std::string& message, const std::string& key) const;

 private:
  Events& events_;
  mutable std::mutex mutex_;
  std::map<std::string, std::map<std::string, std::string>> records_;
};

}  // namespace umbra::test
