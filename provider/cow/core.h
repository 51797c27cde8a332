// SPDX-License-Identifier: Apache-2.0
//
// The inside of a Volume. Private to provider/cow. One class in several files, by what they do:
//   live_path.cc   the steady path of live writes, the gate, parking
//   preserve.cc    copies: claim, read, append, (flush,) publish; what happens when one fails
//   snapshot.cc    reading a snapshot
//   control.cc     prepare, commit, confirm, remove, close; the snapshot table
//   recovery*.cc   open
//   blobs.cc       named pieces of metadata, kept in the snapshot table
//   losses.cc      when a copy fails: who is lost, durably, before the write goes through
//   policy.cc      protection level and faults, retention locks
//   resize.cc      another maximum
//   space.cc       growing ahead, the oldest go when it is full, thresholds, events
//   reclaim.cc     the space of what went: looking at its records, giving it back to the host
//   overlay.cc     writes to a snapshot in its recovery window
//   revert.cc      the live volume becomes what a snapshot shows
//   own_group.cc   groups that the two write
//   sharing.cc     copies that share blocks with the origin, and the space that is promised for it
//   lazy_checksums.cc  their checksums, taken later
//   changes.cc     changed blocks, checkpoints of changes
//   exempt.cc      chunks that the file system had free
//
// A chunk of the newest live epoch is in one of three states:
//   none     no bit, no Copy: the next writer claims it
//   copying  a Copy is in copies_; writers wait in its queue
//   done     the bit is set: an origin write may be issued
// Only `done` is visible without the lock, as one bit; it is set after the record was published.
//
// What may happen at the same time, and why it is right:
//   - A live write is counted in in_flight_ before it looks at the gate and the bits, and until its
//     origin write has completed. commit() runs with the gate shut and all counters zero, so no
//     write that was tested in one epoch is issued in the next; what waited (parked, or behind a
//     copy) goes through the whole test again.
//   - A copy claimed in one epoch and finished in a later one is tagged with the epoch at the time
//     its group was formed. The origin did not change in between, so the record is right for every
//     snapshot up to that epoch.
//   - When the newest snapshot goes, the bits stay: they stand for records that its predecessor
//     resolves through as well. A bit that is missing (its record is older than the snapshot that
//     went) is found by asking the map before a copy is claimed. Nothing is ever cleared but by a
//     commit, which starts an epoch of its own.
//   - "Preserved since the newest persistent snapshot" is asked of the map too: the first record
//     since then was flushed before it was published.
//
// Locks: mutex_ guards all members that say so; it is never held over I/O or a callback. The map's
// locks are below it, but prune_step()'s, which is called without it. table_mutex_ serialises
// writers of the snapshot table and of the superblock, grow_mutex_ those who make the diff area
// larger, reclaim_mutex_ those who look for free space; they are taken in this order, before
// mutex_.
//
// What the number n of snapshots costs: finding one by its id, and everything that a snapshot's
// life does, takes O(log n) steps under the lock; commit() allocates nothing. Removing one looks at
// the records that were made between it and the next newer one, list() copies all. A write or a
// read looks at epochs only. In memory a snapshot takes less than 1 KiB, and 16 bytes for each
// member of its set.

#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <span>
#include <thread>
#include <vector>

#include "engine/platform/aligned.h"
#include "provider/cow/change_log.h"
#include "provider/cow/check.h"
#include "provider/cow/chunk_map.h"
#include "provider/cow/exempt.h"
#include "provider/cow/fingerprint.h"
#include "provider/cow/home_watch.h"
#include "provider/cow/index_scan.h"
#include "provider/cow/movable_device.h"
#include "provider/cow/overlay.h"
#include "provider/cow/parts.h"
#include "provider/cow/request_queue.h"
#include "provider/cow/segments.h"
#include "provider/cow/space.h"
#include "provider/cow/sync.h"
#include "provider/cow/volume.h"
#include "provider/format/diff_area.h"

namespace umbra::cow {

class Volume::Impl : public std::enable_shared_from_this<Volume::Impl> {
 public:
  Impl(block::Device& origin, block::ResizableDevice& diff, const OpenOptions& options,
       const format::Superblock& superblock);
  ~Impl();

  // recovery.cc
  [[nodiscard]] Status recover();

  // live_path.cc
  void submit_live(block::Request& first) noexcept;
  void hold() noexcept;
  [[nodiscard]] bool drain(Duration limit) noexcept;
  [[nodiscard]] bool quiesce(Duration limit) noexcept;
  void release() noexcept;

  // scrub.cc
  [[nodiscard]] Result<CheckReport> scrub(const ScrubProgress& progress,
                                          std::uint64_t bytes_per_second);
  void note_scrub(const CheckReport& report);

  // snapshot.cc
  [[nodiscard]] Result<std::shared_ptr<block::Device>> open_snapshot(const SnapshotId& id);
  [[nodiscard]] Result<std::shared_ptr<block::Device>> open_for_recovery(const SnapshotId& id);

  // home_watch.cc
  [[nodiscard]] Result<std::unique_ptr<HomeWatch>> watch_homes(const SnapshotId& id,
                                                               std::shared_ptr<HomeSink> sink);
  [[nodiscard]] HomeLayout home_layout() const noexcept;

  // overlay.cc
  [[nodiscard]] Status begin_recovery(const SnapshotId& id);
  [[nodiscard]] Status end_recovery(const SnapshotId& id);

  // revert.cc
  [[nodiscard]] Status begin_revert(const SnapshotId& id, const std::string& who);
  [[nodiscard]] Status abandon_revert();
  [[nodiscard]] RevertStatus revert_status() const;

