// SPDX-License-Identifier: Apache-2.0
//
// A view in memory of this process, an origin and a diff area beside it, and what may happen while
// they are read.
#pragma once

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "engine/platform/aligned.h"
#include "engine/platform/crc32c.h"
#include "engine/platform/prng.h"
#include "engine/shm/view_reader.h"
#include "provider/frontend/shm/view_writer.h"

namespace umbra::test {

using Bytes = std::vector<std::byte>;

class ViewInMemory final : public shm::Storage {
 public:
  explicit ViewInMemory(const shm::Layout& layout, std::uint64_t seed = 1)
      : memory_(make_aligned_zeroes(layout.total_bytes())) {
    memory = {memory_.get(), layout.total_bytes()};
    writer = std::make_unique<shm::ViewWriter>(layout, memory);
    Prng random(seed);
    origin.resize(layout.volume_bytes);
    for (std::byte& byte : origin) byte = static_cast<std::byte>(random.next());
    shown = origin;
  }
  /// As umbra-cowd does: the old content goes to the diff area and is told, then the origin
  /// changes.
  void overwrite(std::uint64_t chunk, std::byte value, bool checked = true) {
    const shm::Layout& layout = writer->view().layout();
    const std::uint64_t at = chunk * layout.chunk_bytes;
    const std::uint64_t size = std::min<std::uint64_t>(layout.chunk_bytes, origin.size() - at);
    cow::ChunkPlace where;
    where.offset_bytes = diff_area.size();
    diff_area.resize(diff_area.size() + layout.chunk_bytes);
    std::memcpy(diff_area.data() + where.offset_bytes, origin.data() + at, size);
    std::vector<std::atomic<std::uint32_t>> sums(layout.checksums_per_chunk());
    for (std::size_t i = 0; i < sums.size(); ++i) {
      sums[i] = crc32c(
          {diff_area.data() + where.offset_bytes + i * shm::kGranuleBytes, shm::kGranuleBytes});
    }
    if (checked) where.checksums = sums;
    writer->place(chunk, where);
    std::memset(origin.data() + at, static_cast<int>(value), size);
  }
  void zero(std::uint64_t chunk) {
    const shm::Layout& layout = writer->view().layout();
    const std::uint64_t at = chunk * layout.chunk_bytes;
    const std::uint64_t size = std::min<std::uint64_t>(layout.chunk_bytes, origin.size() - at);
    std::memset(shown.data() + at, 0, size);
    writer->place(chunk, {.zeroes = true, .offset_bytes = 0, .checksums = {}});
  }

  [[nodiscard]] Status read(std::uint64_t at, std::span<std::byte> out) {
    return shm::read_view(writer->view(), *this, at, out);
  }
  [[nodiscard]] Bytes wanted(std::uint64_t at, std::size_t size) const {
    const auto begin = shown.begin() + static_cast<std::ptrdiff_t>(at);
    return {begin, begin + static_cast<std::ptrdiff_t>(size)};
  }

  int read_origin(std::uint64_t at, std::span<std::byte> out) noexcept override {
    return copy(origin, at, out, writer->view().layout().origin_alignment_bytes);
  }
  int read_diff_area(std::uint64_t at, std::span<std::byte> out) noexcept override {
    return copy(diff_area, at, out, writer->view().layout().diff_alignment_bytes);
  }
  bool is_alive() noexcept override { return alive; }

  std::span<std::byte> memory;  // The view's.
  std::unique_ptr<shm::ViewWriter> writer;
  Bytes origin;
  Bytes diff_area;
  Bytes shown;  // What the snapshot shows.
  bool alive = true;
  std::function<void()> before_read = [] {};  // Once.
  std::function<void()> after_read = [] {};   // Once.
  std::size_t reads = 0;

 private:
  int copy(const Bytes& from, std::uint64_t at, std::span<std::byte> out, std::uint32_t alignment) {
    ++reads;
    std::exchange(before_read, [] {})();
    const bool to_the_end = at + out.size() == from.size();
    if (at % alignment != 0 || (out.size() % alignment != 0 && !to_the_end) ||
        reinterpret_cast<std::uintptr_t>(out.data()) % alignment != 0) {
      return EINVAL;
    }
    if (at + out.size() > from.size()) return EIO;
    std::memcpy(out.data(), from.data() + at, out.size());
    std::exchange(after_read, [] {})();
    return 0;
  }

  AlignedBuffer memory_;
};

}  // namespace umbra::test
