// SPDX-License-Identifier: Apache-2.0
#include "bench/scenarios/scenarios.h"

namespace umbra::bench {

const std::vector<Scenario>& scenarios() {
  static const std::vector<Scenario> all = [] {
    std::vector<Scenario> row;
    for (auto group :
         {first_write_scenarios(), rival_scenarios(), steady_scenarios(), set_scenarios(),
          copy_scenarios(), growth_scenarios(), memory_scenarios(), recovery_scenarios()}) {
      row.insert(row.end(), group.begin(), group.end());
    }
    return row;
  }();
  return all;
}

}  // namespace umbra::bench
