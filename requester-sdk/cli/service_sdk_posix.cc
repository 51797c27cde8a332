// SPDX-License-Identifier: Apache-2.0
//
// The service by the requester SDK. Queries use a client as requester, administration one as admin;
// each connects when it is first needed. Ctrl-C and SIGTERM cancel a creation in progress, so that
// everything is undone before the program ends; at other times they end it.
#include <atomic>
#include <chrono>
#include <csignal>
#include <optional>
#include <utility>

#include "requester-sdk/cli/service.h"
#include "umbra/requester/backup_session.h"
#include "umbra/requester/client.h"
#include "umbra/requester/functions.h"
#include "umbra/requester/restore_session.h"

namespace umbra::cli {
namespace {

using requester::BackupSession;
using requester::Client;
using requester::ConnectOptions;
using requester::Management;
using requester::RestoreSession;

std::atomic<BackupSession*> g_creating = nullptr;
std::atomic<RestoreSession*> g_restoring = nullptr;
std::atomic<bool> g_interrupted = false;

void cancel_what_runs(int) {
  g_interrupted = true;
  if (auto* session = g_creating.load()) session->cancel();
  if (auto* session = g_restoring.load()) session->cancel();
}

// Directs interrupts to a session for the life of the object.
class Interruptible {
 public:
  explicit Interruptible(BackupSession& session) : Interruptible() { g_creating = &session; }
  explicit Interruptible(RestoreSession& session) : Interruptible() { g_restoring = &session; }
  ~Interruptible() {
    (void)sigaction(SIGINT, &interrupt_before_, nullptr);
    (void)sigaction(SIGTERM, &terminate_before_, nullptr);
    g_creating = nullptr;
    g_restoring = nullptr;
  }
  Interruptible(const Interruptible&) = delete;
  Interruptible& operator=(const Interruptible&) = delete;

 private:
  Interruptible() {
    struct sigaction action {};
    action.sa_handler = cancel_what_runs;
    (void)sigaction(SIGINT, &action, &interrupt_before_);
    (void)sigaction(SIGTERM, &action, &terminate_before_);
  }
  struct sigaction interrupt_before_ {};
  struct sigaction terminate_before_ {};
};

class SdkService final : public Service {
 public:
  explicit SdkService(std::string socket_path) : socket_path_(std::move(socket_path)) {}

  Result<VolumeRef> resolve(const std::string& text) override {
    return requester::resolve_volume(text);
  }
  Result<requester::VolumeList> volumes() override {
    return with(client_, false, [](Client& client) { return client.list_volumes(); });
  }
  Result<requester::SnapshotList> snapshots(bool incomplete) override {
    return with(client_, false, [&](Client& client) {
      return client.list_snapshots({.context = context::kAll, .incomplete = incomplete});
    });
  }
  Result<std::vector<requester::WriterInfo>> writers() override {
    return with(client_, false, [](Client& client) { return client.list_writers(); });
  }
  Result<std::vector<requester::ProviderInfo>> providers() override {
    return with(client_, false, [](Client& client) { return client.list_providers(); });
  }
  Result<requester::CoordinatorStatus> status() override {
    return with(client_, false, [](Client& client) { return client.status(); });
  }
  Result<requester::DeletedSnapshots> remove(const Guid& id, ObjectType type, bool force) override {
    return with(client_, false,
                [&](Client& client) { return client.delete_snapshots(id, type, force); });
  }
  Result<requester::MountedSnapshot> mount(const SnapshotId& id,
                                           const requester::MountOptions& options) override {
    return with(client_, false, [&](Client& client) { return client.mount_snapshot(id, options); });
  }
  Status unmount(const SnapshotId& id) override {
    return with(client_, false, [&](Client& client) { return client.unmount_snapshot(id); });
  }
  Result<requester::AttachedVolume> attach(const requester::AttachOptions& options) override {
    return with(admin_, true, [&](Client& client) { return client.attach_volume(options); });
  }
  Status detach(const VolumeRef& volume) override {
    return with(admin_, true, [&](Client& client) { return client.detach_volume(volume); });
  }
  /// As admin if this user may; else as requester, who may end its own user's set.
  Result<requester::AbortedSet> abort(const std::string& reason) override {
    return as_far_as_allowed([&](Client& client) { return client.abort_set(reason); });
  }
  Status register_provider(const ProviderProperties& properties) override {
    return with(admin_, true, [&](Client& client) { return client.register_provider(properties); });
  }
  Status unregister_provider(const ProviderId& id, bool force) override {
    return with(admin_, true,
                [&](Client& client) { return client.unregister_provider(id, force); });
  }

  /// As admin if this user may, who sees the sets of all.
  Result<requester::SetTrace> trace(const SnapshotSetId& set) override {
    return as_far_as_allowed([&](Client& client) { return client.trace(set); });
  }
  Result<std::vector<requester::SetTrace>> traces() override {
    return as_far_as_allowed([](Client& client) { return client.list_traces(); });
  }

