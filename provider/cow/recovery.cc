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
  std::vector<format::Group> groups;
  std::vector<Gap> gaps;
  AlignedBuffer buffer;
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
  if (Status read = read_table(); !read) return read;
  segments_.grow_to(layout_.segments_in(diff_.geometry().size_bytes));
  if (Status scanned = scan_segments(scan); !scanned) return scanned;
  if (Status verified = verify_tail(scan); !verified) return verified;
  if (Status voided = void_gaps(scan); !voided) return voided;
  if (Status settled = settle_stages(scan); !settled) return settled;
  load(scan);
  superblock_.boot_id = options_.boot_id;
  ++superblock_.open_count;
  superblock_.trusted_sequence = completed_sequence_;
  segments_.start_generations(superblock_.open_count << kGenerationShift);
  return write_superblock(false);
}

// --- the snapshot table ----------------------------------------------------------------------

Status Volume::Impl::read_table() {
  constexpr std::uint64_t kTableBytes =
      std::uint64_t{format::kTableSlots} * 2 * format::kBlockBytes;
  const AlignedBuffer table = make_aligned(kTableBytes);
  for (std::uint64_t at = 0; at < kTableBytes; at += kReadBytes) {
    const Status read = read_at(diff_, format::kTableOffset + at, {table.get() + at, kReadBytes},
                                "the snapshot table");
    if (!read) return read;
  }
  for (std::uint32_t index = 0; index < format::kTableSlots; ++index) {
    std::optional<format::SnapshotSlot> newest;
    unsigned damaged = 0;
    for (std::uint32_t copy = 0; copy < 2; ++copy) {
      const format::ConstBlock bytes(
          table.get() + (std::uint64_t{index} * 2 + copy) * format::kBlockBytes,
          format::kBlockBytes);
      if (format::is_zero(bytes)) continue;
      auto slot = format::decode_slot(bytes, area_, index);
      if (!slot) {
        ++damaged;
      } else if (!newest || slot->sequence > newest->sequence) {
        newest = std::move(*slot);
        slot_copy_next_[index] = copy ^ 1U;
      }
    }
    // One damaged copy is a write that was cut: the other is what was durable before it.
    if (damaged == 2) {
      return fail(Errc::diff_area_corrupt, "both copies of snapshot slot " + std::to_string(index));
    }
    if (!newest) continue;
    slot_sequence_[index] = newest->sequence;
    epoch_last_ = std::max(epoch_last_, newest->epoch);
    if (newest->state == SlotState::free) continue;
    auto snapshot = std::make_shared<Snapshot>();
    snapshot->epoch = newest->epoch;
    snapshot->slot = std::move(*newest);
    snapshots_.push_back(std::move(snapshot));
  }
  std::sort(snapshots_.begin(), snapshots_.end(),
            [](const auto& a, const auto& b) { return a->epoch < b->epoch; });
  return {};
}

// Which snapshots this open ends, and which it finds lost. Made durable.
Status Volume::Impl::settle_stages(const Scan& scan) {
  std::unordered_set<Guid> known_lost;
  if (options_.lost_store != nullptr) {
    const auto lost = options_.lost_store->list(id());
    if (!lost) return fail(lost.error());
    known_lost.insert(lost->begin(), lost->end());
  }
  std::vector<std::shared_ptr<Snapshot>> kept;
  bool changed = false;
  for (const auto& snapshot : snapshots_) {
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
    if (ended || newly_lost) {
      if (Status written = write_slot(slot); !written) return written;
      changed = true;
    }
    if (ended) continue;
    if (slot.lost) snapshot->readable.store(Snapshot::Readable::lost);
    kept.push_back(snapshot);
  }
  snapshots_ = std::move(kept);
  return changed ? flush_diff() : Status{};
}

// --- the index -------------------------------------------------------------------------------

Status Volume::Impl::scan_segments(Scan& scan) {
  scan.buffer = make_aligned(std::size_t{layout_.data_offset} + kReadBytes);
  for (std::uint64_t segment = 0; segment < segments_.count(); ++segment) {
    if (Status scanned = scan_segment(static_cast<std::uint32_t>(segment), scan); !scanned) {
      return scanned;
    }
  }
  for (const format::Group& group : scan.groups) {
    const format::GroupHeader& header = group.header;
    scan.sequence_max = std::max(scan.sequence_max, header.sequence);
    scan.epoch_max = std::max(scan.epoch_max, header.epoch);
    scan.trusted = std::max(scan.trusted,
                            scan.same_boot ? header.completed_sequence : header.durable_sequence);
  }
  return {};
}

