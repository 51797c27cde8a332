// SPDX-License-Identifier: Apache-2.0
//
// The directories of a cluster that is restored: before the files come, and after.

#pragma once

#include "umbra/result.h"
#include "writer-sdk/writers/postgresql/restore_plan.h"

namespace umbra::postgresql {

/// Changes nothing. Errors: writererror_nonretryable: a server runs there (the context tells how to
/// stop it); there are files, and they may not be removed, or are another cluster's; the directory
/// cannot be read.
[[nodiscard]] Status check_destination(const RestorePlan& plan);

/// Removes what check_destination() found, if the plan says so; directories stay. Errors:
/// writererror_nonretryable (some are gone then; call again).
[[nodiscard]] Status clear_destination(const RestorePlan& plan);

/// Makes a data directory of restored files: checks that they are this cluster's, makes the
/// directories that a backup leaves empty or out, sets links and permissions, removes what belongs
/// to the server of that time, writes the recovery settings. May be repeated. Errors:
/// writererror_nonretryable (what is wrong and what to do; the server must not be started).
[[nodiscard]] Status finish_restored(const RestorePlan& plan);

}  // namespace umbra::postgresql
