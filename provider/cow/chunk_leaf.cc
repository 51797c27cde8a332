// SPDX-License-Identifier: Apache-2.0
#include "provider/cow/chunk_leaf.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "engine/platform/assert.h"

namespace umbra::cow {
namespace {

static_assert(ChunkLeaf::kRecordsMax == 256);  // The number of an epoch takes a byte.

/// Moves [index, count) of an array one on, and puts `value` there.
template <class T>
void put(T* array, std::size_t count, std::size_t index, const T& value) noexcept {
  std::memmove(array + index + 1, array + index, (count - index) * sizeof(T));
  std::memcpy(array + index, &value, sizeof(T));
}

}  // namespace

std::size_t ChunkLeaf::bytes_of(std::size_t capacity, std::size_t epochs) noexcept {
  const std::size_t each = sizeof(PackedHome) + 1 + (epochs > 1 ? 1 : 0);
  return kHeadBytes + epochs * sizeof(std::uint64_t) + capacity * each;
}

std::size_t ChunkLeaf::bytes() const noexcept {
  return block_ != nullptr ? bytes_of(head().capacity, head().epochs) : 0;
}

// Few different sizes, and then few bytes: pages fill alike, so blocks that became too small are of
// little use to others.
std::size_t ChunkLeaf::capacity_above(std::size_t count) noexcept {
  const std::size_t more = count < 96 ? std::max<std::size_t>(2, count / 2) : 16;
  return std::min(kRecordsMax, count + more);
}

ChunkLeaf::ChunkLeaf(std::span<const Record> records)
    : ChunkLeaf(records, capacity_above(records.size())) {}

ChunkLeaf::ChunkLeaf(std::span<const Record> records, std::size_t capacity) {
  UMBRA_ASSERT(records.size() <= capacity && capacity <= kRecordsMax);
  if (records.empty()) return;
  std::array<std::uint64_t, kRecordsMax> sorted{};
  std::size_t epochs = 0;
  for (const Record& record : records) {
    if (epochs == 0 || sorted[epochs - 1] != record.epoch) sorted[epochs++] = record.epoch;
  }
  std::sort(sorted.begin(), sorted.begin() + epochs);
  epochs = static_cast<std::size_t>(std::unique(sorted.begin(), sorted.begin() + epochs) -
                                    sorted.begin());

  block_.reset(new std::byte[bytes_of(capacity, epochs)]);
  head() = {static_cast<std::uint16_t>(records.size()), static_cast<std::uint16_t>(capacity),
            static_cast<std::uint16_t>(epochs)};
  std::copy_n(sorted.begin(), epochs, this->epochs());
  for (std::size_t i = 0; i < records.size(); ++i) {
    homes()[i] = PackedHome(records[i].home);
    chunks()[i] = records[i].chunk;
    if (epochs > 1) numbers()[i] = static_cast<std::uint8_t>(number_of(records[i].epoch));
  }
}

std::size_t ChunkLeaf::number_of(std::uint64_t epoch) const noexcept {
  const std::uint64_t* const end = epochs() + head().epochs;
  return static_cast<std::size_t>(std::lower_bound<const std::uint64_t*>(epochs(), end, epoch) -
                                  epochs());
}

std::span<ChunkLeaf::Record> ChunkLeaf::unpack(Records& room) const noexcept {
  for (std::size_t i = 0; i < size(); ++i) room[i] = at(i);
  return std::span(room).first(size());
}

std::size_t ChunkLeaf::lower_bound(std::uint8_t chunk, std::uint64_t epoch) const noexcept {
  if (size() == 0) return 0;
  const std::uint8_t* const first = chunks();
  const std::uint8_t* const end = first + size();
  const std::size_t number = number_of(epoch);
  if (number == head().epochs) {
    return static_cast<std::size_t>(std::upper_bound(first, end, chunk) - first);
  }
  if (head().epochs == 1) {
    return static_cast<std::size_t>(std::lower_bound(first, end, chunk) - first);
  }
  const auto [low, high] = std::equal_range(first, end, chunk);
  const std::uint8_t* const of_low = numbers() + (low - first);
  const std::uint8_t* const found = std::lower_bound(of_low, of_low + (high - low), number);
  return static_cast<std::size_t>(found - numbers());
}

bool ChunkLeaf::has(std::uint64_t first, std::uint64_t end) const noexcept {
  if (size() == 0) return false;
  const std::size_t number = number_of(first);
  return number < head().epochs && epochs()[number] < end;
}

void ChunkLeaf::reshape(std::size_t capacity, std::size_t epochs) {
  const std::size_t count = size();
  ChunkLeaf other;
  other.block_.reset(new std::byte[bytes_of(capacity, epochs)]);
  other.head() = {head().count, static_cast<std::uint16_t>(capacity),
                  static_cast<std::uint16_t>(epochs)};
  std::copy_n(this->epochs(), head().epochs, other.epochs());
  std::copy_n(chunks(), count, other.chunks());
  if (head().epochs > 1) {
    std::copy_n(numbers(), count, other.numbers());
  } else if (epochs > 1) {
    std::fill_n(other.numbers(), count, std::uint8_t{0});
  }
  std::copy_n(homes(), count, other.homes());
  *this = std::move(other);
}

bool ChunkLeaf::insert(std::size_t index, const Record& record) {
  const std::size_t count = size();
  UMBRA_ASSERT(count < kRecordsMax && index <= count);
  const bool fresh = !has(record.epoch, record.epoch + 1);
  if (count == 0 ||
      (fresh && record.epoch < epochs()[head().epochs - 1])) {  // Rare: numbers change.
    Records room;
    (void)unpack(room);
    put(room.data(), count, index, record);
    *this = ChunkLeaf(std::span<const Record>(room).first(count + 1));
    return true;
  }
  const bool no_room = count == head().capacity;
  if (fresh || no_room) {
    reshape(no_room ? capacity_above(count) : head().capacity, head().epochs + (fresh ? 1U : 0U));
    if (fresh) epochs()[head().epochs - 1] = record.epoch;
  }
  if (head().epochs > 1) {
    put(numbers(), count, index, static_cast<std::uint8_t>(number_of(record.epoch)));
  }
  put(chunks(), count, index, record.chunk);
  put(homes(), count, index, PackedHome(record.home));
  ++head().count;
  return fresh;
}

void ChunkLeaf::set_home(std::size_t index, Home home) noexcept {
  homes()[index] = PackedHome(home);
}

}  // namespace umbra::cow
