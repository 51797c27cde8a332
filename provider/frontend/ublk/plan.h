// SPDX-License-Identifier: Apache-2.0
//
// What a ublk device looks like and what its requests mean: everything that needs no kernel. Pure.
//
// ublk (Linux 6.1 and newer, where the distribution builds it: Debian 12's own 6.1 does not, its
// 6.12 from backports does) is a block device in the kernel whose requests a process fetches and
// answers through io_uring.

#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "engine/platform/block.h"
#include "umbra/result.h"

namespace umbra::ublk {

inline constexpr std::uint32_t kPayloadBytesMax = 128U << 10U;  // One read or write.
inline constexpr std::uint16_t kQueueDepth = 64;                // Requests in flight, per queue.
inline constexpr std::uint16_t kQueuesMax = 4;                  // Each has a thread and buffers.
inline constexpr std::uint64_t kPartBytesMax = 32U << 20U;      // One discard or write-zeroes.

// --- what the kernel offers -----------------------------------------------------------------

/// The features that we look at, by the kernel's bits.
inline constexpr std::uint64_t kRecovery = 1U << 3U;
inline constexpr std::uint64_t kRecoveryReissue = 1U << 4U;
inline constexpr std::uint64_t kUnprivileged = 1U << 5U;

/// What asking the driver has shown.
struct Offer {
  bool encoded = false;        // Commands are numbered as ioctls are; else by bare numbers.
  std::uint64_t features = 0;  // 0: this kernel does not tell (before 6.5); then by trying.
};

/// Why devices of this kernel would not survive our end, or nothing. `granted`: the flags that the
/// kernel left of those that were asked for.
[[nodiscard]] std::string why_no_recovery(std::uint64_t granted);

// --- the device -----------------------------------------------------------------------------

struct Shape {
  std::uint16_t queues = 1;
  std::uint16_t depth = kQueueDepth;
  std::uint32_t payload_bytes = kPayloadBytesMax;
  friend bool operator==(const Shape&, const Shape&) = default;
};

/// For a machine with so many processors (0: unknown).
[[nodiscard]] Shape shape_for(unsigned processors) noexcept;

/// In the kernel's terms.
struct Parameters {
  bool read_only = false;
  std::uint8_t block_shift = 9;
  std::uint64_t sectors = 0;
  std::uint32_t sectors_max = 0;          // Of one read or write.
  std::uint32_t discard_sectors_max = 0;  // 0: no discard.
  std::uint32_t zeroes_sectors_max = 0;   // 0: no write-zeroes.
};

/// The last part of a block, if the size is no multiple of it, is left out. Errors:
/// invalid_argument (blocks that no device of this kernel can have: smaller than a sector, larger
/// than a page, or no power of two; nothing to serve).
[[nodiscard]] Result<Parameters> parameters_for(const block::Geometry& geometry,
                                                const Shape& shape);

// --- its requests ---------------------------------------------------------------------------

/// As the kernel describes one.
struct Descriptor {
  std::uint32_t op_flags = 0;
  std::uint32_t sectors = 0;
  std::uint64_t start_sector = 0;
};

/// Fills op, range and flags of `request`. 0, or what to answer instead: EOPNOTSUPP, EINVAL (more
/// than the payload).
[[nodiscard]] int decode(const Descriptor& descriptor, std::uint32_t payload_bytes,
                         block::Request& request) noexcept;

/// What the kernel is told of one that has ended.
[[nodiscard]] std::int32_t result_of(const block::Request& request) noexcept;

// --- who it belongs to ----------------------------------------------------------------------

/// Stays with the device in the kernel, so that what is left of a crash is found again and a
/// stranger's device is left alone: the same for all devices of one run directory, different for
/// others', never what another server would write there.
[[nodiscard]] std::uint64_t owner_mark(std::string_view run_dir) noexcept;

/// For whoever keeps a device over our end.
[[nodiscard]] std::string saved_state(std::uint32_t id);
/// Errors: version_mismatch (of another version); invalid_argument (not a state).
[[nodiscard]] Result<std::uint32_t> parse_state(std::string_view state);

[[nodiscard]] std::string block_path(std::uint32_t id);
[[nodiscard]] std::string char_path(std::uint32_t id);

}  // namespace umbra::ublk
