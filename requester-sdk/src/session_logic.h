// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// A backup session's states and call order (requester-and-coordinator 2.1, 2.9) over a Link. It
// refuses what the state does not allow before anything is sent, so that a mistake has the same
// answer whatever umbrad thinks; umbrad checks everything again. No socket, thread or clock of its
// own.
//
//   session_calls.cc   which call in which state
//   session_logic.cc   the calls of a backup, step by step
//   session_create.cc  all of them in one call
//   session_copies.cc  copies beyond its own set

#pragma once

#include <functional>
#include <string>
#include <vector>

#include "requester-sdk/src/link.h"
#include "requester-sdk/src/mounts.h"
#include "requester-sdk/src/operations.h"
#include "umbra/diff_area_management.h"
#include "umbra/requester/backup_session.h"

namespace umbra::requester {

class SessionLogic {
 public:
  /// Whether a directory of a writer's file set lies on the device with this number.
  using DeviceOf = std::function<std::uint64_t(const std::string& directory)>;

  using MountsOf = std::function<std::vector<Mount>()>;

  /// The link must outlive the object.
  SessionLogic(Link& link, DeviceOf device_of, MountsOf mounts = own_mounts)
      : link_(link),
        operations_(link),
        device_of_(std::move(device_of)),
        mounts_(std::move(mounts)) {}

  [[nodiscard]] SessionState state() const noexcept { return state_; }
  Result<SnapshotSetInfo> create_snapshot_set(const CreateOptions& options);
  Result<SessionId> initialize_for_backup(const std::string& components = {});
  [[nodiscard]] Result<SessionId> session_id() const;
  Status select_writers(std::string_view call, std::vector<Guid> ids);
  Status set_context(std::uint32_t context_and_attributes);
  Status set_backup_state(const BackupState& state);
  Status gather_writer_metadata(std::chrono::milliseconds limit, const OnProgress& progress = {});
  Result<std::vector<WriterMetadata>> writer_metadata();
  Status add_component(const ComponentRef& component);
  /// set_backup_options, set_previous_backup_stamp.
  Status set_component_text(std::string_view call, const ComponentRef& component,
                            const std::string& text);
  Result<std::vector<VolumeRef>> volumes_of(const std::vector<ComponentRef>& components);
  Result<SnapshotSetId> start_snapshot_set(std::chrono::milliseconds queue_limit);
  Result<AddedSnapshot> add_to_snapshot_set(const VolumeRef& volume, const ProviderId& provider);
  Status prepare_for_backup(std::chrono::milliseconds limit, const OnProgress& progress = {});
  Status do_snapshot_set(const DoOptions& options);
  [[nodiscard]] const SetReport& last_report() const noexcept { return report_; }
  Result<std::vector<WriterStatus>> gather_writer_status();
  Result<std::vector<WriterStatus>> writer_status();
  Status set_backup_succeeded(const ComponentRef& component, bool succeeded);
  Status backup_complete(std::chrono::milliseconds limit, const OnProgress& progress = {});
  Status abort_backup();
  Result<std::string> components_xml(bool for_saving);
  Result<std::vector<WriterComponents>> writer_components();

  Result<AsyncOperation> start_gather_writer_metadata();
  Result<AsyncOperation> start_prepare_for_backup();
  Result<AsyncOperation> start_do_snapshot_set(const DoOptions& options);
  Result<AsyncOperation> start_gather_writer_status();
  Result<AsyncOperation> start_backup_complete();

