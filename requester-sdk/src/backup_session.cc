// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "umbra/requester/backup_session.h"
#include "engine/documents/xml.h"
#include "requester-sdk/src/files.h"
#include "requester-sdk/src/session_logic.h"

namespace umbra::requester {
class BackupSession::Impl {
 public:
  explicit Impl(std::unique_ptr<Link> link_)
      : link(std::move(link_)), logic(*link, device_of_declared) {}
  std::unique_ptr<Link> link;
  SessionLogic logic;
};

BackupSession::BackupSession(std::unique_ptr<Impl> impl) noexcept : impl_(std::move(impl)) {}
BackupSession::BackupSession(BackupSession&&) noexcept = default;
BackupSession& BackupSession::operator=(BackupSession&&) noexcept = default;
BackupSession::~BackupSession() = default;

Result<BackupSession> BackupSession::open(const ConnectOptions& options) {
  Result<std::unique_ptr<Link>> link = connect_link(options);
  if (!link) return fail(link.error());
  return BackupSession(std::make_unique<Impl>(std::move(*link)));
}

SessionState BackupSession::state() const noexcept { return impl_->logic.state(); }

Result<SnapshotSetInfo> BackupSession::create_snapshot_set(const CreateOptions& options) {
  return impl_->logic.create_snapshot_set(options);
}
Result<SessionId> BackupSession::initialize_for_backup() {
  return impl_->logic.initialize_for_backup();
}
Status BackupSession::enable_writer_classes(const std::vector<WriterClassId>& classes) {
  return impl_->logic.select_writers("enable_writer_classes", {classes.begin(), classes.end()});
}
Status BackupSession::disable_writer_classes(const std::vector<WriterClassId>& classes) {
  return impl_->logic.select_writers("disable_writer_classes", {classes.begin(), classes.end()});
}
Status BackupSession::disable_writer_instances(const std::vector<WriterInstanceId>& instances) {
  return impl_->logic.select_writers("disable_writer_instances",
                                     {instances.begin(), instances.end()});
}
Status BackupSession::set_context(std::uint32_t context_and_attributes) {
  return impl_->logic.set_context(context_and_attributes);
}
Status BackupSession::set_backup_state(const BackupState& state) {
  return impl_->logic.set_backup_state(state);
}
Status BackupSession::gather_writer_metadata(std::chrono::milliseconds limit) {
  return impl_->logic.gather_writer_metadata(limit);
}
Result<std::vector<WriterMetadata>> BackupSession::writer_metadata() {
  return impl_->logic.writer_metadata();
}
Status BackupSession::add_component(const ComponentRef& component) {
  return impl_->logic.add_component(component);
}
Result<SnapshotSetId> BackupSession::start_snapshot_set(std::chrono::milliseconds queue_limit) {
  return impl_->logic.start_snapshot_set(queue_limit);
}
Result<AddedSnapshot> BackupSession::add_to_snapshot_set(const VolumeRef& volume,
                                                         const ProviderId& provider) {
  return impl_->logic.add_to_snapshot_set(volume, provider);
}
Status BackupSession::prepare_for_backup(std::chrono::milliseconds limit) {
  return impl_->logic.prepare_for_backup(limit);
}
Status BackupSession::do_snapshot_set(const DoOptions& options) {
  return impl_->logic.do_snapshot_set(options);
}
const SetReport& BackupSession::last_report() const noexcept { return impl_->logic.last_report(); }
Result<std::vector<WriterStatus>> BackupSession::gather_writer_status() {
  return impl_->logic.gather_writer_status();
}
Status BackupSession::set_backup_succeeded(const ComponentRef& component, bool succeeded) {
  return impl_->logic.set_backup_succeeded(component, succeeded);
}
Status BackupSession::backup_complete(std::chrono::milliseconds limit) {
  return impl_->logic.backup_complete(limit);
}
Status BackupSession::abort_backup() { return impl_->logic.abort_backup(); }

Result<BackupComponentsDocument> BackupSession::backup_components() {
  const Result<std::string> xml = impl_->logic.components_xml(false);
  if (!xml) return fail(xml.error());
  return documents::parse_backup_components(*xml);
}
Result<std::string> BackupSession::save_as_xml() { return impl_->logic.components_xml(true); }
Result<SnapshotList> BackupSession::list_snapshots(const SnapshotQuery& query) {
  return impl_->logic.list_snapshots(query);
}
Result<SnapshotProperties> BackupSession::snapshot_properties(const SnapshotId& id) {
  return impl_->logic.snapshot_properties(id);
}
Result<BackupBundle> BackupSession::make_bundle() {
  auto bundle = impl_->logic.bundle();
  if (bundle) complete_bundle(*bundle, impl_->logic.bundle_devices());
  return bundle;
}
void BackupSession::cancel() noexcept { impl_->logic.cancel(); }

}  // namespace umbra::requester
