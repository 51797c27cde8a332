// SPDX-License-Identifier: Apache-2.0
//
// A requester of the simulated machine: the SDK's production session logic, which blocks in its
// calls, in a thread that runs only while the world waits for it. So one thing happens at a time,
// in the world's order.

#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "requester-sdk/src/link.h"
#include "requester-sdk/src/session_logic.h"
#include "tests/sim/world.h"

namespace umbra::sim {

/// Runs a function that may wait for the world.
class Strand {
 public:
  explicit Strand(std::function<void(Strand&)> work);
  ~Strand();  // The work must have ended.
  Strand(const Strand&) = delete;
  Strand& operator=(const Strand&) = delete;
  /// The world's: lets the work go on until it waits or has ended.
  void resume();
  /// The work's: waits until the world resumes it.
  void wait();
  [[nodiscard]] bool is_over() const noexcept { return over_; }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool mine_ = false;  // It is the work's turn.
  bool over_ = false;
  std::thread thread_;
};

/// What a requester means to do.
struct RequesterPlan {
  std::vector<std::string> volumes;
  std::uint32_t context = context::kBackup;
  WriterPolicy policy = WriterPolicy::none;
  bool component_mode = true;
  int chaos = 0;  // Chance in a hundred, at each step, to pause for long, to give up or to vanish.
  milliseconds queue{10'000};
};

/// What came of it, in the SDK's words.
struct RequesterEnd {
  SessionId session;
  SnapshotSetId set;
  bool asked = false;    // DoSnapshotSet was called, and returned:
  bool created = false;  // ... and said that the set is there.
  Error error{Errc::ok, {}};
  std::vector<requester::WriterStatus> writers;  // With `created`.
  bool without_copy = false;                     // BackupComplete without DoSnapshotSet.
};

class SimRequester {
 public:
  SimRequester(World& world, RequesterPlan plan);
  ~SimRequester();
  SimRequester(const SimRequester&) = delete;
  SimRequester& operator=(const SimRequester&) = delete;
  void start();
  [[nodiscard]] bool is_over() const noexcept { return over_; }
  [[nodiscard]] const RequesterPlan& plan() const noexcept { return plan_; }
  [[nodiscard]] const RequesterEnd& end() const noexcept { return end_; }
  /// Called when DoSnapshotSet has said that the set is created.
  std::function<void(const SimRequester&)> on_created;

 private:
  class SimLink;
  void work();
  void backup(requester::SessionLogic& session);
  void pause(Duration time);
  /// At a step between two calls: true: it gives up, or is gone.
  [[nodiscard]] bool gives_up(requester::SessionLogic& session);

  World& world_;
  RequesterPlan plan_;
  RequesterEnd end_;
  bool over_ = false;
  std::unique_ptr<SimLink> link_;
  std::unique_ptr<Strand> strand_;
};

}  // namespace umbra::sim
