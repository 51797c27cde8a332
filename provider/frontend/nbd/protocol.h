// SPDX-License-Identifier: Apache-2.0
//
// The numbers of the NBD protocol (the reference is proto.md of the NBD project; extended headers
// are in its branch extension-ext-header), and big-endian access to bytes. Only what this server
// speaks: fixed newstyle negotiation with TLS, simple and structured replies, extended headers,
// metadata contexts.

#pragma once

#include <cstddef>
#include <cstdint>

namespace umbra::nbd {

inline constexpr std::uint64_t kMagicGreeting = 0x4E42444D41474943;  // "NBDMAGIC"
inline constexpr std::uint64_t kMagicOption = 0x49484156454F5054;    // "IHAVEOPT"
inline constexpr std::uint64_t kMagicOptionReply = 0x0003E889045565A9;
inline constexpr std::uint32_t kMagicRequest = 0x25609513;
inline constexpr std::uint32_t kMagicSimpleReply = 0x67446698;
inline constexpr std::uint32_t kMagicStructuredReply = 0x668E33EF;
inline constexpr std::uint32_t kMagicExtendedRequest = 0x21E41C71;
inline constexpr std::uint32_t kMagicExtendedReply = 0x6E8A278C;

// Handshake flags, the server's and the client's have the same numbers.
inline constexpr std::uint32_t kFlagFixedNewstyle = 1U << 0U;
inline constexpr std::uint32_t kFlagNoZeroes = 1U << 1U;

// Transmission flags.
inline constexpr std::uint16_t kHasFlags = 1U << 0U;
inline constexpr std::uint16_t kReadOnly = 1U << 1U;
inline constexpr std::uint16_t kSendFlush = 1U << 2U;
inline constexpr std::uint16_t kSendFua = 1U << 3U;
inline constexpr std::uint16_t kSendTrim = 1U << 5U;
inline constexpr std::uint16_t kSendWriteZeroes = 1U << 6U;
inline constexpr std::uint16_t kSendDf = 1U << 7U;
inline constexpr std::uint16_t kCanMultiConn = 1U << 8U;
inline constexpr std::uint16_t kSendCache = 1U << 10U;
inline constexpr std::uint16_t kSendFastZero = 1U << 11U;
inline constexpr std::uint16_t kBlockStatusPayload = 1U << 12U;

enum class Option : std::uint32_t {
  export_name = 1,
  abort = 2,
  list = 3,
  starttls = 5,
  info = 6,
  go = 7,
  structured_reply = 8,
  list_meta_context = 9,
  set_meta_context = 10,
  extended_headers = 11,
};

enum class OptionReply : std::uint32_t {
  ack = 1,
  server = 2,
  info = 3,
  meta_context = 4,
  unsupported = 0x80000001,
  policy = 0x80000002,
  invalid = 0x80000003,
  tls_required = 0x80000005,
  unknown = 0x80000006,
  too_big = 0x80000009,
  extended_headers_required = 0x8000000A,
};

inline constexpr std::uint16_t kInfoExport = 0;
inline constexpr std::uint16_t kInfoName = 1;
inline constexpr std::uint16_t kInfoDescription = 2;
inline constexpr std::uint16_t kInfoBlockSize = 3;

enum class Command : std::uint16_t {
  read = 0,
  write = 1,
  disconnect = 2,
  flush = 3,
  trim = 4,
  cache = 5,
  write_zeroes = 6,
  block_status = 7,
};

inline constexpr std::uint16_t kCommandFua = 1U << 0U;
inline constexpr std::uint16_t kCommandNoHole = 1U << 1U;
inline constexpr std::uint16_t kCommandDf = 1U << 2U;
inline constexpr std::uint16_t kCommandReqOne = 1U << 3U;
inline constexpr std::uint16_t kCommandFastZero = 1U << 4U;
inline constexpr std::uint16_t kCommandPayloadLength = 1U << 5U;  // Extended headers only.

inline constexpr std::uint16_t kReplyDone = 1U << 0U;

inline constexpr std::uint16_t kChunkNone = 0;
inline constexpr std::uint16_t kChunkOffsetData = 1;
inline constexpr std::uint16_t kChunkBlockStatus = 5;
inline constexpr std::uint16_t kChunkBlockStatusExtended = 6;
inline constexpr std::uint16_t kChunkError = 0x8001;

inline constexpr std::uint32_t kStateHole = 1U << 0U;
inline constexpr std::uint32_t kStateZero = 1U << 1U;
inline constexpr std::uint32_t kStateDirty = 1U << 0U;  // Of qemu:dirty-bitmap.

/// The only values of the error field.
enum class WireError : std::uint32_t {
  none = 0,
  perm = 1,
  io = 5,
  no_memory = 12,
  invalid = 22,
  no_space = 28,
  overflow = 75,
  not_supported = 95,
  shutdown = 108,
};

// Sizes on the wire.
inline constexpr std::size_t kGreetingBytes = 18;
inline constexpr std::size_t kOptionHeaderBytes = 16;
inline constexpr std::size_t kOptionReplyHeaderBytes = 20;
inline constexpr std::size_t kRequestBytes = 28;
inline constexpr std::size_t kExtendedRequestBytes = 32;
inline constexpr std::size_t kSimpleReplyBytes = 16;
inline constexpr std::size_t kChunkHeaderBytes = 20;
inline constexpr std::size_t kExtendedChunkHeaderBytes = 32;
inline constexpr std::size_t kExtentBytes = 8;
inline constexpr std::size_t kExtendedExtentBytes = 16;
inline constexpr std::size_t kExportNameZeroes = 124;

template <class T>
inline void store_be(std::byte* to, T value) noexcept {
  for (std::size_t i = sizeof(T); i-- > 0;) {
    to[i] = static_cast<std::byte>(value & 0xFFU);
    value = static_cast<T>(static_cast<std::uint64_t>(value) >> 8U);
  }
}
template <class T>
[[nodiscard]] inline T load_be(const std::byte* from) noexcept {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < sizeof(T); ++i) {
    value = (value << 8U) | std::to_integer<std::uint64_t>(from[i]);
  }
  return static_cast<T>(value);
}

}  // namespace umbra::nbd
