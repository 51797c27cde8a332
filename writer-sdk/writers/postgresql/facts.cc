// SPDX-License-Identifier: Apache-2.0

#include "writer-sdk/writers/postgresql/facts.h"

#include <algorithm>
#include <array>
#include <utility>

#include "writer-sdk/writers/postgresql/data_directory.h"

namespace umbra::postgresql {

namespace {

// In the order of the columns. stats_temp_directory went in PostgreSQL 15.
constexpr std::array kColumns = {&BackupRecord::data_directory,  &BackupRecord::config_file,
                                 &BackupRecord::hba_file,        &BackupRecord::ident_file,
                                 &BackupRecord::server_version,  &BackupRecord::data_checksums,
                                 &BackupRecord::wal_level,       &BackupRecord::full_page_writes,
                                 &BackupRecord::fsync,           &BackupRecord::archive_mode,
                                 &BackupRecord::in_recovery,     &BackupRecord::system_identifier,
                                 &BackupRecord::wal_segment_size};

constexpr const char* kSettingsSql =
    "SELECT current_setting('data_directory'), current_setting('config_file'),"
    " current_setting('hba_file'), current_setting('ident_file'),"
    " current_setting('server_version_num'), current_setting('data_checksums'),"
    " current_setting('wal_level'), current_setting('full_page_writes'),"
    " current_setting('fsync'), current_setting('archive_mode'), pg_is_in_recovery(),"
    " (SELECT system_identifier FROM pg_control_system()),"
    " (SELECT bytes_per_wal_segment FROM pg_control_init()),"
    " current_setting('stats_temp_directory', true)";

constexpr const char* kTablespacesSql =
    "SELECT oid, spcname FROM pg_tablespace WHERE spcname NOT IN ('pg_default', 'pg_global')";

constexpr const char* kControlSql =
    "SELECT checkpoint_lsn, redo_lsn, timeline_id FROM pg_control_checkpoint()";

// One row of so many columns, or what went wrong.
Result<Row> ask_row(Connection& connection, const std::string& sql, const Limit& limit,
                    std::size_t columns) {
  auto rows = connection.query(sql, limit);
  if (!rows) return fail(std::move(rows.error()));
  if (rows->size() != 1 || rows->front().size() != columns) {
    return fail(Errc::writererror_nonretryable, "an answer of an unexpected shape");
  }
  return std::move(rows->front());
}

// The files seen here are those of the server that answered.
Status check_same_cluster(const BackupRecord& record) {
  const auto control = read_control_file(record.data_directory);
  if (!control) return fail(control.error());
  if (control->system_identifier == record.system_identifier) return {};
  return fail(Errc::writererror_nonretryable,
              "the server says that its files are in " + record.data_directory +
                  ", but what is there on this machine is another cluster (system identifier " +
                  control->system_identifier + " instead of " + record.system_identifier +
                  "); run the writer where the server runs");
}

Status name_tablespaces(Connection& connection, const Limit& limit, Layout& layout) {
  auto rows = connection.query(kTablespacesSql, limit);
  if (!rows) return fail(std::move(rows.error()));
  for (const Row& row : *rows) {
    for (auto& tablespace : layout.tablespaces) {
      if (row.size() == 2 && tablespace.oid == row[0]) tablespace.name = row[1];
    }
  }
  return {};
}

}  // namespace

Result<Facts> ask_facts(Connection& connection, const Limit& limit) {
  if (connection.server_version() < kServerVersionMin) {
    return fail(Errc::writererror_nonretryable, "the server is older than PostgreSQL 10");
  }
  auto row = ask_row(connection, kSettingsSql, limit, kColumns.size() + 1);
  if (!row) {
    if (connection.sqlstate() == Connection::kPrivilegeMissing) {
      return fail(std::move(row.error()),
                  "the role may not ask where the files are; GRANT pg_monitor to it");
    }
    return fail(std::move(row.error()));
  }
  Facts facts;
  for (std::size_t i = 0; i < kColumns.size(); ++i) facts.record.*kColumns[i] = (*row)[i];
  if (auto same = check_same_cluster(facts.record); !same) return fail(std::move(same.error()));
  auto layout = read_layout(facts.record.data_directory);
  if (!layout) return fail(std::move(layout.error()));
  facts.layout = std::move(*layout);
  const auto& stats_temp = row->back();
  if (!stats_temp.empty()) {
    facts.layout.stats_temp =
        stats_temp.front() == '/' ? stats_temp : facts.layout.data + "/" + stats_temp;
  }
  if (auto named = name_tablespaces(connection, limit, facts.layout); !named) {
    return fail(std::move(named.error()));
  }
  facts.record.data_directory = facts.layout.data;
  facts.record.wal_directory = facts.layout.wal;
  facts.record.tablespace_directory = facts.layout.tablespace_directory;
  facts.record.tablespaces = facts.layout.tablespaces;
  return facts;
}

Status ask_checkpoint(Connection& connection, const Limit& limit, BackupRecord& record) {
  auto done = connection.query("CHECKPOINT", limit);
  if (done) {
    record.checkpoint = "done";
  } else if (done.error().code == Errc::writererror_timeout) {
    record.checkpoint = "not finished within the time limit";
  } else if (connection.sqlstate() == Connection::kPrivilegeMissing) {
    record.checkpoint = "not permitted; GRANT pg_checkpoint to the role";
  } else {
    return fail(std::move(done.error()));
  }
  return {};
}

Status ask_control(Connection& connection, const Limit& limit, BackupRecord& record) {
  auto row = ask_row(connection, kControlSql, limit, 3);
  if (!row) return fail(std::move(row.error()));
  record.checkpoint_lsn = (*row)[0];
  record.redo_lsn = (*row)[1];
  record.timeline = (*row)[2];
  return {};
}

const std::string& position_sql() {
  static const std::string sql =
      "SELECT CASE WHEN pg_is_in_recovery() THEN"
      " greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())"
      " ELSE pg_current_wal_insert_lsn() END,"
      " CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()"
      " ELSE pg_current_wal_flush_lsn() END, clock_timestamp()";
  return sql;
}

}  // namespace umbra::postgresql
