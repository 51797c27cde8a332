// SPDX-License-Identifier: Apache-2.0
//
// Revert: the live volume becomes what a snapshot shows, while it is used.
//
// At the start, with the gate shut and nothing in flight, the chunks that have changed since the
// snapshot are known: those that it has a record of. The superblock says from which snapshot and
// which epoch on the volume is reverted; from that moment live reads of these chunks come from the
// snapshot, and the newer snapshots are deleted. Then the chunks are copied to the origin in the
// background. The copies are live writes like others: they preserve for older snapshots first, and
// wait where writes are held.
//
// What must not happen: that a chunk which was written by somebody after the start is reverted
// again after a crash. A chunk that had not changed since the snapshot gets an ordinary record with
// its first write, of the new epoch: it is known by that. A chunk that had changed needs none, so
// its first write waits until one of these is durable:
//   - the superblock's next_chunk is above it (every kCommitBytes), or
//   - a mark, a group of kind `reverted` that names it.
// Both are written after a flush of the origin, so the chunk's reverted content is durable before
// anybody relies on it. Reverting a chunk twice before that changes nothing.
//
// A revert cannot be undone. If it cannot go on (a record is damaged, the origin fails) it stops:
// reads go on coming from the snapshot, writes to chunks that wait get EIO, and the next open()
// tries again. abandon_revert() leaves the origin as it is then.
#include "provider/cow/revert.h"

#include <algorithm>
#include <cerrno>

#include "engine/platform/assert.h"

