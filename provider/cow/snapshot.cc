// SPDX-License-Identifier: Apache-2.0
//
// Reading a snapshot, piece by piece: look up, read, look up again. A piece is a run of chunks that
// the map does not know (one read of the origin), or a part of one preserved chunk.
//
// Why it is never a torn mix: a live write is issued after its chunk's record was published. If the
// second look finds no record, no write to the chunk was issued before our read completed. If it
// finds one, the piece is read again from the diff area.
// Why a reused home is never taken for ours: a segment is reused only when no live snapshot needs
// it, so whoever read from it finds its snapshot removed or lost, or the generation changed, and
// answers EIO.
#include <algorithm>
#include <cerrno>
#include <cstring>

#include "engine/platform/assert.h"
#include "engine/platform/crc32c.h"
#include "provider/cow/core.h"

namespace umbra::cow {
namespace {

constexpr std::uint64_t kGranule = format::kBlockBytes;
constexpr std::uint64_t kExtentsLook = 16384;  // Chunks that one question is answered for.

}  // namespace

// Owners: whoever opened the snapshot (front ends). It shares the volume's inside and the record.
class Volume::Impl::SnapshotDevice final : public block::Device {
 public:
  enum class Use : std::uint8_t {
    reading,
    recovery,  // Takes writes in the recovery window.
    revert,    // Reads what there are records of, although the snapshot may be lost.
  };
  SnapshotDevice(std::shared_ptr<Impl> impl, std::shared_ptr<Snapshot> snapshot, Use use) noexcept
      : impl_(std::move(impl)), snapshot_(std::move(snapshot)), use_(use) {
    snapshot_->open_devices.fetch_add(1);
  }
  ~SnapshotDevice() override { snapshot_->open_devices.fetch_sub(1); }

  [[nodiscard]] block::Geometry geometry() const noexcept override {
    block::Geometry geometry = impl_->origin_geometry_;
    geometry.read_only = use_ != Use::recovery;
    geometry.can_discard = false;
    geometry.alignment_bytes = std::max(geometry.alignment_bytes, impl_->diff_alignment_);
    return geometry;
  }

  void submit(block::Request& first) noexcept override {
    for (block::Request* request = &first; request != nullptr;) {
      block::Request* const next = std::exchange(request->next, nullptr);
      if (const int error = block::check(geometry(), *request); error != 0) {
        block::finish(*request, error);
      } else if (request->size_bytes == 0 || request->op == block::Op::flush ||
                 request->op == block::Op::discard) {
        block::finish(*request, 0);
      } else if (request->op != block::Op::read) {
        impl_->submit_overlay(*request, snapshot_);
      } else {
        begin(*request);
      }
      request = next;
    }
  }

  [[nodiscard]] std::size_t extents(std::uint64_t offset_bytes, std::uint64_t size_bytes,
                                    std::span<block::Extent> out) const noexcept override;

 private:
  // One read on its way. Whoever completes last between submit() and the callback goes on: a device
  // that completes inside submit() makes no recursion.
  struct Job {
    SnapshotDevice* device = nullptr;
    block::Request* user = nullptr;
    std::uint64_t position = 0;  // Bytes of the request that are right.
    block::Request io;
    AlignedBuffer bounce;
    sync::Atomic<bool> arrived = false;
    // The piece being read.
    bool from_diff = false;  // Of kind data.
    bool blank = false;      // Nothing to read: zeroes.
    Home home;
    std::uint64_t generation = 0;
    std::uint64_t piece_bytes = 0;    // Wanted.
    std::uint64_t granule_first = 0;  // In the chunk; from_diff.
    std::uint64_t skip_bytes = 0;     // Before the wanted bytes in what was read; from_diff.
  };

  void begin(block::Request& request) noexcept {
    impl_->reads_.fetch_add(1);
    if (impl_->closed_.load()) {
      end(request, EIO);
      return;
    }
    auto* job = new Job;
    job->device = this;
    job->user = &request;
    drive(*job);
  }

  // The device may go with its last request: nothing of it is touched after finish().
  void end(block::Request& request, int error) noexcept {
    impl_->reads_.fetch_sub(1);
    impl_->reads_.notify_all();
    block::finish(request, error);
  }

  void finish_job(Job& job, int error) noexcept {
    block::Request& user = *job.user;
    delete &job;
    end(user, error);
  }

  void drive(Job& job) noexcept {
    for (;;) {
      if (!readable()) {
        finish_job(job, EIO);
        return;
      }
      if (job.position == job.user->size_bytes) {
        finish_job(job, 0);
        return;
      }
      plan(job);
      if (job.blank) {
        std::memset(job.user->buffer + job.position, 0, job.piece_bytes);
        job.position += job.piece_bytes;
        continue;
      }
      job.arrived.store(false);
      (job.from_diff ? static_cast<block::Device&>(impl_->diff_) : impl_->origin_).submit(job.io);
      if (!job.arrived.exchange(true)) return;  // The callback goes on.
      if (const int error = absorb(job); error != 0) {
        finish_job(job, error);
        return;
      }
    }
  }

