// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "engine/rpc/event_log.h"

#include <algorithm>
#include <utility>

namespace umbra::rpc {

std::uint64_t EventLog::add(ProviderEvent event) {
  std::uint64_t number = 0;
  {
    const std::lock_guard lock(mutex_);
    number = ++last_;
    event.sequence = number;
    events_.push_back(std::move(event));
    if (events_.size() > kept_max_) events_.pop_front();
  }
  const std::lock_guard lock(listener_mutex_);
  if (listener_) listener_();
  return number;
}

EventLog::Page EventLog::read(std::uint64_t after, std::size_t count) const {
  const std::lock_guard lock(mutex_);
  Page page;
  page.next = std::min(after, last_);
  const std::uint64_t overwritten = last_ - events_.size();  // Numbers up to this are gone.
  if (page.next < overwritten) {
    page.lost = overwritten - page.next;
    page.next = overwritten;
  }
  for (std::uint64_t at = page.next - overwritten; at < events_.size(); ++at) {
    if (page.events.size() == count) break;
    page.events.push_back(events_[at]);
    page.next = events_[at].sequence;
  }
  return page;
}

std::uint64_t EventLog::last() const {
  const std::lock_guard lock(mutex_);
  return last_;
}

void EventLog::listen(std::function<void()> listener) {
  const std::lock_guard lock(listener_mutex_);
  listener_ = std::move(listener);
}

}  // namespace umbra::rpc
