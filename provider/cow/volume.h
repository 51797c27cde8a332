// SPDX-License-Identifier: Apache-2.0
//
// A copy-on-write volume: an origin, and a diff area that keeps what snapshots need of the past.
//
// The live volume is a block::Device over the origin: writes change the origin in place, after the
// old content of each 16 KiB chunk (kChunkBytesDefault) went to the diff area, once per chunk and
// epoch. A commit starts an epoch; a snapshot reads, per chunk, the preserved record with the
// smallest epoch that is not below its own, else the origin.
//
// Guarantees, in this order:
//   1. what a snapshot shows never changes, or the snapshot says that it is lost;
//   2. a write to the live volume never fails because of a snapshot;
//   3. a flushed live write is never lost;
//   4. what is acknowledged survives kill -9 of this process; a persistent snapshot also survives a
//      power cut, an auto-release one does not survive a restart of the machine.
//
// It knows bytes, epochs and snapshot records; it does not know sets' rules, writers or sockets:
// provider/contract decides what to do with a half-made set that open() finds.

#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/platform/block.h"
#include "engine/platform/clock.h"
#include "engine/platform/log.h"
#include "provider/cow/events.h"
#include "provider/cow/home_watch.h"
#include "provider/cow/space_plan.h"
#include "umbra/ids.h"
#include "umbra/result.h"

namespace umbra::cow {

struct CheckReport;  // check.h
/// Called before every read, and while it waits: how much was read, of about how much. False: stop.
using ScrubProgress = std::function<bool(std::uint64_t done_bytes, std::uint64_t total_bytes)>;
struct MigrateOptions;   // migrate.h
struct MigrateProgress;  // migrate.h
struct MigrateReport;    // migrate.h

inline constexpr std::uint32_t kChunkBytesMin = 4U << 10U;
inline constexpr std::uint32_t kChunkBytesDefault = 16U << 10U;
inline constexpr std::uint32_t kChunkBytesMax = 1U << 20U;
/// Snapshots that a volume can have, prepared ones included: what the format has room for. VSS's
/// limit of 512 is a matter of OpenOptions::snapshots_max.
inline constexpr std::uint32_t kSnapshotsMax = 262'144;
/// Snapshots in one set, over all volumes and providers (VSS's limit).
inline constexpr std::uint32_t kMembersMax = 64;
inline constexpr std::uint64_t kDiffBytesInitialDefault = std::uint64_t{64} << 20U;
inline constexpr std::uint64_t kGrowStepBytesDefault = std::uint64_t{64} << 20U;
/// The smallest diff area: superblocks, snapshot table and room for two segments.
[[nodiscard]] std::uint64_t diff_bytes_min(std::uint32_t chunk_bytes) noexcept;

struct FormatOptions {
  VolumeId volume_id;
  std::uint32_t chunk_bytes = kChunkBytesDefault;  // A power of two, kChunkBytesMin..Max.
  /// A file is grown to this; a block device's size is taken as it is.
  std::uint64_t diff_bytes_initial = kDiffBytesInitialDefault;
  std::uint64_t diff_bytes_max = 0;  // The diff area grows up to this; 0: no bound.
  bool force = false;                // Overwrite whatever is there.
};

/// Makes `diff` the empty diff area of `origin`. Blocks; durable on return. The origin is not read
/// or written. Errors: invalid_argument (chunk size, empty origin); diff_area_foreign (it is not
/// empty, and not `force`); object_already_exists (it is a diff area, and not `force`);
/// insufficient_storage (smaller than diff_bytes_min(), or the host is full); io_error. On failure
/// the diff area may be half formatted and is then refused by open().
[[nodiscard]] Status format_diff_area(const block::Device& origin, block::ResizableDevice& diff,
                                      const FormatOptions& options);

/// Whether old content of `origin` can be kept in `diff` by sharing blocks. Blocks. Errors:
/// not_supported, with what to do instead.
[[nodiscard]] Status check_sharing(block::Device& origin, block::Device& diff,
                                   std::uint32_t chunk_bytes);

struct DiffAreaDescription {
  VolumeId volume_id;
  std::uint64_t origin_bytes = 0;
  std::uint32_t chunk_bytes = 0;
  std::uint64_t diff_bytes_max = 0;
  bool clean = false;                   // Closed in order.
  std::optional<std::string> moved_to;  // Another one is in force in its place.
};

/// Reads the superblocks only. Errors: diff_area_foreign, diff_area_version, diff_area_corrupt,
/// io_error.
[[nodiscard]] Result<DiffAreaDescription> inspect_diff_area(block::Device& diff);

/// Where "this snapshot is lost" is written when the diff area cannot take it any more: a file off
/// the volume. Threads: one call at a time per volume; calls may block.
class LostStore {
 public:
  virtual ~LostStore() = default;
  /// Durable on success.
  [[nodiscard]] virtual Status add(const VolumeId& volume,
                                   std::span<const SnapshotId> snapshots) = 0;
  [[nodiscard]] virtual Result<std::vector<SnapshotId>> list(const VolumeId& volume) = 0;
};

/// Where a volume runs its rare blocking work (growing the diff area, making a loss durable).
/// Every volume has one of its own, so that a stalled diff area starves no other volume.
class Executor {
 public:
  virtual ~Executor() = default;
  /// Runs `job` later, never inside post(). Threads: any; one job at a time, in order.
  virtual void post(std::function<void()> job) = 0;
  /// The same, not before `delay` is over. What is left at destruction is dropped.
  virtual void post_after(Duration delay, std::function<void()> job) = 0;
};

/// What the host of a diff area's file can still give. Threads: any; calls may block shortly.
class HostSpace {
 public:
  virtual ~HostSpace() = default;
  /// Errors: io_error (then growth is not limited by it).
  [[nodiscard]] virtual Result<HostRoom> room() = 0;
};

struct OpenOptions {
  /// prepare() refuses more snapshots than this, prepared ones included; those that exist stay.
  std::uint32_t snapshots_max = kSnapshotsMax;
  std::optional<VolumeId> volume_id;  // If given, the diff area must belong to it.
  Guid boot_id;                       // Of the running machine; another one ends auto-release ones.
  std::uint64_t grow_step_bytes = kGrowStepBytesDefault;
  Log* log = nullptr;  // Null: no log. Outlives the volume.
  LostStore* lost_store =
      nullptr;                   // Null: none; then writes are held if a loss cannot be recorded.
  Executor* executor = nullptr;  // Null: a thread of the volume's own. Outlives the volume.
  // --- space ---
  /// Of the write rate of the last seconds, so much is kept ready; 0: only the step.
  std::uint64_t grow_ahead_seconds = kAheadSeconds;
  HostSpace* host_space = nullptr;  // Null: growth is tried, and fails when the host is full.
  EventSink* events = nullptr;      // Null: none are told. Outlives the volume.
  const Clock* clock = nullptr;     // Null: the machine's. Outlives the volume.

