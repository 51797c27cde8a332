// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// Which volumes the files of components lie on. What is mounted below a recursive file set belongs
// to it: a copy shows the directory of a mount, not what is mounted there, so that volume has to be
// in the set, too. What lies on no block device (/proc, tmpfs, the network) is left out there.
// Pure.

#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "requester-sdk/src/mounts.h"
#include "umbra/documents.h"
#include "umbra/requester/types.h"

namespace umbra::requester {

/// A device that files lie on, and for whose sake it is asked for.
struct NeededDevice {
  std::uint64_t device = 0;  // 0: not to be found out.
  std::string directory;
  bool mounted_below = false;  // `directory` is a mount below a recursive file set.
};

/// Each device once, in the order in which it is met. Directories of alternate paths count instead
/// of those they stand for, as in a backup.
[[nodiscard]] std::vector<NeededDevice> needed_devices(
    std::span<const FileSet> files, const std::vector<Mount>& mounts,
    const std::function<std::uint64_t(const std::string& directory)>& device_of);

/// The file sets of a component and of all that comes with it; empty if there is no such component.
[[nodiscard]] std::vector<FileSet> files_of(const WriterMetadataDocument& writer,
                                            std::string_view logical_path, std::string_view name);

/// The mount that shows `path`, an absolute one without links: that with the longest point above
/// it, of several the last. Null: none.
[[nodiscard]] const Mount* mount_above(const std::vector<Mount>& mounts, std::string_view path);

}  // namespace umbra::requester
