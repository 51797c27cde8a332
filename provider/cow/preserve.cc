// SPDX-License-Identifier: Apache-2.0
//
// Copies: how the old content of a chunk gets into the diff area before the origin changes.
//
//   claim -> form a group -> read origin -> write data and index -> (flush) -> publish -> resume
//
// (sharing.cc has another way to the data: share it, and flush, before the index is written.)
//
// The origin write is submitted only after the record was published, that is, after data and index
// have completed, and after a flush has too when a persistent snapshot could resolve through it. A
// crash between any two steps leaves either no record and an unchanged origin, or a record that
// equals the origin.
//
// Groups form by themselves: what a chain of requests needs is claimed first and leaves together,
// and while all batches are in flight, further copies queue up for the next one.
//
// When a copy fails, losses.cc decides what becomes of the snapshots that need it; when there is no
// space for it, space.cc finds some.
#include <algorithm>
#include <cerrno>
#include <cstring>

#include "engine/platform/assert.h"
#include "engine/platform/crc32c.h"
#include "provider/cow/core.h"

namespace umbra::cow {

// --- waiting and claiming --------------------------------------------------------------------

bool Volume::Impl::wait_for_copies(block::Request& request) noexcept {
  const std::lock_guard lock(mutex_);
  Copy* wait_on = nullptr;
  bool starved = false;
  bool unnoted = false;
  const std::uint64_t last = chunk_of(request.offset_bytes + request.size_bytes - 1);
  for (std::uint64_t chunk = chunk_of(request.offset_bytes); chunk <= last; ++chunk) {
    if (is_done(chunk)) continue;
    // The change is noted and the old content copied side by side; a write waits for both.
    const bool noted = changes_.noted(chunk);
    if (!noted) want_note(chunk);
    if (!needs_copy(chunk)) {
      if (noted) set_done(chunk);
      unnoted = unnoted || !noted;
      continue;
    }
    Copy* copy = find_copy(chunk);
    // One that is on its way all the same is waited for: it reads the origin.
    if (copy == nullptr && is_exempt(chunk)) {
      if (noted) set_done(chunk);
      if (noted) free_chunks_written_.fetch_add(1, std::memory_order_relaxed);
      unnoted = unnoted || !noted;
      continue;
    }
    if (copy == nullptr) copy = claim(chunk);
    if (copy == nullptr) {
      starved = true;
      break;
    }
    if (wait_on == nullptr) wait_on = copy;
  }
  if (wait_on == nullptr && !starved && !unnoted) return false;
  // All copies go on side by side; whoever waits looks again when the first has ended.
  (wait_on != nullptr ? wait_on->waiters : starved ? starved_ : unnoted_).push(request);
  return true;
}

void Volume::Impl::start_claimed() noexcept {
  Batch* list = nullptr;
  {
    const std::lock_guard lock(mutex_);
    list = form_batches();
  }
  start(list);
}

bool Volume::Impl::is_done(std::uint64_t chunk) const noexcept {
  if (living_.empty() && !changes_.tracking()) return true;
  const std::uint64_t word = current_bits_[chunk / 64].load(std::memory_order_relaxed);
  return (word >> (chunk % 64) & 1U) != 0;
}

bool Volume::Impl::needs_copy(std::uint64_t chunk) const noexcept {
  // The record may be older than a snapshot that was removed or lost since.
  return !living_.empty() && !map_.find(chunk, *living_.rbegin());
}

void Volume::Impl::set_done(std::uint64_t chunk) noexcept {
  changes_.touch(chunk);
  current_bits_[chunk / 64].fetch_or(std::uint64_t{1} << (chunk % 64), std::memory_order_release);
}

Copy* Volume::Impl::find_copy(std::uint64_t chunk) noexcept {
  Copy* copy = copy_buckets_[chunk % copy_buckets_.size()];
  while (copy != nullptr && copy->chunk != chunk) copy = copy->hash_next;
  return copy;
}

Copy* Volume::Impl::claim(std::uint64_t chunk) noexcept {
  Copy* copy = free_copies_.pop();
  if (copy == nullptr) return nullptr;
  copy->chunk = chunk;
  copy->removals = removals_;
  Copy*& bucket = copy_buckets_[chunk % copy_buckets_.size()];
  copy->hash_next = std::exchange(bucket, copy);
  claimed_.push(*copy);
  return copy;
}

void Volume::Impl::forget_copy(Copy& copy) noexcept {
  Copy** link = &copy_buckets_[copy.chunk % copy_buckets_.size()];
  while (*link != &copy) link = &(*link)->hash_next;
  *link = copy.hash_next;
  free_copies_.push(copy);
}

// --- forming groups --------------------------------------------------------------------------

Volume::Impl::Batch* Volume::Impl::form_batches() noexcept {
  Batch* list = nullptr;
  while (claimed_.head != nullptr && free_batches_ != nullptr && !closed_.load()) {
    Batch* batch = free_batches_;
    if (!form_batch(*batch)) break;
    free_batches_ = batch->next;
    batch->next = std::exchange(list, batch);
    ++busy_;
  }
  return list;
}

bool Volume::Impl::form_batch(Batch& batch) noexcept {
  std::uint32_t waiting = 0;
  for (Copy* copy = claimed_.head; copy != nullptr && waiting < batch_chunks_;
       copy = copy->queue_next) {
    ++waiting;
  }
  const std::uint64_t ready = segments_.free_count();
  const auto place = segments_.reserve(waiting);
  if (!place) {
    out_of_space();
    return false;
  }
  space_.starved_since.reset();
  if (segments_.free_count() != ready) {
    space_.rate.note(clock_.now(), layout_.segment_bytes);
    note_space();
  }
  batch.place = *place;
  batch.epoch = epoch_;
  if (place->ended) ++next_sequence_;
  batch.sequence = next_sequence_++;
  batch.completed_sequence = completed_sequence_;
  batch.durable_sequence = durable_sequence_;
  batch.removals = removals_;
  batch.durable = false;
  for (std::uint32_t i = 0; i < place->count; ++i) batch.copies[i] = claimed_.pop();
  std::sort(batch.copies.begin(), batch.copies.begin() + place->count,
            [](const Copy* a, const Copy* b) { return a->chunk < b->chunk; });
  for (std::uint32_t i = 0; i < place->count; ++i) {
    batch.chunks[i] = batch.copies[i]->chunk;
    batch.removals = std::min(batch.removals, batch.copies[i]->removals);
    batch.durable = batch.durable || needs_flush(batch.chunks[i]);
  }
  batch.error.store(0, std::memory_order_relaxed);
  batch.end_error.store(0, std::memory_order_relaxed);
  batch.placed = batch.sharing = begin_sharing(batch);
  looked_ = false;
  return true;
}

bool Volume::Impl::needs_flush(std::uint64_t chunk) const noexcept {
  return !living_persistent_.empty() && !map_.find(chunk, *living_persistent_.rbegin());
}

// --- one group -------------------------------------------------------------------------------

void Volume::Impl::start(Batch* list) noexcept {
  while (list != nullptr) {
    Batch* const next = list->next;
    if (list->sharing) {
      start_shares(*list);
    } else {
      start_reads(*list);
    }
    list = next;
  }
}

void Volume::Impl::start_reads(Batch& batch) noexcept {
  RequestQueue queue;
  std::uint32_t runs = 0;
  const std::uint32_t count = batch.place.count;
  for (std::uint32_t i = 0; i < count;) {
    const std::uint32_t end = end_of_run({batch.chunks.data(), count}, i);
    block::Request& read = batch.reads[runs++];
    read = {};
    read.op = block::Op::read;
    read.offset_bytes = batch.chunks[i] * layout_.chunk_bytes;
    read.buffer = batch.data.get() + std::size_t{i} * layout_.chunk_bytes;
    const std::uint64_t whole = std::uint64_t{end - i} * layout_.chunk_bytes;
    read.size_bytes = std::min(whole, origin_geometry_.size_bytes - read.offset_bytes);
    // The last chunk of the volume may be a part: the rest is zeroes.
    std::memset(read.buffer + read.size_bytes, 0, whole - read.size_bytes);
    read.owner = &batch;
    read.complete = [](block::Request& done) noexcept {
      auto& owner = *static_cast<Batch*>(done.owner);
      if (done.error != 0) owner.error.store(done.error);
      if (owner.outstanding.fetch_sub(1) == 1) owner.impl->reads_done(owner);
    };
    queue.push(read);
    i = end;
  }
  batch.outstanding.store(runs);
  origin_.submit(*queue.take());
}

void Volume::Impl::reads_done(Batch& batch) noexcept {
  if (batch.error.load() != 0) {
    fail_batch(batch, Fault::cow_read_failure);
    return;
  }
  const std::uint32_t count = batch.place.count;
  const std::size_t sums = std::size_t{count} * layout_.checksums_per_chunk;
  std::uint32_t stored = count;
  if (batch.placed) {  // It was to be shared: where each chunk goes is settled.
    std::fill_n(batch.flags.begin(), count, 0);
    for (std::size_t i = 0; i < count; ++i) {
      sum_chunk({batch.data.get() + i * layout_.chunk_bytes, layout_.chunk_bytes},
                std::span(batch.checksums)
                    .subspan(i * layout_.checksums_per_chunk, layout_.checksums_per_chunk));
    }
  } else {
    stored = pack(batch.data.get(), {batch.flags.data(), count}, {batch.checksums.data(), sums});
    const std::lock_guard lock(mutex_);
    segments_.place_data(batch.place, stored);
  }
  write_batch(batch, stored);
}

void Volume::Impl::write_batch(Batch& batch, std::uint32_t stored) noexcept {
  const std::uint32_t count = batch.place.count;
  const std::size_t sums = std::size_t{count} * layout_.checksums_per_chunk;
  const std::size_t data_bytes = std::size_t{stored} * layout_.chunk_bytes;
  format::GroupHeader header;
  header.durable = batch.durable;
  header.generation = batch.place.generation;
  header.sequence = batch.sequence;
  header.epoch = batch.epoch;
  header.completed_sequence = batch.completed_sequence;
  header.durable_sequence = batch.durable_sequence;
  header.segment = batch.place.segment;
  header.unit = static_cast<std::uint16_t>(batch.place.unit);
  header.units = static_cast<std::uint16_t>(batch.place.units);
  header.first_slot = static_cast<std::uint16_t>(batch.place.first_slot);
  header.count = static_cast<std::uint16_t>(count);
  const std::size_t index_bytes = std::size_t{batch.place.units} * layout_.unit_bytes;
  format::encode_group(layout_, area_, header, {batch.chunks.data(), count},
                       {batch.checksums.data(), sums}, {batch.index.get(), index_bytes},
                       {batch.flags.data(), count});

  const auto prepare_write = [&](block::Request& write, std::byte* buffer, std::size_t size_bytes,
                                 std::uint64_t offset_bytes) {
    write = {};
    write.op = block::Op::write;
    write.buffer = buffer;
    write.size_bytes = size_bytes;
    write.offset_bytes = offset_bytes;
    write.owner = &batch;
    write.complete = [](block::Request& done) noexcept {
      auto& owner = *static_cast<Batch*>(done.owner);
      if (done.error != 0) owner.error.store(done.error);
      if (owner.outstanding.fetch_sub(1) == 1) owner.impl->writes_done(owner);
    };
  };
  prepare_write(batch.write_data, batch.data.get(), data_bytes,
                layout_.slot_offset(batch.place.segment, batch.place.first_slot));
  for (std::uint32_t copy = 0; copy < 2; ++copy) {
    prepare_write(batch.write_index[copy], batch.index.get(), index_bytes,
                  layout_.unit_offset(batch.place.segment, batch.place.unit, copy));
  }
  batch.write_data.next = &batch.write_index[0];
  batch.write_index[0].next = &batch.write_index[1];
  if (batch.place.ended) prepare_end(batch, header);
  batch.outstanding.store((stored > 0 ? 3U : 2U) + (batch.place.ended ? 2U : 0U));
  diff_.submit(stored > 0 ? batch.write_data : batch.write_index[0]);
}

// If it cannot be written, that costs nobody a snapshot.
void Volume::Impl::prepare_end(Batch& batch, const format::GroupHeader& next) noexcept {
  const std::size_t unit_bytes = layout_.unit_bytes;
  const format::GroupHeader header = end_header(*batch.place.ended, next);
  format::encode_group(layout_, area_, header, {}, {}, {batch.end.get(), unit_bytes});
  for (std::uint32_t copy = 0; copy < 2; ++copy) {
    block::Request& write = batch.write_end[copy];
    write = {};
    write.op = block::Op::write;
    write.buffer = batch.end.get();
    write.size_bytes = unit_bytes;
    write.offset_bytes = layout_.unit_offset(header.segment, header.unit, copy);
    write.owner = &batch;
    write.complete = [](block::Request& done) noexcept {
      auto& owner = *static_cast<Batch*>(done.owner);
      if (done.error != 0) owner.end_error.store(done.error);
      if (owner.outstanding.fetch_sub(1) == 1) owner.impl->writes_done(owner);
    };
  }
  batch.write_index[1].next = &batch.write_end[0];
  batch.write_end[0].next = &batch.write_end[1];
}

void Volume::Impl::writes_done(Batch& batch) noexcept {
  if (batch.place.ended) {
    const std::lock_guard lock(mutex_);
    end_said(*batch.place.ended, batch.sequence, batch.end_error.load() == 0);
    batch.place.ended.reset();
  }
  if (batch.error.load() != 0) {
    fail_batch(batch, Fault::cow_write_failure);
    return;
  }
  groups_written_.fetch_add(1, std::memory_order_relaxed);
  {
    const std::lock_guard lock(mutex_);
    note_completed(batch.sequence);
  }
  if (batch.durable) {
    flush_then(batch, &Impl::publish);
  } else {
    publish(batch);
  }
}

void Volume::Impl::flush_then(Batch& batch, void (Impl::*next)(Batch&) noexcept) noexcept {
  if (diff_flush_failed_.load()) {
    batch.error.store(EIO);
    fail_batch(batch, Fault::io_failure);
    return;
  }
  {
    const std::lock_guard lock(mutex_);
    batch.durable_after_flush = completed_sequence_;
  }
  batch.after_flush = next;
  batch.flush = {};
  batch.flush.op = block::Op::flush;
  batch.flush.owner = &batch;
  batch.flush.complete = [](block::Request& done) noexcept {
    auto& owner = *static_cast<Batch*>(done.owner);
    Impl& impl = *owner.impl;
    if (done.error != 0 || impl.diff_flush_failed_.load()) {
      // Pages may be clean and lost: no other flush, not even one that was under way beside this
      // one, may turn this into success.
      impl.diff_flush_failed_.store(true);
      owner.error.store(done.error != 0 ? done.error : EIO);
      impl.fail_batch(owner, Fault::io_failure);
      return;
    }
    impl.diff_flushes_.fetch_add(1, std::memory_order_relaxed);
    {
      const std::lock_guard lock(impl.mutex_);
      impl.durable_sequence_ = std::max(impl.durable_sequence_, owner.durable_after_flush);
    }
    (impl.*owner.after_flush)(owner);
  };
  diff_.submit(batch.flush);
}

void Volume::Impl::publish(Batch& batch) noexcept {
  const Segments::Place& place = batch.place;
  std::uint32_t known = 0;
  std::array<Home, kBatchChunksMax> homes;
  homes_of(place, {batch.flags.data(), place.count}, batch.checksums, {homes.data(), place.count});
  for (std::uint32_t i = 0; i < place.count; ++i) {
    if (!map_.insert(batch.chunks[i], batch.epoch, homes[i])) ++known;
  }
  chunks_preserved_.fetch_add(place.count, std::memory_order_relaxed);
  RequestQueue waiters;
  Batch* list = nullptr;
  const std::uint64_t epoch = batch.epoch;
  {
    const std::lock_guard lock(mutex_);
    // Who needed these records may have gone before they could be told about it.
    if (batch.removals != removals_) note_unpruned(epoch);
    if (batch.sharing) {
      segments_.note_unchecked(place.segment);
      post_checksums();
    }
    for (; known > 0; --known) (void)segments_.drop(place.segment);
    // In a newer epoch than the record's the chunk is not preserved; its writers test again.
    const bool current = !living_.empty() && epoch >= *living_.rbegin();
    tell_watches({batch.chunks.data(), place.count});
    for (std::uint32_t i = 0; i < place.count; ++i) {
      if (current && changes_.noted(batch.chunks[i])) set_done(batch.chunks[i]);
      waiters.append(batch.copies[i]->waiters);
      forget_copy(*batch.copies[i]);
    }
    waiters.append(starved_);
    retire(batch);
    list = form_batches();
    ++busy_;  // Until the waiters are issued: close() must not overtake us.
  }
  start(list);
  resume(waiters);
  end_busy();
}

void Volume::Impl::retire(Batch& batch) noexcept {
  batch.next = std::exchange(free_batches_, &batch);
  --busy_;
  if (busy_ == 0) idle_.notify_all();
}

void Volume::Impl::end_busy() noexcept {
  const std::lock_guard lock(mutex_);
  --busy_;
  if (busy_ == 0) idle_.notify_all();
}

void Volume::Impl::note_completed(std::uint64_t sequence) noexcept {
  if (sequence_stuck_) return;
  completed_ahead_.insert(
      std::upper_bound(completed_ahead_.begin(), completed_ahead_.end(), sequence), sequence);
  std::size_t used = 0;
  while (used < completed_ahead_.size() && completed_ahead_[used] == completed_sequence_ + 1) {
    ++completed_sequence_;
    ++used;
  }
  completed_ahead_.erase(completed_ahead_.begin(),
                         completed_ahead_.begin() + static_cast<std::ptrdiff_t>(used));
}

// --- rare, blocking work ---------------------------------------------------------------------

void Volume::Impl::post(void (Impl::*job)()) noexcept {
  executor_->post([self = shared_from_this(), job] {
    {
      const std::lock_guard lock(self->mutex_);
      if (self->closed_.load()) return;
      ++self->busy_;
    }
    (*self.*job)();
    self->end_busy();
  });
}

}  // namespace umbra::cow