  /// Which file the origin is (FileDevice::lasting_identity()); all zeroes: not to be compared.
  std::array<std::byte, 32> origin_identity{};
  /// When the origin was last written, by whomever; 0: unknown. Called by open() and close(). Null:
  /// unknown.
  std::function<std::int64_t()> origin_change_time;
  /// An origin that was changed while it was detached: mark its snapshots lost and go on. Refused
  /// while one of them is under retention lock (access_denied).
  bool accept_changed_origin = false;
  /// The origin is a faithful copy in another file or device: its identity and the time of its last
  /// write are not compared, its content is.
  bool origin_moved = false;
  /// Old content is kept by sharing its blocks with the origin where that can be done, not by
  /// copying (docs/cowd.md says what that costs). Where it cannot, it is copied, and the log says
  /// why; check_sharing() says so beforehand.
  bool reflink = false;
};

/// VSS_PROTECTION_LEVEL.
enum class ProtectionLevel : std::uint32_t {
  original_volume = 0,  // A copy that cannot be made costs snapshots.
  snapshot = 1,         // It costs the volume: live I/O fails until the fault is cleared.
};

/// VSS_VOLUME_PROTECTION_INFO.
struct Protection {
  ProtectionLevel level = ProtectionLevel::original_volume;
  Fault fault = Fault::none;
  std::int64_t fault_filetime = 0;
  bool offline = false;  // All live I/O gets EIO.
};

struct RetentionPolicy {
  std::int64_t longest_seconds = 0;  // Of a lock; 0: none can be set. Locks that exist stay.
  /// While a copy is locked, none is made that would leave less than this of the maximum.
  std::uint64_t reserve_bytes = 0;
};

/// What a new maximum has done.
struct MaximumChange {
  std::vector<SnapshotId> deleted;  // Oldest first.
  std::uint64_t diff_bytes = 0;     // The diff area's size now.
  std::uint64_t used_bytes = 0;
};

/// How far a snapshot is. Only `created` ones are for everybody's eyes.
enum class Stage : std::uint8_t {
  prepared = 1,   // Has a durable place; no point in time yet. Does not survive reopening.
  committed = 2,  // Has its point in time; the set is not confirmed yet.
  created = 3,    // Confirmed.
};

struct PrepareRequest {
  SnapshotId id;
  SnapshotSetId set_id;
  SessionId session_id;
  std::uint32_t attributes = 0;  // Kept, not understood.
  bool persistent = false;       // Survives power cuts and restarts of the machine.
};

struct SnapshotRecord {
  SnapshotId id;
  SnapshotSetId set_id;
  SessionId session_id;
  std::uint32_t attributes = 0;
  bool persistent = false;
  Stage stage = Stage::prepared;
  bool lost = false;  // Reads give EIO.
  std::int64_t creation_filetime = 0;
  std::uint64_t epoch = 0;          // Order of the points in time on this volume.
  std::vector<SnapshotId> members;  // Of the set, over all volumes; empty before post_commit().
  std::int64_t retain_until_filetime = 0;  // Retention lock; 0: there was none.
  std::uint64_t exempt_bytes = 0;          // Of exempt_free(): reads as zeroes.
};

// --- changes ---------------------------------------------------------------------------------

/// Bytes of the volume that changed; whole chunks, but for the end of the volume.
struct ChangedRange {
  std::uint64_t offset_bytes = 0;
  std::uint64_t size_bytes = 0;
  friend bool operator==(const ChangedRange&, const ChangedRange&) = default;
};
/// Gets ranges in ascending order, many at a time; they neither overlap nor touch. False: no more.
using ChangedSink = std::function<bool(std::span<const ChangedRange> ranges)>;

inline constexpr std::size_t kCheckpointsMax = 64;  // Of a volume.
inline constexpr std::size_t kCheckpointNameBytesMax = 255;

struct CheckpointRequest {
  CheckpointId id;
  SnapshotId snapshot;  // At whose point in time.
  std::string name;     // One of its own on this volume.
};

/// A point in time from which changes are known, whatever becomes of the snapshot it was made at.
struct CheckpointRecord {
  CheckpointId id;
  SnapshotId snapshot;
  std::string name;
  std::int64_t creation_filetime = 0;  // Of the snapshot.
  std::uint64_t epoch = 0;             // Order of the points in time on this volume.
  // A change could not be noted, or what was noted is damaged: all of the volume counts as changed.
  bool everything = false;
};

struct Statistics {
  std::uint64_t chunk_bytes = 0;
  std::uint64_t diff_used_bytes = 0;       // Preserved data and index of snapshots that exist.
  std::uint64_t diff_allocated_bytes = 0;  // Size of the diff area.
  std::uint64_t diff_bytes_max = 0;        // 0: no bound.
  std::uint64_t diff_ready_bytes = 0;      // Allocated and free.
  std::uint64_t diff_punched_bytes = 0;    // Free, and given back to the host.
  std::uint64_t chunks_preserved = 0;      // Since open.
  std::uint64_t records = 0;               // Preserved chunks that exist now.
  std::uint64_t groups_written = 0;        // Since open: index groups, each of one or more chunks.
  std::uint64_t diff_flushes = 0;          // Since open: for persistent snapshots.
  bool reflink = false;                    // New copies share blocks with the origin.
  std::uint64_t chunks_shared = 0;         // Since open: of chunks_preserved.
  std::uint64_t shared_bytes = 0;          // At most, now; as much is kept ready for the origin.
  std::uint64_t checksum_failures = 0;     // Since open: reads of preserved data that gave EIO.
  std::uint64_t metadata_repairs = 0;      // By open: damaged or unfinished places written anew.
  // Since open: chunks written for the first time in an epoch that needed no copy, being exempt.
  std::uint64_t free_bytes_not_copied = 0;
  std::uint32_t snapshots = 0;  // Created ones.
  std::uint32_t snapshots_lost = 0;
  std::uint64_t snapshots_evicted = 0;  // Since open: because the diff area was full.
  bool writes_held = false;             // A loss could not be recorded; see docs.
  std::string state;                    // "ok", or what is wrong in a few words.
};

struct RevertStatus {
  bool under_way = false;
  SnapshotId snapshot;
  std::uint64_t bytes_total = 0;  // Since begin_revert() or the last open().
  std::uint64_t bytes_done = 0;
  bool stopped = false;  // It goes on at the next open(). Writes to what is not reverted give EIO.
  std::string trouble;   // Why it stopped.
};

/// Percents of the maximum at which it is told that the diff area fills up: 1 to 100, none below
/// the one before; equal ones count once.
using ThresholdPercents = std::array<std::uint8_t, Thresholds::kCount>;

/// What is kept about the diff area's maximum.
struct Association {
  std::uint64_t maximum_bytes = 0;  // That opening the volume again begins with; 0: no bound.
  bool is_explicit = false;         // Somebody decided.
};

/// One attached volume. Threads: every member may be called from any thread; control calls (all but
/// live() and statistics()) come one at a time except as noted.
/// Lifetime: origin and diff outlive the Volume; live() and devices of open_snapshot() may be kept
/// longer, they answer EIO after close().
class Volume {
 public:
  /// Opens and recovers. Blocks: reads the diff area's snapshot table and index, not its data.
  /// Metadata that exists twice and is damaged once is written anew. Auto-release snapshots
  /// of another boot, and prepared ones, are deleted; committed ones are listed, and the caller
  /// confirms or removes them. Errors: diff_area_foreign, diff_area_version, diff_area_corrupt,
  /// diff_area_wrong_origin (volume id or size), origin_changed (see accept_changed_origin),
  /// io_error. On failure nothing is changed that a
  /// later open() needs.
  [[nodiscard]] static Result<std::unique_ptr<Volume>> open(block::Device& origin,
                                                            block::ResizableDevice& diff,
                                                            const OpenOptions& options);
  ~Volume();  // As a crash would leave it, unless close() was called; waits for what is in flight.
  Volume(const Volume&) = delete;
  Volume& operator=(const Volume&) = delete;

