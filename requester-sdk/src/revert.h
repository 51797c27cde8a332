// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// Reverts, as both a session and Management offer them.

#pragma once

#include <vector>

#include "requester-sdk/src/link.h"
#include "umbra/diff_area_management.h"

namespace umbra::requester {

/// Returns once it has started, or why it has not. Errors:
/// DiffAreaManagement::revert_to_snapshot's.
[[nodiscard]] Result<OperationId> start_revert(Link& link, const ProviderId& provider,
                                               const SnapshotId& snapshot, bool force_dismount);
[[nodiscard]] Result<std::vector<RevertInfo>> reverts(Link& link, const ProviderId& provider,
                                                      const VolumeRef& volume);

}  // namespace umbra::requester
