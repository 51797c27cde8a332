// SPDX-License-Identifier: Apache-2.0

#include "writer-sdk/writers/sqlite/sqlite_writer.h"

#include <algorithm>
#include <utility>

#include "writer-sdk/writers/common/program.h"
#include "writer-sdk/writers/sqlite/database_restore.h"
#include "writer-sdk/writers/sqlite/metadata.h"

namespace umbra::sqlite {

WriterClassId writer_class_id() {
  return WriterClassId{{{0x8d, 0x0b, 0x6a, 0x1c, 0x2f, 0x5e, 0x4b, 0x0d, 0x9c, 0x41, 0x53, 0x51,
                         0x4c, 0x69, 0x74, 0x65}}};
}

SqliteWriter::SqliteWriter(Options options)
    : options_(std::move(options)), databases_(options_.databases) {}

Status SqliteWriter::on_identify(writer::MetadataBuilder& metadata) {
  const auto paths = databases_.paths();
  metadata.set_backup_schema(backup_schema::kNewTarget);
  if (auto set = metadata.set_restore_rules(describe_restore()); !set) return set;
  for (const auto& path : paths) {
    if (auto added = metadata.add_component(describe_database(path)); !added) return added;
  }
  for (auto& files : describe_excludes(paths)) {
    if (auto added = metadata.add_exclude_files(std::move(files)); !added) return added;
  }
  return {};
}

Status SqliteWriter::on_prepare_for_snapshot(writer::Context& context) {
  const auto* selected = context.component_mode() ? context.components() : nullptr;
  auto taking_part = databases_.participants(
      selected, [&](const std::string& path) { return context.is_path_affected(path); });
  return databases_.prepare(context.session_id(), std::move(taking_part), patience(context));
}

Status SqliteWriter::on_freeze(writer::Context& context) {
  return databases_.freeze(context.session_id(), patience(context));
}

void SqliteWriter::on_thaw(writer::Context& context) noexcept {
  auto thawed = databases_.thaw(context.session_id());
  if (thawed) return;
  context.report_failure(
      {.code = thawed.error().code, .message = std::move(thawed.error().context)});
}

Status SqliteWriter::on_post_snapshot(writer::Context& context) {
  databases_.end(context.session_id());
  return {};
}

void SqliteWriter::on_abort(writer::Context& context) noexcept {
  databases_.end(context.session_id());
}

Status SqliteWriter::on_backup_complete(writer::Context& context) {
  databases_.end(context.session_id());
  return {};
}

Status SqliteWriter::on_pre_restore(writer::Context& context) {
  if (context.components() == nullptr) return {};
  const auto components = context.components()->components;  // Edits change the original.
  std::vector<DatabaseRestore> begun;
  for (const auto& component : components) {
    if (!component.selected_for_restore) continue;
    DatabaseRestore database(restored_path(component));
    auto ready = database.begin();
    if (ready) {
      begun.push_back(std::move(database));
      continue;
    }
    // After a refusal there is no PostRestore: what was set aside comes back here.
    for (auto& other : begun) static_cast<void>(other.put_back());
    static_cast<void>(context.set_failure_message({component.logical_path, component.name},
                                                  ready.error().context));
    return ready;
  }
  return {};
}

Status SqliteWriter::on_post_restore(writer::Context& context) {
  if (context.components() == nullptr) return {};
  const auto components = context.components()->components;
  Status first;
  for (const auto& component : components) {
    if (!component.selected_for_restore) continue;
    DatabaseRestore database(restored_path(component));
    Status done;
    if (component.file_restore_status == FileRestoreStatus::none) {
      done = database.put_back();
    } else if (component.file_restore_status != FileRestoreStatus::all) {
      done = fail(Errc::writererror_nonretryable,
                  restored_path(component) +
                      ": not all of its files were restored; restore it again before using it");
    } else if (!component.additional_restores) {
      done = database.finish();
    }
    if (done) continue;
    static_cast<void>(context.set_failure_message({component.logical_path, component.name},
                                                  done.error().context));
    if (first) first = std::move(done);
  }
  return first;
}

writer::Options SqliteWriter::session_options() const {
  return writers::session_options(writer_class_id(), "SQLite Writer", options_);
}

Patience SqliteWriter::patience(const writer::Context& context) const {
  // Half of what is left at most: the rest is for everybody else's Freeze and for the hold.
  const auto limit = std::min(options_.lock_wait, context.time_left() / 2);
  return Patience::for_at_most(limit, [&context] { return context.stop_requested(); });
}

}  // namespace umbra::sqlite
