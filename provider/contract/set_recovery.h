// SPDX-License-Identifier: Apache-2.0
//
// What becomes of a set that a crash left half made: whole or gone, never half. Pure.
//
// A set goes through three durable steps, each on all of its volumes before the next begins:
// post_commit (the copy and the set's member list), confirm (created). So:
//   - a copy that is created proves that every member is post-committed: the others roll forward;
//   - a copy without a member list proves that none is created: all go;
//   - member lists everywhere and nobody created: all go, once all members were seen. A member that
//     was not seen may lie, created, on a volume that is not attached yet: the others wait. They
//     wait until all configured volumes are attached; a member that is missing then has not lived.
// Members that other providers keep cannot be seen here: their sets wait until umbrad has asked all
// providers (engine/coordinator/settlement.h). So a member list says whether there are any.

#pragma once

#include <cstdint>
#include <vector>

#include "provider/cow/volume.h"
#include "umbra/ids.h"

namespace umbra::contract {

/// The members of a set as one of them stores them.
struct MemberList {
  std::vector<SnapshotId> ids;  // All, over every provider.
  bool foreign = false;         // Some are kept by other providers.
};

/// The list that `self` stores: at most as many entries as `all`. A set of ours alone is stored as
/// it is. Where others take part, `self` gives its place to a nil entry.
[[nodiscard]] std::vector<SnapshotId> encode_members(const SnapshotId& self,
                                                     const std::vector<SnapshotId>& all,
                                                     bool foreign);
[[nodiscard]] MemberList decode_members(const SnapshotId& self,
                                        const std::vector<SnapshotId>& stored);

struct RecoveryAction {
  enum class Kind : std::uint8_t { confirm, remove };
  Kind kind = Kind::remove;
  SnapshotId snapshot;
  friend bool operator==(const RecoveryAction&, const RecoveryAction&) = default;
};

/// What to do about the copies that are not created. `copies` are those of all attached volumes,
/// without those of a set that is being made. Sets that wait get no action.
[[nodiscard]] std::vector<RecoveryAction> decide_recovery(
    const std::vector<cow::SnapshotRecord>& copies, bool all_volumes_attached);

}  // namespace umbra::contract