  // control.cc
  [[nodiscard]] Status prepare(const PrepareRequest& request);
  void commit(const SnapshotId& id, std::int64_t creation_filetime) noexcept;
  [[nodiscard]] Status post_commit(const SnapshotId& id, const std::vector<SnapshotId>& members);
  [[nodiscard]] Status confirm(const SnapshotId& id);
  [[nodiscard]] Status remove(const SnapshotId& id, bool force, const RemovalCause& cause);
  [[nodiscard]] Status keep_association(const Association& association);  // association.cc
  [[nodiscard]] Association kept_association() const;
  [[nodiscard]] std::vector<SnapshotRecord> list() const;
  [[nodiscard]] std::optional<SnapshotRecord> find(const SnapshotId& id) const;
  [[nodiscard]] std::size_t count() const;
  [[nodiscard]] Statistics statistics() const;
  [[nodiscard]] Protection protection() const;
  [[nodiscard]] Status set_protection_level(ProtectionLevel level);
  [[nodiscard]] Status clear_protection_fault();
  [[nodiscard]] Status set_retention(const RetentionPolicy& policy);
  [[nodiscard]] Status retain(const SnapshotId& id, std::int64_t until_filetime);
  [[nodiscard]] Status check_retention(const std::optional<SnapshotId>& newer_than) noexcept;
  [[nodiscard]] Status set_thresholds(const ThresholdPercents& percents);
  [[nodiscard]] Result<MaximumChange> set_diff_maximum(std::uint64_t bytes, const std::string& who);
  [[nodiscard]] Status close();
  [[nodiscard]] Result<MigrateReport> migrate(
      block::ResizableDevice& target, const MigrateOptions& options,
      const std::function<bool(const MigrateProgress&)>& on_progress);
  /// Ends everything without making the diff area clean.
  void shut_down() noexcept;

  // changes.cc
  [[nodiscard]] Status changed_blocks(const Guid& from, const std::optional<SnapshotId>& to,
                                      const ChangedSink& sink, std::uint64_t begin_bytes,
                                      std::uint64_t end_bytes);
  [[nodiscard]] Status create_checkpoint(const CheckpointRequest& request);
  [[nodiscard]] std::vector<CheckpointRecord> list_checkpoints() const;
  [[nodiscard]] Status remove_checkpoint(const CheckpointId& id);

  // exempt.cc
  [[nodiscard]] Status exempt_free(const SnapshotId& id, std::span<const ChangedRange> free);

  [[nodiscard]] block::Device& live() noexcept { return live_; }
  [[nodiscard]] VolumeId id() const noexcept { return superblock_.volume_id; }

 private:
  class LiveDevice final : public block::Device {
   public:
    explicit LiveDevice(Impl& impl) noexcept : impl_(impl) {}
    [[nodiscard]] block::Geometry geometry() const noexcept override;
    void submit(block::Request& first) noexcept override { impl_.submit_live(first); }
    [[nodiscard]] std::size_t extents(std::uint64_t offset_bytes, std::uint64_t size_bytes,
                                      std::span<block::Extent> out) const noexcept override;

   private:
    Impl& impl_;
  };
  class SnapshotDevice;
  class Watch;  // home_watch.cc
  class OwnExecutor;
  class Blobs;      // blobs.h
  class ScrubPass;  // scrub_pass.h
  class Mover;      // migrate.cc
  friend class SnapshotDevice;

  using Bits = std::vector<sync::Atomic<std::uint64_t>>;
  struct alignas(64) Shard {
    sync::Atomic<std::int64_t> issued = 0;
  };

  /// A group on its way: up to kBatchChunksMax copies with consecutive slots.
  struct Batch {
    Impl* impl = nullptr;
    Segments::Place place;
    std::array<Copy*, kBatchChunksMax> copies{};
    std::array<std::uint64_t, kBatchChunksMax> chunks{};
    std::array<std::uint32_t, kBatchChunksMax> flags{};  // Of its entries.
    std::vector<std::uint32_t> checksums;
    std::uint64_t epoch = 0;
    std::uint64_t sequence = 0;
    std::uint64_t completed_sequence = 0;
    std::uint64_t durable_sequence = 0;
    std::uint64_t durable_after_flush = 0;
    std::uint64_t removals = 0;  // When the first of its copies was claimed.
    bool durable = false;
    bool sharing = false;  // Its chunks are shared with the origin, not copied.
    bool placed = false;   // All of its chunks have slots.
    AlignedBuffer data;
    AlignedBuffer index;
    AlignedBuffer end;
    std::array<block::Request, kBatchChunksMax> reads;
    block::Request write_data;
    std::array<block::Request, 2> write_index;
    std::array<block::Request, 2> write_end;
    block::Request flush;
    void (Impl::*after_flush)(Batch&) noexcept = nullptr;
    sync::Atomic<std::uint32_t> outstanding = 0;
    sync::Atomic<int> error = 0;
    sync::Atomic<int> end_error = 0;
    Batch* next = nullptr;
  };

  // --- live_path.cc --------------------------------------------------------------------------

