// SPDX-License-Identifier: Apache-2.0
//
// What a name stands for that front ends export: a live volume or a copy.
#include "provider/contract/system_provider_state.h"

namespace umbra::contract {

std::optional<SystemProvider::Subject> SystemProvider::subject_of(const std::string& name) const {
  const auto id = SnapshotId::parse(name);
  const std::lock_guard lock(mutex_);
  for (const auto& [volume, entry] : entries_) {
    if (entry->volume == nullptr) continue;
    Subject subject{entry->volume, entry->description.name, entry->description.origin_path, {}};
    if (entry->description.name == name) return subject;
    if (id) subject.copy = entry->volume->find(*id);
    if (subject.copy) return subject;
  }
  return std::nullopt;
}

}  // namespace umbra::contract
