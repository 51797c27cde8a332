// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// CRC32C (Castagnoli), as iSCSI and ext4 use it: by the processor's instruction where there is one,
// else by table.

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace umbra {

/// The checksum of `bytes`; `seed` is the checksum of what came before. Threads: any.
[[nodiscard]] std::uint32_t crc32c(std::span<const std::byte> bytes,
                                   std::uint32_t seed = 0) noexcept;

/// The table form, for tests.
[[nodiscard]] std::uint32_t crc32c_portable(std::span<const std::byte> bytes,
                                            std::uint32_t seed = 0) noexcept;

}  // namespace umbra
