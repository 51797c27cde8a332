// SPDX-License-Identifier: Apache-2.0
//
// How long a call may wait. Everything here that talks to a server takes one.

#pragma once

#include <algorithm>
#include <chrono>
#include <functional>
#include <utility>

namespace umbra::postgresql {

struct Limit {
  std::chrono::steady_clock::time_point until{};
  std::function<bool()> should_stop{};  ///< Empty, or true once waiting has become pointless.

  [[nodiscard]] static Limit in(std::chrono::milliseconds time,
                                std::function<bool()> should_stop = {}) {
    return {std::chrono::steady_clock::now() + time, std::move(should_stop)};
  }
  [[nodiscard]] Limit cut_to(std::chrono::milliseconds time) const {
    return {std::min(until, std::chrono::steady_clock::now() + time), should_stop};
  }
  /// Never negative.
  [[nodiscard]] std::chrono::milliseconds left() const {
    const auto time = until - std::chrono::steady_clock::now();
    return std::max(std::chrono::duration_cast<std::chrono::milliseconds>(time),
                    std::chrono::milliseconds(0));
  }
  [[nodiscard]] bool is_over() const {
    return left().count() == 0 || (should_stop && should_stop());
  }
};

}  // namespace umbra::postgresql
