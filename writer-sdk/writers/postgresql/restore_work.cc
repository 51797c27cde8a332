// SPDX-License-Identifier: Apache-2.0

#include "writer-sdk/writers/postgresql/restore_work.h"

#include <utility>

#include "writer-sdk/writers/postgresql/restore_files.h"
#include "writer-sdk/writers/postgresql/restore_plan.h"

namespace umbra::postgresql {

namespace {

Result<RestorePlan> plan_of(const BackupComponent& component, const std::string& restore_command) {
  if (!component.backup_metadata) {
    return fail(Errc::invalid_argument,
                "the backup holds no metadata of it: it failed then, or nobody kept what the "
                "writer left. See Restoring by hand in docs/writer-postgresql.md");
  }
  const auto record = parse_backup_record(*component.backup_metadata);
  if (!record) return fail(record.error());
  return plan_restore(*record, component, restore_command);
}

Status finish(const BackupComponent& component, const std::string& restore_command) {
  const auto plan = plan_of(component, restore_command);
  if (!plan) return fail(plan.error());
  const auto status = component.file_restore_status;
  if (status == FileRestoreStatus::none) {
    if (auto back = put_back(*plan); !back) return back;
    return fail(Errc::writererror_nonretryable, "nothing was restored; all is as it was before");
  }
  auto finished = status == FileRestoreStatus::all
                      ? finish_restored(*plan)
                      : Status(fail(Errc::writererror_nonretryable,
                                    "its files were not all restored; do not start a server on "
                                    "them, restore it again"));
  if (finished) return remove_replaced(*plan);
  if (plan->replace_existing) {
    finished.error().context += " (what was there before is in .umbra-replaced in each directory)";
  }
  return finished;
}

}  // namespace

std::vector<RestoreFailure> before_restore(const WriterComponents& part,
                                           const std::string& restore_command) {
  std::vector<RestoreFailure> failures;
  std::vector<std::pair<std::string, RestorePlan>> plans;
  for (const auto& component : part.components) {
    if (!component.selected_for_restore) continue;
    auto plan = plan_of(component, restore_command);
    auto checked = plan ? check_destination(*plan) : Status(fail(plan.error()));
    if (!checked) {
      failures.push_back({component.name, std::move(checked.error())});
    } else {
      plans.emplace_back(component.name, std::move(*plan));
    }
  }
  if (!failures.empty()) return failures;
  for (const auto& [name, plan] : plans) {
    if (!failures.empty()) break;
    auto moved = set_aside(plan);
    if (!moved) failures.push_back({name, std::move(moved.error())});
  }
  if (failures.empty()) return failures;
  for (const auto& [name, plan] : plans) {
    auto back = put_back(plan);
    if (!back) failures.push_back({name, std::move(back.error())});
  }
  return failures;
}

std::vector<RestoreFailure> after_restore(const WriterComponents& part,
                                          const std::string& restore_command) {
  std::vector<RestoreFailure> failures;
  for (const auto& component : part.components) {
    if (!component.selected_for_restore || component.additional_restores) continue;
    auto finished = finish(component, restore_command);
    if (!finished) failures.push_back({component.name, std::move(finished.error())});
  }
  return failures;
}

}  // namespace umbra::postgresql
