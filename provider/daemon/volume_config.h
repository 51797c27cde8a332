// SPDX-License-Identifier: Apache-2.0
//
// What is kept about an attached volume so that a restart attaches it again, and what a request to
// attach must look like. Pure: no file is touched here.
//
// A configuration is one small JSON object in a file of its own. Everything else about a volume
// (chunk size, snapshots, maximum of the diff area) is in its diff area. Reading is total: bytes
// that are not such an object are refused with what is wrong, never guessed at.

#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "engine/rpc/messages.h"
#include "provider/cow/volume.h"
#include "provider/daemon/front_end_choice.h"
#include "umbra/ids.h"
#include "umbra/result.h"

namespace umbra::cowd {

inline constexpr int kConfigFormat = 1;
inline constexpr std::size_t kConfigBytesMax = 64 * 1024;
inline constexpr std::size_t kVolumeNameBytesMax = 64;
inline constexpr std::size_t kPathBytesMax = 4095;
/// Volumes attached at a time.
inline constexpr std::size_t kVolumesMax = 256;
inline constexpr std::uint64_t kOriginBytesMax = std::uint64_t{1} << 50U;

struct VolumeConfig {
  VolumeId volume_id;
  std::string name;
  std::string origin_path;  // Absolute, any bytes.
  std::string diff_area_path;
  Expose expose = Expose::automatic;
  bool direct = false;   // The origin's file without the page cache.
  bool reflink = false;  // Old data is shared with the origin.
  std::uint32_t snapshots_max = cow::kSnapshotsMax;
  bool copy_free_blocks = false;  // Nothing is exempt from copying.
  /// Grows with every attach. Re-attaching follows it: a volume that lies on another one was
  /// attached after it.
  std::uint64_t order = 0;
  /// The volumes that it lay on when it was attached. Without them its paths must not be looked at:
  /// whoever does so waits for them.
  std::vector<VolumeId> hosts;
  /// The diff area is being moved there (volume_moves.cc); empty: it is not. Whoever reads this at
  /// a start has to find out which of the two counts before either is used.
  std::string moving_to;
  bool moving_makes = false;  // The move makes that file: it goes if the move fails.

  friend bool operator==(const VolumeConfig&, const VolumeConfig&) = default;
};

/// Ends with a newline.
[[nodiscard]] std::string to_text(const VolumeConfig& config);
/// Errors: invalid_argument (not a configuration: says why); version_mismatch (a newer format).
[[nodiscard]] Result<VolumeConfig> parse_config(std::string_view text);

/// The configuration that the request asks for, without an id; the name is filled in from the
/// origin's file name. Errors: invalid_argument (names the member and what to do).
[[nodiscard]] Result<VolumeConfig> check_request(const rpc::AttachVolume& request);

/// An absolute path of usable bytes, without what says nothing ("//", "/./"). `what`: for the
/// error. Errors: invalid_argument.
[[nodiscard]] Result<std::string> check_path(std::string_view path, std::string_view what);

/// 1 to 64 of A-Z a-z 0-9 . _ -, the first a letter or digit, and not the form of an id, which
/// names a volume or copy by itself. Errors: invalid_argument.
[[nodiscard]] Status check_volume_name(std::string_view name);

}  // namespace umbra::cowd
