// SPDX-License-Identifier: Apache-2.0
//
// A CowWorld with large chunks, so that few writes fill a segment, whose events are kept.
#pragma once

#include <list>

#include "tests/support/cow_events.h"
#include "tests/support/cow_world.h"
#include "tests/support/seed.h"

namespace umbra::test {

inline constexpr std::uint64_t kSpaceChunk = 256U << 10U;
inline constexpr std::uint64_t kSpaceSegmentChunks = 16;

inline CowWorldOptions big_chunks(std::uint64_t segments, std::uint64_t segments_max,
                                  std::uint64_t chunks = 96) {
  CowWorldOptions options;
  options.chunk_bytes = kSpaceChunk;
  options.origin_bytes = chunks * kSpaceChunk;
  options.segments = segments;
  options.segments_max = segments_max;
  return options;
}

struct SpaceWorld : CowWorld {
  explicit SpaceWorld(const CowWorldOptions& options_) : CowWorld(seed(), options_) {
    events = &told;
    clock.advance(std::chrono::hours(1));
  }
  ~SpaceWorld() {
    machine.cut_power();
    volume.reset();  // It tells what is left to tell.
  }

  // Writes that wait for space need the executor, which is the machine.
  struct Write {
    block::Request request;
    Image bytes;
    bool completed = false;
  };
  Write& submit(std::uint64_t chunk) {
    Write& write = writes.emplace_back();
    write.bytes.resize(kSector);
    stamp(write.bytes, chunk * kSpaceChunk, ++sequence);
    write.request.op = block::Op::write;
    write.request.offset_bytes = chunk * kSpaceChunk;
    write.request.size_bytes = kSector;
    write.request.buffer = write.bytes.data();
    write.request.owner = &write;
    write.request.complete = [](block::Request& done) noexcept {
      static_cast<Write*>(done.owner)->completed = true;
    };
    volume->live().submit(write.request);
    return write;
  }
  /// 0 or errno; -1: it is held.
  int overwrite_one(std::uint64_t chunk) {
    const Write& write = submit(chunk);
    machine.run_until_idle();
    if (!write.completed) return -1;
    if (write.request.error == 0) {
      std::copy(write.bytes.begin(), write.bytes.end(),
                twin.begin() + static_cast<std::ptrdiff_t>(chunk * kSpaceChunk));
    }
    return write.request.error;
  }
  /// Overwrites chunks [first, end); each write has to succeed.
  void overwrite(std::uint64_t first, std::uint64_t end) {
    for (std::uint64_t chunk = first; chunk < end; ++chunk) REQUIRE(overwrite_one(chunk) == 0);
  }
  [[nodiscard]] bool has(const SnapshotId& id) const {
    for (const auto& record : volume->list()) {
      if (record.id == id) return true;
    }
    return false;
  }
  void reopen_after_power_cut() {
    (void)run(block::Op::flush);
    machine.cut_power();
    volume.reset();
    machine.power_on();
    boot_id = Guid::random();
    open();
  }

  RecordedEvents told;
  std::list<Write> writes;
};

}  // namespace umbra::test
