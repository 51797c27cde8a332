// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// Copies beyond the session's own set: looking for them, deleting, exposing, breaking, importing
// and going back to them.
#include <utility>

#include "requester-sdk/src/convert.h"
#include "requester-sdk/src/revert.h"
#include "requester-sdk/src/session_logic.h"

namespace umbra::requester {
namespace {

using namespace std::chrono_literals;

// Deleting may have to wait for readers and to write; see Client::delete_snapshots.
constexpr std::chrono::milliseconds kDeleteLimit = 10min;

bool names_something(const VolumeRef& volume) {
  return volume.id || volume.device || !volume.name.empty();
}

}  // namespace

// --- looking -------------------------------------------------------------------------------------

Result<SnapshotList> SessionLogic::list_snapshots(const SnapshotQuery& query) {
  const Status allowed = allow("list_snapshots");
  if (!allowed) return fail(allowed.error());
  auto list = request<rpc::SnapshotList>("query.snapshots",
                                         rpc::QuerySnapshots{query.context, query.incomplete});
  if (!list) return fail(list.error());
  return from_wire(std::move(*list));
}

Result<ObjectEnumeration> SessionLogic::query(ObjectType type) {
  if (const Status allowed = allow("query"); !allowed) return fail(allowed.error());
  std::vector<ObjectProperties> objects;
  if (type == ObjectType::provider) {
    auto list = request<rpc::ProviderList>("query.providers", rpc::Nothing{});
    if (!list) return fail(list.error());
    std::vector<std::string> absent;
    for (rpc::ProviderEntry& entry : list->providers) {
      if (!entry.connected) absent.push_back(entry.properties.name);
      objects.emplace_back(std::move(entry.properties));
    }
    queried_ = true;
    return ObjectEnumeration(std::move(objects), std::move(absent));
  }
  if (type != ObjectType::snapshot) {
    return fail(Errc::invalid_argument, "query: the type must be snapshot or provider");
  }
  auto list = request<rpc::SnapshotList>("query.snapshots", rpc::QuerySnapshots{context_, false});
  if (!list) return fail(list.error());
  for (SnapshotProperties& snapshot : list->snapshots) objects.emplace_back(std::move(snapshot));
  queried_ = true;
  return ObjectEnumeration(std::move(objects), std::move(list->absent_providers));
}

Result<SnapshotProperties> SessionLogic::snapshot_properties(const SnapshotId& id) {
  return find("snapshot_properties", id);
}

Result<SnapshotProperties> SessionLogic::find(std::string_view call, const SnapshotId& id) {
  if (const Status allowed = allow(call); !allowed) return fail(allowed.error());
  auto list = request<rpc::SnapshotList>("query.snapshots", rpc::QuerySnapshots{});
  if (!list) return fail(list.error());
  return find_snapshot(from_wire(std::move(*list)), id);
}

Result<bool> SessionLogic::is_volume_supported(const VolumeRef& volume,
                                               const ProviderId& provider) {
  if (const Status allowed = allow("is_volume_supported"); !allowed) return fail(allowed.error());
  if (!names_something(volume)) {
    return fail(Errc::invalid_argument, "is_volume_supported: the volume must be named");
  }
  const auto reply = request<rpc::SupportReply>("session.is_volume_supported",
                                                rpc::IsVolumeSupported{volume, provider});
  if (!reply) return fail(reply.error());
  return reply->supported;
}

// --- deleting and exposing
// ------------------------------------------------------------------------

Result<DeletedSnapshots> SessionLogic::delete_snapshots(const Guid& id, ObjectType type,
                                                        bool force) {
  if (const Status allowed = allow("delete_snapshots"); !allowed) return fail(allowed.error());
  if (type != ObjectType::snapshot && type != ObjectType::snapshot_set) {
    return fail(Errc::invalid_argument, "delete_snapshots: the type must be snapshot or set");
  }
  auto reply = request<rpc::DeletedSnapshots>("snapshot.delete",
                                              rpc::DeleteSnapshots{id, type, force}, kDeleteLimit);
  if (!reply) return fail(reply.error());
  return from_wire(std::move(*reply));
}

Result<std::string> SessionLogic::expose_snapshot(const SnapshotId& id,
                                                  const ExposeOptions& options) {
  const auto snapshot = find("expose_snapshot", id);
  if (!snapshot) return fail(snapshot.error());
  if (options.remotely) {
    return fail(Errc::not_supported,
                "expose_snapshot: Umbra has no file server to make a share with; expose the "
                "snapshot locally and share its directory with yours");
  }
  if (!options.path_from_root.empty()) {
    return fail(Errc::invalid_argument,
                "expose_snapshot: path_from_root is for shares; locally the whole copy is shown");
  }
  if (!options.directory.empty() && !options.directory.starts_with('/')) {
    return fail(Errc::invalid_argument, "expose_snapshot: the directory must be absolute");
  }
  if ((snapshot->attributes & attribute::kClientAccessible) != 0 ||
      !is_persistent(snapshot->attributes)) {
    return fail(Errc::unsupported_context,
                "expose_snapshot: only persistent copies that are not client-accessible can be "
                "exposed; read this one at its device object");
  }
  auto reply =
      request<rpc::MountedSnapshot>("snapshot.mount", rpc::MountSnapshot{id, options.directory});
  if (!reply) return fail(reply.error());
  return std::move(reply->path);
}

Status SessionLogic::unexpose_snapshot(const SnapshotId& id) {
  const auto snapshot = find("unexpose_snapshot", id);
  if (!snapshot) return fail(snapshot.error());
  if (snapshot->exposed_path.empty()) {
    return fail(Errc::object_not_found,
                "unexpose_snapshot: snapshot " + id.to_string() + " is not exposed");
  }
  const auto reply = request<rpc::Nothing>("snapshot.unmount", rpc::UnmountSnapshot{id});
  if (!reply) return fail(reply.error());
  return {};
}

// --- import and break
// -----------------------------------------------------------------------------

Status SessionLogic::import_snapshots(std::chrono::milliseconds limit, const OnProgress& progress) {
  if (Status allowed = allow("import_snapshots"); !allowed) return allowed;
  const auto done = run("import_snapshots", rpc::Nothing{}, limit, progress);
  if (!done) return fail(done.error());
  return {};
}

Result<AsyncOperation> SessionLogic::start_import_snapshots() {
  if (const Status allowed = allow("import_snapshots"); !allowed) return fail(allowed.error());
  return start("import_snapshots", state_, rpc::Nothing{});
}

Status SessionLogic::break_snapshot_set(const SnapshotSetId& set, std::uint32_t flags,
                                        std::chrono::milliseconds limit) {
  if (Status allowed = allow("break_snapshot_set"); !allowed) return allowed;
  const auto done =
      run("break_snapshot_set", rpc::BreakSnapshotSet{set, flags}, limit, OnProgress{});
  if (!done) return fail(done.error());
  return {};
}

Result<AsyncOperation> SessionLogic::start_break_snapshot_set(const SnapshotSetId& set,
                                                              std::uint32_t flags) {
  if (const Status allowed = allow("break_snapshot_set"); !allowed) return fail(allowed.error());
  return start("break_snapshot_set", state_, rpc::BreakSnapshotSet{set, flags});
}

// --- going back
// -----------------------------------------------------------------------------------

Status SessionLogic::revert_to_snapshot(const SnapshotId& id, bool force_dismount) {
  const auto snapshot = find("revert_to_snapshot", id);
  if (!snapshot) return fail(snapshot.error());
  if (!is_persistent(snapshot->attributes)) {
    return fail(Errc::unsupported_context,
                "revert_to_snapshot: only to persistent copies; this one goes with its session");
  }
  const auto started = start_revert(link_, snapshot->provider_id, id, force_dismount);
  if (!link_.is_open()) state_ = SessionState::lost;
  if (!started) return fail(started.error());
  return {};
}

Result<RevertInfo> SessionLogic::query_revert_status(const VolumeRef& volume) {
  if (const Status allowed = allow("query_revert_status"); !allowed) return fail(allowed.error());
  if (!names_something(volume)) {
    return fail(Errc::invalid_argument, "query_revert_status: the volume must be named");
  }
  auto list = reverts(link_, ProviderId{}, volume);
  if (!link_.is_open()) state_ = SessionState::lost;
  if (!list) return fail(list.error());
  if (!list->empty()) return std::move(list->front());
  return fail(Errc::object_not_found,
              "query_revert_status: no revert is under way; it has "
              "finished, or there was none");
}

Result<AsyncOperation> SessionLogic::start_query_revert_status(const VolumeRef& volume) {
  const auto revert = query_revert_status(volume);
  if (!revert) return fail(revert.error());
  return operations_.observe("query_revert_status",
                             [this, id = revert->volume_id](std::chrono::milliseconds slice) {
                               return look_at_revert(link_, id, slice);
                             });
}

}  // namespace umbra::requester
