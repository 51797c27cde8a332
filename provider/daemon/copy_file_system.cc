// SPDX-License-Identifier: Apache-2.0
#include "provider/daemon/copy_file_system.h"

#include <algorithm>
#include <cstring>
#include <string_view>
#include <system_error>

#include "engine/platform/crc32c.h"
#include "provider/daemon/xfs_log.h"

namespace umbra::cowd {
namespace {

using Superblock = std::span<std::byte, kSuperblockBytes>;
using ConstSuperblock = std::span<const std::byte, kSuperblockBytes>;

// ext2 to ext4, from the start of the superblock.
constexpr std::size_t kExtMagicAt = 56;  // 16 bits.
constexpr std::uint64_t kExtMagic = 0xEF53;
constexpr std::size_t kExtIncompatibleAt = 96;
constexpr std::uint64_t kExtNeedsRecovery = 0x4;
// btrfs.
constexpr std::size_t kBtrfsSumBytes = 32;
constexpr std::size_t kBtrfsIdAt = 0x20;
constexpr std::size_t kBtrfsMagicAt = 0x40;
constexpr std::string_view kBtrfsMagic = "_BHRfS_M";
constexpr std::size_t kBtrfsLogRootAt = 0x60;
constexpr std::size_t kBtrfsDeviceCountAt = 0x88;
constexpr std::size_t kBtrfsIncompatibleAt = 0xBC;
constexpr std::uint64_t kBtrfsHasMetadataId = 0x400;
constexpr std::size_t kBtrfsSumKindAt = 0xC4;  // 16 bits; 0: CRC32C.
constexpr std::size_t kBtrfsMetadataIdAt = 0x23B;

constexpr std::size_t kBufferAlignment = 4096;  // Enough for any device.

std::uint64_t number_at(std::span<const std::byte> bytes, std::size_t offset, std::size_t size) {
  std::uint64_t value = 0;
  for (std::size_t i = size; i-- > 0;) {
    value = value << 8U | std::to_integer<std::uint64_t>(bytes[offset + i]);
  }
  return value;
}

void put_number(std::span<std::byte> bytes, std::size_t offset, std::size_t size,
                std::uint64_t value) {
  for (std::size_t i = 0; i < size; ++i) bytes[offset + i] = std::byte(value >> (8 * i) & 0xFFU);
}

bool text_at(std::span<const std::byte> bytes, std::size_t offset, std::string_view text) {
  return std::memcmp(bytes.data() + offset, text.data(), text.size()) == 0;
}

bool is_btrfs(ConstSuperblock superblock) {
  return text_at(superblock, kBtrfsMagicAt, kBtrfsMagic);
}

std::uint64_t btrfs_sum(ConstSuperblock superblock) {
  return crc32c(superblock.subspan(kBtrfsSumBytes));
}

int run_at(block::Device& device, block::Op op, std::uint64_t offset, std::span<std::byte> bytes) {
  block::Request request;
  request.op = op;
  request.offset_bytes = offset;
  request.size_bytes = bytes.size();
  request.buffer = bytes.data();
  return block::run(device, request);
}

bool lies_in(const block::Device& device, std::uint64_t offset) {
  const std::uint64_t size = device.geometry().size_bytes;
  return size >= kSuperblockBytes && offset <= size - kSuperblockBytes;
}

tl::unexpected<Error> failed(const char* what, int error) {
  return fail(Errc::io_error,
              std::string(what) + " the copy: " + std::generic_category().message(error));
}

}  // namespace

CopyFacts facts_of(ConstSuperblock first, ConstSuperblock btrfs) {
  CopyFacts facts;
  const auto ext = first.subspan<kExtSuperblockOffset>();
  if (is_btrfs(btrfs)) {
    facts.file_system = FileSystem::btrfs;
    facts.journal_in_use = number_at(btrfs, kBtrfsLogRootAt, 8) != 0;
  } else if (text_at(first, 0, "XFSB")) {
    facts.file_system = FileSystem::xfs;
  } else if (number_at(ext, kExtMagicAt, 2) == kExtMagic) {
    facts.file_system = FileSystem::ext;
    facts.journal_in_use = (number_at(ext, kExtIncompatibleAt, 4) & kExtNeedsRecovery) != 0;
  }
  return facts;
}

Result<bool> give_btrfs_identity(Superblock superblock, const Guid& id) {
  if (!is_btrfs(superblock)) return false;
  if (number_at(superblock, kBtrfsSumKindAt, 2) != 0) {
    return fail(Errc::not_supported,
                "a copy of a btrfs with other checksums than CRC32C cannot be mounted beside the "
                "live volume; read it on another machine");
  }
  if (number_at(superblock, 0, 4) != btrfs_sum(superblock)) {
    return fail(Errc::diff_area_corrupt, "the checksum of the copy's btrfs superblock is wrong");
  }
  if (number_at(superblock, kBtrfsDeviceCountAt, 8) != 1) {
    return fail(Errc::not_supported,
                "a copy of one device of a btrfs of several cannot be mounted; read the copies of "
                "all of them on another machine");
  }
  const std::uint64_t features = number_at(superblock, kBtrfsIncompatibleAt, 8);
  if ((features & kBtrfsHasMetadataId) == 0) {
    // Tree blocks name the file system by this one from now on.
    std::copy_n(&superblock[kBtrfsIdAt], id.bytes.size(), &superblock[kBtrfsMetadataIdAt]);
    put_number(superblock, kBtrfsIncompatibleAt, 8, features | kBtrfsHasMetadataId);
  }
  std::memcpy(&superblock[kBtrfsIdAt], id.bytes.data(), id.bytes.size());
  put_number(superblock, 0, 4, btrfs_sum(superblock));
  return true;
}

Result<CopyFacts> look_at_copy(block::Device& device) {
  struct alignas(kBufferAlignment) Block {
    std::array<std::byte, kSuperblockBytes> bytes{};
  };
  Block first;
  Block btrfs;
  if (!lies_in(device, 0)) return CopyFacts{};
  if (const int error = run_at(device, block::Op::read, 0, first.bytes); error != 0) {
    return failed("reading", error);
  }
  if (lies_in(device, kBtrfsSuperblockOffsets[0])) {
    const int error = run_at(device, block::Op::read, kBtrfsSuperblockOffsets[0], btrfs.bytes);
    if (error != 0) return failed("reading", error);
  }
  CopyFacts facts = facts_of(first.bytes, btrfs.bytes);
  if (facts.file_system != FileSystem::xfs) return facts;
  const auto read = [&](std::uint64_t offset, std::span<std::byte> into) -> Status {
    const int error = run_at(device, block::Op::read, offset, into);
    if (error == 0) return {};
    return failed("reading", error);
  };
  const auto in_use = xfs_log_in_use(first.bytes, device.geometry().size_bytes, read);
  if (!in_use && in_use.error().code == Errc::io_error) return fail(in_use.error());
  facts.journal_in_use = in_use && *in_use;  // A log elsewhere is not in the copy.
  return facts;
}

Status give_btrfs_identity(block::Device& device, const Guid& id) {
  alignas(kBufferAlignment) std::array<std::byte, kSuperblockBytes> superblock{};
  for (const std::uint64_t offset : kBtrfsSuperblockOffsets) {
    if (!lies_in(device, offset)) break;
    if (const int error = run_at(device, block::Op::read, offset, superblock); error != 0) {
      return failed("reading", error);
    }
    const auto given = give_btrfs_identity(Superblock(superblock), id);
    if (!given) return fail(given.error());
    if (!*given) continue;
    if (const int error = run_at(device, block::Op::write, offset, superblock); error != 0) {
      return failed("writing to the overlay of", error);
    }
  }
  return {};
}

}  // namespace umbra::cowd
