// SPDX-License-Identifier: Apache-2.0
#include "provider/cow/index_scan.h"

#include <algorithm>
#include <string>

namespace umbra::cow {

std::uint32_t batch_chunks_of(std::uint32_t chunk_bytes) noexcept {
  return std::clamp(kBatchBytesMax / chunk_bytes, 1U, kBatchChunksMax);
}

Status read_at(block::Device& device, std::uint64_t offset_bytes, std::span<std::byte> out,
               const char* what) {
  block::Request read;
  read.op = block::Op::read;
  read.offset_bytes = offset_bytes;
  read.size_bytes = out.size();
  read.buffer = out.data();
  if (const int error = block::run(device, read); error != 0) {
    return fail(Errc::io_error,
                std::string("reading ") + what + ": errno " + std::to_string(error));
  }
  return {};
}

IndexReader::IndexReader(const AreaView& view) : view_(view) {
  for (std::uint32_t copy = 0; copy < 2; ++copy) {
    const std::size_t pieces =
        (view.layout.index_bytes + kPieceBytes[copy] - 1) / kPieceBytes[copy];
    places_[copy].buffer = make_aligned(view.layout.index_bytes);
    places_[copy].state.resize(pieces);
  }
}

void IndexReader::begin(std::uint32_t segment) {
  segment_ = segment;
  for (Place& place : places_) std::fill(place.state.begin(), place.state.end(), State::unknown);
}

Result<bool> IndexReader::decode(std::uint32_t copy, std::uint32_t unit, std::uint64_t generation,
                                 format::Group& out) {
  const format::Layout& layout = view_.layout;
  const std::uint64_t at = std::uint64_t{unit} * layout.unit_bytes;
  const std::uint64_t most =
      std::uint64_t{layout.group_units(view_.batch_chunks)} * layout.unit_bytes;
  const std::uint64_t end =
      std::min<std::uint64_t>(at + most, std::uint64_t{layout.index_units} * layout.unit_bytes);
  for (std::uint64_t piece = at / kPieceBytes[copy]; piece * kPieceBytes[copy] < end; ++piece) {
    if (Status loaded = load(copy, piece); !loaded) return fail(loaded.error());
  }
  const std::span<const std::byte> bytes(places_[copy].buffer.get() + at, end - at);
  return format::decode_group(layout, view_.area, segment_, unit, view_.chunk_count, bytes, out) &&
         out.header.generation >= generation;
}

Status IndexReader::load(std::uint32_t copy, std::uint64_t piece) {
  State& state = places_[copy].state[piece];
  if (state != State::unknown) return {};
  const std::uint64_t at = piece * kPieceBytes[copy];
  const std::span<std::byte> bytes(
      places_[copy].buffer.get() + at,
      std::min<std::uint64_t>(kPieceBytes[copy], view_.layout.index_bytes - at));
  const Status read =
      read_at(view_.diff, view_.layout.unit_offset(segment_, 0, copy) + at, bytes, "the index");
  state = read ? State::read : State::unreadable;
  if (read) return {};
  std::fill(bytes.begin(), bytes.end(), std::byte{0});
  const bool gone = copy == 1 && places_[0].state[at / kPieceBytes[0]] == State::unreadable;
  return gone ? read : Status{};
}

namespace {

void note_gaps(std::uint32_t segment, std::uint32_t index_units, std::size_t first_group,
               IndexScan& scan) {
  std::uint32_t unit = 0;
  const format::GroupHeader* previous = nullptr;
  for (std::size_t i = first_group; i < scan.groups.size(); ++i) {
    const format::GroupHeader& header = scan.groups[i].group.header;
    if (header.unit > unit) {
      IndexGap gap;
      gap.segment = segment;
      gap.unit = unit;
      gap.units = header.unit - unit;
      gap.generation = header.generation;
      gap.sequence = previous != nullptr ? previous->sequence + 1 : header.sequence - 1;
      gap.epoch_max = header.epoch;
      scan.gaps.push_back(gap);
    }
    unit = std::uint32_t{header.unit} + header.units;
    previous = &header;
  }
  if (previous == nullptr || unit >= index_units) return;
  if (previous->kind == format::GroupKind::end) return;
  IndexGap gap;
  gap.segment = segment;
  gap.unit = unit;
  gap.units = 1;
  gap.generation = previous->generation;
  gap.sequence = previous->sequence + 1;
  gap.epoch_max = format::kEpochMax;
  gap.tail = true;
  scan.gaps.push_back(gap);
}

}  // namespace

// Sequences run on from one use to the next, and ascend with the epochs. So the next group that is
// there, wherever it is, bounds the epochs of what is missing; and if it is the first of its use
// and only one number is missing before it, that was the group which says that the use is over.
// (Near the end of the index there may have been none of these, but another group.)
void judge_tails(const AreaView& view, IndexScan& scan) {
  const std::uint32_t most = view.layout.group_units(view.batch_chunks);
  for (IndexGap& gap : scan.gaps) {
    if (!gap.tail) continue;
    const format::GroupHeader* next = nullptr;
    std::uint64_t nearest = ~std::uint64_t{0};  // Of those with records: others may say no epoch.
    for (const FoundGroup& found : scan.groups) {
      const format::GroupHeader& header = found.group.header;
      if (header.sequence < gap.sequence || header.segment == gap.segment) continue;
      if (next == nullptr || header.sequence < next->sequence) next = &header;
      if (header.is_void() || header.sequence >= nearest) continue;
      nearest = header.sequence;
      gap.epoch_max = header.epoch;
    }
    const bool full = view.layout.index_units - gap.unit <= most;
    gap.dropped = gap.dropped || (next != nullptr && next->unit == 0 && !full &&
                                  next->sequence == gap.sequence + 1);
  }
}

// Reads a segment's index until it ends. At most kGroupsInFlightMax groups were in flight at any
// time, so a longer run of units without a group is the end.
Status scan_segment(const AreaView& view, std::uint32_t segment, IndexReader& reader, bool both,
                    IndexScan& scan) {
  const format::Layout& layout = view.layout;
  const std::uint32_t group_units_max = layout.group_units(view.batch_chunks);
  const std::uint32_t run_max = static_cast<std::uint32_t>(kGroupsInFlightMax) * group_units_max;
  const std::size_t first_group = scan.groups.size();
  std::uint64_t generation = 0;
  std::uint32_t run = 0;
  reader.begin(segment);
  for (std::uint32_t unit = 0; unit < layout.index_units && run <= run_max;) {
    FoundGroup found;
    const auto first = reader.decode(0, unit, generation, found.group);
    if (!first) return fail(first.error());
    bool present = *first;
    if (!present || both || unit < run_max) {
      format::Group other;
      const std::uint64_t least = present ? found.group.header.generation : generation;
      const auto second = reader.decode(1, unit, least, other);
      if (!second) return fail(second.error());
      if (!*second) found.missing |= 2U;
      if (!present || (*second && other.header.generation > least)) found.missing |= 1U;
      if (*second && (!present || other.header.generation > least)) {
        found.group = std::move(other);
        present = true;
      }
    }
    if (!present) {
      ++unit;
      ++run;
      continue;
    }
    if (found.group.header.generation > generation) {  // What came before is of an earlier use.
      generation = found.group.header.generation;
      scan.groups.resize(first_group);
    }
    found.mend = found.missing != 0;
    run = 0;
    unit += found.group.header.units;
    scan.groups.push_back(std::move(found));
  }
  note_gaps(segment, layout.index_units, first_group, scan);
  return {};
}

}  // namespace umbra::cow
