// SPDX-License-Identifier: Apache-2.0
//
// The life of snapshots: prepare, commit, post_commit, confirm, remove; and of the volume itself.
// Every change is written to the snapshot table and flushed before it takes effect in memory, but
// for commit, which does no I/O: a crash before post_commit leaves a prepared snapshot, which is
// deleted at open.
//
// A slot of the table exists twice. One copy is written and flushed, then the other; until that one
// is durable as well (the next flush at the latest), the first is what counts. So a write that is
// cut leaves the state before it, and a copy that is damaged later loses nothing.
//
// The table grows by a segment that is cleared, flushed, and only then named by the superblocks, in
// both places; its slots are used after that. Cut before, it is an ordinary free segment: its index
// is not touched. A snapshot's slot exists as long as the snapshot does, so "lost" can be written
// however full the diff area is.
#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <new>

#include "engine/platform/assert.h"
#include "provider/cow/blobs.h"
#include "provider/cow/own_executor.h"
#include "provider/cow/revert.h"

namespace umbra::cow {

using format::SlotState;

namespace {

[[nodiscard]] SnapshotRecord record_of(const Snapshot& snapshot, std::uint64_t chunk_bytes) {
  const format::SnapshotSlot& slot = snapshot.slot;
  SnapshotRecord record;
  record.id = slot.id;
  record.set_id = slot.set_id;
  record.session_id = slot.session_id;
  record.attributes = slot.attributes;
  record.persistent = slot.persistent;
  record.stage = static_cast<Stage>(slot.state);
  record.lost = slot.lost;
  record.creation_filetime = slot.creation_filetime;
  record.epoch = slot.epoch;
  record.retain_until_filetime = slot.retain_until_filetime;
  record.members = slot.members;
  if (const Exemption* exempt = snapshot.exemption()) {
    record.exempt_bytes = exempt->chunks * chunk_bytes;
  }
  return record;
}

}  // namespace

Volume::Impl::Impl(block::Device& origin, block::ResizableDevice& diff, const OpenOptions& options,
                   const format::Superblock& superblock)
    : origin_(origin),
      movable_(diff),
      diff_(movable_),
      origin_geometry_(origin.geometry()),
      diff_alignment_(diff.geometry().alignment_bytes),
      options_(options),
      host_space_(options.host_space),
      clock_(options.clock != nullptr ? *options.clock : system_clock()),
      superblock_(superblock),
      layout_(format::Layout::of(superblock.chunk_bytes, superblock.unit_bytes)),
      area_(format::area_tag(superblock.area_id)),
      chunk_count_((superblock.origin_bytes + superblock.chunk_bytes - 1) / superblock.chunk_bytes),
      batch_chunks_(batch_chunks_of(superblock.chunk_bytes)),
      log_(options.log != nullptr ? *options.log : null_log(), "cow"),
      live_(*this),
      map_(chunk_count_),
      segments_(layout_),
      changes_(chunk_count_),
      copies_(kCopiesMax),
      copy_buckets_(kCopiesMax, nullptr),
      table_buffer_(make_aligned(format::kBlockBytes)),
      blobs_(std::make_unique<Blobs>(*this)) {
  kept_maximum_ = superblock.diff_bytes_max;
  explicit_association_ = superblock.settings.explicit_association;
  if (options.executor == nullptr) own_executor_ = std::make_unique<OwnExecutor>();
  executor_ = options.executor != nullptr ? options.executor : own_executor_.get();
  for (Copy& copy : copies_) free_copies_.push(copy);
  for (Batch& batch : batches_) {
    batch.impl = this;
    batch.next = std::exchange(free_batches_, &batch);
  }
  completed_ahead_.reserve(kNumbersInFlightMax + 1);
  diff_maximum_.store(superblock.diff_bytes_max);
  space_.no_punching = !diff.geometry().can_discard;
}

Volume::Impl::~Impl() = default;

// Memory for copying is taken before the first snapshot exists, never on the write path.
void Volume::Impl::make_copy_buffers() {
  if (batches_[0].data) return;
  for (Batch& batch : batches_) {
    batch.checksums.resize(std::size_t{batch_chunks_} * layout_.checksums_per_chunk);
    batch.index =
        make_aligned(std::size_t{layout_.group_units(batch_chunks_)} * layout_.unit_bytes);
    batch.end = make_aligned(layout_.unit_bytes);
    batch.data = make_aligned(std::size_t{batch_chunks_} * layout_.chunk_bytes);
  }
  const std::size_t words = (chunk_count_ + 63) / 64;
  current_bits_ = Bits(words);
  spare_bits_ = Bits(words);
  spare_clear_ = true;
}

std::shared_ptr<Snapshot> Volume::Impl::find_snapshot(const SnapshotId& id) const {
  const auto it = by_id_.find(id);
  return it != by_id_.end() ? it->second : nullptr;
}

bool Volume::Impl::stop_living(const Snapshot& snapshot) noexcept {
  if (living_.erase(snapshot.epoch) == 0) return false;
  living_persistent_.erase(snapshot.epoch);
  ++removals_;
  use_bits();
  return true;
}

void Volume::Impl::use_bits() noexcept {
  const bool needed = !living_.empty() || changes_.tracking();
  bits_.store(needed ? &current_bits_ : nullptr, std::memory_order_release);
}

std::uint64_t Volume::Impl::live_below(std::uint64_t epoch) const noexcept {
  const auto it = living_.lower_bound(epoch);
  const std::uint64_t below = it != living_.begin() ? *std::prev(it) : 0;
  return pinned_epoch_ < epoch ? std::max(below, pinned_epoch_) : below;
}

std::uint64_t Volume::Impl::live_above(std::uint64_t epoch) const noexcept {
  const auto it = living_.upper_bound(epoch);
  const std::uint64_t above = it != living_.end() ? *it : epoch_ + 1;
  return pinned_epoch_ > epoch ? std::min(above, pinned_epoch_) : above;
}

// --- durable state ---------------------------------------------------------------------------

Status Volume::Impl::write_slot_copy(const format::SnapshotSlot& slot, std::uint32_t copy) {
  format::encode(slot, area_, format::Block(table_buffer_.get(), format::kBlockBytes));
  block::Request write;
  write.op = block::Op::write;
  write.offset_bytes = layout_.table_offset(superblock_.table_segments, slot.index, copy);
  write.size_bytes = format::kBlockBytes;
  write.buffer = table_buffer_.get();
  const int error = block::run(diff_, write);
  if (error == 0) return {};
  return fail(Errc::io_error, "writing snapshot slot " + std::to_string(slot.index) + ": errno " +
                                  std::to_string(error));
}

Status Volume::Impl::write_slots(std::span<format::SnapshotSlot> slots) {
  for (format::SnapshotSlot& slot : slots) {
    TableSlot& place = table_[slot.index];
    slot.sequence = ++place.sequence;
    if (Status written = write_slot_copy(slot, place.copy); !written) return written;
  }
  if (Status flushed = flush_diff(); !flushed) return flushed;
  for (const format::SnapshotSlot& slot : slots) {
    TableSlot& place = table_[slot.index];
    place.copy ^= 1U;
    // What the first copy says is durable: that this one is not written costs only the spare.
    if (const Status written = write_slot_copy(slot, place.copy); !written) {
      log_.warning("a snapshot's slot has no second copy now",
                   {{"volume", id().to_string()}, {"error", written.error().to_string()}});
    }
  }
  return {};
}

Status Volume::Impl::write_slot(format::SnapshotSlot slot) { return write_slots({&slot, 1}); }

Status Volume::Impl::flush_diff() {
  block::Request flush;
  flush.op = block::Op::flush;
  int error = diff_flush_failed_.load() ? EIO : block::run(diff_, flush);
  // Looked at again: of syncs side by side one may be told of the failure, and the others nothing.
  if (error == 0 && diff_flush_failed_.load()) error = EIO;
  if (error != 0) {
    diff_flush_failed_.store(true);
    return fail(Errc::io_error, "flushing the diff area: errno " + std::to_string(error));
  }
  return {};
}

Status Volume::Impl::flush_origin() {
  block::Request flush;
  flush.op = block::Op::flush;
  int error = origin_flush_failed_.load() ? EIO : block::run(origin_, flush);
  if (error == 0 && origin_flush_failed_.load()) error = EIO;  // As in flush_diff().
  if (error == 0) return {};
  origin_flush_failed_.store(true);
  return fail(Errc::io_error, "flushing the origin: errno " + std::to_string(error));
}

Status Volume::Impl::write_superblock(bool clean) {
  superblock_.clean = clean;
  {
    const std::lock_guard lock(mutex_);
    superblock_.settings.highest_filetime = trusted_now();
  }
  for (int place = 0; place < 2; ++place) {
    ++superblock_.sequence;
    format::encode(superblock_, format::Block(table_buffer_.get(), format::kBlockBytes));
    block::Request write;
    write.op = block::Op::write;
    write.offset_bytes = format::kSuperblockOffsets[superblock_.sequence % 2];
    write.size_bytes = format::kBlockBytes;
    write.buffer = table_buffer_.get();
    if (const int error = block::run(diff_, write); error != 0) {
      --superblock_.sequence;  // The same place next time: the other one may be the only good one.
      return fail(Errc::io_error, "writing the superblock: errno " + std::to_string(error));
    }
    if (Status flushed = flush_diff(); !flushed) return flushed;
  }
  return {};
}

Status Volume::Impl::mark_lost(const std::vector<std::shared_ptr<Snapshot>>& victims) {
  const std::lock_guard table(table_mutex_);
  std::vector<SnapshotId> ids;
  std::vector<format::SnapshotSlot> slots;
  for (const auto& victim : victims) {
    if (victim->readable.load() == Snapshot::Readable::removed) continue;  // Meanwhile.
    slots.push_back(slot_of(*victim));
    slots.back().lost = true;
    ids.push_back(slots.back().id);
  }
  if (ids.empty()) return {};
  Status status = write_slots(slots);
  if (!status && options_.lost_store != nullptr) status = options_.lost_store->add(id(), ids);
  if (!status) return status;
  // Under table_mutex_, so that no later write of the slot forgets it.
  const std::lock_guard lock(mutex_);
  for (const auto& victim : victims) {
    auto expected = Snapshot::Readable::yes;
    if (!victim->readable.compare_exchange_strong(expected, Snapshot::Readable::lost)) continue;
    end_watches(victim.get());
    victim->slot.lost = true;
    ++lost_count_;
    if (revert_ != nullptr && revert_->target == victim) pinned_epoch_ = victim->epoch;
    (void)stop_living(*victim);
  }
  return {};
}

format::SnapshotSlot Volume::Impl::slot_of(const Snapshot& snapshot) const {
  const std::lock_guard lock(mutex_);
  return snapshot.slot;
}

// --- making snapshots ------------------------------------------------------------------------

std::uint32_t Volume::Impl::table_slots() const noexcept {
  const std::uint64_t slots =
      format::kTableSlots + std::uint64_t{layout_.table_slots} * superblock_.table_segments.size();
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(slots, format::kSnapshotsMax));
}

