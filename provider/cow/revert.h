// SPDX-License-Identifier: Apache-2.0
//
// What is known of a revert while it is under way. Private to provider/cow; revert.cc says how it
// works.

#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "provider/cow/core.h"

namespace umbra::cow {

struct Volume::Impl::Revert {
  explicit Revert(std::uint64_t chunk_count)
      : stale((chunk_count + 63) / 64), guarded((chunk_count + 63) / 64) {}

  [[nodiscard]] static bool test(const Bits& bits, std::uint64_t chunk) noexcept {
    return (bits[chunk / 64].load(std::memory_order_acquire) >> (chunk % 64) & 1U) != 0;
  }
  static void set(Bits& bits, std::uint64_t chunk) noexcept {
    bits[chunk / 64].fetch_or(std::uint64_t{1} << (chunk % 64));
  }
  static void clear(Bits& bits, std::uint64_t chunk) noexcept {
    bits[chunk / 64].fetch_and(~(std::uint64_t{1} << (chunk % 64)));
  }

  std::string who = "umbra-cowd, going on with a revert";  // For the audit; constant.
  std::shared_ptr<Snapshot> target;
  std::shared_ptr<block::Device> source;  // What the target shows.
  std::uint64_t epoch = 0;                // Records of this and later epochs are of live writes.

  // A chunk is stale until the origin holds what the target shows, and guarded until that, or that
  // it is not to be reverted again, is durable.
  Bits stale;                      // Reads come from the target.
  Bits guarded;                    // Writes wait.
  std::uint64_t chunks_total = 0;  // mutex_
  std::uint64_t chunks_done = 0;   // mutex_

  RequestQueue waiters;        // mutex_
  std::vector<Home> marks;     // mutex_
  bool marks_refused = false;  // mutex_; no room to remember single chunks: writes wait longer
  bool posted = false;         // mutex_
  bool stopped = false;        // mutex_; it goes on when the volume is opened again
  std::string trouble;         // mutex_

  // Of the job: one step at a time.
  enum class Step : std::uint8_t { choose, written };
  Step step = Step::choose;           // mutex_
  std::uint64_t cursor = 0;           // Everything below is on the origin.
  std::uint64_t committed = 0;        // The durable cursor.
  std::uint64_t uncommitted = 0;      // Chunks that were reverted between the two.
  bool cleared = false;               // Newer snapshots were deleted.
  bool urgent = false;                // This step is for writes that wait.
  std::vector<std::uint64_t> chunks;  // Of this step.
  AlignedBuffer buffer;
  std::array<block::Request, kBatchChunksMax> writes;
  sync::Atomic<std::uint32_t> outstanding = 0;
  sync::Atomic<int> error = 0;
  Impl* impl = nullptr;
};

}  // namespace umbra::cow
