// SPDX-License-Identifier: Apache-2.0
//
// What the system provider needs from its surroundings, as interfaces: somebody who freezes file
// systems (the guardian), and somebody who makes a device readable to the system (the front ends).
// The daemon joins them; tests use doubles.

#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "engine/platform/block.h"
#include "umbra/diff_area_management.h"
#include "umbra/ids.h"
#include "umbra/result.h"

namespace umbra::contract {

/// A part of a device that its file system had free.
struct FreeExtent {
  std::uint64_t device = 0;  // Number, of one of those that were frozen.
  std::uint64_t offset_bytes = 0;
  std::uint64_t size_bytes = 0;
  friend bool operator==(const FreeExtent&, const FreeExtent&) = default;
};

/// How a freeze ended.
struct Thawed {
  bool held_throughout = true;  // Everything was frozen until now.
  std::string why{};            // Else: what was not, if it is known.
  /// What was free from the freeze to the thaw, as far as that became known meanwhile without
  /// making it longer. Given once.
  std::vector<FreeExtent> free{};
};

/// Freezes and thaws the file systems that are mounted from our volumes. Implemented by
/// provider/guardian/client.h, which asks the guardian process; freezing never happens in ours.
/// Threads: one call at a time per set; thaw() from any thread.
class Freezer {
 public:
  virtual ~Freezer() = default;

  /// syncfs on every file system that is mounted from one of `devices` (device numbers), so that
  /// the freeze that follows is short. Takes at most `limit`, and ends at once when `stop` is
  /// requested. A device without a mount is no error. Errors: flush_writes_timeout (names the
  /// mount); freeze_failed (a file system in use that no mount leads to); io_error; bad_state
  /// (stopped).
  [[nodiscard]] virtual Status flush(const std::vector<std::uint64_t>& devices,
                                     std::chrono::milliseconds limit, std::stop_token stop) = 0;

  /// FIFREEZE on every file system mounted from one of `devices`, within `limit`; each is recorded
  /// in the run directory before it is issued. They freeze side by side (each may wait 50 ms for
  /// the kernel alone), so none of them may lie on another: a dependant's freeze writes to its
  /// host. From then on the guardian thaws them by itself at the end of `lease`, or when this
  /// process ends. On failure, and when `stop` is requested, nothing stays frozen: a FIFREEZE that
  /// has not returned yet is thawed when it does. Errors: flush_writes_timeout (names the mount);
  /// freeze_failed (a mount cannot be reached or frozen, or somebody else has frozen it); bad_state
  /// (stopped).
  [[nodiscard]] virtual Status freeze(const SnapshotSetId& set,
                                      const std::vector<std::uint64_t>& devices,
                                      std::chrono::milliseconds limit,
                                      std::chrono::milliseconds lease, std::stop_token stop) = 0;

  /// Thaws what freeze() froze. Idempotent: an unknown set was frozen until now.
  [[nodiscard]] virtual Result<Thawed> thaw(const SnapshotSetId& set) = 0;
};

/// What a diff area lies on.
struct DiffVolume {
  DiffVolumeProperties properties;  // Sizes only from all().
  /// Its device, and all below it: device numbers.
  std::vector<std::uint64_t> stands_on;
};

/// What diff areas lie on, or could. Implemented by the daemon. Threads: any.
class DiffVolumes {
 public:
  virtual ~DiffVolumes() = default;
  /// Of a path that need not exist; nothing on it is touched: it may lie on a volume of ours.
  /// Errors: object_not_found; io_error.
  [[nodiscard]] virtual Result<DiffVolume> of(const std::string& path) const = 0;
  /// Where a diff area could be made. Errors: io_error.
  [[nodiscard]] virtual Result<std::vector<DiffVolume>> all() const = 0;
};

/// Gives diff areas another place, and removes those that nobody needs. Implemented by the daemon.
/// Threads: any.
class DiffAreas {
 public:
  virtual ~DiffAreas() = default;
  struct Moved {
    std::string diff_area_path;
    std::vector<std::uint64_t> host_devices;  // As in VolumeDescription, of now.
    std::uint64_t bytes_copied = 0;
    std::uint64_t bytes_damaged = 0;  // Were damaged before, and are.
    std::string kept;                 // The former one, if it was not removed, and why.
  };
  /// False: stop.
  using Progress = std::function<bool(std::uint64_t done_bytes, std::uint64_t total_bytes)>;
  /// Moves a volume's diff area while it is in use, durably; what a restart finds is one of both,
  /// whole. Copies at most so many bytes a second (0: no bound), and what is written meanwhile on
  /// top. Blocks for as long as copying takes. On failure everything is as before. Errors:
  /// object_not_found; bad_state (being moved already); invalid_argument, object_already_exists,
  /// diff_area_foreign, volume_not_supported, volume_attached, volume_in_use (of the new place);
  /// insufficient_storage; access_denied (retention lock); limit_reached; async_cancelled;
  /// io_error.
  [[nodiscard]] virtual Result<Moved> move(const VolumeId& volume, const std::string& to,
                                           std::uint64_t bytes_per_second,
                                           const Progress& progress) = 0;
  struct Unused {
    VolumeId volume;
    std::string name;
    std::string diff_area_path;
  };
  /// Of volumes that are known here and have gone. Blocks shortly.
  [[nodiscard]] virtual std::vector<Unused> unused() const = 0;
  /// Deletes one of these with its copies; `who` for the audit. Durable. Errors: object_not_found
  /// (it has not gone); access_denied (a copy is under retention lock: says which and until when);
  /// volume_attached (somebody has it open); diff_area_corrupt (whether one is locked is not
  /// known); diff_area_foreign, diff_area_version, diff_area_wrong_origin (not the volume's);
  /// io_error.
  [[nodiscard]] virtual Status discard_unused(const VolumeId& volume, const std::string& who) = 0;
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
  /// Where copies are mounted by our mount helper. One look at the system for all of them: it costs
  /// the same for one as for thousands.
  using MountPoints = std::map<SnapshotId, std::string>;
  [[nodiscard]] virtual MountPoints mount_points() const = 0;
};

}  // namespace umbra::contract
