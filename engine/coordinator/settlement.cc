// SPDX-License-Identifier: Apache-2.0

#include "engine/coordinator/settlement.h"

#include <algorithm>

namespace umbra::coord {

Settlement decide_settlement(const std::vector<SetFate>& fates, bool everybody) {
  const auto any = [&](SetFate fate) {
    return std::find(fates.begin(), fates.end(), fate) != fates.end();
  };
  if (any(SetFate::created)) return Settlement::complete;
  if (!everybody || any(SetFate::undecided)) return Settlement::wait;
  return Settlement::discard;
}

}  // namespace umbra::coord
