// SPDX-License-Identifier: Apache-2.0
#include "provider/cow/chunk_set.h"

#include <algorithm>
#include <bit>

namespace umbra::cow {
namespace {

constexpr std::uint64_t kPageChunks = ChunkSet::kPageChunks;
using Page = ChunkSet::Page;

enum class PageForm : std::uint8_t { bitmap = 0, all = 1, runs = 2 };

struct Run {
  std::uint64_t gap = 0;  // Chunks that are not in the set, before it.
  std::uint64_t length = 0;
};

[[nodiscard]] bool has(const Page& page, std::uint64_t at) noexcept {
  return (page[at / 64] >> (at % 64) & 1U) != 0;
}
void set(Page& page, std::uint64_t at) noexcept { page[at / 64] |= std::uint64_t{1} << (at % 64); }

[[nodiscard]] std::vector<Run> runs_of(const Page& page) {
  std::vector<Run> runs;
  std::uint64_t end = 0;  // Of the run before.
  for (std::uint64_t at = 0; at < kPageChunks;) {
    if (at % 64 == 0 && page[at / 64] == 0) {
      at += 64;
      continue;
    }
    if (!has(page, at)) {
      ++at;
      continue;
    }
    const std::uint64_t first = at;
    while (at < kPageChunks && has(page, at)) ++at;
    runs.push_back({first - end, at - first});
    end = at;
  }
  return runs;
}

// --- bytes -----------------------------------------------------------------------------------

// Seven bits a byte, the lowest first.
void put_number(std::vector<std::byte>& out, std::uint64_t value) {
  for (; value >= 128; value /= 128) out.push_back(static_cast<std::byte>(value % 128 + 128));
  out.push_back(static_cast<std::byte>(value));
}

class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) noexcept : bytes_(bytes) {}

  [[nodiscard]] bool done() const noexcept { return bytes_.empty(); }
  [[nodiscard]] std::optional<std::uint64_t> number() noexcept {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 56 && !bytes_.empty(); shift += 7) {
      const auto byte = std::to_integer<std::uint64_t>(bytes_.front());
      bytes_ = bytes_.subspan(1);
      value |= byte % 128 << shift;
      if (byte < 128) return value;
    }
    return std::nullopt;
  }
  [[nodiscard]] std::span<const std::byte> take(std::size_t count) noexcept {
    if (bytes_.size() < count) return {};
    const auto taken = bytes_.first(count);
    bytes_ = bytes_.subspan(count);
    return taken;
  }

 private:
  std::span<const std::byte> bytes_;
};

void encode_page(const Page& page, std::vector<std::byte>& out) {
  const std::vector<Run> runs = runs_of(page);
  if (runs.size() == 1 && runs.front().length == kPageChunks) {
    out.push_back(static_cast<std::byte>(PageForm::all));
    return;
  }
  std::vector<std::byte> listed;
  put_number(listed, runs.size());
  for (const Run& run : runs) {
    put_number(listed, run.gap);
    put_number(listed, run.length);
    if (listed.size() >= sizeof(Page)) break;
  }
  if (listed.size() < sizeof(Page)) {
    out.push_back(static_cast<std::byte>(PageForm::runs));
    out.insert(out.end(), listed.begin(), listed.end());
    return;
  }
  out.push_back(static_cast<std::byte>(PageForm::bitmap));
  for (const std::uint64_t word : page) {
    for (unsigned i = 0; i < 8; ++i) out.push_back(static_cast<std::byte>(word >> (8 * i)));
  }
}

[[nodiscard]] bool decode_runs(Reader& reader, Page& page) noexcept {
  const auto count = reader.number();
  if (!count) return false;
  std::uint64_t at = 0;
  for (std::uint64_t i = 0; i < *count; ++i) {
    const auto gap = reader.number();
    const auto length = reader.number();
    if (!gap || !length || *gap > kPageChunks || *length > kPageChunks) return false;
    at += *gap;
    if (*length == 0 || at + *length > kPageChunks) return false;
    for (const std::uint64_t end = at + *length; at < end; ++at) set(page, at);
  }
  return true;
}

[[nodiscard]] bool decode_page(Reader& reader, Page& page) noexcept {
  const auto form = reader.take(1);
  if (form.empty()) return false;
  switch (static_cast<PageForm>(form.front())) {
    case PageForm::all: page.fill(~std::uint64_t{0}); return true;
    case PageForm::runs: return decode_runs(reader, page);
    case PageForm::bitmap: {
      const auto bytes = reader.take(sizeof(Page));
      for (std::size_t i = 0; i < bytes.size(); ++i) {
        page[i / 8] |= std::to_integer<std::uint64_t>(bytes[i]) << (i % 8 * 8);
      }
      return !bytes.empty();
    }
  }
  return false;
}

}  // namespace

