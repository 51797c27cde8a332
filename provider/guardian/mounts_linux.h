// SPDX-License-Identifier: Apache-2.0
//
// Which file systems are mounted from a block device: directly, from its partitions, or from what
// is stacked on it (LUKS, LVM), in this mount namespace or, failing that, in another one. Freezing
// acts on the file system, not on a mount, so one mount of each is enough.
//
// Opening the root of a mount whose volume is not served may hang: only holder processes call this.

#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/platform/unique_fd.h"
#include "umbra/result.h"

namespace umbra::guardian {

struct Mount {
  std::uint64_t device = 0;  // Of the file system (st_dev).
  std::string path;
  std::uint32_t group = 0;  // How many contract::kFreezeBarrier stood before its device.
  UniqueFd fd{};            // Its root directory, read-only, close-on-exec.
};

enum class Depth : std::uint8_t {
  exact,    // What is mounted from the device itself.
  stacked,  // And from what stacked_on() finds.
};

/// One open mount per file system on `devices` (st_rdev numbers), in their order. A device without
/// a mount adds nothing; so does a mount that goes away meanwhile. Errors: freeze_failed (a mount
/// cannot be opened or is hidden by another one; names it); limit_reached.
[[nodiscard]] Result<std::vector<Mount>> open_mounts(const std::vector<std::uint64_t>& devices,
                                                     Depth depth);

/// The device and everything above it: partitions and holders, from /sys/dev/block.
[[nodiscard]] std::vector<std::uint64_t> stacked_on(std::uint64_t device);

}  // namespace umbra::guardian