// Never the last free one: then a snapshot could not keep anything.
Result<std::uint32_t> Volume::Impl::take_segment_aside(const std::string& what) {
  do {
    const std::lock_guard lock(mutex_);
    if (segments_.free_count() < 2) continue;
    const auto segment = segments_.take_aside();
    note_space();
    return *segment;
  } while (make_room());
  return fail(Errc::insufficient_storage,
              "the diff area has no room for " + what +
                  "; delete snapshots, or attach with a larger maximum");
}

Status Volume::Impl::clear_table_segment(std::uint32_t segment) {
  constexpr std::uint64_t kPieceBytes = 256U << 10U;
  const AlignedBuffer zeroes = make_aligned(kPieceBytes);
  std::fill_n(zeroes.get(), kPieceBytes, std::byte{0});
  const std::uint64_t size = std::uint64_t{layout_.table_slots} * 2 * format::kBlockBytes;
  for (std::uint64_t at = 0; at < size; at += kPieceBytes) {
    block::Request write;
    write.op = block::Op::write;
    write.offset_bytes = layout_.slot_offset(segment, 0) + at;
    write.size_bytes = std::min(kPieceBytes, size - at);
    write.buffer = zeroes.get();
    if (const int error = block::run(diff_, write); error != 0) {
      return fail(Errc::io_error, "making room for snapshot slots: errno " + std::to_string(error));
    }
  }
  return flush_diff();
}

