// SPDX-License-Identifier: Apache-2.0
//
// The records of what is about to be frozen: RUN/frozen/SET-ID, written before the first FIFREEZE
// and deleted by the holder after the last FITHAW. A record that is found at start names file
// systems to thaw. A freeze does not outlive the machine's boot, so a record carries the boot id
// and needs no fsync.
//
//   boot 1b2c...            the id in /proc/sys/kernel/random/boot_id
//   frozen 1794 /mnt/db     a device number (st_dev) and, for people, the mount; one line per mount

#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "provider/guardian/mounts_linux.h"
#include "umbra/ids.h"
#include "umbra/result.h"

namespace umbra::guardian {

/// Errors: io_error. On failure no record is left.
[[nodiscard]] Status write_record(const std::filesystem::path& path,
                                  const std::vector<Mount>& mounts);

struct Leftover {
  std::string path;                    // Of the record.
  std::vector<std::uint64_t> devices;  // Empty: nothing to thaw (an older boot, or not readable).
};

/// What is in `directory`, which may be absent. Files that are no records of this boot come with no
/// devices.
[[nodiscard]] std::vector<Leftover> find_leftovers(const std::filesystem::path& directory);

}  // namespace umbra::guardian
