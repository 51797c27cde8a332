// SPDX-License-Identifier: Apache-2.0
//
// open(): the index of the segments. Reads both places of it, tells what a crash left from damage,
// compares the data of the last groups with their checksums, and writes again what is in one place
// only. What it decides is in docs/formats/diff-area.md, "Awkward cases".
#include <algorithm>

#include "engine/platform/assert.h"
#include "provider/cow/blobs.h"
#include "provider/cow/recovery.h"
#include "provider/format/crc32c.h"

namespace umbra::cow {

// --- the index -------------------------------------------------------------------------------

// The two places of a segment's index, read in pieces as they are asked for. What cannot be read in
// one place is sought in the other.
class Volume::Impl::IndexReader {
 public:
  explicit IndexReader(Impl& impl) : impl_(impl) {
    for (std::uint32_t copy = 0; copy < 2; ++copy) {
      const std::size_t pieces =
          (impl.layout_.index_bytes + kPieceBytes[copy] - 1) / kPieceBytes[copy];
      places_[copy].buffer = make_aligned(impl.layout_.index_bytes);
      places_[copy].state.resize(pieces);
    }
  }

  void begin(std::uint32_t segment) {
    segment_ = segment;
    for (Place& place : places_) std::fill(place.state.begin(), place.state.end(), State::unknown);
  }

  /// The group at `unit` in one place, if it is of `generation` or a later one.
  [[nodiscard]] Result<bool> decode(std::uint32_t copy, std::uint32_t unit,
                                    std::uint64_t generation, format::Group& out) {
    const format::Layout& layout = impl_.layout_;
    const std::uint64_t at = std::uint64_t{unit} * layout.unit_bytes;
    const std::uint64_t most =
        std::uint64_t{layout.group_units(impl_.batch_chunks_)} * layout.unit_bytes;
    const std::uint64_t end =
        std::min<std::uint64_t>(at + most, std::uint64_t{layout.index_units} * layout.unit_bytes);
    for (std::uint64_t piece = at / kPieceBytes[copy]; piece * kPieceBytes[copy] < end; ++piece) {
      if (Status loaded = load(copy, piece); !loaded) return fail(loaded.error());
    }
    const std::span<const std::byte> bytes(places_[copy].buffer.get() + at, end - at);
    return format::decode_group(layout, impl_.area_, segment_, unit, impl_.chunk_count_, bytes,
                                out) &&
           out.header.generation >= generation;
  }

 private:
  enum class State : std::uint8_t { unknown, read, unreadable };
  // Little of the second place is wanted at a time.
  static constexpr std::array<std::uint64_t, 2> kPieceBytes = {kRecoveryReadBytes, 16U << 10U};
  static_assert(kRecoveryReadBytes % (16U << 10U) == 0);

  [[nodiscard]] Status load(std::uint32_t copy, std::uint64_t piece) {
    State& state = places_[copy].state[piece];
    if (state != State::unknown) return {};
    const std::uint64_t at = piece * kPieceBytes[copy];
    const std::span<std::byte> bytes(
        places_[copy].buffer.get() + at,
        std::min<std::uint64_t>(kPieceBytes[copy], impl_.layout_.index_bytes - at));
    const Status read =
        read_at(impl_.diff_, impl_.layout_.unit_offset(segment_, 0, copy) + at, bytes, "the index");
    state = read ? State::read : State::unreadable;
    if (read) return {};
    std::fill(bytes.begin(), bytes.end(), std::byte{0});
    const bool gone = copy == 1 && places_[0].state[at / kPieceBytes[0]] == State::unreadable;
    return gone ? read : Status{};
  }

