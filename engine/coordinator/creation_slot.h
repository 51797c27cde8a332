// SPDX-License-Identifier: Apache-2.0
//
// The one creation slot of the machine, and the queue before it. First come, first served; each
// waits as long as it said, at most. Pure: a holder is a number that the owner chose.

#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "engine/coordinator/limits.h"
#include "engine/platform/clock.h"
#include "umbra/result.h"

namespace umbra::coord {

using SlotKey = std::uint64_t;

/// Threads: one.
class CreationSlot {
 public:
  /// True: `key` holds the slot. False: it waits; granted() or expired() will name it. Errors:
  /// snapshot_set_in_progress (taken, and the limit is 0 or the queue is full).
  [[nodiscard]] Result<bool> acquire(SlotKey key, TimePoint now, milliseconds queue_limit);
  /// Gives up the slot or the place in the queue; unknown keys are no error. Who holds the slot
  /// now, if that changed.
  [[nodiscard]] std::optional<SlotKey> leave(SlotKey key);
  /// Those whose time in the queue is over; they are out.
  [[nodiscard]] std::vector<SlotKey> expired(TimePoint now);
  [[nodiscard]] std::optional<TimePoint> next_deadline() const;
  [[nodiscard]] std::optional<SlotKey> holder() const noexcept { return holder_; }

 private:
  struct Waiting {
    SlotKey key;
    TimePoint until;
  };
  std::optional<SlotKey> holder_;
  std::deque<Waiting> queue_;
};

}  // namespace umbra::coord
