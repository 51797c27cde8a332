// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// Where new ids come from, for simulations: a seed must replay a run, and umbrad's order of things
// is in places the order of ids. Never used by a program.

#pragma once

#include "engine/platform/prng.h"

namespace umbra {

/// While it lives, Guid::random() of all threads takes from the generator. One at a time, and only
/// one thread at a time may make ids.
class SeededIds {
 public:
  explicit SeededIds(Prng& source) noexcept;
  ~SeededIds();
  SeededIds(const SeededIds&) = delete;
  SeededIds& operator=(const SeededIds&) = delete;
};

}  // namespace umbra
