// SPDX-License-Identifier: Apache-2.0
// umbra list volumes | shadows | writers | providers
#include <boost/json/array.hpp>
#include <boost/json/value.hpp>

#include "requester-sdk/cli/commands.h"

namespace umbra::cli {

ExitCode list_volumes(Service& service, Output& output) {
  auto list = service.volumes();
  if (!list) return output.error(list.error());
  output.object({{"volumes", list_to_json(list->volumes)},
                 {"absent_providers", names_to_json(list->absent_providers)}});
  std::vector<std::vector<std::string>> rows{
      {"NAME", "SIZE", "COPIES", "DIFF USED", "STATE", "DEVICE", "VOLUME ID"}};
  for (const auto& volume : list->volumes) {
    rows.push_back({shown(volume.name), bytes_text(volume.size_bytes),
                    std::to_string(volume.snapshot_count), bytes_text(volume.diff_used_bytes),
                    shown(volume.state),
                    volume.device_path.empty() ? "-" : shown(volume.device_path),
                    volume.volume_id.to_string()});
  }
  output.table(rows);
  note_absent(output, list->absent_providers);
  return ExitCode::done;
}

ExitCode list_shadows(Service& service, Output& output, const ListShadows& arguments) {
  auto list = service.snapshots(arguments.incomplete);
  if (!list) return output.error(list.error());
  if (!arguments.volume.empty()) {
    const auto volume = find_volume(service, arguments.volume);
    if (!volume) return output.error(volume.error());
    std::erase_if(list->snapshots, [&](const SnapshotProperties& snapshot) {
      return snapshot.volume_id != volume->volume_id;
    });
  }
  output.object({{"snapshots", list_to_json(list->snapshots)},
                 {"absent_providers", names_to_json(list->absent_providers)}});
  std::vector<std::vector<std::string>> rows{
      {"SNAPSHOT ID", "SET ID", "VOLUME", "CREATED", "CONTEXT", "STATE", "MOUNTED AT"}};
  for (const auto& snapshot : list->snapshots) {
    rows.push_back({snapshot.snapshot_id.to_string(), snapshot.set_id.to_string(),
                    shown(snapshot.original_volume), time_text(snapshot.creation_filetime),
                    context_text(snapshot.attributes),
                    snapshot.lost ? "LOST" : std::string(vss_name(snapshot.state)),
                    snapshot.exposed_path.empty() ? "-" : shown(snapshot.exposed_path)});
  }
  output.table(rows);
  note_absent(output, list->absent_providers);
  return ExitCode::done;
}

ExitCode list_writers(Service& service, Output& output) {
  auto writers = service.writers();
  if (!writers) return output.error(writers.error());
  output.object({{"writers", list_to_json(*writers)}});
  std::vector<std::vector<std::string>> rows{{"NAME", "STATE", "LAST FAILURE", "INSTANCE ID"}};
  for (const auto& writer : *writers) {
    std::string failure = "-";
    if (writer.last_failure != Errc::ok) {
      failure = std::string(code_name(writer.last_failure)) + " in " +
                shown(writer.last_failure_phase) + " at " + time_text(writer.last_failure_filetime);
    }
    rows.push_back({shown(writer.name), std::string(display_name(writer.state)), failure,
                    writer.instance_id.to_string()});
  }
  output.table(rows);
  return ExitCode::done;
}

ExitCode list_providers(Service& service, Output& output) {
  auto providers = service.providers();
  if (!providers) return output.error(providers.error());
  output.object({{"providers", list_to_json(*providers)}});
  std::vector<std::vector<std::string>> rows{{"NAME", "VERSION", "CONNECTED", "PROVIDER ID"}};
  for (const auto& provider : *providers) {
    rows.push_back({shown(provider.properties.name), shown(provider.properties.version),
                    provider.connected ? "yes" : "no",
                    provider.properties.provider_id.to_string()});
  }
  output.table(rows);
  return ExitCode::done;
}

}  // namespace umbra::cli