  /// The live volume. The same object every time; valid as long as the Volume, EIO after close().
  [[nodiscard]] block::Device& live() noexcept;
  [[nodiscard]] VolumeId id() const noexcept;

  // --- making a snapshot: prepare, hold, commit, release, post_commit, confirm ----------------

  /// Reserves and writes the snapshot's place; the first one above each 512th snapshot (or more,
  /// with large chunks) also takes a segment of the diff area for more places. Blocks; durable. One
  /// snapshot at a time is between prepare() and commit(). Errors: bad_state (another one is);
  /// object_already_exists; maximum_number_of_snapshots_reached; insufficient_storage (no segment
  /// is free for records or places); io_error. On failure nothing is prepared.
  [[nodiscard]] Status prepare(const PrepareRequest& request);

  /// Shuts the gate: from now on writes to live() wait in a queue. Does not block. Counts: as many
  /// releases as holds are needed.
  void hold() noexcept;
  /// Waits until no write issued before hold() is in flight. False: not within `limit`.
  [[nodiscard]] bool drain(Duration limit) noexcept;
  /// Requires hold() and drain(): waits until no copy is on its way into the diff area either and
  /// it is not growing. From then to release() the volume writes to neither device, control calls
  /// apart, so that what they lie on may be frozen. False: not within `limit`.
  [[nodiscard]] bool quiesce(Duration limit) noexcept;
  /// The point in time. Requires hold() and drain(): then it does no I/O, takes microseconds, and
  /// cannot fail (unknown ids are our caller's bug). Several volumes are committed together by
  /// holding all, draining all, committing all, releasing all.
  void commit(const SnapshotId& snapshot, std::int64_t creation_filetime) noexcept;
  /// Opens the gate and issues what waited, which is tested again in the new epoch.
  void release() noexcept;

