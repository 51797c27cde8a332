// SPDX-License-Identifier: Apache-2.0
//
// Checksums of chunks that were shared, not read, when they were preserved: taken in the background
// while the volume has little to do, a segment at a time, and by scrub before it looks at one.
// Until then what a reader gets of such a chunk is not verified.
//
// The groups that name them are written anew, with checksums and as long as before: first in one
// place, flushed, then in the other, flushed. So a cut leaves one of them whole at any time, and
// either says the same of where the data is. A group is only touched when its records are
// published, so when it is durable where it has to be.
//
// The segment is pinned meanwhile: it cannot be used again. Nothing is written during a hold.
#include <algorithm>
#include <utility>
#include <vector>

#include "provider/cow/checker.h"
#include "provider/cow/core.h"

namespace umbra::cow {
namespace {

// A segment has 4 MiB (more with large chunks): 40 MiB/s at most.
constexpr Duration kSumsPause = std::chrono::milliseconds(100);
constexpr int kSumsDelaysMax = 10;  // Then also while the volume is busy.

}  // namespace

void Volume::Impl::post_checksums() noexcept {
  if (summing_ || space_.stopping || closed_.load()) return;
  summing_ = true;
  executor_->post_after(kSumsPause, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->take_some_checksums();
  });
}

std::optional<std::uint32_t> Volume::Impl::next_unchecked() noexcept {
  const std::uint64_t count = segments_.count();
  for (std::uint64_t i = 0; i < count; ++i) {
    const auto segment = static_cast<std::uint32_t>((sums_cursor_ + i) % count);
    if (!segments_.is_unchecked(segment)) continue;
    sums_cursor_ = segment + 1;
    return segment;
  }
  return std::nullopt;
}

void Volume::Impl::take_some_checksums() {
  std::uint32_t segment = 0;
  {
    const std::lock_guard lock(mutex_);
    summing_ = false;
    if (space_.stopping || closed_.load()) return;
    const bool idle = busy_ == 0 && claimed_.head == nullptr;
    if (holds_ > 0 || (!idle && ++sums_delayed_ < kSumsDelaysMax)) {
      post_checksums();
      return;
    }
    sums_delayed_ = 0;
    const auto next = next_unchecked();
    if (!next) return;
    segment = *next;
    ++busy_;
  }
  (void)take_checksums(segment);
  look_at_shared(segment);
  {
    const std::lock_guard lock(mutex_);
    if (next_unchecked()) post_checksums();
  }
  end_busy();
}

bool Volume::Impl::is_record(const format::Group& group, std::uint32_t record,
                             std::uint32_t slot) const {
  const auto known = map_.find(group.chunks[record], group.header.epoch);
  return known && known->epoch == group.header.epoch && known->home.kind == Home::Kind::data &&
         known->home.segment == group.header.segment && known->home.slot == slot;
}

bool Volume::Impl::add_checksums(format::Group& group, std::vector<std::uint32_t>& taken) {
  const std::size_t per_chunk = layout_.checksums_per_chunk;
  const AlignedBuffer chunk = make_aligned(layout_.chunk_bytes);
  const std::span<std::byte> bytes(chunk.get(), layout_.chunk_bytes);
  std::uint32_t slot = group.header.first_slot;
  for (std::uint32_t i = 0; i < group.header.count; ++i) {
    if (!format::has_data(group.flags[i])) continue;
    const std::uint32_t here = slot++;
    if ((group.flags[i] & format::kEntryUnchecked) == 0 || !is_record(group, i, here)) continue;
    // What cannot be read stays as it is: reads of it fail, and say so.
    const std::uint64_t at = layout_.slot_offset(group.header.segment, here);
    if (!read_at(diff_, at, bytes, "a shared chunk")) continue;
    sum_chunk(bytes, std::span(group.checksums).subspan(i * per_chunk, per_chunk));
    group.flags[i] = 0;
    taken.push_back(i);
  }
  return !taken.empty();
}

bool Volume::Impl::take_checksums(std::uint32_t segment) {
  std::uint64_t completed = 0;
  {
    const std::lock_guard lock(mutex_);
    if (holds_ > 0 || closed_.load() || diff_flush_failed_.load()) return false;
    if (!segments_.is_unchecked(segment)) return true;
    segments_.forget_unchecked(segment);  // What comes from now on says so again.
    if (segments_.is_aside(segment) || !segments_.pin(segment)) return true;
    completed = completed_sequence_;
    ++busy_;  // quiesce() and close() wait for it.
  }
  const AreaView view = area_view();
  IndexReader reader(view);
  IndexScan scan;
  Status status = scan_segment(view, segment, reader, true, scan);
  const std::uint64_t generation = segments_.generation(segment);
  std::vector<std::pair<FoundGroup*, std::vector<std::uint32_t>>> changed;
  for (FoundGroup& found : scan.groups) {
    const format::GroupHeader& header = found.group.header;
    const bool ours = header.generation == generation && header.sequence <= completed &&
                      header.kind == format::GroupKind::records;
    std::vector<std::uint32_t> taken;
    if (ours && add_checksums(found.group, taken)) changed.emplace_back(&found, std::move(taken));
  }
  for (std::uint32_t turn = 0; turn < 2 && status && !changed.empty(); ++turn) {
    for (auto& [found, taken] : changed) {
      // Never the only good one first.
      const std::uint32_t place = turn ^ ((found->missing & 2U) != 0 ? 1U : 0U);
      if (status) status = write_group_at(diff_, layout_, area_, found->group, {&place, 1});
    }
    if (status) status = flush_diff();
  }
  for (const auto& [found, taken] : changed) {
    if (!status) break;
    const format::Group& group = found->group;
    std::uint32_t slot = group.header.first_slot;
    for (std::uint32_t i = 0; i < group.header.count; ++i) {
      if (!format::has_data(group.flags[i])) continue;
      const Home home = Home::data(segment, slot++);
      if (!std::binary_search(taken.begin(), taken.end(), i)) continue;
      std::atomic<std::uint32_t>* sums = segments_.checksums(home);
      for (std::size_t k = 0; k < layout_.checksums_per_chunk; ++k) {
        sums[k].store(group.checksums[i * layout_.checksums_per_chunk + k],
                      std::memory_order_relaxed);
      }
      map_.set_checked(group.chunks[i], group.header.epoch, home);
    }
  }
  Batch* list = nullptr;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [found, taken] : changed) tell_watches(found->group.chunks);
    if (segments_.drop(segment)) note_space();
    list = form_batches();
  }
  start(list);
  end_busy();
  return status.has_value();
}

}  // namespace umbra::cow
