// SPDX-License-Identifier: Apache-2.0
#include "provider/frontend/nbd/transmission.h"

#include <algorithm>
#include <cerrno>

#include "engine/platform/assert.h"

namespace umbra::nbd {
namespace {

std::uint16_t flags_allowed(Command command, const Agreement& agreement) noexcept {
  // FUA must be taken on every command, and ignored where nothing is written.
  unsigned allowed = kCommandFua;
  if (command == Command::write_zeroes) allowed |= kCommandNoHole;
  if (command == Command::block_status) allowed |= kCommandReqOne;
  if (command == Command::read && (agreement.transmission_flags & kSendDf) != 0) {
    allowed |= kCommandDf;
  }
  return static_cast<std::uint16_t>(allowed);
}

bool writes(Command command) noexcept {
  return command == Command::write || command == Command::trim || command == Command::write_zeroes;
}

bool is_offered(Command command, const Agreement& agreement) noexcept {
  const unsigned flags = agreement.transmission_flags;
  switch (command) {
    case Command::read:
    case Command::write:
    case Command::flush: return true;
    case Command::trim: return (flags & (kSendTrim | kReadOnly)) != 0;
    case Command::write_zeroes: return (flags & (kSendWriteZeroes | kReadOnly)) != 0;
    case Command::block_status: return agreement.allocation_context;
    case Command::disconnect:
    case Command::cache: break;
  }
  return false;
}

// The first thing that is wrong with a request whose framing is sound.
WireError find_fault(const Request& request, const Agreement& agreement) noexcept {
  const auto command = request.command;
  if (!is_offered(command, agreement)) return WireError::invalid;
  if ((request.flags & ~flags_allowed(command, agreement)) != 0) return WireError::invalid;
  if (writes(command) && (agreement.transmission_flags & kReadOnly) != 0) return WireError::perm;
  if (command == Command::flush) {
    return request.offset_bytes == 0 && request.size_bytes == 0 ? WireError::none
                                                                : WireError::invalid;
  }
  if (request.size_bytes == 0) return WireError::invalid;
  if (request.offset_bytes > agreement.size_bytes ||
      request.size_bytes > agreement.size_bytes - request.offset_bytes) {
    return command == Command::write || command == Command::write_zeroes ? WireError::no_space
                                                                         : WireError::invalid;
  }
  if (request.offset_bytes % agreement.block_bytes != 0 ||
      request.size_bytes % agreement.block_bytes != 0) {
    return WireError::invalid;
  }
  if (command == Command::read && request.size_bytes > agreement.payload_bytes_max) {
    return (request.flags & kCommandDf) != 0 ? WireError::overflow : WireError::invalid;
  }
  return WireError::none;
}

// Magic, flags, type, cookie and length of a structured reply's chunk.
void put_chunk_header(std::byte* out, std::uint16_t type, std::uint64_t cookie,
                      std::uint32_t size) noexcept {
  store_be(out, kMagicStructuredReply);
  store_be(out + 4, kReplyDone);
  store_be(out + 6, type);
  store_be(out + 8, cookie);
  store_be(out + 16, size);
}

}  // namespace

Decision decide(std::span<const std::byte> bytes, const Agreement& agreement) noexcept {
  UMBRA_ASSERT(bytes.size() == kRequestBytes);
  Decision decision;
  if (load_be<std::uint32_t>(bytes.data()) != kMagicRequest) return decision;
  auto& request = decision.request;
  request.flags = load_be<std::uint16_t>(bytes.data() + 4);
  request.command = static_cast<Command>(load_be<std::uint16_t>(bytes.data() + 6));
  request.cookie = load_be<std::uint64_t>(bytes.data() + 8);
  request.offset_bytes = load_be<std::uint64_t>(bytes.data() + 16);
  request.size_bytes = load_be<std::uint32_t>(bytes.data() + 24);
  if (request.command == Command::disconnect) {
    decision.verdict = Verdict::finish;
    return decision;
  }
  if (request.command == Command::write) {
    if (request.size_bytes > agreement.payload_bytes_max) return decision;
    decision.payload_bytes = request.size_bytes;
  }
  decision.error = find_fault(request, agreement);
  decision.verdict = decision.error == WireError::none ? Verdict::perform : Verdict::refuse;
  return decision;
}

WireError wire_error(int errno_value) noexcept {
  switch (errno_value) {
    case 0: return WireError::none;
    case EPERM:
    case EACCES:
    case EROFS: return WireError::perm;
    case ENOMEM: return WireError::no_memory;
    case EINVAL: return WireError::invalid;
    case ENOSPC:
    case EDQUOT:
    case EFBIG: return WireError::no_space;
    case EOVERFLOW: return WireError::overflow;
    case EOPNOTSUPP: return WireError::not_supported;
    case ESHUTDOWN: return WireError::shutdown;
    default: return WireError::io;
  }
}

std::size_t encode_reply(std::span<std::byte, kReplyHeaderBytesMax> out, const Agreement& agreement,
                         const Request& request, WireError error) noexcept {
  const bool structured =
      agreement.structured_replies &&
      (request.command == Command::read || request.command == Command::block_status);
  if (!structured) {
    store_be(out.data(), kMagicSimpleReply);
    store_be(out.data() + 4, static_cast<std::uint32_t>(error));
    store_be(out.data() + 8, request.cookie);
    return kSimpleReplyBytes;
  }
  if (error != WireError::none) {
    put_chunk_header(out.data(), kChunkError, request.cookie, 6);
    store_be(out.data() + kChunkHeaderBytes, static_cast<std::uint32_t>(error));
    store_be(out.data() + kChunkHeaderBytes + 4, std::uint16_t{0});
    return kChunkHeaderBytes + 6;
  }
  UMBRA_ASSERT(request.command == Command::read);
  put_chunk_header(out.data(), kChunkOffsetData, request.cookie, 8 + request.size_bytes);
  store_be(out.data() + kChunkHeaderBytes, request.offset_bytes);
  return kChunkHeaderBytes + 8;
}

std::size_t encode_block_status(std::span<std::byte> out, const Request& request,
                                std::span<const block::Extent> extents) noexcept {
  UMBRA_ASSERT(out.size() >= kBlockStatusBytesMax && !extents.empty() &&
               extents.size() <= kExtentsMax);
  const bool only_one = (request.flags & kCommandReqOne) != 0;
  std::uint64_t left = request.size_bytes;
  std::size_t count = 0;
  std::uint64_t joined = 0;  // Length of the extent being built.
  std::uint32_t joined_state = 0;
  std::byte* at = out.data() + kChunkHeaderBytes + 4;
  const auto finish_extent = [&] {
    if (joined == 0) return;
    store_be(at, static_cast<std::uint32_t>(joined));
    store_be(at + 4, joined_state);
    at += kExtentBytes;
    ++count;
    joined = 0;
  };
  for (const auto& extent : extents) {
    const auto size = std::min(extent.size_bytes, left);
    if (size == 0) continue;
    const std::uint32_t state = (extent.hole ? kStateHole : 0U) | (extent.zero ? kStateZero : 0U);
    if (state != joined_state) {
      finish_extent();
      if (only_one && count == 1) break;
      joined_state = state;
    }
    joined += size;
    left -= size;
  }
  finish_extent();
  UMBRA_ASSERT(count > 0);
  store_be(out.data() + kChunkHeaderBytes, kAllocationContext);
  put_chunk_header(out.data(), kChunkBlockStatus, request.cookie,
                   static_cast<std::uint32_t>(4 + count * kExtentBytes));
  return kChunkHeaderBytes + 4 + count * kExtentBytes;
}

}  // namespace umbra::nbd
