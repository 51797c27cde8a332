// SPDX-License-Identifier: Apache-2.0
//
// The questions that a server is asked. Each is one short statement without a transaction of ours;
// none takes a lock or writes.
//
// Needs of the role: pg_monitor (or pg_read_all_settings) to be told where the data directory is;
// pg_checkpoint for the checkpoint.

#pragma once

#include "umbra/result.h"
#include "writer-sdk/writers/postgresql/backup_record.h"
#include "writer-sdk/writers/postgresql/connection.h"
#include "writer-sdk/writers/postgresql/layout.h"

namespace umbra::postgresql {

inline constexpr int kServerVersionMin = 100000;

struct Facts {
  Layout layout{};
  BackupRecord record{};  ///< What is known before a checkpoint.
};

/// Asks the server and looks at its files, which must be the same cluster's: a connection may lead
/// to another machine or container. Errors: as Connection and data_directory.h.
[[nodiscard]] Result<Facts> ask_facts(Connection& connection, const Limit& limit);

/// A checkpoint, so that recovery of the copy is short. `record.checkpoint` says what became of it:
/// too slow or not permitted is no failure, recovery then takes longer. Errors: as Connection.
[[nodiscard]] Status ask_checkpoint(Connection& connection, const Limit& limit,
                                    BackupRecord& record);
/// Where recovery would start now. Errors: as Connection.
[[nodiscard]] Status ask_control(Connection& connection, const Limit& limit, BackupRecord& record);

/// Position in the WAL: (insert, flush, time); on a standby what was received and replayed.
[[nodiscard]] const std::string& position_sql();

}  // namespace umbra::postgresql
