// SPDX-License-Identifier: Apache-2.0
//
// The two superblocks of a diff area, and what they say about using it. Private to provider/cow.

#pragma once

#include <cstdint>
#include <span>

#include "engine/platform/block.h"
#include "provider/format/diff_area.h"
#include "umbra/result.h"

namespace umbra::cow {

/// Submits and waits. `what`: for the error. Errors: insufficient_storage (ENOSPC); io_error.
[[nodiscard]] Status transfer(block::Device& device, block::Op op, std::uint64_t offset_bytes,
                              std::span<std::byte> bytes, const char* what);
[[nodiscard]] Status flush(block::Device& device);

/// The newer valid one of the two. Errors, if none is: what best describes why (diff_area_foreign,
/// diff_area_version, diff_area_corrupt); io_error.
[[nodiscard]] Result<format::Superblock> read_superblock(block::Device& diff);

/// Nothing that somebody could miss. Errors: object_already_exists (a diff area, but for one that
/// says that it was moved); diff_area_foreign (not empty); io_error.
[[nodiscard]] Status refuse_to_overwrite(block::Device& diff);

/// Errors: diff_area_foreign (another area is in force in its place).
[[nodiscard]] Status refuse_if_moved(const format::Superblock& superblock);

/// Both, one after the other, with the next two sequences; durable. On failure nobody knows which
/// of the two says what.
[[nodiscard]] Status write_superblocks(block::Device& diff, format::Superblock& superblock);

/// Afterwards it is no diff area.
[[nodiscard]] Status erase_superblocks(block::Device& diff);

}  // namespace umbra::cow
