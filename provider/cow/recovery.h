// SPDX-License-Identifier: Apache-2.0
//
// What open() knows while it recovers. Private to recovery*.cc.

#pragma once

#include <algorithm>
#include <set>
#include <span>
#include <vector>

#include "provider/cow/core.h"

namespace umbra::cow {

struct Volume::Impl::Scan : IndexScan {
  std::vector<format::SnapshotSlot> slots_to_write;
  std::set<std::uint64_t> epochs_to_mend;  // Of snapshots whose two slots differ.
  std::uint64_t trusted = 0;
  std::uint64_t sequence_max = 0;
  std::uint64_t epoch_max = 0;
  format::Uses uses;                   // What the index of all segments shows.
  std::uint64_t lost_up_to_epoch = 0;  // Snapshots up to here may have lost records.
  std::size_t damaged_places = 0;      // Why: how many, and the first.
  std::string damage;
  bool same_boot = false;
  std::vector<Guid> unknown_exemptions;  // Snapshots whose blob cannot be read: lost.
  [[nodiscard]] bool exemption_is_unknown(const Guid& snapshot) const {
    return std::find(unknown_exemptions.begin(), unknown_exemptions.end(), snapshot) !=
           unknown_exemptions.end();
  }
  std::vector<std::shared_ptr<Snapshot>> ended;  // Finished ones, that this open deleted.
  std::vector<std::shared_ptr<Snapshot>> lost;   // That were not before.
  bool lost_newly = false;                       // A snapshot was found lost that was not before.
};

}  // namespace umbra::cow
