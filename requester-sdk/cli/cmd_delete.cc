// SPDX-License-Identifier: Apache-2.0
// umbra delete shadows ID | --set ID | --volume VOLUME | --all
//
// --volume and --all go on after a copy that cannot be deleted and name each one.
#include <boost/json/array.hpp>
#include <boost/json/value.hpp>

#include "requester-sdk/cli/commands.h"

namespace umbra::cli {
namespace {

struct Outcome {
  std::uint32_t deleted = 0;
  std::vector<std::pair<SnapshotId, Error>> failed;
  std::vector<std::string> absent_providers;
};

Result<Outcome> delete_one(Service& service, const Guid& id, ObjectType type, bool force) {
  auto deleted = service.remove(id, type, force);
  if (!deleted) return fail(deleted.error());
  Outcome outcome{.deleted = deleted->deleted, .failed = {}, .absent_providers = {}};
  if (deleted->not_deleted && !deleted->status)
    outcome.failed.emplace_back(*deleted->not_deleted, deleted->status.error());
  return outcome;
}

Result<Outcome> delete_many(Service& service, const DeleteShadows& arguments) {
  VolumeId only;
  if (!arguments.volume.empty()) {
    const auto volume = find_volume(service, arguments.volume);
    if (!volume) return fail(volume.error());
    only = volume->volume_id;
  }
  auto list = service.snapshots(true);
  if (!list) return fail(list.error());
  Outcome outcome{.deleted = 0, .failed = {}, .absent_providers = list->absent_providers};
  for (const auto& snapshot : list->snapshots) {
    if (!only.is_nil() && snapshot.volume_id != only) continue;
    const auto one =
        delete_one(service, snapshot.snapshot_id, ObjectType::snapshot, arguments.force);
    if (!one && one.error().code == Errc::coordinator_lost) return fail(one.error());
    if (!one) {
      outcome.failed.emplace_back(snapshot.snapshot_id, one.error());
      continue;
    }
    outcome.deleted += one->deleted;
    outcome.failed.insert(outcome.failed.end(), one->failed.begin(), one->failed.end());
  }
  return outcome;
}

Result<Outcome> carry_out(Service& service, const DeleteShadows& arguments) {
  if (arguments.snapshot) {
    return delete_one(service, *arguments.snapshot, ObjectType::snapshot, arguments.force);
  }
  if (arguments.set) {
    return delete_one(service, *arguments.set, ObjectType::snapshot_set, arguments.force);
  }
  return delete_many(service, arguments);
}

}  // namespace

ExitCode delete_shadows(Service& service, Output& output, const DeleteShadows& arguments) {
  const auto outcome = carry_out(service, arguments);
  if (!outcome) return output.error(outcome.error());
  if (outcome->deleted == 0 && !outcome->failed.empty()) {
    const auto& [id, problem] = outcome->failed.front();
    return output.error({problem.code, "snapshot " + id.to_string() + ": " + problem.context});
  }
  boost::json::array not_deleted;
  for (const auto& [id, problem] : outcome->failed) {
    not_deleted.push_back(
        boost::json::object{{"snapshot_id", id.to_string()}, {"error", error_to_json(problem)}});
    output.note("umbra: not deleted: " + id.to_string() + ": " + shown(problem.to_string()));
  }
  output.object({{"deleted", outcome->deleted},
                 {"not_deleted", std::move(not_deleted)},
                 {"absent_providers", names_to_json(outcome->absent_providers)}});
  output.line("deleted " + std::to_string(outcome->deleted) +
              (outcome->deleted == 1 ? " snapshot" : " snapshots"));
  note_absent(output, outcome->absent_providers);
  const bool all = outcome->failed.empty() && outcome->absent_providers.empty();
  return all ? ExitCode::done : ExitCode::in_part;
}

}  // namespace umbra::cli
