// SPDX-License-Identifier: Apache-2.0
//
// The events of the writer SDK, carried to the databases:
//   PrepareForSnapshot  open, let SQLite recover, empty the -wal as far as others allow
//   Freeze              lock every database of the session against writers, or veto
//   Thaw                unlock
//   PostSnapshot, Abort, BackupShutdown   unlock if need be, close
//   PreRestore          refuse while somebody has it open, set aside what is beside it
//   PostRestore         let SQLite recover the new file and check all of it; else put back
// Nothing is held outside Freeze and Thaw, and connections are kept for one session only.

#pragma once

#include "umbra/writer/writer.h"
#include "writer-sdk/writers/sqlite/databases.h"
#include "writer-sdk/writers/sqlite/options.h"

namespace umbra::sqlite {

/// Constant for all time: backups name it.
[[nodiscard]] WriterClassId writer_class_id();

/// Threads: as umbra::writer::Writer.
class SqliteWriter final : public writer::Writer {
 public:
  explicit SqliteWriter(Options options);

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

 private:
  [[nodiscard]] Patience patience(const writer::Context& context) const;

  const Options options_;
  Databases databases_;
};

}  // namespace umbra::sqlite
