// SPDX-License-Identifier: Apache-2.0
//
// The life of snapshots: prepare, commit, post_commit, confirm, remove; and of the volume itself.
// Every change is written to the snapshot table and flushed before it takes effect in memory, but
// for commit, which does no I/O: a crash before post_commit leaves a prepared snapshot, which is
// deleted at open.
#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <new>

#include "engine/platform/assert.h"
#include "provider/cow/core.h"

namespace umbra::cow {

using format::SlotState;

void AlignedFree::operator()(std::byte* memory) const noexcept {
  ::operator delete[](memory, std::align_val_t{format::kBlockBytes});
}

AlignedBuffer make_aligned(std::size_t size_bytes) {
  return AlignedBuffer(
      static_cast<std::byte*>(::operator new[](size_bytes, std::align_val_t{format::kBlockBytes})));
}

// The volume's own thread for rare, blocking work. Jobs that have not begun when it goes are
// dropped: the volume is closed by then.
class Volume::Impl::OwnExecutor final : public Executor {
 public:
  OwnExecutor() : thread_([this] { run(); }) {}
  ~OwnExecutor() override {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }
  void post(std::function<void()> job) override {
    {
      const std::lock_guard lock(mutex_);
      jobs_.push_back(std::move(job));
    }
    changed_.notify_all();
  }

