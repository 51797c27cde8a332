// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// The provider contract: what umbrad asks of whatever keeps snapshots. The system provider
// (umbra-cowd) and the in-memory provider of the tests implement this interface; a third party
// implements it and serves it with umbra::rpc, in a process of its own. It corresponds to
// IVssSoftwareSnapshotProvider, IVssProviderCreateSnapshotSet and IVssProviderNotifications, with
// the flush-and-hold that Windows' kernel does made explicit.
//
// The calls of one set, in order; anything out of order is answered with provider_veto or bad_state
// (see each call), and any failure of the provider itself in the middle discards the whole set:
//
//   begin_prepare_snapshot (once per volume)
//     -> end_prepare_snapshots -> pre_commit_snapshots
//     -> flush_commit_release                                   (one provider owns all volumes)
//        or flush_and_hold -> commit_snapshots -> release_hold  (several providers)
//     -> post_commit_snapshots -> pre_final_commit_snapshots -> post_final_commit_snapshots
//     -> confirm_set
//
//   abort_snapshots may come at any moment, also while end_prepare_snapshots is still blocking, and
//   more than once. A begin_prepare_snapshot with a new set id discards an older unfinished set
//   (unless it is in doubt, see confirm_set). A set that was discarded or aborted, and one of a
//   session that has ended, is begun no more: what comes late would otherwise be taken for a new
//   set, and discard a newer one or make half of the old. query_set and complete_set settle what
//   was left in doubt; they come when umbrad or a provider is back.
//
// Threads: calls of one set come one after the other, except abort_snapshots and the queries, which
// may come at any time from another thread. Calls block; the time limits are the caller's.
// Results: only ok, out_of_memory, invalid_argument, access_denied, bad_state, object_not_found,
// insufficient_storage, volume_not_supported, volume_not_supported_by_provider,
// maximum_number_of_snapshots_reached, provider_veto, flush_writes_timeout, hold_writes_timeout,
// nested_volume_limit, snapshot_lost, volume_in_use and what a call names itself; umbrad turns any
// other code into unexpected_provider_error.

#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "umbra/ids.h"
#include "umbra/result.h"
#include "umbra/vss.h"

