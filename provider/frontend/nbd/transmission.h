// SPDX-License-Identifier: Apache-2.0
//
// NBD's transmission phase as pure functions: the 28 bytes of a request, or 32 with extended
// headers, to a decision, a result to the bytes of a reply. No socket, no state. decide() is total:
// whatever the bytes, it says perform, refuse with an error the protocol names, finish (the client
// said goodbye), or disconnect (nothing after these bytes can be trusted, or a payload is longer
// than was agreed).
//
// With extended headers a length is that of a payload exactly if the client says so; WRITE must,
// BLOCK_STATUS may (to ask for some of its contexts only), nothing else is allowed to. The payload
// of a request that is refused is read all the same.

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/platform/block.h"
#include "provider/frontend/nbd/negotiation.h"
#include "provider/frontend/nbd/protocol.h"

namespace umbra::nbd {

struct Request {
  Command command = Command::read;
  std::uint16_t flags = 0;
  std::uint64_t cookie = 0;
  std::uint64_t offset_bytes = 0;
  std::uint64_t size_bytes = 0;
  std::uint32_t contexts = ~0U;  // BLOCK_STATUS: bit i is set if the i-th selected one is asked.
};

enum class Verdict : std::uint8_t { perform, refuse, finish, disconnect };

struct Decision {
  Verdict verdict = Verdict::disconnect;
  WireError error = WireError::none;  // With refuse.
  std::uint32_t payload_bytes = 0;    // Follows the request; to be read, also when refused.
  Request request;
};

/// What a request's header has been agreed to be long.
[[nodiscard]] inline std::size_t request_bytes(const Agreement& agreement) noexcept {
  return agreement.extended_headers ? kExtendedRequestBytes : kRequestBytes;
}
/// `bytes` are request_bytes() long. Threads: any.
[[nodiscard]] Decision decide(std::span<const std::byte> bytes,
                              const Agreement& agreement) noexcept;

/// The longest payload of a BLOCK_STATUS that is worth reading.
inline constexpr std::size_t kStatusPayloadBytesMax = 8 + 4 * kContextsMax;
/// The second half of deciding on a BLOCK_STATUS that brings a payload, which is
/// decision.payload_bytes long: what it asks for is in there.
[[nodiscard]] Decision decide_status(Decision decision, std::span<const std::byte> payload,
                                     const Agreement& agreement) noexcept;

/// An errno value as the protocol's error; EIO for what has no counterpart, none for 0.
[[nodiscard]] WireError wire_error(int errno_value) noexcept;

/// The longest that encode_reply() writes.
inline constexpr std::size_t kReplyHeaderBytesMax = kExtendedChunkHeaderBytes + 8;

/// The bytes before the payload, or the whole reply where there is none. A READ without error is
/// followed by exactly request.size_bytes of data. Not for a BLOCK_STATUS without error. Returns
/// the length. Threads: any.
[[nodiscard]] std::size_t encode_reply(std::span<std::byte, kReplyHeaderBytesMax> out,
                                       const Agreement& agreement, const Request& request,
                                       WireError error) noexcept;

/// The most extents of one context that one BLOCK_STATUS reply carries.
inline constexpr std::size_t kExtentsMax = 1024;
/// Of one context.
inline constexpr std::size_t kBlockStatusBytesMax =
    kExtendedChunkHeaderBytes + 8 + kExtentsMax * kExtendedExtentBytes;

/// One context's part of the reply to a BLOCK_STATUS; `is_last`: no other follows. Neighbours of
/// the same kind are joined; extents that reach beyond the request are cut. `extents` are 1 to
/// kExtentsMax; `out` holds kBlockStatusBytesMax. Returns the length.
[[nodiscard]] std::size_t encode_block_status(std::span<std::byte> out, const Agreement& agreement,
                                              const Request& request, std::uint32_t context,
                                              std::span<const StatusExtent> extents,
                                              bool is_last) noexcept;

/// As base:allocation has it.
[[nodiscard]] StatusExtent allocation_status(const block::Extent& extent) noexcept;

}  // namespace umbra::nbd