  /// Makes the commit and the member list durable; of a persistent one also what the origin holds
  /// of it (a flush of the origin). Blocks. Errors: bad_state, object_not_found,
  /// io_error, snapshot_lost.
  [[nodiscard]] Status post_commit(const SnapshotId& snapshot,
                                   const std::vector<SnapshotId>& members);
  /// What the file system had free at the point in time needs no copy: from now on the snapshot
  /// shows zeroes in every chunk that lies in `free` with all its bytes, less those that an older
  /// snapshot needs. Once, of the newest snapshot, between post_commit() and begin_recovery() or
  /// confirm(), before anybody reads it. Durable, also for snapshots that are not persistent: they
  /// survive the process. Ranges may overlap and come in any order. Blocks. VSS does the same by
  /// itself. Errors: bad_state; object_not_found; snapshot_lost; insufficient_storage,
  /// invalid_argument (too much to be kept), limit_reached: everything is copied as ever; io_error:
  /// whether it is exempt is for the next open() to find, so the caller removes the snapshot.
  [[nodiscard]] Status exempt_free(const SnapshotId& snapshot, std::span<const ChangedRange> free);
  // --- the recovery window, between post_commit and confirm (PreFinalCommit, PostFinalCommit) ---

  /// Opens the snapshot for writes that belong to it alone: neither the live volume nor any other
  /// snapshot sees them. Only the newest snapshot, and no other is prepared meanwhile. Durable: a
  /// crash before end_recovery() deletes the snapshot at the next open(). Blocks. Idempotent while
  /// the window is open. Errors: bad_state (not the newest, not committed, confirmed already);
  /// object_not_found; snapshot_lost; io_error.
  [[nodiscard]] Status begin_recovery(const SnapshotId& snapshot);
  /// The snapshot as a device that takes writes and zeroes until end_recovery(), EROFS afterwards.
  /// A write is atomic per chunk; it fails with ENOSPC where the diff area is full, and with EIO if
  /// it could not be kept, after which end_recovery() fails. A flush does nothing: end_recovery()
  /// makes durable. Errors: object_not_found; bad_state (no window is open).
  [[nodiscard]] Result<std::shared_ptr<block::Device>> open_for_recovery(
      const SnapshotId& snapshot);
  /// Closes the window for ever, after the writes that were submitted before; what was written is
  /// durable as far as the snapshot is. Blocks, at most a minute for the writes. Without a window
  /// it does nothing. Errors: autorecovery_failed (remove the snapshot); object_not_found;
  /// snapshot_lost; io_error (it may be called again).
  [[nodiscard]] Status end_recovery(const SnapshotId& snapshot);

