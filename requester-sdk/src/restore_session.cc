// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "umbra/requester/restore_session.h"

#include <atomic>

#include "requester-sdk/src/restore_logic.h"
#include "requester-sdk/src/restore_run.h"

namespace umbra::requester {

class RestoreSession::Impl {
 public:
  explicit Impl(std::unique_ptr<Link> link_) : link(std::move(link_)), logic(*link) {}
  std::unique_ptr<Link> link;
  RestoreLogic logic;
  RestoreReport report;
  std::atomic<bool> stop{false};
};

RestoreSession::RestoreSession(std::unique_ptr<Impl> impl) noexcept : impl_(std::move(impl)) {}
RestoreSession::RestoreSession(RestoreSession&&) noexcept = default;
RestoreSession& RestoreSession::operator=(RestoreSession&&) noexcept = default;
RestoreSession::~RestoreSession() = default;

Result<RestoreSession> RestoreSession::connect(const ConnectOptions& options) {
  Result<std::unique_ptr<Link>> link = connect_link(options);
  if (!link) return fail(link.error());
  return RestoreSession(std::make_unique<Impl>(std::move(*link)));
}

RestoreState RestoreSession::state() const noexcept { return impl_->logic.state(); }

Result<RestoreReport> RestoreSession::restore(const BackupBundle& bundle,
                                              const RestoreOptions& options) {
  if (state() != RestoreState::created) {
    return fail(Errc::bad_state, "restore: the session has begun; open another");
  }
  for (const Relocation& one : options.relocations) {
    if (!one.from.starts_with('/') || !one.to.starts_with('/')) {
      return fail(Errc::invalid_argument, "relocations: both paths must be absolute");
    }
  }
  Status done;
  {
    RestoreRun run(impl_->logic, bundle, options, impl_->stop);
    done = run.run();
    impl_->report = run.take_report();
  }
  if (!done) return fail(done.error());
  return impl_->report;
}
const RestoreReport& RestoreSession::last_report() const noexcept { return impl_->report; }

Result<SessionId> RestoreSession::initialize_for_restore(const BackupComponentsDocument& document) {
  return impl_->logic.initialize_for_restore(document);
}
Status RestoreSession::enable_writer_classes(const std::vector<WriterClassId>& classes) {
  return impl_->logic.select_writers("enable_writer_classes", {classes.begin(), classes.end()});
}
Status RestoreSession::disable_writer_classes(const std::vector<WriterClassId>& classes) {
  return impl_->logic.select_writers("disable_writer_classes", {classes.begin(), classes.end()});
}
Status RestoreSession::disable_writer_instances(const std::vector<WriterInstanceId>& instances) {
  return impl_->logic.select_writers("disable_writer_instances",
                                     {instances.begin(), instances.end()});
}
Status RestoreSession::set_restore_state(RestoreType type) {
  return impl_->logic.set_restore_state(type);
}
Status RestoreSession::gather_writer_metadata(std::chrono::milliseconds limit) {
  return impl_->logic.gather_writer_metadata(limit);
}
Result<std::vector<WriterMetadata>> RestoreSession::writer_metadata() {
  return impl_->logic.writer_metadata();
}
Status RestoreSession::set_selected_for_restore(const ComponentRef& component, bool selected) {
  return impl_->logic.set_selected_for_restore(component, selected);
}
Status RestoreSession::add_restore_subcomponent(const ComponentRef& component,
                                                const RestoreSubcomponent& part) {
  return impl_->logic.add_restore_subcomponent(component, part);
}
Status RestoreSession::set_restore_options(const ComponentRef& component,
                                           const std::string& options) {
  return impl_->logic.set_restore_options(component, options);
}
Status RestoreSession::set_authoritative_restore(const ComponentRef& component, bool value) {
  return impl_->logic.set_authoritative_restore(component, value);
}
Status RestoreSession::set_roll_forward(const ComponentRef& component, const RollForward& to) {
  return impl_->logic.set_roll_forward(component, to);
}
Status RestoreSession::set_restore_name(const ComponentRef& component, const std::string& name) {
  return impl_->logic.set_restore_name(component, name);
}
Status RestoreSession::add_new_target(const ComponentRef& component,
                                      const AlternateLocation& location) {
  return impl_->logic.add_new_target(component, location);
}
Status RestoreSession::set_additional_restores(const ComponentRef& component, bool more_follow) {
  return impl_->logic.set_additional_restores(component, more_follow);
}
Status RestoreSession::set_ranges_file_path(const ComponentRef& component,
                                            std::uint32_t partial_file, const std::string& path) {
  return impl_->logic.set_ranges_file_path(component, partial_file, path);
}
Status RestoreSession::pre_restore(std::chrono::milliseconds limit) {
  return impl_->logic.pre_restore(limit);
}
Status RestoreSession::add_alternative_location_mapping(const ComponentRef& component,
                                                        const AlternateLocation& location) {
  return impl_->logic.add_alternative_location_mapping(component, location);
}
Status RestoreSession::set_file_restore_status(const ComponentRef& component,
                                               FileRestoreStatus status) {
  return impl_->logic.set_file_restore_status(component, status);
}
Status RestoreSession::post_restore(std::chrono::milliseconds limit) {
  return impl_->logic.post_restore(limit);
}
Result<SessionId> RestoreSession::session_id() const { return impl_->logic.session_id(); }
Result<std::vector<WriterStatus>> RestoreSession::writer_status() {
  return impl_->logic.writer_status();
}
Result<AsyncOperation> RestoreSession::start_gather_writer_metadata() {
  return impl_->logic.start_gather_writer_metadata();
}
Result<AsyncOperation> RestoreSession::start_pre_restore() {
  return impl_->logic.start_pre_restore();
}
Result<AsyncOperation> RestoreSession::start_post_restore() {
  return impl_->logic.start_post_restore();
}
Result<AsyncOperation> RestoreSession::start_gather_writer_status() {
  return impl_->logic.start_gather_writer_status();
}
Status RestoreSession::add_snapshot_to_recovery_set(const SnapshotId& id, std::uint32_t flags,
                                                    const VolumeRef& destination) {
  return impl_->logic.add_snapshot_to_recovery_set(id, flags, destination);
}
Result<AsyncOperation> RestoreSession::start_recover_set(std::uint32_t options) {
  return impl_->logic.start_recover_set(options);
}
Status RestoreSession::recover_set(std::uint32_t options, std::chrono::milliseconds limit) {
  return impl_->logic.recover_set(options, limit);
}
Result<std::vector<WriterStatus>> RestoreSession::gather_writer_status() {
  return impl_->logic.gather_writer_status();
}
Result<BackupComponentsDocument> RestoreSession::backup_components() {
  return impl_->logic.backup_components();
}
void RestoreSession::cancel() noexcept {
  impl_->stop.store(true, std::memory_order_relaxed);
  impl_->logic.operations().cancel();
}

}  // namespace umbra::requester
