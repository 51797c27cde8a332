// SPDX-License-Identifier: Apache-2.0
#include "tests/sched/viewer.h"

namespace umbra::test::sched {
namespace {

int read_disk(PagedDisk& disk, std::uint64_t offset_bytes, std::span<std::byte> out) {
  bool done = false;
  block::Request request;
  request.offset_bytes = offset_bytes;
  request.size_bytes = out.size();
  request.buffer = out.data();
  request.owner = &done;
  request.complete = [](block::Request& completed) noexcept {
    *static_cast<bool*>(completed.owner) = true;
  };
  disk.submit(request);
  wait_until([&]() noexcept { return done; });
  return request.error;
}

}  // namespace

Viewer::Viewer(Rig& rig, const SnapshotId& snapshot) : rig_(rig), wanted_(rig.images.at(snapshot)) {
  shm::Layout layout;
  layout.snapshot = snapshot;
  layout.volume_bytes = kChunks * kChunk;
  layout.chunk_bytes = kChunk;
  memory_ = make_aligned_zeroes(layout.total_bytes());
  writer_ = std::make_shared<shm::ViewWriter>(
      layout, std::span<std::byte>(memory_.get(), layout.total_bytes()));
  auto watch = rig.volume->watch_homes(snapshot, writer_);
  if (!watch) {
    if (rig_.trouble.empty()) rig_.trouble = "no view: " + watch.error().to_string();
    return;
  }
  watch_ = std::move(*watch);
}

void Viewer::read_back(bool may_end) {
  Image seen(kChunks * kChunk);
  const Status read = shm::read_view(writer_->view(), *this, 0, seen);
  if (!rig_.trouble.empty()) return;
  if (!read) {
    const bool fine = may_end && read.error().code == Errc::snapshot_lost;
    if (!fine) rig_.trouble = "reading a view: " + read.error().to_string();
    return;
  }
  if (seen == wanted_) return;
  rig_.trouble = "the view shows";
  for (std::uint64_t chunk = 0; chunk < kChunks; ++chunk) {
    rig_.trouble += " " + std::to_string(value_of(seen, chunk)) + "/" +
                    std::to_string(value_of(wanted_, chunk));
  }
}

int Viewer::read_origin(std::uint64_t offset_bytes, std::span<std::byte> out) noexcept {
  return read_disk(rig_.origin, offset_bytes, out);
}
int Viewer::read_diff_area(std::uint64_t offset_bytes, std::span<std::byte> out) noexcept {
  return read_disk(rig_.diff, offset_bytes, out);
}

}  // namespace umbra::test::sched
