// SPDX-License-Identifier: Apache-2.0
//
// What the commands ask of umbrad, as an interface: the requester SDK implements it (service_sdk),
// tests double it. Calls and errors are those of umbra/requester/client.h and backup_session.h.

#pragma once

#include <memory>
#include <string>
#include <vector>

#include "umbra/requester/file_list.h"
#include "umbra/requester/management.h"
#include "umbra/requester/types.h"

namespace umbra::cli {

class Service {
 public:
  virtual ~Service() = default;

  [[nodiscard]] virtual Result<VolumeRef> resolve(const std::string& text) = 0;
  [[nodiscard]] virtual Result<requester::VolumeList> volumes() = 0;
  [[nodiscard]] virtual Result<requester::SnapshotList> snapshots(bool incomplete) = 0;
  [[nodiscard]] virtual Result<std::vector<requester::WriterInfo>> writers() = 0;
  [[nodiscard]] virtual Result<std::vector<requester::ProviderInfo>> providers() = 0;
  [[nodiscard]] virtual Result<requester::CoordinatorStatus> status() = 0;
  [[nodiscard]] virtual Result<requester::DeletedSnapshots> remove(const Guid& id, ObjectType type,
                                                                   bool force) = 0;
  [[nodiscard]] virtual Result<requester::MountedSnapshot> mount(
      const SnapshotId& id, const requester::MountOptions& options) = 0;
  [[nodiscard]] virtual Status unmount(const SnapshotId& id) = 0;
  [[nodiscard]] virtual Result<requester::AttachedVolume> attach(
      const requester::AttachOptions& options) = 0;
  [[nodiscard]] virtual Status detach(const VolumeRef& volume) = 0;
  [[nodiscard]] virtual Result<requester::AbortedSet> abort(const std::string& reason) = 0;
  [[nodiscard]] virtual Status register_provider(const ProviderProperties& properties) = 0;
  [[nodiscard]] virtual Status unregister_provider(const ProviderId& id, bool force) = 0;
  /// Nil: the newest.
  [[nodiscard]] virtual Result<requester::SetTrace> trace(const SnapshotSetId& set) = 0;
  [[nodiscard]] virtual Result<std::vector<requester::SetTrace>> traces() = 0;

