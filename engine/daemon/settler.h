// SPDX-License-Identifier: Apache-2.0
//
// Makes sets that were left in doubt whole or gone (engine/coordinator/settlement.h): asks the
// providers which sets wait, asks all of them about each, and tells those that wait what to do.
//
// Guarantees: sets that a session is making are left alone; nothing is remembered, so that it can
// end anywhere and begin anew; one round at a time, and it looks again when somebody came
// meanwhile, or after kSettleRetry when everybody is there and a set still waits.

#pragma once

#include <chrono>
#include <deque>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "engine/platform/clock.h"
#include "umbra/ids.h"
#include "umbra/provider.h"

namespace umbra::daemon {

class ProviderLink;
class Server;

inline constexpr std::chrono::seconds kSettleRetry{10};

/// Threads: the coordinator's.
class Settler {
 public:
  explicit Settler(Server& server) : server_(server) {}

  /// A provider has come, or a set was left in doubt.
  void look();
  void tick(TimePoint now);
  [[nodiscard]] std::optional<TimePoint> next_deadline() const noexcept { return retry_; }

 private:
  struct Waiting {
    SnapshotSetId id;
    bool all_members = false;  // Its copies are all there.
  };
  using Answers = std::vector<std::pair<std::shared_ptr<ProviderLink>, SetFate>>;
  void collect();
  void next_set();
  void decide(const Waiting& waiting, const Answers& answers, bool everybody);
  void finish();

  Server& server_;
  bool running_ = false;
  bool again_ = false;
  bool waiting_ = false;
  std::optional<TimePoint> retry_;
  std::deque<Waiting> sets_;
};

}  // namespace umbra::daemon
