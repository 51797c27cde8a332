// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// Management of what copies are kept in: an optional interface that a Provider offers through
// Provider::management(). It corresponds to IVssSnapshotMgmt, IVssSnapshotMgmt2 and
// IVssDifferentialSoftwareSnapshotMgmt 1 to 3, with what Umbra adds at the end.
//
// VSS's nouns here:
//   volume, original volume   an attached volume
//   diff area                 the file or block device in which its old data is kept
//   diff volume               what diff areas lie on: the file system of such a file, named by its
//                             mount point or by any path on it; or a block device, by its path
//   association               which diff area a volume has. Attaching a volume makes an automatic
//                             one. add_diff_area() and change_diff_area_maximum_size() make it
//                             explicit: somebody has decided.
//   maximum                   bytes; kAssocNoMaxSpace: no bound; kAssocRemove: see there
//
// Calls block. Those that may take long are given an OperationMonitor; over IPC they become
// operations that can be watched and cancelled (`umbra operations`). Where the VolumeRef of a query
// names nothing, all volumes are meant.
//
// Errors every call may give besides those it names: out_of_memory, access_denied, io_error,
// provider_veto (the provider's log says more). Threads: any; beside every call of umbra::Provider.

#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "umbra/ids.h"
#include "umbra/provider.h"
#include "umbra/result.h"
#include "umbra/vss.h"

namespace umbra {

/// VSS_VOLUME_PROP: a volume of which copies can be made.
struct SupportedVolume {
  VolumeId volume_id{};
  std::string display_name{};
};

/// VSS_DIFF_VOLUME_PROP.
struct DiffVolumeProperties {
  std::string diff_volume{};   ///< Mount point, or path of the block device.
  std::string display_name{};  ///< With the kind of file system: "/var (ext4)".
  std::uint64_t free_bytes = 0;
  std::uint64_t total_bytes = 0;
};

/// VSS_DIFF_AREA_PROP, and what our tools show.
struct DiffAreaProperties {
  VolumeId volume_id{};
  std::string volume_name{};
  std::string diff_area_path{};
  std::string diff_volume{};  ///< As in DiffVolumeProperties; empty if it cannot be found out now.
  std::int64_t maximum_bytes = 0;  ///< >= allocated >= used; kAssocNoMaxSpace: no bound.
  std::uint64_t allocated_bytes = 0;
  std::uint64_t used_bytes = 0;
  bool explicit_association = false;
  bool volatile_maximum = false;  ///< The maximum is not kept over a restart.
  bool reflink = false;           ///< Old data is kept by sharing blocks with the origin.
  std::uint32_t snapshots = 0;
  std::uint32_t snapshots_lost = 0;
  std::string state{};  ///< "ok", or what is wrong in a few words.
};

/// VSS_VOLUME_PROTECTION_INFO.
struct VolumeProtectionInfo {
  ProtectionLevel level = ProtectionLevel::original_volume;
  bool volume_is_offline = false;  ///< m_volumeIsOfflineForProtection: writes to it fail.
  ProtectionFault fault = ProtectionFault::none;
  Errc failure = Errc::ok;            ///< m_failureStatus.
  std::int64_t fault_filetime = 0;    ///< 0: no fault.
  bool has_unused_diff_area = false;  ///< m_volumeHasUnusedDiffArea.
};

/// Which association a call is about. An empty diff_volume means the one that the volume has.
struct DiffAreaRef {
  VolumeRef volume{};
  std::string diff_volume{};
};

/// Where a diff area is to go.
struct DiffAreaMove {
  DiffAreaRef area{};
  std::string new_diff_volume{};  ///< An unused path or device, or a directory.
  /// At most; what is written meanwhile comes on top. 0: no bound.
  std::uint64_t bytes_per_second = 0;
};

/// A part of what differs between two copies, as runs of blocks in ascending order. Never misses a
/// difference; may name a block that was written with what it held.
struct SnapshotDelta {
  struct Run {
    std::uint64_t first_block = 0;
    std::uint64_t blocks = 0;  ///< How many, from the first on.
  };
  std::uint32_t block_bytes = 0;    ///< The unit of all numbers here.
  std::uint64_t volume_blocks = 0;  ///< The volume's size.
  std::vector<Run> runs{};
  /// Where the next part begins; volume_blocks: this was the last.
  std::uint64_t next_block = 0;
};
/// Runs in one part, so that a part fits into a line of the wire.
inline constexpr std::size_t kDeltaRunsMax = 65'536;

/// A revert that is under way.
struct RevertInfo {
  VolumeId volume_id{};
  std::string volume_name{};
  SnapshotId snapshot_id{};       ///< What the volume becomes.
  std::uint64_t total_bytes = 0;  ///< To be copied back, since it began or was resumed.
  std::uint64_t done_bytes = 0;
  bool stopped = false;   ///< It failed; see abandon_revert().
  std::string trouble{};  ///< Why it stopped.
};

/// A point in time from which changes are known although its copy may be gone.
struct CheckpointProperties {
  CheckpointId checkpoint_id{};
  VolumeId volume_id{};
  std::string volume_name{};
  std::string name{};
  SnapshotId snapshot_id{};            ///< At whose point in time.
  std::int64_t creation_filetime = 0;  ///< Of that copy.
  /// What changed since then could not be noted: only a full backup is right, and a new checkpoint.
  bool lost = false;
};

/// What a long call says while it runs. Threads: that of the call.
class OperationMonitor {
 public:
  virtual ~OperationMonitor() = default;
  /// How far it is, in units of its own; `total` 0: not known. False: somebody wants it to stop;
  /// it answers async_cancelled at the next safe place, if it has one. Cheap, may come often.
  [[nodiscard]] virtual bool progress(std::uint64_t done, std::uint64_t total) = 0;
  /// What it is doing, in a few words.
  virtual void say(std::string text) = 0;
  /// Something that came of it, for programs, e.g. ("deleted_snapshot", id). Kept in order, at most
  /// kOperationFactsMax.
  virtual void fact(std::string name, std::string value) = 0;
  /// From here on nobody can cancel it; who tries is refused, with `instead` as what to do. False:
  /// somebody has asked before: it has to answer async_cancelled now.
  [[nodiscard]] virtual bool point_of_no_return(const std::string& /*instead*/) { return true; }
};

struct OperationFact {
  std::string name{};
  std::string value{};
};
inline constexpr std::size_t kOperationFactsMax = 1'024;

/// A long call as others see it: IVssAsync.
struct OperationInfo {
  OperationId operation_id{};
  std::string kind{};     ///< "change_diff_area_maximum_size", "migrate_diff_areas", ...
  std::string subject{};  ///< The volume or copy that it is about.
  std::uint64_t done = 0;
  std::uint64_t total = 0;  ///< 0: not known.
  std::string text{};
  Errc status = Errc::async_pending;  ///< Then async_finished, async_cancelled, or the error.
  std::string context{};              ///< Of the error.
  bool cancelling = false;            ///< Somebody asked it to stop.
  std::vector<OperationFact> facts{};
  std::int64_t begun_filetime = 0;
  std::int64_t ended_filetime = 0;  ///< 0: it runs.
};

class DiffAreaManagement {
 public:
  virtual ~DiffAreaManagement() = default;

