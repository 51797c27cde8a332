// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// A backup session's states and call order (requester-and-coordinator 2.1, 2.9) over a Link. It
// refuses what the state does not allow before anything is sent, so that a mistake has the same
// answer whatever umbrad thinks; umbrad checks everything again. No socket, thread or clock of its
// own.

#pragma once

#include <functional>
#include <initializer_list>
#include <string>
#include <vector>

#include "requester-sdk/src/link.h"
#include "requester-sdk/src/operations.h"
#include "umbra/requester/backup_session.h"

namespace umbra::requester {

class SessionLogic {
 public:
  /// Whether a directory of a writer's file set lies on the device with this number.
  using DeviceOf = std::function<std::uint64_t(const std::string& directory)>;

  /// The link must outlive the object.
  SessionLogic(Link& link, DeviceOf device_of)
      : link_(link), operations_(link), device_of_(std::move(device_of)) {}

  [[nodiscard]] SessionState state() const noexcept { return state_; }
  Result<SnapshotSetInfo> create_snapshot_set(const CreateOptions& options);
  Result<SessionId> initialize_for_backup();
  Status select_writers(std::string_view call, std::vector<Guid> ids);
  Status set_context(std::uint32_t context_and_attributes);
  Status set_backup_state(const BackupState& state);
  Status gather_writer_metadata(std::chrono::milliseconds limit, const OnProgress& progress = {});
  Result<std::vector<WriterMetadata>> writer_metadata();
  Status add_component(const ComponentRef& component);
  Result<SnapshotSetId> start_snapshot_set(std::chrono::milliseconds queue_limit);
  Result<AddedSnapshot> add_to_snapshot_set(const VolumeRef& volume, const ProviderId& provider);
  Status prepare_for_backup(std::chrono::milliseconds limit, const OnProgress& progress = {});
  Status do_snapshot_set(const DoOptions& options);
  [[nodiscard]] const SetReport& last_report() const noexcept { return report_; }
  Result<std::vector<WriterStatus>> gather_writer_status();
  Status set_backup_succeeded(const ComponentRef& component, bool succeeded);
  Status backup_complete(std::chrono::milliseconds limit, const OnProgress& progress = {});
  Status abort_backup();
  Result<std::string> components_xml(bool for_saving);
  Result<SnapshotList> list_snapshots(const SnapshotQuery& query);
  Result<SnapshotProperties> snapshot_properties(const SnapshotId& id);
  /// All that is to be kept of this backup but what only the file systems know: mounts and links.
  Result<BackupBundle> bundle();
  /// Device numbers of the set's volumes, in the order of bundle().volumes; 0: not known.
  [[nodiscard]] const std::vector<std::uint64_t>& bundle_devices() const noexcept {
    return bundle_devices_;
  }
  void cancel() noexcept { operations_.cancel(); }

 private:
  Status allow(std::string_view call, std::initializer_list<SessionState> states) const;
  template <class Reply, class Request>
  Result<Reply> request(std::string_view method, const Request& params,
                        std::chrono::milliseconds limit = Link::kCallLimit);
  /// Starts an operation and waits for its end.
  template <class Request>
  Result<rpc::OperationStatus> run(std::string_view call, const Request& params,
                                   std::chrono::milliseconds limit, const OnProgress& progress);
  Result<rpc::OperationStatus> wait(std::string_view call, std::uint32_t operation,
                                    std::chrono::milliseconds limit, const OnProgress& progress);
  Result<SnapshotSetInfo> create_steps(const CreateOptions& options);
  Result<std::vector<std::uint64_t>> devices_of(const std::vector<VolumeRef>& volumes);
  /// Fills `components` and `partly_held`.
  Status select_automatically(const CreateOptions& options, SnapshotSetInfo& info);
  [[nodiscard]] bool writers_take_part() const noexcept { return has_writers(context_); }

  Link& link_;
  Operations operations_;
  DeviceOf device_of_;
  SessionState state_ = SessionState::created;
  bool context_set_ = false;
  bool backup_state_set_ = false;
  bool gathered_ = false;
  bool component_mode_ = true;
  std::uint32_t context_ = context::kBackup;
  SetReport report_;
  std::vector<AddedSnapshot> members_;
  std::vector<std::uint64_t> bundle_devices_;
};

}  // namespace umbra::requester