  enum class Verdict : std::uint8_t {
    forward,         // Counted; submit it to the origin.
    waits_for_copy,  // start_claimed() has to follow.
    handled,         // Completed or parked.
  };
  [[nodiscard]] Verdict admit_write(block::Request& request) noexcept;
  [[nodiscard]] bool all_done(const Bits& bits, const block::Request& request) const noexcept;
  /// A discard of what is not preserved is acknowledged and not applied.
  [[nodiscard]] bool keeps_discards() const noexcept;
  [[nodiscard]] bool park_if_shut(block::Request& request) noexcept;
  void leave(std::uint64_t shard) noexcept;
  void admit_flush(block::Request& request) noexcept;
  static void write_completed(block::Request& request) noexcept;
  static void flush_completed(block::Request& request) noexcept;
  [[nodiscard]] bool nothing_issued() const noexcept;
  [[nodiscard]] std::uint64_t chunk_of(std::uint64_t offset_bytes) const noexcept {
    return offset_bytes / layout_.chunk_bytes;
  }
  void fail_chain(block::Request* chain, int error) noexcept;

  // --- preserve.cc ---------------------------------------------------------------------------

  /// True: it waits for a copy now, perhaps one that is only claimed. False: nothing to wait for
  /// any more, test again.
  [[nodiscard]] bool wait_for_copies(block::Request& request) noexcept;
  [[nodiscard]] bool is_done(std::uint64_t chunk) const noexcept;      // mutex_
  [[nodiscard]] bool needs_copy(std::uint64_t chunk) const noexcept;   // mutex_
  void set_done(std::uint64_t chunk) noexcept;                         // mutex_
  [[nodiscard]] Copy* find_copy(std::uint64_t chunk) noexcept;         // mutex_
  [[nodiscard]] Copy* claim(std::uint64_t chunk) noexcept;             // mutex_
  void forget_copy(Copy& copy) noexcept;                               // mutex_
  [[nodiscard]] Batch* form_batches() noexcept;                        // mutex_; a list to start
  [[nodiscard]] bool form_batch(Batch& batch) noexcept;                // mutex_
  [[nodiscard]] bool needs_flush(std::uint64_t chunk) const noexcept;  // mutex_
  void start_claimed() noexcept;
  void start(Batch* list) noexcept;
  void start_reads(Batch& batch) noexcept;
  void reads_done(Batch& batch) noexcept;
  /// Submits the group, and its data with it if that was not shared.
  void write_batch(Batch& batch, std::uint32_t stored) noexcept;
  void writes_done(Batch& batch) noexcept;
  void prepare_end(Batch& batch, const format::GroupHeader& next) noexcept;
  /// Flushes the diff area, then `next`; a failure fails the batch.
  void flush_then(Batch& batch, void (Impl::*next)(Batch&) noexcept) noexcept;
  void publish(Batch& batch) noexcept;
  void retire(Batch& batch) noexcept;                    // mutex_
  void note_completed(std::uint64_t sequence) noexcept;  // mutex_
  void resume(RequestQueue& waiters) noexcept;
  void post(void (Impl::*job)()) noexcept;
  void end_busy() noexcept;

  // --- sharing.cc ----------------------------------------------------------------------------

  /// At open, before the segments are complete.
  void find_shared();  // table_mutex_
  /// True: the chunks of the group will be shared, and have their slots.
  [[nodiscard]] bool begin_sharing(Batch& batch) noexcept;  // mutex_
  void start_shares(Batch& batch) noexcept;
  void shares_done(Batch& batch) noexcept;
  void write_shared(Batch& batch) noexcept;
  void stop_sharing(int error) noexcept;
  /// Gives back what is shared in a free segment. False: there is none, or it cannot be done (now).
  bool unshare_one(bool in_hold);
  /// Blocks. 0 or errno.
  [[nodiscard]] int punch(std::uint32_t segment) noexcept;
  /// True: it is being looked at how much is still shared.
  [[nodiscard]] bool post_look() noexcept;  // mutex_
  void look_at_shared();
  void look_at_all_shared();
  void look_at_shared(std::uint32_t segment);
  /// How much is shared as of now, and none of it in what is free.
  void settle_shared();
  /// A live write met ENOSPC. True: it waits until there is space.
  [[nodiscard]] bool waits_for_relief(block::Request& request) noexcept;
  void relieve_origin();
  enum class Relief : std::uint8_t { given, none, later };
  [[nodiscard]] bool give_back_promised();
  [[nodiscard]] Relief give_up_oldest();

  // --- lazy_checksums.cc ---------------------------------------------------------------------

  void post_checksums() noexcept;  // mutex_
  void take_some_checksums();
  [[nodiscard]] std::optional<std::uint32_t> next_unchecked() noexcept;  // mutex_
  /// Of the records of a segment that have none. False: not now, or an I/O error.
  bool take_checksums(std::uint32_t segment);
  /// Of one group, from its data. False: it has none to be taken.
  [[nodiscard]] bool add_checksums(format::Group& group, std::vector<std::uint32_t>& taken);
  [[nodiscard]] bool is_record(const format::Group& group, std::uint32_t record,
                               std::uint32_t slot) const;

  // --- losses.cc -----------------------------------------------------------------------------

  void fail_batch(Batch& batch, Fault fault) noexcept;
  void post_losses() noexcept;  // mutex_
  void settle_losses();
  void hold_writes(CopyQueue& failed, const Error& why);
  /// The loss is durable: whoever waited goes on.
  void let_through(CopyQueue& failed, const std::vector<std::shared_ptr<Snapshot>>& victims,
                   Fault cause);
  /// The snapshots that would need the copies.
  [[nodiscard]] std::vector<std::shared_ptr<Snapshot>> victims_of(
      const CopyQueue& failed) const;  // mutex_

  // --- space.cc ------------------------------------------------------------------------------

