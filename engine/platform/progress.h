// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// How a long call says how far it is, and learns that it shall stop.

#pragma once

#include <cstdint>
#include <functional>

namespace umbra {

/// Called by the thread that works, now and then; must return quickly. `total` 0: not known. False:
/// stop at the next safe place and answer async_cancelled. Null: nobody listens, nobody stops it.
using ProgressSink = std::function<bool(std::uint64_t done, std::uint64_t total)>;

}  // namespace umbra
