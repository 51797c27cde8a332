// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// The two documents of VSS as typed values: the Writer Metadata Document (what a writer has and how
// it is restored; born in Identify, constant afterwards) and the Backup Components Document (what
// one backup consists of; kept by umbrad, filled by requester and writers). On the wire and on disk
// they are XML with element names of our own; docs/documents.md is their reference.
//
// Components are named by logical path and name: "accounts\eu" + "ledger". The separator is a
// backslash; the full path is unique in a writer and compared without regard to ASCII case.
//
// `unknown`, in each of them, is what a document said there that this version does not know: the
// attributes and elements of another version, as one XML element, kept so that a document survives
// being read and written here. Empty: nothing. Not for programs to look into.

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "umbra/errc.h"
#include "umbra/ids.h"
#include "umbra/lun.h"
#include "umbra/vss.h"

namespace umbra {

/// VSS_FILE_SPEC_BACKUP_TYPE, a bit mask: for which backup types a file set is to be copied, and
/// for which of them from a snapshot.
namespace file_spec {
inline constexpr std::uint32_t kFullBackup = 0x001;
inline constexpr std::uint32_t kDifferentialBackup = 0x002;
inline constexpr std::uint32_t kIncrementalBackup = 0x004;
inline constexpr std::uint32_t kLogBackup = 0x008;
inline constexpr std::uint32_t kFullSnapshot = 0x100;
inline constexpr std::uint32_t kDifferentialSnapshot = 0x200;
inline constexpr std::uint32_t kIncrementalSnapshot = 0x400;
inline constexpr std::uint32_t kLogSnapshot = 0x800;
inline constexpr std::uint32_t kAllBackup = 0x00F;
inline constexpr std::uint32_t kAllSnapshot = 0xF00;
/// The files appear only while the backup is made (in the copy, or in the alternate path).
inline constexpr std::uint32_t kCreatedDuringBackup = 0x10000;
inline constexpr std::uint32_t kDefault = 0xF0F;
}  // namespace file_spec

/// VSS_COMPONENT_FLAGS, a bit mask.
namespace component_flag {
inline constexpr std::uint32_t kBackupRecovery = 0x1;
inline constexpr std::uint32_t kAppRollbackRecovery = 0x2;
inline constexpr std::uint32_t kNotSystemState = 0x4;
}  // namespace component_flag

/// Files in one directory: an absolute path, and a name pattern of `*` and `?` without separators.
/// `${NAME}` and `%NAME%` in a path are variables of the machine that reads the document.
struct FileSet {
  std::string path{};
  std::string pattern = "*";
  bool recursive = false;        ///< All subdirectories too. Not for databases.
  std::string alternate_path{};  ///< Where to read them from instead; empty: from `path`.
  std::uint32_t backup_type_mask = file_spec::kDefault;
  std::string unknown{};

  friend bool operator==(const FileSet&, const FileSet&) = default;
};

/// "Back up and restore that one too": a component of another writer.
struct ComponentDependency {
  WriterClassId writer{};
  std::string logical_path{};
  std::string component{};
  std::string unknown{};

  friend bool operator==(const ComponentDependency&, const ComponentDependency&) = default;
};

/// A component as its writer declares it.
struct ComponentInfo {
  ComponentType type = ComponentType::file_group;
  std::string logical_path{};  ///< Empty: at the root.
  std::string name{};
  std::string caption{};  ///< For people; may be translated.
  bool notify_on_backup_complete = false;
  bool selectable = true;
  bool selectable_for_restore = false;
  std::uint32_t flags = 0;           ///< component_flag.
  std::vector<FileSet> files{};      ///< Of a file group; of a database its data files.
  std::vector<FileSet> log_files{};  ///< Databases only.
  std::vector<ComponentDependency> dependencies{};
  std::string icon{};             ///< Bytes of an image; VSS does not say of what kind.
  bool restore_metadata = false;  ///< Reserved by VSS.
  std::string unknown{};

