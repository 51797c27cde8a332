// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// One backup, with VSS's states and call order (IVssBackupComponents). The short way:
//
//   auto volume = umbra::requester::resolve_volume("/srv/db");
//   auto session = umbra::requester::BackupSession::connect({});
//   auto set = session->create_snapshot_set({.volumes = {*volume}});
//   // read set->snapshots[0].device_object
//
// The long way, every step by name:
//
//   initialize_for_backup
//     -> set_context, set_backup_state, enable_/disable_writer...   (optional)
//     -> gather_writer_metadata -> writer_metadata, add_component...
//     -> start_snapshot_set -> add_to_snapshot_set...
//     -> prepare_for_backup                              (not in contexts without writers)
//     -> do_snapshot_set -> gather_writer_status
//     -> copy the data -> set_backup_succeeded... -> backup_complete
//   abort_backup at any time; the end of the object ends the session: writers get BackupShutdown
//   and auto-release copies are deleted.
//
// A call at the wrong time gives bad_state and names the call, the state and what would be allowed.
// Other errors that every call may give: coordinator_lost (umbrad went away: the session is over,
// the set, if it was not finished, is aborted), access_denied, async_cancelled (cancel(), or the
// time limit has passed). Where nothing else is said, a call that failed leaves the state as it
// was.
//
// Names and exceptions: see client.h.

#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "umbra/diff_area_management.h"
#include "umbra/requester/async.h"
#include "umbra/requester/enumeration.h"
#include "umbra/requester/export.h"
#include "umbra/requester/types.h"
#include "umbra/result.h"