namespace umbra {

/// VSS_PROVIDER_PROP.
struct ProviderProperties {
  ProviderId provider_id{};
  std::string name{};
  ProviderType type = ProviderType::unknown;
  std::string version{};
};

/// How a caller names a volume. At least one member is set; all that are set must agree.
struct VolumeRef {
  std::optional<VolumeId> id{};
  std::string name{};  ///< The name given at attach, or the text form of the id.
  /// A device number (st_rdev of a device node, st_dev of a file), as the caller's side saw it. The
  /// SDK resolves paths in the *caller's* mount namespace; umbrad's view of paths means nothing
  /// there.
  std::optional<std::uint64_t> device{};
  std::string path{};  ///< What the user typed; for messages only.
};

/// An attached volume, as our tools show it.
struct VolumeProperties {
  VolumeId volume_id{};
  std::string name{};
  std::string origin_path{};
  std::string diff_area_path{};
  /// The block device that serves it ("/dev/loop3"); empty without one.
  std::string device_path{};
  std::string nbd_uri{};  ///< Empty without an NBD front end.
  /// What makes the block device: "ublk", "fuse", "nbd", "none"; empty while not attached.
  std::string front_end{};
  std::string front_end_why{};  ///< Why that one, for people: what was asked for, what there is.
  std::uint64_t device = 0;     ///< Its device number; 0 without a block device.
  std::uint64_t size_bytes = 0;
  std::uint32_t chunk_bytes = 0;
  std::uint64_t diff_used_bytes = 0;
  std::uint64_t diff_allocated_bytes = 0;
  std::uint64_t diff_maximum_bytes = 0;  ///< 0: no bound.
  /// Since it was attached or umbra-cowd was started: written to free blocks, which needs no copy.
  std::uint64_t free_bytes_not_copied = 0;
  std::uint32_t snapshot_count = 0;
  std::string state{};  ///< "ok", or what is wrong in a few words.
};

/// VSS_SNAPSHOT_PROP.
struct SnapshotProperties {
  SnapshotId snapshot_id{};
  SnapshotSetId set_id{};
  VolumeId volume_id{};
  ProviderId provider_id{};
  std::uint32_t snapshots_count = 0;  ///< Members in the set at creation.
  std::string device_object{};        ///< Where the copy can be read: a path in the run directory.
  std::string nbd_uri{};              ///< Empty without an NBD front end.
  std::string original_volume{};      ///< The volume's name.
  std::string originating_machine{};
  std::string service_machine{};
  std::string exposed_path{};          ///< Where it is mounted; empty if it is not.
  std::uint32_t attributes = 0;        ///< Context and attributes, VSS_VOLSNAP_ATTR_*.
  std::int64_t creation_filetime = 0;  ///< 100 ns ticks since 1601-01-01 UTC.
  SnapshotState state = SnapshotState::unknown;
  bool lost = false;  ///< Its old data could not be kept; reads give EIO.
};

/// What travels with a prepared snapshot and is stored with it.
struct PrepareSnapshot {
  SnapshotSetId set_id{};
  SnapshotId snapshot_id{};
  VolumeRef volume{};
  std::uint32_t attributes = 0;  ///< Context and attributes.
  SessionId session_id{};        ///< Whose end releases an auto-release copy.
};

/// Limits that travel with the hold, as time left from the moment the provider gets the call.
struct HoldLimits {
  std::chrono::milliseconds flush{30'000};  ///< For flushing and freezing the file systems.
  /// The lease: from freeze to release, then it ends by itself.
  std::chrono::milliseconds hold{10'000};
  std::chrono::milliseconds window{60'000};  ///< Smallest freeze window left among frozen writers.
};

/// What the hold took, as measured by the provider. Zero where it did nothing.
struct HoldReport {
  std::chrono::microseconds flush{0};   ///< syncfs and FIFREEZE, before the gate was shut.
  std::chrono::microseconds freeze{0};  ///< First FIFREEZE to last FITHAW.
  std::chrono::microseconds gate{0};    ///< Live writes held: shut, drain, flip, open.
};

/// What delete_snapshots() did, also where it failed.
struct DeleteReport {
  std::uint32_t deleted = 0;
  std::optional<SnapshotId> not_deleted{};  ///< The one that stopped the deletion, with `status`.
  Status status{};
};

/// What a provider has of a set that a crash or a lost connection left behind.
enum class SetFate : std::uint8_t {
  none,       ///< Nothing, and nothing of it can appear any more.
  prepared,   ///< Copies that stay prepared until complete_set() or delete_snapshots().
  created,    ///< A copy that is marked created: the set is created.
  undecided,  ///< Cannot be said now: a call of the set runs, or a volume is not attached.
};

class DiffAreaManagement;
class HardwareProvider;

/// The contract; see the top of this file. Whoever implements it owns what is passed by value; what
/// is passed by reference is valid during the call.
class Provider {
 public:
  virtual ~Provider() = default;

  /// Constant. Threads: any.
  [[nodiscard]] virtual ProviderProperties properties() const = 0;

  /// The volume meant by `volume`. Errors: object_not_found (not ours).
  [[nodiscard]] virtual Result<VolumeProperties> find_volume(const VolumeRef& volume) = 0;
  /// All that this provider can copy, whether or not they have copies.
  [[nodiscard]] virtual Result<std::vector<VolumeProperties>> list_volumes() = 0;

  /// IsVolumeSupported: whether the volume can in principle be copied with these attributes, even
  /// if its maximum of copies is reached at present. Errors: object_not_found.
  [[nodiscard]] virtual Result<bool> is_volume_supported(const VolumeRef& volume,
                                                         std::uint32_t attributes) = 0;

  /// BeginPrepareSnapshot. Returns quickly; long work may go on in the background until
  /// end_prepare_snapshots. On failure the volume is not in the set and the set is as before.
  /// Errors: unsupported_context; object_not_found; object_already_exists (it is in the set);
  /// insufficient_storage; maximum_number_of_snapshots_reached; maximum_number_of_volumes_reached;
  /// revert_in_progress; nested_volume_limit (lies on other volumes in a circle); provider_veto
  /// (the set or its session has ended).
  [[nodiscard]] virtual Status begin_prepare_snapshot(const PrepareSnapshot& request) = 0;

  /// EndPrepareSnapshots: all preparation is done; may take minutes, and includes the long flush.
  [[nodiscard]] virtual Status end_prepare_snapshots(const SnapshotSetId& set) = 0;

  /// PreCommitSnapshots: writers are frozen; the last cheap preparation (1 to 2 s).
  [[nodiscard]] virtual Status pre_commit_snapshots(const SnapshotSetId& set) = 0;

  /// Freezes the file systems and shuts the gate of every volume of the set this provider has,
  /// within limits.flush. Until release_hold() or the end of the lease no write reaches them. On
  /// failure nothing is frozen or held. Errors: flush_writes_timeout; freeze_failed.
  [[nodiscard]] virtual Status flush_and_hold(const SnapshotSetId& set,
                                              const HoldLimits& limits) = 0;

  /// CommitSnapshots: takes the point in time for every volume at once. No I/O to any volume of the
  /// set. Errors: hold_writes_timeout (the lease has ended).
  [[nodiscard]] virtual Status commit_snapshots(const SnapshotSetId& set) = 0;

  /// Opens the gates, then thaws. Idempotent. Errors: hold_writes_timeout (writes were not held
  /// throughout: the lease ended first; nothing is held or frozen now, and the set must fail).
  [[nodiscard]] virtual Result<HoldReport> release_hold(const SnapshotSetId& set) = 0;

  /// flush_and_hold, commit_snapshots and release_hold in one, so that no round trip lies inside
  /// the hold. Refused with writererror_timeout when limits.window has passed before the commit. On
  /// failure nothing is frozen, held or committed.
  [[nodiscard]] virtual Result<HoldReport> flush_commit_release(const SnapshotSetId& set,
                                                                const HoldLimits& limits) = 0;

  /// PostCommitSnapshots: the epoch records and the list of all `members` of the set (over every
  /// provider) are durable on every volume.
  [[nodiscard]] virtual Status post_commit_snapshots(const SnapshotSetId& set,
                                                     const std::vector<SnapshotId>& members) = 0;

  /// PreFinalCommitSnapshots: the copies are surfaced, writable if auto-recovery was asked for.
  [[nodiscard]] virtual Status pre_final_commit_snapshots(const SnapshotSetId& set) = 0;

  /// PostFinalCommitSnapshots: the copies are read-only and prepared for good.
  [[nodiscard]] virtual Status post_final_commit_snapshots(const SnapshotSetId& set) = 0;

  /// Marks the set created, durably. Only now its copies appear in queries. After a crash, a set of
  /// which any member is marked created rolls forward; one without goes. A set with members at
  /// other providers is in doubt between post_final_commit_snapshots and confirm_set: another may
  /// have created its part. Then neither a failure of this call, nor the end of its session or of
  /// this process, nor a newer set discards it (but an auto-release set goes with its session): it
  /// stays prepared for complete_set(), abort_snapshots() or delete_snapshots().
  [[nodiscard]] virtual Status confirm_set(const SnapshotSetId& set) = 0;

  /// AbortSnapshots: releases what is held, discards the unfinished copies of the set. Idempotent;
  /// a set that is created or unknown is left as it is. Cannot fail in a way anyone could act on.
  virtual void abort_snapshots(const SnapshotSetId& set) noexcept = 0;

  /// What is here of a set that was left in doubt. umbrad asks every provider before it settles
  /// one. Threads: any time, beside other calls.
  [[nodiscard]] virtual Result<SetFate> query_set(const SnapshotSetId& set) = 0;

  /// Rolls a prepared set forward: what confirm_set() would have done, also after a restart. Waits
  /// for a confirm_set() that runs. Idempotent. Errors: object_not_found (nothing of it is here);
  /// bad_state (it is not prepared for good, or undecided). On failure it is as before, or in part
  /// created, and the call may be repeated.
  [[nodiscard]] virtual Status complete_set(const SnapshotSetId& set) = 0;

  /// Query: created copies only; with `incomplete`, also prepared ones that wait for absent
  /// members, and those of a set on its way from pre_final_commit_snapshots on: umbrad asks then,
  /// to tell the writers where their copies are surfaced.
  [[nodiscard]] virtual Result<std::vector<SnapshotProperties>> query_snapshots(
      bool incomplete) = 0;

  /// DeleteSnapshots: `id` names a snapshot or a set as `type` says. One after the other, stopping
  /// at the first failure. Errors in the report: object_not_found; volume_in_use (open or mounted,
  /// and not forced).
  [[nodiscard]] virtual DeleteReport delete_snapshots(const Guid& id, ObjectType type,
                                                      bool force) = 0;

  /// The session is over: its auto-release copies go, its unfinished set is aborted. Idempotent.
  virtual void end_session(const SessionId& session) noexcept = 0;

  /// After (re)connecting to a coordinator: every session not in `alive` is over.
  virtual void retain_sessions(const std::vector<SessionId>& alive) noexcept = 0;

  /// Management of diff areas (umbra/diff_area_management.h); null: none is offered. Constant; it
  /// lives as long as the provider. Threads: any.
  [[nodiscard]] virtual DiffAreaManagement* management() noexcept { return nullptr; }

  /// Copies that are LUNs (umbra/hardware_provider.h); null: they are not. Constant; it lives as
  /// long as the provider. Threads: any.
  [[nodiscard]] virtual HardwareProvider* hardware() noexcept { return nullptr; }
};

}  // namespace umbra
