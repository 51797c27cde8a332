// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// Values that the requester SDK takes and returns. Plain structs with defaults; new fields may come
// at any place, so use designated initialisers.

#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "umbra/documents.h"
#include "umbra/ids.h"
#include "umbra/provider.h"
#include "umbra/requester/export.h"
#include "umbra/result.h"
#include "umbra/vss.h"

namespace umbra::requester {

inline constexpr std::size_t kVolumesPerSetMax = 64;

/// How to reach umbrad, and as what.
struct ConnectOptions {
  std::string socket_path{};  ///< Empty: $UMBRA_RUN_DIR/umbrad.sock, else the system's, else ours.
  std::chrono::milliseconds connect_limit{5'000};
  /// Attach, detach and abort need the admin role (root); it may do all that a requester may.
  bool admin = false;
  std::string program{};  ///< For umbrad's log, e.g. "mybackup 2.1".
};

/// Turns what a user typed into a reference: a GUID is a volume id; a word without '/' is the name
/// given at attach; anything else is a path of this process's mount namespace: a block device means
/// itself, any other file the file system it lies on. Errors: object_not_found (no such path);
/// invalid_argument (empty).
[[nodiscard]] UMBRA_REQUESTER_EXPORT Result<VolumeRef> resolve_volume(const std::string& text);

struct VolumeList {
  std::vector<VolumeProperties> volumes{};
  std::vector<std::string> absent_providers{};  ///< Registered, not connected: theirs are missing.
};

struct SnapshotList {
  std::vector<SnapshotProperties> snapshots{};
  std::vector<std::string> absent_providers{};
};

struct SnapshotQuery {
  std::uint32_t context = context::kAll;
  bool incomplete = false;  ///< Also prepared copies that wait for absent members of their set.
};

struct ProviderInfo {
  ProviderProperties properties{};
  bool connected = false;
};

/// A writer as it is now, outside any session, and how it last failed.
struct WriterInfo {
  WriterInstanceId instance_id{};
  WriterClassId class_id{};
  std::string name{};
  std::string instance_name{};
  ApplicationLevel level = ApplicationLevel::front_end;
  std::chrono::milliseconds freeze_window{60'000};
  WriterState state = WriterState::stable;  ///< In the newest session it takes part in.
  Errc last_failure = Errc::ok;
  std::string last_failure_phase{};
  std::string last_failure_message{};
  std::int64_t last_failure_filetime = 0;  ///< 0: never.
};

struct DeletedSnapshots {
  std::uint32_t deleted = 0;
  std::optional<SnapshotId> not_deleted{};  ///< The one that stopped it, with `status`.
  Status status{};
};

/// How a live volume is served (docs/front-ends.md).
enum class FrontEnd : std::uint8_t {
  automatic,  ///< The best that the machine has.
  ublk,       ///< A block device, by way of ublk.
  fuse,       ///< A block device, by way of FUSE and a loop device.
  nbd,        ///< A block device, by way of the kernel's NBD client.
  none,       ///< No block device: only the NBD server.
};

/// How an origin that is a file is read and written.
enum class OriginCache : std::uint8_t {
  buffered,  ///< Through the page cache.
  none,      ///< Without it (O_DIRECT).
};

/// How old data gets into the diff area.
enum class Preservation : std::uint8_t {
  copy,     ///< By copying it.
  reflink,  ///< By sharing its blocks with the origin, both files being on one XFS or btrfs.
};

struct AttachOptions {
  std::string origin_path{};     ///< Absolute, as umbra-cowd sees it.
  std::string diff_area_path{};  ///< On another file system than the volume's own.
  std::string name{};            ///< Empty: the origin's file name.
  std::uint32_t chunk_bytes = 16 * 1024;
  std::uint64_t diff_initial_bytes = 0;  ///< 0: the default.
  std::uint64_t diff_maximum_bytes = 0;  ///< 0: unbounded.
  std::uint32_t snapshots_max = 0;       ///< 0: 262,144, all that the format can hold. VSS: 512.
  FrontEnd front_end = FrontEnd::automatic;
  OriginCache cache = OriginCache::buffered;
  Preservation preserve = Preservation::copy;
  bool origin_moved = false;           ///< The origin is a faithful copy in another place.
  bool accept_changed_origin = false;  ///< Changed while detached: its copies become lost.
  bool copy_free_blocks = false;       ///< Copies keep what the file system had free, too.
  bool force = false;                  ///< Overwrite what is in the diff area's place.
};

struct AttachedVolume {
  VolumeProperties volume{};
  std::vector<std::string> notes{};  ///< What was chosen and why.
};

/// How a copy is mounted. The copy itself never changes.
struct MountOptions {
  std::string directory{};  ///< Empty: one in the run directory.
  bool recover = false;     ///< Replay the journal, into an overlay that goes with the mount.
  bool write = false;       ///< For writing, into such an overlay; replays the journal, too.
};

struct MountedSnapshot {
  std::string path{};
  std::string device_path{};
  std::vector<std::string> notes{};  ///< What the mount lacks, and what to do.
};

/// How a copy is to be exposed.
struct ExposeOptions {
  std::string directory{};       ///< Where it is mounted; empty: one in the run directory.
  bool remotely = false;         ///< As a share: not_supported.
  std::string path_from_root{};  ///< For shares only.
};

struct CoordinatorStatus {
  std::string program{};
  std::chrono::seconds uptime{0};
  std::uint32_t writers = 0;
  std::uint32_t sessions = 0;
  std::uint32_t providers_connected = 0;
  SnapshotSetId set_in_progress{};  ///< Nil: none.
  std::string set_phase{};
  std::string set_holder{};
  std::chrono::milliseconds set_age{0};
};

/// Something that was asked of somebody while a set was made, or a phase of umbrad's.
struct TraceSpan {
  std::string actor{};  ///< "umbrad", "requester", "writer 'ledger'", "provider 'cow'".
  std::string what{};   ///< A phase, a call, an event.
  std::chrono::microseconds begin{0};  ///< Since the set's begin.
  std::chrono::microseconds end{0};
  bool ended = false;  ///< false: no answer (yet); `end` means nothing.
  Errc code = Errc::ok;
  std::string text{};  ///< In the words of whoever answered.
};
/// The story of a set, from StartSnapshotSet to the end of its session.
struct SetTrace {
  SnapshotSetId set_id{};
  SessionId session_id{};
  std::string requester{};
  std::int64_t begin_filetime = 0;
  bool ended = false;  ///< The set; its session may go on.
  Errc code = Errc::ok;
  std::string context{};
  std::uint32_t dropped = 0;  ///< Spans beyond what is kept of one set.
  std::vector<TraceSpan> spans{};
};

/// Files that an application does not want in copies or backups (umbrad's configuration).
struct NamedFiles {
  std::string application{};
  std::vector<std::string> files{};
};
struct CoordinatorSettings {
  std::vector<NamedFiles> files_not_to_snapshot{};       ///< FilesNotToSnapshot.
  std::vector<NamedFiles> files_not_to_backup{};         ///< FilesNotToBackup.
  std::vector<WriterClassId> writers_blocking_revert{};  ///< WritersBlockingRevert.
};

struct AbortedSet {
  SnapshotSetId set_id{};
  std::string holder{};
};

/// What SetBackupState sets.
struct BackupState {
  bool component_mode = true;  ///< false: whole volumes; every writer takes part.
  bool bootable_system_state = false;
  BackupType backup_type = BackupType::full;
  bool partial_file_support = false;
};

/// A writer's answer to Identify.
struct WriterMetadata {
  WriterInstanceId instance_id{};
  WriterClassId class_id{};
  std::string name{};
  WriterMetadataDocument document{};
  std::string xml{};  ///< To be kept with the backup: restoring needs it.
};

/// Names a component of a live writer.
struct ComponentRef {
  WriterInstanceId instance_id{};
  WriterClassId class_id{};
  ComponentType type = ComponentType::file_group;
  std::string logical_path{};
  std::string name{};
};

/// How one writer fared in this session.
struct WriterStatus {
  WriterInstanceId instance_id{};
  WriterClassId class_id{};
  std::string name{};
  WriterState state = WriterState::unknown;
  Errc failure = Errc::ok;
  std::uint32_t application_code = 0;
  std::string message{};  ///< The writer's own words.
};

struct AddedSnapshot {
  SnapshotId snapshot_id{};
  VolumeId volume_id{};
};

/// One phase of do_snapshot_set, in time since its beginning.
struct PhaseTime {
  std::string phase{};  ///< "prepare", "freeze", "hold", "thaw", ...: docs/wire.md lists them.
  std::chrono::microseconds begin{0};
  std::chrono::microseconds end{0};
};

/// What do_snapshot_set did, whether it succeeded or not.
struct SetReport {
  std::vector<PhaseTime> timeline{};
  HoldReport hold{};
  std::vector<WriterStatus> writers{};
};

struct Progress {
  std::string_view operation{};  ///< E.g. "do_snapshot_set".
  std::string_view phase{};      ///< What umbrad is doing; empty if it does not say.
  std::chrono::milliseconds elapsed{0};
};
/// Called by the thread that made the call, several times a second. Must not call the session, but
/// cancel(), and must not throw.
using OnProgress = std::function<void(const Progress& progress)>;

struct DoOptions {
  WriterPolicy writer_policy = WriterPolicy::none;
  std::vector<WriterClassId> policy_list{};  ///< With WriterPolicy::list.
  std::chrono::milliseconds time_limit{600'000};
  OnProgress on_progress{};
};

/// A whole creation in one call.
struct CreateOptions {
  /// 1 to kVolumesPerSetMax; see resolve_volume(). None: those that the files of `components` lie
  /// on, with what is mounted below them.
  std::vector<VolumeRef> volumes{};
  /// To be selected. None: all that lie wholly on the volumes.
  std::vector<ComponentRef> components{};
  ProviderId provider_id{};                       ///< Nil: umbrad chooses.
  std::uint32_t context = context::kAppRollback;  ///< Context and attributes.
  BackupType backup_type = BackupType::copy;
  WriterPolicy writer_policy = WriterPolicy::involved;
  std::vector<WriterClassId> policy_list{};       ///< With WriterPolicy::list.
  std::chrono::milliseconds queue_limit{0};       ///< To wait for another's set to be finished.
  std::chrono::milliseconds time_limit{600'000};  ///< The whole call.
  OnProgress on_progress{};
};

struct SnapshotSetInfo {
  SnapshotSetId set_id{};
  std::vector<SnapshotProperties> snapshots{};
  SetReport report{};
  std::vector<ComponentRef> components{};  ///< Those that were selected.
  /// Those that lie on the volumes only in part, so that they were not selected and their writers
  /// not asked: what the copies hold of them is of no use. Their other volumes belong into the set.
  std::vector<ComponentRef> partly_held{};
};

/// One component to be restored.
struct RestoreComponent {
  WriterClassId class_id{};
  std::string logical_path{};
  std::string name{};
  /// Only these parts of it; empty: all.
  std::vector<RestoreSubcomponent> subcomponents{};
  std::string options{};  ///< Restore options; the writer's own words.
  /// To another running instance of the writer; nil: the one it is of.
  WriterInstanceId instance_id{};
};

/// What was below `from` goes below `to`.
struct Relocation {
  std::string from{};
  std::string to{};
};

struct RestoreProgress {
  std::string_view phase{};  ///< "pre_restore", "copying", "replacing", "post_restore", ...
  std::uint64_t files_done = 0;
  std::uint64_t files = 0;
  std::uint64_t bytes_done = 0;
  std::uint64_t bytes = 0;
  std::chrono::milliseconds elapsed{0};
};
/// Called by the thread that made the call. Must not call the session, but cancel(), and must not
/// throw.
using OnRestoreProgress = std::function<void(const RestoreProgress& progress)>;

/// What a restore asks of a system service.
enum class ServiceAction : std::uint8_t { stop, start };

/// A whole restore in one call.
struct RestoreOptions {
  std::vector<RestoreComponent> components{};  ///< Empty: all of the bundle.
  /// Where files go instead of their own place; the longest `from` counts. Empty: their own place.
  std::vector<Relocation> relocations{};
  bool only_relocated = false;  ///< Refuse what no relocation covers.
  /// Copies to read from instead of those of the bundle, by their volume.
  std::vector<SnapshotId> snapshots{};
  /// Read the files below this directory, by their whole paths, and from no copy.
  std::string source_directory{};
  bool replace = false;              ///< Replace files also where the writer's rules do not say so.
  bool with_writers = true;          ///< False: only copy; no writer hears of it.
  bool additional_restores = false;  ///< More of a chain follow: writers must not recover yet.
  bool dry_run = false;              ///< Only find out what would be done.
  std::chrono::milliseconds time_limit{3'600'000};  ///< Of each event to the writers.
  OnRestoreProgress on_progress{};
  /// Stops or starts a system service, for the restore methods that want it. Empty: such
  /// components are refused. Must not throw.
  std::function<Status(const std::string& service, ServiceAction action)> control_service{};
};

struct RestoredFile {
  std::string original{};
  std::string destination{};
  std::uint64_t bytes = 0;
  bool replaces = false;  ///< Something is there already.
};

/// What became of one component.
struct RestoredComponent {
  WriterClassId class_id{};
  std::string writer{};
  std::string logical_path{};
  std::string name{};
  bool with_writer = false;  ///< Its writer takes part.
  FileRestoreStatus status = FileRestoreStatus::undefined;
  std::string pre_restore_failure{};  ///< The writer's words.
  std::string post_restore_failure{};
  std::vector<RestoredFile> files{};  ///< Without directories.
  std::uint64_t bytes = 0;
};

struct RestoreReport {
  std::vector<RestoredComponent> components{};
  std::vector<WriterStatus> writers{};
  std::vector<std::string> notes{};  ///< What could not be kept, what is to be known.
  bool reboot_required = false;
};

}  // namespace umbra::requester
