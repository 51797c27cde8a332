// SPDX-License-Identifier: Apache-2.0

#include "engine/coordinator/creation_slot.h"

#include <algorithm>

namespace umbra::coord {

Result<bool> CreationSlot::acquire(SlotKey key, TimePoint now, milliseconds queue_limit) {
  if (!holder_) {
    holder_ = key;
    return true;
  }
  if (queue_limit.count() <= 0)
    return fail(Errc::snapshot_set_in_progress, "another requester creates a snapshot set");
  if (queue_.size() >= kSlotQueueMax)
    return fail(Errc::snapshot_set_in_progress,
                std::to_string(kSlotQueueMax) + " requesters wait already");
  queue_.push_back({key, now + std::min(queue_limit, kSlotQueueLimitMax)});
  return false;
}

std::optional<SlotKey> CreationSlot::leave(SlotKey key) {
  queue_.erase(std::remove_if(queue_.begin(), queue_.end(),
                              [&](const Waiting& one) { return one.key == key; }),
               queue_.end());
  if (holder_ != key) return std::nullopt;
  holder_.reset();
  if (queue_.empty()) return std::nullopt;
  holder_ = queue_.front().key;
  queue_.pop_front();
  return holder_;
}

std::vector<SlotKey> CreationSlot::expired(TimePoint now) {
  std::vector<SlotKey> out;
  for (auto it = queue_.begin(); it != queue_.end();) {
    if (it->until > now) {
      ++it;
      continue;
    }
    out.push_back(it->key);
    it = queue_.erase(it);
  }
  return out;
}

std::optional<TimePoint> CreationSlot::next_deadline() const {
  std::optional<TimePoint> next;
  for (const auto& one : queue_) next = next ? std::min(*next, one.until) : one.until;
  return next;
}

}  // namespace umbra::coord
