// SPDX-License-Identifier: Apache-2.0
#include "provider/daemon/daemon_linux.h"

#include <algorithm>
#include <filesystem>
#include <utility>
#include <vector>

#include "engine/platform/clock.h"
#include "engine/rpc/provider_server.h"
#include "engine/shm/wire.h"
#include "provider/contract/system_provider.h"
#include "provider/daemon/audit_posix.h"
#include "provider/daemon/diff_volumes_linux.h"
#include "provider/daemon/export_details.h"
#include "provider/daemon/file_stores.h"
#include "provider/daemon/front_ends_linux.h"
#include "provider/daemon/patience.h"
#include "provider/daemon/process_linux.h"
#include "provider/daemon/state_dir_posix.h"
#include "provider/daemon/store_events.h"
#include "provider/daemon/system_view_linux.h"
#include "provider/daemon/volume_manager.h"
#include "provider/frontend/nbd/server.h"
#include "provider/frontend/shm/memory_linux.h"
#include "provider/frontend/shm/server.h"
#include "provider/guardian/client.h"

namespace umbra::cowd {
namespace {

constexpr const char* kVersion = UMBRA_VERSION;
constexpr std::chrono::seconds kStartPatience{30};  // For the locks of a process that was killed.
constexpr std::chrono::minutes kLastFlushLimit{5};  // Of one volume, at the end.
constexpr std::chrono::milliseconds kAuditPatience{100};  // For a line that is being written.

// The provider's registry as the volume manager wants it.
class ProviderRegistry final : public Registry {
 public:
  ProviderRegistry(contract::SystemProvider& provider, StoreEvents& events, ReaderViews& readers)
      : provider_(provider), events_(events), readers_(readers) {}

  Status add(const Registration& registration, Store& store) override {
    contract::VolumeDescription description;
    description.name = registration.name;
    description.origin_path = registration.origin_path;
    description.diff_area_path = registration.diff_area_path;
    description.device_path = registration.exposed.device_path;
    description.nbd_uri = registration.exposed.nbd_uri;
    description.front_end = front_end_text(registration.exposed.front_end);
    description.front_end_why = registration.exposed.why;
    description.device = registration.exposed.device;
    description.host_devices = registration.host_devices;
    description.copies_free_blocks = registration.copies_free_blocks;
    events_.name(registration.volume_id, registration.name);
    Status added = provider_.add_volume(volume_of(store), std::move(description));
    if (added) readers_.add(store);
    return added;
  }
  Status remove(const VolumeId& volume) override {
    Status removed = provider_.remove_volume(volume, false);
    if (!removed && removed.error().code != Errc::object_not_found) return removed;
    readers_.remove(volume);
    return {};
  }
  void all_attached() override { provider_.all_volumes_attached(); }

 private:
  contract::SystemProvider& provider_;
  StoreEvents& events_;
  ReaderViews& readers_;
};

// What the provider's management asks of the volume manager, which is made after it.
class ManagedDiffAreas final : public contract::DiffAreas {
 public:
  explicit ManagedDiffAreas(const std::unique_ptr<VolumeManager>& volumes) : volumes_(volumes) {}

  Result<Moved> move(const VolumeId& volume, const std::string& to, std::uint64_t bytes_per_second,
                     const Progress& progress) override {
    auto moved = volumes_->move_diff_area(volume, to, progress, bytes_per_second);
    if (!moved) return fail(moved.error());
    return Moved{std::move(moved->diff_area_path), std::move(moved->host_devices),
                 moved->bytes_copied, moved->bytes_damaged, std::move(moved->kept)};
  }
  std::vector<Unused> unused() const override {
    std::vector<Unused> all;
    for (auto& area : volumes_->unused()) {
      all.push_back({area.volume_id, std::move(area.name), std::move(area.diff_area_path)});
    }
    return all;
  }
  Status discard_unused(const VolumeId& volume, const std::string& who) override {
    return volumes_->discard_unused(volume, who);
  }

 private:
  const std::unique_ptr<VolumeManager>& volumes_;
};

}  // namespace

// In the order of construction.
struct Daemon::Parts {
  Parts(const DaemonOptions& options, SpdlogLog& log_)
      : sink(log_), log(log_, "cowd"), reader_views(options.reader_bytes_max) {}

