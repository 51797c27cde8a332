// SPDX-License-Identifier: Apache-2.0
#include "bench/micro/disks.h"

#include <algorithm>

namespace umbra::bench {
namespace {

template <class Effect>
void for_each(block::Device& device, block::Request& first, const Effect& effect) noexcept {
  for (block::Request* request = &first; request != nullptr;) {
    block::Request* const next = request->next;
    const int error = block::check(device.geometry(), *request);
    if (error == 0) effect(*request);
    block::finish(*request, error);
    request = next;
  }
}

[[nodiscard]] bool all_zero(const std::byte* bytes, std::uint64_t size) noexcept {
  return bytes[0] == std::byte{0} && std::memcmp(bytes, bytes + 1, size - 1) == 0;
}

}  // namespace

block::Geometry RamDisk::geometry() const noexcept {
  block::Geometry geometry;
  geometry.size_bytes = bytes_.size();
  return geometry;
}

void RamDisk::submit(block::Request& first) noexcept {
  for_each(*this, first, [this](block::Request& request) noexcept {
    std::byte* const at = bytes_.data() + request.offset_bytes;
    switch (request.op) {
      case block::Op::read: std::memcpy(request.buffer, at, request.size_bytes); break;
      case block::Op::write: std::memcpy(at, request.buffer, request.size_bytes); break;
      case block::Op::write_zeroes: std::memset(at, 0, request.size_bytes); break;
      case block::Op::discard:
      case block::Op::share:  // share_unit() says that it cannot: nobody asks.
      case block::Op::flush: break;
    }
  });
}

Status RamDisk::resize(std::uint64_t size_bytes) {
  return size_bytes <= bytes_.size() ? Status{} : fail(Errc::not_supported, "it has its size");
}

block::Geometry SparseDisk::geometry() const noexcept {
  block::Geometry geometry;
  geometry.size_bytes = size_bytes_;
  return geometry;
}

std::uint64_t SparseDisk::kept_bytes() const noexcept {
  const auto kept =
      std::count_if(pages_.begin(), pages_.end(), [](const auto& page) { return page != nullptr; });
  return static_cast<std::uint64_t>(kept) * kPageBytes;
}

void SparseDisk::submit(block::Request& first) noexcept {
  for_each(*this, first, [this](block::Request& request) noexcept {
    if (request.op == block::Op::read) read(request);
    if (request.op == block::Op::write && !forgets) write(request);
  });
}

void SparseDisk::read(const block::Request& request) const noexcept {
  for (std::uint64_t done = 0; done < request.size_bytes;) {
    const std::uint64_t at = request.offset_bytes + done;
    const std::uint64_t in_page = at % kPageBytes;
    const std::uint64_t piece = std::min(kPageBytes - in_page, request.size_bytes - done);
    if (const auto& page = pages_[at / kPageBytes]) {
      std::memcpy(request.buffer + done, page->data() + in_page, piece);
    } else {
      std::memset(request.buffer + done, 0, piece);
    }
    done += piece;
  }
}

void SparseDisk::write(const block::Request& request) {
  for (std::uint64_t done = 0; done < request.size_bytes;) {
    const std::uint64_t at = request.offset_bytes + done;
    const std::uint64_t in_page = at % kPageBytes;
    const std::uint64_t piece = std::min(kPageBytes - in_page, request.size_bytes - done);
    auto& page = pages_[at / kPageBytes];
    if (!page && !all_zero(request.buffer + done, piece)) page = std::make_unique<Page>();
    if (page) std::memcpy(page->data() + in_page, request.buffer + done, piece);
    done += piece;
  }
}

Status SparseDisk::resize(std::uint64_t size_bytes) {
  pages_.resize((size_bytes + kPageBytes - 1) / kPageBytes);
  size_bytes_ = size_bytes;
  return {};
}

}  // namespace umbra::bench
