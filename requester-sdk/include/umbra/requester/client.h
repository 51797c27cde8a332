// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// Queries and management: what umbrad knows, deleting and mounting copies, attaching volumes.
// Creating copies needs a session: backup_session.h.
//
//   auto client = umbra::requester::Client::connect({});
//   auto list = client->list_snapshots();
//
// Errors every call may give besides those it names: coordinator_lost (the connection is gone; make
// a new Client), access_denied (the role is not enough), bad_state (called after fork(), or by two
// threads at once).

#pragma once

#include <memory>
#include <string>
#include <vector>

#include "umbra/requester/export.h"
#include "umbra/requester/types.h"
#include "umbra/result.h"

namespace umbra::requester {

/// A connection to umbrad. Movable. Calls block for as long as umbrad needs, with a bound (two
/// minutes where nothing is said). The library starts no threads.
///
/// Threads: distinct objects are independent; one object: one call at a time.
class Management;

class UMBRA_REQUESTER_EXPORT Client {
 public:
  /// Errors: coordinator_lost (nobody is listening); access_denied; version_mismatch.
  [[nodiscard]] static Result<Client> connect(const ConnectOptions& options = {});

  Client(Client&&) noexcept;
  Client& operator=(Client&&) noexcept;
  ~Client();

  [[nodiscard]] Result<VolumeList> list_volumes();
  [[nodiscard]] Result<SnapshotList> list_snapshots(const SnapshotQuery& query = {});
  [[nodiscard]] Result<std::vector<WriterInfo>> list_writers();
  [[nodiscard]] Result<std::vector<ProviderInfo>> list_providers();
  [[nodiscard]] Result<CoordinatorStatus> status();
  /// What umbrad's configuration says to requesters: VSS's FilesNotToSnapshot, FilesNotToBackup and
  /// WritersBlockingRevert. Heeding it is the requester's part, as in VSS.
  [[nodiscard]] Result<CoordinatorSettings> settings();

  /// Who was asked what while a set was made, and what was answered; nil: the newest set. For the
  /// user who made it, and for admins. Errors: object_not_found (not among the last 64).
  [[nodiscard]] Result<SetTrace> trace(const SnapshotSetId& set = {});
  /// Those that trace() knows, newest first, without their spans.
  [[nodiscard]] Result<std::vector<SetTrace>> list_traces();

  /// GetSnapshotProperties. Errors: object_not_found (the context names providers that are away).
  [[nodiscard]] Result<SnapshotProperties> snapshot_properties(const SnapshotId& id);

  /// Deletes a snapshot (ObjectType::snapshot) or all of a set (snapshot_set), one after the other,
  /// stopping at the first that cannot be deleted. `force`: also one that is mounted or open.
  /// Errors: object_not_found.
  [[nodiscard]] Result<DeletedSnapshots> delete_snapshots(const Guid& id, ObjectType type,
                                                          bool force = false);

  /// Mounts a copy read-only; an empty directory means one in the run directory. Errors:
  /// object_not_found; volume_in_use (mounted already); snapshot_lost.
  [[nodiscard]] Result<MountedSnapshot> mount_snapshot(const SnapshotId& id,
                                                       const std::string& directory = {});
  /// Errors: object_not_found; volume_in_use (files are open).
  [[nodiscard]] Status unmount_snapshot(const SnapshotId& id);

  /// Puts a volume under copy-on-write. Admin. Errors: volume_attached; diff_area_foreign;
  /// invalid_argument; insufficient_storage; missing_privilege.
  [[nodiscard]] Result<AttachedVolume> attach_volume(const AttachOptions& options);
  /// Admin. Errors: object_not_found; volume_in_use (mounted or open); access_denied (a copy is
  /// under retention lock).
  [[nodiscard]] Status detach_volume(const VolumeRef& volume);

  /// Ends the set that is being created, whoever creates it. Admin, or the holder's own user.
  /// Errors: object_not_found (there is none).
  [[nodiscard]] Result<AbortedSet> abort_set(const std::string& reason);

  /// IVssAdmin::RegisterProvider: the provider is known from now on, although it has not connected
  /// yet, and may connect if it was unregistered. One that nobody unregistered need not be
  /// registered: it is by its first connection. Admin. Errors: provider_already_registered;
  /// invalid_argument (no id, no name, unknown type); limit_reached (64 are known).
  [[nodiscard]] Status register_provider(const ProviderProperties& properties);
  /// IVssAdmin::UnregisterProvider: its connection ends, it is in no list any more, and it is not
  /// let in again until register_provider(). Copies that it has stay with it; nobody manages them.
  /// `force`: also if there are such, or if it is away and cannot be asked. Admin. Errors:
  /// provider_not_registered; provider_in_use (a set is being made on it, also with `force`; it has
  /// copies, or is away).
  [[nodiscard]] Status unregister_provider(const ProviderId& id, bool force = false);

 private:
  friend class Management;
  class Impl;
  explicit Client(std::unique_ptr<Impl> impl) noexcept;
  std::unique_ptr<Impl> impl_;
};

}  // namespace umbra::requester
