// SPDX-License-Identifier: Apache-2.0
//
// A disk that starts as a copy of an image, or of a part of one, and takes memory only for the
// pages that are changed: for tests that open the same area thousands of times. Completes in
// submit(). Threads: one at a time.
#pragma once

#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <vector>

#include "engine/platform/block.h"

namespace umbra::test {

class PagedDisk final : public block::ResizableDevice {
 public:
  explicit PagedDisk(std::shared_ptr<const std::vector<std::byte>> base)
      : PagedDisk(base, 0, base->size()) {}
  /// Of a part of the image, which must not change as long as this lives.
  PagedDisk(std::shared_ptr<const std::vector<std::byte>> base, std::uint64_t base_offset_bytes,
            std::uint64_t size_bytes)
      : base_(std::move(base)),
        base_offset_(base_offset_bytes),
        pages_((size_bytes + kPageBytes - 1) / kPageBytes),
        size_bytes_(size_bytes) {}

  /// resize() above this fails with insufficient_storage. Default: no growth.
  std::uint64_t size_bytes_max = 0;
  /// It shares blocks with others of its kind: a copy that takes effect at once.
  bool can_share = false;
  /// Called before and after each request takes effect. Null: nothing.
  void (*around)() noexcept = nullptr;

  [[nodiscard]] block::Geometry geometry() const noexcept override {
    block::Geometry geometry;
    geometry.size_bytes = size_bytes_;
    geometry.can_discard = true;
    return geometry;
  }
  void submit(block::Request& first) noexcept override {
    for (block::Request* request = &first; request != nullptr;) {
      block::Request* const next = std::exchange(request->next, nullptr);
      int error = block::check(geometry(), *request);
      if (error == 0) {
        if (around != nullptr) around();
        error = effect(*request);
        if (around != nullptr) around();
      }
      block::finish(*request, error);
      request = next;
    }
  }
  [[nodiscard]] Status resize(std::uint64_t size_bytes) override {
    if (size_bytes > size_bytes_max) return fail(Errc::insufficient_storage, "test disk");
    if (around != nullptr) around();
    size_bytes_ = size_bytes;
    pages_.resize((size_bytes + kPageBytes - 1) / kPageBytes);
    if (around != nullptr) around();
    return {};
  }
  [[nodiscard]] Result<std::uint32_t> share_unit(block::Device& source) override {
    const auto* const other = dynamic_cast<PagedDisk*>(&source);
    if (can_share && other != nullptr && other->can_share) return std::uint32_t{kPageBytes};
    return Device::share_unit(source);
  }
  [[nodiscard]] std::vector<std::byte> bytes() const {
    std::vector<std::byte> out(size_bytes_);
    copy_out(0, out.data(), out.size());
    return out;
  }

 private:
  static constexpr std::uint64_t kPageBytes = 4096;
  using Page = std::array<std::byte, kPageBytes>;

  int effect(block::Request& request) noexcept {
    switch (request.op) {
      case block::Op::read:
        copy_out(request.offset_bytes, request.buffer, request.size_bytes);
        break;
      case block::Op::write:
      case block::Op::write_zeroes: copy_in(request); break;
      case block::Op::share: return share(request);
      case block::Op::discard:
      case block::Op::flush: break;
    }
    return 0;
  }
  int share(const block::Request& request) noexcept {
    const auto* const source = dynamic_cast<PagedDisk*>(request.source);
    if (!can_share || source == nullptr || !source->can_share) return EOPNOTSUPP;
    std::vector<std::byte> bytes(request.size_bytes);
    source->copy_out(request.source_offset_bytes, bytes.data(), bytes.size());
    block::Request write;
    write.op = block::Op::write;
    write.offset_bytes = request.offset_bytes;
    write.size_bytes = request.size_bytes;
    write.buffer = bytes.data();
    copy_in(write);
    return 0;
  }
  void copy_out(std::uint64_t from, std::byte* to, std::uint64_t size) const noexcept {
    while (size > 0) {
      const std::uint64_t in_page = from % kPageBytes;
      const std::uint64_t piece = std::min(kPageBytes - in_page, size);
      if (const auto& page = pages_[from / kPageBytes]) {
        std::memcpy(to, page->data() + in_page, piece);
      } else if (base_offset_ + from < base_->size()) {
        std::memcpy(to, base_->data() + base_offset_ + from, piece);
      } else {
        std::memset(to, 0, piece);
      }
      from += piece;
      to += piece;
      size -= piece;
    }
  }
  void copy_in(const block::Request& request) {
    for (std::uint64_t done = 0; done < request.size_bytes;) {
      const std::uint64_t at = request.offset_bytes + done;
      const std::uint64_t in_page = at % kPageBytes;
      const std::uint64_t piece = std::min(kPageBytes - in_page, request.size_bytes - done);
      auto& page = pages_[at / kPageBytes];
      if (!page) {
        auto fresh = std::make_unique<Page>();
        copy_out(at - in_page, fresh->data(), kPageBytes);
        page = std::move(fresh);
      }
      if (request.op == block::Op::write) {
        std::memcpy(page->data() + in_page, request.buffer + done, piece);
      } else {
        std::memset(page->data() + in_page, 0, piece);
      }
      done += piece;
    }
  }

  std::shared_ptr<const std::vector<std::byte>> base_;
  std::uint64_t base_offset_;
  std::vector<std::unique_ptr<Page>> pages_;
  std::uint64_t size_bytes_;
};

}  // namespace umbra::test