Status Volume::Impl::grow_table() {
  // A segment that is named already is one whose superblock could not be written last time.
  if (table_slots() == table_.size()) {
    if (superblock_.table_segments.size() == format::kTableSegmentsMax) {
      return fail(Errc::insufficient_storage,
                  "all places of the snapshot table are in use; delete some snapshots");
    }
    const auto segment = take_segment_aside("the places of more than " +
                                            std::to_string(table_.size()) + " snapshots");
    if (!segment) return fail(segment.error());
    if (Status cleared = clear_table_segment(*segment); !cleared) {
      const std::lock_guard lock(mutex_);
      segments_.give_back(*segment);
      return cleared;
    }
    superblock_.table_segments.push_back(*segment);
    const std::lock_guard lock(mutex_);
    segments_.forget_shown(*segment);
  }
  if (Status written = write_superblock(false); !written) return written;
  const auto known = static_cast<std::uint32_t>(table_.size());
  table_.resize(table_slots());
  for (std::uint32_t slot = table_slots(); slot-- > known;) free_slots_.push_back(slot);
  return {};
}

Status Volume::Impl::check_new(const PrepareRequest& request) {
  if (closed_.load()) return fail(Errc::bad_state, "the volume is closed");
  if (prepared_) {
    return fail(Errc::bad_state,
                "snapshot " + prepared_->slot.id.to_string() + " is being made on this volume");
  }
  if (revert_ != nullptr) {
    return fail(Errc::revert_in_progress, "to snapshot " + revert_->target->slot.id.to_string());
  }
  if (recovering_) {
    return fail(Errc::bad_state,
                "snapshot " + recovering_->slot.id.to_string() + " takes its recovery writes");
  }
  if (find_snapshot(request.id)) {
    return fail(Errc::object_already_exists, "snapshot " + request.id.to_string());
  }
  if (snapshots_.size() >= kSnapshotsMax) {
    return fail(Errc::maximum_number_of_snapshots_reached,
                std::to_string(kSnapshotsMax) +
                    " snapshots, which is all that a diff area has places for; delete some");
  }
  if (snapshots_.size() >= options_.snapshots_max) {
    return fail(Errc::maximum_number_of_snapshots_reached,
                std::to_string(options_.snapshots_max) +
                    " snapshots, this volume's limit; delete some, or attach it with a larger "
                    "limit (up to " +
                    std::to_string(kSnapshotsMax) + ")");
  }
  if (epoch_last_ >= format::kEpochMax) {
    return fail(Errc::diff_area_corrupt, "its epochs are used up, which nothing but damage can do");
  }
  if (segments_.count() == 0) return fail(Errc::insufficient_storage, "no room in the diff area");
  if (faulted_.load()) {
    return fail(Errc::bad_state, "the volume is faulted to protect its copies; clear that first");
  }
  if (const std::uint64_t limit = space_limit(); limit != 0 && retention_reserve_bytes_ != 0 &&
                                                 !refuse_if_retained().has_value() &&
                                                 used_bytes() + retention_reserve_bytes_ > limit) {
    return fail(Errc::insufficient_storage,
                "what is left of the diff area is reserved for copies under retention lock");
  }
  return {};
}