  // --- IVssSnapshotMgmt, IVssSnapshotMgmt2 ------------------------------------------------------

  /// QueryVolumesSupportedForSnapshots: volumes that could be copied in this context.
  [[nodiscard]] virtual Result<std::vector<SupportedVolume>> query_volumes_supported_for_snapshots(
      std::uint32_t context) = 0;

  /// QuerySnapshotsByVolume: created copies, oldest first. Errors: object_not_found.
  [[nodiscard]] virtual Result<std::vector<SnapshotProperties>> query_snapshots_by_volume(
      const VolumeRef& volume) = 0;

  /// GetMinDiffAreaSize: the smallest maximum that is accepted, in bytes.
  [[nodiscard]] virtual Result<std::uint64_t> get_min_diff_area_size() = 0;

  // --- IVssDifferentialSoftwareSnapshotMgmt -----------------------------------------------------

  /// AddDiffArea: makes the volume's association explicit, with this maximum. Durable. Errors:
  /// object_not_found (no such volume); object_already_exists (the association is explicit, or the
  /// volume has copies); invalid_argument (a maximum below the minimum, or kAssocRemove);
  /// volume_not_supported (the diff area lies elsewhere and cannot be made there);
  /// maximum_diffarea_associations_reached. On failure nothing has changed.
  [[nodiscard]] virtual Status add_diff_area(const DiffAreaRef& area,
                                             std::int64_t maximum_bytes) = 0;

