// SPDX-License-Identifier: Apache-2.0
#include "provider/daemon/copy_overlay_posix.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <new>
#include <system_error>
#include <utility>

namespace umbra::cowd {
namespace {

constexpr std::uint64_t kBitsPerWord = 64;
constexpr std::size_t kBufferAlignment = 4096;  // Enough for any device below.

std::string reason(int error) { return std::generic_category().message(error); }

std::uint64_t chunks_in(std::uint64_t bytes) {
  return bytes / kOverlayChunkBytes + (bytes % kOverlayChunkBytes != 0 ? 1 : 0);
}

int read_all(int fd, std::byte* into, std::uint64_t size, std::uint64_t offset) {
  while (size > 0) {
    const ssize_t got = ::pread(fd, into, size, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return got < 0 ? errno : EIO;
    into += got;
    offset += static_cast<std::uint64_t>(got);
    size -= static_cast<std::uint64_t>(got);
  }
  return 0;
}

int write_all(int fd, const std::byte* from, std::uint64_t size, std::uint64_t offset) {
  while (size > 0) {
    const ssize_t put = ::pwrite(fd, from, size, static_cast<off_t>(offset));
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return put < 0 ? errno : EIO;
    from += put;
    offset += static_cast<std::uint64_t>(put);
    size -= static_cast<std::uint64_t>(put);
  }
  return 0;
}

// Calls `piece(chunk, offset, size)` for the parts of a range, each within one chunk, until one
// fails.
template <class Piece>
int for_pieces(std::uint64_t offset, std::uint64_t size, const Piece& piece) {
  while (size > 0) {
    const std::uint64_t part = std::min(size, kOverlayChunkBytes - offset % kOverlayChunkBytes);
    if (const int error = piece(offset / kOverlayChunkBytes, offset, part); error != 0)
      return error;
    offset += part;
    size -= part;
  }
  return 0;
}

}  // namespace

void CopyOverlay::FreeMemory::operator()(std::byte* memory) const noexcept { std::free(memory); }

Result<UniqueFd> CopyOverlay::make_file(const std::string& directory) {
  std::string path = directory + "/overlay.XXXXXX";
  UniqueFd file(::mkostemp(path.data(), O_CLOEXEC));
  if (!file) return fail(Errc::io_error, "a file in " + directory + ": " + reason(errno));
  if (::unlink(path.c_str()) != 0) return fail(Errc::io_error, path + ": " + reason(errno));
  return file;
}

Result<std::shared_ptr<CopyOverlay>> CopyOverlay::open(Options options) {
  std::shared_ptr<CopyOverlay> overlay(new CopyOverlay(std::move(options)));
  if (const Status loaded = overlay->load(); !loaded) return fail(loaded.error());
  overlay->thread_ = std::thread([raw = overlay.get()] { raw->work(); });
  return overlay;
}

CopyOverlay::CopyOverlay(Options options)
    : copy_(std::move(options.copy)),
      file_(std::move(options.file)),
      chunks_max_(options.bytes_max / kOverlayChunkBytes),
      size_bytes_(copy_->geometry().size_bytes),
      bitmap_offset_(chunks_in(size_bytes_) * kOverlayChunkBytes),
      written_(chunks_in(size_bytes_) / kBitsPerWord + 1) {
  void* memory = nullptr;
  if (::posix_memalign(&memory, kBufferAlignment, kOverlayChunkBytes) != 0) throw std::bad_alloc();
  buffer_.reset(static_cast<std::byte*>(memory));
}

CopyOverlay::~CopyOverlay() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  queued_.notify_one();
  if (thread_.joinable()) thread_.join();
}

// The bitmap's space is taken here, so that a bit can always be set.
Status CopyOverlay::load() {
  const std::uint64_t bytes = written_.size() * sizeof(std::uint64_t);
  int error = 0;
  do {
    error = ::posix_fallocate(file_.get(), static_cast<off_t>(bitmap_offset_),
                              static_cast<off_t>(bytes));
  } while (error == EINTR);
  if (error != 0) {
    return fail(error == ENOSPC ? Errc::insufficient_storage : Errc::io_error,
                "the overlay in the state directory: " + reason(error));
  }
  std::vector<std::uint64_t> words(written_.size());
  error = read_all(file_.get(), reinterpret_cast<std::byte*>(words.data()), bytes, bitmap_offset_);
  if (error != 0) {
    return fail(Errc::io_error, "the overlay in the state directory: " + reason(error));
  }
  for (std::size_t i = 0; i < words.size(); ++i) {
    written_[i].store(words[i], std::memory_order_relaxed);
    chunks_written_ += static_cast<std::uint64_t>(std::popcount(words[i]));
  }
  return {};
}

block::Geometry CopyOverlay::geometry() const noexcept {
  block::Geometry geometry = copy_->geometry();
  geometry.size_bytes = size_bytes_;
  geometry.read_only = false;
  geometry.can_discard = false;
  return geometry;
}

bool CopyOverlay::is_written(std::uint64_t chunk) const noexcept {
  const std::uint64_t word = written_[chunk / kBitsPerWord].load(std::memory_order_acquire);
  return (word >> chunk % kBitsPerWord & 1U) != 0;
}

bool CopyOverlay::all_unwritten(const block::Request& request) const noexcept {
  return for_pieces(request.offset_bytes, request.size_bytes,
                    [&](std::uint64_t chunk, std::uint64_t, std::uint64_t) {
                      return is_written(chunk) ? 1 : 0;
                    }) == 0;
}

void CopyOverlay::submit(block::Request& first) noexcept {
  const block::Geometry shape = geometry();
  for (block::Request* request = &first; request != nullptr;) {
    block::Request* const next = std::exchange(request->next, nullptr);
    const bool nothing = request->op == block::Op::flush || request->op == block::Op::discard;
    if (const int error = block::check(shape, *request); error != 0 || nothing) {
      block::finish(*request, error);
    } else if (request->op == block::Op::share) {
      block::finish(*request, EOPNOTSUPP);
    } else if (request->op == block::Op::read && all_unwritten(*request)) {
      copy_->submit(*request);
    } else {
      {
        const std::lock_guard lock(mutex_);
        (last_ != nullptr ? last_->next : first_) = request;
        last_ = request;
      }
      queued_.notify_one();
    }
    request = next;
  }
}

void CopyOverlay::work() noexcept {
  while (true) {
    block::Request* request = nullptr;
    {
      std::unique_lock lock(mutex_);
      queued_.wait(lock, [&] { return first_ != nullptr || ending_; });
      if (first_ == nullptr) return;
      request = first_;
      first_ = std::exchange(request->next, nullptr);
      if (first_ == nullptr) last_ = nullptr;
    }
    block::finish(*request, carry_out(*request));
  }
}

int CopyOverlay::carry_out(const block::Request& request) noexcept {
  const std::byte* from = request.op == block::Op::write ? request.buffer : nullptr;
  if (request.op == block::Op::read) {
    return read(request.offset_bytes, request.size_bytes, request.buffer);
  }
  return write(request.offset_bytes, request.size_bytes, from);
}

int CopyOverlay::read(std::uint64_t offset, std::uint64_t size, std::byte* into) noexcept {
  return for_pieces(offset, size, [&](std::uint64_t chunk, std::uint64_t at, std::uint64_t part) {
    std::byte* const target = into + (at - offset);
    return is_written(chunk) ? read_all(file_.get(), target, part, at)
                             : read_copy(at, part, target);
  });
}

// `from` null: zeroes. A chunk that is written for the first time is put together in buffer_.
int CopyOverlay::write(std::uint64_t offset, std::uint64_t size, const std::byte* from) noexcept {
  return for_pieces(offset, size, [&](std::uint64_t chunk, std::uint64_t at, std::uint64_t part) {
    const bool fresh = !is_written(chunk);
    if (fresh && chunks_written_ == chunks_max_) return ENOSPC;
    const std::uint64_t start = chunk * kOverlayChunkBytes;
    const std::uint64_t whole = std::min(kOverlayChunkBytes, size_bytes_ - start);
    if (fresh && part < whole) {
      if (const int error = read_copy(start, whole, buffer_.get()); error != 0) return error;
    }
    std::byte* const place = buffer_.get() + (at - start);
    if (from != nullptr) {
      std::memcpy(place, from + (at - offset), part);
    } else {
      std::memset(place, 0, part);
    }
    const int error = fresh ? write_all(file_.get(), buffer_.get(), whole, start)
                            : write_all(file_.get(), place, part, at);
    if (error != 0 || !fresh) return error;
    return mark_written(chunk);
  });
}

int CopyOverlay::read_copy(std::uint64_t offset, std::uint64_t size, std::byte* into) noexcept {
  block::Request request;
  request.op = block::Op::read;
  request.offset_bytes = offset;
  request.size_bytes = size;
  request.buffer = into;
  return block::run(*copy_, request);
}

// The data is in the file.
int CopyOverlay::mark_written(std::uint64_t chunk) noexcept {
  auto& word = written_[chunk / kBitsPerWord];
  const std::uint64_t value = word.load(std::memory_order_relaxed) | std::uint64_t{1}
                                                                         << chunk % kBitsPerWord;
  const int error = write_all(file_.get(), reinterpret_cast<const std::byte*>(&value), sizeof value,
                              bitmap_offset_ + chunk / kBitsPerWord * sizeof value);
  if (error != 0) return error;
  word.store(value, std::memory_order_release);
  ++chunks_written_;
  return 0;
}

}  // namespace umbra::cowd
