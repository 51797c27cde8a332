// SPDX-License-Identifier: Apache-2.0
//
// Watches of snapshots' homes. A watch is entered in watches_ first and told of all that there is
// afterwards: what is preserved meanwhile is told twice, and says the same twice, since the record
// that a snapshot resolves a chunk to stays the one it is as long as the snapshot lives.
#include "provider/cow/home_watch.h"

#include <algorithm>
#include <utility>

#include "provider/cow/core.h"

namespace umbra::cow {

// Owners: whoever watches; the volume's inside while it is entered.
class Volume::Impl::Watch final : public HomeWatch {
 public:
  Watch(std::shared_ptr<Impl> impl, std::shared_ptr<Snapshot> snapshot,
        std::shared_ptr<HomeSink> sink) noexcept
      : impl_(std::move(impl)), snapshot_(std::move(snapshot)), sink_(std::move(sink)) {
    snapshot_->open_devices.fetch_add(1);
  }
  ~Watch() override {
    {
      const std::lock_guard lock(impl_->mutex_);
      end();
      std::erase(impl_->watches_, this);
    }
    snapshot_->open_devices.fetch_sub(1);
  }

  void tell(std::uint64_t chunk) noexcept {
    const auto home = impl_->locate(*snapshot_, chunk);
    if (!home) return;
    ChunkPlace where;
    where.zeroes = home->kind != Home::Kind::data;
    if (!where.zeroes) {
      where.offset_bytes = impl_->layout_.slot_offset(home->segment, home->slot);
      if (!home->unchecked) {
        where.checksums = {impl_->segments_.checksums(*home), impl_->layout_.checksums_per_chunk};
      }
    }
    sink_->place(chunk, where);
  }

  /// Of all that there is. False: it has ended meanwhile.
  [[nodiscard]] bool tell_all() {
    for (std::uint64_t page = 0; page < impl_->map_.page_count() && !ended_.load(); ++page) {
      const ChunkMap::PageMask mask =
          impl_->map_.changed(page, snapshot_->epoch, std::numeric_limits<std::uint64_t>::max());
      for (std::uint64_t i = 0; i < ChunkMap::kPageChunks; ++i) {
        if ((mask[i / 64] >> (i % 64) & 1U) != 0) tell(page * ChunkMap::kPageChunks + i);
      }
    }
    if (const Exemption* const exempt = snapshot_->exemption()) {
      exempt->free.for_each([this](std::uint64_t chunk) { tell(chunk); });
    }
    if (const Overlay* const overlay = snapshot_->overlay()) {
      std::vector<std::uint64_t> written;
      overlay->for_each([&](std::uint64_t chunk, Home) { written.push_back(chunk); });
      for (const std::uint64_t chunk : written) tell(chunk);
    }
    return !ended_.load();
  }

  void end() noexcept {  // mutex_
    if (!ended_.exchange(true)) sink_->end();
  }

  [[nodiscard]] const Snapshot& snapshot() const noexcept { return *snapshot_; }

 private:
  const std::shared_ptr<Impl> impl_;
  const std::shared_ptr<Snapshot> snapshot_;
  const std::shared_ptr<HomeSink> sink_;
  sync::Atomic<bool> ended_ = false;
};

Result<std::unique_ptr<HomeWatch>> Volume::Impl::watch_homes(const SnapshotId& id,
                                                             std::shared_ptr<HomeSink> sink) {
  std::unique_ptr<Watch> watch;
  {
    const std::lock_guard lock(mutex_);
    if (closed_.load()) return fail(Errc::bad_state, "the volume is closed");
    const auto snapshot = find_snapshot(id);
    if (!snapshot) return fail(Errc::object_not_found, "snapshot " + id.to_string());
    if (snapshot->slot.state != format::SlotState::created) {
      return fail(Errc::bad_state, "snapshot " + id.to_string() + " is not complete yet");
    }
    if (snapshot->readable.load() != Snapshot::Readable::yes) {
      return fail(Errc::snapshot_lost, "snapshot " + id.to_string());
    }
    watch = std::make_unique<Watch>(shared_from_this(), snapshot, std::move(sink));
    watches_.push_back(watch.get());
  }
  if (!watch->tell_all()) {
    return fail(Errc::bad_state, "snapshot " + id.to_string() + " went away meanwhile");
  }
  return watch;
}

HomeLayout Volume::Impl::home_layout() const noexcept {
  return {origin_geometry_.size_bytes, chunk_count_, layout_.chunk_bytes,
          layout_.checksums_per_chunk};
}

void Volume::Impl::tell_watches(std::span<const std::uint64_t> chunks) noexcept {
  for (Watch* const watch : watches_) {
    for (const std::uint64_t chunk : chunks) watch->tell(chunk);
  }
}

void Volume::Impl::end_watches(const Snapshot* snapshot) noexcept {
  for (Watch* const watch : watches_) {
    if (snapshot == nullptr || &watch->snapshot() == snapshot) watch->end();
  }
}

}  // namespace umbra::cow
