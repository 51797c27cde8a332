// SPDX-License-Identifier: Apache-2.0
//
// Which chunks need no copy, since the file system had them free, and why that is right.
//
// A chunk is exempt for the newest snapshot if it was wholly free, and no older snapshot needs it
// from the origin: the one before has a record of it, which all older ones resolve to if they have
// none of their own, or it is exempt for that one too, and so on. Hence whoever writes asks the
// newest snapshot only; and when that one goes, its predecessor needs nothing of these chunks
// either.
//
// Exemption begins once, between post_commit() and confirm(), when nobody reads the snapshot yet,
// and only after it is durable: from then on the snapshot shows zeroes, whether the chunk has been
// written or not, before and after every restart. What was preserved before is not needed any more,
// but a copy that is on its way is waited for by writers as ever, so that its group is whole.
//
// Order of removal: the snapshot first, durably, then its blob. A blob without a snapshot goes at
// the next open; a snapshot whose blob cannot be read is lost, since nobody knows which of its
// chunks were overwritten.
#include "provider/cow/exempt.h"

#include <algorithm>
#include <array>

#include "provider/cow/blobs.h"

namespace umbra::cow {
namespace {

constexpr std::uint8_t kLayout = 1;
constexpr std::size_t kLayoutBytes = 4;

}  // namespace

std::vector<std::byte> Exemption::encode() const {
  std::vector<std::byte> out(kLayoutBytes);
  out[0] = std::byte{kLayout};
  free.encode(out);
  return out;
}

std::unique_ptr<Exemption> Exemption::decode(std::span<const std::byte> bytes,
                                             std::uint64_t chunk_count) {
  constexpr std::array<std::byte, kLayoutBytes> kStart = {std::byte{kLayout}};
  if (bytes.size() < kLayoutBytes || !std::equal(kStart.begin(), kStart.end(), bytes.begin())) {
    return nullptr;
  }
  auto free = ChunkSet::decode(bytes.subspan(kLayoutBytes), chunk_count);
  if (!free) return nullptr;
  auto exemption = std::make_unique<Exemption>();
  exemption->free = std::move(*free);
  exemption->chunks = exemption->free.count();
  return exemption;
}

ChunkSet wholly_free_chunks(std::span<const ChangedRange> free, std::uint64_t chunk_bytes,
                            std::uint64_t volume_bytes) {
  std::vector<ChangedRange> sorted(free.begin(), free.end());
  std::sort(sorted.begin(), sorted.end(), [](const ChangedRange& a, const ChangedRange& b) {
    return a.offset_bytes < b.offset_bytes;
  });
  ChunkSet chunks;
  std::uint64_t begin = 0;  // Of the run of ranges that touch.
  std::uint64_t end = 0;
  const auto close = [&] {
    const std::uint64_t first = (begin + chunk_bytes - 1) / chunk_bytes;
    // The last chunk of the volume may be a part: its end is as good as a border.
    const std::uint64_t whole = end == volume_bytes ? end + chunk_bytes - 1 : end;
    const std::uint64_t stop = whole / chunk_bytes;
    if (first < stop) chunks.insert_range(first, stop - first);
  };
  for (const ChangedRange& range : sorted) {
    const std::uint64_t offset = std::min(range.offset_bytes, volume_bytes);
    const std::uint64_t stop = offset + std::min(range.size_bytes, volume_bytes - offset);
    if (offset > end) {
      close();
      begin = offset;
    }
    end = std::max(end, stop);
  }
  close();
  return chunks;
}

// --- making it -------------------------------------------------------------------------------

Result<std::shared_ptr<Snapshot>> Volume::Impl::to_be_exempted(const SnapshotId& id) const {
  if (closed_.load()) return fail(Errc::bad_state, "the volume is closed");
  auto snapshot = end_of_comparison(id);
  if (!snapshot) return snapshot;
  const bool fresh = (*snapshot)->slot.state == format::SlotState::committed && !recovering_ &&
                     (*snapshot)->epoch == epoch_ && (*snapshot)->exemption() == nullptr;
  if (fresh) return snapshot;
  return fail(Errc::bad_state,
              "free blocks are exempt from the newest snapshot only, once, before its recovery "
              "window and before it is confirmed");
}

Status Volume::Impl::exempt_free(const SnapshotId& id, std::span<const ChangedRange> free) {
  // Meanwhile no snapshot comes, goes or is lost, and records only get more.
  const std::lock_guard table(table_mutex_);
  std::shared_ptr<Snapshot> snapshot;
  std::shared_ptr<Snapshot> before;
  {
    const std::lock_guard lock(mutex_);
    auto found = to_be_exempted(id);
    if (!found) return fail(found.error());
    snapshot = std::move(*found);
    const auto older = snapshots_.find(live_below(snapshot->epoch));
    if (older != snapshots_.end()) before = older->second;
  }
  auto exemption = std::make_unique<Exemption>();
  exemption->free = wholly_free_chunks(free, layout_.chunk_bytes, superblock_.origin_bytes);
  if (before) leave_out_needed(exemption->free, *before);
  if (exemption->free.empty()) return {};
  exemption->chunks = exemption->free.count();
  const auto bytes = exemption->encode();
  if (Status put = blobs_->put(BlobKind::exemption, id, bytes); !put) return put;
  const std::lock_guard lock(mutex_);
  snapshot->give_exemption(std::move(exemption));
  return {};
}

// What the snapshot would read from the origin.
void Volume::Impl::leave_out_needed(ChunkSet& free, const Snapshot& snapshot) const {
  constexpr std::uint64_t kMapPages = ChunkSet::kPageChunks / ChunkMap::kPageChunks;
  const Exemption* const exempt = snapshot.exemption();
  const std::uint64_t pages = (chunk_count_ + ChunkSet::kPageChunks - 1) / ChunkSet::kPageChunks;
  for (std::uint64_t index = 0; index < pages; ++index) {
    if (free.page(index) == nullptr) continue;
    ChunkSet::Page spared{};
    const ChunkSet::Page* const known = exempt != nullptr ? exempt->free.page(index) : nullptr;
    if (known != nullptr) spared = *known;
    for (std::uint64_t i = 0; i < kMapPages; ++i) {
      const std::uint64_t page = index * kMapPages + i;
      if (page >= map_.page_count()) break;
      const ChunkMap::PageMask recorded = map_.changed(page, snapshot.epoch, ~std::uint64_t{0});
      for (std::size_t word = 0; word < recorded.size(); ++word) {
        spared[i * recorded.size() + word] |= recorded[word];
      }
    }
    free.keep_only(index, spared);
  }
}

bool Volume::Impl::is_exempt(std::uint64_t chunk) const noexcept {
  if (living_.empty()) return false;
  const auto newest = snapshots_.find(*living_.rbegin());
  return newest != snapshots_.end() && newest->second->shows_nothing_of(chunk);
}

// --- removing and opening ----------------------------------------------------------------------

void Volume::Impl::forget_exemption(const Snapshot& snapshot) {
  const Status removed = blobs_->remove(BlobKind::exemption, snapshot.slot.id);
  if (removed || removed.error().code == Errc::object_not_found) return;
  log_.warning("what a deleted snapshot had exempt stays until the volume is opened again",
               {{"volume", id().to_string()}, {"error", removed.error().to_string()}});
}

Status Volume::Impl::load_exemptions(std::vector<Guid>& unknown) {
  for (const Guid& key : blobs_->list(BlobKind::exemption)) {
    const auto snapshot = by_id_.find(SnapshotId{key});
    if (snapshot == by_id_.end()) continue;  // A cut came between the two.
    const auto bytes = blobs_->get(BlobKind::exemption, key);
    if (!bytes && bytes.error().code == Errc::io_error) return fail(bytes.error());
    auto exemption = bytes ? Exemption::decode(*bytes, chunk_count_) : nullptr;
    if (exemption == nullptr) {
      unknown.push_back(key);
    } else {
      snapshot->second->give_exemption(std::move(exemption));
    }
  }
  return {};
}

void Volume::Impl::drop_orphaned_exemptions() {
  for (const Guid& key : blobs_->list(BlobKind::exemption)) {
    if (by_id_.contains(SnapshotId{key})) continue;
    if (const Status removed = blobs_->remove(BlobKind::exemption, key); !removed) {
      log_.warning("what a deleted snapshot had exempt cannot be removed",
                   {{"volume", id().to_string()}, {"error", removed.error().to_string()}});
    }
  }
}

}  // namespace umbra::cow
