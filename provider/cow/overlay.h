// SPDX-License-Identifier: Apache-2.0
//
// What was written to a snapshot in its recovery window: chunk -> home, found before everything
// else and by this snapshot only. Empty for almost every snapshot, which then has none.
//
// Threads: any. Its lock is a leaf.

#pragma once

#include <mutex>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "provider/cow/home.h"
#include "provider/cow/sync.h"

namespace umbra::cow {

class Overlay {
 public:
  [[nodiscard]] std::optional<Home> find(std::uint64_t chunk) const {
    const std::lock_guard lock(mutex_);
    const auto it = homes_.find(chunk);
    return it != homes_.end() ? std::optional(it->second) : std::nullopt;
  }
  /// Returns the home that it takes the place of.
  std::optional<Home> set(std::uint64_t chunk, Home home) {
    const std::lock_guard lock(mutex_);
    const auto [it, fresh] = homes_.try_emplace(chunk, home);
    if (fresh) return std::nullopt;
    return std::exchange(it->second, home);
  }
  /// Calls `visit(chunk, home)` for all of it, with its lock held.
  template <class Visit>
  void for_each(const Visit& visit) const {
    const std::lock_guard lock(mutex_);
    for (const auto& [chunk, home] : homes_) visit(chunk, home);
  }

 private:
  mutable sync::Mutex mutex_;
  std::unordered_map<std::uint64_t, Home> homes_;
};

}  // namespace umbra::cow