  static void arrive(block::Request& io) noexcept {
    auto& job = *static_cast<Job*>(io.owner);
    if (!job.arrived.exchange(true)) return;  // Still inside submit(): drive() goes on.
    SnapshotDevice& device = *job.device;
    if (const int error = device.absorb(job); error != 0) {
      device.finish_job(job, error);
    } else {
      device.drive(job);
    }
  }

  [[nodiscard]] bool readable() const noexcept {
    const Snapshot::Readable now = snapshot_->readable.load();
    return now == Snapshot::Readable::yes ||
           (now == Snapshot::Readable::lost && use_ == Use::revert);
  }

  [[nodiscard]] std::optional<Home> locate(std::uint64_t chunk) const {
    return impl_->locate(*snapshot_, chunk);
  }

  void plan(Job& job) noexcept {
    const std::uint64_t chunk_bytes = impl_->layout_.chunk_bytes;
    const std::uint64_t at = job.user->offset_bytes + job.position;
    const std::uint64_t left = job.user->size_bytes - job.position;
    const std::uint64_t chunk = at / chunk_bytes;
    const std::uint64_t in_chunk = at % chunk_bytes;
    job.io = {};
    job.io.op = block::Op::read;
    job.io.owner = &job;
    job.io.complete = arrive;
    const auto found = locate(chunk);
    job.from_diff = found.has_value();
    job.blank = found && found->kind != Home::Kind::data;
    job.piece_bytes = std::min(chunk_bytes - in_chunk, left);
    if (!found) {
      for (std::uint64_t next = chunk + 1; job.piece_bytes < left && !locate(next); ++next) {
        job.piece_bytes = std::min(job.piece_bytes + chunk_bytes, left);
      }
      job.io.offset_bytes = at;
      job.io.size_bytes = job.piece_bytes;
      job.io.buffer = job.user->buffer + job.position;
      return;
    }
    if (job.blank) return;
    // Whole granules, so that their checksums can be verified.
    const std::uint64_t begin = in_chunk / kGranule * kGranule;
    const std::uint64_t end = (in_chunk + job.piece_bytes + kGranule - 1) / kGranule * kGranule;
    job.home = *found;
    job.generation = impl_->segments_.generation(job.home.segment);
    job.granule_first = begin / kGranule;
    job.skip_bytes = in_chunk - begin;
    job.io.offset_bytes = impl_->layout_.slot_offset(job.home.segment, job.home.slot) + begin;
    job.io.size_bytes = end - begin;
    std::byte* const target = job.user->buffer + job.position;
    // Who asks was told the alignment of the device that the diff area was on when it was opened.
    if (job.io.size_bytes == job.piece_bytes && impl_->movable_.is_aligned(target)) {
      job.io.buffer = target;
    } else {
      if (!job.bounce) job.bounce = make_aligned(chunk_bytes);
      job.io.buffer = job.bounce.get();
    }
  }

  // Judges a piece that was read. 0: go on, from job.position.
  [[nodiscard]] int absorb(Job& job) noexcept {
    if (!readable() || job.io.error != 0) return EIO;
    if (!job.from_diff) {
      job.position += unchanged_bytes(job);
      return 0;
    }
    // In its recovery window a chunk may be written anew meanwhile, and its old home be reused.
    const std::uint64_t at_byte = job.user->offset_bytes + job.position;
    if (snapshot_->overlay() != nullptr && locate(impl_->chunk_of(at_byte)) != job.home) return 0;
    if (impl_->segments_.generation(job.home.segment) != job.generation) return EIO;
    const std::atomic<std::uint32_t>* sums = impl_->segments_.checksums(job.home);
    for (std::uint64_t at = 0; at < job.io.size_bytes && !job.home.unchecked; at += kGranule) {
      const std::uint32_t wanted =
          sums[job.granule_first + at / kGranule].load(std::memory_order_relaxed);
      if (crc32c({job.io.buffer + at, kGranule}) != wanted) return checksum_failed(job);
    }
    if (!readable()) return EIO;
    std::byte* const target = job.user->buffer + job.position;
    if (job.io.buffer != target) {
      std::memcpy(target, job.io.buffer + job.skip_bytes, job.piece_bytes);
    }
    job.position += job.piece_bytes;
    return 0;
  }

  [[nodiscard]] int checksum_failed(const Job& job) noexcept {
    if (!readable()) return EIO;  // Its space may be in use for something else.
    impl_->checksum_failures_.fetch_add(1);
    impl_->log_.error(
        "preserved data is damaged",
        {{"volume", impl_->id().to_string()}, {"offset", job.user->offset_bytes + job.position}});
    return EIO;
  }

  // The leading part of an origin piece in which no record has appeared.
  [[nodiscard]] std::uint64_t unchanged_bytes(const Job& job) const noexcept {
    const std::uint64_t chunk_bytes = impl_->layout_.chunk_bytes;
    const std::uint64_t first = job.io.offset_bytes;
    const std::uint64_t end = first + job.io.size_bytes;
    for (std::uint64_t chunk = first / chunk_bytes; chunk * chunk_bytes < end; ++chunk) {
      if (locate(chunk)) {
        return std::max(chunk * chunk_bytes, first) - first;
      }
    }
    return job.io.size_bytes;
  }