  SpdlogLog& sink;
  Logger log;
  UniqueFd run_lock;
  UniqueFd helpers_lock;
  UniqueFd state_lock;
  std::optional<shm::LifePage> life;
  ReaderViews reader_views;
  std::unique_ptr<guardian::GuardianClient> guardian;
  std::unique_ptr<StateDir> state;
  std::unique_ptr<nbd::Server> nbd;
  std::unique_ptr<SystemFrontEnds> front_ends;
  LinuxDiffVolumes diff_volumes{{}};
  rpc::EventLog events;
  StoreEvents store_events{[this](ProviderEvent event) { events.add(std::move(event)); }};
  ManagedDiffAreas diff_areas{volumes};
  std::unique_ptr<AuditLog> audit;  // The stores tell it, and it tells store_events.
  std::unique_ptr<contract::SystemProvider> provider;
  std::unique_ptr<ExportDetails> export_details;
  std::unique_ptr<rpc::OperationTable> operations;  // Ends before the provider.
  std::unique_ptr<ProviderRegistry> registry;
  std::unique_ptr<LinuxHost> host;
  std::unique_ptr<FileStores> stores;
  std::unique_ptr<VolumeManager> volumes;
  std::unique_ptr<shm::Server> readers;
  std::unique_ptr<rpc::ProviderServer> server;
  std::chrono::seconds stop_patience{0};

