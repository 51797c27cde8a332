// SPDX-License-Identifier: Apache-2.0
//
// What changed since named points in time, whatever becomes of the snapshots of these points. No
// I/O; its owner makes it durable. docs/design/0005-change-checkpoints.md has the reasons.
//
// While there is a checkpoint, the first write of each epoch to a chunk is entered here, in the
// interval that began with the newest commit. An interval begins at a checkpoint and at every
// snapshot that exists; when neither is left, it becomes a part of the one before. What changed
// between a checkpoint and a later point is the union of the intervals between them.
//
// A crash must not forget a change whose write may have reached the disk. So before the first write
// to a region (a few thousandths of a percent of the volume) goes through, "something in it has
// changed" is made durable. The chunks themselves are made durable now and then (save); what is
// noted since then is all that a crash makes coarser. Guarantee: whatever is durable at any time, a
// log that is loaded from it names every chunk whose write could have been issued.
//
// Threads: none of its own; the owner's mutex guards all of it.

#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "provider/cow/chunk_set.h"
#include "umbra/ids.h"

namespace umbra::cow {

/// So many regions or fewer: a bitmap of them fits into one slot of the snapshot table.
inline constexpr std::uint64_t kRegionsMax = 24'576;
inline constexpr std::uint64_t kRegionChunksMin = 16;

class ChangeLog {
 public:
  struct Checkpoint {
    Guid id;
    SnapshotId snapshot;  // At whose point in time it is; may be gone.
    std::string name;
    std::int64_t filetime = 0;  // Of that point in time.
    std::uint64_t epoch = 0;    // And where that lies among the volume's.
    bool everything = false;    // What changed could not be noted once: all counts as changed.
  };

  explicit ChangeLog(std::uint64_t chunk_count);

  /// False: there is no checkpoint; nothing has to be entered.
  [[nodiscard]] bool tracking() const noexcept { return !checkpoints_.empty(); }
  /// By point in time, then by id.
  [[nodiscard]] const std::vector<Checkpoint>& checkpoints() const noexcept { return checkpoints_; }
  [[nodiscard]] const Checkpoint* find(const Guid& id) const noexcept;

  // --- writes ----------------------------------------------------------------------------------

  /// A write to the chunk may be issued from now on. Requires noted(chunk) or no tracking.
  void touch(std::uint64_t chunk);
  /// True: a write to it since the newest commit is known, or need not be.
  [[nodiscard]] bool entered(std::uint64_t chunk) const noexcept {
    return !tracking() || log_.rbegin()->second.chunks.contains(chunk);
  }
  /// True: that something changes there is durable, or need not be.
  [[nodiscard]] bool noted(std::uint64_t chunk) const noexcept;
  /// Asks for it to be noted.
  void want(std::uint64_t chunk);
  [[nodiscard]] bool wanting() const noexcept { return !wanted_.empty(); }
  /// What has to be made durable so that all that was asked for so far is noted.
  struct Note {
    ChunkSet wanted;               // Regions.
    std::vector<std::byte> bytes;  // With those noted before.
  };
  [[nodiscard]] Note make_note() const;
  void note_is_durable(const Note& note);
  /// It can not be made durable: every checkpoint says that everything has changed. Nothing has to
  /// be noted any more. The caller has made that durable by other means.
  void give_up();
  /// Every checkpoint says that everything has changed.
  void everything_changed();

  // --- points in time --------------------------------------------------------------------------

  /// The next commit will begin an interval; commit() itself allocates nothing.
  void prepare(std::uint64_t epoch);
  void commit() noexcept;
  void abort() noexcept { prepared_.clear(); }
  /// The snapshot of this epoch is gone.
  void forget_snapshot(std::uint64_t epoch);

  // --- checkpoints -----------------------------------------------------------------------------

  /// From now on everything is entered for it too. `snapshots` are the epochs of all snapshots with
  /// a point in time; the caller adds what changed before, by enter().
  void add(Checkpoint checkpoint, std::span<const std::uint64_t> snapshots);
  /// Changed in the epoch or soon after.
  void enter(std::uint64_t chunk, std::uint64_t epoch);
  void enter(const ChunkSet& chunks, std::uint64_t epoch);
  void remove(const Guid& id);
  /// What the checkpoint before gets when this one goes; null: there is none.
  [[nodiscard]] const Checkpoint* heir_of(const Guid& id) const noexcept;

  /// Begins of intervals in [first, end).
  [[nodiscard]] std::vector<std::uint64_t> intervals(std::uint64_t first, std::uint64_t end) const;
  /// Of an interval that exists.
  [[nodiscard]] const ChunkSet& changed(std::uint64_t interval) const {
    return log_.at(interval).chunks;
  }

  // --- durable forms ---------------------------------------------------------------------------

  /// The intervals from this checkpoint to the next, as if `without` were removed (nil: none).
  /// Unknown ids are the caller's bug.
  [[nodiscard]] std::vector<std::byte> encode(const Guid& id, const Guid& without = {}) const;
  /// From now on what is written is noted anew: all before is about to be made durable. Until it
  /// is, the durable note stays as it is; if it cannot be, give_back_notes().
  [[nodiscard]] ChunkSet take_notes();
  void give_back_notes(const ChunkSet& notes);
  /// All of it is: what a later note names changed since the newest checkpoint.
  void notes_are_obsolete() noexcept { noted_since_ = checkpoints_.back().epoch; }
  /// True: something was entered since take_notes(), which a crash would make coarser.
  [[nodiscard]] bool unsaved() const noexcept { return unsaved_; }

  struct Loaded {
    Guid id;
    std::span<const std::byte> bytes;  // Of encode(); what cannot be read counts as everything.
  };
  /// Into an empty log. `note` is the last durable note (empty: none), `snapshots` the epochs of
  /// those that exist.
  void load(std::span<const Loaded> checkpoints, std::span<const std::byte> note,
            std::span<const std::uint64_t> snapshots);

 private:
  struct Interval {
    ChunkSet chunks;
    bool at_snapshot = false;  // Begins where a snapshot that exists has its point in time.
  };
  using Intervals = std::map<std::uint64_t, Interval>;  // By the epoch in which they begin.

  [[nodiscard]] std::uint64_t region_of(std::uint64_t chunk) const noexcept {
    return chunk / region_chunks_;
  }
  [[nodiscard]] bool has_checkpoint(std::uint64_t epoch) const noexcept;
  void fold(Intervals::iterator interval);
  void drop_before_first();
  void insert(Checkpoint checkpoint);
  void decode(const Loaded& loaded);
  void apply_note(std::span<const std::byte> note);

  const std::uint64_t chunk_count_;
  std::uint64_t region_chunks_ = kRegionChunksMin;
  std::vector<Checkpoint> checkpoints_;  // By epoch, then id.
  Intervals log_;                        // None begins before the first checkpoint.
  Intervals prepared_;
  ChunkSet noted_;                 // Regions, durably.
  std::uint64_t noted_since_ = 0;  // Epoch: no change that needs a note is older.
  ChunkSet wanted_;                // Regions.
  bool gave_up_ = false;
  bool unsaved_ = false;
};

}  // namespace umbra::cow
