// SPDX-License-Identifier: Apache-2.0
//
// DeleteUnusedDiffAreas: diff areas whose volume has gone are deleted, with their copies. Only
// those that are known here are found, not every file that once was one. A copy under retention
// lock keeps its diff area; the others go all the same.
#include <algorithm>

#include "provider/contract/management.h"

namespace umbra::contract {

Status SystemProvider::Management::delete_unused_diff_areas(const std::string& diff_volume,
                                                            OperationMonitor& monitor) {
  DiffAreas* const areas = provider_.options_.diff_areas;
  const DiffVolumes* const places = provider_.options_.diff_volumes;
  if (areas == nullptr || places == nullptr) {
    return fail(Errc::not_implemented, "what diff areas lie on is not known here");
  }
  const auto wanted = places->of(diff_volume);
  if (!wanted) return fail(wanted.error());
  auto unused = areas->unused();
  std::erase_if(unused, [&](const DiffAreas::Unused& area) {
    const auto lies_on = places->of(area.diff_area_path);
    return !lies_on || lies_on->properties.diff_volume != wanted->properties.diff_volume;
  });
  Error first;
  std::size_t kept = 0;
  for (std::size_t i = 0; i < unused.size(); ++i) {
    if (!monitor.progress(i, unused.size())) {
      return fail(Errc::async_cancelled, std::to_string(i - kept) + " were deleted before");
    }
    const DiffAreas::Unused& area = unused[i];
    const Status gone = areas->discard_unused(area.volume, asked_by());
    if (gone) {
      monitor.fact("deleted_diff_area", area.diff_area_path);
      continue;
    }
    monitor.fact("kept_diff_area", area.diff_area_path + ": " + gone.error().to_string());
    if (kept++ == 0) first = gone.error();
  }
  if (kept == 0) return {};
  return fail(first.code, std::to_string(kept) + " of " + std::to_string(unused.size()) +
                              " unused diff areas stay; the first: " + first.context);
}

bool SystemProvider::Management::has_unused_area(const Entry& entry) const {
  const DiffAreas* const areas = provider_.options_.diff_areas;
  const DiffVolumes* const places = provider_.options_.diff_volumes;
  const std::uint64_t device = entry.description.device;
  if (areas == nullptr || places == nullptr || device == 0) return false;
  const auto unused = areas->unused();
  return std::any_of(unused.begin(), unused.end(), [&](const DiffAreas::Unused& area) {
    const auto lies_on = places->of(area.diff_area_path);
    if (!lies_on) return false;
    const auto& below = lies_on->stands_on;
    return std::find(below.begin(), below.end(), device) != below.end();
  });
}

}  // namespace umbra::contract
