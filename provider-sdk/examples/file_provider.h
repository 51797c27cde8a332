// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// A whole third-party provider: each of its volumes is a file (a virtual machine's disk, a
// database), a copy is another file beside it. It shows what any provider has to do:
//
//   * keep the order of the calls, and discard a set that leaves it;
//   * hold the writes to all volumes of a set while the point in time is taken, and end the hold by
//     itself when its lease is over, whatever becomes of umbrad;
//   * make a set durable before it says so, so that after a crash it is whole or gone, or waits for
//     umbrad's word if another provider may have created its part.
//
// The hold: whoever writes to a volume's file takes a shared flock() on it around each write, and
// the provider an exclusive one. A program that does not do so is not held, and its copies are as
// after a power cut; it can still be a writer and stop writing between Freeze and Thaw. Where the
// file system cannot share blocks, a file has to be copied within the hold: some GB at most.
//
// In the store directory, which no other process may use at the same time:
//   volumes            a line per volume: its id and name
//   COPY.img           the copies
//   SET.set            what is to be known of a set, from PostCommit on; the copy counts only if it
//                      is named in one

#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "provider-sdk/examples/files.h"
#include "umbra/provider.h"

namespace example {

/// Threads: any.
class FileProvider final : public umbra::Provider {
 public:
  static constexpr std::size_t kVolumesPerSetMax = 64;
  static constexpr std::size_t kSnapshotsPerVolumeMax = 512;

  /// Reads the store; sets that are neither created nor in doubt are removed. Errors: io_error;
  /// invalid_argument (what is in the store is not ours; nothing is removed then).
  [[nodiscard]] static Result<std::unique_ptr<FileProvider>> open(
      const std::string& store, umbra::ProviderProperties properties);
  ~FileProvider() override;

  /// Its id is the one it had before under this name. Errors: invalid_argument (the name is taken,
  /// or not one word; `path` is no file); io_error.
  [[nodiscard]] Result<umbra::VolumeId> add_volume(const std::string& name,
                                                   const std::string& path);

  // umbra::Provider
  [[nodiscard]] umbra::ProviderProperties properties() const override { return properties_; }
  [[nodiscard]] Result<umbra::VolumeProperties> find_volume(
      const umbra::VolumeRef& volume) override;
  [[nodiscard]] Result<std::vector<umbra::VolumeProperties>> list_volumes() override;
  [[nodiscard]] Result<bool> is_volume_supported(const umbra::VolumeRef& volume,
                                                 std::uint32_t attributes) override;
  [[nodiscard]] Status begin_prepare_snapshot(const umbra::PrepareSnapshot& request) override;
  [[nodiscard]] Status end_prepare_snapshots(const umbra::SnapshotSetId& set) override;
  [[nodiscard]] Status pre_commit_snapshots(const umbra::SnapshotSetId& set) override;
  [[nodiscard]] Status flush_and_hold(const umbra::SnapshotSetId& set,
                                      const umbra::HoldLimits& limits) override;
  [[nodiscard]] Status commit_snapshots(const umbra::SnapshotSetId& set) override;
  [[nodiscard]] Result<umbra::HoldReport> release_hold(const umbra::SnapshotSetId& set) override;
  [[nodiscard]] Result<umbra::HoldReport> flush_commit_release(
      const umbra::SnapshotSetId& set, const umbra::HoldLimits& limits) override;
  [[nodiscard]] Status post_commit_snapshots(
      const umbra::SnapshotSetId& set, const std::vector<umbra::SnapshotId>& members) override;
  [[nodiscard]] Status pre_final_commit_snapshots(const umbra::SnapshotSetId& set) override;
  [[nodiscard]] Status post_final_commit_snapshots(const umbra::SnapshotSetId& set) override;
  [[nodiscard]] Status confirm_set(const umbra::SnapshotSetId& set) override;
  void abort_snapshots(const umbra::SnapshotSetId& set) noexcept override;
  [[nodiscard]] Result<umbra::SetFate> query_set(const umbra::SnapshotSetId& set) override;
  [[nodiscard]] Status complete_set(const umbra::SnapshotSetId& set) override;
  [[nodiscard]] Result<std::vector<umbra::SnapshotProperties>> query_snapshots(
      bool incomplete) override;
  [[nodiscard]] umbra::DeleteReport delete_snapshots(const umbra::Guid& id, umbra::ObjectType type,
                                                     bool force) override;
  void end_session(const umbra::SessionId& session) noexcept override;
  void retain_sessions(const std::vector<umbra::SessionId>& alive) noexcept override;

