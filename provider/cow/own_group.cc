// SPDX-License-Identifier: Apache-2.0
//
// Groups that no live write waits for: what the recovery window writes into its snapshot, and what
// a revert has to remember. They take their place and their sequence like those of preserve.cc, but
// one at a time and waiting for the disk: kGroupsInFlightMax counts one of them.
//
// Here is also what both have in common: leaving out chunks that hold nothing but zeroes.
#include <cstring>

#include "engine/platform/assert.h"
#include "engine/platform/crc32c.h"
#include "provider/cow/core.h"

namespace umbra::cow {

void Volume::Impl::sum_chunk(std::span<const std::byte> chunk,
                             std::span<std::uint32_t> sums) const noexcept {
  for (std::size_t k = 0; k < sums.size(); ++k) {
    sums[k] = crc32c(chunk.subspan(k * format::kBlockBytes, format::kBlockBytes));
  }
}

// A volume's unused space mostly reads as zeroes, so the test is worth its price: it ends at the
// first byte that is none. What a device says of its holes is not asked, what was read counts.
std::uint32_t Volume::Impl::pack(std::byte* data, std::span<std::uint32_t> flags,
                                 std::span<std::uint32_t> checksums) const noexcept {
  const std::size_t chunk_bytes = layout_.chunk_bytes;
  const std::size_t per_chunk = layout_.checksums_per_chunk;
  std::uint32_t stored = 0;
  for (std::size_t i = 0; i < flags.size(); ++i) {
    const std::span<std::byte> chunk(data + i * chunk_bytes, chunk_bytes);
    const std::span<std::uint32_t> sums = checksums.subspan(i * per_chunk, per_chunk);
    if (format::is_zero(chunk)) {
      flags[i] = format::kEntryZeroes;
      std::fill(sums.begin(), sums.end(), 0);
      continue;
    }
    flags[i] = 0;
    sum_chunk(chunk, sums);
    // The slots are consecutive: what is stored moves up to where zeroes were left out.
    if (stored != i) std::memcpy(data + stored * chunk_bytes, chunk.data(), chunk_bytes);
    ++stored;
  }
  return stored;
}

void Volume::Impl::homes_of(const Segments::Place& place, std::span<const std::uint32_t> flags,
                            std::span<const std::uint32_t> checksums,
                            std::span<Home> homes) noexcept {
  const std::size_t per_chunk = layout_.checksums_per_chunk;
  std::uint32_t slot = place.first_slot;
  for (std::size_t i = 0; i < flags.size(); ++i) {
    if (!format::has_data(flags[i])) {
      const bool zeroes = (flags[i] & format::kEntryZeroes) != 0;
      homes[i] = {place.segment, 0, zeroes ? Home::Kind::zeroes : Home::Kind::nothing, false};
      continue;
    }
    homes[i] = Home::data(place.segment, slot++);
    homes[i].unchecked = (flags[i] & format::kEntryUnchecked) != 0;
    std::atomic<std::uint32_t>* sums = segments_.checksums(homes[i]);
    for (std::size_t k = 0; k < per_chunk; ++k) {
      sums[k].store(checksums[i * per_chunk + k], std::memory_order_relaxed);
    }
  }
}

Status Volume::Impl::write_diff(std::byte* buffer, std::uint64_t offset_bytes,
                                std::uint64_t size_bytes, const char* what) {
  block::Request write;
  write.op = block::Op::write;
  write.offset_bytes = offset_bytes;
  write.size_bytes = size_bytes;
  write.buffer = buffer;
  const int error = block::run(diff_, write);
  if (error == 0) return {};
  return fail(Errc::io_error, std::string("writing ") + what + ": errno " + std::to_string(error));
}

Result<Segments::Place> Volume::Impl::reserve_own(std::uint32_t count,
                                                  format::GroupHeader& header) {
  do {
    const std::lock_guard lock(mutex_);
    const auto place = segments_.reserve(count);
    if (!place) continue;
    // With the place: within a segment, the groups' sequences ascend.
    if (place->ended) ++next_sequence_;
    header.sequence = next_sequence_++;
    header.completed_sequence = completed_sequence_;
    header.durable_sequence = durable_sequence_;
    header.generation = place->generation;
    header.segment = place->segment;
    header.unit = static_cast<std::uint16_t>(place->unit);
    header.units = static_cast<std::uint16_t>(place->units);
    header.count = static_cast<std::uint16_t>(place->count);
    note_space();
    return *place;
  } while (make_room());
  return fail(Errc::insufficient_storage,
              "the diff area is full; make it larger, or delete shadow copies");
}

format::GroupHeader Volume::Impl::end_header(const Segments::Ended& ended,
                                             const format::GroupHeader& next) noexcept {
  format::GroupHeader header;
  header.kind = format::GroupKind::end;
  header.generation = ended.generation;
  header.sequence = next.sequence - 1;
  header.epoch = next.epoch;
  header.completed_sequence = next.completed_sequence;
  header.durable_sequence = next.durable_sequence;
  header.segment = ended.segment;
  header.unit = static_cast<std::uint16_t>(ended.unit);
  header.units = 1;
  return header;
}

void Volume::Impl::end_said(const Segments::Ended& ended, std::uint64_t next_sequence,
                            bool written) noexcept {
  if (written) {
    note_completed(next_sequence - 1);
  } else {
    sequence_stuck_ = true;  // See fail_batch().
  }
  if (segments_.drop(ended.segment)) note_space();
}

Status Volume::Impl::write_end(const Segments::Ended& ended, const format::GroupHeader& next) {
  const AlignedBuffer unit = make_aligned(layout_.unit_bytes);
  format::encode_group(layout_, area_, end_header(ended, next), {}, {},
                       {unit.get(), layout_.unit_bytes});
  Status status;
  for (std::uint32_t copy = 0; copy < 2 && status; ++copy) {
    status = write_diff(unit.get(), layout_.unit_offset(ended.segment, ended.unit, copy),
                        layout_.unit_bytes, "the end of an index");
  }
  return status;
}

Result<std::uint32_t> Volume::Impl::write_own_group(const OwnGroup& group, std::span<Home> homes) {
  UMBRA_ASSERT(!group.chunks.empty() && group.chunks.size() <= batch_chunks_);
  const std::lock_guard one_at_a_time(own_group_mutex_);
  format::GroupHeader header;
  header.kind = group.kind;
  header.durable = group.durable;
  header.epoch = group.epoch;
  auto place = reserve_own(static_cast<std::uint32_t>(group.chunks.size()), header);
  if (!place) return fail(place.error());
  const std::uint32_t count = place->count;
  std::vector<std::uint32_t> flags(count, format::kEntryChanged);
  std::vector<std::uint32_t> checksums(std::size_t{count} * layout_.checksums_per_chunk);
  const std::uint32_t stored = group.data != nullptr ? pack(group.data, flags, checksums) : 0;
  {
    const std::lock_guard lock(mutex_);
    segments_.place_data(*place, stored);
  }
  header.first_slot = static_cast<std::uint16_t>(place->first_slot);
  const std::size_t index_bytes = std::size_t{place->units} * layout_.unit_bytes;
  const AlignedBuffer index = make_aligned(index_bytes);
  format::encode_group(layout_, area_, header, group.chunks.first(count), checksums,
                       {index.get(), index_bytes}, flags);
  const Status ended = place->ended ? write_end(*place->ended, header) : Status{};
  Status status;
  if (stored > 0) {
    status = write_diff(group.data, layout_.slot_offset(place->segment, place->first_slot),
                        std::uint64_t{stored} * layout_.chunk_bytes, "a chunk");
  }
  for (std::uint32_t copy = 0; copy < 2 && status; ++copy) {
    status = write_diff(index.get(), layout_.unit_offset(place->segment, place->unit, copy),
                        index_bytes, "the index");
  }
  if (status) homes_of(*place, flags, checksums, homes);
  const std::lock_guard lock(mutex_);
  if (place->ended) end_said(*place->ended, header.sequence, ended.has_value());
  if (status) {
    note_completed(header.sequence);
    return count;
  }
  sequence_stuck_ = true;  // See fail_batch().
  for (std::uint32_t i = 0; i < count; ++i) (void)segments_.drop(place->segment);
  segments_.close(place->segment);
  return fail(status.error());
}

}  // namespace umbra::cow
