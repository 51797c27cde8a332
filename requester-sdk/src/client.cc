// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "umbra/requester/client.h"

#include "requester-sdk/src/client_impl.h"
#include "requester-sdk/src/convert.h"
#include "requester-sdk/src/link.h"

namespace umbra::requester {
namespace {

using namespace std::chrono_literals;

// What may take long has a bound of its own.
constexpr std::chrono::milliseconds kDeleteLimit = 10min;
constexpr std::chrono::milliseconds kAttachLimit = 10min;
constexpr std::chrono::milliseconds kDetachLimit = 5min;

}  // namespace

Client::Client(std::unique_ptr<Impl> impl) noexcept : impl_(std::move(impl)) {}
Client::Client(Client&&) noexcept = default;
Client& Client::operator=(Client&&) noexcept = default;
Client::~Client() = default;

Result<Client> Client::connect(const ConnectOptions& options) {
  Result<std::unique_ptr<Link>> link = connect_link(options);
  if (!link) return fail(link.error());
  return Client(std::make_unique<Impl>(std::move(*link)));
}

Result<VolumeList> Client::list_volumes() {
  auto reply = impl_->link->call<rpc::VolumeList>("volume.list", rpc::Nothing{});
  if (!reply) return fail(reply.error());
  return from_wire(std::move(*reply));
}

Result<SnapshotList> Client::list_snapshots(const SnapshotQuery& query) {
  auto reply = impl_->link->call<rpc::SnapshotList>(
      "query.snapshots", rpc::QuerySnapshots{query.context, query.incomplete});
  if (!reply) return fail(reply.error());
  return from_wire(std::move(*reply));
}

Result<std::vector<WriterInfo>> Client::list_writers() {
  auto reply = impl_->link->call<rpc::WriterEntryList>("query.writers", rpc::Nothing{});
  if (!reply) return fail(reply.error());
  return from_wire(std::move(*reply));
}

Result<std::vector<ProviderInfo>> Client::list_providers() {
  auto reply = impl_->link->call<rpc::ProviderList>("query.providers", rpc::Nothing{});
  if (!reply) return fail(reply.error());
  return from_wire(std::move(*reply));
}

Result<CoordinatorStatus> Client::status() {
  auto reply = impl_->link->call<rpc::CoordinatorStatus>("coordinator.status", rpc::Nothing{});
  if (!reply) return fail(reply.error());
  return from_wire(std::move(*reply));
}

Result<CoordinatorSettings> Client::settings() {
  auto reply = impl_->link->call<rpc::CoordinatorSettings>("query.settings", rpc::Nothing{});
  if (!reply) return fail(reply.error());
  return from_wire(std::move(*reply));
}

Result<SetTrace> Client::trace(const SnapshotSetId& set) {
  auto reply = impl_->link->call<rpc::SetTrace>("query.trace", rpc::QueryTrace{set});
  if (!reply) return fail(reply.error());
  return from_wire(std::move(*reply));
}

Result<std::vector<SetTrace>> Client::list_traces() {
  auto reply = impl_->link->call<rpc::TraceList>("query.traces", rpc::Nothing{});
  if (!reply) return fail(reply.error());
  std::vector<SetTrace> list;
  for (rpc::SetTrace& trace : reply->traces) list.push_back(from_wire(std::move(trace)));
  return list;
}

Result<SnapshotProperties> Client::snapshot_properties(const SnapshotId& id) {
  const Result<SnapshotList> list = list_snapshots({.context = context::kAll, .incomplete = true});
  if (!list) return fail(list.error());
  return find_snapshot(*list, id);
}

Result<DeletedSnapshots> Client::delete_snapshots(const Guid& id, ObjectType type, bool force) {
  if (type != ObjectType::snapshot && type != ObjectType::snapshot_set) {
    return fail(Errc::invalid_argument, "delete_snapshots: the type must be snapshot or set");
  }
  auto reply = impl_->link->call<rpc::DeletedSnapshots>(
      "snapshot.delete", rpc::DeleteSnapshots{id, type, force}, kDeleteLimit);
  if (!reply) return fail(reply.error());
  return from_wire(std::move(*reply));
}

Result<MountedSnapshot> Client::mount_snapshot(const SnapshotId& id, const MountOptions& options) {
  auto reply = impl_->link->call<rpc::MountedSnapshot>(
      "snapshot.mount", rpc::MountSnapshot{id, options.directory, options.recover, options.write});
  if (!reply) return fail(reply.error());
  return MountedSnapshot{std::move(reply->path), std::move(reply->device_path),
                         std::move(reply->notes)};
}

Result<MountedSnapshot> Client::mount_snapshot(const SnapshotId& id, const std::string& directory) {
  return mount_snapshot(id, MountOptions{.directory = directory});
}

Status Client::unmount_snapshot(const SnapshotId& id) {
  const auto reply = impl_->link->call<rpc::Nothing>("snapshot.unmount", rpc::UnmountSnapshot{id});
  if (!reply) return fail(reply.error());
  return {};
}

Result<AttachedVolume> Client::attach_volume(const AttachOptions& options) {
  auto reply =
      impl_->link->call<rpc::AttachedVolume>("volume.attach", to_wire(options), kAttachLimit);
  if (!reply) return fail(reply.error());
  return AttachedVolume{std::move(reply->volume), std::move(reply->notes)};
}

Status Client::detach_volume(const VolumeRef& volume) {
  const auto reply =
      impl_->link->call<rpc::Nothing>("volume.detach", rpc::DetachVolume{volume}, kDetachLimit);
  if (!reply) return fail(reply.error());
  return {};
}

Result<AbortedSet> Client::abort_set(const std::string& reason) {
  auto reply = impl_->link->call<rpc::AbortedSet>("coordinator.abort", rpc::AbortSet{reason});
  if (!reply) return fail(reply.error());
  return AbortedSet{reply->set_id, std::move(reply->holder)};
}

Status Client::register_provider(const ProviderProperties& properties) {
  const auto reply = impl_->link->call<rpc::Nothing>("coordinator.register_provider", properties);
  if (!reply) return fail(reply.error());
  return {};
}

Status Client::unregister_provider(const ProviderId& id, bool force) {
  const auto reply = impl_->link->call<ProviderProperties>("coordinator.unregister_provider",
                                                           rpc::UnregisterProvider{id, force});
  if (!reply) return fail(reply.error());
  return {};
}

}  // namespace umbra::requester
