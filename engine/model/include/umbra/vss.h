// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// VSS's enumerations, with VSS's numbers. Names follow ours (snake_case, without the VSS_ prefix);
// vss_name() gives VSS's spelling. Numbers are on the wire: they never change.

#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace umbra {

/// VSS_WRITER_STATE. State of one writer in one session.
enum class WriterState : std::uint8_t {
  unknown = 0,
  stable = 1,
  waiting_for_freeze = 2,
  waiting_for_thaw = 3,
  waiting_for_post_snapshot = 4,
  waiting_for_backup_complete = 5,
  failed_at_identify = 6,
  failed_at_prepare_backup = 7,
  failed_at_prepare_snapshot = 8,
  failed_at_freeze = 9,
  failed_at_thaw = 10,
  failed_at_post_snapshot = 11,
  failed_at_backup_complete = 12,
  failed_at_pre_restore = 13,
  failed_at_post_restore = 14,
  failed_at_backup_shutdown = 15,
};
[[nodiscard]] constexpr bool is_failed(WriterState state) noexcept {
  return state >= WriterState::failed_at_identify;
}

/// VSS_APPLICATION_LEVEL. Freeze goes front_end, back_end, system, system_rm; Thaw the other way
/// round. VSS_APP_AUTO (-1) is reserved and has no counterpart.
enum class ApplicationLevel : std::uint8_t {
  unknown = 0,
  system = 1,
  back_end = 2,
  front_end = 3,
  system_rm = 4,
};

/// VSS_SUBSCRIBE_MASK, a bit mask: which events a writer is told of. Identify comes in any case.
namespace subscribe {
inline constexpr std::uint32_t kBackupEvents = 0x2;
inline constexpr std::uint32_t kRestoreEvents = 0x4;
/// The bits that VSS supports, and the default. POST_SNAPSHOT and IO_THROTTLING are reserved.
inline constexpr std::uint32_t kAll = kBackupEvents | kRestoreEvents;
}  // namespace subscribe

/// VSS_USAGE_TYPE.
enum class UsageType : std::uint8_t {
  undefined = 0,
  bootable_system_state = 1,
  system_service = 2,
  user_data = 3,
  other = 4,
};

/// VSS_SOURCE_TYPE.
enum class SourceType : std::uint8_t {
  undefined = 0,
  transacted_db = 1,
  nontransacted_db = 2,
  other = 3,
};

/// VSS_COMPONENT_TYPE.
enum class ComponentType : std::uint8_t { undefined = 0, database = 1, file_group = 2 };

/// VSS_BACKUP_TYPE.
enum class BackupType : std::uint8_t {
  undefined = 0,
  full = 1,
  incremental = 2,
  differential = 3,
  log = 4,
  copy = 5,
  other = 6,
};

/// VSS_RESTOREMETHOD_ENUM.
enum class RestoreMethod : std::uint8_t {
  undefined = 0,
  restore_if_not_there = 1,
  restore_if_can_replace = 2,
  stop_restore_start = 3,
  restore_to_alternate_location = 4,
  restore_at_reboot = 5,
  restore_at_reboot_if_cannot_replace = 6,
  custom = 7,
  restore_stop_start = 8,
};

/// VSS_WRITERRESTORE_ENUM.
enum class WriterRestore : std::uint8_t {
  undefined = 0,
  never = 1,
  if_replace_fails = 2,
  always = 3,
};

/// VSS_RESTORE_TYPE. Treat `undefined` as `by_copy`.
enum class RestoreType : std::uint8_t { undefined = 0, by_copy = 1, import = 2, other = 3 };

/// VSS_RESTORE_TARGET: where a writer, in PreRestore, wants the files of a component.
enum class RestoreTarget : std::uint8_t {
  undefined = 0,
  original = 1,           ///< As the restore method says. The default.
  alternate = 2,          ///< To the alternate locations, which must exist.
  directed = 3,           ///< By the writer's directed targets.
  original_location = 4,  ///< To the original place, whatever the method says.
};

/// VSS_FILE_RESTORE_STATUS: how the copying of a component's files ended.
enum class FileRestoreStatus : std::uint8_t {
  undefined = 0,  ///< Nobody said.
  none = 1,       ///< Nothing was written; the disk is as before.
  all = 2,        ///< Every file was restored.
  failed = 3,     ///< Some were written, some not: what is there is damaged.
};

/// VSS_ROLLFORWARD_TYPE.
enum class RollForwardType : std::uint8_t { undefined = 0, none = 1, all = 2, partial = 3 };

