// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// Writer SDK: lets an application take part in snapshots, so that its data is consistent in them.
//
//   class LedgerWriter final : public umbra::writer::Writer { ... };
//   LedgerWriter writer(journal);
//   auto session =
//       umbra::writer::Session::connect(writer, {.class_id = kLedgerId, .name = "ledger"});
//   auto ended = session->run();                     // until request_stop()
//
// The events of one backup, in order; any but the first may be missing:
//
//   on_prepare_for_backup -> on_prepare_for_snapshot -> on_freeze -> on_thaw -> on_post_snapshot
//        |                        |                        |            -> on_backup_complete
//        +------------------------+------- on_abort <------+            -> on_backup_shutdown
//   slow work:  yes               yes                      NO   no      yes
//   may refuse: yes               yes                      yes  (fails) (reported)
//
// Those of a restore, for a writer that has a component selected for it:
//
//   on_pre_restore -> (the requester puts the files back) -> on_post_restore
//
// What to hold on to:
//   * Between on_freeze and on_thaw every application on these volumes waits for you: do the slow
//     work in on_prepare_for_snapshot, in on_freeze only stop writing.
//   * on_thaw or on_abort follows every on_freeze, also when umbrad dies or does not answer: the
//     SDK thaws by itself when the freeze window ends. on_abort may follow on_thaw, and may repeat.
//   * Callbacks of one backup come one after the other, on a thread of the SDK that belongs to that
//     backup; another backup's may run at the same time. on_identify may come at any moment.
//   * on_post_restore follows every on_pre_restore that succeeded, whatever happens in between:
//     what on_pre_restore took offline comes back there, or stays offline if the files are not
//     whole. (Not if the restore rules say WriterRestore::if_replace_fails and nothing had to be
//     moved.)
//   * What a callback throws is caught and reported as a failure that is not worth retrying.
//
// Calls are named as VSS's, in our spelling, and where one has another name its comment gives
// VSS's. Nothing is thrown but std::bad_alloc. No signal is sent, no handler changed.

#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "umbra/documents.h"
#include "umbra/ids.h"
#include "umbra/log_sink.h"
#include "umbra/result.h"
#include "umbra/vss.h"
#include "umbra/writer/export.h"

namespace umbra::writer {

/// A writer's failure in VSS's terms. Codes: writererror_inconsistentsnapshot, _outofresources,
/// _timeout, _retryable, _nonretryable, _partial_failure; any other is reported as _nonretryable.
struct Failure {
  Errc code = Errc::writererror_nonretryable;
  std::uint32_t application_code = 0;
  std::string message{};  ///< For the administrator: what is wrong and what to do.
};

struct AffectedVolume {
  VolumeId volume_id{};
  std::string name{};
  std::uint64_t device = 0;  ///< Device number; 0: it is served without a block device.
  SnapshotId snapshot_id{};
};

/// Names a component of this writer.
struct ComponentName {
  std::string logical_path{};
  std::string name{};
};

/// What a writer may ask and say during an event. Valid during the callback only.
///
/// Threads: the callback's thread, except stop_requested() and time_left().
class UMBRA_WRITER_EXPORT Context {
 public:
  [[nodiscard]] const SessionId& session_id() const noexcept;
  /// GetCurrentLevel: the one that the writer registered with.
  [[nodiscard]] ApplicationLevel application_level() const noexcept;
  /// GetIdentifyInformation: what this writer's on_identify() described for this backup, also if it
  /// has described something else to somebody since. Null in all but on_prepare_for_backup,
  /// on_prepare_for_snapshot and on_post_snapshot, and with an old umbrad that does not say for
  /// which backup it asks.
  [[nodiscard]] const WriterMetadataDocument* metadata() const noexcept;
  /// GetCurrentSnapshotSetId. Nil outside a snapshot set.
  [[nodiscard]] const SnapshotSetId& snapshot_set_id() const noexcept;
  /// GetContext: context and attributes (umbra/vss.h); final from on_prepare_for_snapshot on.
  [[nodiscard]] std::uint32_t snapshot_context() const noexcept;
  /// GetBackupType. Treat what you do not support as BackupType::full.
  [[nodiscard]] BackupType backup_type() const noexcept;
  /// AreComponentsSelected. False: whole volumes are backed up, and components() is null.
  [[nodiscard]] bool component_mode() const noexcept;
  /// IsBootableSystemStateBackedUp.
  [[nodiscard]] bool bootable_system_state() const noexcept;
  /// IsPartialFileSupportEnabled.
  [[nodiscard]] bool partial_file_support() const noexcept;
  /// GetRestoreType. In a restore; treat `undefined` as `by_copy`.
  [[nodiscard]] RestoreType restore_type() const noexcept;