  Result<std::vector<SupportedVolume>> supported_volumes(std::uint32_t context) override {
    return manage(false,
                  [&](Management m) { return m.query_volumes_supported_for_snapshots(context); });
  }
  Result<std::vector<DiffAreaProperties>> diff_areas(const VolumeRef& volume) override {
    return manage(false, [&](Management m) { return m.query_diff_areas_for_volume(volume); });
  }
  Result<std::vector<DiffAreaProperties>> diff_areas_on(const std::string& diff_volume) override {
    return manage(false, [&](Management m) { return m.query_diff_areas_on_volume(diff_volume); });
  }
  Result<std::vector<DiffVolumeProperties>> diff_volumes(const VolumeRef& volume) override {
    return manage(false,
                  [&](Management m) { return m.query_volumes_supported_for_diff_areas(volume); });
  }
  Status add_diff_area(const DiffAreaRef& area, std::int64_t maximum_bytes) override {
    return manage(true, [&](Management m) { return m.add_diff_area(area, maximum_bytes); });
  }
  Result<OperationId> change_maximum(const DiffAreaRef& area, std::int64_t maximum_bytes,
                                     bool is_volatile) override {
    return manage(true, [&](Management m) {
      return m.change_diff_area_maximum_size(area, maximum_bytes, is_volatile);
    });
  }
  Result<OperationId> move_area(const DiffAreaRef& area, const std::string& to,
                                std::uint64_t bytes_per_second) override {
    return manage(true,
                  [&](Management m) { return m.migrate_diff_areas(area, to, bytes_per_second); });
  }
  Result<VolumeProtectionInfo> protection(const VolumeRef& volume) override {
    return manage(false, [&](Management m) { return m.get_volume_protect_level(volume); });
  }
  Status set_protection(const VolumeRef& volume, ProtectionLevel level) override {
    return manage(true, [&](Management m) { return m.set_volume_protect_level(volume, level); });
  }
  Result<OperationId> delete_unused(const std::string& diff_volume) override {
    return manage(true, [&](Management m) { return m.delete_unused_diff_areas(diff_volume); });
  }
  Result<OperationId> clear_fault(const VolumeRef& volume) override {
    return manage(true, [&](Management m) { return m.clear_volume_protect_fault(volume); });
  }
  Status retain(const SnapshotId& snapshot, std::int64_t until_filetime) override {
    return manage(true, [&](Management m) { return m.retain_snapshot(snapshot, until_filetime); });
  }
  Result<SnapshotDelta> changed(const SnapshotId& older, const SnapshotId& younger,
                                std::uint64_t first_block) override {
    return manage(false, [&](Management m) {
      return m.query_snapshot_delta_bitmap(older, younger, first_block);
    });
  }
  Result<OperationId> scrub(const VolumeRef& volume, std::uint64_t bytes_per_second) override {
    return manage(true, [&](Management m) { return m.scrub_diff_area(volume, bytes_per_second); });
  }
  Result<bool> writers_block_revert(const SnapshotId& snapshot) override {
    auto list = snapshots(false);
    if (!list) return fail(list.error());
    for (const auto& one : list->snapshots) {
      if (one.snapshot_id != snapshot) continue;
      VolumeRef volume;
      volume.id = one.volume_id;
      return requester::should_block_revert(volume, connect_options(false));
    }
    return false;  // No such copy; or its provider is away: the revert says which.
  }
  Result<OperationId> revert(const SnapshotId& snapshot, bool force) override {
    // Whose copy it is: a revert is its own provider's.
    auto list = snapshots(false);
    if (!list) return fail(list.error());
    for (const auto& one : list->snapshots) {
      if (one.snapshot_id == snapshot) operations_of_ = one.provider_id;
    }
    return with(admin_, true, [&](Client& client) {
      return Management(client, operations_of_).revert_to_snapshot(snapshot, force);
    });
  }
  Result<std::vector<RevertInfo>> reverts(const VolumeRef& volume) override {
    return manage(false, [&](Management m) { return m.query_revert_status(volume); });
  }
  Status abandon_revert(const VolumeRef& volume) override {
    return manage(true, [&](Management m) { return m.abandon_revert(volume); });
  }
  Result<std::vector<SnapshotProperties>> copies_of(const VolumeRef& volume) override {
    return manage(false, [&](Management m) { return m.query_snapshots_by_volume(volume); });
  }
  Result<CheckpointProperties> create_checkpoint(const SnapshotId& snapshot,
                                                 const std::string& name) override {
    return manage(true, [&](Management m) { return m.create_checkpoint(snapshot, name); });
  }
  Result<std::vector<CheckpointProperties>> checkpoints(const VolumeRef& volume) override {
    return manage(false, [&](Management m) { return m.query_checkpoints(volume); });
  }
  Status delete_checkpoint(const CheckpointId& checkpoint) override {
    return manage(true, [&](Management m) { return m.delete_checkpoint(checkpoint); });
  }
  Result<SnapshotDelta> changes(const Guid& since, const SnapshotId& until,
                                std::uint64_t first_block) override {
    return manage(false, [&](Management m) { return m.query_changes(since, until, first_block); });
  }
  Result<std::vector<OperationInfo>> operations() override {
    return manage(false, [](Management m) { return m.list_operations(); });
  }
  Result<OperationInfo> wait_operation(const OperationId& operation,
                                       std::chrono::milliseconds limit) override {
    return with(client_, false, [&](Client& client) {
      return Management(client, operations_of_).wait_operation(operation, limit);
    });
  }
  Result<OperationInfo> cancel_operation(const OperationId& operation) override {
    return manage(true, [&](Management m) { return m.cancel_operation(operation); });
  }
  Result<requester::EventPage> events(const requester::EventQuery& query) override {
    return manage(false, [&](Management m) { return m.query_events(query); });
  }
  std::int64_t now() override {
    using Ticks = std::chrono::duration<std::int64_t, std::ratio<1, 10'000'000>>;
    constexpr std::chrono::seconds kFrom1601To1970{11'644'473'600};
    // In ticks before they are added: in nanoseconds the sum is more than 64 bits hold.
    const auto since_1970 = std::chrono::system_clock::now().time_since_epoch();
    return (std::chrono::duration_cast<Ticks>(since_1970) + Ticks(kFrom1601To1970)).count();
  }

  Result<requester::SnapshotSetInfo> create(const requester::CreateOptions& options,
                                            requester::SetReport& report) override {
    auto opened = BackupSession::connect(connect_options(false));
    if (!opened) return fail(opened.error());
    session_.emplace(std::move(*opened));
    const Interruptible interruptible(*session_);
    auto set = session_->create_snapshot_set(options);
    report = session_->last_report();
    if (!set) session_.reset();
    return set;
  }

  [[nodiscard]] bool was_interrupted() const noexcept override { return g_interrupted; }

  Status save_documents(const std::string& path) override {
    if (!session_) return fail(Errc::bad_state, "no set was created");
    const auto bundle = session_->make_bundle();
    if (!bundle) return fail(bundle.error());
    return requester::save_bundle(*bundle, path);
  }
  Result<BackupBundle> load_documents(const std::string& path) override {
    return requester::load_bundle(path);
  }

  Result<requester::FileListSummary> list_files(const BackupBundle& bundle,
                                                const requester::FileListOptions& options,
                                                const requester::OnListedFile& on_file) override {
    // What is given as a directory needs no umbrad.
    if (!options.sources.empty()) return requester::list_files(bundle, options, on_file);
    return with(client_, false, [&](Client& client) {
      return requester::list_files(client, bundle, options, on_file);
    });
  }

  Status restore(const BackupBundle& bundle, const requester::RestoreOptions& options,
                 requester::RestoreReport& report) override {
    auto opened = RestoreSession::connect(connect_options(false));
    if (!opened) return fail(opened.error());
    const Interruptible interruptible(*opened);
    const auto done = opened->restore(bundle, options);
    report = opened->last_report();
    if (!done) return fail(done.error());
    return {};
  }

  Status finish(const requester::SnapshotSetInfo& set, bool succeeded) override {
    if (!session_) return {};
    Status ended;
    if (session_->state() == requester::SessionState::snapshot_created) {
      for (const auto& component : set.components) {
        auto told = session_->set_backup_succeeded(component, succeeded);
        if (!told && ended) ended = std::move(told);
      }
      // In contexts without writers there is nobody to tell.
      if (ended && !set.components.empty()) ended = session_->backup_complete();
    }
    session_.reset();
    return ended;
  }

 private:
  template <class Ask>
  auto as_far_as_allowed(const Ask& ask) -> decltype(ask(std::declval<Client&>())) {
    auto answer = with(admin_, true, ask);
    if (answer || answer.error().code != Errc::access_denied) return answer;
    return with(client_, false, ask);
  }

  [[nodiscard]] ConnectOptions connect_options(bool admin) const {
    ConnectOptions options;
    options.socket_path = socket_path_;
    options.admin = admin;
    options.program = "umbra " UMBRA_VERSION;
    return options;
  }

  template <class Ask>
  auto with(std::optional<Client>& client, bool admin, Ask ask) -> decltype(ask(*client)) {
    if (!client) {
      auto connected = Client::connect(connect_options(admin));
      if (!connected) return fail(connected.error());
      client.emplace(std::move(*connected));
    }
    return ask(*client);
  }

  template <class Ask>
  auto manage(bool admin, Ask ask) -> decltype(ask(std::declval<Management>())) {
    return with(admin ? admin_ : client_, admin,
                [&](Client& client) { return ask(Management(client)); });
  }

  std::string socket_path_;
  ProviderId operations_of_;  // Nil: of the system provider.
  std::optional<Client> client_;
  std::optional<Client> admin_;
  std::optional<BackupSession> session_;
};

}  // namespace

std::unique_ptr<Service> make_sdk_service(const std::string& socket_path) {
  return std::make_unique<SdkService>(socket_path);
}

}  // namespace umbra::cli
