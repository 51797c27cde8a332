// SPDX-License-Identifier: Apache-2.0
//
// The space of a diff area: segments, filled one after the other with groups of records, and free
// again when no record in them is needed by anybody.
//
// A segment's groups are never rewritten, but for checksums that are added. Each use of a segment
// has a generation, higher than any before it in this area, so that recovery tells its groups from
// what an earlier use left behind. The checksums of the records' data are kept here, in memory that
// stays where it is: readers look at it without a lock.
//
// A free segment is ready (its space on the host is allocated, so that writing to it cannot fail
// for want of space) or bare (given back to the host, or nobody knows): records go to ready ones
// only.
//
// Data of a segment may share its space with the origin (sharing.cc). Then writing the origin takes
// space anew, as much as is shared; so much of what is ready is promised to it, and counts as in
// use. A segment that became free with something shared in it is neither ready nor bare until that
// was given back: its space is not its own.
//
// Threads: the owner's mutex guards everything but checksums() and generation().

#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "provider/cow/home.h"
#include "provider/cow/sync.h"
#include "provider/format/diff_area.h"

namespace umbra::cow {

class Segments {
 public:
  explicit Segments(const format::Layout& layout) noexcept : layout_(layout) {}

  /// Where a use of a segment is over: the unit behind its last group.
  struct Ended {
    std::uint32_t segment = 0;
    std::uint32_t unit = 0;
    std::uint64_t generation = 0;
  };

  /// Room for records: index units of one segment, and as many consecutive slots of it as turn out
  /// to be needed.
  struct Place {
    std::uint32_t segment = 0;
    std::uint32_t first_slot = 0;  // Of the records with data; set by place_data().
    std::uint32_t count = 0;
    std::uint32_t unit = 0;
    std::uint32_t units = 0;
    std::uint64_t generation = 0;
    /// Whoever gets this place says first that that use is over (a group of kind "end", with a
    /// sequence just below that of the group that goes here), and then drop()s that segment once.
    std::optional<Ended> ended;
  };

  /// Extends to `count` segments; new ones are free.
  void grow_to(std::uint64_t count);
  /// The generation that the next segment taken into use gets, at least.
  void start_generations(std::uint64_t first) noexcept { next_generation_ = first; }

  /// Reserves places for 1 to `count_max` records, which count as live from now on. Nothing: there
  /// is no free segment.
  [[nodiscard]] std::optional<Place> reserve(std::uint32_t count_max);
  /// Gives `place` its slots, once it is known how many of its records have data: the others' room
  /// is free for later groups. At most once for each place.
  void place_data(Place& place, std::uint32_t data_count) noexcept;

  /// The segment takes no more, if it is the one that is being filled.
  void close(std::uint32_t segment);

  /// Recovery: the segment is in use and takes no more. Afterwards finish_restore() says how many
  /// live records each segment has; those with none are free, and bare: they may have been punched.
  void restore(std::uint32_t segment, std::uint64_t generation);
  void finish_restore(const std::vector<std::uint32_t>& live);
  // --- what the index of each segment shows, needed or not ---
  /// Recovery: its newest use has this generation.
  void restore_shown(std::uint32_t segment, std::uint64_t generation) noexcept {
    at(segment).shown = generation;
  }
  /// Its index is not one any more.
  void forget_shown(std::uint32_t segment) noexcept { at(segment).shown = 0; }
  /// The device ends there now.
  void forget_shown_from(std::uint64_t segment) noexcept;
  /// True only where every group was written that had a place.
  [[nodiscard]] format::Uses shown() const noexcept;

  /// A record is needed by nobody. True: its segment became free.
  bool drop(std::uint32_t segment);
  /// Keeps a segment with live records from becoming free until one more drop(). False: it has
  /// none.
  [[nodiscard]] bool pin(std::uint32_t segment) noexcept;

  /// Takes a ready segment that has held records (or `any`) out, so that its data can be given back
  /// to the host. Nothing: there is none. Afterwards it is put_bare() or put_ready().
  [[nodiscard]] std::optional<std::uint32_t> take_to_punch(bool any);
  /// Takes a bare segment out, so that its space can be allocated: the lowest. Nothing: there is
  /// none. Afterwards it is put_ready() or put_bare().
  [[nodiscard]] std::optional<std::uint32_t> take_bare();
  void put_bare(std::uint32_t segment);
  void put_ready(std::uint32_t segment);

  // --- shared with the origin ---
  /// There would still be enough ready if so many more chunks were shared.
  [[nodiscard]] bool may_share(std::uint32_t count) const noexcept;
  /// The chunks of `place` may be shared from now on; end_share() when it is done, well or not.
  void begin_share(const Place& place) noexcept;
  void end_share(std::uint32_t segment) noexcept;
  /// Recovery, before finish_restore(): so much of a segment is shared, in use or not.
  void restore_shared(std::uint32_t segment, std::uint64_t bytes);
  /// At most so much is shared now.
  [[nodiscard]] std::uint64_t shared_bytes() const noexcept { return shared_bytes_; }
  /// A look at how much of a segment is shared. Nothing: it needs none, or not now.
  struct Look {
    std::uint32_t segment = 0;
    std::uint32_t begun = 0;
  };
  [[nodiscard]] std::optional<Look> begin_look(std::uint32_t segment) const noexcept;
  /// What it has shown, unless something was shared there meanwhile.
  void end_look(Look look, std::uint64_t bytes) noexcept;
  /// Takes a segment out that is free but for what is shared in it. Nothing: there is none.
  /// Afterwards it is put_bare(), with nothing shared in it, or put_shared().
  [[nodiscard]] std::optional<std::uint32_t> take_freed_shared();
  void put_shared(std::uint32_t segment);
  /// The segment whose use is over but not said to be, if none of its records is needed and
  /// something is shared in it: pinned, so that its data can be punched; end_punch() afterwards.
  [[nodiscard]] std::optional<std::uint32_t> take_ended_shared() noexcept;
  void end_punch(std::uint32_t segment, bool punched);
  /// There is one of the two.
  [[nodiscard]] bool has_dead_shared() const noexcept {
    if (!freed_shared_.empty()) return true;
    return ended_ && at(ended_->segment).live == 1 && at(ended_->segment).shared_bytes > 0;
  }
  /// The segment that takes records is free if it has none.
  void close_if_unused();
  /// The data is on another device now.
  void forget_shared() noexcept;

