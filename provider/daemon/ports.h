// SPDX-License-Identifier: Apache-2.0
//
// What the volume manager needs from its surroundings, as interfaces, so that its decisions and its
// undo can be tested without root: the host's view of a path, opening a store, serving it to the
// system, and the provider that makes snapshots of it. main_linux.cc joins the real ones.

#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/platform/block.h"
#include "provider/cow/migrate.h"
#include "provider/cow/volume.h"
#include "provider/daemon/volume_config.h"
#include "umbra/ids.h"
#include "umbra/result.h"

namespace umbra::cowd {

enum class PathKind : std::uint8_t { missing, file, block_device, directory, other };

/// What a path stands for, and who uses it.
struct PathFacts {
  PathKind kind = PathKind::missing;
  std::uint64_t size_bytes = 0;
  std::uint64_t device =
      0;                    // Block device: its own number. File: that of the file system it is on.
  std::uint64_t inode = 0;  // Files only.
  /// Device numbers of all that it lies on, as far as the system tells: the file system's device,
  /// the disk of a partition, what is below LUKS and LVM, the host of a loop device's file. Of a
  /// missing path, what it would lie on.
  std::vector<std::uint64_t> stands_on;
  /// Why nobody else may have it: "it is mounted at /srv", "it is the backing file of /dev/loop3".
  std::vector<std::string> uses;