/// VSS_BACKUP_SCHEMA, a bit mask: what a writer supports.
namespace backup_schema {
inline constexpr std::uint32_t kDifferential = 0x0001;
inline constexpr std::uint32_t kIncremental = 0x0002;
inline constexpr std::uint32_t kExclusiveIncrementalDifferential = 0x0004;
inline constexpr std::uint32_t kLog = 0x0008;
inline constexpr std::uint32_t kCopy = 0x0010;
inline constexpr std::uint32_t kTimestamped = 0x0020;
inline constexpr std::uint32_t kLastModify = 0x0040;
inline constexpr std::uint32_t kNewTarget = 0x0100;
inline constexpr std::uint32_t kRestoreWithMove = 0x0200;
inline constexpr std::uint32_t kIndependentSystemState = 0x0400;
inline constexpr std::uint32_t kRollForwardRestore = 0x1000;
inline constexpr std::uint32_t kRestoreRename = 0x2000;
inline constexpr std::uint32_t kAuthoritativeRestore = 0x4000;
inline constexpr std::uint32_t kParallelRestores = 0x8000;
}  // namespace backup_schema

/// VSS_PROVIDER_TYPE.
enum class ProviderType : std::uint8_t {
  unknown = 0,
  system = 1,
  software = 2,
  hardware = 3,
  file_share = 4,
};

/// VSS_SNAPSHOT_STATE. The order of the numbers is VSS's, not that of time.
enum class SnapshotState : std::uint8_t {
  unknown = 0,
  preparing = 1,
  processing_prepare = 2,
  prepared = 3,
  processing_precommit = 4,
  precommitted = 5,
  processing_commit = 6,
  committed = 7,
  processing_postcommit = 8,
  processing_prefinalcommit = 9,
  prefinalcommitted = 10,
  processing_postfinalcommit = 11,
  created = 12,
  aborted = 13,
  deleted = 14,
  postcommitted = 15,
};

/// VSS_OBJECT_TYPE.
enum class ObjectType : std::uint8_t {
  unknown = 0,
  none = 1,
  snapshot_set = 2,
  snapshot = 3,
  provider = 4,
};

/// VSS_PROTECTION_LEVEL: who gives way when a copy cannot be kept.
enum class ProtectionLevel : std::uint8_t {
  original_volume = 0,  ///< The volume goes on, copies are sacrificed. The default.
  snapshot = 1,         ///< The copies stay, the volume goes offline until the fault is cleared.
};

/// VSS_PROTECTION_FAULT: why a volume with ProtectionLevel::snapshot went offline.
enum class ProtectionFault : std::uint8_t {
  none = 0,
  diff_area_missing = 1,              ///< Absent when the volume was attached.
  io_failure_during_online = 2,       ///< Reading the diff area failed then.
  meta_data_corruption = 3,           ///< Its metadata is not valid.
  memory_allocation_failure = 4,      ///< No memory for its tables.
  mapped_memory_failure = 5,          ///< Kept for its number; ours maps none.
  cow_read_failure = 6,               ///< The old data of a chunk could not be read.
  cow_write_failure = 7,              ///< It could not be written to the diff area.
  diff_area_full = 8,                 ///< The maximum is reached.
  grow_too_slow = 9,                  ///< Writes needed space sooner than growing gave it.
  grow_failed = 10,                   ///< What the diff area lies on is full.
  destroy_all_snapshots = 11,         ///< Somebody had all copies destroyed.
  file_system_failure = 12,           ///< Of the file system that the diff area lies on.
  io_failure = 13,                    ///< Any other.
  diff_area_removed = 14,             ///< What it lies on has gone.
  external_writer_to_diff_area = 15,  ///< Somebody else wrote into it.
  mount_during_cluster_offline = 16,  ///< Kept for its number; there are no clusters here.
};

/// VSS_ASSOC_NO_MAX_SPACE and VSS_ASSOC_REMOVE, as maximum of a diff area.
inline constexpr std::int64_t kAssocNoMaxSpace = -1;
inline constexpr std::int64_t kAssocRemove = 0;

/// VSS_VOLSNAP_ATTR_*, a bit mask. A context (below) is a combination of these.
namespace attribute {
inline constexpr std::uint32_t kPersistent = 0x00000001;
inline constexpr std::uint32_t kNoAutorecovery = 0x00000002;
inline constexpr std::uint32_t kClientAccessible = 0x00000004;
inline constexpr std::uint32_t kNoAutoRelease = 0x00000008;
inline constexpr std::uint32_t kNoWriters = 0x00000010;
inline constexpr std::uint32_t kTransportable = 0x00000020;
inline constexpr std::uint32_t kNotSurfaced = 0x00000040;
inline constexpr std::uint32_t kNotTransacted = 0x00000080;
inline constexpr std::uint32_t kHardwareAssisted = 0x00010000;
inline constexpr std::uint32_t kDifferential = 0x00020000;
inline constexpr std::uint32_t kPlex = 0x00040000;
inline constexpr std::uint32_t kImported = 0x00080000;
inline constexpr std::uint32_t kExposedLocally = 0x00100000;
inline constexpr std::uint32_t kExposedRemotely = 0x00200000;
inline constexpr std::uint32_t kAutorecover = 0x00400000;
inline constexpr std::uint32_t kRollbackRecovery = 0x00800000;
inline constexpr std::uint32_t kDelayedPostSnapshot = 0x01000000;
inline constexpr std::uint32_t kTxfRecovery = 0x02000000;
inline constexpr std::uint32_t kFileShare = 0x04000000;
}  // namespace attribute

