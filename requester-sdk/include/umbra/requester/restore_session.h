// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// One restore, with VSS's states and call order (IVssBackupComponents). The short way:
//
//   auto bundle = umbra::requester::load_bundle("orders.umbra.xml");
//   auto session = umbra::requester::RestoreSession::connect({});
//   auto report = session->restore(*bundle, {.relocations = {{"/", "/srv/restored"}}});
//
// The long way, every step by name:
//
//   initialize_for_restore
//     -> set_restore_state, enable_/disable_writer...                 (optional)
//     -> gather_writer_metadata
//     -> set_selected_for_restore... -> the other setters             (to taste)
//     -> pre_restore -> gather_writer_status, backup_components       (targets, refusals)
//     -> put the files back
//     -> add_alternative_location_mapping... set_file_restore_status...
//     -> post_restore -> gather_writer_status
//
// There is no abort: to stop after pre_restore, set the files' status to `none` or `failed` and
// call post_restore, so that writers can bring back what they took offline. If this object ends
// before, umbrad tells them (with `failed` where nothing was said).
//
// A call at the wrong time gives bad_state. Other errors that every call may give: coordinator_lost
// (umbrad went away: the session is over), access_denied, async_cancelled (the time limit has
// passed). gather_writer_metadata, pre_restore and post_restore lead to their state also where they
// end with an error, once they have begun; after any other error the state is as it was.
//
// Names and exceptions: see client.h.

#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "umbra/requester/async.h"
#include "umbra/requester/bundle.h"
#include "umbra/requester/export.h"
#include "umbra/requester/types.h"
#include "umbra/result.h"

