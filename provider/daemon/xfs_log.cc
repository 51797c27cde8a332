// SPDX-License-Identifier: Apache-2.0
#include "provider/daemon/xfs_log.h"

#include <array>
#include <cstring>
#include <optional>

namespace umbra::cowd {
namespace {

constexpr std::uint64_t kBlockBytes = 512;  // Of the log.
constexpr std::uint64_t kBlocksPerRead = kXfsReadBytes / kBlockBytes;
constexpr std::uint64_t kRecordBlocksMax = (256U << 10U) / kBlockBytes + 16;  // Data and headers.
constexpr std::uint64_t kLogBlocksMin = 2 * kBlocksPerRead;
constexpr std::uint64_t kLogBytesMax = std::uint64_t{4} << 30U;
// The superblock, big-endian.
constexpr std::size_t kBlockSizeAt = 4;
constexpr std::size_t kLogStartAt = 48;  // 64 bits; 0: on a device of its own.
constexpr std::size_t kGroupBlocksAt = 84;
constexpr std::size_t kLogBlocksAt = 96;
constexpr std::size_t kGroupBlocksLogAt = 124;  // 8 bits.
// A record's header, big-endian but for its fields of the log items.
constexpr std::uint32_t kRecordMagic = 0xFEEDBABE;
constexpr std::size_t kVersionAt = 8;
constexpr std::size_t kPlaceAt = 16;  // Round and block.
constexpr std::size_t kTailAt = 24;
constexpr std::size_t kPreviousAt = 36;
constexpr std::size_t kOperationsAt = 40;
constexpr std::size_t kBufferSizeAt = 320;
constexpr std::uint32_t kHeaderCoversBytes = 32U << 10U;
// An operation: its length at 4, its flags at 9, then its data.
constexpr std::size_t kOperationBytes = 12;
constexpr std::uint32_t kUnmount = 0x20;
// The data of a log item, in the processor's order.
constexpr std::uint32_t kBufferItem = 0x123C;
constexpr std::size_t kBufferBlockAt = 8;
// Start, header of the transaction, the item, its data (one or two), commit.
constexpr std::uint64_t kSuperblockOperationsMax = 6;
constexpr int kQuietRecordsMax = 8;  // A freeze writes two.

std::uint64_t big(std::span<const std::byte> bytes, std::size_t offset, std::size_t size) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < size; ++i) {
    value = value << 8U | std::to_integer<std::uint64_t>(bytes[offset + i]);
  }
  return value;
}

std::uint64_t little(std::span<const std::byte> bytes, std::size_t offset, std::size_t size) {
  std::uint64_t value = 0;
  for (std::size_t i = size; i-- > 0;) {
    value = value << 8U | std::to_integer<std::uint64_t>(bytes[offset + i]);
  }
  return value;
}

using Block = std::array<std::byte, kBlockBytes>;

// The ring, read piece by piece.
class Log {
 public:
  Log(std::uint64_t offset, std::uint64_t blocks, const ReadDevice& read)
      : offset_(offset), blocks_(blocks), read_(read) {}

  [[nodiscard]] std::uint64_t blocks() const { return blocks_; }
  [[nodiscard]] Result<Block> block(std::uint64_t index) {
    index %= blocks_;
    const std::uint64_t piece = index / kBlocksPerRead;
    if (piece_ != piece) {
      piece_.reset();
      const Status read = read_(offset_ + piece * kXfsReadBytes, bytes_);
      if (!read) return fail(read.error());
      piece_ = piece;
    }
    Block block;
    std::memcpy(block.data(), bytes_.data() + index % kBlocksPerRead * kBlockBytes, kBlockBytes);
    return block;
  }
  [[nodiscard]] Result<std::uint64_t> round(std::uint64_t index) {
    const auto bytes = block(index);
    if (!bytes) return fail(bytes.error());
    const bool header = big(*bytes, 0, 4) == kRecordMagic;
    return big(*bytes, header ? 4 : 0, 4);
  }

 private:
  const std::uint64_t offset_;
  const std::uint64_t blocks_;
  const ReadDevice& read_;
  std::optional<std::uint64_t> piece_;
  alignas(kXfsReadBytes) std::array<std::byte, kXfsReadBytes> bytes_{};
};

