// SPDX-License-Identifier: Apache-2.0
//
// The keys, in groups; registry.cc puts them in a row.
#pragma once

#include <vector>

#include "bench/harness/scenario.h"

namespace umbra::bench {

[[nodiscard]] std::vector<Scenario> first_write_scenarios();
[[nodiscard]] std::vector<Scenario> rival_scenarios();
[[nodiscard]] std::vector<Scenario> steady_scenarios();
[[nodiscard]] std::vector<Scenario> set_scenarios();
[[nodiscard]] std::vector<Scenario> copy_scenarios();
[[nodiscard]] std::vector<Scenario> growth_scenarios();
[[nodiscard]] std::vector<Scenario> memory_scenarios();
[[nodiscard]] std::vector<Scenario> recovery_scenarios();

}  // namespace umbra::bench