  /// Segments were taken into use or became free: thresholds, and growth ahead of the writes.
  void note_space() noexcept;                                // mutex_
  void note_thresholds() noexcept;                           // mutex_
  [[nodiscard]] std::uint64_t used_bytes() const noexcept {  // mutex_; of the area's size
    return format::kSegmentsOffset + segments_.used_count() * layout_.segment_bytes;
  }
  void out_of_space() noexcept;  // mutex_
  /// True: it is growing, or will.
  bool post_grow() noexcept;  // mutex_
  void grow();
  /// False: neither a look at what went nor growth gave anything.
  bool make_room();
  /// Makes more room: allocates what is free but bare, then makes the diff area larger. False: it
  /// could not; says why in the log.
  bool extend();
  void note_growth(const Growth& growth, const Status& grown, bool by_host);  // grow_mutex_
  /// Allocates bare segments until `wanted_bytes` are ready. False: less than `least_bytes` are.
  bool allocate_bare(std::uint64_t least_bytes, std::uint64_t wanted_bytes);  // grow_mutex_
  [[nodiscard]] std::uint64_t ready_bytes() const noexcept {                  // mutex_
    return segments_.free_count() * layout_.segment_bytes;
  }
  [[nodiscard]] std::uint64_t grow_step_bytes() const noexcept;
  [[nodiscard]] std::uint64_t space_limit() const noexcept;  // mutex_; 0: none is known
  /// The snapshot that goes first when it is full. Null: none may.
  [[nodiscard]] std::shared_ptr<Snapshot> evictable() noexcept;  // mutex_
  void evict();
  /// Notes an event for the sink.
  void tell(Event event) noexcept;  // mutex_
  void tell_of(EventKind kind, const Snapshot& snapshot, const RemovalCause& cause,
               std::string text, Fault fault = Fault::none) noexcept;  // mutex_
  void post_events() noexcept;                                         // mutex_
  void deliver_events();
  void flush_events() noexcept;
  void post_tick() noexcept;  // mutex_
  void tick();
  /// I/O to the diff area failed: it is looked at with every tick until it answers.
  void suspect_diff() noexcept;  // mutex_
  void look_after();

  // --- policy.cc, resize.cc ------------------------------------------------------------------

  /// Changes and writes the settings; as before if that fails.
  [[nodiscard]] Status change_settings(
      const std::function<void(format::Settings&)>& change);  // table_mutex_
  /// Takes over what the superblock says. By open().
  void adopt_settings();  // table_mutex_
  /// Rather the volume fails than that these are lost.
  [[nodiscard]] bool must_protect(
      const std::vector<std::shared_ptr<Snapshot>>& victims) noexcept;  // mutex_
  void raise_fault(Fault fault);
  void save_fault();
  [[nodiscard]] std::int64_t trusted_now() noexcept;                          // mutex_
  [[nodiscard]] bool is_retained(const format::SnapshotSlot& slot) noexcept;  // mutex_
  /// Of the epochs between the two, the second included. Errors: access_denied. mutex_
  [[nodiscard]] Status refuse_if_retained(
      std::uint64_t above_epoch = 0,
      std::uint64_t up_to_epoch = std::numeric_limits<std::uint64_t>::max()) noexcept;
  [[nodiscard]] Status check_maximum(std::uint64_t bytes);
  /// The next to go, as long as more than `bytes` are in use. Null: it fits, or none is left.
  [[nodiscard]] std::shared_ptr<Snapshot> too_much_for(std::uint64_t bytes) const;
  void shrink_to_fit();
  [[nodiscard]] bool over_maximum() const noexcept;              // mutex_
  [[nodiscard]] bool allocated_below_maximum() const noexcept {  // mutex_
    const std::uint64_t maximum = diff_maximum_.load();
    return maximum == 0 ||
           segments_.count() - segments_.bare_count() < layout_.segments_in(maximum);
  }

  // --- reclaim.cc ----------------------------------------------------------------------------

  /// Records that only the snapshot of this epoch needed may be dropped, in the background.
  void note_unpruned(std::uint64_t epoch) noexcept;  // mutex_
  void post_reclaim() noexcept;                      // mutex_
  void reclaim();
  /// Looks at some records. False: there is nothing left to look at.
  bool prune_some();
  /// All that prune_some() would do. For who waits for space.
  void prune_all();
  /// Gives a free segment back to the host. False: none, or not now.
  bool punch_one();

  /// `unserved`: writes to it, to be failed.
  [[nodiscard]] Status remove(const SnapshotId& id, bool force, const RemovalCause& cause,
                              RequestQueue& unserved);
  /// Of what is in memory. `unserved` as above.
  void take_out(const std::shared_ptr<Snapshot>& snapshot, const RemovalCause& cause,
                RequestQueue& unserved) noexcept;

  // --- own_group.cc --------------------------------------------------------------------------

