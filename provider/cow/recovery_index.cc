// SPDX-License-Identifier: Apache-2.0
//
// open(): what the index of the segments says. Tells what a crash left from damage, compares the
// data of the last groups with their checksums, and writes again what is in one place only. What it
// decides is in docs/formats/diff-area.md, "Awkward cases".
#include <algorithm>

#include "engine/platform/assert.h"
#include "engine/platform/crc32c.h"
#include "provider/cow/blobs.h"
#include "provider/cow/recovery.h"

namespace umbra::cow {

// --- the index -------------------------------------------------------------------------------

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

AreaView Volume::Impl::area_view() noexcept {
  return {diff_, layout_, area_, chunk_count_, batch_chunks_};
}

Status Volume::Impl::scan_segments(Scan& scan) {
  const AreaView view = area_view();
  IndexReader reader(view);
  for (std::uint64_t i = 0; i < segments_.count(); ++i) {
    const auto segment = static_cast<std::uint32_t>(i);
    const bool holds_blobs = blobs_->holds(segment);
    if (segments_.is_aside(segment) && !holds_blobs) continue;
    const std::size_t groups = scan.groups.size();
    const std::size_t gaps = scan.gaps.size();
    if (Status scanned = scan_segment(view, segment, reader, false, scan); !scanned) return scanned;
    note_numbers(groups, scan);
    if (scan.groups.size() > groups) {
      const std::uint64_t generation = scan.groups[groups].group.header.generation;
      scan.uses.add(generation);
      const std::lock_guard lock(mutex_);
      segments_.restore_shown(segment, generation);
    }
    if (!holds_blobs) continue;
    // Of an earlier use. It will be free again one day, and its numbers must not be new then, nor
    // what is missing there be taken for damage.
    scan.groups.resize(groups);
    for (std::size_t gap = gaps; gap < scan.gaps.size(); ++gap) scan.gaps[gap].dropped = true;
  }
  return {};
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
      if (crc32c(granule) != group.checksums[std::size_t{i} * layout_.checksums_per_chunk + k]) {
        return false;
      }
    }
  }
  return true;
}

bool Volume::Impl::origin_has(std::uint64_t chunk, std::uint32_t flags,
                              std::span<const std::uint32_t> checksums,
                              std::span<std::byte> buffer) {
  if ((flags & (format::kEntryChanged | format::kEntryUnchecked)) != 0) return true;  // Unknown.
  const std::uint64_t at = chunk * layout_.chunk_bytes;
  const std::uint64_t size =
      std::min<std::uint64_t>(layout_.chunk_bytes, origin_geometry_.size_bytes - at);
  std::fill(buffer.begin() + static_cast<std::ptrdiff_t>(size), buffer.end(), std::byte{0});
  if (!read_at(origin_, at, buffer.first(size), "the origin")) return false;
  if ((flags & format::kEntryZeroes) != 0) return format::is_zero(buffer);
  for (std::size_t k = 0; k < checksums.size(); ++k) {
    const auto granule = buffer.subspan(k * format::kBlockBytes, format::kBlockBytes);
    if (crc32c(granule) != checksums[k]) return false;
  }
  return true;
}

// Whether a snapshot that this open keeps resolves one of `chunks` to the group's record.
bool Volume::Impl::is_needed(const Scan& scan, const format::GroupHeader& header,
                             const std::vector<std::uint64_t>& chunks) const {
  std::uint64_t newest = 0;  // Of those that could.
  const Snapshot* newest_snapshot = nullptr;
  for (const auto& [epoch, snapshot] : snapshots_) {
    if (epoch > header.epoch) break;
    if (snapshot->slot.lost || ends_at_open(snapshot->slot)) continue;
    newest = epoch;
    newest_snapshot = snapshot.get();
  }
  std::map<std::uint64_t, std::uint64_t> nearer;  // Chunk: epoch of the record before this one.
  for (const std::uint64_t chunk : chunks) nearer[chunk] = 0;
  for (const FoundGroup& found : scan.groups) {
    const format::GroupHeader& other = found.group.header;
    const bool before = other.epoch < header.epoch ||
                        (other.epoch == header.epoch && other.sequence < header.sequence);
    if (other.kind != format::GroupKind::records || !before) continue;
    for (const std::uint64_t chunk : found.group.chunks) {
      const auto known = nearer.find(chunk);
      if (known != nearer.end()) known->second = std::max(known->second, other.epoch);
    }
  }
  return std::any_of(nearer.begin(), nearer.end(), [&](const auto& each) {
    return newest > each.second && !newest_snapshot->shows_nothing_of(each.first);
  });
}

// A group whose data does not match was in flight, or it was published and its data was damaged
// since. In the first case no origin write has followed it: for every record that somebody needs
// the origin has what it was to keep, and nothing is lost by dropping it. Else it is kept, and
// reads of what is damaged fail. (What nobody needs may well be different: after a power cut the
// origin has lost what was written to it between a persistent snapshot and an auto-release one.)
bool Volume::Impl::was_published(const Scan& scan, const format::Group& group,
                                 std::span<std::byte> buffer) {
  if (group.header.kind != format::GroupKind::records) return false;
  const std::size_t sums = layout_.checksums_per_chunk;
  std::vector<std::uint64_t> different;
  for (std::size_t i = 0; i < group.chunks.size(); ++i) {
    const auto checksums = std::span(group.checksums).subspan(i * sums, sums);
    if (!origin_has(group.chunks[i], group.flags[i], checksums, buffer)) {
      different.push_back(group.chunks[i]);
    }
  }
  return !different.empty() && is_needed(scan, group.header, different);
}

