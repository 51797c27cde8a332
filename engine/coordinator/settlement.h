// SPDX-License-Identifier: Apache-2.0
//
// What becomes of a set that was left in doubt over several providers: umbrad, a provider or a
// connection died between the first ConfirmSet and the last. Pure.
//
// Nothing durable is kept here: providers know. A member that is created proves that umbrad had
// heard "prepared for good" from every provider, so the others roll forward. That nobody has
// created one is known only when everybody was asked and none may still do it: then all goes.

#pragma once

#include <cstdint>
#include <vector>

#include "umbra/provider.h"

namespace umbra::coord {

enum class Settlement : std::uint8_t {
  wait,      // Somebody is away, or cannot say.
  complete,  // complete_set at those that are prepared.
  discard,   // delete_snapshots at those that are prepared.
};

/// `fates`: the answers of the providers that are connected; one that did not answer is undecided.
/// `everybody`: no known provider is away.
[[nodiscard]] Settlement decide_settlement(const std::vector<SetFate>& fates, bool everybody);

}  // namespace umbra::coord