  struct OwnGroup {
    format::GroupKind kind{};
    std::uint64_t epoch = 0;
    bool durable = false;
    std::span<const std::uint64_t> chunks;
    std::byte* data = nullptr;  // A chunk each, moved about; null: there is none.
  };
  /// Finds the chunks of `data` that are all zeroes, takes the others' checksums and moves these to
  /// the front. Returns how many they are. The size of `flags` is the number of chunks.
  void sum_chunk(std::span<const std::byte> chunk, std::span<std::uint32_t> sums) const noexcept;
  [[nodiscard]] std::uint32_t pack(std::byte* data, std::span<std::uint32_t> flags,
                                   std::span<std::uint32_t> checksums) const noexcept;
  /// Where the records of a group are, once it is on the disk; keeps their checksums.
  void homes_of(const Segments::Place& place, std::span<const std::uint32_t> flags,
                std::span<const std::uint32_t> checksums, std::span<Home> homes) noexcept;
  /// The group that says that a use of a segment is over, before the first of the next one. Its
  /// number was taken with that one's.
  [[nodiscard]] static format::GroupHeader end_header(const Segments::Ended& ended,
                                                      const format::GroupHeader& next) noexcept;
  /// It was written, or could not be.
  void end_said(const Segments::Ended& ended, std::uint64_t next_sequence,
                bool written) noexcept;  // mutex_
  [[nodiscard]] Status write_end(const Segments::Ended& ended, const format::GroupHeader& next);
  /// Writes the first of the chunks, as many as fit, and returns how many. They count as live in
  /// their segment. Blocks; not durable. Errors: insufficient_storage (nothing was written);
  /// io_error (it may come back at the next open).
  [[nodiscard]] Result<std::uint32_t> write_own_group(const OwnGroup& group, std::span<Home> homes);
  /// Sets what says where the group is and which one.
  [[nodiscard]] Result<Segments::Place> reserve_own(std::uint32_t count,
                                                    format::GroupHeader& header);
  [[nodiscard]] Status write_diff(std::byte* buffer, std::uint64_t offset_bytes,
                                  std::uint64_t size_bytes, const char* what);

  // --- overlay.cc ----------------------------------------------------------------------------

  void submit_overlay(block::Request& request, const std::shared_ptr<Snapshot>& snapshot) noexcept;
  void post_overlay() noexcept;  // mutex_
  void serve_posted_overlay();
  void serve_overlay();
  /// 0 or errno; ENOSPC changes nothing that was not written before it.
  [[nodiscard]] int write_to_overlay(const block::Request& request,
                                     const std::shared_ptr<Snapshot>& snapshot);
  [[nodiscard]] Result<std::uint64_t> append_to_overlay(Snapshot& snapshot, std::uint64_t first,
                                                        std::uint64_t count, std::byte* data);
  /// It was removed. `unserved`: to be failed.
  void drop_overlay(Snapshot& snapshot, RequestQueue& unserved) noexcept;  // mutex_

  // --- revert.cc -----------------------------------------------------------------------------

  struct Revert;  // revert.h
  struct SplitRead;
  enum class Waits : std::uint8_t { no, yes, done, failed };
  /// False: no part of it comes from the snapshot.
  [[nodiscard]] bool read_through_revert(block::Request& request) noexcept;
  void drive(SplitRead& read) noexcept;
  [[nodiscard]] bool absorb(SplitRead& read) noexcept;
  void finish_read(SplitRead& read, int error) noexcept;
  [[nodiscard]] Waits waits_for_revert(block::Request& request) noexcept;
  [[nodiscard]] Status check_revert(const SnapshotId& id) const;  // mutex_
  [[nodiscard]] Status start_revert(const SnapshotId& id, const std::string& who);
  void install_revert(const std::shared_ptr<Snapshot>& target,
                      const std::vector<std::uint64_t>& marked);  // table_mutex_
  void resume_revert();                                           // table_mutex_
  void remove_newer(const std::string& who);
  [[nodiscard]] Status end_revert();
  void post_revert() noexcept;  // mutex_
  void revert_step();
  void revert_some(Revert& revert);
  void choose_chunks(Revert& revert);
  void revert_write_ended(Revert& revert) noexcept;
  void settle_reverted(Revert& revert);
  [[nodiscard]] Status mark_reverted(Revert& revert);
  [[nodiscard]] Status commit_cursor(Revert& revert);
  void resume_waiters(Revert& revert) noexcept;
  void stop_revert(const std::string& trouble) noexcept;

  // --- home_watch.cc -------------------------------------------------------------------------

  /// Of chunks that are preserved now, before their origin writes are let go.
  void tell_watches(std::span<const std::uint64_t> chunks) noexcept;  // mutex_
  /// Null: of all snapshots.
  void end_watches(const Snapshot* snapshot = nullptr) noexcept;  // mutex_

  // --- snapshot.cc ---------------------------------------------------------------------------

  /// Nothing: it is what the origin holds.
  [[nodiscard]] std::optional<Home> locate(const Snapshot& snapshot, std::uint64_t chunk) const;
  /// What it shows, even if it is lost: only chunks that have records are read.
  [[nodiscard]] std::shared_ptr<block::Device> source_of(const std::shared_ptr<Snapshot>& snapshot);
  /// Blocks. 0 or errno.
  [[nodiscard]] int read_snapshot(const std::shared_ptr<Snapshot>& snapshot,
                                  std::uint64_t offset_bytes, std::span<std::byte> out);

  // --- control.cc ----------------------------------------------------------------------------

