// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// A restore session's states and call order (requester-and-coordinator 2.4, 2.9) over a Link. Like
// SessionLogic it refuses what the state does not allow before anything is sent.

#pragma once

#include <string>
#include <vector>

#include "requester-sdk/src/link.h"
#include "requester-sdk/src/operations.h"
#include "umbra/requester/restore_session.h"

namespace umbra::requester {

class RestoreLogic {
 public:
  /// The link must outlive the object.
  explicit RestoreLogic(Link& link) : link_(link), operations_(link) {}

  [[nodiscard]] RestoreState state() const noexcept { return state_; }
  Result<SessionId> initialize_for_restore(const BackupComponentsDocument& document);
  Status select_writers(std::string_view call, std::vector<Guid> ids);
  Status set_restore_state(RestoreType type);
  Status gather_writer_metadata(std::chrono::milliseconds limit, const OnProgress& progress = {});
  Result<std::vector<WriterMetadata>> writer_metadata();
  Status set_selected_for_restore(const ComponentRef& component, bool selected);
  Status add_restore_subcomponent(const ComponentRef& component, const RestoreSubcomponent& part);
  Status set_restore_options(const ComponentRef& component, const std::string& options);
  Status set_authoritative_restore(const ComponentRef& component, bool value);
  Status set_roll_forward(const ComponentRef& component, const RollForward& to);
  Status set_restore_name(const ComponentRef& component, const std::string& name);
  Status add_new_target(const ComponentRef& component, const AlternateLocation& location);
  Status set_additional_restores(const ComponentRef& component, bool more_follow);
  Status set_ranges_file_path(const ComponentRef& component, std::uint32_t partial_file,
                              const std::string& path);
  Status pre_restore(std::chrono::milliseconds limit, const OnProgress& progress = {});
  Status add_alternative_location_mapping(const ComponentRef& component,
                                          const AlternateLocation& location);
  Status set_file_restore_status(const ComponentRef& component, FileRestoreStatus status);
  Status post_restore(std::chrono::milliseconds limit, const OnProgress& progress = {});
  Result<std::vector<WriterStatus>> gather_writer_status();
  Result<std::vector<WriterStatus>> writer_status();
  [[nodiscard]] Result<SessionId> session_id() const;
  Status add_snapshot_to_recovery_set(const SnapshotId& id, std::uint32_t flags,
                                      const VolumeRef& destination);
  Status recover_set(std::uint32_t flags, std::chrono::milliseconds limit);

  Result<AsyncOperation> start_gather_writer_metadata();
  Result<AsyncOperation> start_pre_restore();
  Result<AsyncOperation> start_post_restore();
  Result<AsyncOperation> start_gather_writer_status();
  Result<AsyncOperation> start_recover_set(std::uint32_t flags);
  Result<BackupComponentsDocument> backup_components();
  [[nodiscard]] Operations& operations() noexcept { return operations_; }
  [[nodiscard]] Link& link() noexcept { return link_; }

 private:
  Status allow(std::string_view call);
  template <class Reply, class Request>
  Result<Reply> request(std::string_view method, const Request& params);
  template <class Request>
  Status tell(std::string_view call, const Request& params);
  Status run(std::string_view call, RestoreState after, std::chrono::milliseconds limit,
             const OnProgress& progress);
  template <class Request = rpc::Nothing>
  Result<AsyncOperation> start(std::string_view call, RestoreState during, RestoreState after,
                               const Request& params = {});

  Link& link_;
  Operations operations_;
  RestoreState state_ = RestoreState::created;
  SessionId session_id_;
};

}  // namespace umbra::requester
