// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// The one seeded generator (SplitMix64): the same numbers on every platform, so a printed seed
// replays a run. Not for secrets.

#pragma once

#include <cstdint>

#include "engine/platform/assert.h"

namespace umbra {

class Prng {
 public:
  using result_type = std::uint64_t;

  explicit Prng(std::uint64_t seed) noexcept : state_(seed) {}

  std::uint64_t next() noexcept {
    std::uint64_t z = (state_ += 0x9E3779B97F4A7C15U);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
    return z ^ (z >> 31);
  }
  /// Uniform enough in [0, bound); bound > 0.
  std::uint64_t below(std::uint64_t bound) noexcept {
    UMBRA_ASSERT(bound > 0);
    return next() % bound;
  }
  /// True in `numerator` of `denominator` cases.
  bool chance(std::uint64_t numerator, std::uint64_t denominator) noexcept {
    return below(denominator) < numerator;
  }

  // So that std::shuffle takes it.
  std::uint64_t operator()() noexcept { return next(); }
  static constexpr std::uint64_t min() { return 0; }
  static constexpr std::uint64_t max() { return ~std::uint64_t{0}; }

 private:
  std::uint64_t state_;
};

}  // namespace umbra
