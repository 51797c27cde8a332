// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <tuple>

#include "engine/platform/crc32c.h"
#include "provider/cow/checker.h"

namespace umbra::cow {

using format::GroupKind;

// --- what scrub shares -----------------------------------------------------------------------

Result<bool> verify_group(
    block::Device& diff, const format::Layout& layout, const format::Group& group,
    const std::function<bool(std::uint32_t record)>& wanted,
    const std::function<bool(std::uint64_t bytes)>& before_read,
    const std::function<void(std::uint32_t record, std::uint64_t offset_bytes)>& bad) {
  const std::uint32_t most = batch_chunks_of(layout.chunk_bytes);
  const AlignedBuffer buffer = make_aligned(std::size_t{most} * layout.chunk_bytes);
  std::vector<std::uint32_t> run;  // Records with consecutive slots.
  std::uint32_t slot = group.header.first_slot;
  std::uint32_t first_slot = slot;
  const auto verify_run = [&]() -> Result<bool> {
    const std::uint64_t size = run.size() * std::uint64_t{layout.chunk_bytes};
    if (!before_read(size)) return false;
    const std::uint64_t at = layout.slot_offset(group.header.segment, first_slot);
    const Status read = read_at(diff, at, {buffer.get(), size}, "preserved data");
    for (std::size_t i = 0; i < run.size(); ++i) {
      bool good = read.has_value();  // What cannot be read is as bad.
      for (std::uint32_t k = 0; k < layout.checksums_per_chunk && good; ++k) {
        const std::byte* granule =
            buffer.get() + i * layout.chunk_bytes + std::size_t{k} * format::kBlockBytes;
        good = crc32c({granule, format::kBlockBytes}) ==
               group.checksums[std::size_t{run[i]} * layout.checksums_per_chunk + k];
      }
      if (!good) bad(run[i], at + i * layout.chunk_bytes);
    }
    run.clear();
    return true;
  };
  for (std::uint32_t i = 0; i < group.header.count; ++i) {
    if (!format::has_data(group.flags[i])) continue;
    const std::uint32_t here = slot++;
    const bool take = (group.flags[i] & format::kEntryUnchecked) == 0 && wanted(i);
    if (!take || run.size() == most) {
      if (!run.empty()) {
        if (const auto done = verify_run(); !done || !*done) return done;
      }
      if (!take) continue;
    }
    if (run.empty()) first_slot = here;
    run.push_back(i);
  }
  return run.empty() ? Result<bool>(true) : verify_run();
}

Status write_group_at(block::Device& diff, const format::Layout& layout, std::uint64_t area,
                      const format::Group& group, std::span<const std::uint32_t> places) {
  const format::GroupHeader& header = group.header;
  const std::size_t size = std::size_t{header.is_void() ? 1U : header.units} * layout.unit_bytes;
  const AlignedBuffer buffer = make_aligned(size);
  format::encode_group(layout, area, header, group.chunks, group.checksums, {buffer.get(), size},
                       group.flags);
  int error = 0;
  for (const std::uint32_t copy : places) {
    block::Request write;
    write.op = block::Op::write;
    write.offset_bytes = layout.unit_offset(header.segment, header.unit, copy);
    write.size_bytes = size;
    write.buffer = buffer.get();
    if (const int failed = block::run(diff, write); failed != 0) error = failed;
  }
  if (error == 0) return {};
  return fail(Errc::io_error, "writing to the index: errno " + std::to_string(error));
}

// --- the index -------------------------------------------------------------------------------

void Checker::note_numbers(const IndexScan& scan) {
  const bool same_boot = superblock_.boot_id == options_.boot_id;
  for (const FoundGroup& found : scan.groups) {
    const format::GroupHeader& header = found.group.header;
    trusted_ = std::max(trusted_, same_boot ? header.completed_sequence : header.durable_sequence);
  }
}

Status Checker::check_index() {
  const AreaView view{diff_, *layout_, area_, chunk_count_,
                      batch_chunks_of(superblock_.chunk_bytes)};
  IndexReader reader(view);
  trusted_ = superblock_.trusted_sequence;
  format::Uses uses;
  for (std::uint64_t i = 0; i < segments_; ++i) {
    const auto segment = static_cast<std::uint32_t>(i);
    if (table_segments_.count(segment) != 0) continue;
    IndexScan scan;
    if (Status scanned = scan_segment(view, segment, reader, true, scan); !scanned) {
      found(Kind::damage, layout_->unit_offset(segment, 0, 0),
            "the index of segment " + std::to_string(segment) + ": " + scanned.error().to_string(),
            up_to(format::kEpochMax));
      continue;
    }
    note_numbers(scan);
    if (!scan.groups.empty()) uses.add(scan.groups.front().group.header.generation);
    if (blob_segments_.count(segment) != 0) continue;  // Groups of an earlier use.
    std::move(scan.groups.begin(), scan.groups.end(), std::back_inserter(scan_.groups));
    scan_.gaps.insert(scan_.gaps.end(), scan.gaps.begin(), scan.gaps.end());
  }
  judge_tails(view, scan_);
  check_gaps();
  check_uses(uses);
  check_slots();
  return check_groups();
}

std::vector<SnapshotId> Checker::up_to(std::uint64_t epoch) const {
  std::vector<SnapshotId> ids;
  for (auto it = living_.begin(); it != living_.end() && it->first <= epoch; ++it) {
    ids.push_back(it->second);
  }
  return ids;
}

void Checker::check_gaps() {
  for (const IndexGap& gap : scan_.gaps) {
    if (gap.dropped || (gap.tail && gap.sequence > trusted_)) continue;
    const std::uint64_t at = layout_->unit_offset(gap.segment, gap.unit, 0);
    const std::string name = "index of segment " + std::to_string(gap.segment) + ", " +
                             std::to_string(gap.units) + " units from " + std::to_string(gap.unit);
    if (gap.sequence > trusted_) {
      found(Kind::unfinished, at, name + ": a group that was in flight");
    } else {
      found(Kind::damage, at, name + ": a group is damaged in both places, its chunks are unknown",
            up_to(gap.epoch_max));
    }
  }
}

// A use of which nothing is left, or nothing but what an earlier one has left, leaves no gap.
void Checker::check_uses(const format::Uses& found_uses) {
  if (!superblock_.clean || !superblock_.uses.missed_in(found_uses)) return;
  found(Kind::damage, format::kSegmentsOffset,
        "all of a segment's index is damaged in both places, its chunks are unknown",
        up_to(format::kEpochMax));
}

// Slots are given out when the data is there, units when it is asked for: they need not ascend
// alike.
void Checker::check_slots() {
  struct Slots {
    std::uint32_t segment;
    std::uint32_t begin;
    std::uint32_t end;
    const format::GroupHeader* header;
  };
  std::vector<Slots> taken;
  for (const FoundGroup& found_group : scan_.groups) {
    const format::Group& group = found_group.group;
    const auto data = std::count_if(group.flags.begin(), group.flags.end(), format::has_data);
    if (group.header.is_void() || data == 0) continue;
    const std::uint32_t first = group.header.first_slot;
    taken.push_back(
        {group.header.segment, first, first + static_cast<std::uint32_t>(data), &group.header});
  }
  std::sort(taken.begin(), taken.end(), [](const Slots& a, const Slots& b) {
    return std::tie(a.segment, a.begin) < std::tie(b.segment, b.begin);
  });
  for (std::size_t i = 1; i < taken.size(); ++i) {
    const Slots& one = taken[i];
    const Slots& other = taken[i - 1];
    if (one.segment != other.segment || one.begin >= other.end) continue;
    found(Kind::damage, layout_->unit_offset(one.segment, one.header->unit, 0),
          "two groups of segment " + std::to_string(one.segment) + " name the same slot",
          up_to(std::max(one.header->epoch, other.header->epoch)));
  }
}

Status Checker::check_groups() {
  bool written = false;
  for (const FoundGroup& each : scan_.groups) {
    const format::GroupHeader& header = each.group.header;
    if (!header.is_void()) {
      ++report_.groups;
      report_.records += header.count;
    }
    if (each.missing == 0) continue;
    const std::uint32_t place = (each.missing & 1U) != 0 ? 0 : 1;
    const std::uint64_t at = layout_->unit_offset(header.segment, header.unit, place);
    if (header.sequence > trusted_) {  // Whether it counts is for the next open to say.
      found(Kind::unfinished, at, "a group of the index that was in flight is in one place only");
      continue;
    }
    const Status mended = found_one_of_two(
        Kind::repairable, at, "a group of the index is damaged in one of its two places", [&] {
          written = true;
          return write_group_at(diff_, *layout_, area_, each.group, {&place, 1});
        });
    if (!mended) return mended;
  }
  if (!written) return {};
  block::Request flush;
  flush.op = block::Op::flush;
  const int error = block::run(diff_, flush);
  if (error == 0) return {};
  return fail(Errc::io_error, "flushing the diff area: errno " + std::to_string(error));
}

// --- preserved data --------------------------------------------------------------------------

void Checker::load_records() {
  map_ = std::make_unique<ChunkMap>(chunk_count_);
  std::sort(scan_.groups.begin(), scan_.groups.end(), [](const FoundGroup& a, const FoundGroup& b) {
    return a.group.header.sequence < b.group.header.sequence;
  });
  std::uint64_t epoch_max = 0;
  for (const FoundGroup& found_group : scan_.groups) {
    const format::Group& group = found_group.group;
    std::uint32_t slot = group.header.first_slot;
    epoch_max = std::max(epoch_max, group.header.epoch);
    for (std::uint32_t i = 0; i < group.header.count; ++i) {
      Home home = Home::data(group.header.segment, slot);
      if (format::has_data(group.flags[i])) {
        ++slot;
      } else {
        home.kind = Home::Kind::nothing;
      }
      if (group.header.kind == GroupKind::overlay) {
        if (living_.count(group.header.epoch) == 0) continue;
        overlays_[group.header.epoch][group.chunks[i]] = home;
      } else {
        (void)map_->insert(group.chunks[i], group.header.epoch, home);
      }
    }
  }
  std::uint64_t below = 0;
  for (const auto& [epoch, id] : living_) {
    map_->prune(below, epoch, below, [](Home) {});
    below = epoch;
  }
  map_->prune(below, epoch_max + 1, below, [](Home) {});
}

// Whether somebody sees this record, and no other one in its place.
bool Checker::is_current(const format::Group& group, std::uint32_t record) const {
  const auto before =
      std::count_if(group.flags.begin(), group.flags.begin() + record, format::has_data);
  const Home home = Home::data(group.header.segment,
                               group.header.first_slot + static_cast<std::uint32_t>(before));
  const std::uint64_t chunk = group.chunks[record];
  if (group.header.kind == GroupKind::overlay) {
    const auto overlay = overlays_.find(group.header.epoch);
    if (overlay == overlays_.end()) return false;
    const auto known = overlay->second.find(chunk);
    return known != overlay->second.end() && known->second == home;
  }
  const auto known = map_->find(chunk, group.header.epoch);
  return known && known->epoch == group.header.epoch && known->home == home;
}

std::vector<SnapshotId> Checker::who_needs(const format::Group& group, std::uint32_t record) const {
  const std::uint64_t epoch = group.header.epoch;
  std::vector<SnapshotId> ids;
  for (auto it = living_.upper_bound(epoch); it != living_.begin();) {
    --it;
    if (group.header.kind == GroupKind::overlay) {
      if (it->first == epoch) ids.push_back(it->second);
      return ids;
    }
    const auto known = map_->find(group.chunks[record], it->first);
    if (!known || known->epoch != epoch) break;
    ids.push_back(it->second);
  }
  return ids;
}

Status Checker::check_data() {
  load_records();
  std::uint64_t total = 0;
  std::uint64_t done = 0;
  const auto wanted_in = [this](const format::Group& group) {
    return [this, &group](std::uint32_t record) { return is_current(group, record); };
  };
  for (const FoundGroup& each : scan_.groups) {
    for (std::uint32_t i = 0; i < each.group.header.count; ++i) {
      if (!format::has_data(each.group.flags[i]) || !is_current(each.group, i)) continue;
      if ((each.group.flags[i] & format::kEntryUnchecked) != 0) {
        ++report_.chunks_unchecked;
      } else {
        total += layout_->chunk_bytes;
      }
    }
  }
  for (const FoundGroup& each : scan_.groups) {
    const format::Group& group = each.group;
    const bool untold = group.header.sequence > trusted_;
    const auto verified = verify_group(
        diff_, *layout_, group, wanted_in(group),
        [&](std::uint64_t bytes) {
          if (options_.progress && !options_.progress(done, total)) return false;
          done += bytes;
          report_.chunks_verified += bytes / layout_->chunk_bytes;
          return true;
        },
        [&](std::uint32_t record, std::uint64_t offset_bytes) {
          if (untold) {
            found(Kind::unfinished, offset_bytes, "data of a group that was perhaps in flight");
          } else {
            found(Kind::damage, offset_bytes,
                  "preserved data of chunk " + std::to_string(group.chunks[record]) + " is damaged",
                  who_needs(group, record));
          }
        });
    if (!verified) return fail(verified.error());
    if (!*verified) {
      report_.complete = false;
      return {};
    }
  }
  if (options_.progress) (void)options_.progress(done, total);
  return {};
}

}  // namespace umbra::cow