  /// GetCurrentVolumeArray: the volumes of the set, complete from on_prepare_for_snapshot to
  /// on_post_snapshot.
  [[nodiscard]] const std::vector<AffectedVolume>& volumes() const noexcept;
  /// Whether the file or directory (it need not exist) lies on a volume of the set, seen from this
  /// process's mount namespace.
  [[nodiscard]] bool is_path_affected(const std::string& path) const;
  /// GetSnapshotDeviceName: where the copy of a volume can be read, in on_post_snapshot also
  /// written, so that the application can recover its data in the copy. `volume`: its name, or a
  /// path on it. Errors: bad_state (not in on_post_snapshot); object_not_found (not in the set).
  [[nodiscard]] Result<std::string> snapshot_device(const std::string& volume) const;

  /// IVssWriterComponents: this writer's part of the backup, the components that were selected.
  /// Null in volume mode.
  ///
  /// In a restore: the components of the backup that is restored, with what on_post_snapshot noted
  /// then (backup_metadata, backup_stamp, partial_files) and what is asked now. Only those with
  /// `selected_for_restore` are to be restored; the requester's wishes are in restore_options,
  /// restore_subcomponents (if any: only these parts), new_targets, additional_restores (true: more
  /// of a chain follow, do not recover yet), authoritative_restore, roll_forward and restore_name.
  /// In on_post_restore also what was done: file_restore_status (only `all` means whole;
  /// `undefined` that nobody can say, since umbrad was lost), alternate_locations and new_targets.
  [[nodiscard]] const WriterComponents* components() const noexcept;

  // IVssComponent: changes to the part, in on_prepare_for_backup, on_prepare_for_snapshot (no
  // files) and on_post_snapshot; those of failures also in on_pre_restore and on_post_restore.
  // Errors of each: bad_state (elsewhere, or in volume mode); object_not_found (not selected);
  // invalid_argument. After an error nothing has changed.

  /// Private text that comes back at restore. Errors: object_already_exists (once only).
  [[nodiscard]] Status set_backup_metadata(const ComponentName& component, std::string metadata);
  /// Marks this backup as the base of later incremental ones.
  [[nodiscard]] Status set_backup_stamp(const ComponentName& component, std::string stamp);
  /// SetPrepareForBackupFailureMsg, SetPostSnapshotFailureMsg, SetPreRestoreFailureMsg and
  /// SetPostRestoreFailureMsg, as the event is.
  [[nodiscard]] Status set_failure_message(const ComponentName& component, std::string text);
  /// IVssComponentEx2::SetFailure. With a failure of code writererror_partial_failure: which
  /// component failed.
  [[nodiscard]] Status set_component_failure(const ComponentName& component,
                                             const Failure& failure);
  [[nodiscard]] Status add_partial_file(const ComponentName& component, const PartialFile& file);
  /// AddDifferencedFilesByLastModifyTime.
  [[nodiscard]] Status add_differenced_file(const ComponentName& component,
                                            const DifferencedFile& file);

  // Changes to a component that is to be restored, in on_pre_restore only. Errors: as above.

  /// Where its files go, instead of what the restore method says.
  [[nodiscard]] Status set_restore_target(const ComponentName& component, RestoreTarget target);
  /// With RestoreTarget::directed: where byte ranges of a file go. Files that no directed target
  /// names go to their own place.
  [[nodiscard]] Status add_directed_target(const ComponentName& component,
                                           const DirectedTarget& target);
  /// Private text that on_post_restore sees. Errors: object_already_exists (once only).
  [[nodiscard]] Status set_restore_metadata(const ComponentName& component, std::string metadata);

  /// SetWriterFailure: what the status of this writer shows. With an error returned from the
  /// callback it is the reason of the veto; with success it is reported and the backup goes on; in
  /// on_thaw it fails the set. The last call of an event counts; Errc::ok takes back what was
  /// reported before. A code that is not one of Failure's counts as writererror_nonretryable.
  void report_failure(Failure failure);

