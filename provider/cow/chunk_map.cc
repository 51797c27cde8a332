// SPDX-License-Identifier: Apache-2.0
#include "provider/cow/chunk_map.h"

#include <algorithm>
#include <iterator>
#include <tuple>
#include <utility>

#include "engine/platform/assert.h"

namespace umbra::cow {
namespace {

constexpr unsigned kEpochBits = 56;
constexpr std::uint64_t kEpochMask = (std::uint64_t{1} << kEpochBits) - 1;
constexpr unsigned kChunkBits = 40;

[[nodiscard]] std::uint64_t key_of(std::uint64_t chunk_in_page, std::uint64_t epoch) noexcept {
  return chunk_in_page << kEpochBits | epoch;
}
[[nodiscard]] bool same_chunk(std::uint64_t a, std::uint64_t b) noexcept {
  return a >> kEpochBits == b >> kEpochBits;
}

using ChunkNumber = std::array<std::uint8_t, 5>;
static_assert(kChunkBits == 8 * std::tuple_size_v<ChunkNumber>);

[[nodiscard]] ChunkNumber pack(std::uint64_t chunk) noexcept {
  ChunkNumber number;
  for (std::size_t i = 0; i < number.size(); ++i) {
    number[i] = static_cast<std::uint8_t>(chunk >> (8 * i));
  }
  return number;
}
[[nodiscard]] std::uint64_t unpack(const ChunkNumber& number) noexcept {
  std::uint64_t chunk = 0;
  for (std::size_t i = 0; i < number.size(); ++i) chunk |= std::uint64_t{number[i]} << (8 * i);
  return chunk;
}

}  // namespace

ChunkMap::ChunkMap(std::uint64_t chunk_count)
    : pages_((chunk_count + kPageChunks - 1) / kPageChunks) {
  UMBRA_ASSERT(chunk_count >> kChunkBits == 0);
}

// --- a page ----------------------------------------------------------------------------------

ChunkMap::Place ChunkMap::lower_bound(const Page& page, std::uint64_t key) noexcept {
  const auto above =
      std::upper_bound(page.begin(), page.end(), key,
                       [](std::uint64_t k, const Leaf& leaf) { return k < leaf.front().key; });
  if (above == page.begin()) return {};
  const auto leaf = std::prev(above);
  const auto at = std::lower_bound(leaf->begin(), leaf->end(), key,
                                   [](const Entry& e, std::uint64_t k) { return e.key < k; });
  const auto index = static_cast<std::size_t>(leaf - page.begin());
  if (at == leaf->end()) return {index + 1, 0};
  return {index, static_cast<std::size_t>(at - leaf->begin())};
}

const ChunkMap::Entry* ChunkMap::before(const Page& page, Place place) noexcept {
  if (place.at > 0) return &page[place.leaf][place.at - 1];
  return place.leaf > 0 ? &page[place.leaf - 1].back() : nullptr;
}

void ChunkMap::insert_at(Page& page, Place place, Entry entry) {
  if (place.at == 0 && place.leaf > 0) {  // Behind the last of the leaf before.
    --place.leaf;
    place.at = page[place.leaf].size();
  }
  if (page.empty()) page.emplace_back();
  if (page[place.leaf].size() == kLeafEntries) {
    const auto half = static_cast<std::ptrdiff_t>(kLeafEntries / 2);
    Leaf upper(page[place.leaf].begin() + half, page[place.leaf].end());
    page[place.leaf].resize(kLeafEntries / 2);
    page.insert(page.begin() + static_cast<std::ptrdiff_t>(place.leaf) + 1, std::move(upper));
    if (place.at > kLeafEntries / 2) {
      ++place.leaf;
      place.at -= kLeafEntries / 2;
    }
  }
  Leaf& leaf = page[place.leaf];
  leaf.insert(leaf.begin() + static_cast<std::ptrdiff_t>(place.at), entry);
}

void ChunkMap::erase_at(Page& page, Place place) {
  const auto at = page.begin() + static_cast<std::ptrdiff_t>(place.leaf);
  at->erase(at->begin() + static_cast<std::ptrdiff_t>(place.at));
  const auto next = std::next(at);
  if (at->empty()) {
    page.erase(at);
  } else if (next != page.end() && at->size() + next->size() <= kLeafEntries / 2) {
    at->insert(at->end(), next->begin(), next->end());
    page.erase(next);
  } else if (at->size() < at->capacity() / 4) {
    at->shrink_to_fit();
  }
  if (page.empty()) page.shrink_to_fit();
}

// --- records ---------------------------------------------------------------------------------

bool ChunkMap::insert(std::uint64_t chunk, std::uint64_t epoch, Home home) {
  UMBRA_ASSERT(epoch <= kEpochMask);
  const std::uint64_t index = chunk / kPageChunks;
  const std::uint64_t key = key_of(chunk % kPageChunks, epoch);
  {
    const std::lock_guard lock(lock_of(index));
    Page& page = pages_[index];
    const Place place = lower_bound(page, key);
    if (place.leaf < page.size() && page[place.leaf][place.at].key == key) return false;
    insert_at(page, place, Entry{key, home});
  }
  records_.fetch_add(1, std::memory_order_relaxed);
  const std::lock_guard lock(lists_mutex_);
  note(chunk, lists_[epoch]);
  return true;
}

std::optional<ChunkMap::Found> ChunkMap::find(std::uint64_t chunk, std::uint64_t epoch) const {
  const std::uint64_t index = chunk / kPageChunks;
  const std::uint64_t key = key_of(chunk % kPageChunks, epoch);
  const std::lock_guard lock(lock_of(index));
  const Page& page = pages_[index];
  const Place place = lower_bound(page, key);
  if (place.leaf == page.size()) return std::nullopt;
  const Entry& entry = page[place.leaf][place.at];
  if (!same_chunk(entry.key, key)) return std::nullopt;
  return Found{entry.key & kEpochMask, entry.home};
}

void ChunkMap::set_checked(std::uint64_t chunk, std::uint64_t epoch, Home home) {
  const std::uint64_t index = chunk / kPageChunks;
  const std::uint64_t key = key_of(chunk % kPageChunks, epoch);
  const std::lock_guard lock(lock_of(index));
  Page& page = pages_[index];
  const Place place = lower_bound(page, key);
  if (place.leaf == page.size() || page[place.leaf][place.at].key != key) return;
  Home& known = page[place.leaf][place.at].home;
  const bool same = known.segment == home.segment && known.slot == home.slot;
  if (same) known.unchecked = false;
}

std::uint64_t ChunkMap::newest_epoch(std::uint64_t chunk) const {
  const std::uint64_t index = chunk / kPageChunks;
  const std::uint64_t key = key_of(chunk % kPageChunks, kEpochMask);
  const std::lock_guard lock(lock_of(index));
  const Page& page = pages_[index];
  // No record has the largest epoch: what is before it is the chunk's newest.
  const Entry* entry = before(page, lower_bound(page, key));
  return entry != nullptr && same_chunk(entry->key, key) ? entry->key & kEpochMask : 0;
}

// --- page by page ----------------------------------------------------------------------------

ChunkMap::PageMask ChunkMap::changed(std::uint64_t page, std::uint64_t first,
                                     std::uint64_t end) const {
  PageMask mask{};
  const std::lock_guard lock(lock_of(page));
  const Page& leaves = pages_[page];
  for (Place at; at.leaf < leaves.size();) {
    const Leaf& leaf = leaves[at.leaf];
    const std::uint64_t chunk = leaf[at.at].key >> kEpochBits;
    const std::uint64_t epoch = leaf[at.at].key & kEpochMask;
    if (epoch < first) {
      at = lower_bound(leaves, key_of(chunk, first));
      continue;
    }
    if (epoch < end) mask[chunk / 64] |= std::uint64_t{1} << (chunk % 64);
    // The chunk's other records do not matter. Mostly there is none.
    if (at.at + 1 < leaf.size() && !same_chunk(leaf[at.at + 1].key, leaf[at.at].key)) {
      ++at.at;
    } else if (chunk + 1 < kPageChunks) {
      at = lower_bound(leaves, key_of(chunk + 1, 0));
    } else {
      break;
    }
  }
  return mask;
}

void ChunkMap::for_each_record(
    std::uint64_t page, std::uint64_t first,
    const std::function<void(std::uint64_t, std::uint64_t)>& visit) const {
  const std::lock_guard lock(lock_of(page));
  for (const Leaf& leaf : pages_[page]) {
    for (const Entry& entry : leaf) {
      const std::uint64_t epoch = entry.key & kEpochMask;
      if (epoch >= first) visit(page * kPageChunks + (entry.key >> kEpochBits), epoch);
    }
  }
}

// --- by epoch --------------------------------------------------------------------------------

void ChunkMap::note(std::uint64_t chunk, ChunkList& list) {
  if (list.empty() || list.back().size() == kPartChunks) {
    // The first part starts small: most epochs of a volume with many snapshots are.
    const bool first = list.empty();
    list.emplace_back();
    if (!first) list.back().reserve(kPartChunks);
  }
  list.back().push_back(pack(chunk));
}

bool ChunkMap::drop_if_unneeded(std::uint64_t chunk, std::uint64_t epoch, std::uint64_t newest,
                                const std::function<void(Home)>& dropped) {
  const std::uint64_t index = chunk / kPageChunks;
  const std::uint64_t key = key_of(chunk % kPageChunks, epoch);
  const std::lock_guard lock(lock_of(index));
  Page& page = pages_[index];
  const Place place = lower_bound(page, key);
  UMBRA_ASSERT(place.leaf < page.size() && page[place.leaf][place.at].key == key);
  // The newest snapshot not above this record resolves to it unless an older record is nearer.
  const Entry* nearer = before(page, place);
  const bool chained = nearer != nullptr && same_chunk(nearer->key, key);
  if (newest > (chained ? nearer->key & kEpochMask : 0)) return false;
  dropped(page[place.leaf][place.at].home);
  erase_at(page, place);
  records_.fetch_sub(1, std::memory_order_relaxed);
  return true;
}

void ChunkMap::prune(std::uint64_t first, std::uint64_t end, std::uint64_t newest,
                     const std::function<void(Home)>& dropped) {
  PruneCursor at{first, 0};
  while (prune_step(at, end, newest, dropped)) {
  }
}

bool ChunkMap::prune_step(PruneCursor& at, std::uint64_t end, std::uint64_t newest,
                          const std::function<void(Home)>& dropped) {
  const std::lock_guard one_at_a_time(prune_mutex_);
  std::vector<ChunkNumber> part;
  if (!take_part(at, end, part)) return false;
  std::erase_if(part, [&](const ChunkNumber& number) {
    return drop_if_unneeded(unpack(number), at.epoch, newest, dropped);
  });
  put_part(at, part);
  return true;
}

bool ChunkMap::take_part(PruneCursor& at, std::uint64_t end, std::vector<ChunkNumber>& part) {
  const std::lock_guard lock(lists_mutex_);
  for (auto it = lists_.lower_bound(at.epoch); it != lists_.end() && it->first < end; ++it) {
    if (it->first != at.epoch) at = {it->first, 0};
    if (at.part >= it->second.size()) continue;
    part = std::exchange(it->second[at.part], {});
    return true;
  }
  return false;
}

void ChunkMap::put_part(PruneCursor& at, const std::vector<ChunkNumber>& kept) {
  const std::lock_guard lock(lists_mutex_);
  const auto it = lists_.find(at.epoch);
  ChunkList& list = it->second;
  auto& part = list[at.part];
  part.insert(part.end(), kept.begin(), kept.end());  // Records may have come meanwhile.
  if (at.part > 0 && list[at.part - 1].size() + part.size() <= kPartChunks) {
    auto& previous = list[at.part - 1];
    previous.insert(previous.end(), part.begin(), part.end());
    part.clear();
  }
  if (!part.empty()) {
    ++at.part;
    return;
  }
  if (at.part + 1 != list.size()) part = std::move(list.back());
  list.pop_back();
  if (list.empty()) lists_.erase(it);
}

void ChunkMap::for_each_since(std::uint64_t epoch,
                              const std::function<void(std::uint64_t)>& visit) const {
  const std::lock_guard lock(lists_mutex_);
  for (auto it = lists_.lower_bound(epoch); it != lists_.end(); ++it) {
    for (const auto& part : it->second) {
      for (const ChunkNumber& number : part) visit(unpack(number));
    }
  }
}

}  // namespace umbra::cow
