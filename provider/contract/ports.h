// SPDX-License-Identifier: Apache-2.0
//
// What the system provider needs from its surroundings, as interfaces: somebody who freezes file
// systems (the guardian), and somebody who makes a device readable to the system (the front ends).
// The daemon joins them; tests use doubles.

#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/platform/block.h"
#include "umbra/ids.h"
#include "umbra/result.h"

namespace umbra::contract {

/// Among the devices of Freezer::freeze: those before it are frozen before those after it. The
/// number 0 is no device's.
inline constexpr std::uint64_t kFreezeBarrier = 0;

/// Freezes and thaws the file systems that are mounted from our volumes. Implemented by
/// provider/guardian/client.h, which asks the guardian process; freezing never happens in ours.
/// Threads: one call at a time per set; thaw() from any thread.
class Freezer {
 public:
  virtual ~Freezer() = default;

  /// syncfs on every file system that is mounted from one of `devices` (device numbers), so that
  /// the freeze that follows is short. May take minutes. A device without a mount is no error.
  [[nodiscard]] virtual Status flush(const std::vector<std::uint64_t>& devices) = 0;

  /// FIFREEZE on every file system mounted from one of `devices`, within `limit`; each is recorded
  /// in the run directory before it is issued. They freeze side by side (each may wait 50 ms for
  /// the kernel alone); where one volume lies on another, kFreezeBarrier comes between, dependants
  /// before hosts: a dependant's freeze writes to its host. From then on the guardian thaws them by
  /// itself at the end of `lease`, or when this process ends. On failure nothing stays frozen.
  /// Errors: flush_writes_timeout (names the mount); freeze_failed (a mount cannot be frozen, or
  /// somebody else has frozen it).
  [[nodiscard]] virtual Status freeze(const SnapshotSetId& set,
                                      const std::vector<std::uint64_t>& devices,
                                      std::chrono::milliseconds limit,
                                      std::chrono::milliseconds lease) = 0;

  /// Thaws what freeze() froze. True if everything was frozen until now; false if the lease ended
  /// before. Idempotent: an unknown set gives true.
  [[nodiscard]] virtual Result<bool> thaw(const SnapshotSetId& set) = 0;
};

struct Surfaced {
  std::string device_object;  // Path in the run directory; empty without FUSE.
  std::string nbd_uri;        // Empty without the NBD front end.
};

/// Makes snapshots readable to the system. Implemented by the daemon's front ends.
/// Threads: any; one call at a time per snapshot.
class Surfaces {
 public:
  virtual ~Surfaces() = default;

  /// The front ends keep the device alive until withdraw() has returned.
  [[nodiscard]] virtual Result<Surfaced> surface(const SnapshotId& snapshot,
                                                 std::shared_ptr<block::Device> device) = 0;
  /// Errors: volume_in_use (mounted or open, and not `force`). After success nobody reads it any
  /// more.
  [[nodiscard]] virtual Status withdraw(const SnapshotId& snapshot, bool force) = 0;
  /// Where it is mounted by our mount helper; empty if it is not.
  [[nodiscard]] virtual std::string mounted_at(const SnapshotId& snapshot) const = 0;
};

}  // namespace umbra::contract
