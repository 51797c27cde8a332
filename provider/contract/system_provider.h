// SPDX-License-Identifier: Apache-2.0
//
// The system provider: umbra::Provider over copy-on-write volumes.
//
// Guarantees:
//   - a set is whole or gone: whatever fails, and whenever this process or the machine dies (what
//     recovery decides is in set_recovery.h);
//   - what is frozen or held is released on every path, at the latest at the end of its lease
//     (hold.h);
//   - nothing is logged, and nothing of ours writes to a volume, between freeze and thaw; also not
//     through a volume that lies on one of the set and is not in it: its writes wait as well.
//
// One set is made at a time. Its states, and what each call wants (any other order is answered with
// provider_veto and discards the set, except that a created set is left as it is):
//
//   preparing -end_prepare-> prepared -pre_commit-> precommitted
//     -flush_and_hold-> held -commit-> committed -release-> released   (or the three at once)
//     -post_commit-> postcommitted -pre_final-> prefinal -post_final-> final -confirm-> created
//   aborted: after any failure, or abort_snapshots. A begin_prepare starts anew.
//   parked: `final` with members of other providers, which may have created theirs: nobody here may
//     discard it any more (its session is over, a newer set began, we stop). It is then like a set
//     that a restart left prepared; umbrad settles it (query_set, complete_set).
//
// An unknown set is answered with object_not_found; release_hold is idempotent and is fine. Copies
// stay read-only from the beginning: attributes that ask for auto-recovery, transport or clones are
// refused (unsupported_context).
//
// A volume is used by one call at a time (its turn); a call never waits for a turn while it keeps
// one. flush and syncfs run without any, so that abort_snapshots passes them.

#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/platform/clock.h"
#include "engine/platform/log.h"
#include "engine/platform/recent_ids.h"
#include "provider/contract/copy_index.h"
#include "provider/contract/hold.h"
#include "provider/contract/ports.h"
#include "provider/cow/volume.h"
#include "umbra/provider.h"
#include "umbra/provider_events.h"

