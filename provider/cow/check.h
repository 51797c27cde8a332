// SPDX-License-Identifier: Apache-2.0
//
// Looking at a diff area without a volume: is every structure what it should be, and do they agree
// with each other? The origin is not needed. Nothing is written unless repair is asked for, and
// then only the damaged one of two places of which the other is good: never anything that exists
// once.
//
// With `data`, everything that a snapshot needs is read and compared with its checksums as well
// (scrub). Volume::scrub() does that for an attached one.

#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "engine/platform/block.h"
#include "umbra/ids.h"
#include "umbra/result.h"

namespace umbra::cow {

inline constexpr std::size_t kFindingsMax = 1000;  // More are only counted.

struct Finding {
  enum class Kind : std::uint8_t {
    unfinished,  // What a crash leaves; the next open settles it.
    repairable,  // One of two places is damaged, the other is good.
    repaired,    // It was.
    damage,      // Cannot be had back.
  };
  Kind kind = Kind::damage;
  std::uint64_t offset_bytes = 0;  // In the diff area.
  std::string what;
  std::vector<SnapshotId> snapshots;  // Which it costs, wholly or in part.
};

/// "damage". Static storage.
[[nodiscard]] constexpr const char* text_of(Finding::Kind kind) noexcept {
  switch (kind) {
    case Finding::Kind::unfinished: return "unfinished";
    case Finding::Kind::repairable: return "repairable";
    case Finding::Kind::repaired: return "repaired";
    case Finding::Kind::damage: break;
  }
  return "damage";
}

struct CheckOptions {
  bool repair = false;
  bool data = false;
  std::int64_t now_filetime = 0;  // For retention locks; a volume's own highest time counts too.
  Guid boot_id;  // Of the running machine: tells a killed process from a power cut.
  /// Called before every read of preserved data: how much has been read, of how much. False: stop.
  /// Whoever wants a rate limit waits in it. Empty: nobody looks.
  std::function<bool(std::uint64_t done_bytes, std::uint64_t total_bytes)> progress;
};

struct CheckReport {
  bool clean_shutdown = false;
  bool complete = true;  // False: stopped by `progress`.
  std::uint64_t snapshots = 0;
  std::uint64_t snapshots_lost = 0;  // Were so before; no finding.
  std::uint64_t blobs = 0;
  std::uint64_t groups = 0;
  std::uint64_t records = 0;
  std::uint64_t chunks_verified = 0;
  std::uint64_t chunks_unchecked = 0;  // Their checksums were not taken yet.
  std::uint64_t unfinished = 0;
  std::uint64_t repairable = 0;
  std::uint64_t repaired = 0;
  std::uint64_t damaged = 0;
  std::vector<Finding> findings;
  std::vector<SnapshotId> snapshots_damaged;  // Of all findings, each once.
  /// Under retention lock: a repair costs none of them, and the area is not to be overwritten.
  std::vector<SnapshotId> snapshots_locked;
  std::vector<std::string> locks;  // The same, in words.

  void add(Finding finding);
};

/// Checks `diff`, which nobody has open. Blocks: reads the table, both places of the index, the
/// blobs, and with `data` what snapshots need. What was found is in the report, also damage that
/// keeps the area from being opened. Errors: diff_area_foreign, diff_area_version,
/// diff_area_corrupt (neither superblock is good: nothing else can be looked at); io_error (also a
/// repair that could not be written; what was repaired before stays so).
[[nodiscard]] Result<CheckReport> check(block::Device& diff, const CheckOptions& options);

}  // namespace umbra::cow
