// SPDX-License-Identifier: Apache-2.0
//
// Volumes on volumes: which must be quiet before which. Pure;
// docs/design/0004-volumes-on-volumes.md has the reasons.
//
// A volume lies on another if its origin or its diff area does, by however many layers of the
// system (file systems, partitions, LUKS, LVM, loop devices): whatever it writes, the other must be
// able to write. So dependants are frozen and held before their hosts, and let go after them.

#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "umbra/result.h"

namespace umbra::contract {

struct StackedVolume {
  std::string name;
  std::uint64_t device = 0;  // That serves it; nobody is known to lie on a volume without one.
  /// Devices that its origin and its diff area lie on. May, but need not, name what is below
  /// another volume of the list.
  std::vector<std::uint64_t> host_devices;
};

/// Positions in a list of volumes.
using Positions = std::vector<std::size_t>;

/// `chosen` and all that lie on one of these, directly or not; ascending, each once.
[[nodiscard]] Positions with_dependants(const std::vector<StackedVolume>& volumes,
                                        const Positions& chosen);

/// `chosen` (each once) in layers, dependants first: whoever lies on another one, directly or not,
/// is in an earlier layer, and each is as late as that allows, so that it is held no longer than it
/// must be. A layer keeps the order of `chosen`. Whoever lies between two of the chosen must be
/// chosen too (with_dependants sees to it). Errors: nested_volume_limit (they lie on each other in
/// a circle, which the context names).
[[nodiscard]] Result<std::vector<Positions>> in_layers(const std::vector<StackedVolume>& volumes,
                                                       const Positions& chosen);

}  // namespace umbra::contract