namespace umbra::contract {

inline constexpr std::uint32_t kClientAccessibleMaxDefault = 64;
inline constexpr std::uint32_t kClientAccessibleMaxMax = 512;

/// Umbra's own provider, always the same.
[[nodiscard]] ProviderId system_provider_id() noexcept;

/// What the daemon knows about a volume and the store does not.
struct VolumeDescription {
  std::string name;
  std::string origin_path;
  std::string diff_area_path;
  std::string device_path;  // The block device that serves it; empty without one.
  std::string nbd_uri;
  std::string front_end;  // VolumeProperties::front_end and its why.
  std::string front_end_why;
  std::uint64_t device = 0;  // Number of that block device; 0 without one.
  /// Device numbers that the origin and the diff area lie on: of a file, the file system's device;
  /// of a block device, itself; and whatever those are stacked on. A volume whose `device` is among
  /// them is a host of this one (stacking.h).
  std::vector<std::uint64_t> host_devices;
  /// Copies keep what the file system had free like everything else.
  bool copies_free_blocks = false;
};

struct SystemProviderOptions {
  std::string machine_name;
  std::string version;
  /// Stretches every hold between the flip and the release: drills and tests only.
  std::chrono::milliseconds drill_hold{0};
  /// Called before the first file system is frozen and after the last is thawed: the daemon's log
  /// keeps its records in memory in between. May be null.
  std::function<void()> before_freeze;
  std::function<void()> after_thaw;
  /// Volumes that are known but not attached, so that listings name them with the reason. May be
  /// null. Called with nothing locked, from any thread.
  std::function<std::vector<VolumeProperties>()> absent_volumes;
  /// For management; null: it does not know what diff areas lie on. Outlives the provider.
  const DiffVolumes* diff_volumes = nullptr;
  /// For management; null: diff areas stay where they are. Outlives the provider.
  DiffAreas* diff_areas = nullptr;
  /// Smallest maximum that management accepts; 0: what the store needs with its default chunks.
  std::uint64_t diff_bytes_min = 0;
  /// Client-accessible copies of a volume: when one more is created, the oldest goes. VSS's
  /// MaxShadowCopies.
  std::uint32_t client_accessible_max = kClientAccessibleMaxDefault;
  /// Longest term of a retention lock, and what it keeps free: retain_snapshot() makes it the
  /// volume's policy. 0 s: locks are refused.
  cow::RetentionPolicy retention;
  /// Who uses the live volume, one line each. May be null: nobody is known. Called with nothing
  /// locked.
  std::function<std::vector<std::string>(const VolumeId&)> live_users;
  /// Makes the live volume's block device ours: as long as the answer lives nobody can mount it,
  /// and what the kernel had cached of it is forgotten, now and when the answer goes. `dismount`:
  /// from whoever has it mounted or open over the network. May be null: then nobody is asked.
  /// Called with nothing locked. Errors: volume_in_use (says who has it); io_error.
  std::function<Result<std::shared_ptr<void>>(const VolumeId&, bool dismount)> claim_live;
  /// A volume that was attached is being reverted: somebody should wait_for_revert(). May be null.
  /// Called with nothing locked.
  std::function<void(const VolumeId& volume, const SnapshotId& target)> on_reverting;
  /// Told what happens to copies and diff areas. May be null. Called with nothing locked, from any
  /// thread; must return quickly.
  std::function<void(ProviderEvent)> on_event;
};

/// Threads: as umbra::Provider; the members of its own from any thread.
class SystemProvider final : public Provider {
 public:
  /// The references must outlive the object.
  SystemProvider(Freezer& freezer, Surfaces& surfaces, Log& log, const Clock& clock,
                 SystemProviderOptions options);
  /// Aborts an unfinished set. The caller has removed the volumes, or does not use them any more.
  ~SystemProvider() override;

  // --- the registry -----------------------------------------------------------------------------

  /// From now on the volume can be found and copied. Half-made sets are recovered as far as can be
  /// decided (set_recovery.h), and created copies surfaced; what fails there is logged, not
  /// returned: the live volume must be served. Blocks for storage. The volume is not touched any
  /// more once remove_volume() has returned. Errors: object_already_exists (the same id, name or
  /// device is there); invalid_argument (no name).
  [[nodiscard]] Status add_volume(std::shared_ptr<cow::Volume> volume,
                                  VolumeDescription description);

  /// Says that no configured volume is missing any more: incomplete sets whose absent members
  /// nobody has are deleted. Until then they wait. Blocks for storage.
  void all_volumes_attached();

  /// Withdraws the volume's copies and forgets it; the copies stay in the diff area. Errors:
  /// object_not_found; volume_in_use (in an unfinished set, whether `force` or not; or a copy is
  /// mounted or open, unless `force`). On failure everything is as before.
  [[nodiscard]] Status remove_volume(const VolumeId& volume, bool force);

  /// Returns when the volume is not being reverted any more. Errors: as revert_to_snapshot() has
  /// after its start; object_not_found (no such volume); async_cancelled (stop_waiting()).
  [[nodiscard]] Status wait_for_revert(const VolumeId& volume, OperationMonitor& monitor);
  /// Calls that wait for a revert return; the reverts go on. For the end of the process.
  void stop_waiting() noexcept;

  /// The store gave up a copy by itself: it is withdrawn from whoever was shown it. One that is
  /// there stays. Blocks for the front ends.
  void copy_is_gone(const SnapshotId& snapshot) noexcept;

  /// A live volume or a copy that front ends know by a name.
  struct Subject {
    std::shared_ptr<cow::Volume> volume;  // Not to be kept: detaching would wait for it.
    std::string volume_name;
    std::string origin_path;
    std::optional<cow::SnapshotRecord> copy;  // Nothing: the live volume.
  };
  /// `name`: of the volume, or a copy's id. Nothing: there is none.
  [[nodiscard]] std::optional<Subject> subject_of(const std::string& name) const;

