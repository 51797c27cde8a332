// SPDX-License-Identifier: Apache-2.0
//
// A set of chunks, as large as a volume or nearly empty: a bitmap in pages of 4096 chunks (512
// bytes), of which only those exist that hold something.
//
// Its bytes on disk are a list of pages, each as what is shortest: "all of them", runs, or the
// bitmap itself, so at most one bit and a little for a chunk of a page that exists. Decoding is
// total.
//
// Threads: as a container of the standard library.

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <vector>

namespace umbra::cow {

class ChunkSet {
 public:
  static constexpr std::uint64_t kPageChunks = 4096;
  using Page = std::array<std::uint64_t, kPageChunks / 64>;

  /// False: it was there already.
  bool insert(std::uint64_t chunk);
  void insert_range(std::uint64_t first, std::uint64_t count);
  void erase(std::uint64_t chunk);
  void merge(const ChunkSet& other);
  /// The pages of the other that hold chunks in [first, end), whole.
  void merge(const ChunkSet& other, std::uint64_t first, std::uint64_t end);
  /// Of the page of that index (see page()), what is not in `mask` goes.
  void keep_only(std::uint64_t index, const Page& mask);
  void clear() noexcept { pages_.clear(); }

  [[nodiscard]] bool contains(std::uint64_t chunk) const noexcept;
  [[nodiscard]] bool empty() const noexcept { return pages_.empty(); }
  [[nodiscard]] std::uint64_t count() const noexcept;

  /// The page of chunks [index * kPageChunks, ...); null if none of them is in the set.
  [[nodiscard]] const Page* page(std::uint64_t index) const noexcept;
  /// Ascending, once for each chunk.
  void for_each(const std::function<void(std::uint64_t chunk)>& visit) const;

  /// Appends.
  void encode(std::vector<std::byte>& out) const;
  /// Nothing: `bytes` is not a set of chunks below `chunk_count`, or something follows it.
  [[nodiscard]] static std::optional<ChunkSet> decode(std::span<const std::byte> bytes,
                                                      std::uint64_t chunk_count);

  friend bool operator==(const ChunkSet&, const ChunkSet&) = default;

 private:
  std::map<std::uint64_t, Page> pages_;  // No page is empty.
};

}  // namespace umbra::cow
