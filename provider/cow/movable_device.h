// SPDX-License-Identifier: Apache-2.0
//
// A diff area's device that can be replaced by another one while it is in use. Private to
// provider/cow; the store above it need not know.
//
// How a device is replaced:
//   park(), start_tracking(), unpark()    from now on it is known which parts are written
//   what is in use is copied, and again what was written meanwhile, until little is left
//   park()                                no write is in flight, and those that come wait
//   the rest is copied, flushed, made valid
//   replace(), unpark()                   what waited goes to the new device
//
// A part is marked when a write is submitted and again when it has completed: one that is copied
// between the two is copied once more.
//
// Reads never wait. Those that the old device still has when it is replaced end there: what they
// read is the same on both. left() says when the old device may go.
//
// What it costs when nothing is replaced: a counter up and down per request, spread over threads.
//
// Uses Request::passed: what comes here has to be a request of the store's own.
//
// Threads: submit(), resize(), geometry() any; the rest one at a time.

#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "engine/platform/block.h"
#include "engine/platform/clock.h"
#include "provider/cow/request_queue.h"
#include "provider/cow/sync.h"

namespace umbra::cow {

class MovableDevice final : public block::ResizableDevice {
 public:
  /// Of tracking: what was written is known by parts of this size.
  static constexpr std::uint64_t kPartBytes = 64U << 10U;

  /// `device` outlives this, or its replacement by replace() and left().
  explicit MovableDevice(block::ResizableDevice& device) noexcept;
  ~MovableDevice() override;

  [[nodiscard]] block::Geometry geometry() const noexcept override;
  void submit(block::Request& first) noexcept override;
  [[nodiscard]] std::size_t extents(std::uint64_t offset_bytes, std::uint64_t size_bytes,
                                    std::span<block::Extent> out) const noexcept override;
  /// Beyond what is tracked it fails with insufficient_storage.
  [[nodiscard]] Status resize(std::uint64_t size_bytes) override;
  [[nodiscard]] Status allocate(std::uint64_t offset_bytes, std::uint64_t size_bytes) override;

  [[nodiscard]] Result<std::uint32_t> share_unit(block::Device& source) override {
    return current().share_unit(source);
  }
  [[nodiscard]] std::uint64_t shared_bytes(std::uint64_t offset_bytes,
                                           std::uint64_t size_bytes) const noexcept override {
    return devices_[side_.load()]->shared_bytes(offset_bytes, size_bytes);
  }

  /// From now on everything but reads waits, and nothing but reads is in flight. False: it was not
  /// so within `limit`, and nothing waits any more.
  [[nodiscard]] bool park(Duration limit) noexcept;
  void unpark() noexcept;

  /// Requires park(). Nothing is marked yet. Up to this size the device may grow meanwhile.
  void start_tracking(std::uint64_t size_bytes_max);
  void stop_tracking() noexcept { tracked_.store(nullptr); }
  [[nodiscard]] bool tracking() const noexcept { return tracked_.load() != nullptr; }
  void mark(std::uint64_t offset_bytes, std::uint64_t size_bytes) noexcept;
  /// The first run of marked parts from `part` on, of at most `parts_max`; their marks are gone.
  struct Run {
    std::uint64_t first = 0;
    std::uint64_t count = 0;
  };
  [[nodiscard]] std::optional<Run> take_marked(std::uint64_t part,
                                               std::uint64_t parts_max) noexcept;
  [[nodiscard]] std::uint64_t marked_bytes() const noexcept;

  /// Requires park(): `device` takes the place of the one before.
  void replace(block::ResizableDevice& device) noexcept;
  /// Waits until the device before has nothing in flight. False: not within `limit`.
  [[nodiscard]] bool left(Duration limit) noexcept;

  /// The device in use takes it as a buffer.
  [[nodiscard]] bool is_aligned(const std::byte* buffer) const noexcept {
    return reinterpret_cast<std::uintptr_t>(buffer) % alignment_bytes_.load() == 0;
  }
  /// The one in use, for who has to talk past the waiting.
  [[nodiscard]] block::ResizableDevice& current() noexcept { return *devices_[side_.load()]; }

 private:
  struct alignas(64) Counter {
    sync::Atomic<std::int64_t> value = 0;
  };
  struct Tracked {
    explicit Tracked(std::uint64_t size_bytes)
        : bytes(size_bytes), words((size_bytes / kPartBytes + 64) / 64) {}
    std::uint64_t bytes = 0;
    std::vector<sync::Atomic<std::uint64_t>> words;
  };
  using Counters = std::array<Counter, sync::kShards>;

  /// The side that the request is counted on; none: it waits now.
  [[nodiscard]] std::optional<std::uint32_t> enter(block::Request& request,
                                                   std::uint64_t shard) noexcept;
  static void completed(block::Request& request) noexcept;
  [[nodiscard]] Counter& counter(const block::Request& request, std::uint64_t word) noexcept;
  void leave(Counter& counter) noexcept;
  void mark(const block::Request& request) noexcept;
  [[nodiscard]] static bool nothing_in(const Counters& counters) noexcept;

  std::array<block::ResizableDevice*, 2> devices_{};
  sync::Atomic<std::uint32_t> alignment_bytes_;
  sync::Atomic<std::uint32_t> side_ = 0;
  sync::Atomic<bool> parking_ = false;  // Somebody waits, or will have to: look under the lock.
  sync::Atomic<bool> watched_ = false;  // park() or left() waits for a counter.
  sync::Atomic<Tracked*> tracked_ = nullptr;
  std::array<std::array<Counters, 2>, 2> in_flight_;  // By side; reads, others.

  sync::Mutex mutex_;
  sync::ConditionVariable ended_;
  RequestQueue parked_;                    // mutex_
  std::unique_ptr<Tracked> last_tracked_;  // Kept: a late completion may still mark.
};

}  // namespace umbra::cow
