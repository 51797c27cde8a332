// SPDX-License-Identifier: Apache-2.0
//
// Which volumes are attached: attach, detach, attach again at the next start.
//
// Attaching is a chain of steps: check, open the store, serve it, register it with the provider,
// record it. Each step has its undo; a failure at any step undoes those before it, in reverse, and
// the error says what to do. The record comes last: what was answered with success is attached
// again after any restart, what was not answered may be forgotten.
//
// A volume that is recorded but cannot be attached stays in the table with what is wrong as its
// state, so that nobody wonders where it is: attach it again once the cause is gone, or detach it
// to forget it.

#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "engine/platform/log.h"
#include "engine/rpc/messages.h"
#include "provider/daemon/ports.h"
#include "umbra/provider.h"

namespace umbra::cowd {

/// Re-attaching: how long a predecessor's I/O may keep the locks.
inline constexpr std::chrono::seconds kLockPatience{30};

/// Threads: every member from any thread. attach(), detach(), reattach() and close() come one at a
/// time (they wait for each other); list() and find() never wait for them.
class VolumeManager {
 public:
  /// All outlive the manager.
  struct Ports {
    Host& host;
    Stores& stores;
    FrontEnds& front_ends;
    Registry& registry;
    ConfigStore& configs;
    Log& log;
  };
  explicit VolumeManager(const Ports& ports);
  ~VolumeManager();
  VolumeManager(const VolumeManager&) = delete;
  VolumeManager& operator=(const VolumeManager&) = delete;

  /// Blocks: seconds, more if a big diff area is allocated or recovered. On failure everything is
  /// as before. Errors: invalid_argument (a member; a path that is no file or block device; the
  /// diff area is the origin); object_not_found (no such origin); object_already_exists (the name);
  /// volume_attached (origin or diff area belongs to an attached volume, here or elsewhere);
  /// volume_in_use (mounted, or otherwise used); missing_privilege, missing_kernel_feature (a block
  /// device was demanded); limit_reached; those of Stores::open, FrontEnds::expose, Registry::add
  /// and ConfigStore::save.
  [[nodiscard]] Result<rpc::AttachedVolume> attach(const rpc::AttachVolume& request);

  /// Snapshots stay in the diff area and come back when it is attached again. Errors:
  /// object_not_found; volume_in_use (mounted, open, in a set, or a copy of it is, or another
  /// volume lies on it: says who; still attached); access_denied (a copy is under retention lock;
  /// still attached); io_error (detached, but the record could not be
  /// removed: repeat it).
  [[nodiscard]] Status detach(const VolumeRef& ref);

  /// What came of a move.
  struct Moved {
    std::string diff_area_path;
    std::vector<std::uint64_t> host_devices;  // As in Registration, of now.
    std::uint64_t bytes_copied = 0;
    std::uint64_t bytes_damaged = 0;  // Was damaged before, and still is.
    std::string kept;                 // The former one, if it was not removed, and why.
  };
  /// Moves the diff area of an attached volume to `to`: a path with nothing or an empty file, a
  /// block device with nothing, or a directory, which gets a file of the same name. Blocks for as
  /// long as copying takes; other volumes are attached and detached meanwhile. The intention is
  /// recorded before it begins, so that a start after a kill at any moment goes on with the one
  /// that counts; the former file is removed only when the record names the new one. On failure
  /// everything is as before. `progress` as OperationMonitor's. Errors: object_not_found;
  /// bad_state (being moved already); invalid_argument (the path; where it is already; the origin);
  /// volume_not_supported (on the volume itself, or on one that was attached later);
  /// volume_attached, volume_in_use (the target is); async_cancelled; those of
  /// Store::move_diff_area() and ConfigStore::save().
  using MoveProgress = std::function<bool(std::uint64_t done, std::uint64_t total)>;
  [[nodiscard]] Result<Moved> move_diff_area(const VolumeId& id, const std::string& to,
                                             const MoveProgress& progress,
                                             std::uint64_t bytes_per_second = 0);

