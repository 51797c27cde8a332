// SPDX-License-Identifier: Apache-2.0
#include "provider/cow/superblocks.h"

#include <algorithm>
#include <cerrno>
#include <optional>

#include "provider/cow/core.h"

namespace umbra::cow {

Status transfer(block::Device& device, block::Op op, std::uint64_t offset_bytes,
                std::span<std::byte> bytes, const char* what) {
  block::Request request;
  request.op = op;
  request.offset_bytes = offset_bytes;
  request.size_bytes = bytes.size();
  request.buffer = bytes.data();
  const int error = block::run(device, request);
  if (error == 0) return {};
  return fail(Errc::io_error, std::string(what) + ": errno " + std::to_string(error));
}

Status flush(block::Device& device) {
  return transfer(device, block::Op::flush, 0, {}, "flushing the diff area");
}

// The newer valid one of the two; if none is valid, what best describes why.
Result<format::Superblock> read_superblock(block::Device& diff) {
  const AlignedBuffer buffer = make_aligned(format::kBlockBytes);
  if (diff.geometry().size_bytes < format::kSegmentsOffset) {
    return fail(Errc::diff_area_foreign, "too small for a diff area");
  }
  std::optional<format::Superblock> newest;
  Error worst{Errc::diff_area_foreign, "no superblock"};
  for (const std::uint64_t offset : format::kSuperblockOffsets) {
    const std::span<std::byte> bytes(buffer.get(), format::kBlockBytes);
    const Status read = transfer(diff, block::Op::read, offset, bytes, "reading the superblock");
    if (!read) return fail(read.error());
    auto superblock = format::decode_superblock(format::ConstBlock(buffer.get(), bytes.size()));
    if (superblock) {
      if (!newest || superblock->sequence > newest->sequence) newest = *superblock;
    } else if (worst.code != Errc::diff_area_version &&
               superblock.error().code != Errc::diff_area_foreign) {
      worst = superblock.error();
    }
  }
  if (!newest) return fail(worst);
  return *newest;
}

Status refuse_to_overwrite(block::Device& diff) {
  if (diff.geometry().size_bytes == 0) return {};
  const auto superblock = read_superblock(diff);
  if (superblock && superblock->move.state == format::MoveState::moved) return {};
  if (superblock || superblock.error().code == Errc::diff_area_version ||
      superblock.error().code == Errc::diff_area_corrupt) {
    return fail(Errc::object_already_exists, "there is a diff area already");
  }
  if (superblock.error().code == Errc::io_error) return fail(superblock.error());
  constexpr std::uint64_t kLookBytes = 128U << 10U;
  const std::uint64_t look =
      std::min(diff.geometry().size_bytes, kLookBytes) / format::kBlockBytes * format::kBlockBytes;
  const AlignedBuffer buffer = make_aligned(kLookBytes);
  const std::span<std::byte> bytes(buffer.get(), look);
  if (Status read = transfer(diff, block::Op::read, 0, bytes, "reading its start"); !read) {
    return read;
  }
  if (format::is_zero(bytes)) return {};
  return fail(Errc::diff_area_foreign, "it is not empty");
}

Status refuse_if_moved(const format::Superblock& superblock) {
  switch (superblock.move.state) {
    case format::MoveState::none: return {};
    case format::MoveState::moved:
      return fail(Errc::diff_area_foreign,
                  "it was moved to " + superblock.move.path + ": use that one");
    case format::MoveState::arriving: break;
  }
  return fail(Errc::diff_area_foreign, "it is the copy of " + superblock.move.path +
                                           " that a move had not finished: use that one, or finish "
                                           "the move with both");
}

Status write_superblocks(block::Device& diff, format::Superblock& superblock) {
  const AlignedBuffer buffer = make_aligned(format::kBlockBytes);
  const std::span<std::byte> bytes(buffer.get(), format::kBlockBytes);
  for (int place = 0; place < 2; ++place) {
    ++superblock.sequence;
    format::encode(superblock, format::Block(buffer.get(), format::kBlockBytes));
    const std::uint64_t offset = format::kSuperblockOffsets[superblock.sequence % 2];
    if (Status written = transfer(diff, block::Op::write, offset, bytes, "writing the superblock");
        !written) {
      return written;
    }
    if (Status flushed = flush(diff); !flushed) return flushed;
  }
  return {};
}

Status erase_superblocks(block::Device& diff) {
  const AlignedBuffer buffer = make_aligned(format::kBlockBytes);
  const std::span<std::byte> bytes(buffer.get(), format::kBlockBytes);
  std::fill(bytes.begin(), bytes.end(), std::byte{0});
  for (const std::uint64_t offset : format::kSuperblockOffsets) {
    if (Status written = transfer(diff, block::Op::write, offset, bytes, "erasing"); !written) {
      return written;
    }
  }
  return flush(diff);
}

}  // namespace umbra::cow