  /// True once going on is of no use: the window has ended, umbrad is gone, the session is
  /// stopping. Long callbacks ask every now and then, and return. Threads: any.
  [[nodiscard]] bool stop_requested() const noexcept;
  /// IsWriterShuttingDown: Session::request_stop() or stop() was called. A long callback then fails
  /// with writererror_nonretryable and returns. Threads: any.
  [[nodiscard]] bool is_shutting_down() const noexcept;
  /// Until the answer to this event is due; in on_freeze, until the freeze window ends;
  /// milliseconds::max(): nobody waits. Threads: any.
  [[nodiscard]] std::chrono::milliseconds time_left() const noexcept;

  class Impl;
  explicit Context(Impl& impl) noexcept : impl_(impl) {}
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

 private:
  Impl& impl_;
};

/// IVssCreateWriterMetadata: describes the writer's data, in on_identify. A call that fails leaves
/// the description as it was. Valid during the callback only, on its thread.
class UMBRA_WRITER_EXPORT MetadataBuilder {
 public:
  /// VSS_BACKUP_SCHEMA, a bit mask. Default 0: full backups only.
  void set_backup_schema(std::uint32_t schema) noexcept;
  /// SetRestoreMethod. Errors: bad_state (set already); invalid_argument (a method that needs a
  /// service without one).
  [[nodiscard]] Status set_restore_rules(RestoreRules rules);
  /// Where files of a set may go if their own place is taken: after set_restore_rules(), of a file
  /// set that is declared by the end of on_identify. Errors: object_not_found (no rules yet);
  /// invalid_argument (a relative destination).
  [[nodiscard]] Status add_alternate_location_mapping(AlternateLocation location);
  /// Errors: object_already_exists (path and name are taken); invalid_argument (the context says
  /// what is wrong).
  [[nodiscard]] Status add_component(ComponentInfo component);
  // What may as well be said in add_component() at once. Errors, of all four: object_not_found (no
  // such component yet); invalid_argument (the other type of component; as add_component()).
  [[nodiscard]] Status add_files_to_file_group(const ComponentName& group, FileSet files);
  [[nodiscard]] Status add_database_files(const ComponentName& database, FileSet files);
  [[nodiscard]] Status add_database_log_files(const ComponentName& database, FileSet files);
  [[nodiscard]] Status add_component_dependency(const ComponentName& component,
                                                ComponentDependency dependency);
  /// Files that are never to be backed up. Errors: invalid_argument.
  [[nodiscard]] Status add_exclude_files(FileSet files);
  /// Files that this writer deletes in the copy, in on_post_snapshot. Errors: invalid_argument.
  [[nodiscard]] Status add_exclude_files_from_snapshot(FileSet files);

  /// What has been described so far.
  [[nodiscard]] std::string save_as_xml() const;

  explicit MetadataBuilder(WriterMetadataDocument& document) noexcept : document_(document) {}
  MetadataBuilder(const MetadataBuilder&) = delete;
  MetadataBuilder& operator=(const MetadataBuilder&) = delete;

 private:
  [[nodiscard]] Status change(const char* call, const ComponentName& name,
                              const std::function<Status(ComponentInfo&)>& edit);
  WriterMetadataDocument& document_;
};

/// The application's side. An error returned is a veto: its context is shown to the administrator,
/// its code if it is one of Failure's (or what report_failure() said).
class UMBRA_WRITER_EXPORT Writer {
 public:
  virtual ~Writer();

  /// Describe the data. May be asked by anybody at any time, also between on_freeze and on_thaw of
  /// a backup: answer quickly and the same every time. An error leaves the writer out of the
  /// backup.
  [[nodiscard]] virtual Status on_identify(MetadataBuilder& metadata);
  /// A backup begins; no volume is known yet.
  [[nodiscard]] virtual Status on_prepare_for_backup(Context& context);
  /// The slow work: checkpoint, drain queues.
  [[nodiscard]] virtual Status on_prepare_for_snapshot(Context& context) = 0;
  /// Stop writing and return.
  [[nodiscard]] virtual Status on_freeze(Context& context) = 0;
  /// Write again.
  virtual void on_thaw(Context& context) noexcept = 0;
  /// The copies exist and are writable: recover the data in them, note stamps. Optional.
  [[nodiscard]] virtual Status on_post_snapshot(Context& context);
  /// Undo everything; the backup is over. Write again if frozen.
  virtual void on_abort(Context& context) noexcept = 0;
  /// The data is safe: logs may be truncated if components()->...succeeded says so.
  [[nodiscard]] virtual Status on_backup_complete(Context& context);
  /// The requester is gone, with or without on_backup_complete. Nil if no set was made.
  virtual void on_backup_shutdown(const SnapshotSetId& set) noexcept;