 private:
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
  static constexpr std::uint32_t kAttributesNotOffered =
      umbra::attribute::kTransportable | umbra::attribute::kHardwareAssisted |
      umbra::attribute::kPlex | umbra::attribute::kImported | umbra::attribute::kFileShare;
  struct Volume {
    std::string name;
    std::string path;  // Empty: it was here once, and is not now.
  };
  struct Copy {
    umbra::SnapshotId id;
    umbra::VolumeId volume;
    std::uint32_t attributes = 0;
    std::int64_t filetime = 0;
  };
  struct Set {
    Step step = Step::preparing;
    umbra::SessionId session;
    std::vector<Copy> copies;
    std::vector<umbra::SnapshotId> members;  // Of all providers, from PostCommit on.
    std::vector<Gate> gates;                 // While writes are held.
    Clock::time_point hold_begin;
    Clock::time_point lease_end;
    [[nodiscard]] bool in_doubt() const {
      return step == Step::postfinal && members.size() > copies.size();
    }
  };
  using Lock = std::unique_lock<std::mutex>;

  FileProvider(std::string store, umbra::ProviderProperties properties);
  [[nodiscard]] Status load();
  [[nodiscard]] Status load_set(const std::string& name);
  [[nodiscard]] Status store(const umbra::SnapshotSetId& id, const Set& set) const;
  [[nodiscard]] Status store_volumes() const;
  [[nodiscard]] std::string image(const umbra::SnapshotId& id) const;
  [[nodiscard]] std::string record(const umbra::SnapshotSetId& id) const;

  [[nodiscard]] Result<umbra::VolumeId> locate(const umbra::VolumeRef& ref) const;
  [[nodiscard]] umbra::VolumeProperties describe(const umbra::VolumeId& id) const;
  [[nodiscard]] umbra::SnapshotProperties describe(const umbra::SnapshotSetId& set_id,
                                                   const Set& set, const Copy& copy) const;
  [[nodiscard]] std::size_t copies_of(const umbra::VolumeId& id, bool created_only) const;

  /// The set in step `expected`; one that is in another is discarded.
  [[nodiscard]] Result<Set*> expect(const umbra::SnapshotSetId& id, Step expected,
                                    const char* call);
  [[nodiscard]] Status hold(Lock& lock, const umbra::SnapshotSetId& id,
                            const umbra::HoldLimits& limits);
  [[nodiscard]] Status commit(const umbra::SnapshotSetId& id, Set& set);
  [[nodiscard]] umbra::HoldReport open_gates(Set& set);
  /// `step` and its record, or the set is discarded (but one in doubt) and the error.
  [[nodiscard]] Status advance(const umbra::SnapshotSetId& id, Set& set, Step step);
  [[nodiscard]] Status fail_set(const umbra::SnapshotSetId& id, umbra::Error error);
  void discard(const umbra::SnapshotSetId& id);
  void end_locked(const umbra::SessionId& session);
  void note_ended(const umbra::Guid& id);
  [[nodiscard]] bool has_ended(const umbra::Guid& id) const;
  void end_leases();

  const std::string store_;
  const umbra::ProviderProperties properties_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::map<umbra::VolumeId, Volume> volumes_;
  std::map<umbra::SnapshotSetId, Set> sets_;
  std::deque<umbra::Guid> ended_;  // The newest sets and sessions of which nothing begins any more.
  bool ending_ = false;
  std::thread leases_;  // Opens gates when their lease is over.
};

}  // namespace example
