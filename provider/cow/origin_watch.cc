// SPDX-License-Identifier: Apache-2.0
//
// Was the origin written while nobody watched? Takes the fingerprint, keeps it true while we write,
// and compares it at open. Nothing of ours may look like somebody else's writing, whenever we are
// cut off; what follows is why it cannot.
//
//   samples  A sample counts at open if the newest snapshot P that is not younger than it has no
//            record of the chunk. P has lived since the sample was taken, so until there is such a
//            record we have not written to the chunk, and the record is durable (persistent P) or
//            complete (kill -9) before we do. A chunk that is exempt for P gets no record: it never
//            counts.
//   mount    A live write that changes what the superblock says of mounting waits until the new
//            value is in the diff area beside the one before, and the origin is flushed in between:
//            whatever the crash leaves of the origin is one of the two.
//   the rest is compared after an orderly close only, or never changes.
#include <algorithm>
#include <cerrno>
#include <cstring>

#include "engine/platform/assert.h"
#include "engine/platform/crc32c.h"
#include "provider/cow/core.h"

namespace umbra::cow {

static_assert(kFingerprintBytes == format::kFingerprintBytes);

// --- looking at the origin -----------------------------------------------------------------------

std::span<const std::byte> Volume::Impl::read_origin_head(std::uint64_t size_bytes,
                                                          AlignedBuffer& buffer) {
  const std::uint64_t block = origin_geometry_.block_bytes;
  const std::uint64_t size = std::min(size_bytes, origin_geometry_.size_bytes) / block * block;
  buffer = make_aligned(size_bytes);
  std::fill_n(buffer.get(), size_bytes, std::byte{0});
  block::Request read;
  read.size_bytes = size;
  read.buffer = buffer.get();
  if (size == 0 || block::run(origin_, read) != 0) return {};
  return {buffer.get(), size_bytes};
}

void Volume::Impl::watch_mounts(const Fingerprint& known) {
  AlignedBuffer buffer;
  const auto head = read_origin_head(format::kBlockBytes, buffer);
  const std::lock_guard lock(mutex_);
  if (!head.empty()) std::copy_n(head.begin(), kMountBytes, mount_start_.begin());
  // What cannot be read says nothing.
  mount_now_ = head.empty() ? known.mount : mount_identity(mount_start_);
  mount_before_ = mount_now_;
}

// Of each sample that can be read: its checksum.
void Volume::Impl::read_samples(Fingerprint& into, const std::bitset<kSamplesMax>& wanted) {
  const auto offsets = sample_offsets(superblock_.origin_bytes, into.seed);
  const AlignedBuffer buffer = make_aligned(kSamplesMax * kSampleBytes);
  std::vector<block::Request> reads;
  std::vector<std::size_t> which;
  for (std::size_t i = 0; i < offsets.size(); ++i) {
    if (!wanted[i]) continue;
    block::Request& read = reads.emplace_back();
    read.offset_bytes = offsets[i];
    read.size_bytes = kSampleBytes;
    read.buffer = buffer.get() + i * kSampleBytes;
    which.push_back(i);
  }
  block::run_all(origin_, reads);
  into.sampled.reset();
  for (std::size_t k = 0; k < reads.size(); ++k) {
    if (reads[k].error != 0) continue;
    into.sampled.set(which[k]);
    into.samples[which[k]] = crc32c({buffer.get() + which[k] * kSampleBytes, kSampleBytes});
  }
}

// Whoever lets a live chunk be written without a record has to say so here.
bool Volume::Impl::unwritten_since(std::uint64_t chunk, std::uint64_t epoch) const {
  if (map_.find(chunk, epoch).has_value()) return false;
  const std::lock_guard lock(mutex_);
  const auto snapshot = snapshots_.find(epoch);
  return snapshot == snapshots_.end() || !snapshot->second->shows_nothing_of(chunk);
}

// The newest live epoch, up to `limit`.
std::uint64_t Volume::Impl::guarded_epoch(std::uint64_t limit) const noexcept {
  const std::lock_guard lock(mutex_);
  const auto it = living_.upper_bound(limit);
  return it != living_.begin() ? *std::prev(it) : 0;
}

// --- taking it -----------------------------------------------------------------------------------

void Volume::Impl::take_fingerprint(bool clean) {
  Fingerprint taken;
  taken.present = true;
  taken.identity = options_.origin_identity;
  taken.seed = static_cast<std::uint32_t>(area_);
  const std::uint64_t newest = guarded_epoch(~std::uint64_t{0});
  bool changed = false;
  {
    // From here on a write that changes what is said of mounting waits for note_mount().
    const std::lock_guard lock(mutex_);
    mount_guarded_ = true;
    taken.epoch = newest;
    taken.mount = mount_now_;
    taken.mount_before = mount_before_;
    changed = mount_now_ != mount_before_;
  }
  if (changed && !clean) (void)flush_origin();  // Nothing older than these two comes back.
  if (newest != 0) {
    read_samples(taken, std::bitset<kSamplesMax>().set());
    const auto offsets = sample_offsets(superblock_.origin_bytes, taken.seed);
    for (std::size_t i = 0; i < offsets.size(); ++i) {
      // After the read: with a record now, a write may have been under way.
      if (!unwritten_since(chunk_of(offsets[i]), newest)) taken.sampled.reset(i);
    }
  }
  if (clean) {
    AlignedBuffer buffer;
    const auto head = read_origin_head(kHeadBytes, buffer);
    taken.clean = !head.empty();
    if (taken.clean) taken.head_checksum = crc32c(head);
    if (options_.origin_change_time) taken.change_time = options_.origin_change_time();
  }
  encode(taken, superblock_.fingerprint);
}

// --- a live write at the start of the origin -----------------------------------------------------

bool Volume::Impl::waits_for_mount(block::Request& request) noexcept {
  const std::lock_guard lock(mutex_);
  std::array<std::byte, kMountBytes> next = mount_start_;
  const std::uint64_t end =
      std::min<std::uint64_t>(request.offset_bytes + request.size_bytes, kMountBytes);
  if (request.op == block::Op::write) {
    std::copy_n(request.buffer, end - request.offset_bytes,
                next.begin() + static_cast<std::ptrdiff_t>(request.offset_bytes));
  } else {
    std::fill(next.begin() + static_cast<std::ptrdiff_t>(request.offset_bytes),
              next.begin() + static_cast<std::ptrdiff_t>(end), std::byte{0});
  }
  const MountIdentity identity = mount_identity(next);
  if (identity == mount_now_ || !mount_guarded_) {
    mount_start_ = next;
    if (identity != mount_now_) mount_before_ = std::exchange(mount_now_, identity);
    return false;
  }
  if (holds_ > 0) {
    parked_.push(request);
    return true;
  }
  mount_wanted_ = identity;
  mount_waiters_.push(request);
  if (!noting_mount_) {
    noting_mount_ = true;
    post(&Impl::note_mount);
  }
  return true;
}

void Volume::Impl::note_mount() {
  {
    const std::lock_guard table(table_mutex_);
    Fingerprint noted = decode_fingerprint(superblock_.fingerprint);
    // What the origin holds now must not give way to something older still.
    Status kept = flush_origin();
    {
      const std::lock_guard lock(mutex_);
      mount_before_ = std::exchange(mount_now_, mount_wanted_);
      noted.mount = mount_now_;
      noted.mount_before = mount_before_;
    }
    encode(noted, superblock_.fingerprint);
    if (kept) kept = write_superblock(false);
    if (!kept) {
      // The write goes through all the same: the origin never fails because of a snapshot.
      log_.warning("a mount could not be noted; after a crash its snapshots may be refused",
                   {{"volume", id().to_string()}, {"error", kept.error().to_string()}});
    }
  }
  RequestQueue waiters;
  {
    const std::lock_guard lock(mutex_);
    noting_mount_ = false;
    waiters.append(mount_waiters_);
  }
  resume(waiters);
}

// --- comparing it --------------------------------------------------------------------------------

std::string Volume::Impl::what_changed(const Fingerprint& known) {
  if (!options_.origin_moved && options_.origin_identity != decltype(known.identity){} &&
      known.identity != options_.origin_identity) {
    return "it is another file than the one that the snapshots were made of (a faithful copy of it "
           "is attached with --origin-moved)";
  }
  const std::uint64_t guarded = guarded_epoch(known.epoch);
  if (guarded != 0 && known.mount != mount_now_ && known.mount_before != mount_now_) {
    return "its file system was mounted, checked or replaced";
  }
  if (superblock_.clean && known.clean) {
    AlignedBuffer buffer;
    const auto head = read_origin_head(kHeadBytes, buffer);
    if (head.empty() || crc32c(head) != known.head_checksum) {
      return "its first 128 KiB are not what they were";
    }
    const std::int64_t now = options_.origin_change_time ? options_.origin_change_time() : 0;
    if (!options_.origin_moved && known.change_time != 0 && now != 0 && now != known.change_time) {
      return "the file was written after it had been detached";
    }
  }
  if (guarded == 0) return {};
  std::bitset<kSamplesMax> wanted = known.sampled;
  const auto offsets = sample_offsets(superblock_.origin_bytes, known.seed);
  for (std::size_t i = 0; i < offsets.size(); ++i) {
    if (!unwritten_since(chunk_of(offsets[i]), guarded)) wanted.reset(i);
  }
  Fingerprint seen = known;
  read_samples(seen, wanted);
  for (std::size_t i = 0; i < offsets.size(); ++i) {
    if (seen.sampled[i] && seen.samples[i] != known.samples[i]) {
      return "its content at " + std::to_string(offsets[i]) + " is not what it was";
    }
  }
  return {};
}

Status Volume::Impl::check_origin() {
  const Fingerprint known = decode_fingerprint(superblock_.fingerprint);
  watch_mounts(known);
  bool guards = false;
  Status unlocked;
  {
    const std::lock_guard lock(mutex_);
    guards = known.present && !living_.empty();
    unlocked = refuse_if_retained();
  }
  const std::string change = guards ? what_changed(known) : std::string();
  if (!change.empty() && !unlocked) {
    return fail(options_.accept_changed_origin ? Errc::access_denied : Errc::origin_changed,
                "the origin was changed while it was detached: " + change + ", and " +
                    unlocked.error().context +
                    ". Bring back the origin as it was, or attach it with another diff area");
  }
  if (!change.empty() && !options_.accept_changed_origin) {
    return fail(Errc::origin_changed,
                "the origin was changed while it was detached: " + change +
                    ". Attach it with --accept-changed-origin to go on without its snapshots (they "
                    "are marked lost), or bring back the origin as it was");
  }
  if (!change.empty()) {
    if (Status lost = lose_all(change); !lost) return lost;
    log_.warning("the origin was changed while it was detached, and all its snapshots are lost",
                 {{"volume", id().to_string()}, {"change", change}});
  }
  Fingerprint kept = known;
  if (!guards || !change.empty()) kept = {};  // The next snapshot makes a new one.
  kept.clean = false;
  if (options_.origin_moved) kept.identity = options_.origin_identity;
  {
    const std::lock_guard lock(mutex_);
    mount_guarded_ = kept.present;
    kept.mount = mount_now_;
    kept.mount_before = mount_now_;
  }
  encode(kept, superblock_.fingerprint);
  return {};
}

Status Volume::Impl::lose_all(const std::string& change) {
  std::vector<std::shared_ptr<Snapshot>> victims;
  std::vector<format::SnapshotSlot> slots;
  {
    const std::lock_guard lock(mutex_);
    for (const std::uint64_t epoch : living_) {
      victims.push_back(snapshots_.at(epoch));
      slots.push_back(victims.back()->slot);
      slots.back().lost = true;
    }
  }
  if (Status written = write_slots(slots); !written) return written;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& victim : victims) {
      victim->readable.store(Snapshot::Readable::lost);
      victim->slot.lost = true;
      ++lost_count_;
      if (stop_living(*victim)) note_unpruned(victim->epoch);
      tell_of(EventKind::snapshot_lost, *victim, {},
              "the origin was changed while it was detached: " + change);
    }
  }
  return {};
}

}  // namespace umbra::cow
