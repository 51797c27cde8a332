// SPDX-License-Identifier: Apache-2.0
//
// What has to be true before and after the files of a cluster are put back: decided from the backup
// metadata and the requester's wishes, without looking at a disk. Pure.
//
// The restore options of the component are a list: "Option"="Value", "Option"="Value"
// (quotes may be left out where a value holds no comma; \" and \\ inside of quotes).
//
//   existing                  refuse (default): the directories must be empty or missing.
//                             replace: this cluster's old files are moved aside first, and removed
//                             when the restored ones are complete
//   recovery_target, recovery_target_time, recovery_target_lsn, recovery_target_xid,
//   recovery_target_name, recovery_target_inclusive, recovery_target_timeline,
//   recovery_target_action    PostgreSQL's settings of that name, for a point in time
//
// restore_command is none of them: the server runs it with its own rights, so only the writer's
// configuration can set it, not whoever may ask umbrad for a restore.
//
// SetRollForward does the same in VSS's words: `all` is recovery to the end of the archive,
// `partial` to a point: a time, or "lsn:0/19A2C18", "xid:1234", "name:before upgrade".

#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "umbra/documents.h"
#include "umbra/result.h"
#include "writer-sdk/writers/postgresql/backup_record.h"

namespace umbra::postgresql {

using Settings = std::vector<std::pair<std::string, std::string>>;

struct RestorePlan {
  std::string cluster{};
  std::string system_identifier{};
  std::string major_version{};  ///< "15".
  std::string data{};           ///< Where the files come to lie.
  std::string wal{};
  std::vector<Tablespace> tablespaces{};
  std::string tablespace_directory{};
  bool replace_existing = false;
  bool recover_to_target = false;  ///< Make recovery.signal.
  Settings settings{};             ///< For postgresql.auto.conf.
};

/// `restore_command`: of the configuration, for recovery to a target; may be empty. Errors:
/// invalid_argument (an option that is none; names what there is), bad_state (a part of a cluster
/// alone), writererror_nonretryable (a recovery target before the backup).
[[nodiscard]] Result<RestorePlan> plan_restore(const BackupRecord& record,
                                               const BackupComponent& component,
                                               const std::string& restore_command);

/// The list above. Errors: invalid_argument.
[[nodiscard]] Result<Settings> parse_restore_options(std::string_view text);

/// Lines for postgresql.auto.conf.
[[nodiscard]] std::string settings_text(const Settings& settings);

}  // namespace umbra::postgresql
