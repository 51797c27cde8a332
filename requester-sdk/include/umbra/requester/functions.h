// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// What VSS offers beside its session object. Each connects by itself and is over when it returns.
//
// Errors that every function may give besides those it names: those of Client::connect().

#pragma once

#include <cstdint>
#include <string>

#include "umbra/requester/export.h"
#include "umbra/requester/types.h"
#include "umbra/result.h"

namespace umbra::requester {

struct VolumeSnapshotted {
  bool present = false;             ///< There are created copies of the volume.
  std::uint32_t compatibility = 0;  ///< snapshot_compatibility: what should not run meanwhile.
};
/// IsVolumeSnapshotted. While there are copies defragmentation is advised against
/// (snapshot_compatibility::kDisableDefrag): each block that it moves is kept for the copies, and
/// fills the diff area. Errors: object_not_found (no such volume; names providers that are away).
[[nodiscard]] UMBRA_REQUESTER_EXPORT Result<VolumeSnapshotted> is_volume_snapshotted(
    const VolumeRef& volume, const ConnectOptions& options = {});

/// ShouldBlockRevert: whether a writer of a class that umbrad's configuration names under
/// `[revert] writers_blocking` has files on the volume. Ask before revert_to_snapshot(), which does
/// not. Asks those writers for their components, which may take BackupSession::kGatherLimit. True
/// also where it cannot be found out: a writer of the list runs and has files, and the volume is
/// not served as a block device, or a path of the writer says nothing here. Errors:
/// object_not_found (no such volume).
[[nodiscard]] UMBRA_REQUESTER_EXPORT Result<bool> should_block_revert(
    const VolumeRef& volume, const ConnectOptions& options = {});

struct RootAndPrefix {
  std::string root_path{};       ///< Where its volume is mounted, with a slash at the end.
  std::string logical_prefix{};  ///< The volume's id as text: another name for it.
};
/// GetRootAndLogicalPrefixPaths: both name, for resolve_volume(), the volume that the file lies on.
/// Errors: invalid_argument (not absolute); object_not_found (no such file, or no attached volume
/// holds it).
[[nodiscard]] UMBRA_REQUESTER_EXPORT Result<RootAndPrefix> get_root_and_logical_prefix_paths(
    const std::string& file_path, const ConnectOptions& options = {});

}  // namespace umbra::requester
