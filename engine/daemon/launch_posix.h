// SPDX-License-Identifier: Apache-2.0
//
// Starting umbra-cowd beside umbrad, for demo and tests. It gets a process group of its own and no
// descriptor of ours, so it outlives umbrad and no terminal signal reaches it; it finds umbrad by
// the run directory and reconnects.

#pragma once

#include <string>

#include "umbra/result.h"

namespace umbra::daemon {

/// Starts the umbra-cowd that lies beside this program, with `run_dir` and `socket`; its output
/// goes to umbra-cowd.log in the run directory. The process' id. Errors: io_error (not there, or
/// cannot be started).
[[nodiscard]] Result<int> launch_system_provider(const std::string& run_dir,
                                                 const std::string& socket);

}  // namespace umbra::daemon