Status Volume::Impl::verify_tail(Scan& scan) {
  const AlignedBuffer chunk = make_aligned(layout_.chunk_bytes);
  const std::span<std::byte> buffer(chunk.get(), layout_.chunk_bytes);
  std::vector<std::uint64_t> dropped;
  for (FoundGroup& found : scan.groups) {
    const format::GroupHeader& header = found.group.header;
    if (header.sequence <= scan.trusted) continue;
    found.mend = true;
    if (header.is_void() || (!scan.same_boot && !header.durable)) continue;
    const auto whole = data_matches(found.group, buffer);
    if (!whole) return fail(whole.error());
    if (*whole) continue;
    if (was_published(scan, found.group, buffer)) {
      log_.error("preserved data of the last groups is damaged",
                 {{"volume", id().to_string()},
                  {"offset", layout_.slot_offset(header.segment, header.first_slot)}});
      continue;
    }
    IndexGap gap;
    gap.segment = header.segment;
    gap.unit = header.unit;
    gap.units = header.units;
    gap.generation = header.generation;
    gap.sequence = header.sequence;
    gap.dropped = true;
    scan.gaps.push_back(gap);
    dropped.push_back(header.sequence);
  }
  std::erase_if(scan.groups, [&](const FoundGroup& found) {
    const format::GroupHeader& header = found.group.header;
    return !header.is_void() &&
           std::find(dropped.begin(), dropped.end(), header.sequence) != dropped.end();
  });
  return {};
}

// Both places are tried, whatever becomes of the first. `least`: so many must be written.
Status Volume::Impl::write_group(const format::Group& group, int least) {
  const format::GroupHeader& header = group.header;
  const std::size_t size = std::size_t{header.is_void() ? 1U : header.units} * layout_.unit_bytes;
  const AlignedBuffer buffer = make_aligned(size);
  format::encode_group(layout_, area_, header, group.chunks, group.checksums, {buffer.get(), size},
                       group.flags);
  int error = 0;
  int written = 0;
  for (std::uint32_t copy = 0; copy < 2; ++copy) {
    block::Request write;
    write.op = block::Op::write;
    write.offset_bytes = layout_.unit_offset(header.segment, header.unit, copy);
    write.size_bytes = size;
    write.buffer = buffer.get();
    const int failed = block::run(diff_, write);
    if (failed == 0) ++written;
    if (failed != 0) error = failed;
  }
  if (written >= least) return {};
  return fail(Errc::io_error, "writing to the index: errno " + std::to_string(error));
}

// Whether a snapshot that this open keeps, or the revert, uses what was found of a segment's use.
bool Volume::Impl::use_is_needed(const Scan& scan, std::uint32_t segment) const {
  return std::any_of(scan.groups.begin(), scan.groups.end(), [&](const FoundGroup& found) {
    const format::GroupHeader& header = found.group.header;
    if (header.segment != segment || header.is_void()) return false;
    return header.kind != format::GroupKind::records || is_needed(scan, header, found.group.chunks);
  });
}

// What is missing behind a group that vouches for it was damaged, with two exceptions: see
// judge_tails(); and the first groups of a use of which nobody needs the others, after a crash: the
// segment was free, and what was to be written over them was in flight.
void Volume::Impl::judge_gaps(Scan& scan) {
  judge_tails(area_view(), scan);
  for (IndexGap& gap : scan.gaps) {
    if (gap.dropped || gap.sequence > scan.trusted) continue;
    if (gap.unit == 0 && !superblock_.clean && !use_is_needed(scan, gap.segment)) {
      gap.dropped = true;
      continue;
    }
    note_index_damage(scan, gap.epoch_max, layout_.unit_offset(gap.segment, gap.unit, 0),
                      "a part of the index is damaged in both places");
  }
  // A use of which nothing is left, or nothing but what an earlier one has left, leaves no gap.
  if (superblock_.clean && superblock_.uses.missed_in(scan.uses)) {
    note_index_damage(scan, format::kEpochMax, format::kSegmentsOffset,
                      "all of a segment's index is damaged in both places");
  }
}

void Volume::Impl::note_index_damage(Scan& scan, std::uint64_t up_to_epoch,
                                     std::uint64_t offset_bytes, const std::string& what) {
  scan.lost_up_to_epoch = std::max(scan.lost_up_to_epoch, up_to_epoch);
  if (scan.damaged_places++ == 0) scan.damage = what;
  log_.error("the index is damaged: all snapshots that it may concern are lost",
             {{"volume", id().to_string()},
              {"offset", offset_bytes},
              {"newest_epoch", up_to_epoch},
              {"damage", what}});
}

Status Volume::Impl::void_gaps(Scan& scan) {
  for (const IndexGap& gap : scan.gaps) {
    format::Group cover;
    cover.header.kind = gap.tail ? format::GroupKind::end : format::GroupKind::none;
    cover.header.generation = gap.generation;
    cover.header.sequence = gap.sequence;
    cover.header.epoch = std::min(gap.epoch_max, epoch_last_);
    if (gap.tail) scan.sequence_max = std::max(scan.sequence_max, gap.sequence);
    cover.header.segment = gap.segment;
    cover.header.unit = static_cast<std::uint16_t>(gap.unit);
    cover.header.units = static_cast<std::uint16_t>(gap.units);
    if (Status written = write_group(cover, gap.tail ? 1 : 2); !written) return written;
  }
  for (const FoundGroup& found : scan.groups) {
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
