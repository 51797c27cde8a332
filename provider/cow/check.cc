// SPDX-License-Identifier: Apache-2.0
#include "provider/cow/check.h"

#include <algorithm>

#include "engine/platform/crc32c.h"
#include "provider/cow/blobs.h"
#include "provider/cow/checker.h"
#include "provider/cow/contents.h"

namespace umbra::cow {

using format::SlotState;

namespace {

[[nodiscard]] bool is_exemption(const format::SnapshotSlot& slot) noexcept {
  return slot.blob.kind == static_cast<std::uint32_t>(BlobKind::exemption);
}

}  // namespace

void CheckReport::add(Finding finding) {
  switch (finding.kind) {
    case Finding::Kind::unfinished: ++unfinished; break;
    case Finding::Kind::repairable: ++repairable; break;
    case Finding::Kind::repaired: ++repaired; break;
    case Finding::Kind::damage: ++damaged; break;
  }
  for (const SnapshotId& id : finding.snapshots) {
    if (std::find(snapshots_damaged.begin(), snapshots_damaged.end(), id) ==
        snapshots_damaged.end()) {
      snapshots_damaged.push_back(id);
    }
  }
  if (findings.size() < kFindingsMax) findings.push_back(std::move(finding));
}

Result<CheckReport> check(block::Device& diff, const CheckOptions& options) {
  return Checker(diff, options).run();
}

Result<CheckReport> Checker::run() {
  if (Status good = check_superblocks(); !good) return fail(good.error());
  // What lies where the table is not known cannot be judged.
  if (!check_table_segments()) return std::move(report_);
  if (Status good = check_table(); !good) return fail(good.error());
  if (Status good = check_blobs(); !good) return fail(good.error());
  if (Status good = check_index(); !good) return fail(good.error());
  if (options_.data) {
    if (Status good = check_data(); !good) return fail(good.error());
  }
  return std::move(report_);
}

void Checker::found(Kind kind, std::uint64_t offset_bytes, std::string what,
                    std::vector<SnapshotId> snapshots) {
  report_.add({kind, offset_bytes, std::move(what), std::move(snapshots)});
}

Status Checker::write(std::uint64_t offset_bytes, std::span<std::byte> bytes) {
  block::Request request;
  request.op = block::Op::write;
  request.fua = true;
  request.offset_bytes = offset_bytes;
  request.size_bytes = bytes.size();
  request.buffer = bytes.data();
  const int error = block::run(diff_, request);
  if (error == 0) return {};
  return fail(Errc::io_error,
              "repairing at " + std::to_string(offset_bytes) + ": errno " + std::to_string(error));
}

Status Checker::found_one_of_two(Kind kind, std::uint64_t offset_bytes, std::string what,
                                 const std::function<Status()>& mend) {
  if (!options_.repair) {
    found(kind, offset_bytes, std::move(what));
    return {};
  }
  if (Status mended = mend(); !mended) return mended;
  found(Kind::repaired, offset_bytes, std::move(what));
  return {};
}

// --- superblocks -----------------------------------------------------------------------------

Status Checker::check_superblocks() {
  const AlignedBuffer buffer = make_aligned(format::kBlockBytes);
  const std::span<std::byte> bytes(buffer.get(), format::kBlockBytes);
  if (diff_.geometry().size_bytes < format::kSegmentsOffset) {
    return fail(Errc::diff_area_foreign, "too small for a diff area");
  }
  std::optional<format::Superblock> newest;
  std::vector<std::pair<std::uint64_t, Error>> bad;
  for (const std::uint64_t offset : format::kSuperblockOffsets) {
    if (Status read = read_at(diff_, offset, bytes, "the superblock"); !read) {
      bad.emplace_back(offset, read.error());
      continue;
    }
    auto superblock = format::decode_superblock(format::ConstBlock(buffer.get(), bytes.size()));
    if (!superblock) {
      bad.emplace_back(offset, superblock.error());
    } else if (!newest || superblock->sequence > newest->sequence) {
      newest = std::move(*superblock);
    }
  }
  if (!newest) {  // What says most.
    for (const auto& each : bad) {
      if (each.second.code != Errc::diff_area_foreign) return fail(each.second);
    }
    return fail(bad.front().second);
  }
  superblock_ = std::move(*newest);
  layout_ = format::Layout::of(superblock_.chunk_bytes, superblock_.unit_bytes);
  area_ = format::area_tag(superblock_.area_id);
  chunk_count_ = (superblock_.origin_bytes + superblock_.chunk_bytes - 1) / superblock_.chunk_bytes;
  segments_ = layout_->segments_in(diff_.geometry().size_bytes);
  report_.clean_shutdown = superblock_.clean;
  for (const auto& [offset, error] : bad) {
    const Status mended = found_one_of_two(
        Kind::repairable, offset, "superblock: " + error.to_string(), [&, at = offset] {
          // The next number belongs to the other place, which is this one.
          ++superblock_.sequence;
          format::encode(superblock_, format::Block(buffer.get(), bytes.size()));
          return write(at, bytes);
        });
    if (!mended) return mended;
  }
  return {};
}

bool Checker::check_table_segments() {
  for (const std::uint32_t segment : superblock_.table_segments) {
    if (segment < segments_ && table_segments_.insert(segment).second) continue;
    found(Kind::damage, format::kSuperblockOffsets[superblock_.sequence % 2],
          "the superblock names segment " + std::to_string(segment) +
              " for the snapshot table, which is not there or named twice: the area cannot be "
              "opened");
    return false;
  }
  return true;
}

// --- the snapshot table ----------------------------------------------------------------------

Status Checker::check_table() {
  constexpr std::uint64_t kSlotBytes = std::uint64_t{2} * format::kBlockBytes;
  constexpr std::uint32_t kAtATime = kRecoveryReadBytes / kSlotBytes;
  const AlignedBuffer piece = make_aligned(kRecoveryReadBytes);
  const std::uint64_t slots = std::min<std::uint64_t>(
      format::kTableSlots + std::uint64_t{layout_->table_slots} * superblock_.table_segments.size(),
      format::kSnapshotsMax);
  for (std::uint32_t first = 0; first < slots; first += kAtATime) {
    const Status read = read_at(diff_, layout_->table_offset(superblock_.table_segments, first, 0),
                                {piece.get(), kRecoveryReadBytes}, "the snapshot table");
    if (!read) return read;
    for (std::uint32_t i = 0; i < kAtATime; ++i) {
      const std::span<const std::byte> both(piece.get() + i * kSlotBytes, kSlotBytes);
      if (Status good = check_slot(first + i, both); !good) return good;
    }
  }
  return {};
}

Status Checker::check_slot(std::uint32_t index, std::span<const std::byte> both) {
  if (format::is_zero(both)) return {};
  std::optional<format::SnapshotSlot> newest;
  std::uint32_t newest_copy = 0;
  std::array<bool, 2> damaged{};
  for (std::uint32_t copy = 0; copy < 2; ++copy) {
    const format::ConstBlock bytes(both.data() + std::size_t{copy} * format::kBlockBytes,
                                   format::kBlockBytes);
    if (format::is_zero(bytes)) continue;
    auto slot = format::decode_slot(bytes, area_, index);
    damaged[copy] = !slot;
    if (slot && (!newest || slot->sequence > newest->sequence)) {
      newest = std::move(*slot);
      newest_copy = copy;
    }
  }
  const std::uint64_t at = layout_->table_offset(superblock_.table_segments, index, 0);
  const std::string name = "snapshot slot " + std::to_string(index);
  if (!newest) {
    if (damaged[0] && damaged[1]) {
      found(Kind::damage, at, name + ": both copies are damaged: the area cannot be opened");
    } else {
      found(Kind::unfinished, at, name + ": its first write was cut");
    }
    return {};
  }
  const std::uint32_t other = newest_copy ^ 1U;
  if (!std::equal(both.begin(), both.begin() + format::kBlockBytes,
                  both.begin() + format::kBlockBytes, both.end())) {
    const std::uint64_t there = layout_->table_offset(superblock_.table_segments, index, other);
    const Kind kind = damaged[other] ? Kind::repairable : Kind::unfinished;
    const Status mended = found_one_of_two(
        kind, there, name + (damaged[other] ? ": one copy is damaged" : ": one copy is older"),
        [&] {
          const AlignedBuffer buffer = make_aligned(format::kBlockBytes);
          format::encode(*newest, area_, format::Block(buffer.get(), format::kBlockBytes));
          return write(there, {buffer.get(), format::kBlockBytes});
        });
    if (!mended) return mended;
  }
  take_slot(std::move(*newest), at);
  return {};
}

void Checker::take_slot(format::SnapshotSlot slot, std::uint64_t offset_bytes) {
  if (slot.state == SlotState::free) return;
  if (slot.state == SlotState::blob) {
    blobs_.push_back(std::move(slot));
    return;
  }
  if (!epochs_.insert(slot.epoch).second || !ids_.insert(slot.id).second) {
    found(Kind::damage, offset_bytes,
          "snapshot slot " + std::to_string(slot.index) +
              " repeats an epoch or an id: the area cannot be opened",
          {slot.id});
    return;
  }
  ++report_.snapshots;
  if (slot.retain_until_filetime >
      std::max(options_.now_filetime, superblock_.settings.highest_filetime)) {
    report_.snapshots_locked.push_back(slot.id);
    report_.locks.push_back(locked_text(slot.id, slot.retain_until_filetime));
  }
  if (slot.lost) {
    ++report_.snapshots_lost;
  } else if (slot.state == SlotState::prepared) {
    found(Kind::unfinished, offset_bytes, "a snapshot that was being made");
  } else {
    living_.emplace(slot.epoch, slot.id);
  }
}

// --- blobs -----------------------------------------------------------------------------------

bool Checker::claim_extents(const format::SnapshotSlot& slot) {
  std::uint64_t slots = 0;
  for (const format::BlobExtent& extent : slot.blob.extents) {
    const std::uint32_t end = std::uint32_t{extent.first_slot} + extent.count;
    if (extent.count == 0 || end > layout_->slots || extent.segment >= segments_) return false;
    if (table_segments_.count(extent.segment) != 0) return false;
    auto& used = blob_segments_.try_emplace(extent.segment, layout_->slots).first->second;
    for (std::uint32_t i = extent.first_slot; i < end; ++i) {
      if (used[i]) return false;
      used[i] = true;
    }
    slots += extent.count;
  }
  return slots == 2 * blob_slots(slot.blob.size_bytes);
}

Status Checker::check_blobs() {
  std::set<std::pair<std::uint32_t, Guid>> names;
  for (const format::SnapshotSlot& slot : blobs_) {
    ++report_.blobs;
    const std::uint64_t at = layout_->table_offset(superblock_.table_segments, slot.index, 0);
    const std::string name =
        "blob " + std::to_string(slot.blob.kind) + " " + slot.blob.key.to_string();
    if (!names.emplace(slot.blob.kind, slot.blob.key).second) {
      found(Kind::damage, at, name + " is there twice");
    } else if (is_exemption(slot) && ids_.count(SnapshotId{slot.blob.key}) == 0) {
      found(Kind::unfinished, at, name + " is left of a snapshot that was deleted");
    } else if (slot.blob.extents.empty()) {
      continue;  // Its bytes were verified with the slot.
    } else if (!claim_extents(slot)) {
      found(Kind::damage, at, name + " lies where it cannot be");
    } else if (Status good = check_blob(slot); !good) {
      return good;
    }
  }
  return {};
}

Status Checker::check_blob(const format::SnapshotSlot& slot) {
  std::vector<std::uint64_t> places;
  for (const format::BlobExtent& extent : slot.blob.extents) {
    for (std::uint32_t i = 0; i < extent.count; ++i) {
      places.push_back(layout_->slot_offset(extent.segment, extent.first_slot + i));
    }
  }
  const std::size_t half = places.size() / 2;
  const AlignedBuffer buffer = make_aligned(layout_->chunk_bytes);
  const std::span<std::byte> chunk(buffer.get(), layout_->chunk_bytes);
  std::array<bool, 2> good{};
  for (std::size_t copy = 0; copy < 2; ++copy) {
    std::uint32_t crc = 0;
    std::uint64_t left = slot.blob.size_bytes;
    good[copy] = true;
    for (std::size_t i = 0; i < half && good[copy]; ++i) {
      good[copy] = read_at(diff_, places[copy * half + i], chunk, "a blob").has_value();
      const std::size_t used = std::min<std::uint64_t>(left, chunk.size());
      crc = crc32c(chunk.first(used), crc);
      left -= used;
    }
    good[copy] = good[copy] && crc == slot.blob.checksum;
  }
  const std::string name =
      "blob " + std::to_string(slot.blob.kind) + " " + slot.blob.key.to_string();
  if (good[0] && good[1]) return {};
  if (!good[0] && !good[1]) {
    // Of free blocks: what the snapshot must not show is not known any more.
    const bool costs = is_exemption(slot) && ids_.count(SnapshotId{slot.blob.key}) != 0;
    found(Kind::damage, places.front(), name + ": both copies are damaged",
          costs ? std::vector{SnapshotId{slot.blob.key}} : std::vector<SnapshotId>{});
    return {};
  }
  const std::size_t bad = good[0] ? 1 : 0;
  return found_one_of_two(
      Kind::repairable, places[bad * half], name + ": one copy is damaged", [&]() -> Status {
        for (std::size_t i = 0; i < half; ++i) {
          const std::size_t from = (bad ^ 1U) * half + i;
          if (Status read = read_at(diff_, places[from], chunk, "a blob"); !read) return read;
          if (Status written = write(places[bad * half + i], chunk); !written) return written;
        }
        return {};
      });
}

}  // namespace umbra::cow
