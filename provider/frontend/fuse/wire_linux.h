// SPDX-License-Identifier: Apache-2.0
//
// The kernel's FUSE protocol, with what Debian 12's headers (6.1) do not have yet.

#pragma once

#include <linux/fuse.h>

#include <cstdint>

namespace umbra::fuse {

// Kernel 6.9: the server may ask for every unanswered request again.
inline constexpr std::uint64_t kHasResend = 1ULL << 39U;
inline constexpr std::int32_t kNotifyResend = 7;

}  // namespace umbra::fuse