  [[nodiscard]] std::shared_ptr<Snapshot> find_snapshot(const SnapshotId& id) const;  // mutex_
  /// False: it was not live.
  bool stop_living(const Snapshot& snapshot) noexcept;  // mutex_
  /// The newest live epoch below `epoch`; 0: none.
  [[nodiscard]] std::uint64_t live_below(std::uint64_t epoch) const noexcept;  // mutex_
  /// The oldest live epoch above `epoch`; the next epoch if there is none.
  [[nodiscard]] std::uint64_t live_above(std::uint64_t epoch) const noexcept;  // mutex_
  void make_copy_buffers();                                                    // no live snapshot
  [[nodiscard]] Status write_slot_copy(const format::SnapshotSlot& slot,
                                       std::uint32_t copy);  // table_mutex_
  /// Durable on success. On failure either state may be found after a crash.
  [[nodiscard]] Status write_slots(std::span<format::SnapshotSlot> slots);  // table_mutex_
  [[nodiscard]] Status write_slot(format::SnapshotSlot slot);               // table_mutex_
  [[nodiscard]] Status flush_diff();
  [[nodiscard]] Status flush_origin();
  /// In both places, one after the other: one of them may be damaged later.
  [[nodiscard]] Status write_superblock(bool clean);  // table_mutex_
  [[nodiscard]] format::SnapshotSlot slot_of(const Snapshot& snapshot) const;
  [[nodiscard]] Status mark_lost(const std::vector<std::shared_ptr<Snapshot>>& victims);
  /// Errors: object_not_found; bad_state (prepared only).
  [[nodiscard]] Result<std::shared_ptr<Snapshot>> committed(const SnapshotId& id) const;
  /// What prepare() refuses before it writes anything.
  [[nodiscard]] Status check_new(const PrepareRequest& request);  // mutex_
  /// More slots for the snapshot table. Errors: insufficient_storage, io_error.
  [[nodiscard]] Status grow_table();  // table_mutex_
  /// A segment that will hold no records, never the last free one. `what`: for the error,
  /// insufficient_storage.
  [[nodiscard]] Result<std::uint32_t> take_segment_aside(const std::string& what);  // table_mutex_
  [[nodiscard]] Status clear_table_segment(std::uint32_t segment);                  // table_mutex_
  /// Slots that the superblock's table segments make.
  [[nodiscard]] std::uint32_t table_slots() const noexcept;  // table_mutex_

  // --- changes.cc ------------------------------------------------------------------------------

  struct Comparison;
  [[nodiscard]] Result<std::shared_ptr<Snapshot>> end_of_comparison(
      const SnapshotId& id) const;  // mutex_
  [[nodiscard]] Result<Comparison> compare(const Guid& from, const std::optional<SnapshotId>& to,
                                           std::uint64_t begin_chunk,
                                           std::uint64_t end_chunk) const;
  [[nodiscard]] Status add_logged_changes(const Guid& from, Comparison& comparison);
  /// False: the sink did not want all of it.
  bool report(const Comparison& comparison, const ChangedSink& sink) const;
  [[nodiscard]] Status check_checkpoint(const CheckpointRequest& request,
                                        const Snapshot& snapshot) const;  // mutex_
  [[nodiscard]] std::vector<std::uint64_t> points_in_time() const;        // mutex_; epochs
  void enter_records(std::uint64_t since);
  [[nodiscard]] Status save_changes();           // table_mutex_
  [[nodiscard]] Status write_note();             // table_mutex_
  void want_note(std::uint64_t chunk) noexcept;  // mutex_
  void write_notes();
  [[nodiscard]] Status give_up_noting(const Error& cause);
  /// Whether writes have to be tested depends on snapshots and checkpoints.
  void use_bits() noexcept;             // mutex_
  [[nodiscard]] Status load_changes();  // table_mutex_; open()

  // --- exempt.cc -------------------------------------------------------------------------------

  [[nodiscard]] Result<std::shared_ptr<Snapshot>> to_be_exempted(
      const SnapshotId& id) const;                                        // mutex_
  void leave_out_needed(ChunkSet& free, const Snapshot& snapshot) const;  // table_mutex_
  [[nodiscard]] bool is_exempt(std::uint64_t chunk) const noexcept;       // mutex_
  void forget_exemption(const Snapshot& snapshot);                        // table_mutex_
  /// At open, before records are judged. `unknown`: of whom it cannot be read. Errors: io_error.
  [[nodiscard]] Status load_exemptions(std::vector<Guid>& unknown);  // table_mutex_
  void drop_orphaned_exemptions();                                   // table_mutex_

  // --- origin_watch.cc -----------------------------------------------------------------------

  /// The origin's start, filled up with zeroes; empty if it cannot be read.
  [[nodiscard]] std::span<const std::byte> read_origin_head(std::uint64_t size_bytes,
                                                            AlignedBuffer& buffer);
  void watch_mounts(const Fingerprint& known);
  void read_samples(Fingerprint& into, const std::bitset<kSamplesMax>& wanted);
  /// No live write went to the chunk since a snapshot of this epoch, which is live.
  [[nodiscard]] bool unwritten_since(std::uint64_t chunk, std::uint64_t epoch) const;
  [[nodiscard]] std::uint64_t guarded_epoch(std::uint64_t limit) const noexcept;
  /// Into superblock_, not to the disk. `clean`: nobody writes any more.
  void take_fingerprint(bool clean);  // table_mutex_
  /// True: the write waits until what it says of mounting is noted, or for the gate.
  [[nodiscard]] bool waits_for_mount(block::Request& request) noexcept;
  void note_mount();
  /// What differs, for people; empty: nothing.
  [[nodiscard]] std::string what_changed(const Fingerprint& known);
  /// At open. Errors: origin_changed, io_error.
  [[nodiscard]] Status check_origin();                       // table_mutex_
  [[nodiscard]] Status lose_all(const std::string& change);  // table_mutex_

  // --- recovery.cc ---------------------------------------------------------------------------