namespace umbra::requester {

/// VSS's session states, of a restore.
enum class RestoreState : std::uint8_t {
  created,         ///< Nothing called yet.
  initialized,     ///< initialize_for_restore.
  metadata_ready,  ///< gather_writer_metadata.
  prepared,        ///< pre_restore: put the files back now.
  restored,        ///< post_restore.
  lost,            ///< The connection is gone.
  // Between a start_...() and the moment its end is seen:
  gathering,       ///< start_gather_writer_metadata.
  pre_restoring,   ///< start_pre_restore.
  post_restoring,  ///< start_post_restore.
};

/// "metadata_ready" and so on. Static storage.
[[nodiscard]] UMBRA_REQUESTER_EXPORT std::string_view restore_state_name(
    RestoreState state) noexcept;

/// A session. The library starts no threads; calls block, with the bound they name (two minutes
/// where they name none).
///
/// Movable; one that was moved from can only be assigned to or end. After fork() the session stays
/// the parent's: in the child calls give bad_state, and the end of the object changes nothing.
/// Threads: distinct objects are independent; one object: one call at a time, except cancel().
class UMBRA_REQUESTER_EXPORT RestoreSession {
 public:
  static constexpr std::chrono::milliseconds kGatherLimit{300'000};
  static constexpr std::chrono::milliseconds kEventLimit{3'600'000};

  /// As Client::connect().
  [[nodiscard]] static Result<RestoreSession> connect(const ConnectOptions& options = {});

  RestoreSession(RestoreSession&&) noexcept;
  RestoreSession& operator=(RestoreSession&&) noexcept;
  ~RestoreSession();

  [[nodiscard]] RestoreState state() const noexcept;

  // --- the short way --------------------------------------------------------------------------

  /// From `created` to `restored` in one call: copies are mounted (and unmounted), writers prepare,
  /// files are copied beside their places and made durable, renamed to their names, writers check
  /// and recover. docs/architecture.md, "A restore, step by step", has the rules for where files
  /// go.
  ///
  /// All or nothing: if a writer refuses, a file cannot be read, or there is no room, nothing that
  /// was there has changed, no writer is left offline, and the error says why; if replacing itself
  /// fails half-way, the component's status is `failed`. last_report() tells in every case.
  ///
  /// Errors: object_not_found (no such component, its writer does not run, a copy or file is
  /// missing); object_already_exists (files are there, and neither the rules nor `replace` allow to
  /// replace them); not_supported (the method needs what is not given); io_error (also: no space);
  /// a writer's own failure; async_cancelled; those of the single calls.
  [[nodiscard]] Result<RestoreReport> restore(const BackupBundle& bundle,
                                              const RestoreOptions& options);
  [[nodiscard]] const RestoreReport& last_report() const noexcept;

  // --- the long way ---------------------------------------------------------------------------

  /// Errors: invalid_xml_document.
  [[nodiscard]] Result<SessionId> initialize_for_restore(const BackupComponentsDocument& document);
  /// GetSessionId: as the writers and the logs have it. Errors: bad_state (not initialized).
  [[nodiscard]] Result<SessionId> session_id() const;
  /// These three, and gather_writer_metadata(): as BackupSession's.
  [[nodiscard]] Status enable_writer_classes(const std::vector<WriterClassId>& classes);
  [[nodiscard]] Status disable_writer_classes(const std::vector<WriterClassId>& classes);
  [[nodiscard]] Status disable_writer_instances(const std::vector<WriterInstanceId>& instances);
  [[nodiscard]] Status set_restore_state(RestoreType type);
  [[nodiscard]] Status gather_writer_metadata(std::chrono::milliseconds limit = kGatherLimit);
  /// Who is there. For file sets use the documents of the backup, not these.
  [[nodiscard]] Result<std::vector<WriterMetadata>> writer_metadata();

  // Errors of the setters: object_not_found (the component is not in the document or not selected,
  // or its writer does not run); not_supported (the writer's backup schema lacks it).

  /// An instance id in `component` moves it to that live instance (SetSelectedForRestoreEx).
  [[nodiscard]] Status set_selected_for_restore(const ComponentRef& component,
                                                bool selected = true);
  [[nodiscard]] Status add_restore_subcomponent(const ComponentRef& component,
                                                const RestoreSubcomponent& part);
  /// Once. Errors: object_already_exists.
  [[nodiscard]] Status set_restore_options(const ComponentRef& component,
                                           const std::string& options);
  [[nodiscard]] Status set_authoritative_restore(const ComponentRef& component, bool value);
  [[nodiscard]] Status set_roll_forward(const ComponentRef& component, const RollForward& to);
  [[nodiscard]] Status set_restore_name(const ComponentRef& component, const std::string& name);
  /// `location` names a file set of the writer's metadata letter by letter.
  [[nodiscard]] Status add_new_target(const ComponentRef& component,
                                      const AlternateLocation& location);
  [[nodiscard]] Status set_additional_restores(const ComponentRef& component, bool more_follow);
  [[nodiscard]] Status set_ranges_file_path(const ComponentRef& component,
                                            std::uint32_t partial_file, const std::string& path);

  /// PreRestore to the writers of the selected components. A writer that refuses shows in
  /// gather_writer_status() only: do not write its files.
  [[nodiscard]] Status pre_restore(std::chrono::milliseconds limit = kEventLimit);
  /// Says that an alternate location was used.
  [[nodiscard]] Status add_alternative_location_mapping(const ComponentRef& component,
                                                        const AlternateLocation& location);
  [[nodiscard]] Status set_file_restore_status(const ComponentRef& component,
                                               FileRestoreStatus status);
  /// PostRestore to the writers. Errors: writer_not_responding (one went away in between).
  [[nodiscard]] Status post_restore(std::chrono::milliseconds limit = kEventLimit);

  /// As BackupSession's.
  [[nodiscard]] Result<std::vector<WriterStatus>> gather_writer_status();
  /// GetWriterStatus, after start_gather_writer_status() has ended.
  [[nodiscard]] Result<std::vector<WriterStatus>> writer_status();

  // IVssAsync: the same calls as handles (async.h).
  [[nodiscard]] Result<AsyncOperation> start_gather_writer_metadata();
  [[nodiscard]] Result<AsyncOperation> start_pre_restore();
  [[nodiscard]] Result<AsyncOperation> start_post_restore();
  [[nodiscard]] Result<AsyncOperation> start_gather_writer_status();
  /// What recover_set() does; the array's copying takes no notice of a cancel.
  [[nodiscard]] Result<AsyncOperation> start_recover_set(std::uint32_t options = 0);

  /// For copying LUNs back from hardware copies; `flags` must be 0, `destination` that names
  /// nothing means the original. The snapshot is one of the document. Errors: invalid_argument;
  /// object_not_found; snapshot_not_in_set (not in the document); legacy_provider (its provider
  /// cannot do this); volume_not_supported (the destination does not lie on such LUNs);
  /// resync_in_progress (something else is written to the LUN).
  [[nodiscard]] Status add_snapshot_to_recovery_set(const SnapshotId& id, std::uint32_t flags = 0,
                                                    const VolumeRef& destination = {});
  /// Writes whole LUNs over with what was added, which is consumed. `options`: recovery_option.
  /// Once the array copies it goes on whatever becomes of the session. Errors: bad_state (no
  /// snapshot was added); invalid_argument; resync_in_progress; unselected_volume (another volume
  /// lies on a LUN; not with kNoVolumeCheck); missing_disk (a LUN is not visible here): nothing was
  /// written. missing_volume (it did not come back); cannot_revert_diskid; insufficient_storage.
  [[nodiscard]] Status recover_set(std::uint32_t options = 0,
                                   std::chrono::milliseconds limit = kEventLimit);
  /// The document as it is now; what writers asked for is in it after pre_restore.
  [[nodiscard]] Result<BackupComponentsDocument> backup_components();

  /// Makes restore() stop: before the first file is replaced nothing has changed, after that it
  /// goes on to the end. Threads: any; also a signal handler.
  void cancel() noexcept;

 private:
  class Impl;
  explicit RestoreSession(std::unique_ptr<Impl> impl) noexcept;
  std::unique_ptr<Impl> impl_;
};

}  // namespace umbra::requester
