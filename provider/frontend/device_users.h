// SPDX-License-Identifier: Apache-2.0
//
// Whether anybody has a block device: what has to be known before one is taken away. Never in the
// process that serves the device.

#pragma once

#include <string>

#include "engine/platform/unique_fd.h"
#include "umbra/result.h"

namespace umbra::frontend {

/// No process has it open, by the names of what processes have open: nothing is touched. What goes
/// by itself (a probe of udev's) is waited for, at most 2 s.
[[nodiscard]] bool is_let_go(const std::string& device);

/// As long as the answer lives nobody can mount it, in whatever namespace, swap to it or map it;
/// who does so already is waited for, at most 2 s. Empty: there is no such device any more. Errors:
/// volume_in_use; io_error.
[[nodiscard]] Result<UniqueFd> claim(const std::string& device);

/// Nobody has it open or mounted, and what its former users wrote has been flushed; as claim().
[[nodiscard]] Result<UniqueFd> claim_unused(const std::string& device);

}  // namespace umbra::frontend
