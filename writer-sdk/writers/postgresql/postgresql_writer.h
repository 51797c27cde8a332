// SPDX-License-Identifier: Apache-2.0
//
// The events of the writer SDK, carried to the clusters (backup_round.h) or to the files of those
// that are restored (restore_work.h), and back. Which clusters
// take part: with selected components those that are selected; otherwise those with something on a
// volume of the set, and those of which nobody knows where their files are.

#pragma once

#include <map>
#include <memory>
#include <mutex>

#include "umbra/writer/writer.h"
#include "writer-sdk/writers/postgresql/backup_round.h"
#include "writer-sdk/writers/postgresql/clusters.h"
#include "writer-sdk/writers/postgresql/options.h"

namespace umbra::postgresql {

/// Constant for all time: backups name it.
[[nodiscard]] WriterClassId writer_class_id();

/// Threads: as umbra::writer::Writer.
class PostgresqlWriter final : public writer::Writer {
 public:
  PostgresqlWriter(Options options, Log log);

  [[nodiscard]] Status on_identify(writer::MetadataBuilder& metadata) override;
  [[nodiscard]] Status on_prepare_for_snapshot(writer::Context& context) override;
  [[nodiscard]] Status on_freeze(writer::Context& context) override;
  void on_thaw(writer::Context& context) noexcept override;
  [[nodiscard]] Status on_post_snapshot(writer::Context& context) override;
  void on_abort(writer::Context& context) noexcept override;
  [[nodiscard]] Status on_backup_complete(writer::Context& context) override;
  [[nodiscard]] Status on_pre_restore(writer::Context& context) override;
  [[nodiscard]] Status on_post_restore(writer::Context& context) override;

  /// What the SDK is to be told of this writer, without the log.
  [[nodiscard]] writer::Options session_options() const;
  /// Starts to watch the clusters.
  void watch() { clusters_.watch(); }

 private:
  [[nodiscard]] std::shared_ptr<BackupRound> find(const SessionId& session) const;
  void end(const SessionId& session) noexcept;
  [[nodiscard]] Status refuse_parts(const std::vector<KnownCluster>& others,
                                    const writer::Context& context) const;
  [[nodiscard]] Status store(writer::Context& context, const BackupRound& round) const;

  const Options options_;
  const Log log_;
  Clusters clusters_;
  mutable std::mutex mutex_;
  // Shared with a call in progress, so that no lock is kept while it waits for a server.
  std::map<SessionId, std::shared_ptr<BackupRound>> rounds_;
};

}  // namespace umbra::postgresql
