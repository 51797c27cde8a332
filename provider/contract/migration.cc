// SPDX-License-Identifier: Apache-2.0
//
// MigrateDiffAreas: the diff area of a volume goes elsewhere, with its copies, under its users. The
// volume's turn is not taken: it takes long, copies are made and deleted meanwhile.
#include "provider/contract/management.h"

namespace umbra::contract {

Status SystemProvider::Management::migrate_diff_areas(const DiffAreaRef& area,
                                                      const std::string& new_diff_volume,
                                                      OperationMonitor& monitor) {
  return move_diff_area({area, new_diff_volume, 0}, monitor);
}

Status SystemProvider::Management::move_diff_area(const DiffAreaMove& move,
                                                  OperationMonitor& monitor) {
  const auto entry = find(move.area);
  if (!entry) return fail(entry.error());
  if (provider_.options_.diff_areas == nullptr) {
    return fail(Errc::not_implemented, "diff areas cannot be moved here");
  }
  const std::string name = "volume '" + (*entry)->description.name + "'";
  monitor.fact("volume_id", (*entry)->id.to_string());
  monitor.say("copying the diff area");
  const auto moved = provider_.options_.diff_areas->move(
      (*entry)->id, move.new_diff_volume, move.bytes_per_second,
      [&](std::uint64_t done, std::uint64_t total) { return monitor.progress(done, total); });
  if (!moved) return fail(moved.error(), name);
  {
    const std::lock_guard lock(provider_.mutex_);
    VolumeDescription& description = (*entry)->description;
    description.diff_area_path = moved->diff_area_path;
    description.host_devices = moved->host_devices;
  }
  monitor.fact("diff_area_path", moved->diff_area_path);
  if (moved->bytes_damaged != 0) {
    monitor.fact("bytes_damaged", std::to_string(moved->bytes_damaged));
  }
  if (!moved->kept.empty()) monitor.fact("kept", moved->kept);
  monitor.say("moved to " + printable(moved->diff_area_path));
  ProviderEvent told;
  told.name = "diff_area_moved";
  told.text = "to " + printable(moved->diff_area_path);
  provider_.tell(**entry, std::move(told));
  return {};
}

}  // namespace umbra::contract
