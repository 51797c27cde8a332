// SPDX-License-Identifier: Apache-2.0
//
// A short sorted list of records (chunk, epoch) -> home of one page of the chunk map, packed into
// one block: 6 bytes for a record while all are of one epoch, 7 with several, and 8 for each of
// these.
//
// Threads: as a container of the standard library.

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "provider/cow/home.h"

namespace umbra::cow {

class ChunkLeaf {
 public:
  static constexpr std::size_t kRecordsMax = 256;

  struct Record {
    std::uint8_t chunk = 0;  // In its page.
    std::uint64_t epoch = 0;
    Home home;

    [[nodiscard]] bool is_before(std::uint64_t other_chunk,
                                 std::uint64_t other_epoch) const noexcept {
      return chunk < other_chunk || (chunk == other_chunk && epoch < other_epoch);
    }
  };
  /// Room for the records of a leaf, to take it apart.
  using Records = std::array<Record, kRecordsMax>;

  ChunkLeaf() = default;
  /// Of `records`, which are ascending and at most kRecordsMax, with room for a few more.
  explicit ChunkLeaf(std::span<const Record> records);

  [[nodiscard]] std::size_t size() const noexcept { return block_ != nullptr ? head().count : 0; }
  [[nodiscard]] bool full() const noexcept { return size() == kRecordsMax; }
  [[nodiscard]] Record at(std::size_t index) const noexcept {
    const std::size_t number = head().epochs > 1 ? numbers()[index] : 0;
    return {chunks()[index], epochs()[number], homes()[index].unpack()};
  }
  /// All of them, at the front of `room`.
  std::span<Record> unpack(Records& room) const noexcept;

  /// The first record that is not below; size() if there is none.
  [[nodiscard]] std::size_t lower_bound(std::uint8_t chunk, std::uint64_t epoch) const noexcept;
  /// Whether there is a record of an epoch in [first, end).
  [[nodiscard]] bool has(std::uint64_t first, std::uint64_t end) const noexcept;
  /// How many bytes it takes, without what the allocator adds.
  [[nodiscard]] std::size_t bytes() const noexcept;

  /// The leaf must not be full, and the record belong at `index`. True: the first of its epoch.
  bool insert(std::size_t index, const Record& record);
  void set_home(std::size_t index, Home home) noexcept;
  /// Keeps those for which `keep(record)`, in one go. What is left has nothing in reserve.
  template <class Keep>
  void keep_if(const Keep& keep) {
    Records room;
    const std::span<Record> all = unpack(room);
    std::size_t kept = 0;
    for (std::size_t i = 0; i < all.size(); ++i) {
      if (keep(all[i])) all[kept++] = all[i];
    }
    if (kept != all.size()) *this = ChunkLeaf(all.first(kept), kept);
  }

 private:
  struct Head {
    std::uint16_t count = 0;
    std::uint16_t capacity = 0;
    std::uint16_t epochs = 0;  // Different ones, ascending behind the head.
  };

  ChunkLeaf(std::span<const Record> records, std::size_t capacity);

  // The block: the head, the epochs, then for each record its chunk, the number of its epoch if
  // there are several, and its home.
  static constexpr std::size_t kHeadBytes = 8;
  static_assert(sizeof(Head) <= kHeadBytes);
  [[nodiscard]] static std::size_t capacity_above(std::size_t count) noexcept;
  [[nodiscard]] static std::size_t bytes_of(std::size_t capacity, std::size_t epochs) noexcept;

  [[nodiscard]] Head& head() const noexcept { return *reinterpret_cast<Head*>(block_.get()); }
  [[nodiscard]] std::uint64_t* epochs() const noexcept {
    return reinterpret_cast<std::uint64_t*>(block_.get() + kHeadBytes);
  }
  [[nodiscard]] std::uint8_t* chunks() const noexcept {
    return reinterpret_cast<std::uint8_t*>(epochs() + head().epochs);
  }
  [[nodiscard]] std::uint8_t* numbers() const noexcept { return chunks() + head().capacity; }
  [[nodiscard]] PackedHome* homes() const noexcept {
    const std::size_t bytes_each = head().epochs > 1 ? 2 : 1;
    return reinterpret_cast<PackedHome*>(chunks() + bytes_each * head().capacity);
  }
  /// The same records in another block; the new epochs, the highest, are to be written.
  void reshape(std::size_t capacity, std::size_t epochs);
  /// Of the first epoch that is not below.
  [[nodiscard]] std::size_t number_of(std::uint64_t epoch) const noexcept;

  std::unique_ptr<std::byte[]> block_;
};

}  // namespace umbra::cow
