// SPDX-License-Identifier: Apache-2.0
#include "provider/frontend/ublk/plan.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <charconv>

namespace umbra::ublk {
namespace {

constexpr unsigned kSectorShift = 9;
constexpr std::uint32_t kPageBytes = 4096;
constexpr std::string_view kStateName = "umbra-ublk ";
constexpr std::string_view kStateMagic = "umbra-ublk 1 ";
constexpr unsigned kMarkBits = 40;
constexpr std::uint64_t kMarkMagic = std::uint64_t{0x554D42} << kMarkBits;  // "UMB"

// The kernel's, see wire_linux.h.
constexpr std::uint32_t kOpMask = 0xFF;
constexpr std::uint32_t kOpRead = 0;
constexpr std::uint32_t kOpWrite = 1;
constexpr std::uint32_t kOpFlush = 2;
constexpr std::uint32_t kOpDiscard = 3;
constexpr std::uint32_t kOpWriteZeroes = 5;
constexpr std::uint32_t kFlagFua = 1U << 13U;
constexpr std::uint32_t kFlagNoUnmap = 1U << 15U;

}  // namespace

std::string why_no_recovery(std::uint64_t granted) {
  if ((granted & kRecovery) != 0 && (granted & kRecoveryReissue) != 0) return {};
  return "this kernel's ublk devices do not survive a restart of their server";
}

Shape shape_for(unsigned processors) noexcept {
  Shape shape;
  shape.queues = static_cast<std::uint16_t>(std::clamp<unsigned>(processors, 1, kQueuesMax));
  return shape;
}

Result<Parameters> parameters_for(const block::Geometry& geometry, const Shape& shape) {
  const std::uint32_t block = geometry.block_bytes;
  if (block < (1U << kSectorShift) || block > kPageBytes || !std::has_single_bit(block)) {
    return fail(Errc::invalid_argument,
                "a ublk device cannot have blocks of " + std::to_string(block) + " bytes");
  }
  Parameters out;
  out.read_only = geometry.read_only;
  out.block_shift = static_cast<std::uint8_t>(std::countr_zero(block));
  out.sectors = geometry.size_bytes / block * block >> kSectorShift;
  if (out.sectors == 0) {
    return fail(Errc::invalid_argument, "a device without a single block cannot be served");
  }
  const auto sectors_of = [&](std::uint64_t bytes) {
    const std::uint64_t part = std::min(bytes, geometry.request_bytes_max) / block * block;
    return static_cast<std::uint32_t>(std::max<std::uint64_t>(part, block) >> kSectorShift);
  };
  out.sectors_max = sectors_of(shape.payload_bytes);
  if (!geometry.read_only) {
    out.zeroes_sectors_max = sectors_of(kPartBytesMax);
    if (geometry.can_discard) out.discard_sectors_max = out.zeroes_sectors_max;
  }
  return out;
}

int decode(const Descriptor& descriptor, std::uint32_t payload_bytes,
           block::Request& request) noexcept {
  request.fua = (descriptor.op_flags & kFlagFua) != 0;
  request.no_hole = false;
  request.error = 0;
  request.offset_bytes = descriptor.start_sector << kSectorShift;
  request.size_bytes = std::uint64_t{descriptor.sectors} << kSectorShift;
  request.next = nullptr;
  switch (descriptor.op_flags & kOpMask) {
    case kOpRead: request.op = block::Op::read; break;
    case kOpWrite: request.op = block::Op::write; break;
    case kOpFlush:
      request.op = block::Op::flush;
      request.fua = false;
      request.offset_bytes = 0;
      request.size_bytes = 0;
      return 0;
    case kOpDiscard:
      request.op = block::Op::discard;
      request.fua = false;
      return 0;
    case kOpWriteZeroes:
      request.op = block::Op::write_zeroes;
      request.no_hole = (descriptor.op_flags & kFlagNoUnmap) != 0;
      return 0;
    default: return EOPNOTSUPP;
  }
  return request.size_bytes > payload_bytes ? EINVAL : 0;
}

std::int32_t result_of(const block::Request& request) noexcept {
  if (request.error != 0) return -request.error;
  const bool moves = request.op == block::Op::read || request.op == block::Op::write;
  return moves ? static_cast<std::int32_t>(request.size_bytes) : 0;
}

std::uint64_t owner_mark(std::string_view run_dir) noexcept {
  std::uint64_t hash = 0xCBF29CE484222325U;  // FNV-1a.
  for (const char c : run_dir) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3U;
  return kMarkMagic | (hash >> (64 - kMarkBits));
}

std::string saved_state(std::uint32_t id) { return std::string(kStateMagic) + std::to_string(id); }

Result<std::uint32_t> parse_state(std::string_view state) {
  if (state.substr(0, kStateName.size()) != kStateName) {
    return fail(Errc::invalid_argument, "not the state of a ublk device");
  }
  if (state.substr(0, kStateMagic.size()) != kStateMagic) {
    return fail(Errc::version_mismatch,
                "state of a ublk device: " + std::string(state.substr(0, 32)));
  }
  state.remove_prefix(kStateMagic.size());
  std::uint32_t id = 0;
  const auto [end, error] = std::from_chars(state.data(), state.data() + state.size(), id);
  if (error != std::errc() || end != state.data() + state.size()) {
    return fail(Errc::invalid_argument, "the state of a ublk device is damaged");
  }
  return id;
}

std::string block_path(std::uint32_t id) { return "/dev/ublkb" + std::to_string(id); }
std::string char_path(std::uint32_t id) { return "/dev/ublkc" + std::to_string(id); }

}  // namespace umbra::ublk
