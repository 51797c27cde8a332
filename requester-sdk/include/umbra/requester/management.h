// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// What copies are kept in: listing, sizing and protecting diff areas, and what providers tell.
// IVssSnapshotMgmt and IVssDifferentialSoftwareSnapshotMgmt; umbra/diff_area_management.h says what
// each call does and how VSS's nouns are meant.
//
//   auto client = umbra::requester::Client::connect({.admin = true});
//   umbra::requester::Management management(*client);
//   auto operation = management.change_diff_area_maximum_size({volume}, 20LL << 30);
//   auto ended = management.wait_operation(*operation, std::chrono::minutes(5));
//
// Errors every call may give besides those of its namesake: those of Client;
// provider_not_registered (the provider is away); not_implemented (it offers no management).

#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "umbra/diff_area_management.h"
#include "umbra/provider_events.h"
#include "umbra/requester/client.h"
#include "umbra/requester/export.h"

namespace umbra::requester {

struct EventQuery {
  /// Only those above this number of umbrad's log; UINT64_MAX: none, only where it ends.
  std::uint64_t after = 0;
  std::uint32_t count = 256;
  std::chrono::milliseconds time_limit{0};  ///< To wait for one if there is none; at most a minute.
};
struct EventPage {
  std::vector<ProviderEvent> events{};
  std::uint64_t next = 0;  ///< `after` of the next query.
  std::uint64_t lost = 0;  ///< Came and went since `after`: this reader was too slow.
};

/// Management of one provider. A value that refers to its client, which must outlive it and must
/// not be moved meanwhile. What changes anything needs a client with the admin role. Threads: as
/// Client.
class UMBRA_REQUESTER_EXPORT Management {
 public:
  /// `provider` nil: the system provider.
  explicit Management(Client& client, const ProviderId& provider = {})
      : client_(&client), provider_(provider) {}

  [[nodiscard]] Result<std::vector<SupportedVolume>> query_volumes_supported_for_snapshots(
      std::uint32_t context);
  [[nodiscard]] Result<std::vector<SnapshotProperties>> query_snapshots_by_volume(
      const VolumeRef& volume);
  [[nodiscard]] Result<std::uint64_t> get_min_diff_area_size();

  [[nodiscard]] Status add_diff_area(const DiffAreaRef& area, std::int64_t maximum_bytes);
  /// Begins it; wait_operation() tells the outcome. The same with all that give an OperationId.
  [[nodiscard]] Result<OperationId> change_diff_area_maximum_size(const DiffAreaRef& area,
                                                                  std::int64_t maximum_bytes,
                                                                  bool is_volatile = false);
  [[nodiscard]] Result<std::vector<DiffVolumeProperties>> query_volumes_supported_for_diff_areas(
      const VolumeRef& original_volume);
  /// `volume` that names nothing: of all.
  [[nodiscard]] Result<std::vector<DiffAreaProperties>> query_diff_areas_for_volume(
      const VolumeRef& volume);
  [[nodiscard]] Result<std::vector<DiffAreaProperties>> query_diff_areas_on_volume(
      const std::string& diff_volume);
  [[nodiscard]] Result<std::vector<DiffAreaProperties>> query_diff_areas_for_snapshot(
      const SnapshotId& snapshot);

  [[nodiscard]] Result<OperationId> migrate_diff_areas(const DiffAreaRef& area,
                                                       const std::string& new_diff_volume,
                                                       std::uint64_t bytes_per_second = 0);

  /// QueryMigrationStatus: of the last move of the volume's diff area that the provider knows of.
  /// Errors: object_not_found (no such volume; none since the provider was started).
  [[nodiscard]] Result<OperationInfo> query_migration_status(const VolumeRef& volume);

  [[nodiscard]] Status set_volume_protect_level(const VolumeRef& volume, ProtectionLevel level);
  [[nodiscard]] Result<VolumeProtectionInfo> get_volume_protect_level(const VolumeRef& volume);
  [[nodiscard]] Result<OperationId> clear_volume_protect_fault(const VolumeRef& volume);
  /// Begins it; its facts say what was deleted, and what stays and why.
  [[nodiscard]] Result<OperationId> delete_unused_diff_areas(const std::string& diff_volume);
  [[nodiscard]] Result<SnapshotDelta> query_snapshot_delta_bitmap(const SnapshotId& older,
                                                                  const SnapshotId& younger,
                                                                  std::uint64_t first_block = 0);
  [[nodiscard]] Status retain_snapshot(const SnapshotId& snapshot, std::int64_t until_filetime);

  /// Begins it. Its facts say what was found; it fails with diff_area_corrupt where that is damage.
  [[nodiscard]] Result<OperationId> scrub_diff_area(const VolumeRef& volume,
                                                    std::uint64_t bytes_per_second = 0);

  /// IVssBackupComponents::RevertToSnapshot: returns when the revert has started, or why it has
  /// not. Blocks for a moment; wait_operation() tells the outcome. No writer hears of it.
  [[nodiscard]] Result<OperationId> revert_to_snapshot(const SnapshotId& snapshot,
                                                       bool force_dismount = false);
  /// IVssBackupComponents::QueryRevertStatus; a volume that names nothing means all. After a
  /// restart of the provider this still tells of a revert whose operation is gone.
  [[nodiscard]] Result<std::vector<RevertInfo>> query_revert_status(const VolumeRef& volume);
  [[nodiscard]] Status abandon_revert(const VolumeRef& volume);

  [[nodiscard]] Result<CheckpointProperties> create_checkpoint(const SnapshotId& snapshot,
                                                               const std::string& name);
  [[nodiscard]] Result<std::vector<CheckpointProperties>> query_checkpoints(
      const VolumeRef& volume);
  [[nodiscard]] Status delete_checkpoint(const CheckpointId& checkpoint);
  [[nodiscard]] Result<SnapshotDelta> query_changes(const Guid& since, const SnapshotId& until = {},
                                                    std::uint64_t first_block = 0);

  // --- operations of the provider, by whomever they were begun -----------------------------------

  [[nodiscard]] Result<std::vector<OperationInfo>> list_operations();
  /// How it stands once it has ended, or after `limit` (then its status is async_pending). It goes
  /// on whether anybody waits or not. An operation that failed is no error of this call. Errors:
  /// object_not_found (ended long ago, or the provider was started anew).
  [[nodiscard]] Result<OperationInfo> wait_operation(const OperationId& operation,
                                                     std::chrono::milliseconds limit);
  /// Asks it to stop at the next safe place; one that has ended stays as it is.
  [[nodiscard]] Result<OperationInfo> cancel_operation(const OperationId& operation);

  // --- events of all providers -------------------------------------------------------------------

  /// Those after `query.after`, oldest first; waits for one as the query says.
  [[nodiscard]] Result<EventPage> query_events(const EventQuery& query);

 private:
  Client* client_;
  ProviderId provider_;
};

}  // namespace umbra::requester
