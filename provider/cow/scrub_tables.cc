// SPDX-License-Identifier: Apache-2.0
//
// Scrub of what lies before the segments, and of blobs. The volume knows all of it but the blobs'
// bytes: a snapshot's slot and the superblocks are written anew from memory even where both places
// are damaged.
#include <algorithm>
#include <array>
#include <optional>

#include "provider/cow/exempt.h"
#include "provider/cow/scrub_pass.h"

namespace umbra::cow {

namespace {

constexpr std::uint64_t kSlotBytes = std::uint64_t{2} * format::kBlockBytes;
constexpr std::uint32_t kSlotsAtATime = kRecoveryReadBytes / kSlotBytes;

}  // namespace

Status Volume::Impl::ScrubPass::look_at_tables() {
  const AlignedBuffer piece = make_aligned(kRecoveryReadBytes);
  for (std::uint32_t first = 0; go_on(kRecoveryReadBytes); first += kSlotsAtATime) {
    const std::lock_guard table(impl_.table_mutex_);
    if (first == 0) look_at_superblocks();
    if (first >= impl_.table_.size()) break;
    const std::uint64_t at = view_.layout.table_offset(impl_.superblock_.table_segments, first, 0);
    // One by one where it cannot be read in one go: what cannot be read is as good as damaged.
    const bool whole = read_at(impl_.diff_, at, {piece.get(), kRecoveryReadBytes}, "").has_value();
    for (std::uint32_t i = 0; i < kSlotsAtATime; ++i) {
      const std::span<std::byte> both(piece.get() + i * kSlotBytes, kSlotBytes);
      for (std::uint32_t copy = 0; copy < 2 && !whole; ++copy) {
        const auto bytes = both.subspan(copy * format::kBlockBytes, format::kBlockBytes);
        const std::uint64_t place = at + i * kSlotBytes + copy * format::kBlockBytes;
        if (read_at(impl_.diff_, place, bytes, "")) continue;
        std::fill(bytes.begin(), bytes.end(), std::byte{0xFF});
      }
      look_at_slot(first + i, both);
    }
  }
  if (report_.complete) look_at_blobs();
  return {};
}

void Volume::Impl::ScrubPass::look_at_superblocks() {
  const AlignedBuffer buffer = make_aligned(format::kBlockBytes);
  const std::span<std::byte> bytes(buffer.get(), format::kBlockBytes);
  for (const std::uint64_t at : format::kSuperblockOffsets) {
    const format::Superblock& known = impl_.superblock_;
    bool good = read_at(impl_.diff_, at, bytes, "").has_value();
    if (good) {
      const auto read = format::decode_superblock(format::ConstBlock(buffer.get(), bytes.size()));
      // The two have the last two numbers, or one fewer after a write that failed.
      good = read && read->area_id == known.area_id && read->sequence <= known.sequence &&
             read->sequence + 2 >= known.sequence;
    }
    if (good) continue;
    mend(at, "a superblock is damaged", [this] { return impl_.write_superblock(false); });
  }
}

void Volume::Impl::ScrubPass::look_at_slot(std::uint32_t index, std::span<const std::byte> both) {
  const std::uint64_t known = impl_.table_[index].sequence;
  std::array<bool, 2> good{};
  std::array<bool, 2> valid{};
  for (std::uint32_t copy = 0; copy < 2; ++copy) {
    const format::ConstBlock bytes(both.data() + std::size_t{copy} * format::kBlockBytes,
                                   format::kBlockBytes);
    if (format::is_zero(bytes)) {
      valid[copy] = true;
      good[copy] = known == 0;
      continue;
    }
    const auto slot = format::decode_slot(bytes, view_.area, index);
    valid[copy] = slot.has_value();
    good[copy] = slot && slot->sequence == known;
  }
  if (good[0] && good[1]) return;
  const std::uint64_t at = view_.layout.table_offset(impl_.superblock_.table_segments, index, 0);
  if (!good[0] && !good[1]) {
    // If both are whole, a write has failed, and whoever wanted it was told.
    if (!valid[0] || !valid[1]) write_known_slot(index, at);
    return;
  }
  const std::uint32_t bad = good[0] ? 1 : 0;
  const std::uint64_t there = at + std::uint64_t{bad} * format::kBlockBytes;
  mend(there,
       "snapshot slot " + std::to_string(index) +
           (valid[bad] ? ": one copy is older" : ": one copy is damaged"),
       [&] {
         const AlignedBuffer buffer = make_aligned(format::kBlockBytes);
         const auto from = both.subspan((bad ^ 1U) * format::kBlockBytes, format::kBlockBytes);
         std::copy(from.begin(), from.end(), buffer.get());
         return impl_.write_diff(buffer.get(), there, format::kBlockBytes, "a snapshot's slot");
       });
}

// Neither place says what the volume knows.
void Volume::Impl::ScrubPass::write_known_slot(std::uint32_t index, std::uint64_t offset_bytes) {
  if (const auto name = impl_.blobs_->at(index)) {
    write_known_blob(*name, offset_bytes);
    return;
  }
  format::SnapshotSlot slot;
  slot.index = index;
  {
    const std::lock_guard lock(impl_.mutex_);
    slot.epoch = std::max<std::uint64_t>(impl_.epoch_last_, 1);
    for (const auto& [epoch, snapshot] : impl_.snapshots_) {
      if (snapshot->slot.index == index) slot = snapshot->slot;
    }
  }
  mend(offset_bytes, "snapshot slot " + std::to_string(index) + ": both copies are damaged",
       [&] { return impl_.write_slot(slot); });
}

void Volume::Impl::ScrubPass::look_at_blobs() {
  std::vector<std::pair<Blobs::Name, std::uint64_t>> all;
  {
    const std::lock_guard table(impl_.table_mutex_);
    all = impl_.blobs_->names();
  }
  for (const auto& [name, size_bytes] : all) {
    if (!go_on(2 * size_bytes)) return;
    const std::lock_guard table(impl_.table_mutex_);
    ++report_.blobs;
    const auto looked = impl_.blobs_->look_at(name);
    if (!looked || (looked->good[0] && looked->good[1])) continue;
    const std::string what = Blobs::describe(name);
    if (looked->good[0] || looked->good[1]) {
      const std::uint32_t bad = looked->good[0] ? 1 : 0;
      mend(looked->offset_bytes, what + ": one copy is damaged",
           [this, &name = name, bad] { return impl_.blobs_->mend(name, bad); });
    } else {
      write_known_blob(name, looked->offset_bytes);
    }
  }
}

// Both copies are damaged.
void Volume::Impl::ScrubPass::write_known_blob(const Blobs::Name& name,
                                               std::uint64_t offset_bytes) {
  const std::string what = Blobs::describe(name) + ": both copies are damaged";
  const auto kind = static_cast<BlobKind>(name.first);
  if (kind == BlobKind::exemption) {
    std::shared_ptr<Snapshot> snapshot;
    {
      const std::lock_guard lock(impl_.mutex_);
      snapshot = impl_.find_snapshot(SnapshotId{name.second});
    }
    if (snapshot != nullptr && snapshot->exemption() != nullptr) {
      mend(offset_bytes, what,
           [&] { return impl_.blobs_->put(kind, name.second, snapshot->exemption()->encode()); });
      return;
    }
  }
  if (kind == BlobKind::change_checkpoint || kind == BlobKind::noted_changes) {
    mend(offset_bytes, what, [this] { return impl_.save_changes(); });
    return;
  }
  report_.add({Finding::Kind::damage, offset_bytes, what, {}});
}

}  // namespace umbra::cow
