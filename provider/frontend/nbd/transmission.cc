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
  if (command == Command::write_zeroes) allowed |= kCommandNoHole | kCommandFastZero;
  if (command == Command::block_status) {
    allowed |= kCommandReqOne;
    if ((agreement.transmission_flags & kBlockStatusPayload) != 0) allowed |= kCommandPayloadLength;
  }
  if (command == Command::write && agreement.extended_headers) allowed |= kCommandPayloadLength;
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
    case Command::block_status: return !agreement.contexts.empty();
    case Command::cache: return (flags & kSendCache) != 0;
    case Command::disconnect: break;
  }
  return false;
}

// The first thing that is wrong with a request whose framing is sound.
WireError find_fault(const Request& request, const Agreement& agreement) noexcept {
  const auto command = request.command;
  if (!is_offered(command, agreement)) return WireError::invalid;
  if ((request.flags & ~flags_allowed(command, agreement)) != 0) return WireError::invalid;
  if (writes(command) && (agreement.transmission_flags & kReadOnly) != 0) return WireError::perm;
  if (command == Command::write && agreement.extended_headers &&
      (request.flags & kCommandPayloadLength) == 0) {
    return WireError::invalid;
  }
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
    const bool may_overflow = agreement.structured_replies || agreement.extended_headers;
    return may_overflow ? WireError::overflow : WireError::invalid;
  }
  // Whether zeroes cost less than data depends on the origin's host and on what copies need: it is
  // not known beforehand, and then a quick no is what the client wants.
  if ((request.flags & kCommandFastZero) != 0) return WireError::not_supported;
  return WireError::none;
}

Verdict verdict_of(WireError error) noexcept {
  return error == WireError::none ? Verdict::perform : Verdict::refuse;
}

// Magic, flags, type, cookie and length of a chunk of a structured or an extended reply. Returns
// its length.
std::size_t put_chunk_header(std::byte* out, const Agreement& agreement, const Request& request,
                             std::uint16_t flags, std::uint16_t type, std::uint64_t size) noexcept {
  store_be(out, agreement.extended_headers ? kMagicExtendedReply : kMagicStructuredReply);
  store_be(out + 4, flags);
  store_be(out + 6, type);
  store_be(out + 8, request.cookie);
  if (!agreement.extended_headers) {
    store_be(out + 16, static_cast<std::uint32_t>(size));
    return kChunkHeaderBytes;
  }
  store_be(out + 16, request.offset_bytes);
  store_be(out + 24, size);
  return kExtendedChunkHeaderBytes;
}

}  // namespace

Decision decide(std::span<const std::byte> bytes, const Agreement& agreement) noexcept {
  const bool extended = agreement.extended_headers;
  UMBRA_ASSERT(bytes.size() == request_bytes(agreement));
  Decision decision;
  const auto magic = load_be<std::uint32_t>(bytes.data());
  if (magic != (extended ? kMagicExtendedRequest : kMagicRequest)) return decision;
  auto& request = decision.request;
  request.flags = load_be<std::uint16_t>(bytes.data() + 4);
  request.command = static_cast<Command>(load_be<std::uint16_t>(bytes.data() + 6));
  request.cookie = load_be<std::uint64_t>(bytes.data() + 8);
  request.offset_bytes = load_be<std::uint64_t>(bytes.data() + 16);
  request.size_bytes = extended ? load_be<std::uint64_t>(bytes.data() + 24)
                                : load_be<std::uint32_t>(bytes.data() + 24);
  if (request.command == Command::disconnect) {
    decision.verdict = Verdict::finish;
    return decision;
  }
  const bool has_payload =
      extended ? (request.flags & kCommandPayloadLength) != 0 : request.command == Command::write;
  if (has_payload) {
    if (request.size_bytes > agreement.payload_bytes_max) return decision;
    decision.payload_bytes = static_cast<std::uint32_t>(request.size_bytes);
  }
  if (has_payload && request.command == Command::block_status &&
      (agreement.transmission_flags & kBlockStatusPayload) != 0) {
    const bool adds_up = decision.payload_bytes > 8 && decision.payload_bytes % 4 == 0 &&
                         decision.payload_bytes <= kStatusPayloadBytesMax;
    decision.error = adds_up ? WireError::none : WireError::invalid;
  } else {
    decision.error = find_fault(request, agreement);
  }
  decision.verdict = verdict_of(decision.error);
  return decision;
}

