// SPDX-License-Identifier: Apache-2.0
//
// The one map from what went wrong to the exit status of `umbra`; docs/cli.md repeats it for
// people. Statuses are part of the interface: they never change their meaning.

#pragma once

#include <string>

#include "umbra/requester/types.h"

namespace umbra::cli {

enum class ExitCode : int {
  done = 0,
  failed = 1,        // Something is broken or lost; a person has to look.
  usage = 2,         // The command line is wrong.
  in_part = 3,       // Done, but not all of it: the output says what is missing.
  unreachable = 10,  // umbrad, or the provider that is needed, is not running.
  busy = 11,         // Something else is in the way; the same command may work in a while.
  denied = 12,       // Not allowed to this user.
  not_found = 13,    // No such volume, snapshot or set.
  refused = 14,      // The request cannot work like this.
  writer_failed = 15,
  exec_failed = 125,  // `umbra exec`: umbra itself failed; the command did not run.
  interrupted = 130,
};

[[nodiscard]] ExitCode exit_code_for(const Error& error) noexcept;

/// The section that every --help ends with.
[[nodiscard]] std::string exit_status_help();

}  // namespace umbra::cli