  struct Unused {
    VolumeId volume_id;
    std::string name;
    std::string diff_area_path;
  };
  /// Recorded volumes that are not attached since there is nothing where their origin was. One that
  /// lies on another attached volume is none: that may only not be mounted yet. Nor is one whose
  /// last move is not settled. By order of attaching. Blocks for the file system.
  [[nodiscard]] std::vector<Unused> unused() const;
  /// Deletes the diff area of one of these, with its copies, and forgets the volume. Errors:
  /// object_not_found (no such volume, or it has not gone); those of Stores::discard_area();
  /// io_error (the record could not be removed: repeat it).
  [[nodiscard]] Status discard_unused(const VolumeId& id, const std::string& who);

  /// Attaches what is recorded, once, at start; hosts first. A volume that fails is logged and kept
  /// as above, and so are those that lie on it.
  /// Errors: io_error (the records cannot be listed).
  [[nodiscard]] Status reattach();

  /// Takes every volume away from its users and closes its store cleanly, newest first: a host
  /// takes what its dependants flush. Records stay. Nobody uses the copies any more.
  void close();

  /// By name.
  [[nodiscard]] std::vector<VolumeProperties> list() const;
  /// Errors: object_not_found (or the members of `ref` disagree).
  [[nodiscard]] Result<VolumeProperties> find(const VolumeRef& ref) const;
  /// Of these, the recorded ones that are not attached.
  [[nodiscard]] std::vector<VolumeProperties> not_attached() const;
  /// Who uses what is attached, one line each, for the log of a stop.
  [[nodiscard]] std::vector<std::string> in_use() const;

 private:
  struct Volume;
  class Undo;
  using VolumePtr = std::shared_ptr<Volume>;  // The table's, and whoever is looking at it.

  [[nodiscard]] Status check_origin(const PathFacts& origin, const VolumeConfig& config) const;
  [[nodiscard]] Status check_diff_area(const PathFacts& origin, const PathFacts& diff,
                                       const VolumeConfig& config) const;
  [[nodiscard]] Status check_not_taken(const PathFacts& facts, const std::string& path,
                                       const Volume* except) const;
  [[nodiscard]] Result<VolumePtr> replaceable(const VolumeConfig& config) const;
  [[nodiscard]] Status look(Volume& volume) const;
  [[nodiscard]] Status bring_up(Volume& volume, const OpenStore& request, Undo& undo);
  [[nodiscard]] Status expose(Volume& volume) const;
  [[nodiscard]] Registration registration(const Volume& volume) const;
  [[nodiscard]] std::vector<VolumePtr> hosts_of(const Volume& volume) const;
  [[nodiscard]] Status check_hosts(const VolumeConfig& config) const;
  void note_hosts(Volume& volume) const;
  // volume_moves.cc
  [[nodiscard]] Result<VolumePtr> begin_move(const VolumeId& id, const std::string& to);
  [[nodiscard]] Result<std::string> target_of(const Volume& volume, const std::string& to) const;
  [[nodiscard]] Status check_target(const Volume& volume, const PathFacts& target,
                                    const std::string& path) const;
  [[nodiscard]] Moved finish_move(const Volume& volume, const MovedDiffArea& report);
  void give_up_move(const Volume& volume);
  [[nodiscard]] Status settle(VolumeConfig& config);
  [[nodiscard]] std::string remove_area(const std::string& path);
  // volume_unused.cc
  [[nodiscard]] bool has_gone(const Volume& volume) const;
  void tell_if_complete();
  void put(VolumePtr volume, const Volume* instead_of);
  void drop(const Volume& volume);
  [[nodiscard]] std::vector<VolumePtr> table() const;
  [[nodiscard]] Result<VolumePtr> find_volume(const VolumeRef& ref) const;
  [[nodiscard]] static VolumeProperties describe(const Volume& volume);
  [[nodiscard]] std::vector<std::string> users(const Volume& volume) const;
  void take_down(Volume& volume);

  Ports ports_;
  Logger log_;
  std::mutex operations_;  // Held by attach, detach, reattach and close for their whole time.
  bool records_missing_ = false;    // Of operations_: a record could not be read.
  bool told_complete_ = false;      // Of operations_.
  mutable std::mutex table_mutex_;  // Guards volumes_; taken after operations_.
  std::vector<VolumePtr> volumes_;
};

}  // namespace umbra::cowd
