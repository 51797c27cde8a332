// SPDX-License-Identifier: Apache-2.0
// umbra checkpoint create VOLUME NAME [--shadow ID] | list [VOLUME] | delete VOLUME NAME
#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/value.hpp>

#include "requester-sdk/cli/commands.h"

namespace umbra::cli {
namespace {

Result<SnapshotId> newest_copy(Service& service, const VolumeRef& volume) {
  const auto copies = service.copies_of(volume);
  if (!copies) return fail(copies.error());
  const auto newest = std::max_element(
      copies->begin(), copies->end(),
      [](const auto& a, const auto& b) { return a.creation_filetime < b.creation_filetime; });
  if (newest == copies->end()) {
    return fail(Errc::object_not_found,
                "the volume has no copy at whose point in time it could be; create one first");
  }
  return newest->snapshot_id;
}

}  // namespace

Result<CheckpointProperties> find_checkpoint(Service& service, const VolumeRef& volume,
                                             const std::string& name) {
  const auto checkpoints = service.checkpoints(volume);
  if (!checkpoints) return fail(checkpoints.error());
  const auto id = CheckpointId::parse(name);
  std::string names;
  for (const auto& checkpoint : *checkpoints) {
    if (checkpoint.name == name || (id && checkpoint.checkpoint_id == *id)) return checkpoint;
    names += (names.empty() ? "" : ", ") + checkpoint.name;
  }
  return fail(Errc::object_not_found,
              "no checkpoint '" + name + "' of this volume" +
                  (names.empty() ? ", and no other" : "; there are: " + names));
}

ExitCode create_checkpoint(Service& service, Output& output, const Checkpoint& arguments) {
  const auto volume = service.resolve(arguments.volume);
  if (!volume) return output.error(volume.error());
  SnapshotId shadow = arguments.shadow;
  if (shadow.is_nil()) {
    const auto newest = newest_copy(service, *volume);
    if (!newest) return output.error(newest.error());
    shadow = *newest;
  }
  const auto made = service.create_checkpoint(shadow, arguments.name);
  if (!made) return output.error(made.error());
  output.object(to_json(*made));
  output.line("checkpoint " + shown(made->name) + " of " + shown(made->volume_name) + ", as of " +
              time_text(made->creation_filetime));
  return ExitCode::done;
}

ExitCode list_checkpoints(Service& service, Output& output, const Checkpoint& arguments) {
  VolumeRef volume;
  if (!arguments.volume.empty()) {
    auto resolved = service.resolve(arguments.volume);
    if (!resolved) return output.error(resolved.error());
    volume = std::move(*resolved);
  }
  const auto checkpoints = service.checkpoints(volume);
  if (!checkpoints) return output.error(checkpoints.error());
  output.object({{"checkpoints", list_to_json(*checkpoints)}});
  std::vector<std::vector<std::string>> rows{{"VOLUME", "NAME", "AS OF", "STATE", "ID"}};
  for (const auto& checkpoint : *checkpoints) {
    rows.push_back({shown(checkpoint.volume_name), shown(checkpoint.name),
                    time_text(checkpoint.creation_filetime),
                    checkpoint.lost ? "lost: make a full backup and a new one" : "ok",
                    checkpoint.checkpoint_id.to_string()});
  }
  output.table(rows);
  return ExitCode::done;
}

ExitCode delete_checkpoint(Service& service, Output& output, const Checkpoint& arguments) {
  const auto volume = service.resolve(arguments.volume);
  if (!volume) return output.error(volume.error());
  const auto checkpoint = find_checkpoint(service, *volume, arguments.name);
  if (!checkpoint) return output.error(checkpoint.error());
  if (const auto removed = service.delete_checkpoint(checkpoint->checkpoint_id); !removed) {
    return output.error(removed.error());
  }
  output.object({{"checkpoint_id", checkpoint->checkpoint_id.to_string()}});
  output.line("deleted");
  return ExitCode::done;
}

}  // namespace umbra::cli
