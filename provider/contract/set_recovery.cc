// SPDX-License-Identifier: Apache-2.0

#include "provider/contract/set_recovery.h"

#include <algorithm>
#include <map>
#include <optional>

namespace umbra::contract {

namespace {

using Copies = std::vector<const cow::SnapshotRecord*>;

bool any(const Copies& copies, bool (*test)(const cow::SnapshotRecord&)) {
  return std::any_of(copies.begin(), copies.end(),
                     [test](const auto* copy) { return test(*copy); });
}

bool seen(const Copies& copies, const SnapshotId& id) {
  return std::any_of(copies.begin(), copies.end(),
                     [&](const auto* copy) { return copy->id == id; });
}

// Whether a member may be created where we cannot see it.
bool may_be_created_elsewhere(const Copies& copies, bool all_volumes_attached) {
  for (const auto* copy : copies) {
    const MemberList members = decode_members(copy->id, copy->members);
    if (members.foreign) return true;
    if (all_volumes_attached) continue;
    for (const auto& id : members.ids) {
      if (!seen(copies, id)) return true;
    }
  }
  return false;
}

std::optional<RecoveryAction::Kind> decide(const Copies& copies, bool all_volumes_attached) {
  if (any(copies, [](const auto& copy) { return copy.stage == cow::Stage::created; })) {
    return RecoveryAction::Kind::confirm;
  }
  if (any(copies, [](const auto& copy) { return copy.members.empty(); })) {
    return RecoveryAction::Kind::remove;
  }
  if (may_be_created_elsewhere(copies, all_volumes_attached)) return std::nullopt;
  return RecoveryAction::Kind::remove;
}

}  // namespace

std::vector<SnapshotId> encode_members(const SnapshotId& self, const std::vector<SnapshotId>& all,
                                       bool foreign) {
  std::vector<SnapshotId> stored = all;
  if (foreign) std::replace(stored.begin(), stored.end(), self, SnapshotId{});
  return stored;
}

MemberList decode_members(const SnapshotId& self, const std::vector<SnapshotId>& stored) {
  MemberList list{stored, false};
  for (auto& id : list.ids) {
    if (!id.is_nil()) continue;
    id = self;
    list.foreign = true;
  }
  return list;
}

std::vector<RecoveryAction> decide_recovery(const std::vector<cow::SnapshotRecord>& copies,
                                            bool all_volumes_attached) {
  std::map<SnapshotSetId, Copies> sets;
  for (const auto& copy : copies) sets[copy.set_id].push_back(&copy);
  std::vector<RecoveryAction> actions;
  for (const auto& [set, members] : sets) {
    const auto kind = decide(members, all_volumes_attached);
    if (!kind) continue;
    for (const auto* copy : members) {
      if (copy->stage != cow::Stage::created) actions.push_back({*kind, copy->id});
    }
  }
  return actions;
}

}  // namespace umbra::contract
