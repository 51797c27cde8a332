// SPDX-License-Identifier: Apache-2.0
//
// Private to the system provider: management of the diff areas of its volumes.
//
// Rules, as VSS has them: a volume has one association, made when it is attached. It becomes
// explicit by add_diff_area(), which a volume with copies or with an explicit association refuses,
// and by any change of the maximum; kAssocRemove makes it automatic again, without a bound, and is
// refused while there are copies. A maximum is at least the minimum. What has to go when it is
// lowered goes oldest first, mounted or not: an administrator has said so.

#pragma once

#include <string>
#include <vector>

#include "provider/contract/system_provider_state.h"
#include "umbra/diff_area_management.h"

namespace umbra::contract {

class SystemProvider::Management final : public DiffAreaManagement {
 public:
  explicit Management(SystemProvider& provider) : provider_(provider) {}

  [[nodiscard]] Result<std::vector<SupportedVolume>> query_volumes_supported_for_snapshots(
      std::uint32_t context) override;
  [[nodiscard]] Result<std::vector<SnapshotProperties>> query_snapshots_by_volume(
      const VolumeRef& volume) override;
  [[nodiscard]] Result<std::uint64_t> get_min_diff_area_size() override;
  [[nodiscard]] Status add_diff_area(const DiffAreaRef& area, std::int64_t maximum_bytes) override;
  [[nodiscard]] Status change_diff_area_maximum_size(const DiffAreaRef& area,
                                                     std::int64_t maximum_bytes, bool is_volatile,
                                                     OperationMonitor& monitor) override;
  [[nodiscard]] Result<std::vector<DiffVolumeProperties>> query_volumes_supported_for_diff_areas(
      const VolumeRef& original_volume) override;
  [[nodiscard]] Result<std::vector<DiffAreaProperties>> query_diff_areas_for_volume(
      const VolumeRef& volume) override;
  [[nodiscard]] Result<std::vector<DiffAreaProperties>> query_diff_areas_on_volume(
      const std::string& diff_volume) override;
  [[nodiscard]] Result<std::vector<DiffAreaProperties>> query_diff_areas_for_snapshot(
      const SnapshotId& snapshot) override;
  // migration.cc
  [[nodiscard]] Status migrate_diff_areas(const DiffAreaRef& area,
                                          const std::string& new_diff_volume,
                                          OperationMonitor& monitor) override;
  [[nodiscard]] Status move_diff_area(const DiffAreaMove& move, OperationMonitor& monitor) override;
  // unused.cc
  [[nodiscard]] Status delete_unused_diff_areas(const std::string& diff_volume,
                                                OperationMonitor& monitor) override;
  // protection.cc
  [[nodiscard]] Status set_volume_protect_level(const VolumeRef& volume,
                                                ProtectionLevel level) override;
  [[nodiscard]] Result<VolumeProtectionInfo> get_volume_protect_level(
      const VolumeRef& volume) override;
  [[nodiscard]] Status clear_volume_protect_fault(const VolumeRef& volume,
                                                  OperationMonitor& monitor) override;
  [[nodiscard]] Status retain_snapshot(const SnapshotId& snapshot,
                                       std::int64_t until_filetime) override;
  [[nodiscard]] Status scrub_diff_area(const VolumeRef& volume, std::uint64_t bytes_per_second,
                                       OperationMonitor& monitor) override;  // scrub.cc
  [[nodiscard]] Result<SnapshotDelta> query_snapshot_delta_bitmap(
      const SnapshotId& older, const SnapshotId& younger,
      std::uint64_t first_block) override;  // delta.cc
  [[nodiscard]] Result<SnapshotDelta> query_changes(const Guid& since, const SnapshotId& until,
                                                    std::uint64_t first_block) override;
  // revert.cc
  [[nodiscard]] Status revert_to_snapshot(const SnapshotId& snapshot, bool force_dismount,
                                          OperationMonitor& monitor) override;
  [[nodiscard]] Result<std::vector<RevertInfo>> query_revert_status(
      const VolumeRef& volume) override;
  [[nodiscard]] Status abandon_revert(const VolumeRef& volume) override;
  // checkpoints.cc
  [[nodiscard]] Result<CheckpointProperties> create_checkpoint(const SnapshotId& snapshot,
                                                               const std::string& name) override;
  [[nodiscard]] Result<std::vector<CheckpointProperties>> query_checkpoints(
      const VolumeRef& volume) override;
  [[nodiscard]] Status delete_checkpoint(const CheckpointId& checkpoint) override;

 private:
  [[nodiscard]] bool has_unused_area(const Entry& entry) const;  // unused.cc
  [[nodiscard]] Status check_no_set(const EntryPtr& entry) const;
  [[nodiscard]] Status check_nothing_on(const Entry& entry) const;
  [[nodiscard]] Status begin_revert(const EntryPtr& entry, const cow::SnapshotRecord& target,
                                    bool force_dismount);
  [[nodiscard]] Status withdraw_younger(cow::Volume& volume,
                                        const std::vector<cow::SnapshotRecord>& younger,
                                        bool force);
  struct CheckpointEntry {
    EntryPtr entry;
    cow::CheckpointRecord record;
  };
  [[nodiscard]] std::optional<CheckpointEntry> find_checkpoint(const Guid& id) const;
  [[nodiscard]] Result<std::vector<EntryPtr>> entries_of(const VolumeRef& volume) const;
  [[nodiscard]] DiffAreaProperties describe(const Entry& entry) const;  // mutex_ of the provider
  [[nodiscard]] std::vector<DiffAreaProperties> describe_all(
      const std::vector<EntryPtr>& entries) const;
  [[nodiscard]] Status check_place(const Entry& entry, const std::string& diff_volume) const;
  [[nodiscard]] Status check_maximum(const Entry& entry, std::int64_t bytes) const;
  [[nodiscard]] std::uint64_t minimum_of(const Entry& entry) const;
  [[nodiscard]] Result<EntryPtr> find(const DiffAreaRef& area) const;
  /// To be used without its turn, beside other calls. Errors: object_not_found (it was removed).
  [[nodiscard]] Result<std::shared_ptr<cow::Volume>> keep_volume(const Entry& entry) const;

  SystemProvider& provider_;
};

}  // namespace umbra::contract
