// SPDX-License-Identifier: Apache-2.0
//
// Two subjects under the same work, in interleaved pairs.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>

#include "bench/harness/scenario.h"
#include "bench/load/subject.h"
#include "bench/umbra/world.h"

namespace umbra::bench {

/// How fast A's first writes are beside B's: each run takes a snapshot, writes, and lets it go.
/// Then both, and what their snapshots show, are compared with what was written.
[[nodiscard]] Outcome compare_first_writes(Context& context, Subject& a, Subject& b,
                                           std::uint64_t size_bytes, const Shape& shape);
/// The same of pairs that were run by somebody else.
void set_pairs(Outcome& outcome, const Pairs& pairs, const std::string& name_of_b);
/// So many persistent copies, each with a few chunks of its own; fewer if that takes longer than
/// the limit. How many.
std::size_t take_many(UmbraVolume& volume, Driver& driver, std::size_t count,
                      std::size_t chunks_each, std::chrono::seconds limit);

}  // namespace umbra::bench