namespace umbra::requester {

/// VSS's session states (docs/architecture.md); BX of the state table is `failed`.
enum class SessionState : std::uint8_t {
  created,           ///< Nothing called yet.
  initialized,       ///< initialize_for_backup.
  metadata_ready,    ///< gather_writer_metadata.
  set_started,       ///< start_snapshot_set: the machine-wide creation slot is ours.
  prepared,          ///< prepare_for_backup.
  snapshot_created,  ///< do_snapshot_set: the slot is free, the copies can be read.
  completed,         ///< backup_complete.
  failed,            ///< do_snapshot_set failed, or abort_backup.
  lost,              ///< The connection is gone.
  // Between a start_...() and the moment its end is seen:
  gathering,   ///< start_gather_writer_metadata.
  preparing,   ///< start_prepare_for_backup.
  creating,    ///< start_do_snapshot_set.
  completing,  ///< start_backup_complete.
};

/// "set_started" and so on. Static storage.
[[nodiscard]] UMBRA_REQUESTER_EXPORT std::string_view session_state_name(
    SessionState state) noexcept;

/// A session. The library starts no threads; calls block, with the bound they name (two minutes
/// where they name none). Auto-release copies live as long as the object (or its process), so keep
/// it while copying.
///
/// Movable; one that was moved from can only be assigned to or end. After fork() the session stays
/// the parent's: in the child calls give bad_state, and the end of the object changes nothing.
/// Threads: distinct objects are independent; one object: one call at a time, except cancel().
class UMBRA_REQUESTER_EXPORT BackupSession {
 public:
  static constexpr std::chrono::milliseconds kGatherLimit{300'000};
  static constexpr std::chrono::milliseconds kPrepareLimit{900'000};
  static constexpr std::chrono::milliseconds kCompleteLimit{3'600'000};
  static constexpr std::chrono::milliseconds kImportLimit{3'600'000};

  /// As Client::connect().
  [[nodiscard]] static Result<BackupSession> connect(const ConnectOptions& options = {});

  BackupSession(BackupSession&&) noexcept;
  BackupSession& operator=(BackupSession&&) noexcept;
  ~BackupSession();

  [[nodiscard]] SessionState state() const noexcept;

  // --- the short way --------------------------------------------------------------------------

  /// From `created` to `snapshot_created` in one call: writers are asked for their components,
  /// those that lie wholly on the volumes are selected, the set is created under the policy. A
  /// persistent set is then completed too (state `completed`): nothing more need be called. If its
  /// provider went away right after the creation, only the ids of its copies are filled in;
  /// list_snapshots() tells the rest once it is back. A writer that fails at BackupComplete shows
  /// in report.writers and is no failure of the set.
  ///
  /// Blocks at most options.time_limit plus the time that undoing takes. After a failure no copy is
  /// left behind, every frozen writer has been thawed or aborted, the state is `failed`, and
  /// last_report() tells how each writer fared. After coordinator_lost nobody is left to ask: a
  /// persistent set whose confirmation had begun may be there, whole. Errors: those of the single
  /// calls.
  [[nodiscard]] Result<SnapshotSetInfo> create_snapshot_set(const CreateOptions& options);

  // --- the long way ---------------------------------------------------------------------------

  /// `components`: the kept document of a transportable set that import_snapshots() is to bring
  /// in; empty for a backup. Errors: invalid_xml_document.
  [[nodiscard]] Result<SessionId> initialize_for_backup(const std::string& components = {});
  /// GetSessionId: as the writers and the logs have it. Errors: bad_state (not initialized).
  [[nodiscard]] Result<SessionId> session_id() const;

  /// Only these classes take part; without these classes; without these instances. Effective before
  /// gather_writer_metadata only; later accepted and ignored, as in VSS.
  [[nodiscard]] Status enable_writer_classes(const std::vector<WriterClassId>& classes);
  [[nodiscard]] Status disable_writer_classes(const std::vector<WriterClassId>& classes);
  [[nodiscard]] Status disable_writer_instances(const std::vector<WriterInstanceId>& instances);

  /// Once, before the first query(). Default: context::kBackup. context::kAll is for queries and
  /// deletions: no set can be started in it. Errors: unsupported_context.
  [[nodiscard]] Status set_context(std::uint32_t context_and_attributes);
  [[nodiscard]] Status set_backup_state(const BackupState& state);

  /// Identify to every enabled writer; those that do not answer in time are missing in the list.
  [[nodiscard]] Status gather_writer_metadata(std::chrono::milliseconds limit = kGatherLimit);
  /// GetWriterMetadata of each that answered; in memory until the session ends. Errors:
  /// invalid_xml_document (names the writer).
  [[nodiscard]] Result<std::vector<WriterMetadata>> writer_metadata();

  /// Errors: object_not_found (no such writer or component); object_already_exists;
  /// invalid_argument (not to be selected explicitly: its selectable ancestor is).
  [[nodiscard]] Status add_component(const ComponentRef& component);
  /// Words for the component's writer, in its own language. The instance id may be nil. Errors:
  /// object_not_found (was not added).
  [[nodiscard]] Status set_backup_options(const ComponentRef& component,
                                          const std::string& options);
  /// The stamp of the backup that this one is based on, as its document has it. For the component
  /// and those that come with it. Errors: object_not_found (was not added).
  [[nodiscard]] Status set_previous_backup_stamp(const ComponentRef& component,
                                                 const std::string& stamp);

  /// The volumes that the files of these components, and of those that come with them, lie on; also
  /// those mounted below a file set with subdirectories, which a copy of the upper volume does not
  /// show. Errors: object_not_found (no such component); volume_not_supported (names a directory on
  /// no attached volume).
  [[nodiscard]] Result<std::vector<VolumeRef>> volumes_of(
      const std::vector<ComponentRef>& components);

  /// Takes the machine-wide creation slot. Errors: snapshot_set_in_progress (the context names the
  /// holder; after waiting for `queue_limit`).
  [[nodiscard]] Result<SnapshotSetId> start_snapshot_set(
      std::chrono::milliseconds queue_limit = std::chrono::milliseconds{0});
  /// Errors: object_not_found; object_already_exists; volume_not_supported;
  /// provider_not_registered; nested_volume_limit; maximum_number_of_volumes_reached;
  /// insufficient_storage.
  [[nodiscard]] Result<AddedSnapshot> add_to_snapshot_set(const VolumeRef& volume,
                                                          const ProviderId& provider = {});

  /// PrepareForBackup to the writers. Vetoes are seen in gather_writer_status() only, as in VSS.
  [[nodiscard]] Status prepare_for_backup(std::chrono::milliseconds limit = kPrepareLimit);

  /// Freeze, commit, thaw, post-snapshot. After an error the copies are gone, every writer has been
  /// thawed or aborted, and the state is `failed`. Errors: the writer's or provider's, with a
  /// context that names writer and phase; flush_writes_timeout; hold_writes_timeout;
  /// async_cancelled.
  [[nodiscard]] Status do_snapshot_set(const DoOptions& options = {});
  /// Of the last do_snapshot_set, also of a failed one.
  [[nodiscard]] const SetReport& last_report() const noexcept;

  /// Asks umbrad how each writer fares in this session (GetWriterStatusEx: with the application's
  /// own code and words).
  [[nodiscard]] Result<std::vector<WriterStatus>> gather_writer_status();
  /// GetWriterStatus, after start_gather_writer_status() has ended.
  [[nodiscard]] Result<std::vector<WriterStatus>> writer_status();

  /// Errors: object_not_found (was not added).
  [[nodiscard]] Status set_backup_succeeded(const ComponentRef& component, bool succeeded);
  /// BackupComplete to the writers: the data is safe. Errors: bad_state (also where nobody has said
  /// by set_backup_succeeded() how the backup of a component went: its writer would take that for a
  /// failure); unexpected_writer_error (a writer failed; the session is `completed` all the same).
  [[nodiscard]] Status backup_complete(std::chrono::milliseconds limit = kCompleteLimit);

  /// Aborts what is under way; does nothing where nothing is. State `failed` if there was.
  [[nodiscard]] Status abort_backup();

  // --- IVssAsync: the same calls as handles (async.h) -------------------------------------------

  // Errors: those of the call's beginning; what it comes to, the handle says. While one runs, calls
  // that would disturb it give bad_state and name it. DoOptions' time limit and progress are not
  // looked at: waiting is the caller's.
  [[nodiscard]] Result<AsyncOperation> start_gather_writer_metadata();
  [[nodiscard]] Result<AsyncOperation> start_prepare_for_backup();
  [[nodiscard]] Result<AsyncOperation> start_do_snapshot_set(const DoOptions& options = {});
  [[nodiscard]] Result<AsyncOperation> start_gather_writer_status();
  [[nodiscard]] Result<AsyncOperation> start_backup_complete();
  [[nodiscard]] Result<AsyncOperation> start_import_snapshots();
  [[nodiscard]] Result<AsyncOperation> start_break_snapshot_set(const SnapshotSetId& set,
                                                                std::uint32_t flags = 0);
  /// A handle for the revert of a volume that is under way, whoever began it; several sessions may
  /// have one. async_finished: the volume is what it was; io_error: the revert has stopped, see
  /// Management::abandon_revert(); revert_volume_lost: the volume was detached, and attaching it
  /// goes on. cancel() gives bad_state: a revert can be neither stopped nor undone. wait() and
  /// query_status() also give provider_not_registered while the provider is away: ask again.
  /// Errors: those of query_revert_status().
  [[nodiscard]] Result<AsyncOperation> start_query_revert_status(const VolumeRef& volume);

  // --- documents and queries ------------------------------------------------------------------

  /// The Backup Components Document as it is now, typed, and (SaveAsXML) as text to be kept with
  /// the backup.
  [[nodiscard]] Result<BackupComponentsDocument> backup_components();
  [[nodiscard]] Result<std::string> save_as_xml();
  /// GetWriterComponents: the writers' parts of the document, as they are now. Take them anew after
  /// each event to the writers.
  [[nodiscard]] Result<std::vector<WriterComponents>> writer_components();
  /// All that has to be kept to restore this backup (save_bundle() writes it): after
  /// prepare_for_backup, best after backup_complete. Volumes that are not mounted in this process's
  /// mount namespace have no mount points in it. Errors: bad_state.
  [[nodiscard]] Result<BackupBundle> make_bundle();

  [[nodiscard]] Result<SnapshotList> list_snapshots(const SnapshotQuery& query = {});
  /// Errors: object_not_found (also before the set is created).
  [[nodiscard]] Result<SnapshotProperties> snapshot_properties(const SnapshotId& id);
  /// Query: created copies of the session's context (context::kAll: all), or providers. Nothing
  /// found is no error. Errors: invalid_argument (neither snapshot nor provider).
  [[nodiscard]] Result<ObjectEnumeration> query(ObjectType type);
  /// Whether a copy of the volume can be made in the session's context, by `provider` or (nil) by
  /// any; also when a count limit is reached now. Errors: object_not_found;
  /// provider_not_registered; unsupported_context (context::kAll).
  [[nodiscard]] Result<bool> is_volume_supported(const VolumeRef& volume,
                                                 const ProviderId& provider = {});

  // --- copies of any session ---------------------------------------------------------------------

  /// As Client::delete_snapshots.
  [[nodiscard]] Result<DeletedSnapshots> delete_snapshots(const Guid& id, ObjectType type,
                                                          bool force = false);
  /// ExposeSnapshot: mounts a persistent copy, read-only, where everybody may see it; gives the
  /// directory. Errors: object_not_found; unsupported_context (not persistent, or
  /// client-accessible); invalid_argument; volume_in_use (exposed already); not_supported
  /// (remotely).
  [[nodiscard]] Result<std::string> expose_snapshot(const SnapshotId& id,
                                                    const ExposeOptions& options = {});
  /// Errors: object_not_found (also: not exposed); volume_in_use (files are open).
  [[nodiscard]] Status unexpose_snapshot(const SnapshotId& id);
  /// Brings in the set of the document that initialize_for_backup() was given; one import at a time
  /// on a machine, and each set once. What could be had stays also after an error. Errors:
  /// bad_state (it was given none); nontransportable_bcd; snapshot_set_in_progress (another
  /// import); no_snapshots_imported; some_snapshots_not_imported (LUNs of some did not arrive);
  /// error_some_snapshots_not_imported (a provider failed, others had theirs).
  [[nodiscard]] Status import_snapshots(std::chrono::milliseconds limit = kImportLimit);
  /// BreakSnapshotSet and, with `flags` (break_flag), BreakSnapshotSetEx: an imported set becomes
  /// ordinary volumes. Errors: invalid_argument (flags that exclude each other); object_not_found;
  /// provider_veto (not an imported set of hardware copies); break_revert_id_failed (an original
  /// LUN is visible here).
  [[nodiscard]] Status break_snapshot_set(const SnapshotSetId& set, std::uint32_t flags = 0,
                                          std::chrono::milliseconds limit = kImportLimit);
  /// Returns when the revert has started; it goes on whatever becomes of the session. Admin. No
  /// writer hears of it. Errors: object_not_found; unsupported_context
  /// (not persistent); volume_in_use; revert_in_progress; those of
  /// DiffAreaManagement::revert_to_snapshot.
  [[nodiscard]] Status revert_to_snapshot(const SnapshotId& id, bool force_dismount = false);
  /// How far the revert of a volume is. Errors: object_not_found (none is under way: it has
  /// finished, or there was none).
  [[nodiscard]] Result<RevertInfo> query_revert_status(const VolumeRef& volume);
  /// Reserved in VSS and never offered. Errors: not_implemented.
  [[nodiscard]] Status pre_fast_recovery(const SnapshotSetId& set, std::uint32_t flags = 0);
  [[nodiscard]] Status fast_recovery(const SnapshotSetId& set, std::uint32_t flags = 0);

  /// Makes the call in progress return async_cancelled once umbrad has undone it; idempotent; no
  /// effect on a call that does not wait for an operation. Threads: any; also a signal handler.
  void cancel() noexcept;

 private:
  class Impl;
  explicit BackupSession(std::unique_ptr<Impl> impl) noexcept;
  std::unique_ptr<Impl> impl_;
};

}  // namespace umbra::requester
