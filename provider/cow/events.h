// SPDX-License-Identifier: Apache-2.0
//
// What a volume tells about itself: its diff area fills up, snapshots go, storage fails.
//
// An event is told once, in the order in which things happened, from the volume's executor: outside
// every lock of the store, and never between hold() and release(), when nothing of ours may write
// to what the volumes lie on. What happens meanwhile is told after the release.

#pragma once

#include <cstdint>
#include <string>

#include "umbra/ids.h"

namespace umbra::cow {

/// VSS_PROTECTION_FAULT: numbers that are kept on disk and never change.
enum class Fault : std::uint32_t {
  none = 0,
  diff_area_missing = 1,
  io_failure_during_online = 2,
  meta_data_corruption = 3,
  memory_allocation_failure = 4,
  mapped_memory_failure = 5,
  cow_read_failure = 6,   // Old data could not be read from the origin.
  cow_write_failure = 7,  // Or not be written to the diff area.
  diff_area_full = 8,     // The maximum is reached.
  grow_too_slow = 9,      // Space came later than the writes that wanted it.
  grow_failed = 10,       // The host has no room.
  destroy_all_snapshots = 11,
  file_system_failure = 12,
  io_failure = 13,  // The diff area could not be flushed.
  diff_area_removed = 14,
  external_writer_to_diff_area = 15,
  mount_during_cluster_offline = 16,
};
inline constexpr std::uint32_t kFaultMax = 16;
/// "VSS_PROTECTION_FAULT_DIFF_AREA_FULL". Static storage.
[[nodiscard]] const char* name_of(Fault fault) noexcept;

/// Why a snapshot was deleted.
enum class Removal : std::uint8_t {
  requested,      // By an administrator or a requester.
  session_ended,  // Auto-release: its session is over.
  set_failed,     // Its set was never made, or aborted.
  evicted,        // The diff area was full, and it was the oldest.
  shrunk,         // The maximum was lowered below what was in use.
  recovery,       // At open: unfinished, or auto-release and of another boot.
  reverted,       // Newer than a point in time that the volume was taken back to.
};
/// "evicted". Static storage.
[[nodiscard]] const char* name_of(Removal removal) noexcept;

/// Who had a snapshot deleted, for the audit.
struct RemovalCause {
  Removal reason = Removal::requested;
  std::string who;  // For people: "uid 0, umbra delete shadows"; empty: not known.
};

/// What of spec and event log corresponds: volsnap 33 evicted, 25/35/36 lost, 24 grow_failed,
/// 83/84 fault, 39/40 diff_area_gone.
enum class EventKind : std::uint8_t {
  snapshot_deleted,   // `removal`, `who`.
  snapshot_lost,      // `text` says why.
  threshold_crossed,  // Upwards; `percent` is the threshold.
  threshold_left,     // Downwards, with some distance; `percent` is the threshold.
  overflow,           // Full: neither growth nor free space; oldest snapshots go from here on.
  grown,              // `limit_bytes`: the diff area's size now.
  grow_failed,        // `text` says why; it is tried again.
  writes_held,        // A loss cannot be recorded anywhere; see Statistics::writes_held.
  writes_released,
  protection_fault,    // Live I/O fails until the fault is cleared; `fault`.
  protection_cleared,  //
  diff_area_gone,      // It answers no reads any more.
  diff_area_back,
  damage_found,  // By open() or scrub; `text` says how much, and of which snapshots.
};
/// "snapshot_deleted". Static storage.
[[nodiscard]] const char* name_of(EventKind kind) noexcept;

struct Event {
  EventKind kind = EventKind::snapshot_deleted;
  VolumeId volume;
  SnapshotId snapshot;  // Nil if it is about none.
  SnapshotSetId set;    // The snapshot's.
  Removal removal = Removal::requested;
  std::string who;
  std::uint32_t percent = 0;
  Fault fault = Fault::none;
  std::uint64_t used_bytes = 0;      // Of the diff area, at that time.
  std::uint64_t limit_bytes = 0;     // 0: none is known.
  std::int64_t time_filetime = 0;    // When it happened.
  std::uint64_t events_dropped = 0;  // Before this one: nobody took them in time.
  std::string text;                  // For people.
};

/// Threads: called from the executors of volumes, one call at a time per volume; may block shortly,
/// must not call the volume's control functions. Outlives the volumes.
class EventSink {
 public:
  virtual ~EventSink() = default;
  virtual void on_event(const Event& event) noexcept = 0;
};

}  // namespace umbra::cow