// Reads a segment's index until it ends. At most kBatchesMax groups were in flight at any time, so
// a longer run of units without a group is the end.
Status Volume::Impl::scan_segment(std::uint32_t segment, Scan& scan) {
  const std::uint32_t group_units_max = layout_.group_units(batch_chunks_);
  const std::uint32_t run_max = static_cast<std::uint32_t>(kBatchesMax) * group_units_max;
  const std::size_t first_group = scan.groups.size();
  std::uint64_t generation = 0;
  std::uint64_t have = 0;  // Bytes of the index read.
  std::uint32_t run = 0;
  for (std::uint32_t unit = 0; unit < layout_.index_units && run <= run_max;) {
    const std::uint64_t at = std::uint64_t{unit} * layout_.unit_bytes;
    const std::uint64_t wanted =
        std::min<std::uint64_t>(at + std::uint64_t{group_units_max} * layout_.unit_bytes,
                                std::uint64_t{layout_.index_units} * layout_.unit_bytes);
    while (have < wanted) {
      const std::uint64_t piece = std::min<std::uint64_t>(kReadBytes, layout_.data_offset - have);
      const Status read = read_at(diff_, layout_.segment_offset(segment) + have,
                                  {scan.buffer.get() + have, piece}, "the index");
      if (!read) return read;
      have += piece;
    }
    format::Group group;
    const bool found = format::decode_group(layout_, area_, segment, unit, chunk_count_,
                                            {scan.buffer.get() + at, wanted - at}, group) &&
                       group.header.generation >= generation;
    if (!found) {
      ++unit;
      ++run;
      continue;
    }
    if (group.header.generation > generation) {  // What came before is of an earlier use.
      generation = group.header.generation;
      scan.groups.resize(first_group);
    }
    run = 0;
    unit += group.header.units;
    scan.groups.push_back(std::move(group));
  }
  note_gaps(segment, first_group, scan);
  return {};
}

void Volume::Impl::note_gaps(std::uint32_t segment, std::size_t first_group, Scan& scan) {
  std::uint32_t unit = 0;
  const format::GroupHeader* previous = nullptr;
  for (std::size_t i = first_group; i < scan.groups.size(); ++i) {
    const format::GroupHeader& header = scan.groups[i].header;
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

Status Volume::Impl::verify_tail(Scan& scan) {
  const AlignedBuffer chunk = make_aligned(layout_.chunk_bytes);
  std::vector<format::Group> kept;
  kept.reserve(scan.groups.size());
  for (format::Group& group : scan.groups) {
    const format::GroupHeader& header = group.header;
    const bool suspect =
        !header.is_void && header.sequence > scan.trusted && (scan.same_boot || header.durable);
    bool whole = true;
    for (std::uint32_t i = 0; suspect && whole && i < header.count; ++i) {
      const std::span<std::byte> data(chunk.get(), layout_.chunk_bytes);
      const Status read = read_at(diff_, layout_.slot_offset(header.segment, header.first_slot + i),
                                  data, "the last group's data");
      if (!read) return read;
      for (std::uint32_t k = 0; whole && k < layout_.checksums_per_chunk; ++k) {
        const auto granule =
            data.subspan(std::size_t{k} * format::kBlockBytes, format::kBlockBytes);
        whole = format::crc32c(granule) ==
                group.checksums[std::size_t{i} * layout_.checksums_per_chunk + k];
      }
    }
    if (whole) {
      kept.push_back(std::move(group));
      continue;
    }
    Scan::Gap gap;
    gap.segment = header.segment;
    gap.unit = header.unit;
    gap.units = header.units;
    gap.generation = header.generation;
    gap.sequence = header.sequence;
    gap.dropped = true;
    scan.gaps.push_back(gap);
  }
  scan.groups = std::move(kept);
  return {};
}

Status Volume::Impl::void_gaps(Scan& scan) {
  const AlignedBuffer unit = make_aligned(layout_.unit_bytes);
  for (const Scan::Gap& gap : scan.gaps) {
    if (!gap.dropped && gap.sequence <= scan.trusted) {
      scan.lost_up_to_epoch = std::max(scan.lost_up_to_epoch, gap.epoch_max);
    }
    format::GroupHeader header;
    header.is_void = true;
    header.generation = gap.generation;
    header.sequence = gap.sequence;
    header.epoch = gap.epoch_max;
    header.segment = gap.segment;
    header.unit = static_cast<std::uint16_t>(gap.unit);
    header.units = static_cast<std::uint16_t>(gap.units);
    format::encode_group(layout_, area_, header, {}, {}, {unit.get(), layout_.unit_bytes});
    block::Request write;
    write.op = block::Op::write;
    write.offset_bytes = layout_.unit_offset(gap.segment, gap.unit);
    write.size_bytes = layout_.unit_bytes;
    write.buffer = unit.get();
    if (const int error = block::run(diff_, write); error != 0) {
      return fail(Errc::io_error, "covering a gap in the index: errno " + std::to_string(error));
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
  for (const format::Group& group : scan.groups) {
    if (!group.header.is_void) order.push_back(&group);
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
  refresh_live();
  map_.prune(live_epochs_, epoch_, [&](Home home) { --live[home.segment]; });
  segments_.finish_restore(live);
  if (live_epochs_.empty()) return;
  make_copy_buffers();
  map_.for_each_since(live_epochs_.back(), [this](std::uint64_t chunk) { set_done(chunk); });
}

}  // namespace umbra::cow
