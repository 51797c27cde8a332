// SPDX-License-Identifier: Apache-2.0
//
// What guardian, umbra-cowd and the holder processes say to each other; docs/guardian.md is the
// reference. One message per datagram of a SOCK_SEQPACKET pair, descriptors beside it. The layout
// is one for all kinds, little-endian, and does not depend on the compiler: the guardian outlives
// an upgrade of umbra-cowd, so the two may come from different builds.
//
//   0 magic u32 · 4 version u16 · 6 kind u16 · 8 id u32 · 12 code u32 · 16 set 16 bytes
//   32 limit_ms u32 · 36 lease_ms u32 · 40 flag u32 · 44 device count u32 · 48 text count u32
//   52 devices u64 each, then texts: length u32 and bytes each; nothing may follow
//
// Decoding is total: any bytes give a message or an error.

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "umbra/ids.h"
#include "umbra/result.h"

namespace umbra::guardian {

inline constexpr std::uint32_t kMagic = 0x44524755;  // "UGRD"
inline constexpr std::uint16_t kVersion = 1;

inline constexpr std::size_t kDatagramBytesMax = 96 * 1024;
inline constexpr std::size_t kDevicesMax = 256;
inline constexpr std::size_t kTextsMax = 256;
inline constexpr std::size_t kMountsMax = 128;  // One message carries as many descriptors.

enum class Kind : std::uint16_t {
  // umbra-cowd to guardian; each is answered by one `reply` with the same id.
  hello = 1,
  keep = 2,     // texts: name, payload; one descriptor.
  kept = 3,     // devices: index. The reply has texts name, payload and the descriptor, or
                // object_not_found past the last.
  drop = 4,     // texts: name.
  flush = 5,    // devices, limit_ms.
  freeze = 6,   // set, devices, limit_ms, lease_ms. The reply has texts: mount paths; descriptors:
                // the holder's socket, then one per mount.
  serving = 7,  // Everything that was kept is served again.
  cancel =
      8,  // devices: the id of a flush or freeze, which gets no reply; what it froze is thawed.
  reply = 16,  // code; texts: context when code is not ok.

  // Guardian or umbra-cowd to a holder.
  go = 32,
  thaw = 33,
  // A holder to the guardian (all) and to umbra-cowd (thawed).
  opened = 48,  // devices, texts: mount paths; a descriptor per mount.
  frozen = 49,
  failed = 50,  // code; texts: context. Everything it froze is being thawed.
  thawed = 51,  // Its last message. flag: 1 if everything was frozen from `frozen` to the request
                // to thaw. texts: what was odd, if anything. To umbra-cowd one descriptor, if
                // the flag is 1 and free blocks are known: free_list.h.
  flushed = 52,
};

struct Message {
  Kind kind = Kind::hello;
  std::uint32_t id = 0;
  Errc code = Errc::ok;
  bool flag = false;
  SnapshotSetId set{};
  std::uint32_t limit_ms = 0;
  std::uint32_t lease_ms = 0;
  std::vector<std::uint64_t> devices{};
  std::vector<std::string> texts{};

  friend bool operator==(const Message&, const Message&) = default;
};

/// Errors: limit_reached (longer than kDatagramBytesMax, or too many devices or texts).
[[nodiscard]] Result<std::vector<std::byte>> encode(const Message& message);
/// Errors: version_mismatch (another kVersion); protocol_violation (anything else).
[[nodiscard]] Result<Message> decode(std::span<const std::byte> datagram);

}  // namespace umbra::guardian