  /// Marks it created, durably. Blocks. Idempotent. A lost one can be confirmed too (the rest of
  /// its set may be good): list() says which are. Errors: bad_state, object_not_found, io_error.
  [[nodiscard]] Status confirm(const SnapshotId& snapshot);

  /// Deletes a snapshot at whatever stage: abort, release and delete are the same here. Blocks;
  /// durable. Records that older snapshots need stay. Space that nobody needs becomes free in the
  /// background, in bounded steps, and what is more than the volume will soon need is given back to
  /// the host; a restart goes on with it. `cause` is for the audit.
  /// Open devices of it answer EIO. Errors: object_not_found; volume_in_use (open_snapshot()
  /// devices exist, and not `force`); access_denied (retention lock); io_error (still there).
  [[nodiscard]] Status remove(const SnapshotId& snapshot, bool force,
                              const RemovalCause& cause = {});

  /// What the next open() begins with; the maximum of now stays. Durable; as before on failure
  /// (io_error). Threads: any time.
  [[nodiscard]] Status keep_association(const Association& association);
  [[nodiscard]] Association kept_association() const;

  // --- using them ------------------------------------------------------------------------------

  /// The snapshot as a read-only device, for stages committed and created. Reads of a lost or
  /// removed one give EIO, never newer data. Errors: object_not_found; bad_state (prepared).
  [[nodiscard]] Result<std::shared_ptr<block::Device>> open_snapshot(const SnapshotId& snapshot);

  /// Tells `sink` where the chunks of a created snapshot are (home_watch.h), at first all that are
  /// not in the origin any more. Blocks for that: a look at the snapshot's records. Threads: any
  /// time. Errors: object_not_found; bad_state (not created; closed; it went away meanwhile);
  /// snapshot_lost.
  [[nodiscard]] Result<std::unique_ptr<HomeWatch>> watch_homes(const SnapshotId& snapshot,
                                                               std::shared_ptr<HomeSink> sink);
  /// Constant.
  [[nodiscard]] HomeLayout home_layout() const noexcept;

