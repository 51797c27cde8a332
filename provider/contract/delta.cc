// SPDX-License-Identifier: Apache-2.0
//
// QuerySnapshotDeltaBitmap: what differs between two points in time of a volume, as runs of its
// chunks, in parts that fit into a line of the wire.
#include "provider/contract/management.h"

namespace umbra::contract {
namespace {

Result<SnapshotDelta> delta_of(cow::Volume& volume, const Guid& from,
                               const std::optional<SnapshotId>& to, std::uint64_t first_block) {
  SnapshotDelta delta;
  delta.block_bytes = static_cast<std::uint32_t>(volume.statistics().chunk_bytes);
  const std::uint64_t size_bytes = volume.live().geometry().size_bytes;
  delta.volume_blocks = (size_bytes + delta.block_bytes - 1) / delta.block_bytes;
  if (first_block > delta.volume_blocks) {
    return fail(Errc::invalid_argument, "the volume has " + std::to_string(delta.volume_blocks) +
                                            " blocks, none at " + std::to_string(first_block));
  }
  delta.next_block = delta.volume_blocks;
  const Status told = volume.changed_blocks(
      from, to,
      [&](std::span<const cow::ChangedRange> ranges) {
        for (const auto& range : ranges) {
          const std::uint64_t first = range.offset_bytes / delta.block_bytes;
          if (delta.runs.size() == kDeltaRunsMax) {
            delta.next_block = first;
            return false;
          }
          const std::uint64_t end = range.offset_bytes + range.size_bytes;
          delta.runs.push_back({first, (end + delta.block_bytes - 1) / delta.block_bytes - first});
        }
        return true;
      },
      first_block * delta.block_bytes);
  if (!told) return fail(told.error());
  return delta;
}

}  // namespace

Result<std::shared_ptr<cow::Volume>> SystemProvider::Management::keep_volume(
    const Entry& entry) const {
  const std::lock_guard lock(provider_.mutex_);
  if (const auto there = entry.store(); !there) return fail(there.error());
  return entry.volume;
}

Result<SnapshotDelta> SystemProvider::Management::query_snapshot_delta_bitmap(
    const SnapshotId& older, const SnapshotId& younger, std::uint64_t first_block) {
  const auto from = provider_.created_copy(older);
  if (!from) return fail(from.error());
  const auto to = provider_.created_copy(younger);
  if (!to) return fail(to.error());
  if (from->entry != to->entry) {
    return fail(Errc::invalid_argument, "the two are copies of different volumes");
  }
  const auto volume = keep_volume(*from->entry);
  if (!volume) return fail(volume.error());
  return delta_of(**volume, older, younger, first_block);
}

Result<SnapshotDelta> SystemProvider::Management::query_changes(const Guid& since,
                                                                const SnapshotId& until,
                                                                std::uint64_t first_block) {
  EntryPtr entry;
  std::optional<SnapshotId> to;
  if (const auto checkpoint = find_checkpoint(since)) {
    if (checkpoint->record.everything) {
      return fail(Errc::changes_unknown, "checkpoint '" + checkpoint->record.name +
                                             "' of volume '" + checkpoint->entry->description.name +
                                             "'");
    }
    entry = checkpoint->entry;
  } else if (const auto from = provider_.created_copy(SnapshotId{since})) {
    entry = from->entry;
  } else {
    return fail(Errc::object_not_found, "no such checkpoint or shadow copy: " + since.to_string());
  }
  if (!until.is_nil()) {
    const auto copy = provider_.created_copy(until);
    if (!copy) return fail(copy.error());
    if (copy->entry != entry) {
      return fail(Errc::invalid_argument, "the two are of different volumes");
    }
    to = until;
  }
  const auto volume = keep_volume(*entry);
  if (!volume) return fail(volume.error());
  return delta_of(**volume, since, to, first_block);
}

}  // namespace umbra::contract
