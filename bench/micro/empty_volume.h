// SPDX-License-Identifier: Apache-2.0
//
// A volume whose disks keep no payload: an index of any size, and no more memory than that.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace umbra::bench {

/// Resident bytes of this process per preserved chunk of 16 KiB, `count` of them at random places
/// under one snapshot; bitmaps and copy buffers included. Throws Failed.
[[nodiscard]] double ram_bytes_per_chunk(std::uint64_t count, std::uint64_t seed);
/// Opening after kill -9 with `count` records of chunks of 4 KiB, scaled to ten million; once for
/// each round. Throws Failed if records are lost.
[[nodiscard]] std::vector<double> reopen_seconds_per_10m(std::uint64_t count, std::size_t rounds,
                                                         std::uint64_t seed);

}  // namespace umbra::bench