  /// The same storage, whatever it is called.
  [[nodiscard]] bool same_as(const PathFacts& other) const noexcept {
    return kind == other.kind && device == other.device && inode == other.inode &&
           (kind == PathKind::file || kind == PathKind::block_device);
  }
};

/// The machine, as far as attaching cares. Threads: any.
class Host {
 public:
  virtual ~Host() = default;
  /// Follows links. A missing path is no error. Errors: access_denied; io_error.
  [[nodiscard]] virtual Result<PathFacts> look_at(const std::string& path) const = 0;
};

struct MoveDiffArea {
  std::string path;                    // A file or block device.
  bool makes = false;                  // The file is not there yet.
  bool apart = false;                  // Lies on a volume of ours.
  std::uint64_t bytes_per_second = 0;  // At most, but for what is written meanwhile; 0: no bound.
  /// False: give up.
  std::function<bool(const cow::MigrateProgress&)> on_progress;
};
struct MovedDiffArea {
  cow::MigrateProgress done;
  /// False: it is in force and in use, but a start has to settle it first: the former one must stay
  /// until then.
  bool settled = true;
  bool source_left = true;  // False: the former one is still being read.
};
/// After a restart: which of the two counts, of a move that was recorded.
struct SettleMove {
  std::string from;
  std::string to;
  VolumeId volume_id;
  bool apart = false;
  std::chrono::milliseconds lock_patience{0};
};

/// A diff area whose volume has gone.
struct DiscardArea {
  std::string path;
  VolumeId volume_id;
  std::string who;  // For the audit.
};

/// An open origin with its open diff area.
class Store {
 public:
  virtual ~Store() = default;  // As a crash would leave it, unless close() was called.
  [[nodiscard]] virtual VolumeId id() const = 0;
  /// The live volume; keeps what it stands on alive.
  [[nodiscard]] virtual std::shared_ptr<block::Device> live() = 0;
  [[nodiscard]] virtual cow::Statistics statistics() const = 0;
  [[nodiscard]] virtual std::vector<cow::SnapshotRecord> snapshots() const = 0;
  /// Whether it may be taken away. Errors: access_denied (a copy is under retention lock).
  [[nodiscard]] virtual Status check_retention() const = 0;
  /// For people: how it is read and written, "origin: threads, page cache; diff area: ...".
  [[nodiscard]] virtual std::string io_text() const = 0;
  /// Moves the diff area while the volume is in use, with a lock on the target. Blocks for as long
  /// as it takes. On failure everything is as before, and a file that it made is gone. Errors:
  /// those of open_file_device() and cow::Volume::migrate(). One at a time.
  [[nodiscard]] virtual Result<MovedDiffArea> move_diff_area(const MoveDiffArea& request) = 0;
  /// Flushes and marks the diff area clean; live() answers EIO afterwards. Idempotent.
  [[nodiscard]] virtual Status close() = 0;
};

struct OpenStore {
  std::string origin_path;
  std::string diff_area_path;
  std::optional<VolumeId> volume_id;  // Re-attaching: the diff area must be this volume's.
  bool may_format = false;            // Attaching: an absent or empty diff area is made.
  bool accept_changed_origin = false;
  bool origin_moved = false;
  bool force = false;  // Attaching: whatever is there is overwritten.
  std::uint32_t chunk_bytes = cow::kChunkBytesDefault;
  std::uint64_t diff_initial_bytes = cow::kDiffBytesInitialDefault;
  std::uint64_t diff_maximum_bytes = 0;
  bool apart = false;   // Lies on a volume of ours: see FileDeviceOptions.
  bool direct = false;  // The origin's file without the page cache.
  /// Old data is shared with the origin; attaching (may_format) fails with not_supported where that
  /// cannot be done, else it is copied then.
  bool reflink = false;
  std::uint32_t snapshots_max = cow::kSnapshotsMax;
  /// How long to wait for the locks: what a killed process had in flight keeps them for seconds.
  std::chrono::milliseconds lock_patience{0};
};
struct OpenedStore {
  std::unique_ptr<Store> store;
  bool formatted = false;
};

/// Threads: one call at a time.
class Stores {
 public:
  virtual ~Stores() = default;
  /// Takes the locks of both, makes the diff area if it may, opens. Blocks. On failure no lock is
  /// held and a diff area file that did not exist does not exist. Errors: those of
  /// open_file_device(), cow::format_diff_area() and cow::Volume::open().
  [[nodiscard]] virtual Result<OpenedStore> open(const OpenStore& request) = 0;
  /// Nobody has either open. Finishes the move if only that is left to do. Errors:
  /// object_not_found (one that is needed is missing); those of open_file_device() and
  /// cow::settle_move(); diff_area_wrong_origin (of another volume).
  [[nodiscard]] virtual Result<cow::MoveSide> settle(const SettleMove& request) = 0;
  /// Removes the file of a diff area that is not in force: it was moved, or a move to it did not
  /// come to its end. A missing one is no error; a block device is left as it is. Errors: bad_state
  /// (it is in force, or no diff area and not empty); those of open_file_device(); io_error.
  [[nodiscard]] virtual Status remove_area(const std::string& path) = 0;
  /// Takes away a diff area that nobody has open, with its copies, each of which is told as
  /// deleted: a file is removed, a block device is no diff area afterwards. A missing one is no
  /// error. Errors: access_denied (a copy is under retention lock); diff_area_wrong_origin (another
  /// volume's); diff_area_corrupt (it cannot be told whether one is); those of open_file_device()
  /// and cow::read_contents(); io_error. On failure it is as before, but for io_error.
  [[nodiscard]] virtual Status discard_area(const DiscardArea& request) = 0;
};

/// How a live volume can be reached.
struct Exposed {
  FrontEnd front_end = FrontEnd::none;
  std::string why;           // That one; for people.
  std::string device_path;   // Empty without a block device.
  std::uint64_t device = 0;  // Its number.
  std::string nbd_uri;
};

/// Serves live volumes to the system. Threads: one call at a time, except users().
class FrontEnds {
 public:
  virtual ~FrontEnds() = default;
  /// What block devices can be made with here.
  [[nodiscard]] virtual FrontEndOffer offer() const = 0;
  /// What a former life of this process served it with, if it left that to us.
  [[nodiscard]] virtual std::optional<FrontEnd> kept(const VolumeId& volume) const = 0;
  /// NBD export `name`, and the block device of `front_end`. One that a former life of this process
  /// left is taken over. On failure nothing is exposed. Errors: object_already_exists (the export
  /// name); io_error; missing_kernel_feature; limit_reached.
  [[nodiscard]] virtual Result<Exposed> expose(const VolumeId& volume, const std::string& name,
                                               std::shared_ptr<block::Device> device,
                                               FrontEnd front_end) = 0;
  /// Who uses it: "mounted at /srv", "open by 1 NBD client"; empty: nobody.
  [[nodiscard]] virtual std::vector<std::string> users(const VolumeId& volume) const = 0;
  /// The same for a copy.
  [[nodiscard]] virtual std::vector<std::string> users(const SnapshotId& snapshot) const = 0;
  /// Takes it away; an unknown one is no error. Errors: volume_in_use (still served then).
  [[nodiscard]] virtual Status conceal(const VolumeId& volume) = 0;
  /// The same from whoever uses it, who gets errors from now on.
  virtual void cut_off(const VolumeId& volume) = 0;
};

/// What the provider must know of a volume beside its store.
struct Registration {
  VolumeId volume_id;
  std::string name;
  std::string origin_path;
  std::string diff_area_path;
  Exposed exposed;
  std::uint64_t size_bytes = 0;
  /// Device numbers of what origin and diff area lie on: a volume whose own device is among them
  /// is a host of this one.
  std::vector<std::uint64_t> host_devices;
  bool copies_free_blocks = false;
};

/// The provider's registry of volumes. Threads: one call at a time.
class Registry {
 public:
  virtual ~Registry() = default;
  /// Recovers unfinished sets and surfaces the copies. The store outlives the registration. On
  /// failure it is not registered.
  [[nodiscard]] virtual Status add(const Registration& registration, Store& store) = 0;
  /// Withdraws the copies; an unknown volume is no error. Errors: volume_in_use (in a set that is
  /// being made, or a copy is mounted or open; registered still).
  [[nodiscard]] virtual Status remove(const VolumeId& volume) = 0;
  /// No recorded volume is missing any more: a set whose members are not all there never will be
  /// whole.
  virtual void all_attached() = 0;
};

/// The durable list of attached volumes. Threads: one call at a time.
class ConfigStore {
 public:
  virtual ~ConfigStore() = default;
  struct Loaded {
    std::vector<VolumeConfig> volumes;
    std::vector<std::string> problems;  // One per file that could not be used; it stays in place.
  };
  [[nodiscard]] virtual Result<Loaded> load() = 0;
  /// Durable on success; on failure the former content, or none, is in place. Errors: io_error.
  [[nodiscard]] virtual Status save(const VolumeConfig& config) = 0;
  /// Durable; an unknown volume is no error. Errors: io_error (still there).
  [[nodiscard]] virtual Status forget(const VolumeId& volume) = 0;
};

}  // namespace umbra::cowd
