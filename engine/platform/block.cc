// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "engine/platform/block.h"

#include <cerrno>
#include <condition_variable>
#include <mutex>

namespace umbra::block {
namespace {

struct Waiter {
  std::mutex mutex;
  std::condition_variable done_changed;
  std::size_t left = 1;
};

void wake(Request& request) noexcept {
  auto& waiter = *static_cast<Waiter*>(request.owner);
  // Notified under the lock: the waiter may be gone the moment it is released.
  const std::lock_guard lock(waiter.mutex);
  if (--waiter.left == 0) waiter.done_changed.notify_one();
}

}  // namespace

std::size_t Device::extents(std::uint64_t /*offset_bytes*/, std::uint64_t size_bytes,
                            std::span<Extent> out) const noexcept {
  out[0] = Extent{size_bytes, false, false};
  return 1;
}

Result<std::uint32_t> Device::share_unit(Device& /*source*/) {
  return fail(Errc::not_supported,
              "this device cannot share blocks with another: only files on XFS or btrfs can");
}

std::uint64_t Device::shared_bytes(std::uint64_t /*offset_bytes*/,
                                   std::uint64_t /*size_bytes*/) const noexcept {
  return 0;
}

Status ResizableDevice::allocate(std::uint64_t /*offset_bytes*/, std::uint64_t /*size_bytes*/) {
  return {};
}

int check(const Geometry& geometry, const Request& request) noexcept {
  if (request.op == Op::flush) return 0;
  const bool reads = request.op == Op::read;
  if (!reads && geometry.read_only) return EROFS;
  const std::uint64_t mask = geometry.block_bytes - 1;
  if (((request.offset_bytes | request.size_bytes) & mask) != 0) return EINVAL;
  if (request.op == Op::share && request.source == nullptr) return EINVAL;
  if (request.size_bytes > geometry.size_bytes ||
      request.offset_bytes > geometry.size_bytes - request.size_bytes) {
    return reads ? EINVAL : ENOSPC;
  }
  if (reads || request.op == Op::write) {
    if (request.size_bytes > geometry.request_bytes_max) return EINVAL;
    if (reinterpret_cast<std::uintptr_t>(request.buffer) % geometry.alignment_bytes != 0) {
      return EINVAL;
    }
  }
  return 0;
}

int run(Device& device, Request& request) noexcept {
  run_all(device, {&request, 1});
  return request.error;
}

void run_all(Device& device, std::span<Request> requests) noexcept {
  if (requests.empty()) return;
  Waiter waiter;
  waiter.left = requests.size();
  for (std::size_t i = 0; i < requests.size(); ++i) {
    requests[i].complete = wake;
    requests[i].owner = &waiter;
    requests[i].next = i + 1 < requests.size() ? &requests[i + 1] : nullptr;
    requests[i].error = 0;
  }
  device.submit(requests.front());
  std::unique_lock lock(waiter.mutex);
  waiter.done_changed.wait(lock, [&] { return waiter.left == 0; });
}

}  // namespace umbra::block