  // --- umbra::Provider --------------------------------------------------------------------------

  [[nodiscard]] ProviderProperties properties() const override;
  [[nodiscard]] Result<VolumeProperties> find_volume(const VolumeRef& volume) override;
  [[nodiscard]] Result<std::vector<VolumeProperties>> list_volumes() override;
  [[nodiscard]] Result<bool> is_volume_supported(const VolumeRef& volume,
                                                 std::uint32_t attributes) override;
  [[nodiscard]] Status begin_prepare_snapshot(const PrepareSnapshot& request) override;
  [[nodiscard]] Status end_prepare_snapshots(const SnapshotSetId& set) override;
  [[nodiscard]] Status pre_commit_snapshots(const SnapshotSetId& set) override;
  [[nodiscard]] Status flush_and_hold(const SnapshotSetId& set, const HoldLimits& limits) override;
  [[nodiscard]] Status commit_snapshots(const SnapshotSetId& set) override;
  [[nodiscard]] Result<HoldReport> release_hold(const SnapshotSetId& set) override;
  [[nodiscard]] Result<HoldReport> flush_commit_release(const SnapshotSetId& set,
                                                        const HoldLimits& limits) override;
  [[nodiscard]] Status post_commit_snapshots(const SnapshotSetId& set,
                                             const std::vector<SnapshotId>& members) override;
  [[nodiscard]] Status pre_final_commit_snapshots(const SnapshotSetId& set) override;
  [[nodiscard]] Status post_final_commit_snapshots(const SnapshotSetId& set) override;
  [[nodiscard]] Status confirm_set(const SnapshotSetId& set) override;
  void abort_snapshots(const SnapshotSetId& set) noexcept override;
  [[nodiscard]] Result<SetFate> query_set(const SnapshotSetId& set) override;
  [[nodiscard]] Status complete_set(const SnapshotSetId& set) override;
  [[nodiscard]] Result<std::vector<SnapshotProperties>> query_snapshots(bool incomplete) override;
  [[nodiscard]] DeleteReport delete_snapshots(const Guid& id, ObjectType type, bool force) override;
  void end_session(const SessionId& session) noexcept override;
  void retain_sessions(const std::vector<SessionId>& alive) noexcept override;
  [[nodiscard]] DiffAreaManagement* management() noexcept override;

 private:
  class Management;  // management.cc
  struct Entry;      // A registered volume.
  struct Set;        // The set being made, or the last one.
  class Turn;        // Exclusive use of some entries' volumes.
  enum class State : std::uint8_t;
  [[nodiscard]] static const char* state_name(State state);
  using EntryPtr = std::shared_ptr<Entry>;
  using SetPtr = std::shared_ptr<Set>;
  using Lock = std::unique_lock<std::mutex>;
  struct Copy;  // A copy and the entry that has it.

  [[nodiscard]] Result<EntryPtr> find_entry(const VolumeRef& volume) const;
  [[nodiscard]] VolumeProperties describe(const Entry& entry) const;
  [[nodiscard]] SnapshotProperties describe(const Copy& copy,
                                            const Surfaces::MountPoints& mounted) const;
  [[nodiscard]] static bool none_busy(const std::vector<EntryPtr>& entries);  // mutex_
  [[nodiscard]] Turn occupy(std::vector<EntryPtr> entries);                   // mutex_
  [[nodiscard]] Turn take_turn(std::vector<EntryPtr> entries);
  using Layers = std::vector<std::vector<EntryPtr>>;  // Dependants before hosts.
  /// Errors: nested_volume_limit.
  [[nodiscard]] Result<Layers> layers_of(const std::vector<EntryPtr>& members) const;  // mutex_
  [[nodiscard]] Result<std::pair<Layers, Turn>> take_layers(const Set& set);
  /// Copies of all volumes, without those of the set in the making that are not prepared for good.
  /// `surfaced_too`: with those, once its copies are surfaced. `wanted` is called with mutex_ held.
  [[nodiscard]] std::vector<Copy> copies_where(
      const std::function<bool(const cow::SnapshotRecord&)>& wanted,
      bool surfaced_too = false) const;
  /// The same for one copy.
  [[nodiscard]] std::vector<Copy> copy_of(const SnapshotId& snapshot) const;
  /// One that is for everybody's eyes. Errors: object_not_found.
  [[nodiscard]] Result<Copy> created_copy(const SnapshotId& snapshot) const;