  struct Scan;
  [[nodiscard]] Status read_table(Scan& scan);
  [[nodiscard]] Status read_slot(std::uint32_t index, std::span<const std::byte> both, Scan& scan);
  [[nodiscard]] Status scan_segments(Scan& scan);
  static void note_numbers(std::size_t first, Scan& scan);
  [[nodiscard]] AreaView area_view() noexcept;
  /// Reads the group's data into `chunk`, one after the other.
  [[nodiscard]] Result<bool> data_matches(const format::Group& group, std::span<std::byte> chunk);
  /// Whether the origin still has what a record was to preserve.
  [[nodiscard]] bool origin_has(std::uint64_t chunk, std::uint32_t flags,
                                std::span<const std::uint32_t> checksums,
                                std::span<std::byte> buffer);
  [[nodiscard]] bool is_needed(const Scan& scan, const format::GroupHeader& header,
                               const std::vector<std::uint64_t>& chunks) const;
  /// Of a group whose data does not match.
  [[nodiscard]] bool was_published(const Scan& scan, const format::Group& group,
                                   std::span<std::byte> buffer);
  /// It is not finished, or of an earlier life of the machine.
  [[nodiscard]] bool ends_at_open(const format::SnapshotSlot& slot) const noexcept;
  [[nodiscard]] Status verify_tail(Scan& scan);
  [[nodiscard]] Status write_group(const format::Group& group, int least = 2);
  [[nodiscard]] bool use_is_needed(const Scan& scan, std::uint32_t segment) const;
  void judge_gaps(Scan& scan);
  /// Of damage to the index that open() cannot mend: who is lost by it.
  void note_index_damage(Scan& scan, std::uint64_t up_to_epoch, std::uint64_t offset_bytes,
                         const std::string& what);
  [[nodiscard]] Status void_gaps(Scan& scan);
  [[nodiscard]] Status judge_stages(Scan& scan);
  [[nodiscard]] Status settle_damage(const Scan& scan);  // table_mutex_
  [[nodiscard]] Status settle_stages(Scan& scan);        // table_mutex_
  void tell_of_stages(const Scan& scan) noexcept;
  void load(const Scan& scan);
  void load_groups(const Scan& scan, std::vector<std::uint32_t>& live);
  /// False: another record counts.
  [[nodiscard]] bool load_record(const format::GroupHeader& header, std::uint64_t chunk, Home home,
                                 std::vector<std::uint32_t>& live);
  void load_snapshots();
  void load_history();

  friend class Volume;
  friend struct VolumeInside;

  block::Device& origin_;
  MovableDevice movable_;         // Over the diff area's device of today.
  block::ResizableDevice& diff_;  // It.
  const block::Geometry origin_geometry_;
  const std::uint32_t diff_alignment_;
  const OpenOptions options_;
  HostSpace* host_space_;  // Of the diff area's device. Guarded by grow_mutex_.
  const Clock& clock_;
  format::Superblock superblock_;  // table_mutex_
  const format::Layout layout_;
  const std::uint64_t area_;
  sync::Atomic<std::uint64_t> diff_maximum_ = 0;  // superblock_'s, for those without table_mutex_.
  const std::uint64_t chunk_count_;
  const std::uint32_t batch_chunks_;
  const Logger log_;
  LiveDevice live_;
  std::unique_ptr<OwnExecutor> own_executor_;
  Executor* executor_ = nullptr;

  // The steady path: nothing else is touched by a write to a preserved chunk.
  sync::Atomic<Bits*> bits_ = nullptr;  // Null: no live snapshot, nothing to preserve.
  sync::Atomic<bool> gate_shut_ = false;
  sync::Atomic<bool> closed_ = false;
  sync::Atomic<bool> faulted_ = false;  // Live I/O fails, to protect the copies.
  sync::Atomic<bool> origin_flush_failed_ = false;
  sync::Atomic<bool> diff_flush_failed_ = false;
  sync::Atomic<bool> reverting_ = false;  // Then reads and writes look at revert_.
  std::array<Shard, kShards> in_flight_;

  mutable sync::Mutex mutex_;
  sync::ConditionVariable drained_;
  sync::ConditionVariable idle_;
  std::uint32_t holds_ = 0;   // mutex_
  bool quiet_ = false;        // mutex_; drained since the gate was shut: no write is issued
  RequestQueue parked_;       // mutex_
  RequestQueue starved_;      // mutex_; waits for any copy to end
  Bits current_bits_;         // mutex_ for the swap; the bits are atomic
  Bits spare_bits_;           // mutex_
  bool spare_clear_ = false;  // mutex_
  std::uint64_t epoch_ = 0;   // mutex_; of the newest point in time ever
  // Epochs of committed snapshots that are not lost: all, and the persistent ones.
  std::set<std::uint64_t> living_;             // mutex_
  std::set<std::uint64_t> living_persistent_;  // mutex_
  // The prepared snapshot's, ready to go there without an allocation.
  std::set<std::uint64_t> prepared_living_;                       // mutex_
  std::set<std::uint64_t> prepared_persistent_;                   // mutex_
  std::map<std::uint64_t, std::shared_ptr<Snapshot>> snapshots_;  // mutex_; by epoch
  std::map<SnapshotId, std::shared_ptr<Snapshot>> by_id_;         // mutex_
  std::shared_ptr<Snapshot> prepared_;                            // mutex_
  std::uint32_t created_count_ = 0;                               // mutex_
  std::uint32_t lost_count_ = 0;                                  // mutex_
  std::uint64_t removals_ = 0;   // mutex_; how often snapshots stopped living
  std::vector<Watch*> watches_;  // mutex_
  ChunkMap map_;
  Segments segments_;  // mutex_
  // What open() found written to snapshots, by epoch, then chunk. Counted as live in the segments.
  std::map<std::uint64_t, std::map<std::uint64_t, Home>> overlays_;  // mutex_

  // overlay.cc
  std::shared_ptr<Snapshot> recovering_;  // mutex_; its window is open, or was closed just now
  bool window_open_ = false;              // mutex_; writes are accepted
  bool window_failed_ = false;            // mutex_; what was written is not what will be found
  bool overlay_posted_ = false;           // mutex_
  bool overlay_serving_ = false;          // mutex_
  RequestQueue overlay_queue_;            // mutex_
  sync::Mutex own_group_mutex_;           // Below table_mutex_, above grow_mutex_.

