// SPDX-License-Identifier: Apache-2.0
#include "provider/daemon/reader_views_linux.h"

#include <algorithm>
#include <iterator>
#include <string>
#include <utility>

#include "provider/daemon/file_stores.h"
#include "provider/frontend/shm/memory_linux.h"
#include "provider/frontend/shm/view_writer.h"

namespace umbra::cowd {

// In the order of construction: the watch goes first, and nobody writes any more.
struct ReaderViews::Claim {
  explicit Claim(shm::SealedMemory memory_) : memory(std::move(memory_)) {}
  shm::SealedMemory memory;
  std::shared_ptr<shm::ViewWriter> writer;
  std::unique_ptr<cow::HomeWatch> watch;
};

void ReaderViews::add(Store& store) {
  const std::lock_guard lock(mutex_);
  stores_[store.id()] = &store;
}

void ReaderViews::remove(const VolumeId& volume) {
  const std::lock_guard lock(mutex_);
  stores_.erase(volume);
}

Result<shm::Views::Opened> ReaderViews::open(const SnapshotId& snapshot) {
  const std::lock_guard lock(mutex_);
  Store* const store = find_store(snapshot);
  if (store == nullptr) {
    return fail(Errc::object_not_found,
                "there is no copy " + snapshot.to_string() + " here; see umbra list shadows");
  }
  Opened opened;
  std::shared_ptr<Claim> claim = claims_[snapshot].lock();
  if (claim && !claim->writer->has_ended()) {
    auto reader = open_reader(*store, snapshot, nullptr);
    if (!reader) return fail(reader.error());
    opened.origin = std::move(reader->origin);
    opened.diff_area = std::move(reader->diff_area);
  } else {
    auto made = make(*store, snapshot, opened);
    if (!made) return fail(made.error());
    claim = std::move(*made);
  }
  opened.view = claim->memory.descriptor();
  claims_[snapshot] = claim;
  opened.claim = std::move(claim);
  return opened;
}

Store* ReaderViews::find_store(const SnapshotId& snapshot) const {
  for (const auto& [id, store] : stores_) {
    if (volume_of(*store)->find(snapshot)) return store;
  }
  return nullptr;
}

Result<std::shared_ptr<ReaderViews::Claim>> ReaderViews::make(Store& store,
                                                              const SnapshotId& snapshot,
                                                              Opened& opened) {
  const cow::HomeLayout homes = volume_of(store)->home_layout();
  const ReaderAlignment alignment = reader_alignment(store);
  shm::Layout layout;
  layout.snapshot = snapshot;
  layout.volume_bytes = homes.volume_bytes;
  layout.chunk_bytes = homes.chunk_bytes;
  layout.origin_alignment_bytes = alignment.origin_bytes;
  layout.diff_alignment_bytes = alignment.diff_area_bytes;
  const std::uint64_t in_use = bytes_in_use();
  if (layout.total_bytes() > bytes_max_ - std::min(bytes_max_, in_use)) {
    return fail(Errc::limit_reached,
                "a view of this copy takes " + std::to_string(layout.total_bytes() >> 20U) +
                    " MiB of memory, and of " + std::to_string(bytes_max_ >> 20U) + " MiB " +
                    std::to_string(in_use >> 20U) +
                    " are in use: read the copy's device instead, or start umbra-cowd with a "
                    "larger --reader-memory-mib");
  }
  auto memory = shm::SealedMemory::create("umbra-view", layout.total_bytes());
  if (!memory) return fail(memory.error());
  auto claim = std::make_shared<Claim>(std::move(*memory));
  claim->writer = std::make_shared<shm::ViewWriter>(layout, claim->memory.bytes());
  auto reader = open_reader(store, snapshot, claim->writer);
  if (!reader) return fail(reader.error());
  if (reader_alignment(store) != alignment) {
    return fail(Errc::volume_in_use, "its diff area was moved just now; try again");
  }
  claim->watch = std::move(reader->watch);
  opened.origin = std::move(reader->origin);
  opened.diff_area = std::move(reader->diff_area);
  return claim;
}

std::uint64_t ReaderViews::bytes_in_use() {
  std::uint64_t bytes = 0;
  for (auto it = claims_.begin(); it != claims_.end();) {
    const auto claim = it->second.lock();
    if (claim) bytes += claim->memory.bytes().size();
    it = claim ? std::next(it) : claims_.erase(it);
  }
  return bytes;
}

}  // namespace umbra::cowd
