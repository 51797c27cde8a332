// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// The newest ids of something that has ended: what arrives late for it is told apart from something
// new. Bounded; the oldest are forgotten.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>

#include "umbra/ids.h"

namespace umbra {

/// Threads: one at a time.
class RecentIds {
 public:
  static constexpr std::size_t kMax = 256;

  void add(const Guid& id) {
    if (has(id)) return;
    ids_.at(next_) = id;
    next_ = (next_ + 1) % kMax;
  }
  [[nodiscard]] bool has(const Guid& id) const {
    return !id.is_nil() && std::find(ids_.begin(), ids_.end(), id) != ids_.end();
  }

 private:
  std::array<Guid, kMax> ids_{};
  std::size_t next_ = 0;
};

}  // namespace umbra