Status Volume::Impl::prepare(const PrepareRequest& request) {
  const std::lock_guard table(table_mutex_);
  {
    const std::lock_guard lock(mutex_);
    if (Status good = check_new(request); !good) return good;
  }
  if (free_slots_.empty()) {
    if (Status grown = grow_table(); !grown) return grown;
  }
  auto snapshot = std::make_shared<Snapshot>();
  {
    const std::lock_guard lock(mutex_);
    snapshot->epoch = ++epoch_last_;
    if (living_.empty()) make_copy_buffers();
  }
  snapshot->slot.index = free_slots_.back();
  snapshot->slot.state = SlotState::prepared;
  snapshot->slot.persistent = request.persistent;
  snapshot->slot.attributes = request.attributes;
  snapshot->slot.id = request.id;
  snapshot->slot.set_id = request.set_id;
  snapshot->slot.session_id = request.session_id;
  snapshot->slot.boot_id = options_.boot_id;
  snapshot->slot.epoch = snapshot->epoch;
  // Nobody looks at the spare bits between a commit and the next one.
  if (!spare_clear_) {
    for (auto& word : spare_bits_) word.store(0, std::memory_order_relaxed);
    spare_clear_ = true;
  }
  if (Status written = write_slot(snapshot->slot); !written) return written;
  free_slots_.pop_back();
  const std::lock_guard lock(mutex_);
  prepared_living_.insert(snapshot->epoch);
  if (request.persistent) prepared_persistent_.insert(snapshot->epoch);
  changes_.prepare(snapshot->epoch);
  snapshots_.emplace(snapshot->epoch, snapshot);
  by_id_.emplace(request.id, snapshot);
  prepared_ = std::move(snapshot);
  return {};
}

