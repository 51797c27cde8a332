// SPDX-License-Identifier: Apache-2.0
#include "provider/cow/chunk_map.h"

#include <algorithm>
#include <iterator>
#include <limits>
#include <utility>

#include "engine/platform/assert.h"

namespace umbra::cow {
namespace {

constexpr std::uint64_t kNoEpoch = std::numeric_limits<std::uint64_t>::max();

[[nodiscard]] std::uint8_t in_page(std::uint64_t chunk) noexcept {
  return static_cast<std::uint8_t>(chunk % ChunkMap::kPageChunks);
}
static_assert(ChunkMap::kPageChunks == 256);

[[nodiscard]] bool is(const ChunkLeaf::Record& record, std::uint8_t chunk,
                      std::uint64_t epoch) noexcept {
  return record.chunk == chunk && record.epoch == epoch;
}

}  // namespace

ChunkMap::ChunkMap(std::uint64_t chunk_count)
    : pages_((chunk_count + kPageChunks - 1) / kPageChunks) {
  UMBRA_ASSERT(page_count() <= std::uint64_t{std::numeric_limits<PageNumber>::max()} + 1);
}

// --- a page ----------------------------------------------------------------------------------

ChunkMap::Place ChunkMap::lower_bound(const Page& page, std::uint8_t chunk,
                                      std::uint64_t epoch) noexcept {
  if (page.empty()) return {};
  // The last leaf whose first record is not above. Mostly there is one leaf.
  auto leaf = page.begin();
  if (page.size() > 1) {
    const auto above =
        std::partition_point(std::next(page.begin()), page.end(), [&](const ChunkLeaf& other) {
          const ChunkLeaf::Record first = other.at(0);
          return first.is_before(chunk, epoch) || is(first, chunk, epoch);
        });
    leaf = std::prev(above);
  }
  const auto index = static_cast<std::size_t>(leaf - page.begin());
  const std::size_t at = leaf->lower_bound(chunk, epoch);
  if (at == leaf->size()) return {index + 1, 0};
  return {index, at};
}

std::uint64_t ChunkMap::epoch_before(const Page& page, Place place, std::uint8_t chunk) noexcept {
  if (place.at == 0 && place.leaf == 0) return 0;
  const ChunkLeaf::Record record = place.at > 0
                                       ? page[place.leaf].at(place.at - 1)
                                       : page[place.leaf - 1].at(page[place.leaf - 1].size() - 1);
  return record.chunk == chunk ? record.epoch : 0;
}

bool ChunkMap::insert_at(Page& page, Place place, const ChunkLeaf::Record& record) {
  if (place.at == 0 && place.leaf > 0) {  // Behind the last of the leaf before.
    --place.leaf;
    place.at = page[place.leaf].size();
  }
  if (page.empty()) page.emplace_back();
  if (page[place.leaf].full()) {
    split(page, place.leaf);
    const std::size_t lower = page[place.leaf].size();
    if (place.at > lower) place = {place.leaf + 1, place.at - lower};
  }
  return page[place.leaf].insert(place.at, record);
}

void ChunkMap::split(Page& page, std::size_t leaf) {
  ChunkLeaf::Records room;
  const std::span<const ChunkLeaf::Record> all = page[leaf].unpack(room);
  const std::size_t half = all.size() / 2;
  page[leaf] = ChunkLeaf(all.first(half));
  page.emplace(page.begin() + static_cast<std::ptrdiff_t>(leaf) + 1, all.subspan(half));
}

void ChunkMap::join_small_leaves(Page& page) {
  std::size_t kept = 0;
  for (std::size_t i = 0; i < page.size(); ++i) {
    if (page[i].size() == 0) continue;
    if (kept > 0 && page[kept - 1].size() + page[i].size() <= ChunkLeaf::kRecordsMax / 2) {
      ChunkLeaf::Records room;
      ChunkLeaf::Records more;
      const std::size_t before = page[kept - 1].unpack(room).size();
      const std::span<const ChunkLeaf::Record> added = page[i].unpack(more);
      std::copy(added.begin(), added.end(), room.begin() + static_cast<std::ptrdiff_t>(before));
      page[kept - 1] =
          ChunkLeaf(std::span<const ChunkLeaf::Record>(room).first(before + added.size()));
    } else {
      if (kept != i) page[kept] = std::move(page[i]);
      ++kept;
    }
  }
  page.resize(kept);
  if (page.size() < page.capacity() / 4 || page.empty()) page.shrink_to_fit();
}

// --- records ---------------------------------------------------------------------------------

bool ChunkMap::insert(std::uint64_t chunk, std::uint64_t epoch, Home home) {
  UMBRA_ASSERT(epoch != kNoEpoch);
  const std::uint64_t index = chunk / kPageChunks;
  const ChunkLeaf::Record record{in_page(chunk), epoch, home};
  const std::lock_guard lock(lock_of(index));
  Page& page = pages_[index];
  const Place place = lower_bound(page, record.chunk, epoch);
  if (place.leaf < page.size() && is(page[place.leaf].at(place.at), record.chunk, epoch)) {
    return false;
  }
  // With the page's lock held, so that whoever prunes finds in the list what is in the page.
  if (insert_at(page, place, record)) note(index, epoch);
  records_.fetch_add(1, std::memory_order_relaxed);
  return true;
}

std::optional<ChunkMap::Found> ChunkMap::find(std::uint64_t chunk, std::uint64_t epoch) const {
  const std::uint64_t index = chunk / kPageChunks;
  const std::lock_guard lock(lock_of(index));
  const Page& page = pages_[index];
  const Place place = lower_bound(page, in_page(chunk), epoch);
  if (place.leaf == page.size()) return std::nullopt;
  const ChunkLeaf::Record record = page[place.leaf].at(place.at);
  if (record.chunk != in_page(chunk)) return std::nullopt;
  return Found{record.epoch, record.home};
}

void ChunkMap::set_checked(std::uint64_t chunk, std::uint64_t epoch, Home home) {
  const std::uint64_t index = chunk / kPageChunks;
  const std::lock_guard lock(lock_of(index));
  Page& page = pages_[index];
  const Place place = lower_bound(page, in_page(chunk), epoch);
  if (place.leaf == page.size()) return;
  ChunkLeaf::Record known = page[place.leaf].at(place.at);
  if (!is(known, in_page(chunk), epoch)) return;
  if (known.home.segment != home.segment || known.home.slot != home.slot) return;
  known.home.unchecked = false;
  page[place.leaf].set_home(place.at, known.home);
}

std::uint64_t ChunkMap::newest_epoch(std::uint64_t chunk) const {
  const std::uint64_t index = chunk / kPageChunks;
  const std::lock_guard lock(lock_of(index));
  const Page& page = pages_[index];
  // No record has that epoch: what is before it is the chunk's newest.
  return epoch_before(page, lower_bound(page, in_page(chunk), kNoEpoch), in_page(chunk));
}

// --- page by page ----------------------------------------------------------------------------

ChunkMap::PageMask ChunkMap::changed(std::uint64_t page, std::uint64_t first,
                                     std::uint64_t end) const {
  PageMask mask{};
  const std::lock_guard lock(lock_of(page));
  const Page& leaves = pages_[page];
  for (Place at; at.leaf < leaves.size();) {
    const ChunkLeaf& leaf = leaves[at.leaf];
    const ChunkLeaf::Record record = leaf.at(at.at);
    if (record.epoch < first) {
      at = lower_bound(leaves, record.chunk, first);
      continue;
    }
    if (record.epoch < end) {
      mask[record.chunk / 64] |= std::uint64_t{1} << (record.chunk % 64);
    }
    // The chunk's other records do not matter. Mostly there is none.
    if (at.at + 1 < leaf.size() && leaf.at(at.at + 1).chunk != record.chunk) {
      ++at.at;
    } else if (record.chunk + 1U < kPageChunks) {
      at = lower_bound(leaves, static_cast<std::uint8_t>(record.chunk + 1), 0);
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
  for (const ChunkLeaf& leaf : pages_[page]) {
    for (std::size_t i = 0; i < leaf.size(); ++i) {
      const ChunkLeaf::Record record = leaf.at(i);
      if (record.epoch >= first) visit(page * kPageChunks + record.chunk, record.epoch);
    }
  }
}

// --- by epoch --------------------------------------------------------------------------------

void ChunkMap::note(std::uint64_t page, std::uint64_t epoch) {
  const std::lock_guard lock(lists_mutex_);
  PageList& list = lists_[epoch];
  if (list.empty() || list.back().size() == kPartPages) list.emplace_back();
  list.back().push_back(static_cast<PageNumber>(page));
}

bool ChunkMap::prune_page(std::uint64_t index, std::uint64_t epoch, std::uint64_t newest,
                          const std::function<void(Home)>& dropped) {
  const std::lock_guard lock(lock_of(index));
  Page& page = pages_[index];
  bool some_left = false;
  std::uint64_t gone = 0;
  ChunkLeaf::Record before;  // Epoch 0: there is none.
  for (ChunkLeaf& leaf : page) {
    const ChunkLeaf::Record last = leaf.at(leaf.size() - 1);
    if (leaf.has(epoch, epoch + 1)) {
      leaf.keep_if([&](const ChunkLeaf::Record& record) {
        const std::uint64_t nearer = before.chunk == record.chunk ? before.epoch : 0;
        before = record;
        if (record.epoch != epoch) return true;
        // The newest snapshot not above this record resolves to it unless an older one is nearer.
        if (newest > nearer) {
          some_left = true;
          return true;
        }
        dropped(record.home);
        ++gone;
        return false;
      });
    }
    before = last;
  }
  if (gone == 0) return some_left;
  join_small_leaves(page);
  records_.fetch_sub(gone, std::memory_order_relaxed);
  return some_left;
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
  std::vector<PageNumber> part;
  if (!take_part(at, end, part)) return false;
  std::sort(part.begin(), part.end());
  part.erase(std::unique(part.begin(), part.end()), part.end());
  std::erase_if(part,
                [&](PageNumber page) { return !prune_page(page, at.epoch, newest, dropped); });
  put_part(at, part);
  return true;
}

bool ChunkMap::take_part(PruneCursor& at, std::uint64_t end, std::vector<PageNumber>& part) {
  const std::lock_guard lock(lists_mutex_);
  for (auto it = lists_.lower_bound(at.epoch); it != lists_.end() && it->first < end; ++it) {
    if (it->first != at.epoch) at = {it->first, 0};
    if (at.part >= it->second.size()) continue;
    part = std::exchange(it->second[at.part], {});
    return true;
  }
  return false;
}

void ChunkMap::put_part(PruneCursor& at, const std::vector<PageNumber>& kept) {
  const std::lock_guard lock(lists_mutex_);
  const auto it = lists_.find(at.epoch);
  PageList& list = it->second;
  auto& part = list[at.part];
  part.insert(part.end(), kept.begin(), kept.end());  // Records may have come meanwhile.
  if (at.part > 0 && list[at.part - 1].size() + part.size() <= kPartPages) {
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
  std::vector<PageNumber> pages;
  {
    const std::lock_guard lock(lists_mutex_);
    for (auto it = lists_.lower_bound(epoch); it != lists_.end(); ++it) {
      for (const auto& part : it->second) pages.insert(pages.end(), part.begin(), part.end());
    }
  }
  std::sort(pages.begin(), pages.end());
  pages.erase(std::unique(pages.begin(), pages.end()), pages.end());
  for (const PageNumber page : pages) {
    const PageMask mask = changed(page, epoch, kNoEpoch);
    for (std::uint64_t chunk = 0; chunk < kPageChunks; ++chunk) {
      if ((mask[chunk / 64] >> (chunk % 64) & 1U) != 0) visit(page * kPageChunks + chunk);
    }
  }
}

}  // namespace umbra::cow
