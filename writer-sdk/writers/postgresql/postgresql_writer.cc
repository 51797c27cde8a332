// SPDX-License-Identifier: Apache-2.0

#include "writer-sdk/writers/postgresql/postgresql_writer.h"

#include <algorithm>
#include <utility>

#include "writer-sdk/writers/common/program.h"
#include "writer-sdk/writers/postgresql/restore_work.h"

namespace umbra::postgresql {

namespace {

// In Freeze and PrepareForSnapshot others wait too: half of what is left at most.
Limit limit_of(const writer::Context& context) {
  return Limit::in(context.time_left() / 2, [&context] { return context.stop_requested(); });
}

bool is_selected(const WriterComponents& selected, const std::string& name) {
  return std::any_of(selected.components.begin(), selected.components.end(),
                     [&](const BackupComponent& component) {
                       return component.logical_path.empty() && component.name == name;
                     });
}

writer::Failure failure_of(const Error& error) {
  return {.code = error.code, .message = error.context};
}

// What the answer to an event says; where components may be changed, also which of them failed.
Status answer(writer::Context& context, const BackupRound& round, bool may_edit) {
  const auto verdict = judge(round.members());
  for (const auto& member : round.members()) {
    if (!may_edit || !member.failure || !context.component_mode()) continue;
    (void)context.set_component_failure({.name = member.name}, failure_of(*member.failure));
    (void)context.set_failure_message({.name = member.name}, member.failure->context);
  }
  if (verdict.veto) return fail(*verdict.veto);
  if (verdict.in_part) context.report_failure(failure_of(*verdict.in_part));
  return {};
}

// Marks the components that failed; all of it in one error.
Status failed(writer::Context& context, const std::vector<RestoreFailure>& failures) {
  if (failures.empty()) return {};
  std::string text;
  for (const auto& [component, error] : failures) {
    (void)context.set_component_failure({.name = component}, failure_of(error));
    (void)context.set_failure_message({.name = component}, error.context);
    text += (text.empty() ? "cluster " : "; cluster ") + component + ": " + error.context;
  }
  return fail(Errc::writererror_nonretryable, std::move(text));
}

}  // namespace

WriterClassId writer_class_id() {
  return WriterClassId{{{0x3e, 0x0f, 0x5b, 0x72, 0xa1, 0x94, 0x4d, 0x66, 0xb0, 0x57, 0x1c, 0x8d,
                         0x25, 0xe9, 0x40, 0xf3}}};
}

PostgresqlWriter::PostgresqlWriter(Options options, Log log)
    : options_(std::move(options)), log_(std::move(log)), clusters_(options_, log_) {}

Status PostgresqlWriter::on_identify(writer::MetadataBuilder& metadata) {
  metadata.set_backup_schema(backup_schema::kNewTarget | backup_schema::kRollForwardRestore);
  if (auto set = metadata.set_restore_rules(describe_restore()); !set) return set;
  for (const auto& cluster : clusters_.refresh()) {
    const Layout* layout = cluster.layout ? &*cluster.layout : nullptr;
    for (auto& component : describe_cluster(cluster.options.name, layout)) {
      if (auto added = metadata.add_component(std::move(component)); !added) return added;
    }
    if (layout == nullptr) continue;
    for (auto& files : describe_excludes(*layout, options_.keep_replication_slots)) {
      if (auto added = metadata.add_exclude_files(std::move(files)); !added) return added;
    }
  }
  return {};
}

Status PostgresqlWriter::on_prepare_for_snapshot(writer::Context& context) {
  end(context.session_id());
  const auto is_affected = [&](const std::string& path) { return context.is_path_affected(path); };
  const auto* selected = context.component_mode() ? context.components() : nullptr;
  std::vector<KnownCluster> taking_part;
  std::vector<KnownCluster> others;
  for (auto& cluster : clusters_.known()) {
    const bool takes_part =
        selected != nullptr
            ? is_selected(*selected, cluster.options.name)
            : !cluster.layout || coverage(*cluster.layout, is_affected).is_touched();
    (takes_part ? taking_part : others).push_back(std::move(cluster));
  }
  if (taking_part.empty()) return refuse_parts(others, context);
  const RoundOptions round_options{.answer_wait = options_.answer_wait,
                                   .checkpoint_wait = options_.checkpoint_wait,
                                   .keep_replication_slots = options_.keep_replication_slots};
  auto round = std::make_shared<BackupRound>(round_options, std::move(taking_part), log_);
  {
    const std::lock_guard lock(mutex_);
    rounds_[context.session_id()] = round;
  }
  round->prepare(limit_of(context), is_affected);
  auto answered = answer(context, *round, true);
  if (!answered) end(context.session_id());
  return answered;
}

// Nobody selected a cluster. If the set holds a part of one all the same, somebody may believe that
// it holds the whole.
Status PostgresqlWriter::refuse_parts(const std::vector<KnownCluster>& others,
                                      const writer::Context& context) const {
  for (const auto& cluster : others) {
    if (!cluster.layout) continue;
    const auto found = coverage(
        *cluster.layout, [&](const std::string& path) { return context.is_path_affected(path); });
    if (!found.is_touched() || found.is_whole()) continue;
    return fail(Errc::writererror_inconsistentsnapshot,
                "cluster " + cluster.options.name + ": the set holds " + join(found.inside) +
                    " but not " + join(found.outside) +
                    ", so what it holds of this cluster is of no use; put all its volumes into the "
                    "set");
  }
  return {};
}

Status PostgresqlWriter::on_freeze(writer::Context& context) {
  const auto round = find(context.session_id());
  if (!round) return {};  // No cluster takes part.
  round->freeze(limit_of(context));
  return answer(context, *round, false);
}

void PostgresqlWriter::on_thaw(writer::Context& context) noexcept {
  if (const auto round = find(context.session_id())) round->thaw();
}

Status PostgresqlWriter::on_post_snapshot(writer::Context& context) {
  const auto round = find(context.session_id());
  if (!round) return {};
  round->finish(limit_of(context));
  end(context.session_id());
  if (auto stored = store(context, *round); !stored) return stored;
  return answer(context, *round, true);
}

Status PostgresqlWriter::store(writer::Context& context, const BackupRound& round) const {
  for (const auto& member : round.members()) {
    if (member.failure) continue;
    log_(LogLevel::info,
         "cluster " + member.name + " is in set " + context.snapshot_set_id().to_string() +
             ": WAL " + member.record.freeze_flush_lsn + " to " + member.record.thaw_insert_lsn +
             ", checkpoint " + member.record.checkpoint);
    if (!context.component_mode()) continue;
    const writer::ComponentName component{.name = member.name};
    auto set = context.set_backup_metadata(component, to_text(member.record));
    if (set) set = context.set_backup_stamp(component, stamp_of(member.record));
    if (!set) return set;
  }
  return {};
}

void PostgresqlWriter::on_abort(writer::Context& context) noexcept { end(context.session_id()); }

Status PostgresqlWriter::on_backup_complete(writer::Context& context) {
  end(context.session_id());
  return {};
}

Status PostgresqlWriter::on_pre_restore(writer::Context& context) {
  const auto* part = context.components();
  return part ? failed(context, before_restore(*part, options_.restore_command)) : Status();
}

Status PostgresqlWriter::on_post_restore(writer::Context& context) {
  const auto* part = context.components();
  return part ? failed(context, after_restore(*part, options_.restore_command)) : Status();
}

writer::Options PostgresqlWriter::session_options() const {
  return writers::session_options(writer_class_id(), "PostgreSQL Writer", options_);
}

std::shared_ptr<BackupRound> PostgresqlWriter::find(const SessionId& session) const {
  const std::lock_guard lock(mutex_);
  const auto found = rounds_.find(session);
  return found == rounds_.end() ? nullptr : found->second;
}

void PostgresqlWriter::end(const SessionId& session) noexcept {
  std::shared_ptr<BackupRound> round;
  const std::lock_guard lock(mutex_);
  const auto found = rounds_.find(session);
  if (found == rounds_.end()) return;
  round = std::move(found->second);
  rounds_.erase(found);
}

}  // namespace umbra::postgresql
