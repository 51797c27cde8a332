// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// Every message of the wire as a plain struct; docs/wire.md is the reference for people. The JSON
// object of a message has a member per field, of the same name. Conventions:
//   GUID         text form of ids.h            Errc      "0x80042301"
//   enumeration  VSS's number                  duration  integer, the unit ends the name
//   path, names, words for documents  UTF-8, other bytes escaped (engine/platform/wire_text.h)
//   device, ..._bytes (64 bits), ..._filetime  decimal text, since they may pass 2^53
// Members a peer does not know are ignored; members that are absent have the default given here.
// Replies: the `result` of JSON-RPC is the reply struct, or `{}`. Errors: JSON-RPC's integer code
// and message, with `data: {"code": "0x8004....", "context": "..."}`.
//
// Who calls what:
//   anyone     -> umbrad    hello
//   writer     -> umbrad    writer.register, writer.window_expired (notification)
//   umbrad     -> writer    writer.identify, writer.prepare_for_backup,
//   writer.prepare_for_snapshot,
//                           writer.freeze, writer.thaw, writer.post_snapshot, writer.abort,
//                           writer.backup_complete, writer.backup_shutdown, writer.pre_restore,
//                           writer.post_restore, writer.restore_end
//   requester  -> umbrad    session.*, operation.*, query.*, snapshot.*, management.* (queries)
//   admin      -> umbrad    volume.*, coordinator.*, management.*
//   provider   -> umbrad    provider.register, provider.event (notification)
//   umbrad     -> provider  provider.*, hardware.* (hardware_messages.h), and volume.*,
//                           snapshot.mount / unmount, management.* passed on
//                           (management_messages.h)

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "umbra/ids.h"
#include "umbra/provider.h"
#include "umbra/vss.h"

