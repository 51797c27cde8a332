// SPDX-License-Identifier: Apache-2.0
#include "bench/load/content.h"

#include <algorithm>
#include <cstring>

#include "bench/harness/failure.h"
#include "engine/platform/crc32c.h"
#include "engine/platform/prng.h"

namespace umbra::bench {

Content::Content(std::uint64_t size_bytes, std::uint64_t seed)
    : seed_(seed), versions_(size_bytes / kGranule) {
  Prng prng(seed);
  // No zeroes in it: a store that leaves those out would be measured by what it does not do.
  for (auto& byte : pattern_) byte = static_cast<std::byte>(1 + prng.below(255));
}

void Content::prepare_buffer(std::span<std::byte> buffer) const {
  for (std::size_t at = 0; at < buffer.size(); at += kGranule) {
    std::memcpy(buffer.data() + at, pattern_.data(), kGranule);
  }
}

void Content::write(std::uint64_t offset_bytes, std::span<std::byte> buffer) {
  for (std::size_t at = 0; at < buffer.size(); at += kGranule) {
    const std::uint64_t granule = (offset_bytes + at) / kGranule;
    versions_[granule] = version_;
    const Stamp now = stamp(granule);
    std::memcpy(buffer.data() + at, &now, sizeof now);
  }
}

bool Content::looks_right(std::uint64_t offset_bytes,
                          std::span<const std::byte> bytes) const noexcept {
  for (std::size_t at = 0; at < bytes.size(); at += kGranule) {
    const Stamp wanted = stamp((offset_bytes + at) / kGranule);
    if (std::memcmp(bytes.data() + at, &wanted, sizeof wanted) != 0) return false;
  }
  return true;
}

std::uint32_t Content::check(std::uint64_t offset_bytes, std::span<const std::byte> bytes,
                             std::uint32_t digest, const std::string& what) const {
  return check_since(*this, offset_bytes, bytes, digest, what);
}

void Content::follow(const Content& newer, std::uint64_t offset_bytes, std::uint64_t size_bytes) {
  for (std::uint64_t at = 0; at < size_bytes; at += kGranule) {
    const std::uint64_t granule = (offset_bytes + at) / kGranule;
    versions_[granule] = newer.versions_[granule];
  }
}

std::uint32_t Content::check_since(const Content& earliest, std::uint64_t offset_bytes,
                                   std::span<const std::byte> bytes, std::uint32_t digest,
                                   const std::string& what) const {
  for (std::size_t at = 0; at < bytes.size(); at += kGranule) {
    const std::uint64_t granule = (offset_bytes + at) / kGranule;
    const Stamp latest = stamp(granule);
    const std::uint32_t first = earliest.versions_[granule];
    const std::byte* const seen = bytes.data() + at;
    Stamp found = {};
    std::memcpy(&found, seen, sizeof found);
    const bool is_right =
        found.granule == latest.granule && found.seed == latest.seed && found.version >= first &&
        found.version <= latest.version &&
        std::equal(seen + sizeof found, seen + kGranule, pattern_.begin() + sizeof found);
    if (is_right) continue;
    give_up(what + " holds wrong data at " + std::to_string(offset_bytes + at) + ": write " +
            std::to_string(found.version) + " of place " + std::to_string(found.granule) +
            " where write " +
            (first == latest.version ? std::string() : std::to_string(first) + " to ") +
            std::to_string(latest.version) + " of place " + std::to_string(granule) + " should be");
  }
  return crc32c(bytes, digest);
}

}  // namespace umbra::bench