  /// Files of the selected components will be written: take them offline and close them. An error
  /// keeps the requester from writing any; on_post_restore does not come then. What was done before
  /// the error is this callback's to undo.
  [[nodiscard]] virtual Status on_pre_restore(Context& context);
  /// The requester is done, or gave up, or is gone: look at file_restore_status, check and recover
  /// the data, bring it online. An error is shown to the administrator.
  [[nodiscard]] virtual Status on_post_restore(Context& context);
};

struct Options {
  WriterClassId class_id{};  ///< Constant, made once by the author (uuidgen).
  std::string name{};        ///< Constant; not translated.
  std::string instance_name{};
  std::uint32_t version_major = 0;
  std::uint32_t version_minor = 0;
  UsageType usage = UsageType::user_data;
  SourceType source = SourceType::other;
  ApplicationLevel level = ApplicationLevel::front_end;
  /// Longest time from freeze to thaw, 1 ms to 60 s. Then the SDK calls on_abort.
  std::chrono::milliseconds freeze_window{60'000};
  /// VSS_SUBSCRIBE_MASK (umbra::subscribe): which events are wanted. Without backup events umbrad
  /// makes copies as if the writer were not there; without restore events its files are put back
  /// without it.
  std::uint32_t subscription = subscribe::kAll;
  /// SubscribeEx: how long run() and stop() wait for callbacks under way.
  std::chrono::milliseconds stop_limit{60'000};

  std::string socket_path{};  ///< Empty: $UMBRA_RUN_DIR/umbrad.sock, else the system's, else ours.
  std::chrono::milliseconds connect_limit{5'000};
  /// False: connect() succeeds without umbrad, and the writer registers once umbrad is there.
  bool coordinator_required = true;
  LogSink log{};  ///< Empty: silent. The SDK writes nowhere else.
};

/// A registration with umbrad. It reconnects by itself when umbrad restarts (as a new instance).
///
/// Movable; one that was moved from can only be assigned to or end. The SDK's threads: one for I/O,
/// and one per backup in progress, all with every signal blocked. After fork() the child must not
/// use it: calls give bad_state, and its destructor does nothing.
/// Threads: connect(), run() and stop(): any, not from inside a callback.
class UMBRA_WRITER_EXPORT Session {
 public:
  /// Registers `writer`, which must outlive the session. Blocks for connect_limit at most. Errors:
  /// coordinator_lost; access_denied (not in the writers' group); version_mismatch;
  /// writer_already_subscribed; invalid_argument (names the option); out_of_memory (no thread can
  /// be started).
  [[nodiscard]] static Result<Session> connect(Writer& writer, Options options);

  Session(Session&&) noexcept;
  Session& operator=(Session&&) noexcept;
  /// stop(), without a bound on how long callbacks may take: they use `writer`.
  ~Session();

  /// Blocks until request_stop(), then stop(). Errors: as stop(); bad_state (after fork()).
  [[nodiscard]] Status run();
  /// Makes run() return; callbacks see stop_requested(). Threads: any; also a signal handler.
  void request_stop() noexcept;
  /// Ends the registration: no new events; backups under way are aborted (on_abort) once their
  /// callback has returned. Blocks for `limit` (stop_limit) at most. Idempotent. Errors:
  /// writererror_timeout (a callback still runs; call again); bad_state (after fork(), or from
  /// inside a callback).
  [[nodiscard]] Status stop();
  [[nodiscard]] Status stop(std::chrono::milliseconds limit);

  /// Whether umbrad knows the writer now and will tell it of events. Threads: any.
  [[nodiscard]] bool is_registered() const noexcept;
  /// Of the present connection; nil without one. Threads: any.
  [[nodiscard]] WriterInstanceId instance_id() const;

 private:
  class Impl;
  explicit Session(std::unique_ptr<Impl> impl) noexcept;
  std::unique_ptr<Impl> impl_;
};

}  // namespace umbra::writer
