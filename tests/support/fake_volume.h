// SPDX-License-Identifier: Apache-2.0
//
// A link-time double of cow::Volume: the same class, defined over memory. A test links it instead
// of the store to see in which order the provider drives its volumes, and to make any step fail.
//
// A FakeDisk is what survives: the live bytes and the snapshot table. Opening a Volume on it again
// is a restart after kill -9: prepared copies are gone, committed and created ones are there. A
// snapshot is a whole copy of the bytes.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/platform/block.h"
#include "provider/cow/check.h"
#include "provider/cow/volume.h"
#include "tests/support/contract_doubles.h"
#include "umbra/ids.h"
#include "umbra/result.h"

namespace umbra::test {

/// Origin and diff area in one; give it to Volume::open() as both.
class FakeDisk final : public block::ResizableDevice {
 public:
  explicit FakeDisk(std::string name, Events* events = nullptr);

  [[nodiscard]] std::unique_ptr<cow::Volume> open();

  /// The next call of `step` ("prepare", "post_commit", "confirm", "remove", "open_snapshot",
  /// "exempt_free", "begin_recovery", "end_recovery", "changed_blocks") fails
  /// and changes nothing; or "drain", "quiesce": it says that writes are still in flight.
  void fail_next(const std::string& step, Errc code = Errc::io_error);
  /// Called before each step that changes the table; false: the machine died, the step fails and
  /// nothing changes any more.
  std::function<bool()> power;

  [[nodiscard]] int gates_shut() const;
  [[nodiscard]] bool wait_gate_shut();  // False: not within 20 s.
  /// Writes to the live volume; waits while the gate is shut.
  void write(std::size_t offset, std::string_view bytes);

  /// What statistics() and set_diff_maximum() know: each copy takes `copy_bytes`.
  std::uint64_t copy_bytes = 1U << 20U;
  /// Of the last remove() that a caller or a lower maximum asked for.
  cow::RemovalCause removed_for;
  /// What protection() says; set_protection_level() and clear_protection_fault() change it.
  cow::Protection protection;
  std::int64_t longest_retention_seconds = 0;  // As set_retention() left it.

  /// What revert_status() says; begin_revert() and abandon_revert() change it. Set it by
  /// set_revert() while somebody waits.
  cow::RevertStatus revert;
  void set_revert(const cow::RevertStatus& status);
  void set_lost(const SnapshotId& snapshot);
  std::vector<cow::CheckpointRecord> checkpoints;
  /// Of the last changed_blocks().
  Guid changes_from;
  std::optional<SnapshotId> changes_to;

  /// What scrub() finds, and how fast it was to be.
  cow::CheckReport scrub_report;
  std::uint64_t scrub_rate = 0;

  /// What changed_blocks() tells, whatever it is asked, from where it is asked.
  std::vector<cow::ChangedRange> changed;

  const std::string name;
  const VolumeId id = VolumeId::random();
  static constexpr std::size_t kBytes = 64 * 1024;

  // block::ResizableDevice: nobody reads or writes the disk itself.
  [[nodiscard]] block::Geometry geometry() const noexcept override;
  void submit(block::Request& first) noexcept override;
  [[nodiscard]] Status resize(std::uint64_t size_bytes) override;

 private:
  friend class cow::Volume;
  struct Stored {
    cow::SnapshotRecord record;
    std::string bytes;
    std::shared_ptr<void> open;  // Shared with the devices of open_snapshot().
  };

  [[nodiscard]] Status step(const std::string& name);
  [[nodiscard]] Stored* find(const SnapshotId& id);

  mutable std::mutex mutex_;
  std::condition_variable gate_changed_;
  Events* events_;
  std::string bytes_ = std::string(kBytes, '\0');
  std::vector<Stored> table_;
  std::map<std::string, Errc> failures_;
  std::uint64_t epoch_ = 0;
  int gates_ = 0;
  std::uint64_t maximum_ = 0;
  cow::Association kept_;
};

}  // namespace umbra::test
