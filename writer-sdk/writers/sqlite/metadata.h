// SPDX-License-Identifier: Apache-2.0
//
// What this writer tells in Identify. Each database file is one component of type database:
// logical path its directory, name its file name; so that a requester can back up one of many, and
// people recognise it.
//
// Its files are the database and, because they hold committed data or are needed to undo
// uncommitted data, its -wal, -journal and super-journals. The latter need not exist, so they are
// patterns that may match nothing. The -shm is rebuilt by the first who opens the database, and is
// excluded. Restoring replaces the files, with this writer's part in it: a -wal or -journal that is
// left from before must go first, or SQLite would replay it into the restored file.

#pragma once

#include <string>
#include <vector>

#include "umbra/documents.h"

namespace umbra::sqlite {

/// The component of one database. `path` is absolute and normal.
[[nodiscard]] ComponentInfo describe_database(const std::string& path);
[[nodiscard]] std::vector<FileSet> describe_excludes(const std::vector<std::string>& paths);
[[nodiscard]] RestoreRules describe_restore();

/// Where the database of a component that is being restored goes: the requester's new target, or
/// its own place.
[[nodiscard]] std::string restored_path(const BackupComponent& component);

/// The file that SQLite will use for `path`: links followed, as SQLite does to find the -wal. The
/// path itself where nothing is there.
[[nodiscard]] std::string real_path(const std::string& path);

}  // namespace umbra::sqlite
