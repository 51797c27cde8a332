// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// Reverts, as both a session and Management offer them.

#pragma once

#include <chrono>
#include <vector>

#include "requester-sdk/src/link.h"
#include "umbra/diff_area_management.h"
#include "umbra/requester/async.h"

namespace umbra::requester {

/// Returns once it has started, or why it has not. Errors:
/// DiffAreaManagement::revert_to_snapshot's.
[[nodiscard]] Result<OperationId> start_revert(Link& link, const ProviderId& provider,
                                               const SnapshotId& snapshot, bool force_dismount);
[[nodiscard]] Result<std::vector<RevertInfo>> reverts(Link& link, const ProviderId& provider,
                                                      const VolumeRef& volume);

/// How the revert of the volume with this id stands, looking for at most `slice` unless it ends: it
/// runs, has finished, has stopped (io_error, why), or was lost with its volume
/// (revert_volume_lost). Errors: what could not be learnt, e.g. provider_not_registered.
[[nodiscard]] Result<AsyncStatus> look_at_revert(Link& link, const VolumeId& volume,
                                                 std::chrono::milliseconds slice);

}  // namespace umbra::requester
