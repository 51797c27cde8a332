// SPDX-License-Identifier: Apache-2.0
//
// What a copy holds, told from its superblock: whether what is in the journal is missing in a copy
// that is mounted without replaying it, and, of btrfs, how to give it an identity of its own.
//
// btrfs knows its devices by the UUID of the file system alone, so copy and live volume would be
// one to the kernel. Its format has a way out: the UUID that the superblock shows may differ from
// the one in the tree blocks (feature METADATA_UUID). So a copy is made another file system by
// rewriting its superblocks and nothing else.
//
// Pure; numbers on disk are little-endian.

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "engine/platform/block.h"
#include "umbra/ids.h"
#include "umbra/result.h"

namespace umbra::cowd {

enum class FileSystem : std::uint8_t { other, ext, xfs, btrfs };

struct CopyFacts {
  FileSystem file_system = FileSystem::other;
  /// The journal (ext), log (XFS) or log tree (btrfs) holds what the rest does not.
  bool journal_in_use = false;
};

inline constexpr std::size_t kSuperblockBytes = 4096;
inline constexpr std::uint64_t kExtSuperblockOffset = 1024;
/// Of btrfs; those that do not lie in the device are not there.
inline constexpr std::array<std::uint64_t, 3> kBtrfsSuperblockOffsets = {
    std::uint64_t{64} << 10U, std::uint64_t{64} << 20U, std::uint64_t{256} << 30U};

/// `first` is what the device holds from its start, `btrfs` what it holds at the first offset of
/// kBtrfsSuperblockOffsets (zeroes if it is smaller).
/// Of XFS the superblock does not say whether its log is in use: look_at_copy() does.
[[nodiscard]] CopyFacts facts_of(std::span<const std::byte, kSuperblockBytes> first,
                                 std::span<const std::byte, kSuperblockBytes> btrfs);

/// Makes a superblock of btrfs one of file system `id`, its checksum included. False: there is none
/// in these bytes; nothing has changed. Errors: not_supported (several devices, or a checksum other
/// than CRC32C), diff_area_corrupt (its checksum is wrong); nothing has changed.
[[nodiscard]] Result<bool> give_btrfs_identity(std::span<std::byte, kSuperblockBytes> superblock,
                                               const Guid& id);

/// Reads what facts_of() wants, and the end of XFS's log. Blocks. Errors: io_error.
[[nodiscard]] Result<CopyFacts> look_at_copy(block::Device& device);
/// Does it to every superblock of the device. Blocks. Errors: as above; io_error.
[[nodiscard]] Status give_btrfs_identity(block::Device& device, const Guid& id);

}  // namespace umbra::cowd
