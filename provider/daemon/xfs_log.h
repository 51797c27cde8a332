// SPDX-License-Identifier: Apache-2.0
//
// Whether the log of an XFS holds changes that the rest of the volume lacks. Its superblock does
// not say: every log but that of an unmounted file system has something to recover, also that of a
// frozen one, into which a freeze writes the superblock once more so that recovery drops files that
// were deleted while open. Records of the superblock alone count as nothing here.
//
// The log is a ring of blocks, each of which begins with the number of its round; so the place
// where the next record would be written is found by halving, and the last record lies before it.
// For a hint this is enough: what a crash left half written there is not looked at.

#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "umbra/result.h"

namespace umbra::cowd {

/// Reads that many bytes, multiples of kXfsReadBytes at multiples of it.
using ReadDevice = std::function<Status(std::uint64_t offset, std::span<std::byte> into)>;
inline constexpr std::size_t kXfsReadBytes = 4096;

/// `superblock` is the device's first kXfsReadBytes, which begin with XFS's magic. Some twenty
/// reads. Errors: not_supported (the log lies elsewhere, or is none that is understood); those of
/// `read`.
[[nodiscard]] Result<bool> xfs_log_in_use(std::span<const std::byte> superblock,
                                          std::uint64_t device_bytes, const ReadDevice& read);

}  // namespace umbra::cowd