  // revert.cc
  std::shared_ptr<Revert> revert_;  // mutex_ for the pointer
  /// Of a lost snapshot that is reverted to: its records stay. 0: none.
  std::uint64_t pinned_epoch_ = 0;                            // mutex_
  std::vector<std::pair<std::uint64_t, Home>> loaded_marks_;  // Between load() and resume.
  ChangeLog changes_;                                         // mutex_
  RequestQueue unnoted_;     // mutex_; waits until its changes are noted
  bool noting_ = false;      // mutex_; a note is being written, or posted
  bool notes_held_ = false;  // mutex_; the last note could not be written

  // sharing.cc, lazy_checksums.cc
  sync::Atomic<bool> sharing_ = false;  // New copies share blocks, where there is room for it.
  sync::Atomic<bool> was_shared_ =
      false;                       // Since open: then a live write's ENOSPC may be our doing.
  bool unsharing_failed_ = false;  // mutex_; until the next open
  bool looking_ = false;           // mutex_; a job is posted or runs
  bool looked_ = false;            // mutex_; since a group was formed
  bool relieving_ = false;         // mutex_; a job is posted or runs
  RequestQueue unrelieved_;        // mutex_; live writes that met ENOSPC
  bool summing_ = false;           // mutex_; a job or its timer is on its way
  int sums_delayed_ = 0;           // mutex_; how often in a row
  std::uint64_t sums_cursor_ = 0;  // mutex_

  std::vector<Copy> copies_;         // The pool itself.
  std::vector<Copy*> copy_buckets_;  // mutex_
  CopyQueue free_copies_;            // mutex_
  CopyQueue claimed_;                // mutex_
  CopyQueue failing_;                // mutex_; could not be preserved, loss not durable yet
  std::array<Batch, kBatchesMax> batches_;
  Batch* free_batches_ = nullptr;      // mutex_
  std::size_t busy_ = 0;               // mutex_; batches in flight and jobs running
  bool growing_ = false;               // mutex_
  bool migrating_ = false;             // mutex_
  bool settling_ = false;              // mutex_
  bool writes_held_ = false;           // mutex_
  Fault failing_fault_ = Fault::none;  // mutex_; why the first of failing_ is there
  std::string trouble_;                // mutex_; first thing that went wrong, for people
  std::string scrub_trouble_;          // mutex_; what open(), then the last scrub found

  std::uint64_t next_sequence_ = 1;             // mutex_
  std::uint64_t completed_sequence_ = 0;        // mutex_
  std::uint64_t durable_sequence_ = 0;          // mutex_
  std::vector<std::uint64_t> completed_ahead_;  // mutex_; sorted, at most kNumbersInFlightMax
  bool uses_unknown_ = false;    // mutex_; what the index of free segments shows, until open()
  bool sequence_stuck_ = false;  // mutex_; a group failed: no later one is vouched for

  std::array<std::byte, kMountBytes> mount_start_{};  // mutex_; as our writes have left it
  MountIdentity mount_now_{};                         // mutex_; of mount_start_
  MountIdentity mount_before_{};                      // mutex_
  MountIdentity mount_wanted_{};                      // mutex_; of a write that waits
  RequestQueue mount_waiters_;                        // mutex_
  bool mount_guarded_ = false;  // mutex_; changes are noted before they happen
  bool noting_mount_ = false;   // mutex_

  sync::Mutex table_mutex_;
  AlignedBuffer table_buffer_;  // table_mutex_
  struct TableSlot {
    std::uint64_t sequence = 0;
    std::uint32_t copy = 0;  // Written first next time: the other one is durable.
  };
  std::vector<TableSlot> table_;                 // table_mutex_; all slots that are durably there
  std::vector<std::uint32_t> free_slots_;        // table_mutex_; the lowest last
  std::unique_ptr<Blobs> blobs_;                 // table_mutex_; the pointer is constant
  std::atomic<std::uint64_t> kept_maximum_ = 0;  // superblock_'s.
  std::atomic<bool> explicit_association_ = false;  // superblock_'s.
  sync::Mutex grow_mutex_;
  sync::Mutex reclaim_mutex_;
  std::optional<PruneWork> prune_work_;        // reclaim_mutex_
  SpaceState space_;                           // mutex_
  sync::Atomic<bool> protects_ = false;        // Protection level "snapshot".
  Fault fault_ = Fault::none;                  // mutex_
  std::int64_t fault_filetime_ = 0;            // mutex_
  bool fault_unsaved_ = false;                 // mutex_; not durable yet
  std::int64_t highest_filetime_ = 0;          // mutex_; ever seen
  std::uint64_t retention_reserve_bytes_ = 0;  // mutex_
  std::uint64_t epoch_last_ = 0;               // mutex_; highest ever given out

  sync::Atomic<std::uint64_t> reads_ = 0;  // Of snapshots.
  std::atomic<std::uint64_t> chunks_preserved_ = 0;
  std::atomic<std::uint64_t> groups_written_ = 0;
  std::atomic<std::uint64_t> chunks_shared_ = 0;
  std::atomic<std::uint64_t> diff_flushes_ = 0;
  std::atomic<std::uint64_t> checksum_failures_ = 0;
  std::atomic<std::uint64_t> metadata_repairs_ = 0;
  std::atomic<std::uint64_t> snapshots_evicted_ = 0;
  std::atomic<std::uint64_t> free_chunks_written_ = 0;
};

}  // namespace umbra::cow