void Volume::Impl::commit(const SnapshotId& id, std::int64_t creation_filetime) noexcept {
  const std::lock_guard lock(mutex_);
  UMBRA_ASSERT(prepared_ != nullptr && prepared_->slot.id == id);
  UMBRA_ASSERT(holds_ > 0 && quiet_);
  prepared_->slot.state = SlotState::committed;
  prepared_->slot.creation_filetime = creation_filetime;
  epoch_ = prepared_->epoch;
  std::swap(current_bits_, spare_bits_);
  spare_clear_ = false;
  living_.merge(prepared_living_);  // Moves the nodes: nothing is allocated while writes are held.
  living_persistent_.merge(prepared_persistent_);
  changes_.commit();
  bits_.store(&current_bits_, std::memory_order_release);
  prepared_.reset();
}

Result<std::shared_ptr<Snapshot>> Volume::Impl::committed(const SnapshotId& id) const {
  const std::lock_guard lock(mutex_);
  if (closed_.load()) return fail(Errc::bad_state, "the volume is closed");
  auto snapshot = find_snapshot(id);
  if (!snapshot) return fail(Errc::object_not_found, "snapshot " + id.to_string());
  if (snapshot->slot.state == SlotState::prepared) {
    return fail(Errc::bad_state, "snapshot " + id.to_string() + " has no point in time yet");
  }
  return snapshot;
}

Status Volume::Impl::post_commit(const SnapshotId& id, const std::vector<SnapshotId>& members) {
  if (members.size() > kMembersMax) return fail(Errc::invalid_argument, "too many members");
  const std::lock_guard table(table_mutex_);
  const auto snapshot = committed(id);
  if (!snapshot) return fail(snapshot.error());
  format::SnapshotSlot slot = slot_of(**snapshot);
  if (slot.lost) return fail(Errc::snapshot_lost, "snapshot " + id.to_string());
  // The copy also consists of writes that completed before the commit and were not preserved: they
  // have to be durable before the copy is.
  if (slot.persistent) {
    if (Status flushed = flush_origin(); !flushed) return flushed;
  }
  slot.members = members;
  if (Status written = write_slot(slot); !written) return written;
  const std::lock_guard lock(mutex_);
  (*snapshot)->slot.members = members;
  return {};
}