  /// ChangeDiffAreaMaximumSize, and Ex: a new maximum, which makes the association explicit. If
  /// less is left than copies need, the oldest go first (facts "deleted_snapshot"). `is_volatile`:
  /// until the volume is attached the next time. kAssocRemove: the association is automatic again
  /// and has no bound. Errors: object_not_found; invalid_argument (below the minimum; kAssocRemove
  /// with is_volatile); volume_in_use (kAssocRemove while there are copies); insufficient_storage
  /// (copies that must stay need more); async_cancelled. After a failure the call may be repeated;
  /// what was deleted stays deleted.
  [[nodiscard]] virtual Status change_diff_area_maximum_size(const DiffAreaRef& area,
                                                             std::int64_t maximum_bytes,
                                                             bool is_volatile,
                                                             OperationMonitor& monitor) = 0;

  /// QueryVolumesSupportedForDiffAreas: where the diff area of this volume could lie, roomiest
  /// first. Errors: object_not_found.
  [[nodiscard]] virtual Result<std::vector<DiffVolumeProperties>>
  query_volumes_supported_for_diff_areas(const VolumeRef& original_volume) = 0;

  /// QueryDiffAreasForVolume. Errors: object_not_found.
  [[nodiscard]] virtual Result<std::vector<DiffAreaProperties>> query_diff_areas_for_volume(
      const VolumeRef& volume) = 0;

  /// QueryDiffAreasOnVolume. Errors: object_not_found (nothing is there).
  [[nodiscard]] virtual Result<std::vector<DiffAreaProperties>> query_diff_areas_on_volume(
      const std::string& diff_volume) = 0;

  /// QueryDiffAreasForSnapshot. Errors: object_not_found.
  [[nodiscard]] virtual Result<std::vector<DiffAreaProperties>> query_diff_areas_for_snapshot(
      const SnapshotId& snapshot) = 0;

  // --- IVssDifferentialSoftwareSnapshotMgmt2 ----------------------------------------------------

  /// MigrateDiffAreas (VSS: reserved): moves the diff area to an unused path or device, the volume
  /// in use. On failure it is where it was. Errors: object_not_found; bad_state;
  /// volume_not_supported; insufficient_storage; access_denied (retention lock); async_cancelled;
  /// not_implemented.
  [[nodiscard]] virtual Status migrate_diff_areas(const DiffAreaRef& area,
                                                  const std::string& new_diff_volume,
                                                  OperationMonitor& monitor);

  /// The same with a rate limit, Umbra's own. Without a limit it is migrate_diff_areas(); a
  /// provider that has no limits answers not_implemented.
  [[nodiscard]] virtual Status move_diff_area(const DiffAreaMove& move, OperationMonitor& monitor);

  /// SetSnapshotPriority (VSS: reserved). Errors: not_implemented, always, as VSS answers.
  [[nodiscard]] virtual Status set_snapshot_priority(const SnapshotId& snapshot,
                                                     std::uint8_t priority);

  // --- IVssDifferentialSoftwareSnapshotMgmt3 ----------------------------------------------------

  /// SetVolumeProtectLevel. Durable. The same level again is no error. Errors: object_not_found;
  /// volume_not_supported (ProtectionLevel::snapshot needs an explicit association);
  /// volume_in_use (back to original_volume with a fault: unmount it first); not_implemented.
  [[nodiscard]] virtual Status set_volume_protect_level(const VolumeRef& volume,
                                                        ProtectionLevel level);

  /// GetVolumeProtectLevel. Errors: object_not_found; not_implemented.
  [[nodiscard]] virtual Result<VolumeProtectionInfo> get_volume_protect_level(
      const VolumeRef& volume);

  /// ClearVolumeProtectFault: the cause is gone, the volume is usable again. Without a fault it
  /// does nothing. Errors: object_not_found; volume_in_use (unmount it first);
  /// insufficient_storage, io_error (the cause is not gone); not_implemented.
  [[nodiscard]] virtual Status clear_volume_protect_fault(const VolumeRef& volume,
                                                          OperationMonitor& monitor);

  /// DeleteUnusedDiffAreas: removes diff areas on `diff_volume` whose volume has gone, with their
  /// copies (facts "deleted_diff_area": its path). One that cannot go stays, and the others go all
  /// the same (facts "kept_diff_area": path and reason). None is no error. Errors: object_not_found
  /// (nothing is there); those of the first that stays: access_denied (a copy is under retention
  /// lock), volume_attached, diff_area_corrupt, io_error; async_cancelled; not_implemented.
  [[nodiscard]] virtual Status delete_unused_diff_areas(const std::string& diff_volume,
                                                        OperationMonitor& monitor);

