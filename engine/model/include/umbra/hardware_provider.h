// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// What a provider offers whose copies are LUNs of a disk array: IVssHardwareSnapshotProvider and
// Ex. It hangs on umbra::Provider (Provider::hardware()); the set itself is made by the calls
// there, which a hardware provider serves like every other.
//
// Where VSS hands LUNs to the provider, here the provider names them: it finds its volumes itself
// (find_volume), and umbrad has no devices, being an unprivileged process in a mount namespace of
// its own. docs/design/0006-hardware-providers.md has the reasons, and what of VSS has no
// counterpart.
//
//   creation     is_volume_supported, ..., post_final_commit_snapshots
//                  -> get_target_luns (a transportable set only) -> confirm_set
//   import       locate_luns -> fill_in_lun_info, again and again until all have arrived or the
//                  limit has passed -> import_snapshots
//   break        break_snapshot_set
//   resync       query_volumes_on_luns -> fill_in_lun_info -> on_lun_state_change (pre-recovery)
//                  -> resync_luns -> on_lun_state_change (post-recovery)
//
// A copy of a set that is not transportable is brought in by the provider itself, before
// pre_final_commit_snapshots returns. When the last copy on a LUN is deleted the provider takes the
// LUN back: VSS's OnLunEmpty is part of delete_snapshots.
//
// Threads and results: as in umbra/provider.h, and what a call names itself.

#pragma once

#include <cstdint>
#include <vector>

#include "umbra/diff_area_management.h"
#include "umbra/ids.h"
#include "umbra/lun.h"
#include "umbra/provider.h"
#include "umbra/result.h"

namespace umbra {

struct LunSupport {
  bool supported = false;
  std::vector<LunInformation> luns{};  ///< That the volume lies on; also if it is not supported.
};

/// The LUNs of one copy: for each of the original's, in its order, that of the copy.
struct SnapshotLuns {
  SnapshotId snapshot_id{};
  std::vector<LunMapping> luns{};
};

/// Copies to be brought in together.
struct ImportedSet {
  SnapshotSetId set_id{};
  SessionId session_id{};  ///< Whose end releases them, unless they are kept.
  std::vector<TransportedSnapshot> snapshots{};
};

class HardwareProvider {
 public:
  virtual ~HardwareProvider() = default;

  /// AreLunsSupported: all LUNs of the volume, or none. False also for a passing lack of resources:
  /// never agree and fail later. Errors: object_not_found (not a volume of ours).
  [[nodiscard]] virtual Result<LunSupport> are_luns_supported(const VolumeRef& volume,
                                                              std::uint32_t attributes) = 0;

  /// GetTargetLuns, for every copy that this provider has in the set. What it says of a target is
  /// what fill_in_lun_info() will say where the LUN arrives, to the letter. Each target has a
  /// unique identifier. Errors: object_not_found.
  [[nodiscard]] virtual Result<std::vector<SnapshotLuns>> get_target_luns(
      const SnapshotSetId& set) = 0;

  /// LocateLuns: lets this machine see them. Does not wait for their devices. Those that it does
  /// not know are left out.
  [[nodiscard]] virtual Status locate_luns(const std::vector<LunInformation>& luns) = 0;

  /// FillInLunInfo, for every LUN of this provider's arrays that this machine sees now.
  [[nodiscard]] virtual Result<std::vector<LunInformation>> fill_in_lun_info() = 0;

  /// Makes the copies on LUNs that have arrived copies of this machine: read-only, in every query,
  /// with attribute::kImported and without kNotSurfaced. All of them or none. Errors:
  /// object_already_exists (one of them is here); object_not_found (a LUN is not); provider_veto
  /// (the session has ended).
  [[nodiscard]] virtual Status import_snapshots(const ImportedSet& request) = 0;

  /// BreakSnapshotSet: the copies of the set are volumes of their own from now on, for good, and in
  /// no query. `flags`: break_flag, and of lun_state what follows from them. All or none. Errors:
  /// object_not_found; provider_veto (one is not imported); break_revert_id_failed
  /// (kRevertIdentityAll, and an original LUN is visible here).
  [[nodiscard]] virtual Status break_snapshot_set(const SnapshotSetId& set,
                                                  std::uint32_t flags) = 0;

  /// OnLunStateChange: the LUNs are about to be written over, or have been (lun_state). The second
  /// comes also if resync_luns failed. Idempotent.
  [[nodiscard]] virtual Status on_lun_state_change(const std::vector<LunInformation>& luns,
                                                   std::uint32_t flags) = 0;

  /// ResyncLuns: each target LUN gets what the copy on its source LUN holds; a smaller one grows.
  /// `options`: recovery_option. Long: an operation, which may outlive umbrad. Errors:
  /// insufficient_storage; object_not_found; cannot_revert_diskid (recovery_option::
  /// kRevertIdentityAll, and the target cannot get the original's identity);
  /// async_cancelled.
  [[nodiscard]] virtual Status resync_luns(const std::vector<LunMapping>& luns,
                                           std::uint32_t options, OperationMonitor& monitor) = 0;

  /// The volumes that lie, in part at least, on one of these LUNs.
  [[nodiscard]] virtual Result<std::vector<VolumeId>> query_volumes_on_luns(
      const std::vector<LunInformation>& luns) = 0;
};

}  // namespace umbra
