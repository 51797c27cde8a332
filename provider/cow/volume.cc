// SPDX-License-Identifier: Apache-2.0
#include "provider/cow/volume.h"

#include <algorithm>
#include <bit>

#include "provider/cow/core.h"
#include "provider/cow/migrate.h"
#include "provider/cow/superblocks.h"

namespace umbra::cow {
namespace {

constexpr std::uint32_t kUnitBytesMin = 512;

}  // namespace

std::uint64_t diff_bytes_min(std::uint32_t chunk_bytes) noexcept {
  // For the largest unit, so that it holds on every device.
  return format::kSegmentsOffset +
         2 * format::Layout::of(chunk_bytes, format::kBlockBytes).segment_bytes;
}

Status format_diff_area(const block::Device& origin, block::ResizableDevice& diff,
                        const FormatOptions& options) {
  const bool chunk_fits = std::has_single_bit(options.chunk_bytes) &&
                          options.chunk_bytes >= kChunkBytesMin &&
                          options.chunk_bytes <= kChunkBytesMax;
  if (!chunk_fits) {
    return fail(Errc::invalid_argument, "the chunk size is a power of two from 4 KiB to 1 MiB");
  }
  if (origin.geometry().size_bytes == 0) return fail(Errc::invalid_argument, "empty origin");
  if (!options.force) {
    if (Status free = refuse_to_overwrite(diff); !free) return free;
  }
  const std::uint64_t least = diff_bytes_min(options.chunk_bytes);
  if (options.diff_bytes_max != 0 && options.diff_bytes_max < least) {
    return fail(Errc::insufficient_storage, "the maximum is below " + std::to_string(least));
  }
  std::uint64_t initial = std::max(options.diff_bytes_initial, least);
  if (options.diff_bytes_max != 0) initial = std::min(initial, options.diff_bytes_max);
  if (diff.geometry().size_bytes < initial) {
    const Status grown = diff.resize(initial);
    if (!grown && grown.error().code != Errc::not_supported) return grown;
  }
  if (diff.geometry().size_bytes < least) {
    return fail(Errc::insufficient_storage,
                "a diff area needs at least " + std::to_string(least) + " bytes");
  }
  constexpr std::uint64_t kPieceBytes = 256U << 10U;
  const AlignedBuffer zeroes = make_aligned(kPieceBytes);
  std::fill_n(zeroes.get(), kPieceBytes, std::byte{0});
  for (std::uint64_t at = 0; at < format::kSegmentsOffset; at += kPieceBytes) {
    const std::uint64_t size = std::min(kPieceBytes, format::kSegmentsOffset - at);
    if (Status written = transfer(diff, block::Op::write, at, {zeroes.get(), size}, "formatting");
        !written) {
      return written;
    }
  }
  if (Status flushed = flush(diff); !flushed) return flushed;
  format::Superblock superblock;
  superblock.area_id = Guid::random();
  superblock.volume_id = options.volume_id;
  superblock.origin_bytes = origin.geometry().size_bytes;
  superblock.chunk_bytes = options.chunk_bytes;
  superblock.unit_bytes = std::max(kUnitBytesMin, diff.geometry().block_bytes);
  superblock.diff_bytes_max = options.diff_bytes_max;
  superblock.settings.diff_bytes_initial = initial;
  superblock.clean = true;
  for (superblock.sequence = 1; superblock.sequence <= 2; ++superblock.sequence) {
    format::encode(superblock, format::Block(zeroes.get(), format::kBlockBytes));
    const std::uint64_t offset = format::kSuperblockOffsets[superblock.sequence % 2];
    if (Status written = transfer(diff, block::Op::write, offset,
                                  {zeroes.get(), format::kBlockBytes}, "writing the superblock");
        !written) {
      return written;
    }
  }
  return flush(diff);
}

Result<std::unique_ptr<Volume>> Volume::open(block::Device& origin, block::ResizableDevice& diff,
                                             const OpenOptions& options) {
  const auto superblock = read_superblock(diff);
  if (!superblock) return fail(superblock.error());
  if (Status in_force = refuse_if_moved(*superblock); !in_force) return fail(in_force.error());
  if (options.volume_id && superblock->volume_id != *options.volume_id) {
    return fail(Errc::diff_area_wrong_origin,
                "it belongs to volume " + superblock->volume_id.to_string());
  }
  if (superblock->origin_bytes != origin.geometry().size_bytes) {
    return fail(Errc::diff_area_wrong_origin,
                "its origin has " + std::to_string(superblock->origin_bytes) + " bytes, this one " +
                    std::to_string(origin.geometry().size_bytes));
  }
  if (diff.geometry().block_bytes > superblock->unit_bytes) {
    return fail(Errc::diff_area_corrupt, "it was made on a device with smaller blocks");
  }
  auto impl = std::make_shared<Impl>(origin, diff, options, *superblock);
  if (Status recovered = impl->recover(); !recovered) {
    impl->shut_down();
    return fail(recovered.error());
  }
  return std::unique_ptr<Volume>(new Volume(std::move(impl)));
}

Volume::Volume(std::shared_ptr<Impl> impl) noexcept : impl_(std::move(impl)) {}
Volume::~Volume() { impl_->shut_down(); }

block::Device& Volume::live() noexcept { return impl_->live(); }
VolumeId Volume::id() const noexcept { return impl_->id(); }
Status Volume::prepare(const PrepareRequest& request) { return impl_->prepare(request); }
void Volume::hold() noexcept { impl_->hold(); }
bool Volume::drain(Duration limit) noexcept { return impl_->drain(limit); }
bool Volume::quiesce(Duration limit) noexcept { return impl_->quiesce(limit); }
void Volume::commit(const SnapshotId& snapshot, std::int64_t creation_filetime) noexcept {
  impl_->commit(snapshot, creation_filetime);
}
void Volume::release() noexcept { impl_->release(); }
Status Volume::post_commit(const SnapshotId& snapshot, const std::vector<SnapshotId>& members) {
  return impl_->post_commit(snapshot, members);
}
Status Volume::exempt_free(const SnapshotId& snapshot, std::span<const ChangedRange> free) {
  return impl_->exempt_free(snapshot, free);
}
Status Volume::confirm(const SnapshotId& snapshot) { return impl_->confirm(snapshot); }
Status Volume::remove(const SnapshotId& snapshot, bool force, const RemovalCause& cause) {
  return impl_->remove(snapshot, force, cause);
}
Result<MaximumChange> Volume::set_diff_maximum(std::uint64_t bytes, const std::string& who) {
  return impl_->set_diff_maximum(bytes, who);
}
Status Volume::set_thresholds(const ThresholdPercents& percents) {
  return impl_->set_thresholds(percents);
}
Status Volume::check_retention(const std::optional<SnapshotId>& newer_than) const {
  return impl_->check_retention(newer_than);
}
Status Volume::keep_association(const Association& association) {
  return impl_->keep_association(association);
}
Association Volume::kept_association() const { return impl_->kept_association(); }
Result<std::shared_ptr<block::Device>> Volume::open_snapshot(const SnapshotId& snapshot) {
  return impl_->open_snapshot(snapshot);
}
Result<std::unique_ptr<HomeWatch>> Volume::watch_homes(const SnapshotId& snapshot,
                                                       std::shared_ptr<HomeSink> sink) {
  return impl_->watch_homes(snapshot, std::move(sink));
}
HomeLayout Volume::home_layout() const noexcept { return impl_->home_layout(); }
Result<std::shared_ptr<block::Device>> Volume::open_for_recovery(const SnapshotId& snapshot) {
  return impl_->open_for_recovery(snapshot);
}
Status Volume::begin_recovery(const SnapshotId& snapshot) {
  return impl_->begin_recovery(snapshot);
}
Status Volume::end_recovery(const SnapshotId& snapshot) { return impl_->end_recovery(snapshot); }
Status Volume::begin_revert(const SnapshotId& snapshot, const std::string& who) {
  return impl_->begin_revert(snapshot, who);
}
Status Volume::abandon_revert() { return impl_->abandon_revert(); }
RevertStatus Volume::revert_status() const { return impl_->revert_status(); }
Result<CheckReport> Volume::scrub(const ScrubProgress& progress, std::uint64_t bytes_per_second) {
  return impl_->scrub(progress, bytes_per_second);
}
Status Volume::changed_blocks(const Guid& from, const std::optional<SnapshotId>& to,
                              const ChangedSink& sink, std::uint64_t begin_bytes,
                              std::uint64_t end_bytes) {
  return impl_->changed_blocks(from, to, sink, begin_bytes, end_bytes);
}
Status Volume::create_checkpoint(const CheckpointRequest& request) {
  return impl_->create_checkpoint(request);
}
std::vector<CheckpointRecord> Volume::list_checkpoints() const { return impl_->list_checkpoints(); }
Status Volume::remove_checkpoint(const CheckpointId& id) { return impl_->remove_checkpoint(id); }
std::vector<SnapshotRecord> Volume::list() const { return impl_->list(); }
std::optional<SnapshotRecord> Volume::find(const SnapshotId& snapshot) const {
  return impl_->find(snapshot);
}
std::size_t Volume::count() const { return impl_->count(); }
Statistics Volume::statistics() const { return impl_->statistics(); }
Protection Volume::protection() const { return impl_->protection(); }
Status Volume::set_protection_level(ProtectionLevel level) {
  return impl_->set_protection_level(level);
}
Status Volume::clear_protection_fault() { return impl_->clear_protection_fault(); }
Status Volume::set_retention(const RetentionPolicy& policy) { return impl_->set_retention(policy); }
Status Volume::retain(const SnapshotId& snapshot, std::int64_t until_filetime) {
  return impl_->retain(snapshot, until_filetime);
}
Status Volume::close() { return impl_->close(); }
Result<MigrateReport> Volume::migrate(block::ResizableDevice& target, const MigrateOptions& options,
                                      const OnMigrateProgress& on_progress) {
  return impl_->migrate(target, options, on_progress);
}

}  // namespace umbra::cow
