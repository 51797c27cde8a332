// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// Which file system is mounted where, in the kernel's words (mountinfo of proc(5)). Pure.

#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "umbra/documents.h"

namespace umbra::requester {

struct Mount {
  std::uint64_t device = 0;  // st_dev of the files on it.
  MountPoint where;
  std::string file_system;   // "ext4"
  bool block_device = true;  // It lies on one; not so /proc, tmpfs or what is on the network.
};

/// Lines of another form are left out.
[[nodiscard]] std::vector<Mount> parse_mountinfo(std::string_view text);

/// Of this process. Empty where the kernel does not tell.
[[nodiscard]] std::vector<Mount> own_mounts();

}  // namespace umbra::requester