  friend bool operator==(const ComponentInfo&, const ComponentInfo&) = default;
};

struct WriterIdentity {
  WriterClassId class_id{};
  WriterInstanceId instance_id{};
  std::string name{};
  std::string instance_name{};
  UsageType usage = UsageType::user_data;
  SourceType source = SourceType::other;
  std::uint32_t version_major = 0;
  std::uint32_t version_minor = 0;
  std::string unknown{};

  friend bool operator==(const WriterIdentity&, const WriterIdentity&) = default;
};

/// Where files of a set may be restored to if their own place is taken.
struct AlternateLocation {
  std::string path{};
  std::string pattern{};
  bool recursive = false;
  std::string destination{};
  std::string unknown{};

  friend bool operator==(const AlternateLocation&, const AlternateLocation&) = default;
};

struct RestoreRules {
  RestoreMethod method = RestoreMethod::undefined;
  std::string service{};  ///< For the methods that stop and start one.
  WriterRestore writer_restore = WriterRestore::never;
  bool reboot_required = false;
  std::vector<AlternateLocation> alternate_locations{};
  std::string user_procedure{};  ///< Where a person finds what is to be done, with `custom`.
  std::string unknown{};

  friend bool operator==(const RestoreRules&, const RestoreRules&) = default;
};

/// The Writer Metadata Document.
struct WriterMetadataDocument {
  WriterIdentity identity{};
  std::uint32_t backup_schema = 0;        ///< VSS_BACKUP_SCHEMA, a bit mask; 0: full backups only.
  std::optional<RestoreRules> restore{};  ///< Absent if the writer did not say.
  std::vector<ComponentInfo> components{};
  std::vector<FileSet> excludes{};                ///< Never backed up, whatever is selected.
  std::vector<FileSet> excludes_from_snapshot{};  ///< The writer deletes them in the copy.
  std::string unknown{};

  friend bool operator==(const WriterMetadataDocument&, const WriterMetadataDocument&) = default;
};

/// Byte ranges of one file that are all a backup of it needs.
struct PartialFile {
  std::string path{};
  std::string file_name{};
  std::string ranges{};  ///< "offset:length, ..." or "File=PATH".
  std::string metadata{};
  std::string unknown{};

  friend bool operator==(const PartialFile&, const PartialFile&) = default;
};

/// Files to be copied if they changed after a time.
struct DifferencedFile {
  std::string path{};
  std::string pattern{};
  bool recursive = false;
  std::int64_t last_modify_filetime = 0;  ///< 100 ns ticks since 1601-01-01 UTC; 0: you decide.
  std::string unknown{};

  friend bool operator==(const DifferencedFile&, const DifferencedFile&) = default;
};

/// A part of a component that alone is to be restored (AddRestoreSubcomponent).
struct RestoreSubcomponent {
  std::string logical_path{};
  std::string name{};
  bool repair = false;  ///< Reserved by VSS.
  std::string unknown{};

  friend bool operator==(const RestoreSubcomponent&, const RestoreSubcomponent&) = default;
};

/// A writer's instruction where byte ranges of a backed up file go. Ranges as in PartialFile, as
/// many and as long on both sides.
struct DirectedTarget {
  std::string source_path{};
  std::string source_file{};
  std::string source_ranges{};
  std::string destination_path{};
  std::string destination_file{};
  std::string destination_ranges{};
  std::string unknown{};

  friend bool operator==(const DirectedTarget&, const DirectedTarget&) = default;
};

/// Recover up to where (SetRollForward).
struct RollForward {
  RollForwardType type = RollForwardType::undefined;
  std::string point{};  ///< With `partial`; the writer's own notation.
  std::string unknown{};

  friend bool operator==(const RollForward&, const RollForward&) = default;
};

/// IVssComponentEx2::SetFailure: with writererror_partial_failure, which component failed and how.
struct ComponentFailure {
  Errc code = Errc::ok;
  std::uint32_t application_code = 0;
  std::string message{};
  std::string unknown{};