  std::shared_ptr<Impl> impl_;
  std::shared_ptr<Snapshot> snapshot_;
  const Use use_;
};

// What is known without reading: zeroes that were recorded, and what the origin says of chunks that
// it still holds. A record that appears meanwhile ends what the origin's word is taken for.
std::size_t Volume::Impl::SnapshotDevice::extents(std::uint64_t offset_bytes,
                                                  std::uint64_t size_bytes,
                                                  std::span<block::Extent> out) const noexcept {
  if (impl_->closed_.load() || !readable()) return Device::extents(offset_bytes, size_bytes, out);
  const std::uint64_t chunk_bytes = impl_->layout_.chunk_bytes;
  const std::uint64_t end = offset_bytes + std::min(size_bytes, kExtentsLook * chunk_bytes);
  enum class What : std::uint8_t { origin, data, zeroes };
  const auto what = [this](std::uint64_t chunk) {
    const auto home = locate(chunk);
    if (!home) return What::origin;
    return home->kind == Home::Kind::data ? What::data : What::zeroes;
  };
  std::size_t count = 0;
  for (std::uint64_t at = offset_bytes; at < end && count < out.size();) {
    std::uint64_t chunk = at / chunk_bytes;
    const What first = what(chunk);
    std::uint64_t until = (chunk + 1) * chunk_bytes;
    while (until < end && what(++chunk) == first) until += chunk_bytes;
    until = std::min(until, end);
    if (first != What::origin) {
      const bool zeroes = first == What::zeroes;
      out[count++] = {until - at, zeroes, zeroes};
      at = until;
      continue;
    }
    const std::size_t told = impl_->origin_.extents(at, until - at, out.subspan(count));
    std::uint64_t right = at;
    while (right < until && what(right / chunk_bytes) == What::origin) {
      right = (right / chunk_bytes + 1) * chunk_bytes;
    }
    right = std::min(right, until);
    if (right == at) continue;  // Preserved just now.
    for (std::size_t i = 0; i < told && at < right; ++i) {
      block::Extent& extent = out[count++];
      extent.size_bytes = std::min(extent.size_bytes, right - at);
      at += extent.size_bytes;
    }
  }
  return count;
}

std::optional<Home> Volume::Impl::locate(const Snapshot& snapshot, std::uint64_t chunk) const {
  if (const Overlay* overlay = snapshot.overlay()) {
    if (const auto home = overlay->find(chunk)) return home;
  }
  if (snapshot.shows_nothing_of(chunk)) return Home{0, 0, Home::Kind::nothing, false};
  const auto found = map_.find(chunk, snapshot.epoch);
  return found ? std::optional(found->home) : std::nullopt;
}

std::shared_ptr<block::Device> Volume::Impl::source_of(const std::shared_ptr<Snapshot>& snapshot) {
  return std::make_shared<SnapshotDevice>(shared_from_this(), snapshot,
                                          SnapshotDevice::Use::revert);
}

int Volume::Impl::read_snapshot(const std::shared_ptr<Snapshot>& snapshot,
                                std::uint64_t offset_bytes, std::span<std::byte> out) {
  SnapshotDevice device(shared_from_this(), snapshot, SnapshotDevice::Use::reading);
  block::Request read;
  read.op = block::Op::read;
  read.offset_bytes = offset_bytes;
  read.size_bytes = out.size();
  read.buffer = out.data();
  return block::run(device, read);
}

Result<std::shared_ptr<block::Device>> Volume::Impl::open_for_recovery(const SnapshotId& id) {
  const std::lock_guard lock(mutex_);
  if (closed_.load()) return fail(Errc::bad_state, "the volume is closed");
  const auto snapshot = find_snapshot(id);
  if (!snapshot) return fail(Errc::object_not_found, "snapshot " + id.to_string());
  if (recovering_ != snapshot || !window_open_) {
    return fail(Errc::bad_state, "snapshot " + id.to_string() + " takes no writes");
  }
  return std::shared_ptr<block::Device>(std::make_shared<SnapshotDevice>(
      shared_from_this(), snapshot, SnapshotDevice::Use::recovery));
}

Result<std::shared_ptr<block::Device>> Volume::Impl::open_snapshot(const SnapshotId& id) {
  const std::lock_guard lock(mutex_);
  if (closed_.load()) return fail(Errc::bad_state, "the volume is closed");
  const auto snapshot = find_snapshot(id);
  if (!snapshot) return fail(Errc::object_not_found, "snapshot " + id.to_string());
  if (snapshot->slot.state == format::SlotState::prepared) {
    return fail(Errc::bad_state, "snapshot " + id.to_string() + " has no point in time yet");
  }
  return std::shared_ptr<block::Device>(
      std::make_shared<SnapshotDevice>(shared_from_this(), snapshot, SnapshotDevice::Use::reading));
}

}  // namespace umbra::cow
