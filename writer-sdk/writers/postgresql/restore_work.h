// SPDX-License-Identifier: Apache-2.0
//
// PreRestore and PostRestore, without the SDK: all clusters that are to be restored are looked at
// before anything of one is removed.

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

/// Before the files come. Any failure: no file may be written. Errors: as plan_restore(),
/// check_destination(), clear_destination(); invalid_argument (no metadata of ours).
[[nodiscard]] std::vector<RestoreFailure> before_restore(const WriterComponents& part);

/// After them. A cluster whose files are not whole, or to which more will be restored, is left as
/// it is; the former is a failure. Errors: as plan_restore(), finish_restored().
[[nodiscard]] std::vector<RestoreFailure> after_restore(const WriterComponents& part);

}  // namespace umbra::postgresql
