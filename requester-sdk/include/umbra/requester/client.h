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
// threads at once). After coordinator_lost it is not known what umbrad did of the call.
//
// In the whole SDK: calls are named as VSS's, in our spelling, and where one has another name its
// comment gives VSS's. Nothing is thrown but std::bad_alloc. No signal is sent, no handler changed.

#pragma once

#include <memory>
#include <string>
#include <vector>

#include "umbra/requester/export.h"
#include "umbra/requester/types.h"
#include "umbra/result.h"

namespace umbra::requester {

class Management;

/// A connection to umbrad. Calls block for as long as umbrad needs, with a bound (two minutes where
/// nothing is said). The library starts no threads.
///
/// Movable; one that was moved from can only be assigned to or end. After fork() the child must
/// make its own: calls give bad_state, and its end leaves the parent's connection alone.
/// Threads: distinct objects are independent; one object: one call at a time.
class UMBRA_REQUESTER_EXPORT Client {
 public:
  /// Blocks for options.connect_limit at most. Errors: coordinator_lost (nobody is listening);
  /// access_denied; version_mismatch; invalid_argument (connect_limit is not positive).
  [[nodiscard]] static Result<Client> connect(const ConnectOptions& options = {});

  Client(Client&&) noexcept;
  Client& operator=(Client&&) noexcept;
  ~Client();

  /// Attached volumes. Where a provider is away its volumes are missing, and it is named.
  [[nodiscard]] Result<VolumeList> list_volumes();
  /// Query, for snapshots. Where a provider is away its copies are missing, and it is named.
  [[nodiscard]] Result<SnapshotList> list_snapshots(const SnapshotQuery& query = {});
  /// Writers that are registered now, express writers included.
  [[nodiscard]] Result<std::vector<WriterInfo>> list_writers();
  /// IVssAdmin::QueryProviders.
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
  /// stopping at the first that cannot be deleted, which is told in the report. `force`: also one
  /// that is mounted or open. Ten minutes at most. Errors: object_not_found; invalid_argument
  /// (another type).
  [[nodiscard]] Result<DeletedSnapshots> delete_snapshots(const Guid& id, ObjectType type,
                                                          bool force = false);

  /// Mounts a copy until unmount_snapshot(), read-only and without replaying a journal unless the
  /// options say so. Errors: object_not_found; volume_in_use (mounted already, elsewhere or in
  /// another way); not_supported (no file system that can be mounted); insufficient_storage (the
  /// overlay); snapshot_lost.
  [[nodiscard]] Result<MountedSnapshot> mount_snapshot(const SnapshotId& id,
                                                       const MountOptions& options);
  /// With the options' defaults; an empty directory means one in the run directory.
  [[nodiscard]] Result<MountedSnapshot> mount_snapshot(const SnapshotId& id,
                                                       const std::string& directory = {});
  /// Errors: object_not_found; volume_in_use (files are open).
  [[nodiscard]] Status unmount_snapshot(const SnapshotId& id);

  /// Puts a volume under copy-on-write. Admin. Ten minutes at most. Errors: volume_attached;
  /// diff_area_foreign; invalid_argument; insufficient_storage; missing_privilege.
  [[nodiscard]] Result<AttachedVolume> attach_volume(const AttachOptions& options);
  /// Ends that; its copies stay in the diff area. Admin. Five minutes at most. Errors:
  /// object_not_found; volume_in_use (mounted or open); access_denied (a copy is under retention
  /// lock).
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
