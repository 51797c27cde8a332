// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "engine/rpc/management_calls.h"

#include <array>
#include <utility>

#include "engine/rpc/serving.h"

namespace umbra::rpc {
namespace {

constexpr const char* kMigration = "migrate_diff_areas";

struct Served {
  Provider& provider;
  DiffAreaManagement& management;
  OperationTable& operations;
};
using Serve = Result<Json> (*)(const Served&, const Json&);

std::string subject_of(const VolumeRef& volume) {
  if (!volume.path.empty()) return volume.path;
  if (!volume.name.empty()) return volume.name;
  if (volume.id) return volume.id->to_string();
  return volume.device ? "device " + std::to_string(*volume.device) : "";
}

// --- IVssSnapshotMgmt ---------------------------------------------------------------------------

Result<Json> volumes_for_snapshots(const Served& at, const ManagementQuery& request) {
  return reply<SupportedVolumeList>(
      at.management.query_volumes_supported_for_snapshots(request.context));
}
Result<Json> snapshots_by_volume(const Served& at, const ManagementVolume& request) {
  auto snapshots = at.management.query_snapshots_by_volume(request.volume);
  if (!snapshots) return fail(snapshots.error());
  return encode(SnapshotList{std::move(*snapshots), {}});
}
Result<Json> min_size(const Served& at, const ManagementQuery&) {
  return reply<MinDiffAreaSize>(at.management.get_min_diff_area_size());
}

// --- IVssDifferentialSoftwareSnapshotMgmt -------------------------------------------------------

Result<Json> add_area(const Served& at, const ManagementDiffArea& request) {
  return nothing_or(
      at.management.add_diff_area({request.volume, request.diff_volume}, request.maximum_bytes));
}
Result<Json> change_maximum(const Served& at, const ManagementDiffArea& request) {
  return started(at.operations.start(
      "change_diff_area_maximum_size", subject_of(request.volume),
      [&management = at.management, request](OperationMonitor& monitor) {
        return management.change_diff_area_maximum_size({request.volume, request.diff_volume},
                                                        request.maximum_bytes, request.is_volatile,
                                                        monitor);
      }));
}
Result<Json> volumes_for_areas(const Served& at, const ManagementVolume& request) {
  return reply<DiffVolumeList>(
      at.management.query_volumes_supported_for_diff_areas(request.volume));
}
Result<Json> areas_for_volume(const Served& at, const ManagementVolume& request) {
  return reply<DiffAreaList>(at.management.query_diff_areas_for_volume(request.volume));
}
Result<Json> areas_on_volume(const Served& at, const ManagementDiffVolume& request) {
  return reply<DiffAreaList>(at.management.query_diff_areas_on_volume(request.diff_volume));
}
Result<Json> areas_for_snapshot(const Served& at, const ManagementSnapshot& request) {
  return reply<DiffAreaList>(at.management.query_diff_areas_for_snapshot(request.snapshot_id));
}
Result<Json> migrate(const Served& at, const ManagementDiffArea& request) {
  return started(
      at.operations.start(kMigration, subject_of(request.volume),
                          [&management = at.management, request](OperationMonitor& monitor) {
                            return management.move_diff_area({{request.volume, request.diff_volume},
                                                              request.new_diff_volume,
                                                              request.bytes_per_second},
                                                             monitor);
                          }));
}
// QueryMigrationStatus: the operation is the IVssAsync.
Result<Json> migration_status(const Served& at, const ManagementVolume& request) {
  const auto volume = at.provider.find_volume(request.volume);
  if (!volume) return fail(volume.error());
  const OperationFact wanted{"volume_id", volume->volume_id.to_string()};
  std::vector<OperationInfo> all = at.operations.list();
  for (auto it = all.rbegin(); it != all.rend(); ++it) {
    if (it->kind != kMigration) continue;
    for (const OperationFact& fact : it->facts) {
      if (fact.name == wanted.name && fact.value == wanted.value) return encode(*it);
    }
  }
  return fail(Errc::object_not_found,
              "no move of the diff area of '" + volume->name + "' is known here");
}
Result<Json> set_priority(const Served& at, const ManagementSnapshot& request) {
  return nothing_or(at.management.set_snapshot_priority(request.snapshot_id, request.priority));
}

// --- IVssDifferentialSoftwareSnapshotMgmt3, and ours --------------------------------------------

Result<Json> set_level(const Served& at, const SetProtectLevel& request) {
  return nothing_or(at.management.set_volume_protect_level(request.volume, request.level));
}
Result<Json> get_level(const Served& at, const ManagementVolume& request) {
  return reply_itself(at.management.get_volume_protect_level(request.volume));
}
Result<Json> clear_fault(const Served& at, const ManagementVolume& request) {
  return started(
      at.operations.start("clear_volume_protect_fault", subject_of(request.volume),
                          [&management = at.management, request](OperationMonitor& monitor) {
                            return management.clear_volume_protect_fault(request.volume, monitor);
                          }));
}
Result<Json> delete_unused(const Served& at, const ManagementDiffVolume& request) {
  return started(at.operations.start(
      "delete_unused_diff_areas", request.diff_volume,
      [&management = at.management, request](OperationMonitor& monitor) {
        return management.delete_unused_diff_areas(request.diff_volume, monitor);
      }));
}
Result<Json> delta(const Served& at, const QueryDelta& request) {
  return reply_itself(at.management.query_snapshot_delta_bitmap(request.older, request.younger,
                                                                request.first_block));
}
Result<Json> retain(const Served& at, const ManagementSnapshot& request) {
  return nothing_or(at.management.retain_snapshot(request.snapshot_id, request.until_filetime));
}

Result<Json> scrub(const Served& at, const ScrubDiffArea& request) {
  return started(at.operations.start(
      "scrub_diff_area", subject_of(request.volume),
      [&management = at.management, request](OperationMonitor& monitor) {
        return management.scrub_diff_area(request.volume, request.bytes_per_second, monitor);
      }));
}

// --- revert, checkpoints ------------------------------------------------------------------------

Result<Json> revert(const Served& at, const RevertToSnapshot& request) {
  return started(at.operations.start(
      "revert_to_snapshot", request.snapshot_id.to_string(),
      [&management = at.management, request](OperationMonitor& monitor) {
        return management.revert_to_snapshot(request.snapshot_id, request.force_dismount, monitor);
      }));
}
Result<Json> revert_status(const Served& at, const ManagementVolume& request) {
  return reply<RevertList>(at.management.query_revert_status(request.volume));
}
Result<Json> abandon(const Served& at, const ManagementVolume& request) {
  return nothing_or(at.management.abandon_revert(request.volume));
}
Result<Json> make_checkpoint(const Served& at, const CreateCheckpoint& request) {
  return reply_itself(at.management.create_checkpoint(request.snapshot_id, request.name));
}
Result<Json> checkpoints(const Served& at, const ManagementVolume& request) {
  return reply<CheckpointList>(at.management.query_checkpoints(request.volume));
}
Result<Json> remove_checkpoint(const Served& at, const DeleteCheckpoint& request) {
  return nothing_or(at.management.delete_checkpoint(request.checkpoint_id));
}
Result<Json> changes(const Served& at, const QueryChanges& request) {
  return reply_itself(
      at.management.query_changes(request.since, request.until, request.first_block));
}

struct Entry {
  std::string_view member;  // After "management.".
  bool query;
  Serve serve;
};
constexpr std::array kMembers{
    Entry{"query_volumes_supported_for_snapshots", true,
          served<ManagementQuery, volumes_for_snapshots>},
    Entry{"query_snapshots_by_volume", true, served<ManagementVolume, snapshots_by_volume>},
    Entry{"get_min_diff_area_size", true, served<ManagementQuery, min_size>},
    Entry{"add_diff_area", false, served<ManagementDiffArea, add_area>},
    Entry{"change_diff_area_maximum_size", false, served<ManagementDiffArea, change_maximum>},
    Entry{"query_volumes_supported_for_diff_areas", true,
          served<ManagementVolume, volumes_for_areas>},
    Entry{"query_diff_areas_for_volume", true, served<ManagementVolume, areas_for_volume>},
    Entry{"query_diff_areas_on_volume", true, served<ManagementDiffVolume, areas_on_volume>},
    Entry{"query_diff_areas_for_snapshot", true, served<ManagementSnapshot, areas_for_snapshot>},
    Entry{"migrate_diff_areas", false, served<ManagementDiffArea, migrate>},
    Entry{"query_migration_status", true, served<ManagementVolume, migration_status>},
    Entry{"set_snapshot_priority", false, served<ManagementSnapshot, set_priority>},
    Entry{"set_volume_protect_level", false, served<SetProtectLevel, set_level>},
    Entry{"get_volume_protect_level", true, served<ManagementVolume, get_level>},
    Entry{"clear_volume_protect_fault", false, served<ManagementVolume, clear_fault>},
    Entry{"delete_unused_diff_areas", false, served<ManagementDiffVolume, delete_unused>},
    Entry{"query_snapshot_delta_bitmap", true, served<QueryDelta, delta>},
    Entry{"retain_snapshot", false, served<ManagementSnapshot, retain>},
    Entry{"scrub_diff_area", false, served<ScrubDiffArea, scrub>},
    Entry{"revert_to_snapshot", false, served<RevertToSnapshot, revert>},
    Entry{"query_revert_status", true, served<ManagementVolume, revert_status>},
    Entry{"abandon_revert", false, served<ManagementVolume, abandon>},
    Entry{"create_checkpoint", false, served<CreateCheckpoint, make_checkpoint>},
    Entry{"query_checkpoints", true, served<ManagementVolume, checkpoints>},
    Entry{"delete_checkpoint", false, served<DeleteCheckpoint, remove_checkpoint>},
    Entry{"query_changes", true, served<QueryChanges, changes>},
};

// --- operations: also of a provider that offers no management -----------------------------------

Result<Json> list_operations(OperationTable& operations, const Json&) {
  return encode(OperationList{operations.list()});
}
Result<Json> query_operation(OperationTable& operations, const Json& params) {
  const auto request = decode<ProviderOperation>(params);
  if (!request) return fail(request.error());
  return reply_itself(operations.query(request->operation_id));
}
Result<Json> cancel_operation(OperationTable& operations, const Json& params) {
  const auto request = decode<ProviderOperation>(params);
  if (!request) return fail(request.error());
  return reply_itself(operations.cancel(request->operation_id));
}

struct OperationEntry {
  std::string_view member;
  bool query;
  Result<Json> (*serve)(OperationTable&, const Json&);
};
constexpr std::array kOperationMembers{
    OperationEntry{"operations", true, list_operations},
    OperationEntry{"wait_operation", true, query_operation},
    OperationEntry{"cancel_operation", false, cancel_operation},
};

template <class Table>
auto find(const Table& table, std::string_view method) noexcept -> decltype(table.data()) {
  if (method.substr(0, kManagementPrefix.size()) != kManagementPrefix) return nullptr;
  for (const auto& entry : table) {
    if (entry.member == method.substr(kManagementPrefix.size())) return &entry;
  }
  return nullptr;
}

}  // namespace

std::optional<bool> is_management_query(std::string_view method) noexcept {
  if (const auto* entry = find(kMembers, method)) return entry->query;
  if (const auto* entry = find(kOperationMembers, method)) return entry->query;
  return std::nullopt;
}

Result<Json> serve_management_call(Provider& provider, OperationTable& operations,
                                   const std::string& method, const Json& params) {
  if (const auto* entry = find(kOperationMembers, method)) return entry->serve(operations, params);
  const auto* entry = find(kMembers, method);
  if (entry == nullptr) return fail(Errc::not_implemented, "no method '" + method + "'");
  DiffAreaManagement* management = provider.management();
  if (management == nullptr) {
    return fail(Errc::not_implemented, "the provider '" + provider.properties().name +
                                           "' offers no management of diff areas");
  }
  return entry->serve({provider, *management, operations}, params);
}

}  // namespace umbra::rpc