  /// Reads and verifies what snapshots need, what was written to them and all metadata, with one
  /// read in flight and at most so many bytes a second (0: no bound), beside everything else.
  /// Metadata is mended where one of its two places is damaged, and what the volume knows by itself
  /// also where both are; not while writes are held. Damaged data is reported, counted
  /// (statistics), told (EventKind::damage_found), and gives EIO to its readers. Blocks for as long
  /// as reading takes. Errors: bad_state (closed, or closed meanwhile). Threads: any time.
  [[nodiscard]] Result<CheckReport> scrub(const ScrubProgress& progress,
                                          std::uint64_t bytes_per_second = 0);

  // --- revert (RevertToSnapshot, QueryRevertStatus) --------------------------------------------

  /// Makes the live volume what the snapshot shows, and deletes all newer snapshots. Blocks for a
  /// moment in which writes are held. When it returns, reads and writes of live() see the reverted
  /// content, durably; the chunks themselves are copied in the background, over restarts too. The
  /// snapshot and older ones stay. Nothing is prepared meanwhile, and the snapshot cannot be
  /// removed. It cannot be undone. The caller has seen to it that nobody has the volume mounted.
  /// Errors: revert_in_progress; object_not_found; unsupported_context (not persistent); bad_state
  /// (not created, or another one is being made); snapshot_lost; volume_in_use (writes do not come
  /// to an end within 10 s); access_denied (a newer snapshot is under retention lock); io_error (it
  /// may start when the volume is opened again). `who`: for the audit, as RemovalCause::who.
  [[nodiscard]] Status begin_revert(const SnapshotId& snapshot, const std::string& who = {});
  /// Threads: any time.
  [[nodiscard]] RevertStatus revert_status() const;
  /// Ends a revert that has stopped; the volume stays the mix that it is. Blocks; durable. Errors:
  /// object_not_found (none is under way); bad_state (it goes on); io_error.
  [[nodiscard]] Status abandon_revert();
  // --- changes ---------------------------------------------------------------------------------

  /// Tells `sink` what changed from `from`, a checkpoint's or a snapshot's id, to the snapshot `to`
  /// or to now: every chunk whose content may differ, never one too few. To now: what was completed
  /// when it was called; of what is written meanwhile, some. Goes on beside writes; memory: one bit
  /// for a chunk at most. Too many are told: chunks that were written with what they held; from a
  /// checkpoint, after a crash, whole regions that were written since it was made or last saved,
  /// see docs/design/0005. Threads: any time; the sink is called without a lock. VSS:
  /// QuerySnapshotDeltaBitmap. Errors: object_not_found; bad_state (`to` or `from` has no point in
  /// time yet); snapshot_lost; invalid_argument (`to` is older). If an end is removed or lost
  /// meanwhile, object_not_found: then what was told is not complete.
  /// `begin_bytes`, `end_bytes`: only between them, for who asks for parts; rounded to whole
  /// chunks. What it costs depends on the part, and on how many chunks were written in recovery
  /// windows.
  [[nodiscard]] Status changed_blocks(const Guid& from, const std::optional<SnapshotId>& to,
                                      const ChangedSink& sink, std::uint64_t begin_bytes = 0,
                                      std::uint64_t end_bytes = ~std::uint64_t{0});
  /// Makes a checkpoint at the point in time of a created snapshot. Blocks: looks at all records
  /// since then; durable. It takes one slot of the snapshot table, and for much that changed a bit
  /// for a chunk. As long as there is a checkpoint, the first write to each region of the volume
  /// (1/24576 of it, or 16 chunks) waits for a flush of the diff area. Errors: invalid_argument
  /// (the name); object_not_found, snapshot_lost, bad_state (the snapshot); object_already_exists
  /// (id or name); limit_reached; insufficient_storage, io_error (nothing was made).
  [[nodiscard]] Status create_checkpoint(const CheckpointRequest& request);
  /// By point in time, oldest first. Threads: any time.
  [[nodiscard]] std::vector<CheckpointRecord> list_checkpoints() const;
  /// Blocks; durable. Errors: object_not_found; insufficient_storage, io_error (still there).
  [[nodiscard]] Status remove_checkpoint(const CheckpointId& id);

