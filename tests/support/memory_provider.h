// SPDX-License-Identifier: Apache-2.0
//
// A whole provider in memory: volumes are byte vectors, a snapshot is a copy of one. It keeps every
// rule of umbra/provider.h in the plainest way, so that it is the reference that other providers'
// answers are compared with, and it fails, vetoes or hangs on demand at any call.
//
// The lease of a hold is measured with the Clock that it is given: nothing happens by itself, an
// expired lease takes effect at the next call or write.

#pragma once

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "engine/platform/clock.h"
#include "engine/platform/recent_ids.h"
#include "umbra/hardware_provider.h"
#include "umbra/provider.h"

namespace umbra::test {

class MemoryArray;

/// Threads: any.
class MemoryProvider final : public Provider {
 public:
  static constexpr std::uint32_t kSnapshotsPerVolumeMax = 512;
  static constexpr std::size_t kVolumesPerSetMax = 64;

  explicit MemoryProvider(const Clock& clock, std::string name = "memory",
                          ProviderType type = ProviderType::software);
  ~MemoryProvider() override;

  // The world outside the contract.
  VolumeId add_volume(const std::string& name, std::size_t size_bytes = 64 * 1024,
                      std::uint64_t device = 0);
  /// Blocks while the volume's writes are held. Errors: object_not_found, invalid_argument (range).
  Status write(const VolumeId& volume, std::size_t offset, std::string_view bytes);
  [[nodiscard]] Result<std::string> read_snapshot(const SnapshotId& snapshot, std::size_t offset,
                                                  std::size_t size) const;
  [[nodiscard]] std::string read_volume(const VolumeId& volume) const;
  /// As if it were open or mounted.
  void set_in_use(const SnapshotId& snapshot, bool in_use);
  /// As if the process had been killed and started again: what is not durable by contract is gone,
  /// and calls that are blocked end without effect.
  void restart();

  // Faults. `call` is the name of the member function.
  /// The next call of that name fails so (and, in the middle of a set, discards it).
  void fail_next(const std::string& call, Error error);
  /// Calls of that name block until unblock(); abort of their set ends them too.
  void block(const std::string& call);
  void unblock(const std::string& call);
  /// Waits until somebody is blocked in `call`. False after `limit`.
  [[nodiscard]] bool wait_blocked(const std::string& call, std::chrono::milliseconds limit);
  /// Whether writes to the volume are held now.
  [[nodiscard]] bool is_held(const VolumeId& volume) const;
  /// Every call of the contract so far, by name, in order.
  [[nodiscard]] std::vector<std::string> calls() const;
  [[nodiscard]] std::size_t unfinished_sets() const;
  /// What management() answers. Before any call.
  void set_management(DiffAreaManagement* management) { management_ = management; }

  // As one of hardware (memory_hardware.cc). Before any call.
  /// Its volumes and copies are LUNs of the array from now on. Two that pose with one id on one
  /// array are one provider on two machines.
  void pose_as_hardware(MemoryArray& array, const ProviderId& id = {},
                        ProviderType type = ProviderType::hardware);
  /// The first lies on the LUN of the second.
  void share_lun(const VolumeId& volume, const VolumeId& with);
  [[nodiscard]] LunInformation lun_of(const VolumeId& volume) const;
  /// As if its disk had come back without it.
  void forget_volume(const VolumeId& volume);

  // umbra::Provider
  [[nodiscard]] ProviderProperties properties() const override { return properties_; }
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
  [[nodiscard]] DiffAreaManagement* management() noexcept override { return management_; }
  [[nodiscard]] HardwareProvider* hardware() noexcept override;

 private:
  class Hardware;
  enum class Step : std::uint8_t {
    preparing,
    prepared,
    precommitted,
    holding,
    committed,  // Still held.
    released,
    postcommitted,
    prefinal,
    postfinal,  // Prepared for good.
    created,
  };
  struct Volume {
    std::string name;
    std::uint64_t device = 0;
    std::string bytes;
    TimePoint held_until;  // Writes wait while `held` and this has not passed.
    bool held = false;
    LunInformation lun{};  // Of hardware.
  };
  struct Snapshot {
    PrepareSnapshot request;
    VolumeId volume;
    std::string image;  // From the commit on.
    std::int64_t filetime = 0;
    bool in_use = false;
    std::vector<LunMapping> luns{};  // Of hardware, from the commit on.
    std::string volume_name{};       // Of an imported one, whose volume is not here.
    std::string machine{};
  };
  struct Set {
    Step step = Step::preparing;
    std::map<SnapshotId, Snapshot> snapshots;
    std::vector<SnapshotId> members;
    TimePoint lease_end;
    TimePoint hold_begin;
    bool confirming = false;  // confirm_set is blocked.
    [[nodiscard]] bool in_doubt() const {
      return step == Step::postfinal && members.size() > snapshots.size();
    }
  };
  using Lock = std::unique_lock<std::mutex>;

  [[nodiscard]] Status enter(Lock& lock, const std::string& call, const SnapshotSetId& set);
  [[nodiscard]] Status take_fault(const std::string& call, const SnapshotSetId& set);
  /// enter(), then the set in step `expected`, or the error; out of order discards the set.
  [[nodiscard]] Result<Set*> expect(Lock& lock, const std::string& call, const SnapshotSetId& id,
                                    Step expected);
  [[nodiscard]] Status step(const std::string& call, const SnapshotSetId& set, Step from, Step to);
  [[nodiscard]] Result<std::map<VolumeId, Volume>::iterator> locate(const VolumeRef& volume);
  [[nodiscard]] VolumeProperties describe(const VolumeId& id, const Volume& volume) const;
  [[nodiscard]] SnapshotProperties describe(const Set& set, const Snapshot& snapshot) const;
  [[nodiscard]] bool still_held(const Volume& volume) const;
  void hold(Set& set, const HoldLimits& limits);
  void commit(Set& set);
  [[nodiscard]] HoldReport open_gates(Set& set);
  void discard(const SnapshotSetId& set);
  void end_session_locked(const SessionId& session);

  // memory_hardware.cc
  void make_lun(Volume& volume);
  void clone_lun(Snapshot& snapshot);
  void remove_luns(const Snapshot& snapshot);
  [[nodiscard]] std::uint32_t attributes_of(const Snapshot& snapshot) const;
  [[nodiscard]] std::uint32_t not_offered() const;

  const Clock& clock_;
  ProviderProperties properties_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::map<VolumeId, Volume> volumes_;
  std::map<SnapshotSetId, Set> sets_;
  RecentIds ended_;  // Sets that were discarded, and sessions: nothing of them begins any more.
  std::map<std::string, Error> failures_;
  std::set<std::string> blocked_;
  std::multiset<std::string> waiting_;
  std::vector<std::string> calls_;
  int lives_ = 0;  // How often it was restarted.
  bool ending_ = false;
  DiffAreaManagement* management_ = nullptr;
  MemoryArray* array_ = nullptr;
  std::unique_ptr<HardwareProvider> hardware_;
};

}  // namespace umbra::test