 private:
  void run() {
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [this] { return stopping_ || !jobs_.empty(); });
      if (stopping_) return;
      std::function<void()> job = std::move(jobs_.front());
      jobs_.pop_front();
      lock.unlock();
      job();
      job = nullptr;  // It may hold the last reference to the volume's inside.
      lock.lock();
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> jobs_;
  bool stopping_ = false;
  std::thread thread_;
};

Volume::Impl::Impl(block::Device& origin, block::ResizableDevice& diff, const OpenOptions& options,
                   const format::Superblock& superblock)
    : origin_(origin),
      diff_(diff),
      origin_geometry_(origin.geometry()),
      diff_alignment_(diff.geometry().alignment_bytes),
      options_(options),
      superblock_(superblock),
      layout_(format::Layout::of(superblock.chunk_bytes, superblock.unit_bytes)),
      area_(format::area_tag(superblock.area_id)),
      chunk_count_((superblock.origin_bytes + superblock.chunk_bytes - 1) / superblock.chunk_bytes),
      batch_chunks_(std::clamp(kBatchBytesMax / superblock.chunk_bytes, 1U, kBatchChunksMax)),
      log_(options.log != nullptr ? *options.log : null_log(), "cow"),
      live_(*this),
      map_(chunk_count_),
      segments_(layout_),
      copies_(kCopiesMax),
      copy_buckets_(kCopiesMax, nullptr),
      table_buffer_(make_aligned(format::kBlockBytes)) {
  if (options.executor == nullptr) own_executor_ = std::make_unique<OwnExecutor>();
  executor_ = options.executor != nullptr ? options.executor : own_executor_.get();
  for (Copy& copy : copies_) free_copies_.push(copy);
  for (Batch& batch : batches_) {
    batch.impl = this;
    batch.next = std::exchange(free_batches_, &batch);
  }
  live_epochs_.reserve(kSnapshotsMax);
  completed_ahead_.reserve(kBatchesMax + 1);
}

Volume::Impl::~Impl() = default;

// Memory for copying is taken before the first snapshot exists, never on the write path.
void Volume::Impl::make_copy_buffers() {
  if (batches_[0].data) return;
  for (Batch& batch : batches_) {
    batch.checksums.resize(std::size_t{batch_chunks_} * layout_.checksums_per_chunk);
    batch.index =
        make_aligned(std::size_t{layout_.group_units(batch_chunks_)} * layout_.unit_bytes);
    batch.data = make_aligned(std::size_t{batch_chunks_} * layout_.chunk_bytes);
  }
  const std::size_t words = (chunk_count_ + 63) / 64;
  current_bits_ = Bits(words);
  spare_bits_ = Bits(words);
  spare_clear_ = true;
}

std::shared_ptr<Snapshot> Volume::Impl::find_snapshot(const SnapshotId& id) const {
  for (const auto& snapshot : snapshots_) {
    if (snapshot->slot.id == id) return snapshot;
  }
  return nullptr;
}

void Volume::Impl::refresh_live() noexcept {
  live_epochs_.clear();
  newest_persistent_ = 0;
  for (const auto& snapshot : snapshots_) {
    if (snapshot->slot.state == SlotState::prepared || snapshot->slot.lost) continue;
    live_epochs_.push_back(snapshot->epoch);
    if (snapshot->slot.persistent) newest_persistent_ = snapshot->epoch;
  }
  bits_.store(live_epochs_.empty() ? nullptr : &current_bits_, std::memory_order_release);
}

// --- durable state ---------------------------------------------------------------------------

// Writes the older copy of the slot. The newer one stays until flush_diff() has made this durable.
Status Volume::Impl::write_slot(format::SnapshotSlot slot) {
  slot.sequence = ++slot_sequence_[slot.index];
  format::encode(slot, area_, format::Block(table_buffer_.get(), format::kBlockBytes));
  block::Request write;
  write.op = block::Op::write;
  write.offset_bytes = format::table_offset(slot.index, slot_copy_next_[slot.index]);
  write.size_bytes = format::kBlockBytes;
  write.buffer = table_buffer_.get();
  if (const int error = block::run(diff_, write); error != 0) {
    return fail(Errc::io_error, "writing snapshot slot " + std::to_string(slot.index) + ": errno " +
                                    std::to_string(error));
  }
  slots_unflushed_.push_back(slot.index);
  return {};
}

Status Volume::Impl::flush_diff() {
  block::Request flush;
  flush.op = block::Op::flush;
  const int error = diff_flush_failed_.load() ? EIO : block::run(diff_, flush);
  if (error != 0) {
    diff_flush_failed_.store(true);
    return fail(Errc::io_error, "flushing the diff area: errno " + std::to_string(error));
  }
  for (const std::uint32_t slot : slots_unflushed_) slot_copy_next_[slot] ^= 1U;
  slots_unflushed_.clear();
  return {};
}

Status Volume::Impl::flush_origin() {
  block::Request flush;
  flush.op = block::Op::flush;
  const int error = origin_flush_failed_.load() ? EIO : block::run(origin_, flush);
  if (error == 0) return {};
  origin_flush_failed_.store(true);
  return fail(Errc::io_error, "flushing the origin: errno " + std::to_string(error));
}

Status Volume::Impl::write_slot_durably(const format::SnapshotSlot& slot) {
  if (Status written = write_slot(slot); !written) return written;
  return flush_diff();
}

Status Volume::Impl::write_superblock(bool clean) {
  superblock_.clean = clean;
  ++superblock_.sequence;
  format::encode(superblock_, format::Block(table_buffer_.get(), format::kBlockBytes));
  block::Request write;
  write.op = block::Op::write;
  write.offset_bytes = format::kSuperblockOffsets[superblock_.sequence % 2];
  write.size_bytes = format::kBlockBytes;
  write.buffer = table_buffer_.get();
  if (const int error = block::run(diff_, write); error != 0) {
    return fail(Errc::io_error, "writing the superblock: errno " + std::to_string(error));
  }
  return flush_diff();
}

Status Volume::Impl::mark_lost(const std::vector<std::shared_ptr<Snapshot>>& victims) {
  const std::lock_guard table(table_mutex_);
  std::vector<SnapshotId> ids;
  Status status;
  for (const auto& victim : victims) {
    format::SnapshotSlot slot = slot_of(*victim);
    if (victim->readable.load() == Snapshot::Readable::removed) continue;  // Meanwhile.
    ids.push_back(slot.id);
    slot.lost = true;
    if (status) status = write_slot(std::move(slot));
  }
  if (ids.empty()) return {};
  if (status) status = flush_diff();
  if (!status && options_.lost_store != nullptr) status = options_.lost_store->add(id(), ids);
  if (!status) return status;
  // Under table_mutex_, so that no later write of the slot forgets it.
  const std::lock_guard lock(mutex_);
  for (const auto& victim : victims) {
    victim->slot.lost = true;
    auto expected = Snapshot::Readable::yes;
    victim->readable.compare_exchange_strong(expected, Snapshot::Readable::lost);
  }
  return {};
}

format::SnapshotSlot Volume::Impl::slot_of(const Snapshot& snapshot) const {
  const std::lock_guard lock(mutex_);
  return snapshot.slot;
}

// --- making snapshots ------------------------------------------------------------------------

std::uint32_t Volume::Impl::free_table_slot() const {
  std::array<bool, format::kTableSlots> used{};
  for (const auto& snapshot : snapshots_) used[snapshot->slot.index] = true;
  for (std::uint32_t i = 0; i < format::kTableSlots; ++i) {
    if (!used[i]) return i;
  }
  return format::kTableSlots;
}

Status Volume::Impl::prepare(const PrepareRequest& request) {
  const std::lock_guard table(table_mutex_);
  auto snapshot = std::make_shared<Snapshot>();
  {
    const std::lock_guard lock(mutex_);
    if (closed_.load()) return fail(Errc::bad_state, "the volume is closed");
    for (const auto& other : snapshots_) {
      if (other->slot.state == SlotState::prepared) {
        return fail(Errc::bad_state,
                    "snapshot " + other->slot.id.to_string() + " is being made on this volume");
      }
    }
    if (find_snapshot(request.id)) {
      return fail(Errc::object_already_exists, "snapshot " + request.id.to_string());
    }
    if (snapshots_.size() >= kSnapshotsMax) {
      return fail(Errc::maximum_number_of_snapshots_reached,
                  std::to_string(kSnapshotsMax) + " snapshots");
    }
    if (segments_.count() == 0) return fail(Errc::insufficient_storage, "no room in the diff area");
    snapshot->slot.index = free_table_slot();
    snapshot->epoch = ++epoch_last_;
    if (live_epochs_.empty()) make_copy_buffers();
  }
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
  if (Status written = write_slot_durably(snapshot->slot); !written) return written;
  const std::lock_guard lock(mutex_);
  snapshots_.push_back(std::move(snapshot));
  return {};
}

void Volume::Impl::commit(const SnapshotId& id, std::int64_t creation_filetime) noexcept {
  const std::lock_guard lock(mutex_);
  const auto snapshot = find_snapshot(id);
  UMBRA_ASSERT(snapshot != nullptr && snapshot->slot.state == SlotState::prepared);
  UMBRA_ASSERT(holds_ > 0 && quiet_);
  snapshot->slot.state = SlotState::committed;
  snapshot->slot.creation_filetime = creation_filetime;
  epoch_ = snapshot->epoch;
  std::swap(current_bits_, spare_bits_);
  spare_clear_ = false;
  refresh_live();
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
  if (Status written = write_slot_durably(slot); !written) return written;
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
  slot.state = SlotState::created;
  if (Status written = write_slot_durably(slot); !written) return written;
  const std::lock_guard lock(mutex_);
  (*snapshot)->slot.state = SlotState::created;
  return {};
}

Status Volume::Impl::remove(const SnapshotId& id, bool force) {
  {
    const std::lock_guard table(table_mutex_);
    format::SnapshotSlot slot;
    std::shared_ptr<Snapshot> snapshot;
    {
      const std::lock_guard lock(mutex_);
      if (closed_.load()) return fail(Errc::bad_state, "the volume is closed");
      snapshot = find_snapshot(id);
      if (!snapshot) return fail(Errc::object_not_found, "snapshot " + id.to_string());
      if (!force && snapshot->open_devices.load() > 0) {
        return fail(Errc::volume_in_use, "snapshot " + id.to_string() + " is open");
      }
      slot = snapshot->slot;
    }
    // Durable before its space is reused: otherwise a crash could bring the snapshot back over
    // segments that hold something else.
    slot.state = SlotState::free;
    if (Status written = write_slot_durably(slot); !written) return written;
    const std::lock_guard lock(mutex_);
    snapshot->readable.store(Snapshot::Readable::removed);
    snapshots_.erase(std::find(snapshots_.begin(), snapshots_.end(), snapshot));
    refresh_live();
    if (failing_.head != nullptr) post_losses();
  }
  prune();
  return {};
}

// Drops the records that nobody needs any more, and goes on with copies that waited for the space.
void Volume::Impl::prune() {
  std::vector<std::uint64_t> live;
  std::uint64_t epoch_max = 0;
  {
    const std::lock_guard lock(mutex_);
    live = live_epochs_;
    epoch_max = epoch_;
  }
  std::vector<Home> dropped;  // Page locks are leaves: the segments are told afterwards.
  map_.prune(live, epoch_max, [&](Home home) { dropped.push_back(home); });
  Batch* list = nullptr;
  {
    const std::lock_guard lock(mutex_);
    for (const Home home : dropped) (void)segments_.drop(home.segment);
    list = form_batches();
  }
  start(list);
}

// --- looking at it ---------------------------------------------------------------------------

std::vector<SnapshotRecord> Volume::Impl::list() const {
  const std::lock_guard lock(mutex_);
  std::vector<SnapshotRecord> records;
  for (const auto& snapshot : snapshots_) {
    const format::SnapshotSlot& slot = snapshot->slot;
    SnapshotRecord record;
    record.id = slot.id;
    record.set_id = slot.set_id;
    record.session_id = slot.session_id;
    record.attributes = slot.attributes;
    record.persistent = slot.persistent;
    record.stage = static_cast<Stage>(slot.state);
    record.lost = slot.lost;
    record.creation_filetime = slot.creation_filetime;
    record.epoch = snapshot->epoch;
    record.members = slot.members;
    records.push_back(std::move(record));
  }
  return records;
}

Statistics Volume::Impl::statistics() const {
  Statistics statistics;
  statistics.chunk_bytes = layout_.chunk_bytes;
  statistics.diff_allocated_bytes = closed_.load() ? 0 : diff_.geometry().size_bytes;
  statistics.diff_bytes_max = superblock_.diff_bytes_max;
  statistics.chunks_preserved = chunks_preserved_.load();
  statistics.records = map_.record_count();
  statistics.groups_written = groups_written_.load();
  statistics.diff_flushes = diff_flushes_.load();
  statistics.checksum_failures = checksum_failures_.load();
  const std::lock_guard lock(mutex_);
  statistics.diff_used_bytes = segments_.used_count() * layout_.segment_bytes;
  for (const auto& snapshot : snapshots_) {
    if (snapshot->slot.state == SlotState::created) ++statistics.snapshots;
    if (snapshot->slot.lost) ++statistics.snapshots_lost;
  }
  statistics.writes_held = writes_held_;
  statistics.state = trouble_.empty() ? "ok" : trouble_;
  if (origin_flush_failed_.load()) statistics.state = "flushing the origin failed; attach it again";
  return statistics;
}

// --- the end ---------------------------------------------------------------------------------

Status Volume::Impl::close() {
  {
    std::unique_lock lock(mutex_);
    if (closed_.load()) return {};
    idle_.wait(lock, [this] { return busy_ == 0; });
  }
  const bool held = statistics().writes_held;
  shut_down();
  const std::lock_guard table(table_mutex_);
  if (Status flushed = flush_origin(); !flushed) return flushed;
  if (Status flushed = flush_diff(); !flushed) return flushed;
  if (held) return fail(Errc::io_error, "writes were held and have failed now");
  superblock_.trusted_sequence = completed_sequence_;
  return write_superblock(true);
}

void Volume::Impl::shut_down() noexcept {
  RequestQueue waiting;
  {
    std::unique_lock lock(mutex_);
    closed_.store(true);
    idle_.wait(lock, [this] { return busy_ == 0; });
    waiting.append(parked_);
    waiting.append(starved_);
    for (Copy& copy : copies_) waiting.append(copy.waiters);
  }
  for (std::uint64_t reads = reads_.load(); reads != 0; reads = reads_.load()) reads_.wait(reads);
  own_executor_.reset();
  fail_chain(waiting.take(), EIO);
}

}  // namespace umbra::cow
