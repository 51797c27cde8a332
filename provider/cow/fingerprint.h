// SPDX-License-Identifier: Apache-2.0
//
// What an origin looked like, in 512 bytes of the diff area's superblock, to tell at the next open
// whether somebody wrote to it meanwhile without going through us. Pure: bytes in, bytes out.
// docs/formats/diff-area.md has the layout, docs/cowd.md what is found and what is not.
//
// Three kinds of evidence, by what our own writes can do to them before a crash:
//   identity   which file it is; nothing of ours ever changes it
//   mount      what a file system's superblock says of being mounted or repaired; changes by us are
//              written down before they reach the origin, so it is one of the last two values
//   samples    checksums of blocks spread over the origin; a block counts as long as its chunk was
//              not preserved since, and until then we do not write to it
// and two that only hold after an orderly close: the time of the last write to a file, and a
// checksum of the origin's first bytes, where file systems keep what every mount changes.

#pragma once

#include <array>
#include <bitset>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace umbra::cow {

inline constexpr std::size_t kFingerprintBytes = 512;
inline constexpr std::size_t kSamplesMax = 64;
inline constexpr std::uint32_t kSampleBytes = 4096;
/// The start of a volume in which the superblocks of ext4 and XFS lie.
inline constexpr std::size_t kMountBytes = 2048;
/// What is looked at as a whole after an orderly close.
inline constexpr std::uint64_t kHeadBytes = 128U << 10U;

/// What a superblock says of being mounted: equal values mean that no mount lies between them.
/// All zeroes: no file system that is known here.
using MountIdentity = std::array<std::byte, 32>;

/// ext2 to ext4: UUID, size, number and time of mounts, time of the last check. XFS: a checksum of
/// the superblock, which is written when the log is covered, so at each unmount and freeze.
[[nodiscard]] MountIdentity mount_identity(std::span<const std::byte, kMountBytes> start) noexcept;

struct Fingerprint {
  bool present = false;
  bool clean = false;       // change_time and head_checksum count.
  std::uint64_t epoch = 0;  // The newest one when the samples were taken.
  std::array<std::byte, 32> identity{};
  MountIdentity mount{};
  MountIdentity mount_before{};
  std::int64_t change_time = 0;  // 0: none.
  std::uint32_t head_checksum = 0;
  std::uint32_t seed = 0;  // Of the samples' places.
  std::bitset<kSamplesMax> sampled;
  std::array<std::uint32_t, kSamplesMax> samples{};

  friend bool operator==(const Fingerprint&, const Fingerprint&) = default;
};

void encode(const Fingerprint& fingerprint, std::span<std::byte, kFingerprintBytes> out) noexcept;
/// Total: what is not a fingerprint is an absent one.
[[nodiscard]] Fingerprint decode_fingerprint(
    std::span<const std::byte, kFingerprintBytes> bytes) noexcept;

/// Offsets of the samples, ascending: one in each of kSamplesMax equal parts, the first at 0; all
/// blocks of a small origin.
[[nodiscard]] std::vector<std::uint64_t> sample_offsets(std::uint64_t origin_bytes,
                                                        std::uint32_t seed);

}  // namespace umbra::cow
