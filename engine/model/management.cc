// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// What a provider that offers management need not offer.

#include "umbra/diff_area_management.h"

namespace umbra {
namespace {

tl::unexpected<Error> not_offered(const char* call) {
  return fail(Errc::not_implemented, std::string(call) + " is not offered by this provider");
}

}  // namespace

Status DiffAreaManagement::migrate_diff_areas(const DiffAreaRef&, const std::string&,
                                              OperationMonitor&) {
  return not_offered("migrate_diff_areas");
}
Status DiffAreaManagement::move_diff_area(const DiffAreaMove& move, OperationMonitor& monitor) {
  if (move.bytes_per_second != 0) return not_offered("move_diff_area with a rate limit");
  return migrate_diff_areas(move.area, move.new_diff_volume, monitor);
}
Status DiffAreaManagement::set_snapshot_priority(const SnapshotId&, std::uint8_t) {
  return not_offered("set_snapshot_priority");
}
Status DiffAreaManagement::set_volume_protect_level(const VolumeRef&, ProtectionLevel) {
  return not_offered("set_volume_protect_level");
}
Result<VolumeProtectionInfo> DiffAreaManagement::get_volume_protect_level(const VolumeRef&) {
  return not_offered("get_volume_protect_level");
}
Status DiffAreaManagement::clear_volume_protect_fault(const VolumeRef&, OperationMonitor&) {
  return not_offered("clear_volume_protect_fault");
}
Status DiffAreaManagement::delete_unused_diff_areas(const std::string&, OperationMonitor&) {
  return not_offered("delete_unused_diff_areas");
}
Result<SnapshotDelta> DiffAreaManagement::query_snapshot_delta_bitmap(const SnapshotId&,
                                                                      const SnapshotId&,
                                                                      std::uint64_t) {
  return not_offered("query_snapshot_delta_bitmap");
}
Status DiffAreaManagement::retain_snapshot(const SnapshotId&, std::int64_t) {
  return not_offered("retain_snapshot");
}
Status DiffAreaManagement::scrub_diff_area(const VolumeRef&, std::uint64_t, OperationMonitor&) {
  return not_offered("scrub_diff_area");
}
Status DiffAreaManagement::revert_to_snapshot(const SnapshotId&, bool, OperationMonitor&) {
  return not_offered("revert_to_snapshot");
}
Result<std::vector<RevertInfo>> DiffAreaManagement::query_revert_status(const VolumeRef&) {
  return not_offered("query_revert_status");
}
Status DiffAreaManagement::abandon_revert(const VolumeRef&) {
  return not_offered("abandon_revert");
}
Result<CheckpointProperties> DiffAreaManagement::create_checkpoint(const SnapshotId&,
                                                                   const std::string&) {
  return not_offered("create_checkpoint");
}
Result<std::vector<CheckpointProperties>> DiffAreaManagement::query_checkpoints(const VolumeRef&) {
  return not_offered("query_checkpoints");
}
Status DiffAreaManagement::delete_checkpoint(const CheckpointId&) {
  return not_offered("delete_checkpoint");
}
Result<SnapshotDelta> DiffAreaManagement::query_changes(const Guid&, const SnapshotId&,
                                                        std::uint64_t) {
  return not_offered("query_changes");
}

}  // namespace umbra
