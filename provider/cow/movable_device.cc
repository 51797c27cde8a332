// SPDX-License-Identifier: Apache-2.0
#include "provider/cow/movable_device.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <utility>

#include "engine/platform/assert.h"

namespace umbra::cow {
namespace {

// Threads are spread over the counters in the order in which they come.
[[nodiscard]] std::uint64_t this_shard() noexcept {
  static std::atomic<std::uint64_t> next = 0;
  thread_local const std::uint64_t shard =
      next.fetch_add(1, std::memory_order_relaxed) % sync::kShards;
  return shard;
}

[[nodiscard]] bool is_read(const block::Request& request) noexcept {
  return request.op == block::Op::read;
}

}  // namespace

MovableDevice::MovableDevice(block::ResizableDevice& device) noexcept
    : devices_{&device, nullptr}, alignment_bytes_(device.geometry().alignment_bytes) {}

MovableDevice::~MovableDevice() { UMBRA_ASSERT(parked_.empty()); }

block::Geometry MovableDevice::geometry() const noexcept {
  return devices_[side_.load()]->geometry();
}

std::size_t MovableDevice::extents(std::uint64_t offset_bytes, std::uint64_t size_bytes,
                                   std::span<block::Extent> out) const noexcept {
  return devices_[side_.load()]->extents(offset_bytes, size_bytes, out);
}

Status MovableDevice::resize(std::uint64_t size_bytes) {
  const Tracked* tracked = tracked_.load();
  if (tracked != nullptr && size_bytes > tracked->bytes) {
    return fail(Errc::insufficient_storage,
                "the diff area is being moved and cannot become as large as that meanwhile");
  }
  return current().resize(size_bytes);
}

Status MovableDevice::allocate(std::uint64_t offset_bytes, std::uint64_t size_bytes) {
  return current().allocate(offset_bytes, size_bytes);
}

void MovableDevice::submit(block::Request& first) noexcept {
  const std::uint64_t shard = this_shard();
  std::array<RequestQueue, 2> forward;
  for (block::Request* request = &first; request != nullptr;) {
    block::Request* const next = std::exchange(request->next, nullptr);
    if (const auto side = enter(*request, shard)) {
      if (!is_read(*request)) mark(*request);
      request->passed = {request->complete, request->owner, std::uint64_t{*side} << 32U | shard};
      request->complete = completed;
      request->owner = this;
      forward[*side].push(*request);
    }
    request = next;
  }
  for (std::size_t side = 0; side < forward.size(); ++side) {
    if (block::Request* chain = forward[side].take()) devices_[side]->submit(*chain);
  }
}

// Counted before the side and the waiting are looked at: either park() and left() see the count and
// wait, or we see what they have set (both sides sequentially consistent).
std::optional<std::uint32_t> MovableDevice::enter(block::Request& request,
                                                  std::uint64_t shard) noexcept {
  for (;;) {
    const std::uint32_t side = side_.load();
    Counter& mine = counter(request, std::uint64_t{side} << 32U | shard);
    mine.value.fetch_add(1);
    const bool waits = !is_read(request) && parking_.load();
    if (!waits && side_.load() == side) return side;
    leave(mine);
    if (!waits) continue;
    const std::lock_guard lock(mutex_);
    if (!parking_.load()) continue;
    parked_.push(request);
    return std::nullopt;
  }
}

void MovableDevice::completed(block::Request& request) noexcept {
  auto& self = *static_cast<MovableDevice*>(request.owner);
  if (!is_read(request)) self.mark(request);
  request.complete = request.passed.complete;
  request.owner = request.passed.owner;
  self.leave(self.counter(request, request.passed.word));
  request.complete(request);
}

MovableDevice::Counter& MovableDevice::counter(const block::Request& request,
                                               std::uint64_t word) noexcept {
  return in_flight_[word >> 32U][is_read(request) ? 0 : 1][word & 0xFFFFFFFFU];
}

void MovableDevice::leave(Counter& counter) noexcept {
  counter.value.fetch_sub(1);
  if (!watched_.load()) return;
  const std::lock_guard lock(mutex_);
  ended_.notify_all();
}

bool MovableDevice::nothing_in(const Counters& counters) noexcept {
  return std::all_of(counters.begin(), counters.end(),
                     [](const Counter& counter) { return counter.value.load() == 0; });
}

bool MovableDevice::park(Duration limit) noexcept {
  {
    std::unique_lock lock(mutex_);
    UMBRA_ASSERT(!parking_.load());
    parking_.store(true);
    watched_.store(true);
    const Counters& others = in_flight_[side_.load()][1];
    const bool quiet = ended_.wait_for(lock, limit, [&others] { return nothing_in(others); });
    watched_.store(false);
    if (quiet) return true;
  }
  unpark();
  return false;
}

void MovableDevice::unpark() noexcept {
  RequestQueue waiting;
  {
    const std::lock_guard lock(mutex_);
    parking_.store(false);
    waiting.append(parked_);
  }
  if (block::Request* chain = waiting.take()) submit(*chain);
}

void MovableDevice::start_tracking(std::uint64_t size_bytes_max) {
  UMBRA_ASSERT(parking_.load() && !tracking());
  last_tracked_ = std::make_unique<Tracked>(size_bytes_max);
  tracked_.store(last_tracked_.get());
}

void MovableDevice::mark(const block::Request& request) noexcept {
  if (request.op != block::Op::flush) mark(request.offset_bytes, request.size_bytes);
}

void MovableDevice::mark(std::uint64_t offset_bytes, std::uint64_t size_bytes) noexcept {
  Tracked* tracked = tracked_.load();
  if (tracked == nullptr || size_bytes == 0 || offset_bytes >= tracked->bytes) return;
  const std::uint64_t last = std::min(offset_bytes + size_bytes, tracked->bytes) - 1;
  for (std::uint64_t part = offset_bytes / kPartBytes; part <= last / kPartBytes; ++part) {
    tracked->words[part / 64].fetch_or(std::uint64_t{1} << (part % 64));
  }
}

std::optional<MovableDevice::Run> MovableDevice::take_marked(std::uint64_t part,
                                                             std::uint64_t parts_max) noexcept {
  Tracked& tracked = *tracked_.load();
  const auto is_marked = [&tracked](std::uint64_t at) {
    return (tracked.words[at / 64].load() >> (at % 64) & 1U) != 0;
  };
  const std::uint64_t end = tracked.words.size() * 64;
  while (part < end && !is_marked(part)) {
    part = tracked.words[part / 64].load() == 0 ? (part / 64 + 1) * 64 : part + 1;
  }
  if (part >= end) return std::nullopt;
  Run run{part, 0};
  for (; run.count < parts_max && part < end && is_marked(part); ++part, ++run.count) {
    tracked.words[part / 64].fetch_and(~(std::uint64_t{1} << (part % 64)));
  }
  return run;
}

std::uint64_t MovableDevice::marked_bytes() const noexcept {
  std::uint64_t parts = 0;
  for (const auto& word : tracked_.load()->words) {
    parts += static_cast<std::uint64_t>(std::popcount(word.load()));
  }
  return parts * kPartBytes;
}

void MovableDevice::replace(block::ResizableDevice& device) noexcept {
  UMBRA_ASSERT(parking_.load());
  const std::uint32_t other = side_.load() ^ 1U;
  devices_[other] = &device;
  alignment_bytes_.store(device.geometry().alignment_bytes);
  side_.store(other);
}

bool MovableDevice::left(Duration limit) noexcept {
  std::unique_lock lock(mutex_);
  watched_.store(true);
  const auto& before = in_flight_[side_.load() ^ 1U];
  const bool quiet = ended_.wait_for(
      lock, limit, [&before] { return nothing_in(before[0]) && nothing_in(before[1]); });
  watched_.store(false);
  return quiet;
}

}  // namespace umbra::cow
