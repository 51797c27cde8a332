// SPDX-License-Identifier: Apache-2.0

#include "engine/coordinator/settlement.h"

#include <algorithm>

namespace umbra::coord {

Settlement decide_settlement(const Findings& findings) {
  const auto any = [&](SetFate fate) {
    return std::find(findings.fates.begin(), findings.fates.end(), fate) != findings.fates.end();
  };
  if (any(SetFate::created)) return Settlement::complete;
  if (!findings.everybody || any(SetFate::undecided)) return Settlement::wait;
  if (!findings.all_members && !findings.knows_all) return Settlement::wait;
  return Settlement::discard;
}

}  // namespace umbra::coord