namespace umbra::rpc {

inline constexpr int kWireMajor = 1;
inline constexpr int kWireMinor = 0;

struct Nothing {};

// --- hello: the first call on every connection -----------------------------------------------

struct HelloRequest {
  int major = kWireMajor;
  int minor = kWireMinor;
  std::vector<std::string> features;
  std::string role;     // "writer", "requester", "provider" or "admin"; checked against the peer.
  std::string program;  // For logs, e.g. "umbra-writer-sqlite 0.1.0".
};
struct HelloReply {
  int major = kWireMajor;
  int minor = kWireMinor;
  std::vector<std::string> features;
  std::string program;
  std::vector<std::string> roles;  // All that this peer may take.
};

// --- writers ---------------------------------------------------------------------------------

struct RegisterWriter {
  WriterClassId class_id;
  std::string name;
  std::string instance_name;
  std::uint32_t version_major = 0;
  std::uint32_t version_minor = 0;
  UsageType usage = UsageType::user_data;
  SourceType source = SourceType::other;
  ApplicationLevel level = ApplicationLevel::front_end;
  std::uint32_t freeze_window_ms = 60'000;  // 1 to 60000.
  std::uint32_t subscription = subscribe::kAll;
};
struct RegisterWriterReply {
  WriterInstanceId instance_id;
};

struct AffectedVolume {
  VolumeId volume_id;
  std::string name;
  std::uint64_t device = 0;  // Of the live volume's block device; 0 without one.
  SnapshotId snapshot_id;
  std::string snapshot_device;  // post_snapshot only: where the copy can be read (and written).
};

// Params of every writer.* event. Identify carries the session for which it is asked (so that a
// writer can tell which of its answers belongs to which backup) and otherwise only defaults.
struct WriterEvent {
  SessionId session_id;
  SnapshotSetId set_id;       // Nil outside a set.
  std::uint32_t context = 0;  // Context and attributes; final from prepare_for_snapshot on.
  BackupType backup_type = BackupType::undefined;
  bool component_mode = false;
  bool bootable_system_state = false;
  bool partial_file_support = false;
  RestoreType restore_type = RestoreType::undefined;  // pre_restore, post_restore.
  std::uint32_t time_limit_ms = 0;  // For the answer. freeze: also the window until thaw.
  std::vector<AffectedVolume> volumes;
  std::string components;  // XML: this writer's part of the Backup Components Document.
};
// A typed change to the writer's part of the Backup Components Document. umbrad checks it and drops
// it (with a log line) when it comes too late or breaks a rule.
struct ComponentEdit {
  std::string op;  // "set_backup_metadata" and so on (docs/wire.md: members).
  std::string logical_path;
  std::string component;  // Component name.
  std::vector<std::string> values;
};
struct WriterReply {
  bool ok = true;           // false: a veto.
  Errc failure = Errc::ok;  // With ok: "I failed, others go on".
  std::uint32_t application_code = 0;
  std::string message;   // The writer's own words.
  std::string metadata;  // identify only: the Writer Metadata Document, XML.
  std::vector<ComponentEdit> edits;
};
struct WindowExpired {
  SessionId session_id;
};

// --- requesters: one connection is one session -----------------------------------------------

struct InitializeForBackup {  // session.initialize_for_backup -> SessionInfo
  std::string components;     // XML of a set to be imported; empty: a backup that begins.
};
struct SessionInfo {
  SessionId session_id;
};
struct SetContext {  // session.set_context
  std::uint32_t context = 0;
};
struct SetBackupState {  // session.set_backup_state
  bool component_mode = true;
  bool bootable_system_state = false;
  BackupType backup_type = BackupType::full;
  bool partial_file_support = false;
};
struct WriterSelection {  // session.enable_writer_classes, disable_writer_classes,
  std::vector<Guid> ids;  // disable_writer_instances
};
// session.gather_writer_metadata {}      -> StartedOperation
// session.get_writer_metadata {}         -> WriterMetadataList (after the operation has finished)
// session.prepare_for_backup {}          -> StartedOperation
// session.gather_writer_status {}        -> StartedOperation
// session.get_writer_status {}           -> WriterStatusList
// session.backup_complete {}             -> StartedOperation
// session.abort_backup {}                -> Nothing
// session.get_backup_components {}       -> Document
struct WriterMetadata {
  WriterInstanceId instance_id;
  WriterClassId class_id;
  std::string name;
  std::string metadata;  // XML.
};
struct WriterMetadataList {
  std::vector<WriterMetadata> writers;
};
struct ComponentRef {  // session.add_component; also inside other messages
  WriterInstanceId instance_id;
  WriterClassId class_id;
  ComponentType type = ComponentType::undefined;
  std::string logical_path;
  std::string name;
};
struct SetBackupSucceeded {  // session.set_backup_succeeded
  ComponentRef component;
  bool succeeded = false;
};
struct SetComponentText {  // session.set_backup_options, set_previous_backup_stamp
  ComponentRef component;
  std::string text;
};
struct StartSnapshotSet {  // session.start_snapshot_set -> StartedSet; may wait in the queue
  std::uint32_t queue_limit_ms = 0;  // 0: snapshot_set_in_progress at once.
};
struct StartedSet {
  SnapshotSetId set_id;
};
struct AddToSnapshotSet {  // session.add_to_snapshot_set -> AddedSnapshot
  VolumeRef volume;
  ProviderId provider_id;  // Nil: umbrad chooses.
};
struct AddedSnapshot {
  SnapshotId snapshot_id;
  VolumeId volume_id;
};
struct DoSnapshotSet {  // session.do_snapshot_set -> StartedOperation
  WriterPolicy policy = WriterPolicy::none;
  std::vector<WriterClassId> policy_list;  // With WriterPolicy::list.
};
struct WriterStatus {
  WriterInstanceId instance_id;
  WriterClassId class_id;
  std::string name;
  WriterState state = WriterState::unknown;
  Errc failure = Errc::ok;
  std::uint32_t application_code = 0;
  std::string message;
};
struct WriterStatusList {
  std::vector<WriterStatus> writers;
};
struct Document {
  std::string xml;
};

// What a session asks besides its own set.
struct IsVolumeSupported {  // session.is_volume_supported -> SupportReply
  VolumeRef volume;
  ProviderId provider_id;  // Nil: any.
};
// session.import_snapshots {}            -> StartedOperation
struct BreakSnapshotSet {  // session.break_snapshot_set -> StartedOperation
  SnapshotSetId set_id;
  std::uint32_t flags = 0;  // break_flag.
};
struct AddSnapshotToRecoverySet {  // session.add_snapshot_to_recovery_set; in a restore
  SnapshotId snapshot_id;
  std::uint32_t flags = 0;  // None is defined.
  VolumeRef destination;    // Names nothing: the original's own place.
};
struct RecoverSet {         // session.recover_set -> StartedOperation; in a restore
  std::uint32_t flags = 0;  // recovery_option.
};

// A restore: the session of a requester that began with initialize_for_restore.
struct InitializeForRestore {  // session.initialize_for_restore -> SessionInfo
  std::string components;      // XML: the Backup Components Document that was kept.
};
struct SetRestoreState {  // session.set_restore_state
  RestoreType restore_type = RestoreType::undefined;
};
// Each of the following names a component of the document by class, type, path and name.
struct SetSelectedForRestore {  // session.set_selected_for_restore
  ComponentRef component;       // instance_id: move it to that live writer; nil: it stays.
  bool selected = true;
};
struct AddRestoreSubcomponent {  // session.add_restore_subcomponent
  ComponentRef component;
  std::string logical_path;
  std::string name;
};
struct SetRestoreText {  // session.set_restore_options, set_restore_name
  ComponentRef component;
  std::string text;
};
struct SetRestoreFlag {  // session.set_authoritative_restore, set_additional_restores
  ComponentRef component;
  bool value = false;
};
struct SetRollForward {  // session.set_roll_forward
  ComponentRef component;
  RollForwardType type = RollForwardType::undefined;
  std::string point;
};
struct RestoreLocation {  // session.add_new_target, add_alternative_location_mapping
  ComponentRef component;
  std::string path;  // path, pattern and recursive: of a file set of the writer.
  std::string pattern;
  bool recursive = false;
  std::string destination;
};
struct SetRangesFilePath {  // session.set_ranges_file_path
  ComponentRef component;
  std::uint32_t partial_file = 0;  // Index in the component.
  std::string path;
};
struct SetFileRestoreStatus {  // session.set_file_restore_status
  ComponentRef component;
  FileRestoreStatus status = FileRestoreStatus::undefined;
};
// session.pre_restore {}                 -> StartedOperation
// session.post_restore {}                -> StartedOperation

// Asynchronous operations, IVssAsync: started by a session.* call, then waited for.
struct StartedOperation {
  std::uint32_t operation = 0;
};
struct WaitOperation {  // operation.wait -> OperationStatus; operation.status, .cancel alike
  std::uint32_t operation = 0;
  std::uint32_t time_limit_ms = 60'000;  // At most 60000 a call; a longer wait calls again.
};
struct PhaseTime {
  std::string phase;           // docs/wire.md lists them: "freeze", "hold", "thaw", ...
  std::uint64_t begin_us = 0;  // Since the operation started.
  std::uint64_t end_us = 0;
};
struct OperationStatus {
  Errc status =
      Errc::async_pending;          // async_pending, async_finished, async_cancelled, or the error.
  std::string context;              // Names writer and phase when it failed.
  std::string phase;                // What it is doing, for progress.
  std::vector<PhaseTime> timeline;  // do_snapshot_set.
  HoldReport hold;                  // do_snapshot_set: members flush_us, freeze_us, gate_us.
  std::vector<WriterStatus> writers;
};

struct QuerySnapshots {  // query.snapshots -> SnapshotList
  std::uint32_t context = context::kAll;
  bool incomplete = false;
};
struct SnapshotList {
  std::vector<SnapshotProperties> snapshots;
  std::vector<std::string> absent_providers;  // Never an empty list because somebody is away.
};
struct DeleteSnapshots {  // snapshot.delete -> DeletedSnapshots
  Guid id;
  ObjectType type = ObjectType::snapshot;
  bool force = false;
};
struct DeletedSnapshots {
  std::uint32_t deleted = 0;
  std::optional<SnapshotId> not_deleted;
  Errc status = Errc::ok;
  std::string context;
};
struct ProviderEntry {
  ProviderProperties properties;
  bool connected = false;
  bool registered = true;  // False only in umbrad's own file: it is not to be let in.
};
struct ProviderList {  // query.providers {} ->
  std::vector<ProviderEntry> providers;
};
struct WriterEntry {  // query.writers {} -> WriterEntryList: state now, and last failure
  WriterInstanceId instance_id;
  WriterClassId class_id;
  std::string name;
  std::string instance_name;
  ApplicationLevel level = ApplicationLevel::front_end;
  std::uint32_t freeze_window_ms = 0;
  WriterState state = WriterState::stable;  // In the newest session it takes part in.
  Errc last_failure = Errc::ok;
  std::string last_failure_phase;
  std::string last_failure_message;
  std::int64_t last_failure_filetime = 0;
};
struct WriterEntryList {
  std::vector<WriterEntry> writers;
};

// --- traces: what was asked of whom while a set was made; the set's own user, or admin -----------

struct TraceSpan {
  std::string actor;           // "umbrad", "requester", "writer 'ledger'", "provider 'memory'".
  std::string what;            // A phase, a call, an event; or what was noticed.
  std::uint64_t begin_us = 0;  // Since the set's begin.
  std::uint64_t end_us = 0;
  bool ended = false;  // false: no answer (yet); end_us means nothing.
  Errc code = Errc::ok;
  std::string text;
};
struct SetTrace {
  SnapshotSetId set_id;
  SessionId session_id;
  std::string requester;  // "uid 1000 pid 4242 (umbra 0.1.0)".
  std::uint32_t uid = 0;
  std::int64_t begin_filetime = 0;
  bool ended = false;  // The set; its session may go on.
  Errc code = Errc::ok;
  std::string context;
  std::uint32_t dropped = 0;  // Spans beyond what is kept of one set.
  std::vector<TraceSpan> spans;
};
struct QueryTrace {      // query.trace -> SetTrace
  SnapshotSetId set_id;  // Nil: the newest.
};
struct TraceList {  // query.traces {} -> newest first, without spans
  std::vector<SetTrace> traces;
};

// --- what the configuration says to requesters ---------------------------------------------------

struct NamedFiles {
  std::string application;         // Whose wish it is.
  std::vector<std::string> files;  // Absolute, the last part may hold * and ?; "/s" at the end of
};                                 // one: also below.
struct CoordinatorSettings {       // query.settings {}
  std::vector<NamedFiles> files_not_to_snapshot;
  std::vector<NamedFiles> files_not_to_backup;
  std::vector<WriterClassId> writers_blocking_revert;
};

// --- mounts: requester role; passed on to the provider that has the snapshot -------------------

struct MountSnapshot {  // snapshot.mount -> MountedSnapshot
  SnapshotId snapshot_id;
  std::string directory;  // Empty: one in the run directory.
  bool recover = false;   // The journal is replayed, into an overlay that goes with the mount.
  bool write = false;  // Mounted for writing, into such an overlay; the journal is replayed, too.
};
struct MountedSnapshot {
  std::string path;
  std::string device_path;
  std::vector<std::string> notes;  // What is missing in it.
};
struct UnmountSnapshot {  // snapshot.unmount -> Nothing
  SnapshotId snapshot_id;
};

// --- admin: volumes; passed on to the system provider -----------------------------------------

struct AttachVolume {       // volume.attach -> AttachedVolume
  std::string origin_path;  // Absolute, in the provider's mount namespace.
  std::string diff_area_path;
  std::string name;  // Empty: the origin's file name.
  std::uint32_t chunk_bytes = 16 * 1024;
  std::uint64_t diff_initial_bytes = 0;  // 0: the default (docs/cli.md).
  std::uint64_t diff_maximum_bytes = 0;  // 0: unbounded.
  std::uint32_t snapshots_max = 0;       // 0: as many as the diff area's format can hold.
  std::string expose = "auto";           // "auto", "ublk", "fuse", "nbd", "none" (server only).
  std::string cache = "buffered";        // "buffered", "none" (O_DIRECT); of an origin's file.
  std::string preserve = "copy";         // "copy", "reflink" (old data shares blocks).
  bool origin_moved = false;             // It is a faithful copy in another place.
  bool accept_changed_origin = false;    // Go on without its snapshots if it was changed meanwhile.
  bool copy_free_blocks = false;         // Also what the file system had free, as if it were data.
  bool force = false;                    // Overwrite what is in the diff area's place.
};
struct AttachedVolume {
  VolumeProperties volume;
  std::vector<std::string> notes;  // What was chosen and why.
};
struct DetachVolume {  // volume.detach -> Nothing
  VolumeRef volume;
};
struct VolumeList {  // volume.list {} (requester role is enough)
  std::vector<VolumeProperties> volumes;
  std::vector<std::string> absent_providers;
};

// --- admin: the coordinator ------------------------------------------------------------------

struct CoordinatorStatus {  // coordinator.status {} (requester role is enough)
  std::string program;
  std::uint64_t uptime_s = 0;
  std::uint32_t writers = 0;
  std::uint32_t sessions = 0;
  std::uint32_t providers_connected = 0;
  SnapshotSetId set_in_progress;  // Nil: none.
  std::string set_phase;
  std::string set_holder;  // "uid 1000 pid 4242 (umbra 0.1.0)".
  std::uint64_t set_age_ms = 0;
};
struct AbortSet {  // coordinator.abort -> AbortedSet; admin, or the holder's own user
  std::string reason;
};
struct AbortedSet {
  SnapshotSetId set_id;
  std::string holder;
};
// coordinator.register_provider takes ProviderProperties; admin.
struct UnregisterProvider {  // coordinator.unregister_provider -> ProviderProperties; admin
  ProviderId provider_id;
  bool force = false;  // Also with copies, or while it is away and nobody knows of any.
};

// --- providers -------------------------------------------------------------------------------

struct RegisterProvider {  // provider.register -> RegisteredProvider
  ProviderProperties properties;
  Guid event_stream;  // New with every start of the provider; nil: it tells no events.
};
struct RegisteredProvider {
  std::vector<SessionId> alive;    // For Provider::retain_sessions.
  std::uint64_t events_after = 0;  // Of this stream, umbrad has those up to here.
};
// Then, as they happen: provider.event {ProviderEvent} (notification), numbered by the provider.
// umbrad -> provider, one method per member of umbra::Provider: provider.find_volume {volume},
// provider.list_volumes, provider.is_volume_supported {volume, attributes},
// provider.begin_prepare_snapshot {PrepareSnapshot}, then with {set_id}:
// provider.end_prepare_snapshots, provider.pre_commit_snapshots, provider.commit_snapshots,
// provider.release_hold, provider.pre_final_commit_snapshots, provider.post_final_commit_snapshots,
// provider.confirm_set, provider.abort_snapshots, provider.query_set, provider.complete_set;
// with {set_id, limits}: provider.flush_and_hold,
// provider.flush_commit_release; with {set_id, members}: provider.post_commit_snapshots;
// provider.query_snapshots {incomplete}, provider.delete_snapshots, provider.end_session
// {session_id}, provider.retain_sessions {alive}.
struct SetRequest {
  SnapshotSetId set_id;
  HoldLimits limits;                // flush_and_hold, flush_commit_release: *_ms members.
  std::vector<SnapshotId> members;  // post_commit_snapshots.
};
struct VolumeSupportRequest {
  VolumeRef volume;
  std::uint32_t attributes = 0;
};
struct SupportReply {
  bool supported = false;
};
struct SetFateReply {
  SetFate fate = SetFate::undecided;
};
struct SessionRequest {
  SessionId session_id;
};
struct RetainSessions {
  std::vector<SessionId> alive;
};
struct VolumeRequest {  // find_volume -> VolumeProperties
  VolumeRef volume;
};
// query_set -> SetFateReply, list_volumes -> VolumeList, query_snapshots {QuerySnapshots} ->
// SnapshotList, delete_snapshots {DeleteSnapshots} -> DeletedSnapshots, release_hold and
// flush_commit_release -> HoldReport.

}  // namespace umbra::rpc
