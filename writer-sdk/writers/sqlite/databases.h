// SPDX-License-Identifier: Apache-2.0
//
// The listed databases and what each backup session holds of them. Everything this writer decides
// is here, without the SDK: sqlite_writer.h only carries its events in.
//
// A session's databases: in component mode those whose component was selected, wherever they lie;
// otherwise those that lie on a volume of the set. Others are never touched, so that a database
// nobody backs up can neither be blocked nor spoil a backup.
//
// Each session has connections of its own, from prepare() to end(). Two sessions that freeze the
// same database exclude each other: the second waits, then fails as busy.

#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "umbra/documents.h"
#include "umbra/ids.h"
#include "umbra/result.h"
#include "writer-sdk/writers/sqlite/hold_group.h"

namespace umbra::sqlite {

/// Errors: as DatabaseHold. Threads: any; the calls of one session come one after the other.
class Databases {
 public:
  /// Absolute, normal paths.
  explicit Databases(std::vector<std::string> paths);

  /// The listed files, links followed as of now.
  [[nodiscard]] std::vector<std::string> paths() const;

  /// Those that take part. `selected`: this writer's part of the backup, null in volume mode.
  [[nodiscard]] std::vector<std::string> participants(
      const WriterComponents* selected,
      const std::function<bool(const std::string& path)>& is_affected) const;

  /// PrepareForSnapshot: opens them and empties their -wal as far as possible. On failure the
  /// session holds nothing.
  [[nodiscard]] Status prepare(const SessionId& session, std::vector<std::string> paths,
                               const Patience& patience);
  /// Freeze: holds all that prepare() was given, or none. Errors also: writererror_retryable (the
  /// session was not prepared).
  [[nodiscard]] Status freeze(const SessionId& session, const Patience& patience);
  /// Thaw: releases them; an error means that the snapshot is not to be trusted. Unknown session:
  /// ok. Does no I/O to a database.
  [[nodiscard]] Status thaw(const SessionId& session) noexcept;
  /// PostSnapshot, Abort or the end of the backup: releases and closes. Idempotent.
  void end(const SessionId& session) noexcept;

  /// How many databases a session holds prepared; 0 after end().
  [[nodiscard]] std::size_t open_count(const SessionId& session) const;

 private:
  [[nodiscard]] std::shared_ptr<HoldGroup> find(const SessionId& session) const;

  const std::vector<std::string> paths_;
  mutable std::mutex mutex_;
  // Shared with a call in progress, so that no lock is kept while it waits for a database.
  std::map<SessionId, std::shared_ptr<HoldGroup>> sessions_;
};

}  // namespace umbra::sqlite
