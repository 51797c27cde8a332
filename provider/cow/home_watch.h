// SPDX-License-Identifier: Apache-2.0
//
// Tells somebody outside of the volume where each chunk of one snapshot is, and every change of it
// in time, so that he can read the snapshot by himself (provider/frontend/shm).
//
// What can be relied on:
//   1. A chunk that was never told is where the origin has it. It is told before the first write to
//      it goes to the origin: whoever has read it there and finds it untold afterwards has read
//      what the snapshot shows.
//   2. A chunk is told once with its place, which stays, and perhaps a second time when its
//      checksums were taken.
//   3. end() comes before anything is written that would make 1 or 2 wrong: before the space of a
//      chunk is used for something else, before a write goes to the origin that the snapshot was
//      not spared, before the diff area is on another device.

#pragma once

#include <atomic>
#include <cstdint>
#include <span>

namespace umbra::cow {

/// Where a chunk is that the origin does not hold any more.
struct ChunkPlace {
  bool zeroes = false;             // Nowhere: it reads as zeroes. Nothing else counts then.
  std::uint64_t offset_bytes = 0;  // In the diff area.
  /// CRC-32C of each 4 KiB of it; empty: they were not taken yet. Valid during the call.
  std::span<const std::atomic<std::uint32_t>> checksums;
};

/// Threads: any, several at once. Called with locks of the volume held: it must neither block nor
/// call back.
class HomeSink {
 public:
  virtual ~HomeSink() = default;
  /// More than once with the same place: when it is told at first and at that moment preserved.
  virtual void place(std::uint64_t chunk, const ChunkPlace& where) noexcept = 0;
  /// What was told is not to be relied on any more, nor is the origin. Nothing follows but what was
  /// under way, and another end().
  virtual void end() noexcept = 0;
};

/// As long as it lives the snapshot counts as open, and `HomeSink` is told. Its end calls
/// HomeSink::end(), after which the sink is not called any more.
class HomeWatch {
 public:
  virtual ~HomeWatch() = default;
};

/// What a sink needs to know beforehand.
struct HomeLayout {
  std::uint64_t volume_bytes = 0;
  std::uint64_t chunk_count = 0;
  std::uint32_t chunk_bytes = 0;
  std::uint32_t checksums_per_chunk = 0;
};

}  // namespace umbra::cow