Status Volume::Impl::confirm(const SnapshotId& id) {
  const std::lock_guard table(table_mutex_);
  const auto snapshot = committed(id);
  if (!snapshot) return fail(snapshot.error());
  format::SnapshotSlot slot = slot_of(**snapshot);
  if (slot.state == SlotState::created) return {};
  // Not earlier: writers wait for post_commit(). Auto-release copies are not worth two flushes.
  if (slot.persistent && !slot.lost) {
    take_fingerprint(false);
    if (Status written = write_superblock(false); !written) return written;
  }
  slot.state = SlotState::created;
  if (Status written = write_slot(slot); !written) return written;
  const std::lock_guard lock(mutex_);
  (*snapshot)->slot.state = SlotState::created;
  ++created_count_;
  return {};
}

Status Volume::Impl::remove(const SnapshotId& id, bool force, const RemovalCause& cause) {
  RequestQueue unserved;
  const Status removed = remove(id, force, cause, unserved);
  fail_chain(unserved.take(), EIO);
  return removed;
}

Status Volume::Impl::remove(const SnapshotId& id, bool force, const RemovalCause& cause,
                            RequestQueue& unserved) {
  const std::lock_guard table(table_mutex_);
  std::shared_ptr<Snapshot> snapshot;
  format::SnapshotSlot slot;
  {
    const std::lock_guard lock(mutex_);
    if (closed_.load()) return fail(Errc::bad_state, "the volume is closed");
    snapshot = find_snapshot(id);
    if (!snapshot) return fail(Errc::object_not_found, "snapshot " + id.to_string());
    if (revert_ != nullptr && revert_->target == snapshot) {
      return fail(Errc::revert_in_progress, "to snapshot " + id.to_string());
    }
    if (!force && snapshot->open_devices.load() > 0) {
      return fail(Errc::volume_in_use, "snapshot " + id.to_string() + " is open");
    }
    slot = snapshot->slot;
    const std::uint64_t epoch = snapshot->epoch;
    if (Status unlocked = refuse_if_retained(epoch - 1, epoch); !unlocked) return unlocked;
  }
  // Durable before its space is reused: otherwise a crash could bring the snapshot back over
  // segments that hold something else.
  slot.state = SlotState::free;
  if (Status written = write_slot(slot); !written) return written;
  free_slots_.push_back(slot.index);
  take_out(snapshot, cause, unserved);
  if (snapshot->exemption() != nullptr) forget_exemption(*snapshot);
  return {};
}

void Volume::Impl::take_out(const std::shared_ptr<Snapshot>& snapshot, const RemovalCause& cause,
                            RequestQueue& unserved) noexcept {
  const std::lock_guard lock(mutex_);
  snapshot->readable.store(Snapshot::Readable::removed);
  end_watches(snapshot.get());
  snapshots_.erase(snapshot->epoch);
  by_id_.erase(snapshot->slot.id);
  if (snapshot->slot.state == SlotState::created) --created_count_;
  if (snapshot->slot.lost) --lost_count_;
  if (prepared_ == snapshot) {
    prepared_living_.clear();
    prepared_persistent_.clear();
    changes_.abort();
    prepared_.reset();
  } else {
    tell_of(EventKind::snapshot_deleted, *snapshot, cause, {});
  }
  space_.growth.reset();  // There may be space again.
  space_.eviction_failed = false;
  drop_overlay(*snapshot, unserved);
  changes_.forget_snapshot(snapshot->epoch);
  if (stop_living(*snapshot)) note_unpruned(snapshot->epoch);
  if (failing_.head != nullptr) post_losses();
}

// --- looking at it ---------------------------------------------------------------------------

// In pieces: a write that has to wait for the lock does not wait for a copy of everything.
std::vector<SnapshotRecord> Volume::Impl::list() const {
  constexpr int kAtATime = 256;
  std::vector<SnapshotRecord> records;
  for (std::uint64_t after = 0;;) {
    const std::lock_guard lock(mutex_);
    auto it = snapshots_.upper_bound(after);
    for (int i = 0; i < kAtATime && it != snapshots_.end(); ++i, ++it) {
      after = it->first;
      records.push_back(record_of(*it->second, layout_.chunk_bytes));
    }
    if (it == snapshots_.end()) return records;
  }
}