namespace umbra::cow {
namespace {

constexpr std::uint64_t kCommitBytes = 16U << 20U;
constexpr Duration kStartLimit = std::chrono::seconds(10);

}  // namespace

// --- the live volume meanwhile ---------------------------------------------------------------

// A read of which a part comes from the snapshot. Whoever completes last between submit() and the
// callback goes on.
struct Volume::Impl::SplitRead {
  Impl* impl = nullptr;
  std::shared_ptr<Revert> revert;
  block::Request* user = nullptr;
  std::uint64_t position = 0;
  bool stale = false;  // The piece being read.
  block::Request io;
  sync::Atomic<bool> arrived = false;
};

bool Volume::Impl::read_through_revert(block::Request& request) noexcept {
  std::shared_ptr<Revert> revert;
  {
    const std::lock_guard lock(mutex_);
    if (revert_ == nullptr) return false;
    revert = revert_;
  }
  const std::uint64_t last = chunk_of(request.offset_bytes + request.size_bytes - 1);
  std::uint64_t chunk = chunk_of(request.offset_bytes);
  while (chunk <= last && !Revert::test(revert->stale, chunk)) ++chunk;
  if (chunk > last) return false;
  reads_.fetch_add(1);
  auto* read = new SplitRead;
  read->impl = this;
  read->revert = std::move(revert);
  read->user = &request;
  drive(*read);
  return true;
}

void Volume::Impl::drive(SplitRead& read) noexcept {
  for (;;) {
    block::Request& user = *read.user;
    if (read.position == user.size_bytes) {
      finish_read(read, 0);
      return;
    }
    const std::uint64_t at = user.offset_bytes + read.position;
    const std::uint64_t end = user.offset_bytes + user.size_bytes;
    std::uint64_t chunk = chunk_of(at);
    read.stale = Revert::test(read.revert->stale, chunk);
    std::uint64_t until = (chunk + 1) * layout_.chunk_bytes;
    while (until < end && Revert::test(read.revert->stale, ++chunk) == read.stale) {
      until += layout_.chunk_bytes;
    }
    read.io = {};
    read.io.op = block::Op::read;
    read.io.offset_bytes = at;
    read.io.size_bytes = std::min(until, end) - at;
    read.io.buffer = user.buffer + read.position;
    read.io.owner = &read;
    read.io.complete = [](block::Request& io) noexcept {
      auto& self = *static_cast<SplitRead*>(io.owner);
      if (!self.arrived.exchange(true)) return;  // Still inside submit(): drive() goes on.
      if (self.impl->absorb(self)) self.impl->drive(self);
    };
    read.arrived.store(false);
    (read.stale ? *read.revert->source : origin_).submit(read.io);
    if (!read.arrived.exchange(true)) return;
    if (!absorb(read)) return;
  }
}

// False: it has ended. A piece that was reverted meanwhile is read again: the snapshot may have
// gone with the end of the revert.
bool Volume::Impl::absorb(SplitRead& read) noexcept {
  if (read.io.error == 0) {
    read.position += read.io.size_bytes;
    return true;
  }
  if (read.stale && !Revert::test(read.revert->stale, chunk_of(read.io.offset_bytes))) return true;
  finish_read(read, EIO);
  return false;
}

void Volume::Impl::finish_read(SplitRead& read, int error) noexcept {
  block::Request& user = *read.user;
  delete &read;
  reads_.fetch_sub(1);
  reads_.notify_all();
  block::finish(user, error);
}

Volume::Impl::Waits Volume::Impl::waits_for_revert(block::Request& request) noexcept {
  const std::lock_guard lock(mutex_);
  if (revert_ == nullptr || request.owner == revert_.get()) return Waits::no;
  const std::uint64_t last = chunk_of(request.offset_bytes + request.size_bytes - 1);
  std::uint64_t chunk = chunk_of(request.offset_bytes);
  while (chunk <= last && !Revert::test(revert_->guarded, chunk)) ++chunk;
  if (chunk > last) return Waits::no;
  if (request.op == block::Op::discard) return Waits::done;  // It may do nothing.
  if (revert_->stopped) return Waits::failed;
  revert_->waiters.push(request);
  post_revert();
  return Waits::yes;
}

// --- start and end ---------------------------------------------------------------------------

Status Volume::Impl::check_revert(const SnapshotId& id) const {
  if (closed_.load()) return fail(Errc::bad_state, "the volume is closed");
  if (revert_ != nullptr) {
    return fail(Errc::revert_in_progress, "to snapshot " + revert_->target->slot.id.to_string());
  }
  const auto snapshot = find_snapshot(id);
  if (!snapshot) return fail(Errc::object_not_found, "snapshot " + id.to_string());
  const format::SnapshotSlot& slot = snapshot->slot;
  if (slot.state != format::SlotState::created) {
    return fail(Errc::bad_state, "snapshot " + id.to_string() + " is not created yet");
  }
  if (slot.lost) return fail(Errc::snapshot_lost, "snapshot " + id.to_string());
  if (!slot.persistent) {
    return fail(Errc::unsupported_context, "a volume is reverted to a persistent snapshot only");
  }
  for (auto it = snapshots_.upper_bound(snapshot->epoch); it != snapshots_.end(); ++it) {
    if (it->second->slot.state != format::SlotState::created) {
      return fail(Errc::bad_state, "a snapshot of this volume is being made");
    }
  }
  if (origin_flush_failed_.load()) return fail(Errc::io_error, "flushing the origin has failed");
  if (diff_flush_failed_.load()) return fail(Errc::io_error, "flushing the diff area has failed");
  if (epoch_last_ >= format::kEpochMax) return fail(Errc::diff_area_corrupt, "no epoch is left");
  return {};
}

Status Volume::Impl::begin_revert(const SnapshotId& id, const std::string& who) {
  {
    const std::lock_guard lock(mutex_);
    if (Status good = check_revert(id); !good) return good;
    const std::uint64_t epoch = find_snapshot(id)->epoch;
    if (Status unlocked = refuse_if_retained(epoch); !unlocked) return unlocked;
  }
  hold();
  Status status;
  if (!drain(kStartLimit) || !quiesce(kStartLimit)) {
    status = fail(Errc::volume_in_use, "writes to the volume do not come to an end");
  } else {
    status = start_revert(id, who);
  }
  release();
  if (!status) return status;
  remove_newer(who);
  const std::lock_guard lock(mutex_);
  post_revert();
  return {};
}

// With the gate shut and nothing in flight: no record is on its way that would be taken for one of
// before the start.
Status Volume::Impl::start_revert(const SnapshotId& id, const std::string& who) {
  const std::lock_guard table(table_mutex_);
  std::shared_ptr<Snapshot> target;
  {
    const std::lock_guard lock(mutex_);
    if (Status good = check_revert(id); !good) return good;
    target = find_snapshot(id);
    superblock_.revert.under_way = true;
    superblock_.revert.damaged = false;
    superblock_.revert.snapshot = id;
    superblock_.revert.next_chunk = 0;
    superblock_.revert.epoch = ++epoch_last_;
  }
  if (Status written = write_superblock(false); !written) {
    superblock_.revert = {};
    // It may have become durable all the same.
    if (const Status undone = write_superblock(false); !undone) {
      log_.error("a revert that could not be started may start when the volume is attached again",
                 {{"volume", this->id().to_string()}, {"snapshot", id.to_string()}});
    }
    return written;
  }
  install_revert(target, {});
  revert_->who = who;
  return {};
}

void Volume::Impl::install_revert(const std::shared_ptr<Snapshot>& target,
                                  const std::vector<std::uint64_t>& marked) {
  auto revert = std::make_shared<Revert>(chunk_count_);
  revert->impl = this;
  revert->target = target;
  revert->source = source_of(target);
  revert->epoch = superblock_.revert.epoch;
  revert->cursor = revert->committed = superblock_.revert.next_chunk;
  revert->chunks.reserve(batch_chunks_);
  revert->buffer = make_aligned(std::size_t{batch_chunks_} * layout_.chunk_bytes);
  const auto add = [&](std::uint64_t chunk) {
    if (chunk < revert->cursor) return;
    Revert::set(revert->stale, chunk);
    Revert::set(revert->guarded, chunk);
  };
  std::vector<std::uint64_t> changed;
  map_.for_each_since(target->epoch, [&](std::uint64_t chunk) { changed.push_back(chunk); });
  for (const std::uint64_t chunk : changed) {
    // What was free stays as it is: nobody reads it, and its writes make no records.
    if (target->shows_nothing_of(chunk)) continue;
    const auto found = map_.find(chunk, target->epoch);
    if (found && found->epoch < revert->epoch) add(chunk);
  }
  if (const Overlay* overlay = target->overlay()) {
    overlay->for_each([&](std::uint64_t chunk, Home) { add(chunk); });
  }
  for (const std::uint64_t chunk : marked) {
    Revert::clear(revert->stale, chunk);
    Revert::clear(revert->guarded, chunk);
  }
  for (std::uint64_t chunk = 0; chunk < chunk_count_; ++chunk) {
    if (Revert::test(revert->stale, chunk)) ++revert->chunks_total;
  }
  const std::lock_guard lock(mutex_);
  epoch_last_ = std::max(epoch_last_, revert->epoch);
  epoch_ = epoch_last_;
  revert_ = std::move(revert);
  reverting_.store(true);
}

// Newer snapshots go, as in VSS, and at the start: then nothing is preserved for them. Once the
// superblock names the revert this is repeated by every open, so a crash leaves none of them.
void Volume::Impl::remove_newer(const std::string& who) {
  std::vector<SnapshotId> newer;
  {
    const std::lock_guard lock(mutex_);
    if (revert_ == nullptr) return;
    for (auto it = snapshots_.upper_bound(revert_->target->epoch); it != snapshots_.end(); ++it) {
      newer.push_back(it->second->slot.id);
    }
  }
  for (auto it = newer.rbegin(); it != newer.rend(); ++it) {
    // Kept, it would still be right: what is reverted is preserved for it.
    const Status removed = remove(*it, true, {Removal::reverted, who});
    if (!removed && removed.error().code != Errc::object_not_found) {
      log_.warning("a snapshot newer than the one reverted to could not be deleted",
                   {{"volume", id().to_string()},
                    {"snapshot", it->to_string()},
                    {"error", removed.error().to_string()}});
    }
  }
}

Status Volume::Impl::abandon_revert() {
  {
    const std::lock_guard lock(mutex_);
    if (revert_ == nullptr) return fail(Errc::object_not_found, "no revert is under way");
    if (!revert_->stopped) return fail(Errc::bad_state, "a revert that goes on cannot be undone");
  }
  return end_revert();
}

Status Volume::Impl::end_revert() {
  {
    const std::lock_guard table(table_mutex_);
    const format::RevertState before = std::exchange(superblock_.revert, {});
    if (Status written = write_superblock(false); !written) {
      superblock_.revert = before;
      return written;
    }
  }
  std::shared_ptr<Revert> ended;
  RequestQueue waiters;
  {
    const std::lock_guard lock(mutex_);
    reverting_.store(false);
    ended = std::exchange(revert_, nullptr);
    waiters.append(ended->waiters);
    for (const Home mark : ended->marks) (void)segments_.drop(mark.segment);
    pinned_epoch_ = 0;
    // One that was lost meanwhile kept its records for us.
    if (ended->target->readable.load() != Snapshot::Readable::yes) {
      note_unpruned(ended->target->epoch);
    }
  }
  log_.info(ended->stopped ? "a revert that had stopped was given up" : "the volume is reverted",
            {{"volume", id().to_string()}, {"snapshot", ended->target->slot.id.to_string()}});
  resume(waiters);
  return {};
}

RevertStatus Volume::Impl::revert_status() const {
  const std::lock_guard lock(mutex_);
  RevertStatus status;
  if (revert_ == nullptr) return status;
  status.under_way = true;
  status.snapshot = revert_->target->slot.id;
  status.bytes_total = revert_->chunks_total * layout_.chunk_bytes;
  status.bytes_done = revert_->chunks_done * layout_.chunk_bytes;
  status.stopped = revert_->stopped;
  status.trouble = revert_->trouble;
  return status;
}

void Volume::Impl::resume_revert() {
  if (!superblock_.revert.under_way) return;
  const auto target = find_snapshot(superblock_.revert.snapshot);
  if (!target) {
    log_.error("the snapshot that the volume was being reverted to is gone; it stays as it is",
               {{"volume", id().to_string()}});
    superblock_.revert = {};
    return;
  }
  std::vector<std::uint64_t> marked;
  std::vector<Home> homes;
  for (const auto& [chunk, home] : std::exchange(loaded_marks_, {})) {
    marked.push_back(chunk);
    homes.push_back(home);
  }
  install_revert(target, marked);
  if (superblock_.revert.damaged) stop_revert("records that it needs are damaged");
  const std::lock_guard lock(mutex_);
  revert_->marks = std::move(homes);
  post_revert();
}

// --- the work --------------------------------------------------------------------------------

void Volume::Impl::post_revert() noexcept {
  if (revert_ == nullptr || revert_->posted || revert_->stopped) return;
  if (revert_->outstanding.load() != 0 || holds_ > 0) return;  // Both come back.
  revert_->posted = true;
  post(&Impl::revert_step);
}

void Volume::Impl::revert_step() {
  std::shared_ptr<Revert> revert;
  Revert::Step step{};
  {
    const std::lock_guard lock(mutex_);
    if (revert_ == nullptr) return;
    revert = revert_;
    revert->posted = false;
    if (holds_ > 0 || revert->stopped) return;
    step = revert->step;
  }
  if (step == Revert::Step::choose) {
    revert_some(*revert);
  } else {
    settle_reverted(*revert);
  }
}

// Chooses chunks, those that writes wait for first, and starts writing them to the origin.
void Volume::Impl::revert_some(Revert& revert) {
  if (!std::exchange(revert.cleared, true))
    remove_newer(revert.who);  // A crash may have left some; or the caller is not as far yet.
  choose_chunks(revert);
  std::vector<std::uint64_t> stale;
  for (const std::uint64_t chunk : revert.chunks) {
    if (Revert::test(revert.stale, chunk)) stale.push_back(chunk);
  }
  RequestQueue queue;
  std::uint32_t runs = 0;
  for (std::uint32_t i = 0; i < stale.size();) {
    const std::uint32_t end = end_of_run(stale, i);
    block::Request& write = revert.writes[runs++];
    write = {};
    write.offset_bytes = stale[i] * layout_.chunk_bytes;
    write.size_bytes = std::min<std::uint64_t>(std::uint64_t{end - i} * layout_.chunk_bytes,
                                               origin_geometry_.size_bytes - write.offset_bytes);
    write.buffer = revert.buffer.get() + std::size_t{i} * layout_.chunk_bytes;
    write.op = block::Op::read;
    if (block::run(*revert.source, write) != 0) {
      stop_revert("the snapshot cannot be read at byte " + std::to_string(write.offset_bytes));
      return;
    }
    const block::Request read = write;
    write = {};
    write.op = block::Op::write;
    write.offset_bytes = read.offset_bytes;
    write.size_bytes = read.size_bytes;
    write.buffer = read.buffer;
    write.owner = &revert;
    write.complete = [](block::Request& done) noexcept {
      auto& owner = *static_cast<Revert*>(done.owner);
      if (done.error != 0) owner.error.store(done.error);
      owner.impl->revert_write_ended(owner);
    };
    queue.push(write);
    i = end;
  }
  revert.error.store(0);
  {
    const std::lock_guard lock(mutex_);
    revert.step = Revert::Step::written;
    revert.outstanding.store(runs);
    if (runs == 0) post_revert();
  }
  if (runs == 0) return;
  reads_.fetch_add(1);  // Ours to wait for at the end.
  submit_live(*queue.take());
}

void Volume::Impl::revert_write_ended(Revert& revert) noexcept {
  if (revert.outstanding.fetch_sub(1) != 1) return;
  {
    const std::lock_guard lock(mutex_);
    post_revert();
  }
  reads_.fetch_sub(1);
  reads_.notify_all();
}

void Volume::Impl::choose_chunks(Revert& revert) {
  revert.chunks.clear();
  {
    const std::lock_guard lock(mutex_);
    // In turns with the background, which must come to its end.
    revert.urgent = !revert.urgent && !revert.marks_refused && !revert.waiters.empty();
    for (const block::Request* waiter = revert.waiters.front();
         revert.urgent && waiter != nullptr && revert.chunks.size() < batch_chunks_;
         waiter = waiter->next) {
      const std::uint64_t last = chunk_of(waiter->offset_bytes + waiter->size_bytes - 1);
      for (std::uint64_t chunk = chunk_of(waiter->offset_bytes);
           chunk <= last && revert.chunks.size() < batch_chunks_; ++chunk) {
        if (Revert::test(revert.guarded, chunk)) revert.chunks.push_back(chunk);
      }
    }
  }
  if (revert.urgent) {
    std::sort(revert.chunks.begin(), revert.chunks.end());
    revert.chunks.erase(std::unique(revert.chunks.begin(), revert.chunks.end()),
                        revert.chunks.end());
    return;
  }
  for (; revert.cursor < chunk_count_ && revert.chunks.size() < batch_chunks_; ++revert.cursor) {
    if (Revert::test(revert.guarded, revert.cursor)) revert.chunks.push_back(revert.cursor);
  }
}

// The chunks of the step are on the origin: makes that known, and durable where somebody waits.
void Volume::Impl::settle_reverted(Revert& revert) {
  std::uint64_t reverted = 0;
  if (const int error = revert.error.load(); error != 0) {
    stop_revert("writing the origin: errno " + std::to_string(error));
    return;
  }
  for (const std::uint64_t chunk : revert.chunks) {
    if (Revert::test(revert.stale, chunk)) ++reverted;
    Revert::clear(revert.stale, chunk);
  }
  {
    const std::lock_guard lock(mutex_);
    revert.chunks_done += reverted;
    revert.step = Revert::Step::choose;
  }
  Status status;
  const bool at_end = !revert.urgent && revert.cursor == chunk_count_;
  if (revert.urgent) {
    status = mark_reverted(revert);
  } else {
    revert.uncommitted += revert.chunks.size();
    const bool commit = at_end || revert.uncommitted * layout_.chunk_bytes >= kCommitBytes;
    if (commit) status = commit_cursor(revert);
  }
  if (status && at_end) status = end_revert();
  if (!status) {
    stop_revert(status.error().to_string());
    return;
  }
  const std::lock_guard lock(mutex_);
  post_revert();
}

Status Volume::Impl::mark_reverted(Revert& revert) {
  if (Status flushed = flush_origin(); !flushed) return flushed;
  std::array<Home, kBatchChunksMax> homes{};
  for (std::size_t done = 0; done < revert.chunks.size();) {
    OwnGroup group;
    group.kind = format::GroupKind::reverted;
    group.epoch = revert.epoch;
    group.durable = true;
    group.chunks = std::span<const std::uint64_t>(revert.chunks).subspan(done);
    const auto written = write_own_group(group, homes);
    if (!written) {
      // Then these writes wait until the background has come past them, which takes no room.
      log_.warning("writes wait for the revert: it cannot note single chunks",
                   {{"volume", id().to_string()}, {"error", written.error().to_string()}});
      const std::lock_guard lock(mutex_);
      revert.marks_refused = true;
      return {};
    }
    const std::lock_guard lock(mutex_);
    revert.marks.insert(revert.marks.end(), homes.begin(), homes.begin() + *written);
    done += *written;
  }
  if (Status flushed = flush_diff(); !flushed) return flushed;
  for (const std::uint64_t chunk : revert.chunks) Revert::clear(revert.guarded, chunk);
  resume_waiters(revert);
  return {};
}

Status Volume::Impl::commit_cursor(Revert& revert) {
  if (Status flushed = flush_origin(); !flushed) return flushed;
  {
    const std::lock_guard table(table_mutex_);
    superblock_.revert.next_chunk = revert.cursor;
    if (Status written = write_superblock(false); !written) return written;
  }
  revert.uncommitted = 0;
  for (; revert.committed < revert.cursor; ++revert.committed) {
    Revert::clear(revert.guarded, revert.committed);
  }
  resume_waiters(revert);
  return {};
}

void Volume::Impl::resume_waiters(Revert& revert) noexcept {
  RequestQueue waiters;
  {
    const std::lock_guard lock(mutex_);
    waiters.append(revert.waiters);
  }
  resume(waiters);
}

void Volume::Impl::stop_revert(const std::string& trouble) noexcept {
  RequestQueue waiters;
  {
    const std::lock_guard lock(mutex_);
    if (revert_ == nullptr || closed_.load()) return;
    revert_->stopped = true;
    revert_->trouble = trouble;
    waiters.append(revert_->waiters);
  }
  log_.error("the revert has stopped; attach the volume again to try once more",
             {{"volume", id().to_string()}, {"error", trouble}});
  fail_chain(waiters.take(), EIO);
}

}  // namespace umbra::cow