  // session_copies.cc
  Result<SnapshotList> list_snapshots(const SnapshotQuery& query);
  Result<ObjectEnumeration> query(ObjectType type);
  Result<SnapshotProperties> snapshot_properties(const SnapshotId& id);
  Result<bool> is_volume_supported(const VolumeRef& volume, const ProviderId& provider);
  Result<DeletedSnapshots> delete_snapshots(const Guid& id, ObjectType type, bool force);
  Result<std::string> expose_snapshot(const SnapshotId& id, const ExposeOptions& options);
  Status unexpose_snapshot(const SnapshotId& id);
  Status import_snapshots(std::chrono::milliseconds limit, const OnProgress& progress = {});
  Result<AsyncOperation> start_import_snapshots();
  Status break_snapshot_set(const SnapshotSetId& set, std::uint32_t flags,
                            std::chrono::milliseconds limit);
  Result<AsyncOperation> start_break_snapshot_set(const SnapshotSetId& set, std::uint32_t flags);
  Status revert_to_snapshot(const SnapshotId& id, bool force_dismount);
  Result<RevertInfo> query_revert_status(const VolumeRef& volume);
  Result<AsyncOperation> start_query_revert_status(const VolumeRef& volume);

  /// All that is to be kept of this backup but what only the file systems know: mounts and links.
  Result<BackupBundle> bundle();
  /// Device numbers of the set's volumes, in the order of bundle().volumes; 0: not known.
  [[nodiscard]] const std::vector<std::uint64_t>& bundle_devices() const noexcept {
    return bundle_devices_;
  }
  void cancel() noexcept { operations_.cancel(); }

 private:
  Status allow(std::string_view call);
  Status check_prepare();
  Status check_do(const DoOptions& options);
  Status check_status(std::string_view call);
  Status check_complete();
  Status complete(std::chrono::milliseconds limit, const OnProgress& progress);
  Result<SnapshotProperties> find(std::string_view call, const SnapshotId& id);
  template <class Reply, class Request>
  Result<Reply> request(std::string_view method, const Request& params,
                        std::chrono::milliseconds limit = Link::kCallLimit) {
    Result<Reply> reply = link_.call<Reply>(method, params, limit);
    if (!link_.is_open()) state_ = SessionState::lost;
    return reply;
  }
  /// Starts an operation and waits for its end.
  template <class Request>
  Result<rpc::OperationStatus> run(std::string_view call, const Request& params,
                                   std::chrono::milliseconds limit, const OnProgress& progress) {
    const auto started = request<rpc::StartedOperation>("session." + std::string(call), params);
    if (!started) return fail(started.error());
    return wait(call, started->operation, limit, progress);
  }
  Result<rpc::OperationStatus> wait(std::string_view call, std::uint32_t operation,
                                    std::chrono::milliseconds limit, const OnProgress& progress);
  /// Starts an operation and gives a handle for it; `during` is the state until its end is seen.
  template <class Request>
  Result<AsyncOperation> start(std::string_view call, SessionState during, const Request& params) {
    const auto started = request<rpc::StartedOperation>("session." + std::string(call), params);
    if (!started) return fail(started.error());
    return watch(call, during, started->operation);
  }
  AsyncOperation watch(std::string_view call, SessionState during, std::uint32_t operation);
  void ended(SessionState during, rpc::OperationStatus status);
  Result<SnapshotSetInfo> create_steps(const CreateOptions& options);
  Result<std::vector<std::uint64_t>> devices_of(const std::vector<VolumeRef>& volumes);
  Status select_given(const CreateOptions& options, SnapshotSetInfo& info);
  /// Fills `components` and `partly_held`.
  Status select_automatically(const CreateOptions& options, SnapshotSetInfo& info);
  [[nodiscard]] bool writers_take_part() const noexcept { return has_writers(context_); }

  Link& link_;
  Operations operations_;
  DeviceOf device_of_;
  MountsOf mounts_;
  SessionState state_ = SessionState::created;
  SessionState before_ = SessionState::created;  // The operation that is watched.
  SessionId session_id_;
  bool context_set_ = false;
  bool queried_ = false;
  bool backup_state_set_ = false;
  bool gathered_ = false;
  bool component_mode_ = true;
  std::uint32_t context_ = context::kBackup;
  SetReport report_;
  std::vector<AddedSnapshot> members_;
  std::vector<std::uint64_t> bundle_devices_;
};

}  // namespace umbra::requester