std::optional<SnapshotRecord> Volume::Impl::find(const SnapshotId& id) const {
  const std::lock_guard lock(mutex_);
  const auto snapshot = find_snapshot(id);
  if (snapshot == nullptr) return std::nullopt;
  return record_of(*snapshot, layout_.chunk_bytes);
}

std::size_t Volume::Impl::count() const {
  const std::lock_guard lock(mutex_);
  return by_id_.size();
}

Statistics Volume::Impl::statistics() const {
  Statistics statistics;
  statistics.chunk_bytes = layout_.chunk_bytes;
  statistics.diff_allocated_bytes = closed_.load() ? 0 : diff_.geometry().size_bytes;
  statistics.diff_bytes_max = diff_maximum_.load();
  statistics.chunks_preserved = chunks_preserved_.load();
  statistics.records = map_.record_count();
  statistics.groups_written = groups_written_.load();
  statistics.diff_flushes = diff_flushes_.load();
  statistics.checksum_failures = checksum_failures_.load();
  statistics.metadata_repairs = metadata_repairs_.load();
  statistics.free_bytes_not_copied = free_chunks_written_.load() * layout_.chunk_bytes;
  statistics.reflink = sharing_.load();
  statistics.chunks_shared = chunks_shared_.load();
  const std::lock_guard lock(mutex_);
  statistics.diff_used_bytes = segments_.used_count() * layout_.segment_bytes;
  statistics.diff_ready_bytes = ready_bytes();
  statistics.shared_bytes = segments_.shared_bytes();
  statistics.diff_punched_bytes = segments_.bare_count() * layout_.segment_bytes;
  statistics.snapshots_evicted = snapshots_evicted_.load();
  statistics.snapshots = created_count_;
  statistics.snapshots_lost = lost_count_;
  statistics.writes_held = writes_held_ || notes_held_;
  statistics.state = trouble_.empty() ? "ok" : trouble_;
  if (trouble_.empty() && !scrub_trouble_.empty()) statistics.state = scrub_trouble_;
  if (origin_flush_failed_.load()) statistics.state = "flushing the origin failed; attach it again";
  return statistics;
}

// --- the end ---------------------------------------------------------------------------------

Status Volume::Impl::close() {
  {
    std::unique_lock lock(mutex_);
    if (closed_.load()) return {};
    space_.stopping = true;
    idle_.wait(lock, [this] { return busy_ == 0; });
  }
  const bool held = statistics().writes_held;
  shut_down();
  const std::lock_guard table(table_mutex_);
  if (Status flushed = flush_origin(); !flushed) return flushed;
  if (Status flushed = flush_diff(); !flushed) return flushed;
  if (held) return fail(Errc::io_error, "writes were held and have failed now");
  if (changes_.unsaved()) {
    if (const Status saved = save_changes(); !saved) {
      log_.warning("what changed since checkpoints is kept by regions only",
                   {{"volume", id().to_string()}, {"error", saved.error().to_string()}});
    }
  }
  superblock_.trusted_sequence = completed_sequence_;
  superblock_.uses = {};
  if (!sequence_stuck_ && !uses_unknown_) superblock_.uses = segments_.shown();
  take_fingerprint(true);
  return write_superblock(true);
}

void Volume::Impl::shut_down() noexcept {
  RequestQueue waiting;
  {
    std::unique_lock lock(mutex_);
    closed_.store(true);
    end_watches();
    idle_.wait(lock, [this] { return busy_ == 0; });
    waiting.append(parked_);
    waiting.append(starved_);
    waiting.append(overlay_queue_);
    if (revert_ != nullptr) waiting.append(revert_->waiters);
    waiting.append(unnoted_);
    waiting.append(mount_waiters_);
    waiting.append(unrelieved_);
    for (Copy& copy : copies_) waiting.append(copy.waiters);
  }
  own_executor_.reset();
  flush_events();
  fail_chain(waiting.take(), EIO);  // A revert's own writes may be among them.
  for (std::uint64_t reads = reads_.load(); reads != 0; reads = reads_.load()) reads_.wait(reads);
  const std::lock_guard lock(mutex_);
  revert_.reset();  // Its device keeps us alive.
}

}  // namespace umbra::cow
