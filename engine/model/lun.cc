// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "umbra/lun.h"

#include <algorithm>

namespace umbra {

bool is_unique(LunIdentifierType type) noexcept {
  switch (type) {
    case LunIdentifierType::t10:
    case LunIdentifierType::eui64:
    case LunIdentifierType::naa:
    case LunIdentifierType::scsi_name:
    case LunIdentifierType::uuid: return true;
    default: return false;
  }
}

bool has_unique_identifier(const LunInformation& lun) noexcept {
  return std::any_of(lun.identifiers.begin(), lun.identifiers.end(),
                     [](const auto& one) { return is_unique(one.type) && !one.value.empty(); });
}

bool is_same_lun(const LunInformation& one, const LunInformation& other) noexcept {
  for (const auto& a : one.identifiers) {
    if (!is_unique(a.type) || a.value.empty()) continue;
    for (const auto& b : other.identifiers)
      if (a.type == b.type && a.value == b.value) return true;
  }
  return false;
}

bool is_same_description(const LunInformation& one, const LunInformation& other) {
  if (!is_same_lun(one, other) || one.identifiers.size() != other.identifiers.size()) return false;
  const bool all =
      std::all_of(one.identifiers.begin(), one.identifiers.end(), [&](const LunIdentifier& wanted) {
        return std::any_of(other.identifiers.begin(), other.identifiers.end(),
                           [&](const LunIdentifier& found) {
                             return wanted.type == found.type && wanted.value == found.value;
                           });
      });
  return all && one.vendor == other.vendor && one.product == other.product &&
         one.revision == other.revision && one.serial == other.serial &&
         one.size_bytes == other.size_bytes;
}

}  // namespace umbra
