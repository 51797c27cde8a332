// SPDX-License-Identifier: Apache-2.0
//
// Chunks that the file system had free at a snapshot's point in time. Nothing of them is kept for
// the snapshot: the first write to one copies nothing, and the snapshot shows zeroes there, from
// before anybody reads it for as long as it lives. exempt.cc has the rules. Private to
// provider/cow.

#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "provider/cow/chunk_set.h"
#include "provider/cow/volume.h"

namespace umbra::cow {

/// Of one snapshot. Constant once the snapshot has it; threads: any.
struct Exemption {
  ChunkSet free;
  std::uint64_t chunks = 0;  // In it.

  /// The bytes of a blob of kind exemption. Decoding is total; null: they are none.
  [[nodiscard]] std::vector<std::byte> encode() const;
  [[nodiscard]] static std::unique_ptr<Exemption> decode(std::span<const std::byte> bytes,
                                                         std::uint64_t chunk_count);
};

/// The chunks that lie in the ranges with all their bytes. Ranges may overlap, touch and come in
/// any order; what lies beyond the volume does not count.
[[nodiscard]] ChunkSet wholly_free_chunks(std::span<const ChangedRange> free,
                                          std::uint64_t chunk_bytes, std::uint64_t volume_bytes);

}  // namespace umbra::cow
