// SPDX-License-Identifier: Apache-2.0
//
// Where preserved chunks are: (chunk, epoch) -> home, in memory, rebuilt at open.
//
// A snapshot of epoch s resolves a chunk to the record with the smallest epoch >= s; no record
// means the origin. A chunk's record of an epoch is written once: the first one wins, since a later
// one could only hold newer data.
//
// Pages of 256 chunks, each a sorted array: a lookup is a binary search within a page, whatever the
// number of snapshots. Threads: any; a page is guarded by one of 64 locks, which are leaves (no
// other lock is taken while one is held).

#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

namespace umbra::cow {

/// Where a chunk's preserved bytes are. The generation tells a reused segment from the one meant.
struct Home {
  std::uint32_t segment = 0;
  std::uint32_t slot = 0;
  friend bool operator==(const Home&, const Home&) = default;
};

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
  /// The highest epoch that has a record of this chunk; 0 if none has.
  [[nodiscard]] std::uint64_t newest_epoch(std::uint64_t chunk) const;

  /// Drops every record with an epoch <= `epoch_max` that no snapshot of `live` (epochs, ascending)
  /// resolves to, telling `dropped` where it was. Records of later epochs are not judged: snapshots
  /// that are newer than `live` may need them. Calls `dropped` with a page's lock held.
  void prune(const std::vector<std::uint64_t>& live, std::uint64_t epoch_max,
             const std::function<void(Home)>& dropped);

  /// Calls `visit(chunk)` for every chunk with a record of an epoch >= `epoch`.
  void for_each_since(std::uint64_t epoch, const std::function<void(std::uint64_t)>& visit) const;

  [[nodiscard]] std::uint64_t record_count() const noexcept {
    return records_.load(std::memory_order_relaxed);
  }

 private:
  static constexpr std::uint64_t kPageChunks = 256;
  static constexpr std::size_t kLocks = 64;

  struct Entry {
    std::uint64_t key = 0;  // chunk in page << 56 | epoch
    Home home;
  };
  using Page = std::vector<Entry>;

  [[nodiscard]] std::mutex& lock_of(std::uint64_t page) const noexcept {
    return locks_[page % kLocks];
  }

  mutable std::array<std::mutex, kLocks> locks_;
  std::vector<Page> pages_;
  std::atomic<std::uint64_t> records_ = 0;
};

}  // namespace umbra::cow
