// SPDX-License-Identifier: Apache-2.0
//
// The space of a diff area: segments, filled one after the other with groups of records, and free
// again when no record in them is needed by anybody.
//
// A segment's groups are never rewritten. Each use of a segment has a generation, higher than any
// before it in this area, so that recovery tells its groups from what an earlier use left behind.
// The checksums of the records' data are kept here, in memory that stays where it is: readers look
// at it without a lock.
//
// A free segment is ready (its space on the host is allocated, so that writing to it cannot fail
// for want of space) or bare (given back to the host, or nobody knows): records go to ready ones
// only.
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

#include "provider/cow/chunk_map.h"
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
  /// Ready ones.
  [[nodiscard]] std::uint64_t free_count() const noexcept { return free_.size(); }
  [[nodiscard]] std::uint64_t bare_count() const noexcept { return bare_.size(); }
  [[nodiscard]] std::uint64_t used_count() const noexcept {
    return count_ - free_.size() - bare_.size() - taken_out_;
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
    std::uint32_t live = 0;
    std::uint32_t slots_reserved = 0;  // Never less than those that are placed.
    std::uint32_t slots_placed = 0;
    std::uint32_t units_used = 0;
    bool open = false;
    bool punchable = false;  // Has held records since its space was allocated.
    bool aside = false;      // Holds snapshot slots or blobs, no records.
    // Made at first use and kept: a late reader of a deleted snapshot may still look.
    std::unique_ptr<std::atomic<std::uint32_t>[]> checksums;
  };
  [[nodiscard]] Segment& at(std::uint64_t segment) const noexcept;
  void take_into_use(Segment& segment, std::uint64_t generation);
  void close_open();

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
  std::uint64_t taken_out_ = 0;  // Neither in use nor in one of the two.
};

/// More segments than this are not used: the directory's size.
inline constexpr std::uint64_t kSegmentsMax = std::uint64_t{1024} * 16384;

}  // namespace umbra::cow
