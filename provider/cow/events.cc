// SPDX-License-Identifier: Apache-2.0
#include "provider/cow/events.h"

namespace umbra::cow {

const char* name_of(Removal removal) noexcept {
  switch (removal) {
    case Removal::requested: return "requested";
    case Removal::session_ended: return "session_ended";
    case Removal::set_failed: return "set_failed";
    case Removal::evicted: return "evicted";
    case Removal::shrunk: return "shrunk";
    case Removal::recovery: return "recovery";
    case Removal::reverted: return "reverted";
  }
  return "unknown";
}

const char* name_of(EventKind kind) noexcept {
  switch (kind) {
    case EventKind::snapshot_deleted: return "snapshot_deleted";
    case EventKind::snapshot_lost: return "snapshot_lost";
    case EventKind::threshold_crossed: return "threshold_crossed";
    case EventKind::threshold_left: return "threshold_left";
    case EventKind::overflow: return "overflow";
    case EventKind::grown: return "grown";
    case EventKind::grow_failed: return "grow_failed";
    case EventKind::writes_held: return "writes_held";
    case EventKind::writes_released: return "writes_released";
    case EventKind::protection_fault: return "protection_fault";
    case EventKind::protection_cleared: return "protection_cleared";
    case EventKind::diff_area_gone: return "diff_area_gone";
    case EventKind::diff_area_back: return "diff_area_back";
    case EventKind::damage_found: return "damage_found";
  }
  return "unknown";
}

const char* name_of(Fault fault) noexcept {
  switch (fault) {
    case Fault::none: return "VSS_PROTECTION_FAULT_NONE";
    case Fault::diff_area_missing: return "VSS_PROTECTION_FAULT_DIFF_AREA_MISSING";
    case Fault::io_failure_during_online: return "VSS_PROTECTION_FAULT_IO_FAILURE_DURING_ONLINE";
    case Fault::meta_data_corruption: return "VSS_PROTECTION_FAULT_META_DATA_CORRUPTION";
    case Fault::memory_allocation_failure: return "VSS_PROTECTION_FAULT_MEMORY_ALLOCATION_FAILURE";
    case Fault::mapped_memory_failure: return "VSS_PROTECTION_FAULT_MAPPED_MEMORY_FAILURE";
    case Fault::cow_read_failure: return "VSS_PROTECTION_FAULT_COW_READ_FAILURE";
    case Fault::cow_write_failure: return "VSS_PROTECTION_FAULT_COW_WRITE_FAILURE";
    case Fault::diff_area_full: return "VSS_PROTECTION_FAULT_DIFF_AREA_FULL";
    case Fault::grow_too_slow: return "VSS_PROTECTION_FAULT_GROW_TOO_SLOW";
    case Fault::grow_failed: return "VSS_PROTECTION_FAULT_GROW_FAILED";
    case Fault::destroy_all_snapshots: return "VSS_PROTECTION_FAULT_DESTROY_ALL_SNAPSHOTS";
    case Fault::file_system_failure: return "VSS_PROTECTION_FAULT_FILE_SYSTEM_FAILURE";
    case Fault::io_failure: return "VSS_PROTECTION_FAULT_IO_FAILURE";
    case Fault::diff_area_removed: return "VSS_PROTECTION_FAULT_DIFF_AREA_REMOVED";
    case Fault::external_writer_to_diff_area:
      return "VSS_PROTECTION_FAULT_EXTERNAL_WRITER_TO_DIFF_AREA";
    case Fault::mount_during_cluster_offline:
      return "VSS_PROTECTION_FAULT_MOUNT_DURING_CLUSTER_OFFLINE";
  }
  return "VSS_PROTECTION_FAULT_UNKNOWN";
}

}  // namespace umbra::cow
