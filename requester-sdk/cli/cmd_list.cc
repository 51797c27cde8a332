// SPDX-License-Identifier: Apache-2.0
// umbra list volumes | shadows | writers | providers
#include <boost/json/array.hpp>
#include <boost/json/value.hpp>

#include "requester-sdk/cli/commands.h"

namespace umbra::cli {
namespace {

// What administrators of VSS search the web for, then what a person needs to know.
std::string last_error_text(const requester::WriterInfo& writer) {
  std::string text;
  switch (writer.last_failure) {
    case Errc::ok: return "No error";
    case Errc::writererror_timeout: text = "Timed out"; break;
    case Errc::writererror_retryable: text = "Retryable error"; break;
    case Errc::writererror_nonretryable: text = "Non-retryable error"; break;
    case Errc::writererror_inconsistentsnapshot: text = "Inconsistent shadow copy"; break;
    case Errc::writererror_outofresources: text = "Out of resources"; break;
    case Errc::writererror_partial_failure: text = "Partial failure"; break;
    case Errc::writer_not_responding: text = "Not responding"; break;
    default: text = "Unexpected error"; break;
  }
  text += " (" + std::string(code_name(writer.last_failure)) + ") in " +
          shown(writer.last_failure_phase) + " at " + time_text(writer.last_failure_filetime);
  if (!writer.last_failure_message.empty()) text += ": " + shown(writer.last_failure_message);
  return text;
}

}  // namespace

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
  if (writers->empty()) output.line("No writers are connected.");
  for (const auto& writer : *writers) {
    output.line("Writer name: '" + shown(writer.name) + "'");
    if (!writer.instance_name.empty())
      output.line("   Writer Instance Name: '" + shown(writer.instance_name) + "'");
    output.line("   Writer Id: {" + writer.class_id.to_string() + "}");
    output.line("   Writer Instance Id: {" + writer.instance_id.to_string() + "}");
    output.line("   State: [" + std::to_string(static_cast<int>(writer.state)) + "] " +
                std::string(display_name(writer.state)));
    output.line("   Last error: " + last_error_text(writer));
    output.line("");
  }
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
