// SPDX-License-Identifier: Apache-2.0
//
// What is known of a cluster at a backup: the backup metadata of its component, which comes back at
// a restore. Text, one "key=value" a line, for people and for us. Pure.
//
//   umbra-postgresql=1                     the version of this format; readers ignore unknown keys
//   system_identifier=7711096288655696267
//   redo_lsn=0/1934B60                     where recovery of the copy starts, or later
//   freeze_flush_lsn=0/19A2C18             on disk before the instant of the copy, so in the copy
//   thaw_insert_lsn=0/19C0D40              nothing of the copy lies beyond this
//   tablespace=16385 /srv/fast archive     OID, directory, name; one line each
//
// In a value, \n stands for a line feed, \r for a carriage return and \\ for a backslash; in a
// tablespace's directory \s stands for a space.

#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "umbra/result.h"
#include "writer-sdk/writers/postgresql/layout.h"

namespace umbra::postgresql {

/// As the server writes each value; what is not known is empty.
struct BackupRecord {
  std::string cluster{};
  std::string system_identifier{};
  std::string server_version{};  ///< "150018".
  std::string data_directory{};
  std::string wal_directory{};
  std::string tablespace_directory{};
  std::vector<Tablespace> tablespaces{};
  std::string config_file{};  ///< These three often lie outside of the data directory, and are then
  std::string hba_file{};     ///< no part of the backup.
  std::string ident_file{};

  std::string data_checksums{};
  std::string wal_segment_size{};
  std::string wal_level{};
  std::string full_page_writes{};
  std::string fsync{};
  std::string archive_mode{};
  std::string in_recovery{};        ///< "t": a standby; its positions are those of replay.
  std::string replication_slots{};  ///< "kept" or "left out".

  std::string checkpoint{};  ///< "done", or why there was none.
  std::string checkpoint_lsn{};
  std::string redo_lsn{};
  std::string timeline{};
  std::string freeze_insert_lsn{};
  std::string freeze_flush_lsn{};
  std::string freeze_time{};
  std::string thaw_insert_lsn{};
  std::string thaw_flush_lsn{};
  std::string thaw_time{};

  friend bool operator==(const BackupRecord&, const BackupRecord&) = default;
};

[[nodiscard]] std::string to_text(const BackupRecord& record);
/// Total on any input. Errors: invalid_argument (not ours, a later version, a broken line, or one
/// of the fields is missing without which nothing can be restored).
[[nodiscard]] Result<BackupRecord> parse_backup_record(std::string_view text);

/// Which state a backup shows: "SYSTEM-IDENTIFIER/TIMELINE/LSN". The backup stamp.
[[nodiscard]] std::string stamp_of(const BackupRecord& record);

}  // namespace umbra::postgresql