Decision decide_status(Decision decision, std::span<const std::byte> payload,
                       const Agreement& agreement) noexcept {
  UMBRA_ASSERT(decision.verdict == Verdict::perform && payload.size() == decision.payload_bytes &&
               payload.size() > 8 && payload.size() <= kStatusPayloadBytesMax);
  auto& request = decision.request;
  request.size_bytes = load_be<std::uint64_t>(payload.data());
  request.contexts = 0;
  decision.error = find_fault(request, agreement);
  for (std::size_t at = 8; at < payload.size(); at += 4) {
    const std::uint32_t index = load_be<std::uint32_t>(payload.data() + at) - kFirstContext;
    const bool is_known = index < agreement.contexts.size();
    if (!is_known || (request.contexts >> index & 1U) != 0) {
      decision.error = WireError::invalid;
      break;
    }
    request.contexts |= 1U << index;
  }
  decision.verdict = verdict_of(decision.error);
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
  const bool is_chunk =
      agreement.extended_headers ||
      (agreement.structured_replies &&
       (request.command == Command::read || request.command == Command::block_status));
  if (!is_chunk) {
    store_be(out.data(), kMagicSimpleReply);
    store_be(out.data() + 4, static_cast<std::uint32_t>(error));
    store_be(out.data() + 8, request.cookie);
    return kSimpleReplyBytes;
  }
  if (error != WireError::none) {
    const auto head = put_chunk_header(out.data(), agreement, request, kReplyDone, kChunkError, 6);
    store_be(out.data() + head, static_cast<std::uint32_t>(error));
    store_be(out.data() + head + 4, std::uint16_t{0});
    return head + 6;
  }
  if (request.command != Command::read) {
    return put_chunk_header(out.data(), agreement, request, kReplyDone, kChunkNone, 0);
  }
  const auto head = put_chunk_header(out.data(), agreement, request, kReplyDone, kChunkOffsetData,
                                     8 + request.size_bytes);
  store_be(out.data() + head, request.offset_bytes);
  return head + 8;
}

std::size_t encode_block_status(std::span<std::byte> out, const Agreement& agreement,
                                const Request& request, std::uint32_t context,
                                std::span<const StatusExtent> extents, bool is_last) noexcept {
  UMBRA_ASSERT(out.size() >= kBlockStatusBytesMax && !extents.empty() &&
               extents.size() <= kExtentsMax);
  const bool extended = agreement.extended_headers;
  const bool only_one = (request.flags & kCommandReqOne) != 0;
  const std::size_t head = extended ? kExtendedChunkHeaderBytes + 8 : kChunkHeaderBytes + 4;
  std::uint64_t left = request.size_bytes;
  std::uint32_t count = 0;
  StatusExtent joined;  // The extent being built.
  std::byte* at = out.data() + head;
  const auto finish_extent = [&] {
    if (joined.size_bytes == 0) return;
    if (extended) {
      store_be(at, joined.size_bytes);
      store_be(at + 8, std::uint64_t{joined.flags});
    } else {
      store_be(at, static_cast<std::uint32_t>(joined.size_bytes));
      store_be(at + 4, joined.flags);
    }
    at += extended ? kExtendedExtentBytes : kExtentBytes;
    ++count;
    joined.size_bytes = 0;
  };
  for (const auto& extent : extents) {
    const auto size = std::min(extent.size_bytes, left);
    if (size == 0) continue;
    if (extent.flags != joined.flags) {
      finish_extent();
      if (only_one && count == 1) break;
      joined.flags = extent.flags;
    }
    joined.size_bytes += size;
    left -= size;
  }
  finish_extent();
  UMBRA_ASSERT(count > 0);
  const auto size = static_cast<std::size_t>(at - out.data());
  const auto flags = is_last ? kReplyDone : std::uint16_t{0};
  const auto type = extended ? kChunkBlockStatusExtended : kChunkBlockStatus;
  const std::size_t fixed =
      put_chunk_header(out.data(), agreement, request, flags, type,
                       size - (extended ? kExtendedChunkHeaderBytes : kChunkHeaderBytes));
  store_be(out.data() + fixed, context);
  if (extended) store_be(out.data() + fixed + 4, count);
  return size;
}

StatusExtent allocation_status(const block::Extent& extent) noexcept {
  return {extent.size_bytes, (extent.hole ? kStateHole : 0U) | (extent.zero ? kStateZero : 0U)};
}

}  // namespace umbra::nbd