  /// It holds records whose checksums were not taken yet.
  void note_unchecked(std::uint32_t segment) noexcept { at(segment).unchecked = true; }
  void forget_unchecked(std::uint32_t segment) noexcept { at(segment).unchecked = false; }
  [[nodiscard]] bool is_unchecked(std::uint32_t segment) const noexcept {
    return at(segment).unchecked;
  }

  /// Forgets free segments at the end, as long as there are more than `least`. How many there are
  /// now. They may come back by grow_to().
  std::uint64_t cut_free_end(std::uint64_t least);

  /// Takes a free segment out of use for records: it becomes a part of the snapshot table, for
  /// good, or holds blobs. Nothing: there is no free segment.
  [[nodiscard]] std::optional<std::uint32_t> take_aside();
  /// Undoes it, when nothing durable speaks of the segment.
  void give_back(std::uint32_t segment);
  /// Recovery, before finish_restore(): it is a part of the snapshot table or holds blobs.
  void restore_aside(std::uint32_t segment);
  [[nodiscard]] bool is_aside(std::uint32_t segment) const noexcept { return at(segment).aside; }

  [[nodiscard]] std::uint64_t count() const noexcept { return count_; }
  /// It holds records that somebody needs, or will, or is no segment for records.
  [[nodiscard]] bool in_use(std::uint32_t segment) const noexcept;
  /// It holds records and takes no more.
  [[nodiscard]] bool is_closed(std::uint32_t segment) const noexcept;
  /// Ready ones that are not promised.
  [[nodiscard]] std::uint64_t free_count() const noexcept {
    const std::uint64_t promised = promised_count();
    return free_.size() > promised ? free_.size() - promised : 0;
  }
  [[nodiscard]] std::uint64_t bare_count() const noexcept { return bare_.size(); }
  [[nodiscard]] std::uint64_t used_count() const noexcept {
    return count_ - free_count() - bare_.size() - freed_shared_.size() - taken_out_;
  }

  /// Of one record, checksums_per_chunk of them. Threads: any, for a home from the map.
  [[nodiscard]] std::atomic<std::uint32_t>* checksums(Home home) const noexcept;
  /// Changes when the segment is taken into use again. Threads: any, for a home from the map.
  [[nodiscard]] std::uint64_t generation(std::uint32_t segment) const noexcept;

 private:
  static constexpr std::uint64_t kBlockSegments = 1024;
  static constexpr std::uint64_t kBlocksMax = 16384;

  struct Segment {
    sync::Atomic<std::uint64_t> generation = 0;
    std::uint64_t shown = 0;  // Generation of the newest use that its index shows; 0: none.
    std::uint32_t live = 0;
    std::uint32_t slots_reserved = 0;  // Never less than those that are placed.
    std::uint32_t slots_placed = 0;
    std::uint32_t units_used = 0;
    bool open = false;
    bool punchable = false;  // Has held records since its space was allocated.
    bool aside = false;      // Holds snapshot slots or blobs, no records.
    bool punched = false;    // Its space is not its own any more.
    bool unchecked = false;  // Some of its checksums were not taken yet.
    std::uint32_t shares_begun = 0;
    std::uint32_t shares_in_flight = 0;
    std::uint64_t shared_bytes = 0;  // At most.
    // Made at first use and kept: a late reader of a deleted snapshot may still look.
    std::unique_ptr<std::atomic<std::uint32_t>[]> checksums;
  };
  [[nodiscard]] Segment& at(std::uint64_t segment) const noexcept;
  void take_into_use(Segment& segment, std::uint64_t generation);
  void close_open();
  void put_free(std::uint32_t segment);
  void set_shared(Segment& segment, std::uint64_t bytes) noexcept;
  [[nodiscard]] std::uint64_t data_bytes() const noexcept {
    return std::uint64_t{layout_.slots} * layout_.chunk_bytes;
  }
  /// Ready segments that the origin may still take the space of.
  [[nodiscard]] std::uint64_t promised_count() const noexcept {
    return (shared_bytes_ + data_bytes() - 1) / data_bytes();
  }

  format::Layout layout_;
  // A fixed directory: growing moves nothing that a reader could be looking at.
  std::array<std::atomic<Segment*>, kBlocksMax> directory_{};
  std::vector<std::unique_ptr<Segment[]>> blocks_;
  std::uint64_t count_ = 0;
  std::uint64_t next_generation_ = 1;
  std::optional<std::uint32_t> open_;
  std::optional<Ended> ended_;       // Not said yet. It counts as one live record.
  std::vector<std::uint32_t> free_;  // Ready; last in, first out.
  std::set<std::uint32_t> bare_;
  std::vector<std::uint32_t> freed_shared_;
  std::uint64_t shared_bytes_ = 0;
  std::uint64_t taken_out_ = 0;  // Neither in use nor in one of the three.
};

/// More segments than this are not used: the directory's size.
inline constexpr std::uint64_t kSegmentsMax = std::uint64_t{1024} * 16384;
static_assert(kSegmentsMax <= std::uint64_t{1} << PackedHome::kSegmentBits);

}  // namespace umbra::cow
