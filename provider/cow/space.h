// SPDX-License-Identifier: Apache-2.0
//
// What a volume remembers about the space of its diff area. Private to provider/cow; space.cc and
// reclaim.cc say how it is used. Guarded by the volume's mutex_ where nothing else is said.

#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <set>
#include <vector>

#include "provider/cow/chunk_map.h"
#include "provider/cow/events.h"
#include "provider/cow/space_plan.h"

namespace umbra::cow {

/// A write waits this long for space that is on its way (growth, eviction), looked at between two
/// steps of it; then the snapshots that need the copy are lost. A step that hangs in the host's
/// file system is not cut short: no write to the diff area would get through either.
inline constexpr Duration kSpaceWaitMax = std::chrono::seconds(30);
/// How often a volume in trouble looks whether that is over.
inline constexpr Duration kTickInterval = std::chrono::seconds(1);
inline constexpr std::size_t kEventsMax = 1024;  // Waiting to be told; more are counted only.

struct SpaceState {
  // Filling up.
  WriteRate rate;
  Thresholds thresholds;
  std::uint64_t initial_segments = 0;      // Not given back to the host.
  std::uint64_t ahead_bytes = 0;           // That should be ready, as of the last look.
  std::optional<TimePoint> starved_since;  // Since when some copy has waited for space.
  std::optional<std::uint64_t>
      host_limit;                // To where the host lets the area grow; as of last look.
  Backoff growth;                // After a growth that failed.
  bool fixed_size = false;       // A block device.
  bool evicting = false;         // A job is posted or runs.
  bool eviction_failed = false;  // By an I/O error: not tried until something works.
  bool full = false;             // Told; until there is free space again.

  // Getting free again. Epochs of snapshots that went, whose records were not looked at yet.
  std::set<std::uint64_t> unpruned;
  bool pruning = false;      // Some are being looked at.
  bool reclaiming = false;   // A job is posted or runs.
  bool punch_waits = false;  // For the end of a hold.
  bool no_punching = false;  // It failed, or cannot be done.
  bool stopping = false;     // close() has begun: nothing new in the background.

  // Being told.
  std::deque<Event> events;
  std::uint64_t events_dropped = 0;
  bool suspect = false;  // An I/O to the diff area failed: look whether it is there.
  bool gone = false;     // It was not.
  bool telling = false;  // A job is posted or runs.
  bool ticking = false;  // A timer is set.
};

/// The range that reclaim_step() is working on. Guarded by reclaim_mutex_.
struct PruneWork {
  ChunkMap::PruneCursor at;
  std::uint64_t end = 0;
  std::uint64_t newest = 0;
};

}  // namespace umbra::cow