  friend bool operator==(const ComponentFailure&, const ComponentFailure&) = default;
};

/// A component that a requester selected explicitly, in one backup.
struct BackupComponent {
  ComponentType type = ComponentType::file_group;
  std::string logical_path{};
  std::string name{};
  // The requester's part.
  std::optional<bool> succeeded{};
  std::optional<std::string> previous_backup_stamp{};
  std::optional<std::string> backup_options{};
  // The writer's part.
  std::optional<std::string> backup_metadata{};
  std::optional<std::string> backup_stamp{};
  std::string prepare_for_backup_failure{};
  std::string post_snapshot_failure{};
  std::optional<ComponentFailure> failure{};
  std::vector<PartialFile> partial_files{};
  std::vector<DifferencedFile> differenced_files{};
  // The requester's part of a restore.
  bool selected_for_restore = false;
  bool additional_restores = false;  ///< More of a chain follow: do not recover yet.
  bool authoritative_restore = false;
  std::optional<std::string> restore_options{};
  std::optional<RollForward> roll_forward{};
  std::string restore_name{};  ///< Restore under this name; empty: under its own.
  /// If there are any, only these parts are restored.
  std::vector<RestoreSubcomponent> restore_subcomponents{};
  std::vector<AlternateLocation> new_targets{};          ///< Where the requester puts file sets.
  std::vector<AlternateLocation> alternate_locations{};  ///< Those that were really used.
  FileRestoreStatus file_restore_status = FileRestoreStatus::undefined;
  // The writer's part of a restore.
  RestoreTarget restore_target = RestoreTarget::original;
  std::vector<DirectedTarget> directed_targets{};
  std::optional<std::string> restore_metadata{};
  std::string pre_restore_failure{};
  std::string post_restore_failure{};
  std::string caption{};  ///< For people; as the writer declares it. Most leave it out here.
  std::string unknown{};

  friend bool operator==(const BackupComponent&, const BackupComponent&) = default;
};

/// One writer's part of the Backup Components Document.
struct WriterComponents {
  WriterInstanceId instance_id{};
  WriterClassId class_id{};
  std::string instance_name{};
  std::uint32_t backup_schema = 0;
  std::vector<BackupComponent> components{};
  std::string unknown{};

  friend bool operator==(const WriterComponents&, const WriterComponents&) = default;
};

/// The Backup Components Document.
struct BackupComponentsDocument {
  bool component_mode = true;
  bool bootable_system_state = false;
  bool partial_file_support = false;
  BackupType backup_type = BackupType::full;
  RestoreType restore_type = RestoreType::undefined;
  SnapshotSetId set_id{};  ///< Nil before a set is started.
  /// Of a transportable set: what its copies are found by where they are imported.
  std::vector<TransportedSnapshot> snapshots{};
  std::vector<WriterComponents> writers{};
  std::string unknown{};

  friend bool operator==(const BackupComponentsDocument&,
                         const BackupComponentsDocument&) = default;
};

/// Where a volume was mounted: `root`, a path inside it, was to be seen at `point`.
struct MountPoint {
  std::string point{};
  std::string root = "/";
  std::string unknown{};

  friend bool operator==(const MountPoint&, const MountPoint&) = default;
};

/// A volume of a backup and its copy.
struct BundleVolume {
  VolumeId volume_id{};
  SnapshotId snapshot_id{};
  std::string name{};
  std::vector<MountPoint> mounts{};  ///< As the requester saw it.
  std::string unknown{};

  friend bool operator==(const BundleVolume&, const BundleVolume&) = default;
};

/// A directory of a file set that was reached by symbolic links.
struct ResolvedPath {
  std::string path{};
  std::string real{};
  std::string unknown{};

  friend bool operator==(const ResolvedPath&, const ResolvedPath&) = default;
};

/// All that is to be kept of a backup so that it can be restored: both kinds of documents, and what
/// they do not say.
struct BackupBundle {
  std::int64_t created_filetime = 0;  ///< 100 ns ticks since 1601-01-01 UTC.
  std::string machine{};
  std::vector<BundleVolume> volumes{};
  std::vector<ResolvedPath> resolved_paths{};
  BackupComponentsDocument components{};
  std::vector<WriterMetadataDocument> writers{};  ///< Of those that have components in it.
  std::string unknown{};

  friend bool operator==(const BackupBundle&, const BackupBundle&) = default;
};

}  // namespace umbra
