// SPDX-License-Identifier: Apache-2.0
//
// What a volume is made of in memory: chunks on their way into the diff area, and snapshots.
// Private to provider/cow; core.h says who guards what.

#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <utility>

#include "provider/cow/exempt.h"
#include "provider/cow/overlay.h"
#include "provider/cow/request_queue.h"
#include "provider/cow/sync.h"
#include "provider/format/diff_area.h"

namespace umbra::cow {

inline constexpr std::size_t kCopiesMax = 1024;     // Chunks being copied or waiting for it.
inline constexpr std::uint64_t kSegmentsAhead = 4;  // Fewer ready ones: grow.
inline constexpr std::size_t kShards = sync::kShards;

/// One chunk on its way into the diff area.
struct Copy {
  std::uint64_t chunk = 0;
  std::uint64_t removals = 0;  // When it was claimed.
  RequestQueue waiters;
  Copy* hash_next = nullptr;
  Copy* queue_next = nullptr;
};

/// Behind the run of consecutive chunks that begins at `first`; `chunks` ascend.
[[nodiscard]] inline std::uint32_t end_of_run(std::span<const std::uint64_t> chunks,
                                              std::uint32_t first) noexcept {
  std::uint32_t end = first + 1;
  while (end < chunks.size() && chunks[end] == chunks[end - 1] + 1) ++end;
  return end;
}

struct CopyQueue {
  Copy* head = nullptr;
  Copy* tail = nullptr;
  void push(Copy& copy) noexcept {
    copy.queue_next = nullptr;
    (tail != nullptr ? tail->queue_next : head) = &copy;
    tail = &copy;
  }
  [[nodiscard]] Copy* pop() noexcept {
    Copy* first = head;
    if (first != nullptr && (head = first->queue_next) == nullptr) tail = nullptr;
    return first;
  }
};

/// A snapshot in memory. Shared by the volume's list and by open devices.
struct Snapshot {
  enum class Readable : std::uint8_t { yes, lost, removed };

  format::SnapshotSlot slot;  // Guarded by mutex_; members only change with table_mutex_ as well.
  sync::Atomic<Readable> readable = Readable::yes;
  sync::Atomic<std::uint32_t> open_devices = 0;
  std::uint64_t epoch = 0;  // Constant.

  /// What was written to it; null: nothing ever was. Threads: any.
  [[nodiscard]] Overlay* overlay() const noexcept { return overlay_.load(); }
  /// Once.
  void give_overlay(std::unique_ptr<Overlay> overlay) noexcept {
    owned_overlay_ = std::move(overlay);
    overlay_.store(owned_overlay_.get());
  }

  /// Null: every chunk is kept for it. Threads: any.
  [[nodiscard]] const Exemption* exemption() const noexcept { return exemption_.load(); }
  /// Once.
  void give_exemption(std::unique_ptr<const Exemption> exemption) noexcept {
    owned_exemption_ = std::move(exemption);
    exemption_.store(owned_exemption_.get());
  }
  /// The chunk was free: it reads as zeroes, but for what was written to the snapshot itself.
  [[nodiscard]] bool shows_nothing_of(std::uint64_t chunk) const noexcept {
    const Exemption* const known = exemption();
    return known != nullptr && known->free.contains(chunk);
  }

 private:
  std::unique_ptr<Overlay> owned_overlay_;
  sync::Atomic<Overlay*> overlay_ = nullptr;
  std::unique_ptr<const Exemption> owned_exemption_;
  sync::Atomic<const Exemption*> exemption_ = nullptr;
};

}  // namespace umbra::cow