  [[nodiscard]] Status check_new_member(const PrepareSnapshot& request, const EntryPtr& entry,
                                        const Set* set) const;
  [[nodiscard]] bool has_set(const SnapshotSetId& set) const;  // mutex_
  void index_member(const PrepareSnapshot& request);           // mutex_
  [[nodiscard]] Result<SetPtr> enter(const SnapshotSetId& id, State from, std::string_view call);
  [[nodiscard]] Status leave(const SetPtr& set, Status status, State to);
  using Step = std::function<Status(cow::Volume&, const PrepareSnapshot&)>;
  [[nodiscard]] Status for_each_member(const SetPtr& set, const Step& step);
  [[nodiscard]] Status exempt_free_blocks(const SetPtr& set);  // free_blocks.cc
  [[nodiscard]] Status flush_file_systems(const Set& set, std::chrono::milliseconds limit);
  [[nodiscard]] bool is_aborted(const Set& set) const;
  [[nodiscard]] Status check_begins(const PrepareSnapshot& request) const;  // mutex_
  void abort_set(const SetPtr& set, const Error& cause) noexcept;
  /// For everybody but umbrad's own abort: a set in doubt is not discarded, but left prepared.
  void give_up(const SetPtr& set, const Error& cause) noexcept;
  void discard(const SetPtr& set, const Error& cause) noexcept;

  [[nodiscard]] Status start_hold(const SetPtr& set, const HoldLimits& limits);
  void log_hold(const SnapshotSetId& set, std::size_t volumes, const GateTimes& gates) const;

  [[nodiscard]] Status surface(cow::Volume& volume, const SnapshotId& snapshot);
  [[nodiscard]] Status surface(const SnapshotId& snapshot,
                               Result<std::shared_ptr<block::Device>> device);
  void resurface(cow::Volume& volume, const SnapshotId& snapshot);
  [[nodiscard]] Status withdraw(const SnapshotId& snapshot, bool force);
  [[nodiscard]] Status remove_copy(const Copy& copy, bool force,
                                   const cow::RemovalCause& cause = {});
  void trim_client_accessible(const Set& set);
  void tell(const Entry& entry, ProviderEvent event) const;
  /// For audits: on whose behalf this thread works.
  [[nodiscard]] static std::string asked_by();
  void remove_released(const std::function<bool(const SessionId&)>& is_over) noexcept;
  void recover_sets();
  void surface_created();
  void surface_created_of(cow::Volume& volume);  // With its turn.

  Freezer& freezer_;
  Surfaces& surfaces_;
  Logger log_;
  const Clock& clock_;
  const SystemProviderOptions options_;

  // Guards what follows, and the volumes' in-memory lists; never kept over a call that may block
  // for storage, the freezer or the front ends.
  mutable std::mutex mutex_;
  std::condition_variable changed_;  // A turn, or a call of the set, ended.
  std::map<VolumeId, EntryPtr> entries_;
  std::map<SnapshotId, Surfaced> surfaced_;
  CopyIndex index_;
  SetPtr current_;
  RecentIds ended_;  // Sets that were given up, and sessions: nothing of them begins any more.
  bool all_attached_ = false;
  bool stopping_ = false;

  const std::unique_ptr<Management> management_;
};

}  // namespace umbra::contract
