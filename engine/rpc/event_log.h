// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// The last events, numbered. Each reader keeps the number up to which it has read, so a slow one
// costs nothing and holds up nobody: what it did not take in time is overwritten, and it is told
// how many those were.

#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <vector>

#include "umbra/provider_events.h"

namespace umbra::rpc {

/// Threads: any.
class EventLog {
 public:
  explicit EventLog(std::size_t kept_max = kEventsKeptMax) : kept_max_(kept_max) {}

  /// Numbers it (from 1 on) and keeps it. Then calls the listener, if any, with nothing locked.
  std::uint64_t add(ProviderEvent event);

  struct Page {
    std::vector<ProviderEvent> events;
    std::uint64_t next = 0;  // To ask with the next time.
    std::uint64_t lost = 0;  // Between the last read and the first of these.
  };
  /// Those above `after`, oldest first, at most `count`. A number that was never given (the log is
  /// a new one) counts as the last.
  [[nodiscard]] Page read(std::uint64_t after, std::size_t count) const;
  [[nodiscard]] std::uint64_t last() const;

  /// Called after every event from now on; null: nobody. Waits for a call that runs.
  void listen(std::function<void()> listener);

  /// Made with the log: whether it is still the one that a number is of.
  [[nodiscard]] const Guid& stream() const noexcept { return stream_; }

 private:
  const std::size_t kept_max_;
  const Guid stream_ = Guid::random();
  std::mutex listener_mutex_;  // Held while the listener runs; before mutex_.
  std::function<void()> listener_;
  mutable std::mutex mutex_;  // Guards the rest.
  std::deque<ProviderEvent> events_;
  std::uint64_t last_ = 0;
};

}  // namespace umbra::rpc
