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

Result<BackupSession> BackupSession::connect(const ConnectOptions& options) {
  Result<std::unique_ptr<Link>> link = connect_link(options);
  if (!link) return fail(link.error());
  return BackupSession(std::make_unique<Impl>(std::move(*link)));
}

SessionState BackupSession::state() const noexcept { return impl_->logic.state(); }

Result<SnapshotSetInfo> BackupSession::create_snapshot_set(const CreateOptions& options) {
  return impl_->logic.create_snapshot_set(options);
}
Result<SessionId> BackupSession::initialize_for_backup(const std::string& components) {
  return impl_->logic.initialize_for_backup(components);
}
Result<SessionId> BackupSession::session_id() const { return impl_->logic.session_id(); }
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
Result<std::vector<VolumeRef>> BackupSession::volumes_of(
    const std::vector<ComponentRef>& components) {
  return impl_->logic.volumes_of(components);
}
Status BackupSession::set_backup_options(const ComponentRef& component,
                                         const std::string& options) {
  return impl_->logic.set_component_text("set_backup_options", component, options);
}
Status BackupSession::set_previous_backup_stamp(const ComponentRef& component,
                                                const std::string& stamp) {
  return impl_->logic.set_component_text("set_previous_backup_stamp", component, stamp);
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
Result<std::vector<WriterStatus>> BackupSession::writer_status() {
  return impl_->logic.writer_status();
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
Result<std::vector<WriterComponents>> BackupSession::writer_components() {
  return impl_->logic.writer_components();
}
Result<BackupBundle> BackupSession::make_bundle() {
  auto bundle = impl_->logic.bundle();
  if (bundle) complete_bundle(*bundle, impl_->logic.bundle_devices());
  return bundle;
}
Result<AsyncOperation> BackupSession::start_gather_writer_metadata() {
  return impl_->logic.start_gather_writer_metadata();
}
Result<AsyncOperation> BackupSession::start_prepare_for_backup() {
  return impl_->logic.start_prepare_for_backup();
}
Result<AsyncOperation> BackupSession::start_do_snapshot_set(const DoOptions& options) {
  return impl_->logic.start_do_snapshot_set(options);
}
Result<AsyncOperation> BackupSession::start_gather_writer_status() {
  return impl_->logic.start_gather_writer_status();
}
Result<AsyncOperation> BackupSession::start_backup_complete() {
  return impl_->logic.start_backup_complete();
}
Result<AsyncOperation> BackupSession::start_import_snapshots() {
  return impl_->logic.start_import_snapshots();
}
Result<AsyncOperation> BackupSession::start_break_snapshot_set(const SnapshotSetId& set,
                                                               std::uint32_t flags) {
  return impl_->logic.start_break_snapshot_set(set, flags);
}

Result<ObjectEnumeration> BackupSession::query(ObjectType type) { return impl_->logic.query(type); }
Result<bool> BackupSession::is_volume_supported(const VolumeRef& volume,
                                                const ProviderId& provider) {
  return impl_->logic.is_volume_supported(volume, provider);
}
Result<DeletedSnapshots> BackupSession::delete_snapshots(const Guid& id, ObjectType type,
                                                         bool force) {
  return impl_->logic.delete_snapshots(id, type, force);
}
Result<std::string> BackupSession::expose_snapshot(const SnapshotId& id,
                                                   const ExposeOptions& options) {
  return impl_->logic.expose_snapshot(id, options);
}
Status BackupSession::unexpose_snapshot(const SnapshotId& id) {
  return impl_->logic.unexpose_snapshot(id);
}
Status BackupSession::import_snapshots(std::chrono::milliseconds limit) {
  return impl_->logic.import_snapshots(limit);
}
Status BackupSession::break_snapshot_set(const SnapshotSetId& set, std::uint32_t flags,
                                         std::chrono::milliseconds limit) {
  return impl_->logic.break_snapshot_set(set, flags, limit);
}
Status BackupSession::revert_to_snapshot(const SnapshotId& id, bool force_dismount) {
  return impl_->logic.revert_to_snapshot(id, force_dismount);
}
Result<RevertInfo> BackupSession::query_revert_status(const VolumeRef& volume) {
  return impl_->logic.query_revert_status(volume);
}
Result<AsyncOperation> BackupSession::start_query_revert_status(const VolumeRef& volume) {
  return impl_->logic.start_query_revert_status(volume);
}
Status BackupSession::pre_fast_recovery(const SnapshotSetId&, std::uint32_t) {
  return fail(Errc::not_implemented, "pre_fast_recovery: VSS reserves it and has never had it");
}
Status BackupSession::fast_recovery(const SnapshotSetId&, std::uint32_t) {
  return fail(Errc::not_implemented, "fast_recovery: VSS reserves it and has never had it");
}
void BackupSession::cancel() noexcept { impl_->logic.cancel(); }

}  // namespace umbra::requester
