// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// Messages of umbra/diff_area_management.h. The structures of that header travel as they are, with
// its member names. A requester calls management.* at umbrad, which passes it on to the provider
// that `provider_id` names (nil: the system provider); what changes anything needs the role admin.
//
// Long calls answer StartedProviderOperation at once and go on as operations of the provider:
// management.operations, management.wait_operation, management.cancel_operation. They outlive the
// connection that began them.

#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "umbra/diff_area_management.h"
#include "umbra/ids.h"
#include "umbra/provider.h"
#include "umbra/provider_events.h"

namespace umbra::rpc {

// query_volumes_supported_for_snapshots {context}, get_min_diff_area_size, operations
struct ManagementQuery {
  ProviderId provider_id;
  std::uint32_t context = 0;
};
// query_snapshots_by_volume, query_volumes_supported_for_diff_areas, query_diff_areas_for_volume,
// get_volume_protect_level, clear_volume_protect_fault (long), query_revert_status,
// abandon_revert, query_checkpoints
struct ManagementVolume {
  ProviderId provider_id;
  VolumeRef volume;
};
// query_migration_status -> OperationInfo: of the last move of its diff area that is known
// query_diff_areas_on_volume, delete_unused_diff_areas (long)
struct ManagementDiffVolume {
  ProviderId provider_id;
  std::string diff_volume;
};
// query_diff_areas_for_snapshot, set_snapshot_priority {priority},
// retain_snapshot {until_filetime}
struct ManagementSnapshot {
  ProviderId provider_id;
  SnapshotId snapshot_id;
  std::uint8_t priority = 0;
  std::int64_t until_filetime = 0;
};
// add_diff_area {maximum_bytes}, change_diff_area_maximum_size {maximum_bytes, is_volatile} (long),
// migrate_diff_areas {new_diff_volume, bytes_per_second} (long)
struct ManagementDiffArea {
  ProviderId provider_id;
  VolumeRef volume;
  std::string diff_volume;
  std::int64_t maximum_bytes = kAssocNoMaxSpace;
  bool is_volatile = false;
  std::string new_diff_volume;
  std::uint64_t bytes_per_second = 0;  // migrate_diff_areas: at most; 0: as fast as it goes.
};
struct SetProtectLevel {  // set_volume_protect_level
  ProviderId provider_id;
  VolumeRef volume;
  ProtectionLevel level = ProtectionLevel::original_volume;
};
struct QueryDelta {  // query_snapshot_delta_bitmap -> SnapshotDelta
  ProviderId provider_id;
  SnapshotId older;
  SnapshotId younger;
  std::uint64_t first_block = 0;
};
struct ScrubDiffArea {  // scrub_diff_area (long)
  ProviderId provider_id;
  VolumeRef volume;
  std::uint64_t bytes_per_second = 0;  // 0: no bound.
};
struct RevertToSnapshot {  // revert_to_snapshot (long)
  ProviderId provider_id;
  SnapshotId snapshot_id;
  bool force_dismount = false;
};
struct CreateCheckpoint {  // create_checkpoint -> CheckpointProperties
  ProviderId provider_id;
  SnapshotId snapshot_id;
  std::string name;
};
struct DeleteCheckpoint {  // delete_checkpoint
  ProviderId provider_id;
  CheckpointId checkpoint_id;
};
struct QueryChanges {  // query_changes -> SnapshotDelta
  ProviderId provider_id;
  Guid since;        // A checkpoint or a copy.
  SnapshotId until;  // Nil: to now.
  std::uint64_t first_block = 0;
};
struct ProviderOperation {  // wait_operation, cancel_operation -> OperationInfo
  ProviderId provider_id;
  OperationId operation_id;
  std::uint32_t time_limit_ms = 0;  // wait_operation: at most 60000; 0: its state now.
};

// query.events -> EventList: of umbrad's log, which has the last events of all providers. Replies
// at once if there are any above `after`, else when one comes or the limit has passed. `after`
// beyond the last number counts as the last: 2^64-1 asks where the log ends.
struct QueryEvents {
  std::uint64_t after = 0;
  std::uint32_t count = 256;        // At most this many.
  std::uint32_t time_limit_ms = 0;  // At most 60000.
};
struct EventList {
  std::vector<ProviderEvent> events;
  std::uint64_t next = 0;  // `after` of the next call.
  std::uint64_t lost = 0;  // Events before these that came and went since `after`.
};

struct SupportedVolumeList {
  std::vector<SupportedVolume> volumes;
};
struct DiffVolumeList {
  std::vector<DiffVolumeProperties> diff_volumes;
};
struct DiffAreaList {
  std::vector<DiffAreaProperties> diff_areas;
};
struct MinDiffAreaSize {
  std::uint64_t minimum_bytes = 0;
};
struct RevertList {
  std::vector<RevertInfo> reverts;
};
struct CheckpointList {
  std::vector<CheckpointProperties> checkpoints;
};
struct StartedProviderOperation {
  OperationId operation_id;
};
struct OperationList {  // operations ->
  std::vector<OperationInfo> operations;
};

// clang-format off
#define UMBRA_RPC_MANAGEMENT_MESSAGES(X) \
  X(ManagementQuery) X(ManagementVolume) X(ManagementDiffVolume) X(ManagementSnapshot) \
  X(ManagementDiffArea) X(SetProtectLevel) X(QueryDelta) X(ProviderOperation) X(SupportedVolume) \
  X(DiffVolumeProperties) X(DiffAreaProperties) X(VolumeProtectionInfo) X(SnapshotDelta) \
  X(OperationInfo) X(SupportedVolumeList) X(DiffVolumeList) X(DiffAreaList) X(MinDiffAreaSize) \
  X(StartedProviderOperation) X(OperationList) X(ProviderEvent) X(QueryEvents) X(EventList) \
  X(RevertToSnapshot) X(RevertInfo) X(RevertList) X(CreateCheckpoint) X(DeleteCheckpoint) \
  X(QueryChanges) X(CheckpointProperties) X(CheckpointList) X(ScrubDiffArea)
// clang-format on

}  // namespace umbra::rpc
