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
// for each epoch the chunks that it has records of, so that removing a snapshot costs what was
// preserved for it and not a look at everything.
//
// Memory: 16 bytes for a record, 5 for its place in the list of its epoch, and what the vectors
// keep in reserve.
//
// Threads: any. A page is guarded by one of 64 locks, the lists by one more; these are leaves (no
// other lock is taken while one is held). prune() calls come one after the other.

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

#include "provider/cow/sync.h"

namespace umbra::cow {

/// What a record says of its chunk, and where: `segment` is the one whose index holds the record,
/// whatever its kind, and is needed as long as the record is. The segment's generation tells a
/// reused one from the one meant.
struct Home {
  enum class Kind : std::uint8_t {
    data,     // In `slot` of the segment's data.
    zeroes,   // The chunk was all zeroes; no slot.
    nothing,  // The chunk changed and nobody needed the old content; no slot, reads as zeroes.
  };
  std::uint32_t segment = 0;
  std::uint16_t slot = 0;  // Kind data only.
  Kind kind = Kind::data;
  bool unchecked = false;  // Its checksums were not taken yet; kind data only.

  [[nodiscard]] static constexpr Home data(std::uint32_t segment, std::uint32_t slot) noexcept {
    return {segment, static_cast<std::uint16_t>(slot), Kind::data, false};
  }
  friend bool operator==(const Home&, const Home&) = default;
};
static_assert(sizeof(Home) == 8);  // There is one for every preserved chunk, in memory.

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
  /// of an epoch <= first (0: none), and no snapshot lives in (first, end). Costs the records of
  /// these epochs. Calls `dropped` with a page's lock held.
  void prune(std::uint64_t first, std::uint64_t end, std::uint64_t newest,
             const std::function<void(Home)>& dropped);

  /// Where prune_step() goes on.
  struct PruneCursor {
    std::uint64_t epoch = 0;  // At first that of the range.
    std::size_t part = 0;
  };
  /// A step of prune() over [at.epoch, end) that looks at a few thousand records at most.
  /// False: nothing is left. Between two steps the map is complete.
  bool prune_step(PruneCursor& at, std::uint64_t end, std::uint64_t newest,
                  const std::function<void(Home)>& dropped);

  /// Calls `visit(chunk)` for every chunk with a record of an epoch >= `epoch`.
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
  static constexpr std::size_t kLeafEntries = 256;
  static constexpr std::size_t kPartChunks = 4096;

  struct Entry {
    std::uint64_t key = 0;  // chunk in page << 56 | epoch
    Home home;
  };
  using Leaf = std::vector<Entry>;
  using Page = std::vector<Leaf>;  // Ascending; no leaf is empty.
  struct Place {                   // The end: leaf == page.size().
    std::size_t leaf = 0;
    std::size_t at = 0;
  };
  using ChunkNumber = std::array<std::uint8_t, 5>;
  // In parts, so that growing a long list moves little.
  using ChunkList = std::vector<std::vector<ChunkNumber>>;

  [[nodiscard]] sync::Mutex& lock_of(std::uint64_t page) const noexcept {
    return locks_[page % kLocks];
  }
  /// The first entry whose key is not below `key`.
  [[nodiscard]] static Place lower_bound(const Page& page, std::uint64_t key) noexcept;
  [[nodiscard]] static const Entry* before(const Page& page, Place place) noexcept;
  static void insert_at(Page& page, Place place, Entry entry);
  static void erase_at(Page& page, Place place);
  /// False: it is still needed.
  bool drop_if_unneeded(std::uint64_t chunk, std::uint64_t epoch, std::uint64_t newest,
                        const std::function<void(Home)>& dropped);
  void note(std::uint64_t chunk, ChunkList& list);
  /// The next part, moving the cursor to it. False: there is none.
  bool take_part(PruneCursor& at, std::uint64_t end, std::vector<ChunkNumber>& part);
  /// Puts back what is left of it and moves the cursor on.
  void put_part(PruneCursor& at, const std::vector<ChunkNumber>& kept);

  mutable std::array<sync::Mutex, kLocks> locks_;
  std::vector<Page> pages_;
  std::atomic<std::uint64_t> records_ = 0;
  sync::Mutex prune_mutex_;  // Above the others.
  mutable sync::Mutex lists_mutex_;
  std::map<std::uint64_t, ChunkList> lists_;  // lists_mutex_; by epoch
};

}  // namespace umbra::cow