bool ChunkSet::insert(std::uint64_t chunk) {
  Page& page = pages_[chunk / kPageChunks];
  if (has(page, chunk % kPageChunks)) return false;
  set(page, chunk % kPageChunks);
  return true;
}

void ChunkSet::insert_range(std::uint64_t first, std::uint64_t count) {
  for (const std::uint64_t end = first + count; first < end;) {
    Page& page = pages_[first / kPageChunks];
    const std::uint64_t stop = std::min(end, (first / kPageChunks + 1) * kPageChunks);
    for (; first < stop; ++first) set(page, first % kPageChunks);
  }
}

void ChunkSet::erase(std::uint64_t chunk) {
  const auto it = pages_.find(chunk / kPageChunks);
  if (it == pages_.end()) return;
  it->second[chunk % kPageChunks / 64] &= ~(std::uint64_t{1} << (chunk % 64));
  if (it->second == Page{}) pages_.erase(it);
}

void ChunkSet::merge(const ChunkSet& other) { merge(other, 0, ~std::uint64_t{0}); }

void ChunkSet::merge(const ChunkSet& other, std::uint64_t first, std::uint64_t end) {
  for (auto it = other.pages_.lower_bound(first / kPageChunks);
       it != other.pages_.end() && it->first * kPageChunks < end; ++it) {
    Page& mine = pages_[it->first];
    for (std::size_t i = 0; i < mine.size(); ++i) mine[i] |= it->second[i];
  }
}

void ChunkSet::keep_only(std::uint64_t index, const Page& mask) {
  const auto it = pages_.find(index);
  if (it == pages_.end()) return;
  for (std::size_t i = 0; i < mask.size(); ++i) it->second[i] &= mask[i];
  if (it->second == Page{}) pages_.erase(it);
}

bool ChunkSet::contains(std::uint64_t chunk) const noexcept {
  const Page* const found = page(chunk / kPageChunks);
  return found != nullptr && has(*found, chunk % kPageChunks);
}

std::uint64_t ChunkSet::count() const noexcept {
  std::uint64_t count = 0;
  for (const auto& [index, page] : pages_) {
    for (const std::uint64_t word : page) count += static_cast<std::uint64_t>(std::popcount(word));
  }
  return count;
}

const Page* ChunkSet::page(std::uint64_t index) const noexcept {
  const auto it = pages_.find(index);
  return it != pages_.end() ? &it->second : nullptr;
}

void ChunkSet::for_each(const std::function<void(std::uint64_t)>& visit) const {
  for (const auto& [index, page] : pages_) {
    for (std::size_t i = 0; i < page.size(); ++i) {
      for (std::uint64_t word = page[i]; word != 0; word &= word - 1) {
        visit(index * kPageChunks + i * 64 + static_cast<std::uint64_t>(std::countr_zero(word)));
      }
    }
  }
}

void ChunkSet::encode(std::vector<std::byte>& out) const {
  std::uint64_t next = 0;
  for (const auto& [index, page] : pages_) {
    put_number(out, index - next);
    encode_page(page, out);
    next = index + 1;
  }
}

std::optional<ChunkSet> ChunkSet::decode(std::span<const std::byte> bytes,
                                         std::uint64_t chunk_count) {
  ChunkSet chunks;
  Reader reader(bytes);
  for (std::uint64_t next = 0; !reader.done();) {
    const auto gap = reader.number();
    if (!gap) return std::nullopt;
    const std::uint64_t index = next + *gap;
    if (index >= (chunk_count + kPageChunks - 1) / kPageChunks) return std::nullopt;
    Page page{};
    if (!decode_page(reader, page) || page == Page{}) return std::nullopt;
    if (index == chunk_count / kPageChunks) {  // "All of them" of the last page means those there.
      for (std::uint64_t at = chunk_count % kPageChunks; at < kPageChunks; ++at) {
        page[at / 64] &= ~(std::uint64_t{1} << (at % 64));
      }
      if (page == Page{}) return std::nullopt;
    }
    chunks.pages_.emplace_hint(chunks.pages_.end(), index, page);
    next = index + 1;
  }
  return chunks;
}

}  // namespace umbra::cow
