// SPDX-License-Identifier: Apache-2.0
//
// What file systems had free at the point in time goes to the store, which copies nothing of it.
//
// Not before pre_final_commit: writers are thawed by then, and wait for nothing that is written
// here. Not later: nobody has read the copies yet. What is written to free blocks in between is
// copied, to no purpose but without harm.
#include "provider/contract/system_provider_state.h"

#include <utility>

namespace umbra::contract {

Status SystemProvider::exempt_free_blocks(const SetPtr& set) {
  const std::vector<FreeExtent> free = std::exchange(set->free, {});
  if (free.empty()) return {};
  for (const auto& member : set->members) {
    const Turn turn = take_turn({member.entry});
    if (is_aborted(*set)) return fail(Errc::bad_state, "the set was aborted");
    const VolumeDescription& description = member.entry->description;
    if (description.copies_free_blocks || description.device == 0) continue;
    std::vector<cow::ChangedRange> ranges;
    for (const FreeExtent& extent : free) {
      if (extent.device != description.device) continue;
      ranges.push_back({extent.offset_bytes, extent.size_bytes});
    }
    if (ranges.empty()) continue;
    const Status exempt = member.entry->volume->exempt_free(member.request.snapshot_id, ranges);
    if (exempt) continue;
    // After a crash it may turn out to be exempt all the same.
    if (exempt.error().code == Errc::io_error || exempt.error().code == Errc::snapshot_lost) {
      return fail(exempt.error(), "volume '" + description.name + "'");
    }
    log_.warning("free blocks are copied as well",
                 {{"volume", description.name}, {"error", exempt.error().to_string()}});
  }
  return {};
}

}  // namespace umbra::contract