  /// By point in time, oldest first; a prepared one last. Threads: any time.
  [[nodiscard]] std::vector<SnapshotRecord> list() const;
  /// One of them, or how many there are: without looking at the others. Threads: any time.
  [[nodiscard]] std::optional<SnapshotRecord> find(const SnapshotId& snapshot) const;
  [[nodiscard]] std::size_t count() const;
  [[nodiscard]] Statistics statistics() const;

  /// Moves the diff area to `target` while the volume is in use; the two are told apart as
  /// migrate.h says. Blocks for as long as that takes, the other calls go on meanwhile; close()
  /// only after it has returned. On success the volume uses `target`, which outlives it from then
  /// on, and what was the diff area can go (see MigrateReport). On failure everything is as before,
  /// and `target` is no diff area. Errors: invalid_argument (read-only, larger sectors);
  /// access_denied (a snapshot is under retention lock);
  /// object_already_exists, diff_area_foreign (it holds something, and not `force`);
  /// insufficient_storage; bad_state (a move is under way; given up; the diff area's device has
  /// failed); limit_reached, flush_writes_timeout (the volume is written too fast); io_error.
  /// Threads: any; one at a time.
  [[nodiscard]] Result<MigrateReport> migrate(
      block::ResizableDevice& target, const MigrateOptions& options,
      const std::function<bool(const MigrateProgress&)>& on_progress);

  // --- space and policy: all durable on success, as before on failure; io_error ----------------

  /// ChangeDiffAreaMaximumSize. 0: no bound. A larger one works at once. A smaller one deletes the
  /// oldest snapshots until what is in use fits, cuts off the free end of the file, and gives free
  /// space back to the host; on io_error some are deleted already. Blocks. Errors:
  /// insufficient_storage (below diff_bytes_min()); access_denied (more than that is in use, and a
  /// snapshot is locked: nothing is changed); revert_in_progress (the one that is reverted to would
  /// have to go: the maximum is lower, and some are deleted). `who`: for the audit, as
  /// RemovalCause::who.
  [[nodiscard]] Result<MaximumChange> set_diff_maximum(std::uint64_t bytes,
                                                       const std::string& who = {});
  /// When it is told that the diff area fills up. Those that are the same are no change. Errors:
  /// invalid_argument.
  [[nodiscard]] Status set_thresholds(const ThresholdPercents& percents);
  /// GetVolumeProtectLevel. Threads: any time.
  [[nodiscard]] Protection protection() const;
  /// SetVolumeProtectLevel. The same level is no change. Errors: bad_state (lowered while faulted);
  /// access_denied (lowered while a snapshot is locked).
  [[nodiscard]] Status set_protection_level(ProtectionLevel level);
  /// ClearVolumeProtectFault: live I/O works again. The caller has seen to it that nobody has it
  /// mounted. Without a fault nothing happens. On io_error it stays faulted.
  [[nodiscard]] Status clear_protection_fault();
  /// Errors: invalid_argument.
  [[nodiscard]] Status set_retention(const RetentionPolicy& policy);
  /// Until then the snapshot cannot be deleted, lost or evicted, and the protection level not be
  /// lowered; a write that would cost it faults the volume. Can be made longer, never shorter.
  /// Errors: object_not_found; bad_state (prepared; no policy); snapshot_lost;
  /// unsupported_context (not persistent); invalid_argument (in the past, shorter than it is, or
  /// beyond the longest term).
  [[nodiscard]] Status retain(const SnapshotId& snapshot, std::int64_t until_filetime);
  /// Whether anything may be done that could cost a snapshot, of those newer than `newer_than` if
  /// that is given: what deletes, reverts, shrinks or takes the diff area away asks here. Threads:
  /// any time. Errors: access_denied (one is under retention lock: says which and until when);
  /// object_not_found.
  [[nodiscard]] Status check_retention(const std::optional<SnapshotId>& newer_than = {}) const;

  /// Waits for what is in flight, flushes both devices, marks the diff area clean. The caller has
  /// stopped submitting. Idempotent. Errors: io_error (it is as after a crash; nothing is lost that
  /// was acknowledged).
  [[nodiscard]] Status close();

 private:
  class Impl;
  friend struct VolumeInside;  // Tests of what has no call here.
  explicit Volume(std::shared_ptr<Impl> impl) noexcept;
  std::shared_ptr<Impl> impl_;  // Shared with live() and open snapshots' devices.
};

}  // namespace umbra::cow
