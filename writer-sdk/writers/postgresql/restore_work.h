// SPDX-License-Identifier: Apache-2.0
//
// PreRestore and PostRestore, without the SDK: all clusters that are to be restored are looked at
// before anything of one is moved, and what was there is removed only when the new is complete.

#pragma once

#include <string>
#include <vector>

#include "umbra/documents.h"
#include "umbra/result.h"

namespace umbra::postgresql {

struct RestoreFailure {
  std::string component{};  ///< Its name; its logical path is empty.
  Error error{};
};

/// Before the files come. `restore_command`: of the writer's configuration. Any failure: no file
/// may be written. Errors: as plan_restore(), check_destination(), set_aside(); invalid_argument
/// (no metadata of ours).
[[nodiscard]] std::vector<RestoreFailure> before_restore(const WriterComponents& part,
                                                         const std::string& restore_command);

/// After them. A cluster to which more will be restored is left as it is. One whose files are not
/// whole is a failure: if nothing was written the old files are back, else they are still aside.
/// Errors: as plan_restore(), finish_restored(), put_back(), remove_replaced().
[[nodiscard]] std::vector<RestoreFailure> after_restore(const WriterComponents& part,
                                                        const std::string& restore_command);

}  // namespace umbra::postgresql
