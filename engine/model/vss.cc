// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "umbra/vss.h"

namespace umbra {

std::string_view vss_name(WriterState state) noexcept {
  switch (state) {
    case WriterState::unknown: return "VSS_WS_UNKNOWN";
    case WriterState::stable: return "VSS_WS_STABLE";
    case WriterState::waiting_for_freeze: return "VSS_WS_WAITING_FOR_FREEZE";
    case WriterState::waiting_for_thaw: return "VSS_WS_WAITING_FOR_THAW";
    case WriterState::waiting_for_post_snapshot: return "VSS_WS_WAITING_FOR_POST_SNAPSHOT";
    case WriterState::waiting_for_backup_complete: return "VSS_WS_WAITING_FOR_BACKUP_COMPLETE";
    case WriterState::failed_at_identify: return "VSS_WS_FAILED_AT_IDENTIFY";
    case WriterState::failed_at_prepare_backup: return "VSS_WS_FAILED_AT_PREPARE_BACKUP";
    case WriterState::failed_at_prepare_snapshot: return "VSS_WS_FAILED_AT_PREPARE_SNAPSHOT";
    case WriterState::failed_at_freeze: return "VSS_WS_FAILED_AT_FREEZE";
    case WriterState::failed_at_thaw: return "VSS_WS_FAILED_AT_THAW";
    case WriterState::failed_at_post_snapshot: return "VSS_WS_FAILED_AT_POST_SNAPSHOT";
    case WriterState::failed_at_backup_complete: return "VSS_WS_FAILED_AT_BACKUP_COMPLETE";
    case WriterState::failed_at_pre_restore: return "VSS_WS_FAILED_AT_PRE_RESTORE";
    case WriterState::failed_at_post_restore: return "VSS_WS_FAILED_AT_POST_RESTORE";
    case WriterState::failed_at_backup_shutdown: return "VSS_WS_FAILED_AT_BACKUPSHUTDOWN";
  }
  return "unknown";
}

std::string_view vss_name(SnapshotState state) noexcept {
  switch (state) {
    case SnapshotState::unknown: return "VSS_SS_UNKNOWN";
    case SnapshotState::preparing: return "VSS_SS_PREPARING";
    case SnapshotState::processing_prepare: return "VSS_SS_PROCESSING_PREPARE";
    case SnapshotState::prepared: return "VSS_SS_PREPARED";
    case SnapshotState::processing_precommit: return "VSS_SS_PROCESSING_PRECOMMIT";
    case SnapshotState::precommitted: return "VSS_SS_PRECOMMITTED";
    case SnapshotState::processing_commit: return "VSS_SS_PROCESSING_COMMIT";
    case SnapshotState::committed: return "VSS_SS_COMMITTED";
    case SnapshotState::processing_postcommit: return "VSS_SS_PROCESSING_POSTCOMMIT";
    case SnapshotState::processing_prefinalcommit: return "VSS_SS_PROCESSING_PREFINALCOMMIT";
    case SnapshotState::prefinalcommitted: return "VSS_SS_PREFINALCOMMITTED";
    case SnapshotState::processing_postfinalcommit: return "VSS_SS_PROCESSING_POSTFINALCOMMIT";
    case SnapshotState::created: return "VSS_SS_CREATED";
    case SnapshotState::aborted: return "VSS_SS_ABORTED";
    case SnapshotState::deleted: return "VSS_SS_DELETED";
    case SnapshotState::postcommitted: return "VSS_SS_POSTCOMMITTED";
  }
  return "unknown";
}

std::string_view vss_name(ApplicationLevel level) noexcept {
  switch (level) {
    case ApplicationLevel::unknown: return "VSS_APP_UNKNOWN";
    case ApplicationLevel::system: return "VSS_APP_SYSTEM";
    case ApplicationLevel::back_end: return "VSS_APP_BACK_END";
    case ApplicationLevel::front_end: return "VSS_APP_FRONT_END";
    case ApplicationLevel::system_rm: return "VSS_APP_SYSTEM_RM";
  }
  return "unknown";
}

std::string_view vss_name(ProviderType type) noexcept {
  switch (type) {
    case ProviderType::unknown: return "VSS_PROV_UNKNOWN";
    case ProviderType::system: return "VSS_PROV_SYSTEM";
    case ProviderType::software: return "VSS_PROV_SOFTWARE";
    case ProviderType::hardware: return "VSS_PROV_HARDWARE";
    case ProviderType::file_share: return "VSS_PROV_FILESHARE";
  }
  return "unknown";
}

std::string_view vss_name(BackupType type) noexcept {
  switch (type) {
    case BackupType::undefined: return "VSS_BT_UNDEFINED";
    case BackupType::full: return "VSS_BT_FULL";
    case BackupType::incremental: return "VSS_BT_INCREMENTAL";
    case BackupType::differential: return "VSS_BT_DIFFERENTIAL";
    case BackupType::log: return "VSS_BT_LOG";
    case BackupType::copy: return "VSS_BT_COPY";
    case BackupType::other: return "VSS_BT_OTHER";
  }
  return "unknown";
}

std::string_view vss_name(ProtectionLevel level) noexcept {
  switch (level) {
    case ProtectionLevel::original_volume: return "VSS_PROTECTION_LEVEL_ORIGINAL_VOLUME";
    case ProtectionLevel::snapshot: return "VSS_PROTECTION_LEVEL_SNAPSHOT";
  }
  return "unknown";
}

std::string_view vss_name(ProtectionFault fault) noexcept {
  switch (fault) {
    case ProtectionFault::none: return "VSS_PROTECTION_FAULT_NONE";
    case ProtectionFault::diff_area_missing: return "VSS_PROTECTION_FAULT_DIFF_AREA_MISSING";
    case ProtectionFault::io_failure_during_online:
      return "VSS_PROTECTION_FAULT_IO_FAILURE_DURING_ONLINE";
    case ProtectionFault::meta_data_corruption: return "VSS_PROTECTION_FAULT_META_DATA_CORRUPTION";
    case ProtectionFault::memory_allocation_failure:
      return "VSS_PROTECTION_FAULT_MEMORY_ALLOCATION_FAILURE";
    case ProtectionFault::mapped_memory_failure:
      return "VSS_PROTECTION_FAULT_MAPPED_MEMORY_FAILURE";
    case ProtectionFault::cow_read_failure: return "VSS_PROTECTION_FAULT_COW_READ_FAILURE";
    case ProtectionFault::cow_write_failure: return "VSS_PROTECTION_FAULT_COW_WRITE_FAILURE";
    case ProtectionFault::diff_area_full: return "VSS_PROTECTION_FAULT_DIFF_AREA_FULL";
    case ProtectionFault::grow_too_slow: return "VSS_PROTECTION_FAULT_GROW_TOO_SLOW";
    case ProtectionFault::grow_failed: return "VSS_PROTECTION_FAULT_GROW_FAILED";
    case ProtectionFault::destroy_all_snapshots:
      return "VSS_PROTECTION_FAULT_DESTROY_ALL_SNAPSHOTS";
    case ProtectionFault::file_system_failure: return "VSS_PROTECTION_FAULT_FILE_SYSTEM_FAILURE";
    case ProtectionFault::io_failure: return "VSS_PROTECTION_FAULT_IO_FAILURE";
    case ProtectionFault::diff_area_removed: return "VSS_PROTECTION_FAULT_DIFF_AREA_REMOVED";
    case ProtectionFault::external_writer_to_diff_area:
      return "VSS_PROTECTION_FAULT_EXTERNAL_WRITER_TO_DIFF_AREA";
    case ProtectionFault::mount_during_cluster_offline:
      return "VSS_PROTECTION_FAULT_MOUNT_DURING_CLUSTER_OFFLINE";
  }
  return "unknown";
}

std::string_view context_name(std::uint32_t context) noexcept {
  switch (context) {
    case context::kBackup: return "VSS_CTX_BACKUP";
    case context::kFileShareBackup: return "VSS_CTX_FILE_SHARE_BACKUP";
    case context::kNasRollback: return "VSS_CTX_NAS_ROLLBACK";
    case context::kAppRollback: return "VSS_CTX_APP_ROLLBACK";
    case context::kClientAccessible: return "VSS_CTX_CLIENT_ACCESSIBLE";
    case context::kClientAccessibleWriters: return "VSS_CTX_CLIENT_ACCESSIBLE_WRITERS";
    case context::kAll: return "VSS_CTX_ALL";
    default: return "unknown";
  }
}

std::string_view display_name(WriterState state) noexcept {
  switch (state) {
    case WriterState::unknown: return "Unknown";
    case WriterState::stable: return "Stable";
    case WriterState::waiting_for_freeze: return "Waiting for freeze";
    case WriterState::waiting_for_thaw: return "Frozen";
    case WriterState::waiting_for_post_snapshot: return "Waiting for post-snapshot";
    case WriterState::waiting_for_backup_complete: return "Waiting for completion";
    default: return "Failed";
  }
}

}  // namespace umbra
