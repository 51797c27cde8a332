// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace umbra::bench {

/// Resident memory of this process, after what the allocator keeps unused was given back. 0: the
/// system does not say.
[[nodiscard]] std::uint64_t resident_bytes();

}  // namespace umbra::bench