/// VSS_SNAPSHOT_CONTEXT: the six ways a snapshot can be meant, as attribute masks.
namespace context {
inline constexpr std::uint32_t kBackup = 0x00000000;
inline constexpr std::uint32_t kFileShareBackup = 0x00000010;
inline constexpr std::uint32_t kNasRollback = 0x00000019;
inline constexpr std::uint32_t kAppRollback = 0x00000009;
inline constexpr std::uint32_t kClientAccessible = 0x0000001D;
inline constexpr std::uint32_t kClientAccessibleWriters = 0x0000000D;
inline constexpr std::uint32_t kAll = 0xFFFFFFFF;  ///< Queries and deletes only.
/// The bits a context fixes; the others are attributes a requester may add.
inline constexpr std::uint32_t kMask = 0x0000001D;
}  // namespace context

/// VSS_BREAKEX_FLAGS, a bit mask.
namespace break_flag {
inline constexpr std::uint32_t kMaskLuns = 0x1;  ///< Excludes the others.
inline constexpr std::uint32_t kMakeReadWrite = 0x2;
inline constexpr std::uint32_t kRevertIdentityAll = 0x4;
inline constexpr std::uint32_t kRevertIdentityNone = 0x8;  ///< Excludes kRevertIdentityAll.
}  // namespace break_flag

/// VSS_ONLUNSTATECHANGE_*, a bit mask: what becomes of LUNs.
namespace lun_state {
inline constexpr std::uint32_t kNotifyReadWrite = 0x100;
inline constexpr std::uint32_t kNotifyLunPreRecovery = 0x200;
inline constexpr std::uint32_t kNotifyLunPostRecovery = 0x400;
inline constexpr std::uint32_t kDoMaskLuns = 0x800;
}  // namespace lun_state

/// VSS_RECOVERY_OPTIONS, a bit mask.
namespace recovery_option {
inline constexpr std::uint32_t kRevertIdentityAll = 0x100;
inline constexpr std::uint32_t kNoVolumeCheck = 0x200;
}  // namespace recovery_option

/// VSS_SNAPSHOT_COMPATIBILITY, a bit mask: what must not run on a volume that has copies.
namespace snapshot_compatibility {
inline constexpr std::uint32_t kDisableDefrag = 0x1;
inline constexpr std::uint32_t kDisableContentIndex = 0x2;
}  // namespace snapshot_compatibility

[[nodiscard]] constexpr bool is_persistent(std::uint32_t context_and_attributes) noexcept {
  return (context_and_attributes & attribute::kPersistent) != 0;
}
[[nodiscard]] constexpr bool is_auto_release(std::uint32_t context_and_attributes) noexcept {
  return (context_and_attributes & attribute::kNoAutoRelease) == 0;
}
[[nodiscard]] constexpr bool has_writers(std::uint32_t context_and_attributes) noexcept {
  return (context_and_attributes & attribute::kNoWriters) == 0;
}

/// When a writer's failure fails the snapshot set. The engine enforces it; VSS itself only knows
/// `none`. See docs/architecture.md, "Writer failures".
enum class WriterPolicy : std::uint8_t {
  none = 0,      ///< Never: the requester looks at the writers' status (VSS's behaviour).
  involved = 1,  ///< For writers with a selected component on a volume of the set.
  all = 2,       ///< For every participating writer.
  list = 3,      ///< For the writer classes that the requester names.
};

/// VSS's spelling, e.g. "VSS_WS_STABLE", "VSS_SS_CREATED", "VSS_CTX_APP_ROLLBACK"; "unknown" for
/// a value that has none. Static storage. Threads: any.
[[nodiscard]] std::string_view vss_name(WriterState state) noexcept;
[[nodiscard]] std::string_view vss_name(SnapshotState state) noexcept;
[[nodiscard]] std::string_view vss_name(ApplicationLevel level) noexcept;
[[nodiscard]] std::string_view vss_name(ProviderType type) noexcept;
[[nodiscard]] std::string_view vss_name(BackupType type) noexcept;
[[nodiscard]] std::string_view vss_name(ProtectionLevel level) noexcept;
[[nodiscard]] std::string_view vss_name(ProtectionFault fault) noexcept;
[[nodiscard]] std::string_view context_name(std::uint32_t context) noexcept;

/// What administrators' tools print for a state ("Stable", "Waiting for freeze", "Failed", ...).
[[nodiscard]] std::string_view display_name(WriterState state) noexcept;

}  // namespace umbra
