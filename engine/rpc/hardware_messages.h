// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// Messages of umbra/hardware_provider.h: umbrad -> provider, hardware.*, one method per member of
// umbra::HardwareProvider. The structures of that header travel as they are, with its member names.
//
//   are_luns_supported     VolumeSupportRequest -> LunSupport
//   get_target_luns        SetRequest           -> SnapshotLunsList
//   locate_luns            LunList              -> {}
//   fill_in_lun_info       {}                   -> LunList
//   import_snapshots       ImportedSet          -> {}
//   break_snapshot_set     BreakLuns            -> {}
//   on_lun_state_change    LunStateChange       -> {}
//   resync_luns            ResyncLuns           -> StartedProviderOperation
//   query_volumes_on_luns  LunList              -> VolumeIdList
//
// resync_luns answers at once and goes on as an operation of the provider, watched by
// management.wait_operation (management_messages.h).

#pragma once

#include <cstdint>
#include <vector>

#include "umbra/hardware_provider.h"
#include "umbra/ids.h"
#include "umbra/lun.h"

namespace umbra::rpc {

struct SnapshotLunsList {
  std::vector<SnapshotLuns> snapshots;
};
struct LunList {
  std::vector<LunInformation> luns;
};
struct BreakLuns {
  SnapshotSetId set_id;
  std::uint32_t flags = 0;  // break_flag, lun_state.
};
struct LunStateChange {
  std::vector<LunInformation> luns;
  std::uint32_t flags = 0;  // lun_state.
};
struct ResyncLuns {
  std::vector<LunMapping> luns;
  std::uint32_t options = 0;  // recovery_option.
};
struct VolumeIdList {
  std::vector<VolumeId> volume_ids;
};

// clang-format off
#define UMBRA_RPC_HARDWARE_MESSAGES(X) \
  X(LunIdentifier) X(LunInformation) X(LunMapping) X(TransportedSnapshot) X(LunSupport) \
  X(SnapshotLuns) X(ImportedSet) X(SnapshotLunsList) X(LunList) X(BreakLuns) X(LunStateChange) \
  X(ResyncLuns) X(VolumeIdList)
// clang-format on

}  // namespace umbra::rpc