  // Management of the system provider's diff areas: umbra/requester/management.h.
  [[nodiscard]] virtual Result<std::vector<SupportedVolume>> supported_volumes(
      std::uint32_t context) = 0;
  [[nodiscard]] virtual Result<std::vector<DiffAreaProperties>> diff_areas(
      const VolumeRef& volume) = 0;
  [[nodiscard]] virtual Result<std::vector<DiffAreaProperties>> diff_areas_on(
      const std::string& diff_volume) = 0;
  [[nodiscard]] virtual Result<std::vector<DiffVolumeProperties>> diff_volumes(
      const VolumeRef& volume) = 0;
  [[nodiscard]] virtual Status add_diff_area(const DiffAreaRef& area,
                                             std::int64_t maximum_bytes) = 0;
  [[nodiscard]] virtual Result<OperationId> change_maximum(const DiffAreaRef& area,
                                                           std::int64_t maximum_bytes,
                                                           bool is_volatile) = 0;
  [[nodiscard]] virtual Result<OperationId> move_area(const DiffAreaRef& area,
                                                      const std::string& to,
                                                      std::uint64_t bytes_per_second) = 0;
  [[nodiscard]] virtual Result<OperationId> delete_unused(const std::string& diff_volume) = 0;
  [[nodiscard]] virtual Result<VolumeProtectionInfo> protection(const VolumeRef& volume) = 0;
  [[nodiscard]] virtual Status set_protection(const VolumeRef& volume, ProtectionLevel level) = 0;
  [[nodiscard]] virtual Result<OperationId> clear_fault(const VolumeRef& volume) = 0;
  [[nodiscard]] virtual Status retain(const SnapshotId& snapshot, std::int64_t until_filetime) = 0;
  [[nodiscard]] virtual Result<SnapshotDelta> changed(const SnapshotId& older,
                                                      const SnapshotId& younger,
                                                      std::uint64_t first_block) = 0;
  [[nodiscard]] virtual Result<OperationId> scrub(const VolumeRef& volume,
                                                  std::uint64_t bytes_per_second) = 0;
  /// ShouldBlockRevert, of the copy's volume.
  [[nodiscard]] virtual Result<bool> writers_block_revert(const SnapshotId& snapshot) = 0;
  [[nodiscard]] virtual Result<OperationId> revert(const SnapshotId& snapshot, bool force) = 0;
  [[nodiscard]] virtual Result<std::vector<RevertInfo>> reverts(const VolumeRef& volume) = 0;
  [[nodiscard]] virtual Status abandon_revert(const VolumeRef& volume) = 0;
  [[nodiscard]] virtual Result<std::vector<SnapshotProperties>> copies_of(
      const VolumeRef& volume) = 0;
  [[nodiscard]] virtual Result<CheckpointProperties> create_checkpoint(const SnapshotId& snapshot,
                                                                       const std::string& name) = 0;
  [[nodiscard]] virtual Result<std::vector<CheckpointProperties>> checkpoints(
      const VolumeRef& volume) = 0;
  [[nodiscard]] virtual Status delete_checkpoint(const CheckpointId& checkpoint) = 0;
  [[nodiscard]] virtual Result<SnapshotDelta> changes(const Guid& since, const SnapshotId& until,
                                                      std::uint64_t first_block) = 0;
  [[nodiscard]] virtual Result<std::vector<OperationInfo>> operations() = 0;
  [[nodiscard]] virtual Result<OperationInfo> wait_operation(const OperationId& operation,
                                                             std::chrono::milliseconds limit) = 0;
  [[nodiscard]] virtual Result<OperationInfo> cancel_operation(const OperationId& operation) = 0;
  [[nodiscard]] virtual Result<requester::EventPage> events(const requester::EventQuery& query) = 0;
  /// FILETIME.
  [[nodiscard]] virtual std::int64_t now() = 0;

  /// Creates a set in a session of its own, which lives until finish(). `report` is filled in any
  /// case. An interrupt (Ctrl-C) makes it return async_cancelled once everything is undone.
  [[nodiscard]] virtual Result<requester::SnapshotSetInfo> create(
      const requester::CreateOptions& options, requester::SetReport& report) = 0;
  /// Keeps what is needed to restore the set that create() made; load_documents() reads it.
  /// A signal has come while it was created that came too late to prevent it.
  [[nodiscard]] virtual bool was_interrupted() const noexcept = 0;
  [[nodiscard]] virtual Status save_documents(const std::string& path) = 0;
  [[nodiscard]] virtual Result<BackupBundle> load_documents(const std::string& path) = 0;
  /// umbra/requester/file_list.h.
  [[nodiscard]] virtual Result<requester::FileListSummary> list_files(
      const BackupBundle& bundle, const requester::FileListOptions& options,
      const requester::OnListedFile& on_file) = 0;
  /// RestoreSession::restore() in a session of its own; `report` is filled in any case. An
  /// interrupt makes it return async_cancelled, as long as nothing has been replaced.
  [[nodiscard]] virtual Status restore(const BackupBundle& bundle,
                                       const requester::RestoreOptions& options,
                                       requester::RestoreReport& report) = 0;
  /// Tells the writers whether the data is safe, and ends the session: auto-release copies go.
  [[nodiscard]] virtual Status finish(const requester::SnapshotSetInfo& set, bool succeeded) = 0;
};

/// The requester SDK; connects at the first call that needs umbrad. An empty socket path means the
/// SDK's default.
[[nodiscard]] std::unique_ptr<Service> make_sdk_service(const std::string& socket_path);

}  // namespace umbra::cli
