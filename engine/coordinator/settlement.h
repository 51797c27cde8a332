// SPDX-License-Identifier: Apache-2.0
//
// What becomes of a set that was left in doubt over several providers: umbrad, a provider or a
// connection died between the first ConfirmSet and the last. Pure.
//
// Nothing durable is kept here: providers know. A member that is created proves that umbrad had
// heard "prepared for good" from every provider, so the others roll forward. That nobody has
// created one is known only when everybody was asked and none may still do it: then all goes. An
// umbrad that was just started without its list of providers does not know who everybody is. What
// the copies say is how many members there are; as long as some are nowhere, a provider may come
// that has created them, and the set waits for it, but not for ever.

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

struct Findings {
  /// Answers of the providers that are connected; one that did not answer is undecided.
  std::vector<SetFate> fates;
  bool everybody = false;    // No known provider is away.
  bool all_members = false;  // As many copies are there as the set has.
  bool knows_all = false;    // No other provider than the known ones will come.
};

[[nodiscard]] Settlement decide_settlement(const Findings& findings);

}  // namespace umbra::coord
