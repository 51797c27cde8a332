// SPDX-License-Identifier: Apache-2.0
//
// Where preserved chunks are: (chunk, epoch) -> home, in memory, rebuilt at open.
//
// A snapshot of epoch s resolves a chunk to the record with the smallest epoch >= s; no record
// means the origin. A chunk's record of an epoch is written once: the first one wins, since a later
// one could only hold newer data.
//
// Pages of 256 chunks, each a list of short sorted leaves: looking up and inserting cost a binary
// search and the moving of one leaf, however many snapshots a chunk has records for. Beside them,
// for each epoch the pages that have records of it, so that removing a snapshot costs a look at
// what was preserved for it and its neighbours, not at everything.
//
// Memory: 6 bytes for a record where a page has those of one epoch, 7 and a share of 8 for each
// epoch where it has several (chunk_leaf.h), and what leaves have in reserve; 24 for a page without
// records, 80 more for one with some; 4 for each page in the list of an epoch.
//
// Threads: any. A page is guarded by one of 64 locks, the lists by one more; no other lock is taken
// while one of these is held, but one of a list within that of a page. prune() calls come one after
// the other.

#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "provider/cow/chunk_leaf.h"
#include "provider/cow/home.h"
#include "provider/cow/sync.h"

namespace umbra::cow {

class ChunkMap {
 public:
  explicit ChunkMap(std::uint64_t chunk_count);

  /// False: there is a record of this chunk and epoch already, which stays.
  bool insert(std::uint64_t chunk, std::uint64_t epoch, Home home);

  struct Found {
    std::uint64_t epoch = 0;
    Home home;
  };
  /// The record with the smallest epoch >= `epoch`.
  [[nodiscard]] std::optional<Found> find(std::uint64_t chunk, std::uint64_t epoch) const;
  /// The checksums of that record were taken. Nothing happens if it is not there any more.
  void set_checked(std::uint64_t chunk, std::uint64_t epoch, Home home);
  /// The highest epoch that has a record of this chunk; 0 if none has.
  [[nodiscard]] std::uint64_t newest_epoch(std::uint64_t chunk) const;

  /// Drops the records with epochs in [first, end) that no snapshot resolves to, telling `dropped`
  /// where they were. `newest` is the epoch of the newest snapshot that could: the newest live one
  /// of an epoch <= first (0: none), and no snapshot lives in (first, end). Costs a look at the
  /// pages that have records of these epochs. Calls `dropped` with a page's lock held.
  void prune(std::uint64_t first, std::uint64_t end, std::uint64_t newest,
             const std::function<void(Home)>& dropped);

  /// Where prune_step() goes on.
  struct PruneCursor {
    std::uint64_t epoch = 0;  // At first that of the range.
    std::size_t part = 0;
  };
  /// A step of prune() over [at.epoch, end) that looks at a few dozen pages at most.
  /// False: nothing is left. Between two steps the map is complete.
  bool prune_step(PruneCursor& at, std::uint64_t end, std::uint64_t newest,
                  const std::function<void(Home)>& dropped);

  /// Calls `visit(chunk)` once for every chunk with a record of an epoch >= `epoch`. No lock is
  /// held.
  void for_each_since(std::uint64_t epoch, const std::function<void(std::uint64_t)>& visit) const;

  /// A look at all records goes page by page: each costs its lock once, and nothing is held
  /// between.
  static constexpr std::uint64_t kPageChunks = 256;
  using PageMask = std::array<std::uint64_t, kPageChunks / 64>;
  [[nodiscard]] std::uint64_t page_count() const noexcept { return pages_.size(); }
  /// Which chunks of a page have a record with an epoch in [first, end). A record of a living
  /// snapshot's time is there whenever one looks: one that is dropped leaves an older one in place.
  [[nodiscard]] PageMask changed(std::uint64_t page, std::uint64_t first, std::uint64_t end) const;
  /// Calls `visit(chunk, epoch)` for the page's records of epochs >= `first`, with its lock held.
  void for_each_record(std::uint64_t page, std::uint64_t first,
                       const std::function<void(std::uint64_t, std::uint64_t)>& visit) const;

  [[nodiscard]] std::uint64_t record_count() const noexcept {
    return records_.load(std::memory_order_relaxed);
  }

 private:
  static constexpr std::size_t kLocks = 64;
  static constexpr std::size_t kPartPages = 32;

  using Page = std::vector<ChunkLeaf>;  // Ascending; no leaf is empty.
  struct Place {                        // The end: leaf == page.size().
    std::size_t leaf = 0;
    std::size_t at = 0;
  };
  using PageNumber = std::uint32_t;
  // In parts, so that growing a long list moves little, and a step has an end. A page may be listed
  // more than once.
  using PageList = std::vector<std::vector<PageNumber>>;

  [[nodiscard]] sync::Mutex& lock_of(std::uint64_t page) const noexcept {
    return locks_[page % kLocks];
  }
  /// The first record that is not below.
  [[nodiscard]] static Place lower_bound(const Page& page, std::uint8_t chunk,
                                         std::uint64_t epoch) noexcept;
  /// The record before it, if that is one of the same chunk: its epoch. 0: there is none.
  [[nodiscard]] static std::uint64_t epoch_before(const Page& page, Place place,
                                                  std::uint8_t chunk) noexcept;
  /// True: the first record of its epoch in its leaf.
  static bool insert_at(Page& page, Place place, const ChunkLeaf::Record& record);
  static void split(Page& page, std::size_t leaf);
  static void join_small_leaves(Page& page);
  /// Drops the page's records of `epoch` that nobody needs. False: none is left.
  bool prune_page(std::uint64_t index, std::uint64_t epoch, std::uint64_t newest,
                  const std::function<void(Home)>& dropped);
  void note(std::uint64_t page, std::uint64_t epoch);
  /// The next part, moving the cursor to it. False: there is none.
  bool take_part(PruneCursor& at, std::uint64_t end, std::vector<PageNumber>& part);
  /// Puts back what is left of it and moves the cursor on.
  void put_part(PruneCursor& at, const std::vector<PageNumber>& kept);

  mutable std::array<sync::Mutex, kLocks> locks_;
  std::vector<Page> pages_;
  std::atomic<std::uint64_t> records_ = 0;
  sync::Mutex prune_mutex_;  // Above the others.
  mutable sync::Mutex lists_mutex_;
  std::map<std::uint64_t, PageList> lists_;  // lists_mutex_; by epoch
};

}  // namespace umbra::cow
