// SPDX-License-Identifier: Apache-2.0
#include "provider/cow/chunk_map.h"

#include <algorithm>

#include "engine/platform/assert.h"

namespace umbra::cow {
namespace {

constexpr unsigned kEpochBits = 56;
constexpr std::uint64_t kEpochMask = (std::uint64_t{1} << kEpochBits) - 1;

[[nodiscard]] std::uint64_t key_of(std::uint64_t chunk_in_page, std::uint64_t epoch) noexcept {
  return chunk_in_page << kEpochBits | epoch;
}
[[nodiscard]] bool same_chunk(std::uint64_t a, std::uint64_t b) noexcept {
  return a >> kEpochBits == b >> kEpochBits;
}

}  // namespace

ChunkMap::ChunkMap(std::uint64_t chunk_count)
    : pages_((chunk_count + kPageChunks - 1) / kPageChunks) {}

bool ChunkMap::insert(std::uint64_t chunk, std::uint64_t epoch, Home home) {
  UMBRA_ASSERT(epoch <= kEpochMask);
  const std::uint64_t index = chunk / kPageChunks;
  const std::uint64_t key = key_of(chunk % kPageChunks, epoch);
  const std::lock_guard lock(lock_of(index));
  Page& page = pages_[index];
  const auto at = std::lower_bound(page.begin(), page.end(), key,
                                   [](const Entry& e, std::uint64_t k) { return e.key < k; });
  if (at != page.end() && at->key == key) return false;
  page.insert(at, Entry{key, home});
  records_.fetch_add(1, std::memory_order_relaxed);
  return true;
}

std::optional<ChunkMap::Found> ChunkMap::find(std::uint64_t chunk, std::uint64_t epoch) const {
  const std::uint64_t index = chunk / kPageChunks;
  const std::uint64_t key = key_of(chunk % kPageChunks, epoch);
  const std::lock_guard lock(lock_of(index));
  const Page& page = pages_[index];
  const auto at = std::lower_bound(page.begin(), page.end(), key,
                                   [](const Entry& e, std::uint64_t k) { return e.key < k; });
  if (at == page.end() || !same_chunk(at->key, key)) return std::nullopt;
  return Found{at->key & kEpochMask, at->home};
}

std::uint64_t ChunkMap::newest_epoch(std::uint64_t chunk) const {
  const std::uint64_t index = chunk / kPageChunks;
  const std::uint64_t key = key_of(chunk % kPageChunks, kEpochMask);
  const std::lock_guard lock(lock_of(index));
  const Page& page = pages_[index];
  const auto after = std::upper_bound(page.begin(), page.end(), key,
                                      [](std::uint64_t k, const Entry& e) { return k < e.key; });
  if (after == page.begin() || !same_chunk(std::prev(after)->key, key)) return 0;
  return std::prev(after)->key & kEpochMask;
}

void ChunkMap::prune(const std::vector<std::uint64_t>& live, std::uint64_t epoch_max,
                     const std::function<void(Home)>& dropped) {
  for (std::uint64_t index = 0; index < pages_.size(); ++index) {
    const std::lock_guard lock(lock_of(index));
    Page& page = pages_[index];
    if (page.empty()) continue;
    std::uint64_t previous = 0;  // Key of the record before, dropped or not.
    bool has_previous = false;
    const auto needed = [&](const Entry& entry) {
      const std::uint64_t epoch = entry.key & kEpochMask;
      const bool chained = has_previous && same_chunk(previous, entry.key);
      const std::uint64_t before = chained ? previous & kEpochMask : 0;
      previous = entry.key;
      has_previous = true;
      if (epoch > epoch_max) return true;
      // The newest snapshot not above this record resolves to it unless an older record is nearer.
      const auto above = std::upper_bound(live.begin(), live.end(), epoch);
      return above != live.begin() && *std::prev(above) > before;
    };
    std::size_t kept = 0;
    for (const Entry& entry : page) {
      if (needed(entry)) {
        page[kept++] = entry;
      } else {
        dropped(entry.home);
      }
    }
    records_.fetch_sub(page.size() - kept, std::memory_order_relaxed);
    page.resize(kept);
    if (page.empty()) page.shrink_to_fit();
  }
}

void ChunkMap::for_each_since(std::uint64_t epoch,
                              const std::function<void(std::uint64_t)>& visit) const {
  for (std::uint64_t index = 0; index < pages_.size(); ++index) {
    const std::lock_guard lock(lock_of(index));
    for (const Entry& entry : pages_[index]) {
      if ((entry.key & kEpochMask) >= epoch) {
        visit(index * kPageChunks + (entry.key >> kEpochBits));
      }
    }
  }
}

}  // namespace umbra::cow
