// SPDX-License-Identifier: Apache-2.0
//
// The seed of a test run: --seed, else UMBRA_SEED, else fresh from the system. Random tests take
// seed() and derive their own streams from it; a failing run prints how to replay it.
#pragma once

#include <cstdint>

namespace umbra::test {

/// 0 means: UMBRA_SEED, or a fresh one.
void set_seed(std::uint64_t seed);
[[nodiscard]] std::uint64_t seed();
/// Long forms of tests run when script/test was called with --long (UMBRA_LONG=1).
[[nodiscard]] bool long_run();
void print_replay(const char* program);

}  // namespace umbra::test