  struct Place {
    AlignedBuffer buffer;
    std::vector<State> state;  // Of each piece.
  };
  Impl& impl_;
  std::uint32_t segment_ = 0;
  std::array<Place, 2> places_;
};

// The numbers of groups from `first` on: none is given out twice.
void Volume::Impl::note_numbers(std::size_t first, Scan& scan) {
  for (std::size_t i = first; i < scan.groups.size(); ++i) {
    const format::GroupHeader& header = scan.groups[i].group.header;
    scan.sequence_max = std::max(scan.sequence_max, header.sequence);
    scan.epoch_max = std::max(scan.epoch_max, header.epoch);
    scan.trusted = std::max(scan.trusted,
                            scan.same_boot ? header.completed_sequence : header.durable_sequence);
  }
}

Status Volume::Impl::scan_segments(Scan& scan) {
  IndexReader reader(*this);
  for (std::uint64_t i = 0; i < segments_.count(); ++i) {
    const auto segment = static_cast<std::uint32_t>(i);
    const bool holds_blobs = blobs_->holds(segment);
    if (segments_.is_aside(segment) && !holds_blobs) continue;
    const std::size_t groups = scan.groups.size();
    const std::size_t gaps = scan.gaps.size();
    if (Status scanned = scan_segment(segment, reader, scan); !scanned) return scanned;
    note_numbers(groups, scan);
    if (!holds_blobs) continue;
    // Of an earlier use. It will be free again one day, and its numbers must not be new then.
    scan.groups.resize(groups);
    scan.gaps.resize(gaps);
  }
  return {};
}

// Reads a segment's index until it ends. At most kBatchesMax groups were in flight at any time, so
// a longer run of units without a group is the end.
Status Volume::Impl::scan_segment(std::uint32_t segment, IndexReader& reader, Scan& scan) {
  const std::uint32_t group_units_max = layout_.group_units(batch_chunks_);
  const std::uint32_t run_max = static_cast<std::uint32_t>(kBatchesMax) * group_units_max;
  const std::size_t first_group = scan.groups.size();
  std::uint64_t generation = 0;
  std::uint32_t run = 0;
  reader.begin(segment);
  for (std::uint32_t unit = 0; unit < layout_.index_units && run <= run_max;) {
    Scan::Found found;
    const auto first = reader.decode(0, unit, generation, found.group);
    if (!first) return fail(first.error());
    bool present = *first;
    if (!present || unit < run_max) {
      format::Group other;
      const std::uint64_t least = present ? found.group.header.generation : generation;
      const auto second = reader.decode(1, unit, least, other);
      if (!second) return fail(second.error());
      found.mend = present != *second || (*second && other.header.generation > least);
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
    run = 0;
    unit += found.group.header.units;
    scan.groups.push_back(std::move(found));
  }
  note_gaps(segment, first_group, scan);
  return {};
}

void Volume::Impl::note_gaps(std::uint32_t segment, std::size_t first_group, Scan& scan) {
  std::uint32_t unit = 0;
  const format::GroupHeader* previous = nullptr;
  for (std::size_t i = first_group; i < scan.groups.size(); ++i) {
    const format::GroupHeader& header = scan.groups[i].group.header;
    if (header.unit > unit) {
      Scan::Gap gap;
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
}

// --- the tail --------------------------------------------------------------------------------

Result<bool> Volume::Impl::data_matches(const format::Group& group, std::span<std::byte> chunk) {
  std::uint32_t slot = group.header.first_slot;
  for (std::uint32_t i = 0; i < group.header.count; ++i) {
    if (!format::has_data(group.flags[i])) continue;
    const std::uint64_t at = layout_.slot_offset(group.header.segment, slot++);
    if ((group.flags[i] & format::kEntryUnchecked) != 0) continue;  // Nothing to compare with.
    const Status read = read_at(diff_, at, chunk, "the last group's data");
    if (!read) return fail(read.error());
    for (std::uint32_t k = 0; k < layout_.checksums_per_chunk; ++k) {
      const auto granule = chunk.subspan(std::size_t{k} * format::kBlockBytes, format::kBlockBytes);
      if (format::crc32c(granule) !=
          group.checksums[std::size_t{i} * layout_.checksums_per_chunk + k]) {
        return false;
      }
    }
  }
  return true;
}

Status Volume::Impl::verify_tail(Scan& scan) {
  const AlignedBuffer chunk = make_aligned(layout_.chunk_bytes);
  std::vector<Scan::Found> kept;
  kept.reserve(scan.groups.size());
  for (Scan::Found& found : scan.groups) {
    const format::GroupHeader& header = found.group.header;
    const bool untold = header.sequence > scan.trusted;
    if (untold && !header.is_void() && (scan.same_boot || header.durable)) {
      const auto whole = data_matches(found.group, {chunk.get(), layout_.chunk_bytes});
      if (!whole) return fail(whole.error());
      if (!*whole) {
        Scan::Gap gap;
        gap.segment = header.segment;
        gap.unit = header.unit;
        gap.units = header.units;
        gap.generation = header.generation;
        gap.sequence = header.sequence;
        gap.dropped = true;
        scan.gaps.push_back(gap);
        continue;
      }
    }
    found.mend = found.mend || untold;
    kept.push_back(std::move(found));
  }
  scan.groups = std::move(kept);
  return {};
}

// Both places are tried, whatever becomes of the first.
Status Volume::Impl::write_group(const format::Group& group) {
  const format::GroupHeader& header = group.header;
  const std::size_t size = std::size_t{header.is_void() ? 1U : header.units} * layout_.unit_bytes;
  const AlignedBuffer buffer = make_aligned(size);
  format::encode_group(layout_, area_, header, group.chunks, group.checksums, {buffer.get(), size},
                       group.flags);
  int error = 0;
  for (std::uint32_t copy = 0; copy < 2; ++copy) {
    block::Request write;
    write.op = block::Op::write;
    write.offset_bytes = layout_.unit_offset(header.segment, header.unit, copy);
    write.size_bytes = size;
    write.buffer = buffer.get();
    if (const int failed = block::run(diff_, write); failed != 0) error = failed;
  }
  if (error == 0) return {};
  return fail(Errc::io_error, "writing to the index: errno " + std::to_string(error));
}

Status Volume::Impl::void_gaps(Scan& scan) {
  for (const Scan::Gap& gap : scan.gaps) {
    if (!gap.dropped && gap.sequence <= scan.trusted) {
      scan.lost_up_to_epoch = std::max(scan.lost_up_to_epoch, gap.epoch_max);
    }
    format::Group cover;
    cover.header.kind = format::GroupKind::none;
    cover.header.generation = gap.generation;
    cover.header.sequence = gap.sequence;
    cover.header.epoch = gap.epoch_max;
    cover.header.segment = gap.segment;
    cover.header.unit = static_cast<std::uint16_t>(gap.unit);
    cover.header.units = static_cast<std::uint16_t>(gap.units);
    if (Status written = write_group(cover); !written) return written;
  }
  for (const Scan::Found& found : scan.groups) {
    if (!found.mend) continue;
    metadata_repairs_.fetch_add(1);
    // It is in one place: that the other cannot be written costs no more than that.
    if (const Status written = write_group(found.group); !written) {
      log_.warning("a group of the index is in one place only",
                   {{"volume", id().to_string()}, {"error", written.error().to_string()}});
    }
  }
  // Also makes durable what a killed predecessor left in the page cache: from here on, everything
  // that was kept is trusted.
  return flush_diff();
}

}  // namespace umbra::cow
