// SPDX-License-Identifier: Apache-2.0
//
// What open() knows while it recovers. Private to recovery*.cc.

#pragma once

#include <array>
#include <set>
#include <span>
#include <vector>

#include "provider/cow/core.h"

namespace umbra::cow {

inline constexpr std::uint64_t kRecoveryReadBytes = 256U << 10U;

/// Reads all of `out`. `what`: for the error, io_error. Blocks.
[[nodiscard]] Status read_at(block::Device& device, std::uint64_t offset_bytes,
                             std::span<std::byte> out, const char* what);

struct Volume::Impl::Scan {
  struct Gap {
    std::uint32_t segment = 0;
    std::uint32_t unit = 0;
    std::uint32_t units = 0;
    std::uint64_t generation = 0;
    std::uint64_t sequence = 0;   // Of the first group missing here, as far as known.
    std::uint64_t epoch_max = 0;  // Of records that may have been here.
    bool dropped = false;         // By us: never published.
  };
  struct Found {
    format::Group group;
    bool mend = false;  // It is not in both places, or nobody knows.
  };
  std::vector<Found> groups;
  std::vector<Gap> gaps;
  std::vector<format::SnapshotSlot> slots_to_mend;  // Free ones; others are written with theirs.
  std::set<std::uint64_t> epochs_to_mend;           // Of snapshots whose two slots differ.
  std::uint64_t trusted = 0;
  std::uint64_t sequence_max = 0;
  std::uint64_t epoch_max = 0;
  std::uint64_t lost_up_to_epoch = 0;  // Snapshots up to here may have lost records.
  bool same_boot = false;
};

}  // namespace umbra::cow
