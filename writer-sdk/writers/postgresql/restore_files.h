// SPDX-License-Identifier: Apache-2.0
//
// The directories of a cluster that is restored: before the files come, and after.

#pragma once

#include "umbra/result.h"
#include "writer-sdk/writers/postgresql/restore_plan.h"

namespace umbra::postgresql {

/// Changes nothing. Errors: writererror_nonretryable: a server runs there (the context tells how to
/// stop it); there are files, and they may not be replaced, or are not this cluster's; a directory
/// cannot be read.
[[nodiscard]] Status check_destination(const RestorePlan& plan);

/// Moves what check_destination() found, if the plan says so, into a directory ".umbra-replaced" in
/// the same directory. Errors: writererror_nonretryable (all is back, or the context says what is
/// where).
[[nodiscard]] Status set_aside(const RestorePlan& plan);
/// Undoes set_aside(), after a restore that wrote nothing. Errors: writererror_nonretryable (a file
/// is in the way).
[[nodiscard]] Status put_back(const RestorePlan& plan);
/// Removes for good what set_aside() moved. Errors: writererror_nonretryable.
[[nodiscard]] Status remove_replaced(const RestorePlan& plan);

/// Makes a data directory of restored files: checks that they are this cluster's, makes the
/// directories that a backup leaves empty or out, sets links and permissions, removes what belongs
/// to the server of that time, writes the recovery settings. May be repeated. Errors:
/// writererror_nonretryable (what is wrong and what to do; the server must not be started).
[[nodiscard]] Status finish_restored(const RestorePlan& plan);

}  // namespace umbra::postgresql
