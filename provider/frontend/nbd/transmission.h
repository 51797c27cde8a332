// SPDX-License-Identifier: Apache-2.0
//
// NBD's transmission phase as pure functions: the 28 bytes of a request to a decision, a result to
// the bytes of a reply. No socket, no state. decide() is total: whatever the bytes, it says
// perform, refuse with an error the protocol names, finish (the client said goodbye), or disconnect
// (nothing after these bytes can be trusted, or a payload is longer than was agreed).

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
  std::uint32_t size_bytes = 0;
};

enum class Verdict : std::uint8_t { perform, refuse, finish, disconnect };

struct Decision {
  Verdict verdict = Verdict::disconnect;
  WireError error = WireError::none;  // With refuse.
  std::uint32_t payload_bytes = 0;    // Follows the request; to be read, also when refused.
  Request request;
};

/// `bytes` are kRequestBytes long. Threads: any.
[[nodiscard]] Decision decide(std::span<const std::byte> bytes,
                              const Agreement& agreement) noexcept;

/// An errno value as the protocol's error; EIO for what has no counterpart, none for 0.
[[nodiscard]] WireError wire_error(int errno_value) noexcept;

/// The longest that encode_reply() writes.
inline constexpr std::size_t kReplyHeaderBytesMax = kChunkHeaderBytes + 8;

/// The bytes before the payload, or the whole reply where there is none. A READ without error is
/// followed by exactly request.size_bytes of data. Returns the length. Threads: any.
[[nodiscard]] std::size_t encode_reply(std::span<std::byte, kReplyHeaderBytesMax> out,
                                       const Agreement& agreement, const Request& request,
                                       WireError error) noexcept;

/// The most extents that one BLOCK_STATUS reply carries.
inline constexpr std::size_t kExtentsMax = 128;
inline constexpr std::size_t kBlockStatusBytesMax =
    kChunkHeaderBytes + 4 + kExtentsMax * kExtentBytes;

/// The whole reply to a BLOCK_STATUS. Neighbours of the same kind are joined; extents that reach
/// beyond the request are cut. `extents` are 1 to kExtentsMax; `out` holds kBlockStatusBytesMax.
[[nodiscard]] std::size_t encode_block_status(std::span<std::byte> out, const Request& request,
                                              std::span<const block::Extent> extents) noexcept;

}  // namespace umbra::nbd
