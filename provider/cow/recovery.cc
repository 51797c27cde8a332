// SPDX-License-Identifier: Apache-2.0
//
// open(): from the bytes of a diff area to the map of its records.
//
// Groups are trusted up to the highest number that a later structure vouches for: "completed" after
// kill -9 (same boot: everything that completed is in the page cache), "durable" after a power cut.
// The few beyond that were in flight at the end; their data is read and compared with the checksums
// in the index. One that does not match was never published, so no origin write followed it: it is
// dropped. After a power cut only groups that a persistent snapshot could need are checked: the
// others belong to auto-release snapshots, which are gone.
//
// What was dropped, and the gaps that groups in flight left in the index, is covered with void
// groups and flushed before anything new is written: otherwise a later group would one day vouch
// for it. A gap whose number was vouched for is damage: which records it held is not known, so
// every snapshot that could resolve through it is lost.
//
// Every step can be cut and repeated: nothing that a second recovery needs is changed before it is
// done. Segments that were open are not continued.
#include <algorithm>
#include <unordered_set>

#include "engine/platform/assert.h"
#include "provider/cow/core.h"
#include "provider/format/crc32c.h"

namespace umbra::cow {

using format::SlotState;

namespace {

constexpr std::uint64_t kReadBytes = 256U << 10U;
constexpr unsigned kGenerationShift = 32;  // Opens above, segments taken into use below.

[[nodiscard]] Status read_at(block::Device& device, std::uint64_t offset_bytes,
                             std::span<std::byte> out, const char* what) {
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

}  // namespace

struct Volume::Impl::Scan {
  struct Gap {
    std::uint32_t segment = 0;
    std::uint32_t unit = 0;
    std::uint32_t units = 0;
    std::uint64_t generation = 0;
    std::uint64_t sequence = 0;   // Of the first group missing here, as far as known.
    std::uint64_t epoch_max = 0;  // Of records that may have been here.
    bool dropped = false;         // By us: never published.
  };
  struct Found {
    format::Group group;
    bool mend = false;  // It is not in both places, or nobody knows.
  };
  std::vector<Found> groups;
  std::vector<Gap> gaps;
  std::vector<format::SnapshotSlot> slots_to_mend;  // Free ones; others are written with theirs.
  std::set<std::uint64_t> epochs_to_mend;           // Of snapshots whose two slots differ.
  std::uint64_t trusted = 0;
  std::uint64_t sequence_max = 0;
  std::uint64_t epoch_max = 0;
  std::uint64_t lost_up_to_epoch = 0;  // Snapshots up to here may have lost records.
  bool same_boot = false;
};

Status Volume::Impl::recover() {
  const std::lock_guard table(table_mutex_);
  Scan scan;
  scan.same_boot = superblock_.boot_id == options_.boot_id;
  scan.trusted = superblock_.trusted_sequence;
  scan.sequence_max = superblock_.trusted_sequence;
  segments_.grow_to(layout_.segments_in(diff_.geometry().size_bytes));
  if (Status read = read_table(scan); !read) return read;
  if (Status scanned = scan_segments(scan); !scanned) return scanned;
  if (Status verified = verify_tail(scan); !verified) return verified;
  if (Status voided = void_gaps(scan); !voided) return voided;
  if (Status settled = settle_stages(scan); !settled) return settled;
  load(scan);
  superblock_.boot_id = options_.boot_id;
  ++superblock_.open_count;
  superblock_.trusted_sequence = completed_sequence_;
  segments_.start_generations(superblock_.open_count << kGenerationShift);
  if (Status written = write_superblock(false); !written) return written;
  if (const std::uint64_t repairs = metadata_repairs_.load(); repairs > 0) {
    log_.warning("metadata that was damaged or unfinished in one of its two places is whole again",
                 {{"volume", id().to_string()}, {"places", repairs}});
  }
  return {};
}

// --- the snapshot table ----------------------------------------------------------------------

Status Volume::Impl::read_table(Scan& scan) {
  for (const std::uint32_t segment : superblock_.table_segments) {
    if (segment >= segments_.count() || segments_.is_table(segment)) {
      return fail(Errc::diff_area_corrupt,
                  "the superblock names a wrong segment of the snapshot table");
    }
    segments_.restore_table(segment);
  }
  table_.resize(table_slots());
  constexpr std::uint64_t kSlotBytes = std::uint64_t{2} * format::kBlockBytes;
  constexpr std::uint32_t kAtATime = kReadBytes / kSlotBytes;
  static_assert(format::kTableSlots % kAtATime == 0);  // Every piece lies in one place.
  const AlignedBuffer piece = make_aligned(kReadBytes);
  for (std::uint32_t first = 0; first < table_.size(); first += kAtATime) {
    const Status read = read_at(diff_, layout_.table_offset(superblock_.table_segments, first, 0),
                                {piece.get(), kReadBytes}, "the snapshot table");
    if (!read) return read;
    for (std::uint32_t i = 0; i < kAtATime; ++i) {
      const Status good = read_slot(first + i, {piece.get() + i * kSlotBytes, kSlotBytes}, scan);
      if (!good) return good;
    }
  }
  return {};
}

// One damaged copy is a write that was cut, or it was damaged later: the other one counts.
Status Volume::Impl::read_slot(std::uint32_t index, std::span<const std::byte> both, Scan& scan) {
  std::optional<format::SnapshotSlot> newest;
  unsigned damaged = 0;
  for (std::uint32_t copy = 0; copy < 2; ++copy) {
    const format::ConstBlock bytes(both.data() + std::size_t{copy} * format::kBlockBytes,
                                   format::kBlockBytes);
    if (format::is_zero(bytes)) continue;
    auto slot = format::decode_slot(bytes, area_, index);
    if (!slot) {
      ++damaged;
    } else if (!newest || slot->sequence > newest->sequence) {
      newest = std::move(*slot);
      table_[index].copy = copy ^ 1U;
    }
  }
  if (damaged == 2) {
    return fail(Errc::diff_area_corrupt,
                "both copies of snapshot slot " + std::to_string(index) +
                    "; the origin is complete without its diff area: attach with force to make "
                    "that anew");
  }
  if (!newest && damaged == 1) {  // The first write of a slot was cut: free, as if once used.
    newest.emplace();
    newest->index = index;
    newest->epoch = 1;
  }
  if (!newest) return {};
  table_[index].sequence = newest->sequence;
  epoch_last_ = std::max(epoch_last_, newest->epoch);
  const bool same = std::equal(both.begin(), both.begin() + format::kBlockBytes,
                               both.begin() + format::kBlockBytes, both.end());
  if (newest->state == SlotState::free) {
    if (!same) scan.slots_to_mend.push_back(std::move(*newest));
    return {};
  }
  if (!same) scan.epochs_to_mend.insert(newest->epoch);
  auto snapshot = std::make_shared<Snapshot>();
  snapshot->epoch = newest->epoch;
  snapshot->slot = std::move(*newest);
  if (!snapshots_.emplace(snapshot->epoch, snapshot).second ||
      !by_id_.emplace(snapshot->slot.id, snapshot).second) {
    return fail(Errc::diff_area_corrupt,
                "snapshot slot " + std::to_string(index) + " repeats an epoch or an id");
  }
  return {};
}

// Which snapshots this open ends, and which it finds lost. Made durable.
Status Volume::Impl::settle_stages(Scan& scan) {
  std::unordered_set<Guid> known_lost;
  if (options_.lost_store != nullptr) {
    const auto lost = options_.lost_store->list(id());
    if (!lost) return fail(lost.error());
    known_lost.insert(lost->begin(), lost->end());
  }
  std::vector<format::SnapshotSlot> changed = std::move(scan.slots_to_mend);
  metadata_repairs_.fetch_add(changed.size() + scan.epochs_to_mend.size());
  for (auto it = snapshots_.begin(); it != snapshots_.end();) {
    const auto& snapshot = it->second;
    format::SnapshotSlot& slot = snapshot->slot;
    const bool unfinished = slot.state == SlotState::prepared ||
                            (slot.state == SlotState::committed && slot.members.empty());
    const bool ended = unfinished || (!slot.persistent && slot.boot_id != options_.boot_id);
    const bool newly_lost =
        !slot.lost && (snapshot->epoch <= scan.lost_up_to_epoch || known_lost.contains(slot.id));
    if (ended) slot.state = SlotState::free;
    if (newly_lost) {
      slot.lost = true;
      log_.error("snapshot lost: records of it are damaged or were never kept",
                 {{"volume", id().to_string()}, {"snapshot", slot.id.to_string()}});
    }
    if (ended || newly_lost || scan.epochs_to_mend.contains(snapshot->epoch)) {
      changed.push_back(slot);
    }
    if (slot.lost) snapshot->readable.store(Snapshot::Readable::lost);
    if (ended) by_id_.erase(slot.id);
    it = ended ? snapshots_.erase(it) : std::next(it);
  }
  return changed.empty() ? Status{} : write_slots(changed);
}

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
  static constexpr std::array<std::uint64_t, 2> kPieceBytes = {kReadBytes, 16U << 10U};
  static_assert(kReadBytes % (16U << 10U) == 0);

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

Status Volume::Impl::scan_segments(Scan& scan) {
  IndexReader reader(*this);
  for (std::uint64_t i = 0; i < segments_.count(); ++i) {
    const auto segment = static_cast<std::uint32_t>(i);
    if (segments_.is_table(segment)) continue;
    if (Status scanned = scan_segment(segment, reader, scan); !scanned) return scanned;
  }
  for (const Scan::Found& found : scan.groups) {
    const format::GroupHeader& header = found.group.header;
    scan.sequence_max = std::max(scan.sequence_max, header.sequence);
    scan.epoch_max = std::max(scan.epoch_max, header.epoch);
    scan.trusted = std::max(scan.trusted,
                            scan.same_boot ? header.completed_sequence : header.durable_sequence);
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
  for (std::uint32_t i = 0; i < group.header.count; ++i) {
    const Status read =
        read_at(diff_, layout_.slot_offset(group.header.segment, group.header.first_slot + i),
                chunk, "the last group's data");
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
    if (untold && !header.is_void && (scan.same_boot || header.durable)) {
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
  const std::size_t size = std::size_t{header.is_void ? 1U : header.units} * layout_.unit_bytes;
  const AlignedBuffer buffer = make_aligned(size);
  format::encode_group(layout_, area_, header, group.chunks, group.checksums, {buffer.get(), size});
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
    cover.header.is_void = true;
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

// --- into memory -----------------------------------------------------------------------------

void Volume::Impl::load(const Scan& scan) {
  std::vector<const format::Group*> order;
  order.reserve(scan.groups.size());
  for (const Scan::Found& found : scan.groups) {
    if (!found.group.header.is_void) order.push_back(&found.group);
  }
  // The first record of a chunk and epoch is the right one.
  std::sort(order.begin(), order.end(), [](const format::Group* a, const format::Group* b) {
    return a->header.sequence < b->header.sequence;
  });
  std::vector<std::uint32_t> live(segments_.count(), 0);
  for (const format::Group* group : order) {
    if (live[group->header.segment] == 0) {
      segments_.restore(group->header.segment, group->header.generation);
    }
    for (std::uint32_t i = 0; i < group->header.count; ++i) {
      const Home home{group->header.segment, group->header.first_slot + i};
      if (!map_.insert(group->chunks[i], group->header.epoch, home)) continue;
      std::atomic<std::uint32_t>* sums = segments_.checksums(home);
      for (std::uint32_t k = 0; k < layout_.checksums_per_chunk; ++k) {
        sums[k].store(group->checksums[std::size_t{i} * layout_.checksums_per_chunk + k],
                      std::memory_order_relaxed);
      }
      ++live[home.segment];
    }
  }
  epoch_last_ = std::max(epoch_last_, scan.epoch_max);
  epoch_ = epoch_last_;
  next_sequence_ = std::max(scan.sequence_max, scan.trusted) + 1;
  completed_sequence_ = durable_sequence_ = next_sequence_ - 1;
  load_snapshots();
  const auto dropped = [&](Home home) { --live[home.segment]; };
  std::uint64_t below = 0;
  for (const std::uint64_t epoch : living_) {
    map_.prune(below, epoch, below, dropped);
    below = epoch;
  }
  map_.prune(below, epoch_ + 1, below, dropped);
  segments_.finish_restore(live);
  if (living_.empty()) return;
  make_copy_buffers();
  map_.for_each_since(*living_.rbegin(), [this](std::uint64_t chunk) { set_done(chunk); });
}

void Volume::Impl::load_snapshots() {
  std::vector<bool> used(table_.size());
  for (const auto& [epoch, snapshot] : snapshots_) {
    const format::SnapshotSlot& slot = snapshot->slot;
    used[slot.index] = true;
    if (slot.state == SlotState::created) ++created_count_;
    if (slot.lost) {
      ++lost_count_;
      continue;
    }
    living_.insert(epoch);
    if (slot.persistent) living_persistent_.insert(epoch);
  }
  for (std::size_t i = used.size(); i-- > 0;) {
    if (!used[i]) free_slots_.push_back(static_cast<std::uint32_t>(i));
  }
  bits_.store(living_.empty() ? nullptr : &current_bits_, std::memory_order_release);
}

}  // namespace umbra::cow
