// SPDX-License-Identifier: Apache-2.0
//
// One database file that is about to be replaced, and has been. What SQLite keeps beside it (-wal,
// -journal, super-journals, -shm) belongs to the old content: replayed into the new one it would
// destroy it. So it is renamed out of the way before, to ".NAME-wal.before-restore", put back if
// nothing was replaced, and removed once the new database has proved good. The names on disk are
// all the memory there is: it works across restarts of this process.

#pragma once

#include <string>

#include "umbra/result.h"

namespace umbra::sqlite {

/// Errors carry the file's name and a writer's code. Threads: distinct paths are independent.
class DatabaseRestore {
 public:
  /// Touches nothing yet. `path` is absolute; neither it nor its directory need exist.
  explicit DatabaseRestore(std::string path) : path_(std::move(path)) {}

  /// Sets aside what is beside the database. Errors: writererror_retryable (a process has it open,
  /// as far as this one may look at others); writererror_nonretryable (the file system refuses;
  /// then nothing has been set aside).
  [[nodiscard]] Status begin();
  /// Nothing was replaced: as it was before begin().
  [[nodiscard]] Status put_back();
  /// It was replaced: opens it, which lets SQLite recover it, and reads all of it (PRAGMA
  /// integrity_check). If it is good, what was set aside is removed. Errors:
  /// writererror_nonretryable (damaged, or not a database; what was set aside is kept).
  [[nodiscard]] Status finish();

 private:
  [[nodiscard]] Status move_sides(bool aside);

  std::string path_;
};

}  // namespace umbra::sqlite
