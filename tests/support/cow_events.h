// SPDX-License-Identifier: Apache-2.0
//
// Keeps what a volume tells, for tests to look at.
#pragma once

#include <algorithm>
#include <mutex>
#include <vector>

#include "provider/cow/events.h"

namespace umbra::test {

/// Threads: any.
class RecordedEvents final : public cow::EventSink {
 public:
  void on_event(const cow::Event& event) noexcept override {
    const std::lock_guard lock(mutex_);
    events_.push_back(event);
  }
  [[nodiscard]] std::vector<cow::Event> of(cow::EventKind kind) const {
    const std::lock_guard lock(mutex_);
    std::vector<cow::Event> found;
    std::copy_if(events_.begin(), events_.end(), std::back_inserter(found),
                 [kind](const cow::Event& event) { return event.kind == kind; });
    return found;
  }
  [[nodiscard]] std::size_t count(cow::EventKind kind) const { return of(kind).size(); }
  void clear() {
    const std::lock_guard lock(mutex_);
    events_.clear();
  }

 private:
  mutable std::mutex mutex_;
  std::vector<cow::Event> events_;
};

}  // namespace umbra::test
