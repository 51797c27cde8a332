// SPDX-License-Identifier: Apache-2.0
#include "provider/frontend/shm/view_writer.h"

namespace umbra::shm {

ViewWriter::ViewWriter(const Layout& layout, std::span<std::byte> memory) noexcept
    : view_(layout, memory) {
  format_view(layout, memory);
}

void ViewWriter::place(std::uint64_t chunk, const cow::ChunkPlace& where) noexcept {
  Home home;
  home.kind = where.zeroes ? Home::Kind::zeroes : Home::Kind::data;
  home.unchecked = !where.zeroes && where.checksums.empty();
  home.offset_bytes = where.offset_bytes;
  std::atomic<std::uint32_t>* const checksums = view_.checksums(chunk);
  for (std::size_t i = 0; i < where.checksums.size(); ++i) {
    checksums[i].store(where.checksums[i].load(std::memory_order_relaxed),
                       std::memory_order_relaxed);
  }
  view_.home(chunk).store(home.word(), std::memory_order_release);
  // Whoever sees what is written to the origin next sees the home as well.
  std::atomic_thread_fence(std::memory_order_seq_cst);
}

void ViewWriter::end() noexcept {
  view_.state().store(static_cast<std::uint32_t>(State::ended), std::memory_order_release);
  std::atomic_thread_fence(std::memory_order_seq_cst);
}

bool ViewWriter::has_ended() const noexcept {
  return view_.state().load(std::memory_order_acquire) == static_cast<std::uint32_t>(State::ended);
}

}  // namespace umbra::shm
