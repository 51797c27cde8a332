// SPDX-License-Identifier: Apache-2.0
#include "provider/cow/segments.h"

#include <algorithm>
#include <utility>

#include "engine/platform/assert.h"

namespace umbra::cow {

Segments::Segment& Segments::at(std::uint64_t segment) const noexcept {
  return directory_[segment / kBlockSegments].load(
      std::memory_order_acquire)[segment % kBlockSegments];
}

void Segments::grow_to(std::uint64_t count) {
  count = std::min(count, kSegmentsMax);
  if (count <= count_) return;
  while (blocks_.size() * kBlockSegments < count) {
    blocks_.push_back(std::make_unique<Segment[]>(kBlockSegments));
    directory_[blocks_.size() - 1].store(blocks_.back().get(), std::memory_order_release);
  }
  // Low segments are taken first.
  std::vector<std::uint32_t> fresh;
  for (std::uint64_t i = count; i-- > count_;) fresh.push_back(static_cast<std::uint32_t>(i));
  free_.insert(free_.begin(), fresh.begin(), fresh.end());
  count_ = count;
}

void Segments::take_into_use(Segment& segment, std::uint64_t generation) {
  if (!segment.checksums) {
    segment.checksums = std::make_unique<std::atomic<std::uint32_t>[]>(std::size_t{layout_.slots} *
                                                                       layout_.checksums_per_chunk);
  }
  segment.generation.store(generation, std::memory_order_release);
  segment.shown = generation;
  segment.punchable = true;
  segment.live = 0;
  segment.slots_reserved = 0;
  segment.slots_placed = 0;
  segment.units_used = 0;
  segment.unchecked = false;
  segment.punched = false;
}

void Segments::close_open() {
  if (!open_) return;
  const std::uint32_t index = *open_;
  open_.reset();
  Segment& segment = at(index);
  segment.open = false;
  if (segment.units_used < layout_.index_units) {  // Else the end of the index says it.
    UMBRA_ASSERT(!ended_);
    ended_ = Ended{index, segment.units_used, segment.generation.load(std::memory_order_relaxed)};
    ++segment.live;
  } else if (segment.live == 0) {
    put_free(index);
  }
}

void Segments::close(std::uint32_t segment) {
  if (open_ == segment) close_open();
}

void Segments::put_free(std::uint32_t segment) {
  const Segment& entry = at(segment);
  (entry.shared_bytes > 0 || entry.punched ? freed_shared_ : free_).push_back(segment);
}

std::optional<Segments::Place> Segments::reserve(std::uint32_t count_max) {
  UMBRA_ASSERT(count_max > 0);
  if (open_) {
    const Segment& segment = at(*open_);
    if (segment.slots_reserved == layout_.slots ||
        segment.units_used + layout_.group_units(1) > layout_.index_units) {
      close_open();
    }
  }
  if (!open_) {
    // Nobody needs it any more: its next use overwrites it, which need not be told from its end.
    // (Only if that is now: what is shared in it has to go first, see take_ended_shared().)
    if (free_.empty() && ended_ && at(ended_->segment).live == 1 &&
        at(ended_->segment).shared_bytes == 0 && !at(ended_->segment).punched) {
      (void)drop(std::exchange(ended_, std::nullopt)->segment);
    }
    if (free_count() == 0) return std::nullopt;
    open_ = free_.back();
    free_.pop_back();
    take_into_use(at(*open_), next_generation_++);
    at(*open_).open = true;
  }
  Segment& segment = at(*open_);
  Place place;
  place.segment = *open_;
  place.generation = segment.generation.load(std::memory_order_relaxed);
  place.unit = segment.units_used;
  place.count = std::min(count_max, layout_.slots - segment.slots_reserved);
  while (segment.units_used + layout_.group_units(place.count) > layout_.index_units) --place.count;
  place.units = layout_.group_units(place.count);
  segment.slots_reserved += place.count;
  segment.units_used += place.units;
  segment.live += place.count;
  place.ended = std::exchange(ended_, std::nullopt);
  return place;
}

void Segments::place_data(Place& place, std::uint32_t data_count) noexcept {
  UMBRA_ASSERT(data_count <= place.count);
  Segment& segment = at(place.segment);
  place.first_slot = segment.slots_placed;
  segment.slots_placed += data_count;
  segment.slots_reserved -= place.count - data_count;
}

void Segments::restore(std::uint32_t segment, std::uint64_t generation) {
  UMBRA_ASSERT(segment < count_);
  take_into_use(at(segment), generation);
}

void Segments::finish_restore(const std::vector<std::uint32_t>& live) {
  UMBRA_ASSERT(live.size() == count_);
  free_.clear();
  bare_.clear();
  for (std::uint64_t i = count_; i-- > 0;) {
    at(i).live = live[i];
    if (live[i] > 0 || at(i).aside) continue;
    const auto segment = static_cast<std::uint32_t>(i);
    if (at(i).shared_bytes > 0) {
      freed_shared_.push_back(segment);
    } else {
      bare_.insert(segment);
    }
  }
}

void Segments::forget_shown_from(std::uint64_t segment) noexcept {
  const std::uint64_t end = blocks_.size() * kBlockSegments;
  for (; segment < end; ++segment) at(segment).shown = 0;
}

format::Uses Segments::shown() const noexcept {
  format::Uses uses;
  for (std::uint64_t i = 0; i < count_; ++i) {
    if (at(i).shown != 0) uses.add(at(i).shown);
  }
  return uses;
}

bool Segments::pin(std::uint32_t segment) noexcept {
  Segment& entry = at(segment);
  if (entry.live == 0) return false;
  ++entry.live;
  return true;
}

bool Segments::drop(std::uint32_t segment) {
  Segment& entry = at(segment);
  UMBRA_ASSERT(entry.live > 0);
  --entry.live;
  if (entry.live > 0 || entry.open) return false;
  put_free(segment);
  return true;
}

// --- shared with the origin ------------------------------------------------------------------

void Segments::set_shared(Segment& segment, std::uint64_t bytes) noexcept {
  shared_bytes_ += bytes - segment.shared_bytes;
  segment.shared_bytes = bytes;
}

bool Segments::may_share(std::uint32_t count) const noexcept {
  const std::uint64_t bytes = shared_bytes_ + std::uint64_t{count} * layout_.chunk_bytes;
  return free_.size() * data_bytes() >= bytes;
}

void Segments::begin_share(const Place& place) noexcept {
  Segment& segment = at(place.segment);
  set_shared(segment, segment.shared_bytes + std::uint64_t{place.count} * layout_.chunk_bytes);
  ++segment.shares_begun;
  ++segment.shares_in_flight;
}

void Segments::end_share(std::uint32_t segment) noexcept { --at(segment).shares_in_flight; }

void Segments::restore_shared(std::uint32_t segment, std::uint64_t bytes) {
  set_shared(at(segment), bytes);
}

std::optional<Segments::Look> Segments::begin_look(std::uint32_t segment) const noexcept {
  const Segment& entry = at(segment);
  if (entry.shared_bytes == 0 || entry.shares_in_flight > 0 || !in_use(segment)) {
    return std::nullopt;
  }
  return Look{segment, entry.shares_begun};
}

void Segments::end_look(Look look, std::uint64_t bytes) noexcept {
  Segment& entry = at(look.segment);
  if (entry.shares_begun != look.begun || !in_use(look.segment)) return;
  set_shared(entry, std::min(bytes, entry.shared_bytes));
}

std::optional<std::uint32_t> Segments::take_freed_shared() {
  if (freed_shared_.empty()) return std::nullopt;
  const std::uint32_t segment = freed_shared_.back();
  freed_shared_.pop_back();
  ++taken_out_;
  return segment;
}

std::optional<std::uint32_t> Segments::take_ended_shared() noexcept {
  if (!ended_) return std::nullopt;
  Segment& entry = at(ended_->segment);
  if (entry.live != 1 || entry.shared_bytes == 0) return std::nullopt;
  ++entry.live;
  return ended_->segment;
}

void Segments::end_punch(std::uint32_t segment, bool punched) {
  if (punched) {
    at(segment).punched = true;
    set_shared(at(segment), 0);
  }
  (void)drop(segment);
}

void Segments::put_shared(std::uint32_t segment) {
  --taken_out_;
  freed_shared_.push_back(segment);
}

void Segments::close_if_unused() {
  if (open_ && at(*open_).live == 0 && !ended_) close_open();
}

void Segments::forget_shared() noexcept {
  for (std::uint64_t i = 0; i < count_; ++i) set_shared(at(i), 0);
  bare_.insert(freed_shared_.begin(), freed_shared_.end());
  freed_shared_.clear();
}

std::optional<std::uint32_t> Segments::take_to_punch(bool any) {
  const auto it = std::find_if(free_.begin(), free_.end(), [this, any](std::uint32_t segment) {
    return any || at(segment).punchable;
  });
  if (it == free_.end()) return std::nullopt;
  const std::uint32_t segment = *it;
  free_.erase(it);
  ++taken_out_;
  return segment;
}

std::optional<std::uint32_t> Segments::take_bare() {
  if (bare_.empty()) return std::nullopt;
  const std::uint32_t segment = *bare_.begin();
  bare_.erase(bare_.begin());
  ++taken_out_;
  return segment;
}

void Segments::put_bare(std::uint32_t segment) {
  --taken_out_;
  at(segment).punchable = false;
  at(segment).punched = false;
  set_shared(at(segment), 0);
  bare_.insert(segment);
}

void Segments::put_ready(std::uint32_t segment) {
  --taken_out_;
  free_.insert(free_.begin(), segment);  // So that the lowest of several is taken first.
}

std::uint64_t Segments::cut_free_end(std::uint64_t least) {
  for (; count_ > least; --count_) {
    const auto last = static_cast<std::uint32_t>(count_ - 1);
    if (std::erase(free_, last) == 0 && bare_.erase(last) == 0 &&
        std::erase(freed_shared_, last) == 0) {
      break;
    }
    at(last).punchable = false;
    at(last).punched = false;
    set_shared(at(last), 0);
  }
  return count_;
}

std::optional<std::uint32_t> Segments::take_aside() {
  if (free_count() == 0) return std::nullopt;
  const std::uint32_t segment = free_.back();
  free_.pop_back();
  at(segment).aside = true;
  return segment;
}

void Segments::give_back(std::uint32_t segment) {
  UMBRA_ASSERT(at(segment).aside);
  at(segment).aside = false;
  free_.push_back(segment);
}

void Segments::restore_aside(std::uint32_t segment) {
  UMBRA_ASSERT(segment < count_);
  at(segment).aside = true;
}

bool Segments::in_use(std::uint32_t segment) const noexcept {
  const Segment& entry = at(segment);
  return entry.live > 0 || entry.open || entry.aside;
}

bool Segments::is_closed(std::uint32_t segment) const noexcept {
  const Segment& entry = at(segment);
  return entry.live > 0 && !entry.open && !entry.aside;
}

std::atomic<std::uint32_t>* Segments::checksums(Home home) const noexcept {
  return at(home.segment).checksums.get() + std::size_t{home.slot} * layout_.checksums_per_chunk;
}

std::uint64_t Segments::generation(std::uint32_t segment) const noexcept {
  return at(segment).generation.load(std::memory_order_acquire);
}

}  // namespace umbra::cow
