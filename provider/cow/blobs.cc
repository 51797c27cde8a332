// SPDX-License-Identifier: Apache-2.0
#include "provider/cow/blobs.h"

#include <algorithm>
#include <cstring>

#include "engine/platform/assert.h"
#include "engine/platform/crc32c.h"
#include "provider/cow/recovery.h"

namespace umbra::cow {
namespace {

[[nodiscard]] std::string text_of(BlobKind kind, const Guid& key) {
  return "blob " + std::to_string(static_cast<std::uint32_t>(kind)) + " " + key.to_string();
}

// Calls `visit(segment, slot)` for the slots of one copy, in order, until it fails.
template <class Visit>
[[nodiscard]] Status for_each_slot(const std::vector<format::BlobExtent>& extents,
                                   std::uint64_t first, std::uint64_t count, Visit visit) {
  std::uint64_t at = 0;
  for (const format::BlobExtent& extent : extents) {
    for (std::uint32_t i = 0; i < extent.count; ++i, ++at) {
      if (at < first || at >= first + count) continue;
      if (Status done = visit(extent.segment, extent.first_slot + i); !done) return done;
    }
  }
  return {};
}

}  // namespace

// --- space -----------------------------------------------------------------------------------

std::uint64_t Volume::Impl::Blobs::slots_of(std::uint64_t size_bytes) const noexcept {
  return (size_bytes + impl_.layout_.chunk_bytes - 1) / impl_.layout_.chunk_bytes;
}

bool Volume::Impl::Blobs::sane(const Entry& entry) const {
  std::uint64_t slots = 0;
  Extents seen;
  for (const format::BlobExtent& extent : entry.extents) {
    const std::uint32_t end = std::uint32_t{extent.first_slot} + extent.count;
    if (extent.count == 0 || end > impl_.layout_.slots) return false;
    if (extent.segment >= impl_.segments_.count()) return false;
    const auto known = segments_.find(extent.segment);
    if (known == segments_.end() && impl_.segments_.is_aside(extent.segment)) return false;
    for (std::uint32_t slot = extent.first_slot; slot < end && known != segments_.end(); ++slot) {
      if (known->second[slot]) return false;
    }
    for (const format::BlobExtent& other : seen) {
      const std::uint32_t other_end = std::uint32_t{other.first_slot} + other.count;
      if (other.segment == extent.segment && other.first_slot < end &&
          extent.first_slot < other_end) {
        return false;
      }
    }
    seen.push_back(extent);
    slots += extent.count;
  }
  return entry.extents.empty() || slots == 2 * slots_of(entry.size_bytes);
}

void Volume::Impl::Blobs::mark(const Extents& extents, bool used) {
  for (const format::BlobExtent& extent : extents) {
    std::vector<bool>& slots = segments_.at(extent.segment);
    for (std::uint32_t i = 0; i < extent.count; ++i) slots[extent.first_slot + i] = used;
  }
}

void Volume::Impl::Blobs::take_from(std::uint32_t segment, std::uint64_t& wanted,
                                    Extents& out) const {
  const std::vector<bool>& slots = segments_.at(segment);
  for (std::size_t at = 0; at < slots.size() && wanted > 0; ++at) {
    if (slots[at]) continue;
    const bool joined = !out.empty() && out.back().segment == segment &&
                        out.back().first_slot + out.back().count == at;
    if (!joined && out.size() == format::kBlobExtentsMax) return;
    if (!joined) out.push_back({segment, static_cast<std::uint16_t>(at), 0});
    ++out.back().count;
    --wanted;
  }
}

Result<std::vector<format::BlobExtent>> Volume::Impl::Blobs::allocate(std::uint64_t slots) {
  Extents extents;
  std::uint64_t wanted = slots;
  for (const auto& [segment, used] : segments_) take_from(segment, wanted, extents);
  if (wanted > 0 && extents.size() >= format::kBlobExtentsMax / 2) {
    extents.clear();  // Too scattered: in whole segments instead.
    wanted = slots;
  }
  mark(extents, true);
  while (wanted > 0) {
    if (extents.size() == format::kBlobExtentsMax) {
      release(extents);
      return fail(Errc::insufficient_storage, "a blob has more pieces than it can name");
    }
    const auto segment = impl_.take_segment_aside("metadata that grows with changes");
    if (!segment) {
      release(extents);
      return fail(segment.error());
    }
    segments_.emplace(*segment, std::vector<bool>(impl_.layout_.slots));
    Extents fresh;
    take_from(*segment, wanted, fresh);
    mark(fresh, true);
    extents.insert(extents.end(), fresh.begin(), fresh.end());
  }
  return extents;
}

void Volume::Impl::Blobs::release(const Extents& extents) {
  mark(extents, false);
  Batch* list = nullptr;
  {
    const std::lock_guard lock(impl_.mutex_);
    for (auto it = segments_.begin(); it != segments_.end();) {
      const bool empty = std::find(it->second.begin(), it->second.end(), true) == it->second.end();
      if (empty) impl_.segments_.give_back(it->first);
      it = empty ? segments_.erase(it) : std::next(it);
    }
    list = impl_.form_batches();  // Copies may have waited for the space.
  }
  impl_.start(list);
}

// --- bytes -----------------------------------------------------------------------------------

Status Volume::Impl::Blobs::write_bytes(const Extents& extents, std::uint32_t copy,
                                        std::span<const std::byte> bytes) {
  const std::size_t chunk_bytes = impl_.layout_.chunk_bytes;
  const AlignedBuffer buffer = make_aligned(chunk_bytes);
  const std::uint64_t slots = slots_of(bytes.size());
  std::size_t at = 0;
  return for_each_slot(
      extents, copy * slots, slots, [&](std::uint32_t segment, std::uint32_t slot) -> Status {
        const auto piece = bytes.subspan(at, std::min(chunk_bytes, bytes.size() - at));
        std::copy(piece.begin(), piece.end(), buffer.get());
        std::fill_n(buffer.get() + piece.size(), chunk_bytes - piece.size(), std::byte{0});
        at += piece.size();
        block::Request write;
        write.op = block::Op::write;
        write.offset_bytes = impl_.layout_.slot_offset(segment, slot);
        write.size_bytes = chunk_bytes;
        write.buffer = buffer.get();
        const int error = block::run(impl_.diff_, write);
        if (error == 0) return {};
        return fail(Errc::io_error, "writing a blob: errno " + std::to_string(error));
      });
}

Status Volume::Impl::Blobs::read_bytes(const Entry& entry, std::uint32_t copy,
                                       std::span<std::byte> out) const {
  const std::size_t chunk_bytes = impl_.layout_.chunk_bytes;
  const AlignedBuffer buffer = make_aligned(chunk_bytes);
  const std::uint64_t slots = slots_of(out.size());
  std::size_t at = 0;
  return for_each_slot(
      entry.extents, copy * slots, slots, [&](std::uint32_t segment, std::uint32_t slot) -> Status {
        if (Status read = read_at(impl_.diff_, impl_.layout_.slot_offset(segment, slot),
                                  {buffer.get(), chunk_bytes}, "a blob");
            !read) {
          return read;
        }
        const std::size_t size = std::min(chunk_bytes, out.size() - at);
        std::copy_n(buffer.get(), size, out.data() + at);
        at += size;
        return {};
      });
}

Result<std::vector<std::byte>> Volume::Impl::Blobs::read_inline(const Entry& entry) const {
  const TableSlot& place = impl_.table_[entry.slot];
  const AlignedBuffer buffer = make_aligned(format::kBlockBytes);
  Status readable;
  for (const std::uint32_t copy : {place.copy ^ 1U, place.copy}) {  // The durable one first.
    const std::uint64_t at =
        impl_.layout_.table_offset(impl_.superblock_.table_segments, entry.slot, copy);
    const Status read = read_at(impl_.diff_, at, {buffer.get(), format::kBlockBytes}, "a blob");
    if (!read) {
      readable = read;
      continue;
    }
    auto slot = format::decode_slot(format::ConstBlock(buffer.get(), format::kBlockBytes),
                                    impl_.area_, entry.slot);
    if (slot && slot->state == format::SlotState::blob && slot->sequence == place.sequence) {
      return std::move(slot->blob.bytes);
    }
  }
  if (!readable) return fail(readable.error());
  return fail(Errc::diff_area_corrupt, "both copies of a blob's slot");
}

// --- what others call ------------------------------------------------------------------------

Result<std::uint32_t> Volume::Impl::Blobs::free_table_slot() {
  if (impl_.free_slots_.empty()) {
    if (Status grown = impl_.grow_table(); !grown) return fail(grown.error());
  }
  const std::uint32_t slot = impl_.free_slots_.back();
  impl_.free_slots_.pop_back();
  return slot;
}

Status Volume::Impl::Blobs::write_entry(const Name& name, const Entry& entry,
                                        std::span<const std::byte> inline_bytes) {
  format::SnapshotSlot slot;
  slot.index = entry.slot;
  slot.state = format::SlotState::blob;
  slot.epoch = entry.epoch;
  slot.blob.kind = name.first;
  slot.blob.key = name.second;
  slot.blob.size_bytes = entry.size_bytes;
  slot.blob.checksum = entry.checksum;
  slot.blob.bytes.assign(inline_bytes.begin(), inline_bytes.end());
  slot.blob.extents = entry.extents;
  return impl_.write_slot(std::move(slot));
}

Status Volume::Impl::Blobs::put(BlobKind kind, const Guid& key, std::span<const std::byte> bytes) {
  if (bytes.size() > format::kBlobBytesMax) {
    return fail(Errc::invalid_argument, text_of(kind, key) + " is too large");
  }
  const Name name(static_cast<std::uint32_t>(kind), key);
  const auto known = entries_.find(name);
  Entry entry;
  entry.size_bytes = bytes.size();
  entry.checksum = crc32c(bytes);
  const bool is_inline = bytes.size() <= format::kBlobInlineMax;
  if (!is_inline) {
    auto extents = allocate(2 * slots_of(bytes.size()));
    if (!extents) return fail(extents.error());
    entry.extents = std::move(*extents);
    Status written = write_bytes(entry.extents, 0, bytes);
    if (written) written = write_bytes(entry.extents, 1, bytes);
    if (written) written = impl_.flush_diff();
    if (!written) {
      release(entry.extents);
      return written;
    }
  }
  if (known != entries_.end()) {
    entry.slot = known->second.slot;
  } else {
    const auto slot = free_table_slot();
    if (!slot) {
      release(entry.extents);
      return fail(slot.error());
    }
    entry.slot = *slot;
  }
  {
    // A slot keeps the highest epoch that it has seen: none is given out twice.
    const std::lock_guard lock(impl_.mutex_);
    entry.epoch = std::max<std::uint64_t>(impl_.epoch_last_, 1);
  }
  const Status written = write_entry(name, entry, is_inline ? bytes : std::span<const std::byte>());
  if (!written) {
    // Nobody knows which one is there: neither's place is given away before the next open.
    entry.in_doubt = true;
    entry.extents.clear();
    entries_.emplace(name, std::move(entry));
    return written;
  }
  Extents before;
  if (known != entries_.end()) before = std::exchange(known->second.extents, {});
  const bool was_damaged = known != entries_.end() && known->second.damaged;
  entries_[name] = std::move(entry);
  if (before.empty() || was_damaged) return {};
  // Until the slot's second copy is durable too, an older one of it could come back.
  if (Status flushed = impl_.flush_diff(); flushed) release(before);
  return {};
}

Result<std::vector<std::byte>> Volume::Impl::Blobs::get(BlobKind kind, const Guid& key) const {
  const auto known = entries_.find(Name(static_cast<std::uint32_t>(kind), key));
  if (known == entries_.end() || known->second.in_doubt) {
    return fail(Errc::object_not_found, text_of(kind, key));
  }
  const Entry& entry = known->second;
  if (entry.damaged) {
    return fail(Errc::diff_area_corrupt, text_of(kind, key) + " is damaged");
  }
  if (entry.extents.empty()) return read_inline(entry);
  std::vector<std::byte> bytes(entry.size_bytes);
  Status readable;
  for (std::uint32_t copy = 0; copy < 2; ++copy) {
    const Status read = read_bytes(entry, copy, bytes);
    if (!read) {
      readable = read;
    } else if (crc32c(bytes) == entry.checksum) {
      return bytes;
    }
  }
  if (!readable) return fail(readable.error());
  return fail(Errc::diff_area_corrupt, text_of(kind, key) + " is damaged in both places");
}

std::vector<Guid> Volume::Impl::Blobs::list(BlobKind kind) const {
  std::vector<Guid> keys;
  const auto wanted = static_cast<std::uint32_t>(kind);
  for (auto it = entries_.lower_bound(Name(wanted, Guid{}));
       it != entries_.end() && it->first.first == wanted; ++it) {
    if (!it->second.in_doubt) keys.push_back(it->first.second);
  }
  return keys;
}

Status Volume::Impl::Blobs::remove(BlobKind kind, const Guid& key) {
  const auto known = entries_.find(Name(static_cast<std::uint32_t>(kind), key));
  if (known == entries_.end() || known->second.in_doubt) {
    return fail(Errc::object_not_found, text_of(kind, key));
  }
  format::SnapshotSlot slot;
  slot.index = known->second.slot;
  slot.epoch = known->second.epoch;
  if (Status written = impl_.write_slot(std::move(slot)); !written) return written;
  impl_.free_slots_.push_back(known->second.slot);
  const Entry gone = std::move(known->second);
  entries_.erase(known);
  if (gone.extents.empty() || gone.damaged) return {};
  if (Status flushed = impl_.flush_diff(); flushed) release(gone.extents);
  return {};
}

// --- scrub -----------------------------------------------------------------------------------

std::string Volume::Impl::Blobs::describe(const Name& name) {
  return text_of(static_cast<BlobKind>(name.first), name.second);
}

std::vector<std::pair<Volume::Impl::Blobs::Name, std::uint64_t>> Volume::Impl::Blobs::names()
    const {
  std::vector<std::pair<Name, std::uint64_t>> all;
  for (const auto& [name, entry] : entries_) all.emplace_back(name, entry.size_bytes);
  return all;
}

std::optional<Volume::Impl::Blobs::Name> Volume::Impl::Blobs::at(std::uint32_t table_slot) const {
  for (const auto& [name, entry] : entries_) {
    if (entry.slot == table_slot) return name;
  }
  return std::nullopt;
}

std::optional<Volume::Impl::Blobs::Looked> Volume::Impl::Blobs::look_at(const Name& name) const {
  const auto known = entries_.find(name);
  if (known == entries_.end() || known->second.in_doubt || known->second.extents.empty()) {
    return std::nullopt;
  }
  const Entry& entry = known->second;
  const format::BlobExtent& first = entry.extents.front();
  Looked looked;
  looked.offset_bytes = impl_.layout_.slot_offset(first.segment, first.first_slot);
  std::vector<std::byte> bytes(entry.size_bytes);
  for (std::uint32_t copy = 0; copy < 2 && !entry.damaged; ++copy) {
    looked.good[copy] =
        read_bytes(entry, copy, bytes).has_value() && crc32c(bytes) == entry.checksum;
  }
  return looked;
}

Status Volume::Impl::Blobs::mend(const Name& name, std::uint32_t bad_copy) {
  const Entry& entry = entries_.at(name);
  std::vector<std::byte> bytes(entry.size_bytes);
  if (Status read = read_bytes(entry, bad_copy ^ 1U, bytes); !read) return read;
  if (crc32c(bytes) != entry.checksum) {
    return fail(Errc::diff_area_corrupt, describe(name) + " is damaged in both places");
  }
  if (Status written = write_bytes(entry.extents, bad_copy, bytes); !written) return written;
  return impl_.flush_diff();
}

// --- open() ----------------------------------------------------------------------------------

bool Volume::Impl::Blobs::restore(const format::SnapshotSlot& slot) {
  Entry entry;
  entry.slot = slot.index;
  entry.epoch = slot.epoch;
  entry.size_bytes = slot.blob.size_bytes;
  entry.checksum = slot.blob.checksum;
  entry.extents = slot.blob.extents;
  entry.damaged = !sane(entry);
  const Extents extents = entry.damaged ? Extents() : entry.extents;
  if (!entries_.emplace(Name(slot.blob.kind, slot.blob.key), std::move(entry)).second) return false;
  for (const format::BlobExtent& extent : extents) {
    if (segments_.emplace(extent.segment, std::vector<bool>(impl_.layout_.slots)).second) {
      impl_.segments_.restore_aside(extent.segment);
    }
  }
  mark(extents, true);
  return true;
}

void Volume::Impl::Blobs::mark_slots(std::vector<bool>& used) const {
  for (const auto& [name, entry] : entries_) used[entry.slot] = true;
}

}  // namespace umbra::cow
