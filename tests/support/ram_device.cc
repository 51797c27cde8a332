// SPDX-License-Identifier: Apache-2.0
#include "tests/support/ram_device.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>

namespace umbra::test {
namespace {

bool all_zero(const std::byte* from, std::size_t size) {
  return std::all_of(from, from + size, [](std::byte byte) { return byte == std::byte{0}; });
}

}  // namespace

RamDevice::RamDevice(std::uint64_t size_bytes, std::uint32_t block_bytes) : bytes_(size_bytes) {
  geometry_.size_bytes = size_bytes;
  geometry_.block_bytes = block_bytes;
  geometry_.can_discard = true;
}

std::vector<std::byte> RamDevice::bytes(std::uint64_t offset_bytes, std::size_t size_bytes) const {
  const std::lock_guard lock(mutex_);
  const auto from = bytes_.begin() + static_cast<std::ptrdiff_t>(offset_bytes);
  return {from, from + static_cast<std::ptrdiff_t>(size_bytes)};
}

std::byte RamDevice::byte(std::uint64_t offset_bytes) const { return bytes(offset_bytes, 1)[0]; }

void RamDevice::fill(std::byte value, std::uint64_t offset_bytes, std::uint64_t size_bytes) {
  const std::lock_guard lock(mutex_);
  std::memset(bytes_.data() + offset_bytes, std::to_integer<int>(value), size_bytes);
}

void RamDevice::hold() {
  const std::lock_guard lock(mutex_);
  holding_ = true;
}

void RamDevice::release(bool newest_first) {
  std::vector<block::Request*> go;
  {
    const std::lock_guard lock(mutex_);
    go.swap(held_);
  }
  if (newest_first) std::reverse(go.begin(), go.end());
  for (auto* request : go) finish(*request);
}

void RamDevice::let_go() {
  {
    const std::lock_guard lock(mutex_);
    holding_ = false;
  }
  release();
}

bool RamDevice::wait_for_held(std::size_t count) {
  std::unique_lock lock(mutex_);
  return held_changed_.wait_for(lock, std::chrono::seconds(10),
                                [&] { return held_.size() >= count; });
}

void RamDevice::fail_next(block::Op op, int error) {
  const std::lock_guard lock(mutex_);
  failures_[op] = error;
}

std::size_t RamDevice::count(block::Op op) const {
  const std::lock_guard lock(mutex_);
  const auto found = counts_.find(op);
  return found == counts_.end() ? 0 : found->second;
}

std::size_t RamDevice::fua_count() const {
  const std::lock_guard lock(mutex_);
  return fua_count_;
}

void RamDevice::submit(block::Request& first) noexcept {
  for (block::Request* request = &first; request != nullptr;) {
    block::Request* next = request->next;
    bool held = false;
    {
      const std::lock_guard lock(mutex_);
      held = holding_;
      if (held) held_.push_back(request);
      held_changed_.notify_all();
    }
    if (!held) finish(*request);
    request = next;
  }
}

void RamDevice::finish(block::Request& request) {
  {
    const std::lock_guard lock(mutex_);
    ++counts_[request.op];
    fua_count_ += request.fua ? 1 : 0;
    request.error = perform(request);
  }
  request.complete(request);
}

int RamDevice::perform(block::Request& request) {
  if (const auto found = failures_.find(request.op); found != failures_.end()) {
    const int error = found->second;
    failures_.erase(found);
    return error;
  }
  if (request.op == block::Op::flush) return 0;
  if (request.op != block::Op::read && geometry_.read_only) return EROFS;
  if (request.size_bytes > geometry_.request_bytes_max) return EINVAL;
  if (request.offset_bytes % geometry_.block_bytes != 0 ||
      request.size_bytes % geometry_.block_bytes != 0) {
    return EINVAL;
  }
  if (request.offset_bytes > bytes_.size() ||
      request.size_bytes > bytes_.size() - request.offset_bytes) {
    return ENOSPC;
  }
  std::byte* at = bytes_.data() + request.offset_bytes;
  switch (request.op) {
    case block::Op::read: std::memcpy(request.buffer, at, request.size_bytes); break;
    case block::Op::write: std::memcpy(at, request.buffer, request.size_bytes); break;
    case block::Op::write_zeroes:
    case block::Op::discard: std::memset(at, 0, request.size_bytes); break;
    case block::Op::share: return EOPNOTSUPP;
    case block::Op::flush: break;
  }
  return 0;
}

std::size_t RamDevice::extents(std::uint64_t offset_bytes, std::uint64_t size_bytes,
                               std::span<block::Extent> out) const noexcept {
  const std::lock_guard lock(mutex_);
  std::size_t count = 0;
  const std::uint32_t block = geometry_.block_bytes;
  for (std::uint64_t at = offset_bytes; at < offset_bytes + size_bytes; at += block) {
    const bool zero = all_zero(bytes_.data() + at, block);
    if (count > 0 && out[count - 1].zero == zero) {
      out[count - 1].size_bytes += block;
    } else if (count == out.size()) {
      break;
    } else {
      out[count++] = block::Extent{block, zero, zero};
    }
  }
  return count;
}

}  // namespace umbra::test