// Where the next record would be written: the first block that is not of the first one's round.
Result<std::uint64_t> find_head(Log& log) {
  const auto first = log.round(0);
  if (!first) return fail(first.error());
  const auto last = log.round(log.blocks() - 1);
  if (!last) return fail(last.error());
  if (*first == *last) return std::uint64_t{0};
  std::uint64_t inside = 0;
  std::uint64_t outside = log.blocks() - 1;
  while (outside - inside > 1) {
    const std::uint64_t middle = inside + (outside - inside) / 2;
    const auto round = log.round(middle);
    if (!round) return fail(round.error());
    (*round == *first ? inside : outside) = middle;
  }
  return outside;
}

bool is_unmount(const Block& header, const Block& data) {
  return big(header, kOperationsAt, 4) == 1 &&
         (std::to_integer<std::uint32_t>(data[9]) & kUnmount) != 0;
}

// Whether the record holds nothing but one change of the superblock.
bool is_superblock_only(const Block& header, const Block& data) {
  const std::uint64_t operations = big(header, kOperationsAt, 4);
  if (operations > kSuperblockOperationsMax) return false;
  // The first item, after what begins the transaction.
  std::size_t at = 0;
  for (std::uint64_t i = 0; i < operations; ++i) {
    const std::uint64_t bytes = big(data, at + 4, 4);
    const std::size_t item = at + kOperationBytes;
    if (item + kBufferBlockAt + 8 > data.size()) return false;
    if (bytes >= kBufferBlockAt + 8 && little(data, item, 2) == kBufferItem) {
      return little(data, item + kBufferBlockAt, 8) == 0;  // The superblock's place.
    }
    at = item + bytes;
    if (at + kOperationBytes > data.size()) return false;
  }
  return false;
}

// Back from the last record, at `place`, to the one that recovery would begin with.
Result<bool> holds_changes(Log& log, std::uint64_t place) {
  std::uint64_t tail = 0;
  for (int records = 0; records < kQuietRecordsMax; ++records) {
    const auto header = log.block(place);
    if (!header) return fail(header.error());
    // Of a large record the header takes more than one block.
    const std::uint64_t size = big(*header, kBufferSizeAt, 4);
    const bool large = big(*header, kVersionAt, 4) == 2 && size > kHeaderCoversBytes;
    const std::uint64_t headers = large ? (size + kHeaderCoversBytes - 1) / kHeaderCoversBytes : 1;
    const auto data = log.block(place + headers);
    if (!data) return fail(data.error());
    if (records == 0 && is_unmount(*header, *data)) return false;
    if (records == 0) tail = big(*header, kTailAt, 8);
    const bool quiet = big(*header, 0, 4) == kRecordMagic && is_superblock_only(*header, *data);
    if (!quiet) return true;
    if (big(*header, kPlaceAt, 8) == tail) return false;
    place = big(*header, kPreviousAt, 4);
  }
  return true;
}

}  // namespace

Result<bool> xfs_log_in_use(std::span<const std::byte> superblock, std::uint64_t device_bytes,
                            const ReadDevice& read) {
  const std::uint64_t block_bytes = big(superblock, kBlockSizeAt, 4);
  const std::uint64_t start = big(superblock, kLogStartAt, 8);
  const std::uint64_t group_log = big(superblock, kGroupBlocksLogAt, 1);
  const std::uint64_t log_bytes = big(superblock, kLogBlocksAt, 4) * block_bytes;
  const auto not_understood = [] {
    return fail(Errc::not_supported, "the XFS has no log in it that is understood");
  };
  if (start == 0 || group_log == 0 || group_log > 31 || log_bytes > kLogBytesMax) {
    return not_understood();
  }
  const std::uint64_t group = start >> group_log;
  const std::uint64_t in_group = start & ((std::uint64_t{1} << group_log) - 1);
  const std::uint64_t offset =
      (group * big(superblock, kGroupBlocksAt, 4) + in_group) * block_bytes;
  const std::uint64_t blocks = log_bytes / kBlockBytes;
  const bool placed = offset % kXfsReadBytes == 0 && log_bytes % kXfsReadBytes == 0 &&
                      blocks >= kLogBlocksMin && log_bytes <= device_bytes &&
                      offset <= device_bytes - log_bytes;
  if (!placed) return not_understood();
  Log log(offset, blocks, read);
  const auto head = find_head(log);
  if (!head) return fail(head.error());
  std::uint64_t place = *head + blocks - 1;
  for (std::uint64_t back = 1;; ++back, --place) {
    const auto header = log.block(place);
    if (!header) return fail(header.error());
    if (big(*header, 0, 4) == kRecordMagic) break;
    if (back == kRecordBlocksMax || back == blocks) return not_understood();
  }
  return holds_changes(log, place);
}

}  // namespace umbra::cowd