  Status take_locks(const DaemonOptions& options);
  Status open_outside(const DaemonOptions& options);
  Status open_volumes(const DaemonOptions& options);
  Status serve_readers(const DaemonOptions& options);
  void serve(const DaemonOptions& options);
  void watch_revert(const VolumeId& volume, const SnapshotId& target);
  void tell_ready() const;
  void wait_for_unmounting() const;
  void flush_what_is_used();
};

Status Daemon::Parts::take_locks(const DaemonOptions& options) {
  auto lock = lock_file(options.run_dir + "/cowd.lock", kStartPatience);
  if (!lock) return fail(lock.error());
  run_lock = std::move(*lock);
  lock = share_lock_file(options.run_dir + kHelpersLock, kStartPatience);
  if (!lock) return fail(lock.error());
  helpers_lock = std::move(*lock);
  auto opened = StateDir::open(options.state_dir);
  if (!opened) return fail(opened.error());
  state = std::move(*opened);
  lock = lock_file(options.state_dir + "/lock", kStartPatience);
  if (!lock) return fail(lock.error());
  state_lock = std::move(*lock);
  auto page = shm::LifePage::begin(options.run_dir + "/reader.life");
  if (!page) return fail(page.error());
  life.emplace(std::move(*page));
  return {};
}

Status Daemon::Parts::open_outside(const DaemonOptions& options) {
  auto client = guardian::GuardianClient::connect(UniqueFd(options.guardian_fd), sink);
  if (!client) return fail(client.error(), "the guardian");
  guardian = std::move(*client);
  nbd::ServerOptions nbd_options;
  nbd_options.socket_path = options.run_dir + "/nbd.sock";
  nbd_options.tcp = options.nbd_tcp;
  auto listening = nbd::Server::start(nbd_options, sink);
  if (!listening) return fail(listening.error(), "the NBD server");
  nbd = std::move(*listening);
  SystemFrontEnds::Options front;
  front.run_dir = options.run_dir;
  front.state_dir = options.state_dir;
  front.nbd = nbd.get();
  front.guardian = guardian.get();
  front.log = &sink;
  front_ends = std::make_unique<SystemFrontEnds>(front);
  return front_ends->begin();
}

Status Daemon::Parts::open_volumes(const DaemonOptions& options) {
  const auto boot = read_boot_id();
  if (!boot) return fail(boot.error());
  audit =
      std::make_unique<AuditLog>(options.state_dir + "/audit.log", sink,
                                 [this](const cow::Event& event) { store_events.on_event(event); });
  contract::SystemProviderOptions provider_options;
  provider_options.machine_name = machine_name();
  provider_options.version = kVersion;
  provider_options.drill_hold = options.drill_hold;
  provider_options.before_freeze = [this] {
    sink.hold();
    audit->hold(kAuditPatience);
  };
  provider_options.after_thaw = [this] {
    audit->release();
    sink.release();
  };
  provider_options.absent_volumes = [this] { return volumes->not_attached(); };
  diff_volumes = LinuxDiffVolumes(options.run_dir);
  provider_options.diff_volumes = &diff_volumes;
  provider_options.diff_areas = &diff_areas;
  provider_options.diff_bytes_min = options.diff_bytes_min;
  provider_options.client_accessible_max = options.client_accessible_max;
  provider_options.retention = options.retention;
  provider_options.live_users = [this](const VolumeId& volume) {
    return front_ends->users(volume);
  };
  provider_options.claim_live = [this](const VolumeId& volume, bool dismount) {
    return front_ends->claim(volume, dismount);
  };
  provider_options.on_reverting = [this](const VolumeId& volume, const SnapshotId& target) {
    watch_revert(volume, target);
  };
  provider_options.on_event = [this](ProviderEvent event) { events.add(std::move(event)); };
  provider = std::make_unique<contract::SystemProvider>(*guardian, *front_ends, sink,
                                                        system_clock(), provider_options);
  export_details = std::make_unique<ExportDetails>(*provider);
  nbd->set_details(export_details.get());
  operations = std::make_unique<rpc::OperationTable>(system_clock(), sink);
  registry = std::make_unique<ProviderRegistry>(*provider, store_events, reader_views);
  store_events.when_gone([this](const SnapshotId& snapshot) { provider->copy_is_gone(snapshot); });
  host = std::make_unique<LinuxHost>(options.run_dir);
  FileStoresOptions store_options;
  store_options.boot_id = *boot;
  store_options.lost_store = state.get();
  store_options.log = &sink;
  store_options.events = audit.get();
  store_options.engine = options.io_engine;
  store_options.thresholds = options.thresholds;
  stores = std::make_unique<FileStores>(store_options);
  volumes = std::make_unique<VolumeManager>(
      VolumeManager::Ports{*host, *stores, *front_ends, *registry, *state, sink});
  const Status attached = volumes->reattach();
  front_ends->finish_start();
  if (const Status listening = serve_readers(options); !listening) {
    log.error("readers of snapshots cannot be served", {{"reason", listening.error().context}});
  }
  // A guardian that has gone restarts nobody: it shows at the first freeze.
  (void)guardian->serving();
  return attached;
}

Status Daemon::Parts::serve_readers(const DaemonOptions& options) {
  shm::ServerOptions server_options;
  server_options.socket_path = options.run_dir + "/" + std::string(shm::kSocketName);
  server_options.life_descriptor = life->descriptor();
  auto listening = shm::Server::start(server_options, reader_views, sink);
  if (!listening) return fail(listening.error());
  readers = std::move(*listening);
  return {};
}

// One that a restart interrupted is an operation again.
void Daemon::Parts::watch_revert(const VolumeId& volume, const SnapshotId& target) {
  const auto begun = operations->start("revert_to_snapshot", target.to_string(),
                                       [this, volume](OperationMonitor& monitor) {
                                         return provider->wait_for_revert(volume, monitor);
                                       });
  if (begun) return;
  log.warning("a revert goes on, but is not shown among the operations",
              {{"volume", volume.to_string()}, {"reason", begun.error().to_string()}});
}

void Daemon::Parts::serve(const DaemonOptions& options) {
  using rpc::provider_method;
  std::map<std::string, rpc::ProviderMethod> methods;
  methods["volume.attach"] = provider_method<rpc::AttachVolume, rpc::AttachedVolume>(
      [this](const rpc::AttachVolume& request) { return volumes->attach(request); });
  methods["volume.detach"] = provider_method<rpc::DetachVolume, rpc::Nothing>(
      [this](const rpc::DetachVolume& request) -> Result<rpc::Nothing> {
        if (const Status detached = volumes->detach(request.volume); !detached) {
          return fail(detached.error());
        }
        return rpc::Nothing{};
      });
  methods["snapshot.mount"] = provider_method<rpc::MountSnapshot, rpc::MountedSnapshot>(
      [this](const rpc::MountSnapshot& request) { return front_ends->mount_copy(request); });
  methods["snapshot.unmount"] = provider_method<rpc::UnmountSnapshot, rpc::Nothing>(
      [this](const rpc::UnmountSnapshot& request) -> Result<rpc::Nothing> {
        const Status unmounted = front_ends->unmount_copy(request.snapshot_id);
        if (!unmounted) return fail(unmounted.error());
        return rpc::Nothing{};
      });
  rpc::ProviderServerOptions server_options;
  server_options.socket_path = options.socket;
  server_options.program = std::string("umbra-cowd ") + kVersion;
  server_options.operations = operations.get();
  server_options.events = &events;
  server =
      std::make_unique<rpc::ProviderServer>(*provider, std::move(methods), server_options, sink);
}

Daemon::Daemon(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

Result<std::unique_ptr<Daemon>> Daemon::start(const DaemonOptions& options, SpdlogLog& log) {
  auto parts = std::make_unique<Parts>(options, log);
  for (const auto step : {&Parts::take_locks, &Parts::open_outside, &Parts::open_volumes}) {
    if (const Status done = ((*parts).*step)(options); !done) {
      const Error error = done.error();
      const Daemon takes_down(std::move(parts));
      return fail(error);
    }
  }
  parts->stop_patience = options.stop_patience;
  parts->serve(options);
  parts->log.info("umbra-cowd serves", {{"run_dir", options.run_dir},
                                        {"state_dir", options.state_dir},
                                        {"volumes", parts->volumes->list().size()}});
  parts->tell_ready();
  return std::unique_ptr<Daemon>(new Daemon(std::move(parts)));
}

// Volumes that cannot be attached must not keep a machine from booting: they are told, that is all.
void Daemon::Parts::tell_ready() const {
  const std::size_t all = volumes->list().size();
  const std::size_t attached = all - volumes->not_attached().size();
  const Status told = tell_service_manager("READY=1\nSTATUS=" + std::to_string(attached) + " of " +
                                           std::to_string(all) + " volumes attached");
  if (!told) log.warning("the service manager does not hear", {{"reason", told.error().context}});
}

// A shutdown unmounts while it stops us. Mounts of copies are ours to end.
void Daemon::Parts::wait_for_unmounting() const {
  const auto is_used = [&] {
    const auto all = volumes->list();
    return std::any_of(all.begin(), all.end(), [&](const VolumeProperties& volume) {
      return !front_ends->users(volume.volume_id).empty();
    });
  };
  if (stop_patience.count() > 0 && is_used()) {
    log.info("waiting for volumes to be unmounted", {{"seconds", stop_patience.count()}});
    (void)wait_until(stop_patience, [&] { return !is_used(); });
  }
  // A mount is gone from the table before its file system has written its last: its device can be
  // claimed then.
  for (const VolumeProperties& volume : volumes->list()) {
    if (volume.device == 0 || !front_ends->users(volume.volume_id).empty()) continue;
    if (const auto claimed = front_ends->claim(volume.volume_id, false); !claimed) {
      log.warning("a volume is in use, but mounted nowhere",
                  {{"volume", volume.name}, {"reason", claimed.error().context}});
    }
  }
}

void Daemon::Parts::flush_what_is_used() {
  const std::vector<std::string> users = volumes->in_use();
  if (users.empty()) return;
  for (const std::string& user : users) {
    log.error("in use while umbra-cowd stops; unmount before stopping it", {{"who", user}});
  }
  for (const VolumeProperties& volume : volumes->list()) {
    if (volume.device == 0) continue;
    // Each by itself: one that no mount leads to must not keep the others from it.
    if (const Status flushed = guardian->flush({volume.device}, kLastFlushLimit, {}); !flushed) {
      log.error("what is in use could not be flushed",
                {{"volume", volume.name}, {"reason", flushed.error().context}});
    }
  }
}

Daemon::~Daemon() {
  Parts& parts = *parts_;
  if (parts.server) (void)tell_service_manager("STOPPING=1");
  if (parts.provider) parts.provider->stop_waiting();
  parts.server.reset();
  parts.operations.reset();
  parts.readers.reset();
  if (parts.front_ends && parts.volumes) parts.wait_for_unmounting();
  if (parts.volumes) parts.flush_what_is_used();
  parts.store_events.when_gone(nullptr);
  if (parts.nbd) parts.nbd->set_details(nullptr);
  parts.provider.reset();
  if (parts.front_ends) parts.front_ends->end_copies();
  if (parts.volumes) parts.volumes->close();
  if (parts.front_ends) parts.front_ends->shut_down();
  if (parts.nbd) parts.log.info("umbra-cowd stopped");
}

}  // namespace umbra::cowd
