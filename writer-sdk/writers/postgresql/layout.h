// SPDX-License-Identifier: Apache-2.0
//
// Where the files of a cluster lie, and what this writer tells of them in Identify. Pure.
//
// A cluster is one unit: it is restored whole or not at all. So it is one selectable component with
// others below it that come with it and cannot be chosen:
//
//   NAME                         database: files of the data directory itself; log files: the WAL
//   NAME\data                    file group: every directory in the data directory, but the WAL's
//   NAME\tablespaces\OID-NAME    file group: this cluster's part of the tablespace's directory
//
// Files of a database cannot be recursive in VSS, and new databases are new directories, hence the
// second. A file belongs to one component only.
//
// Left out is what PostgreSQL's manual says may be (Backing Up The Data Directory): postmaster.pid
// and .opts, temporary files, what a start makes anew (pg_dynshmem, pg_notify, pg_serial,
// pg_snapshots, pg_stat_tmp, pg_subtrans, pg_internal.init), and, unless told to keep them, the
// replication slots: restored, they would hold back WAL for consumers that have moved on. A
// backup_label or tablespace_map never belongs to an atomic snapshot: it would start recovery at
// the wrong place. WAL is *not* left out: it is what makes the snapshot whole.

#pragma once

#include <functional>
#include <string>
#include <vector>

#include "umbra/documents.h"

namespace umbra::postgresql {

struct Tablespace {
  std::string oid{};
  std::string name{};
  std::string location{};  ///< The directory that CREATE TABLESPACE named, links followed.

  friend bool operator==(const Tablespace&, const Tablespace&) = default;
};

/// All directories absolute, with links followed.
struct Layout {
  std::string data{};
  std::string wal{};
  std::vector<Tablespace> tablespaces{};   ///< Those outside of the data directory, by OID.
  std::vector<std::string> directories{};  ///< Names in the data directory, sorted; no links.
  std::string tablespace_directory{};      ///< "PG_15_202209061": this cluster's part of each.
  std::string stats_temp{};                ///< Before PostgreSQL 15: where pg_stat_tmp is instead.

  [[nodiscard]] bool wal_is_elsewhere() const { return wal != data + "/pg_wal"; }

  friend bool operator==(const Layout&, const Layout&) = default;
};

/// The components of one cluster, the selectable one first. `layout`: null while nobody knows where
/// its files are; then a component without files, which cannot be missed and cannot succeed.
[[nodiscard]] std::vector<ComponentInfo> describe_cluster(const std::string& name,
                                                          const Layout* layout);
/// Files never to be backed up.
[[nodiscard]] std::vector<FileSet> describe_excludes(const Layout& layout,
                                                     bool keep_replication_slots);
[[nodiscard]] RestoreRules describe_restore();

/// Whether a set holds a cluster.
struct Coverage {
  std::vector<std::string> inside{};  ///< "data directory /srv/pg", ...
  std::vector<std::string> outside{};

  [[nodiscard]] bool is_whole() const { return outside.empty(); }
  [[nodiscard]] bool is_touched() const { return !inside.empty(); }
};

[[nodiscard]] Coverage coverage(const Layout& layout,
                                const std::function<bool(const std::string& path)>& is_affected);

/// "a, b and c".
[[nodiscard]] std::string join(const std::vector<std::string>& words);

}  // namespace umbra::postgresql