  /// QuerySnapshotDeltaBitmap (VSS: reserved): what differs between two copies of a volume, from
  /// `first_block` on. Errors: object_not_found; invalid_argument (of two volumes, or the older is
  /// the younger); snapshot_lost; not_implemented.
  [[nodiscard]] virtual Result<SnapshotDelta> query_snapshot_delta_bitmap(
      const SnapshotId& older, const SnapshotId& younger, std::uint64_t first_block);

  // --- revert: of IVssSoftwareSnapshotProvider in VSS, here since it is an operation -----------

  /// RevertToSnapshot: the live volume becomes what a persistent copy shows, and all copies that
  /// are younger are deleted. Says the fact "started" once nobody sees the former content any more,
  /// and returns when everything is copied back; goes on over restarts, and once begun cannot be
  /// cancelled (cancel_operation answers bad_state) or undone. `force_dismount`: unmounts the
  /// volume and disconnects whoever has it open, and takes younger copies from their users. Errors
  /// before it has started, when nothing has changed: object_not_found; unsupported_context (not
  /// persistent); snapshot_lost; volume_in_use (says who has it); access_denied (a younger copy is
  /// under a retention lock); snapshot_set_in_progress; revert_in_progress; bad_state (offline to
  /// protect its copies). After: io_error (it has stopped, see abandon_revert());
  /// revert_volume_lost (detached; it goes on when attached again).
  [[nodiscard]] virtual Status revert_to_snapshot(const SnapshotId& snapshot, bool force_dismount,
                                                  OperationMonitor& monitor);

  /// QueryRevertStatus: reverts that are under way. Errors: object_not_found (no such volume, or it
  /// is not being reverted, which is also the answer once it has finished).
  [[nodiscard]] virtual Result<std::vector<RevertInfo>> query_revert_status(
      const VolumeRef& volume);

  /// Umbra's own: gives up a revert that has stopped; the volume stays the mix that it is. The way
  /// back is another revert, or to attach the volume again, which tries this one once more.
  /// Durable. Errors: object_not_found (as above); bad_state (it goes on).
  [[nodiscard]] virtual Status abandon_revert(const VolumeRef& volume);

  // --- Umbra's own ------------------------------------------------------------------------------

  /// Retention lock: until then (FILETIME) the copy is deleted by nobody, whatever the reason. It
  /// can be made longer, never shorter. Errors: object_not_found; invalid_argument (in the past,
  /// shorter than before, or beyond the longest term that was configured); not_implemented.
  [[nodiscard]] virtual Status retain_snapshot(const SnapshotId& snapshot,
                                               std::int64_t until_filetime);

  /// Reads and verifies everything that the copies of a volume need, beside all that goes on, at
  /// most so many bytes a second (0: no bound). What is damaged in one of two places is mended.
  /// Facts: "outcome" (clean, repaired, repairable, damaged), "verified_bytes", "repaired",
  /// "repairable", "damaged" (counts), "damaged_snapshot" (each), "finding" (the first 100).
  /// Errors: object_not_found; diff_area_corrupt (there is damage that cannot be had back: its
  /// readers get EIO); io_error; async_cancelled; not_implemented.
  [[nodiscard]] virtual Status scrub_diff_area(const VolumeRef& volume,
                                               std::uint64_t bytes_per_second,
                                               OperationMonitor& monitor);

  /// Remembers the point in time of a created copy, so that what changed since can be asked for
  /// after the copy is gone. Durable. Errors: object_not_found; snapshot_lost; invalid_argument
  /// (the name: 1 to 255 bytes); object_already_exists (the name, on this volume); limit_reached;
  /// insufficient_storage; not_implemented.
  [[nodiscard]] virtual Result<CheckpointProperties> create_checkpoint(const SnapshotId& snapshot,
                                                                       const std::string& name);
  /// By point in time. Errors: object_not_found; not_implemented.
  [[nodiscard]] virtual Result<std::vector<CheckpointProperties>> query_checkpoints(
      const VolumeRef& volume);
  /// Durable. Errors: object_not_found; insufficient_storage (still there); not_implemented.
  [[nodiscard]] virtual Status delete_checkpoint(const CheckpointId& checkpoint);
  /// What changed from `since`, a checkpoint or a copy, to the copy `until`, or to now if that is
  /// nil, from `first_block` on. Errors: object_not_found; invalid_argument (of two volumes, or
  /// `until` is the older); snapshot_lost; changes_unknown (of this checkpoint); not_implemented.
  [[nodiscard]] virtual Result<SnapshotDelta> query_changes(const Guid& since,
                                                            const SnapshotId& until,
                                                            std::uint64_t first_block);
};

}  // namespace umbra
