// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// For writers that announce files which are of no use in a copy (add_exclude_files_from_snapshot:
// caches, search indexes): what takes them out of it, in on_post_snapshot, while it can still be
// written.
//
//   // the copy of the volume that is mounted on /srv is mounted on `mounted`:
//   auto report = umbra::writer::delete_excluded_files(context.metadata()->excludes_from_snapshot,
//                                                      {.volume = "/srv", .copy = mounted});
//
// As in VSS it is best effort, and no use with attribute::kNoAutorecovery: that copy is read-only.

#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "umbra/documents.h"
#include "umbra/result.h"
#include "umbra/writer/export.h"

namespace umbra::writer {

struct ExclusionReport {
  std::uint64_t deleted = 0;  ///< Files.
  std::uint64_t bytes = 0;    ///< That they took.
  /// "PATH: why", of the first kFailuresMax that are still there; `failed` counts all.
  std::vector<std::string> failures{};
  std::uint64_t failed = 0;

  static constexpr std::size_t kFailuresMax = 100;
};

/// Where a volume and its copy are mounted: absolute paths.
struct MountedCopy {
  std::string volume{};
  std::string copy{};  ///< Read-write.
};

/// Deletes the files of `files` in the copy that is mounted on `mounted.copy`. File sets outside of
/// `mounted.volume` are passed over, and so is what is mounted on top of it. Directories stay.
/// Links are not followed, so nothing outside of the copy is ever touched. Blocks for the disk; cut
/// it short by unmounting lazily, or give file sets that are not large. Errors: invalid_argument (a
/// path is not absolute); io_error, access_denied (the copy cannot be opened; nothing was deleted);
/// bad_state (it is not another file system than the volume: the live files would go). Threads:
/// any, not in one copy at a time.
[[nodiscard]] UMBRA_WRITER_EXPORT Result<ExclusionReport> delete_excluded_files(
    const std::vector<FileSet>& files, const MountedCopy& mounted);

}  // namespace umbra::writer
