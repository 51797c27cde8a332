// SPDX-License-Identifier: Apache-2.0
#include "provider/cow/fingerprint.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "engine/platform/crc32c.h"
#include "engine/platform/prng.h"

namespace umbra::cow {
namespace {

constexpr std::uint32_t kMagic = 0x31504655;  // "UFP1"
constexpr std::uint32_t kFlagClean = 1;
constexpr std::uint32_t kKindExt = 1;
constexpr std::uint32_t kKindXfs = 2;

// Everything of the kind is little-endian, and so are the machines that this is built for; bytes
// are put together by hand all the same, as in provider/format.
template <class T>
void put(std::byte* at, T value) noexcept {
  for (std::size_t i = 0; i < sizeof value; ++i) {
    at[i] = static_cast<std::byte>(static_cast<std::uint64_t>(value) >> (8 * i));
  }
}
template <class T>
[[nodiscard]] T get(const std::byte* at) noexcept {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < sizeof(T); ++i) {
    value |= static_cast<std::uint64_t>(at[i]) << (8 * i);
  }
  return static_cast<T>(value);
}

constexpr std::size_t kAtEpoch = 8;
constexpr std::size_t kAtIdentity = 16;
constexpr std::size_t kAtMount = 48;
constexpr std::size_t kAtMountBefore = 80;
constexpr std::size_t kAtChangeTime = 112;
constexpr std::size_t kAtHead = 120;
constexpr std::size_t kAtSeed = 124;
constexpr std::size_t kAtSampled = 128;
constexpr std::size_t kAtSamples = 136;
static_assert(kAtSamples + kSamplesMax * 4 <= kFingerprintBytes);

}  // namespace

MountIdentity mount_identity(std::span<const std::byte, kMountBytes> start) noexcept {
  MountIdentity result{};
  // ext2 to ext4: at 1024, numbers as in the kernel's documentation of the format.
  const std::byte* ext = start.data() + 1024;
  if (get<std::uint16_t>(ext + 0x38) == 0xEF53) {
    put<std::uint32_t>(result.data(), kKindExt);
    std::memcpy(result.data() + 4, ext + 0x68, 12);  // Of the UUID.
    std::memcpy(result.data() + 16, ext + 0x04, 4);  // Blocks.
    std::memcpy(result.data() + 20, ext + 0x2C, 4);  // Time of the last mount.
    std::memcpy(result.data() + 24, ext + 0x34, 2);  // Mounts since the last check.
    std::memcpy(result.data() + 28, ext + 0x40, 4);  // Time of the last check.
  } else if (std::memcmp(start.data(), "XFSB", 4) == 0) {
    put<std::uint32_t>(result.data(), kKindXfs);
    put<std::uint32_t>(result.data() + 4, crc32c(start.first(512)));
  }
  return result;
}

void encode(const Fingerprint& fingerprint, std::span<std::byte, kFingerprintBytes> out) noexcept {
  std::fill(out.begin(), out.end(), std::byte{0});
  if (!fingerprint.present) return;
  put<std::uint32_t>(out.data(), kMagic);
  put<std::uint32_t>(out.data() + 4, fingerprint.clean ? kFlagClean : 0);
  put<std::uint64_t>(out.data() + kAtEpoch, fingerprint.epoch);
  std::copy(fingerprint.identity.begin(), fingerprint.identity.end(), out.begin() + kAtIdentity);
  std::copy(fingerprint.mount.begin(), fingerprint.mount.end(), out.begin() + kAtMount);
  std::copy(fingerprint.mount_before.begin(), fingerprint.mount_before.end(),
            out.begin() + kAtMountBefore);
  put<std::int64_t>(out.data() + kAtChangeTime, fingerprint.change_time);
  put<std::uint32_t>(out.data() + kAtHead, fingerprint.head_checksum);
  put<std::uint32_t>(out.data() + kAtSeed, fingerprint.seed);
  put<std::uint64_t>(out.data() + kAtSampled, fingerprint.sampled.to_ullong());
  for (std::size_t i = 0; i < kSamplesMax; ++i) {
    put<std::uint32_t>(out.data() + kAtSamples + 4 * i, fingerprint.samples[i]);
  }
}

Fingerprint decode_fingerprint(std::span<const std::byte, kFingerprintBytes> bytes) noexcept {
  Fingerprint result;
  if (get<std::uint32_t>(bytes.data()) != kMagic) return result;
  result.present = true;
  result.clean = (get<std::uint32_t>(bytes.data() + 4) & kFlagClean) != 0;
  result.epoch = get<std::uint64_t>(bytes.data() + kAtEpoch);
  std::copy_n(bytes.begin() + kAtIdentity, result.identity.size(), result.identity.begin());
  std::copy_n(bytes.begin() + kAtMount, result.mount.size(), result.mount.begin());
  std::copy_n(bytes.begin() + kAtMountBefore, result.mount_before.size(),
              result.mount_before.begin());
  result.change_time = get<std::int64_t>(bytes.data() + kAtChangeTime);
  result.head_checksum = get<std::uint32_t>(bytes.data() + kAtHead);
  result.seed = get<std::uint32_t>(bytes.data() + kAtSeed);
  result.sampled = std::bitset<kSamplesMax>(get<std::uint64_t>(bytes.data() + kAtSampled));
  for (std::size_t i = 0; i < kSamplesMax; ++i) {
    result.samples[i] = get<std::uint32_t>(bytes.data() + kAtSamples + 4 * i);
  }
  return result;
}

std::vector<std::uint64_t> sample_offsets(std::uint64_t origin_bytes, std::uint32_t seed) {
  const std::uint64_t blocks = origin_bytes / kSampleBytes;
  const std::uint64_t count = std::min<std::uint64_t>(blocks, kSamplesMax);
  Prng prng(seed);
  std::vector<std::uint64_t> offsets;
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::uint64_t first = blocks * i / count;
    const std::uint64_t end = blocks * (i + 1) / count;
    const std::uint64_t block = i == 0 ? 0 : first + prng.below(end - first);
    offsets.push_back(block * kSampleBytes);
  }
  return offsets;
}

}  // namespace umbra::cow
