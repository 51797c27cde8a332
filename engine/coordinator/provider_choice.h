// SPDX-License-Identifier: Apache-2.0
//
// Which provider gets a volume, when the requester names none: VSS's order, hardware before
// software before system; among equals the one that registered first. Pure.

#pragma once

#include <cstddef>
#include <optional>
#include <vector>

#include "umbra/result.h"
#include "umbra/vss.h"

namespace umbra::coord {

struct ProviderCandidate {
  ProviderType type = ProviderType::unknown;
  Result<bool> supports = false;  // Its answer to IsVolumeSupported.
};

/// Index of the best candidate that supports the volume. `named`: the requester asked for exactly
/// this one. Errors: provider_not_registered (there is none); volume_not_supported_by_provider
/// (`named` and it says no); volume_not_supported (nobody does).
[[nodiscard]] Result<std::size_t> choose_provider(const std::vector<ProviderCandidate>& candidates,
                                                  bool named);

}  // namespace umbra::coord
