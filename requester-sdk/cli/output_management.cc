// SPDX-License-Identifier: Apache-2.0
//
// Diff areas, operations and events as JSON.
#include <boost/json/array.hpp>
#include <boost/json/value.hpp>

#include "requester-sdk/cli/output.h"
#include "requester-sdk/cli/output_parts.h"

namespace umbra::cli {

namespace json = boost::json;

namespace {

json::value time_json(std::int64_t filetime) {
  if (filetime == 0) return nullptr;
  return json::value(time_text(filetime));
}

const char* severity_text(EventSeverity severity) {
  switch (severity) {
    case EventSeverity::information: return "information";
    case EventSeverity::warning: return "warning";
    case EventSeverity::error: return "error";
  }
  return "error";
}

}  // namespace

json::object to_json(const SupportedVolume& volume) {
  return {{"volume_id", id_json(volume.volume_id)}, {"name", text_json(volume.display_name)}};
}

json::object to_json(const DiffVolumeProperties& volume) {
  return {{"diff_volume", text_json(volume.diff_volume)},
          {"display_name", text_json(volume.display_name)},
          {"free_bytes", volume.free_bytes},
          {"total_bytes", volume.total_bytes}};
}

json::object to_json(const DiffAreaProperties& area) {
  json::value maximum;
  if (area.maximum_bytes != kAssocNoMaxSpace) maximum = area.maximum_bytes;
  return {{"volume_id", id_json(area.volume_id)},
          {"volume", text_json(area.volume_name)},
          {"diff_area_path", text_json(area.diff_area_path)},
          {"diff_volume", text_json(area.diff_volume)},
          {"used_bytes", area.used_bytes},
          {"allocated_bytes", area.allocated_bytes},
          {"maximum_bytes", maximum},
          {"explicit", area.explicit_association},
          {"volatile_maximum", area.volatile_maximum},
          {"reflink", area.reflink},
          {"snapshots", area.snapshots},
          {"snapshots_lost", area.snapshots_lost},
          {"state", text_json(area.state)}};
}

json::object to_json(const VolumeProtectionInfo& info) {
  return {{"level", view_json(vss_name(info.level))},
          {"offline", info.volume_is_offline},
          {"fault", view_json(vss_name(info.fault))},
          {"failure", code_text(info.failure)},
          {"fault_time", time_json(info.fault_filetime)},
          {"has_unused_diff_area", info.has_unused_diff_area}};
}

json::object to_json(const OperationInfo& operation) {
  json::array facts;
  for (const auto& fact : operation.facts) {
    facts.push_back(json::object{{"name", text_json(fact.name)}, {"value", text_json(fact.value)}});
  }
  return {{"operation_id", id_json(operation.operation_id)},
          {"kind", text_json(operation.kind)},
          {"subject", text_json(operation.subject)},
          {"status", view_json(code_name(operation.status))},
          {"done", operation.done},
          {"total", operation.total},
          {"text", text_json(operation.text)},
          {"context", text_json(operation.context)},
          {"cancelling", operation.cancelling},
          {"facts", facts},
          {"begun", time_json(operation.begun_filetime)},
          {"ended", time_json(operation.ended_filetime)}};
}

json::object to_json(const ProviderEvent& event) {
  return {{"sequence", event.sequence},
          {"time", time_json(event.time_filetime)},
          {"name", text_json(event.name)},
          {"event_id", event.event_id},
          {"severity", severity_text(event.severity)},
          {"provider_id", id_json(event.provider_id)},
          {"volume_id", id_json(event.volume_id)},
          {"volume", text_json(event.volume)},
          {"snapshot_id", id_json(event.snapshot_id)},
          {"set_id", id_json(event.set_id)},
          {"cause", text_json(event.cause)},
          {"who", text_json(event.who)},
          {"percent", event.percent},
          {"fault", view_json(vss_name(event.fault))},
          {"used_bytes", event.used_bytes},
          {"limit_bytes", event.limit_bytes},
          {"text", text_json(event.text)}};
}

json::object to_json(const RevertInfo& revert) {
  return {{"volume_id", id_json(revert.volume_id)},     {"volume", text_json(revert.volume_name)},
          {"snapshot_id", id_json(revert.snapshot_id)}, {"done_bytes", revert.done_bytes},
          {"total_bytes", revert.total_bytes},          {"stopped", revert.stopped},
          {"trouble", text_json(revert.trouble)}};
}

json::object to_json(const CheckpointProperties& checkpoint) {
  return {{"checkpoint_id", id_json(checkpoint.checkpoint_id)},
          {"volume_id", id_json(checkpoint.volume_id)},
          {"volume", text_json(checkpoint.volume_name)},
          {"name", text_json(checkpoint.name)},
          {"snapshot_id", id_json(checkpoint.snapshot_id)},
          {"created", time_json(checkpoint.creation_filetime)},
          {"lost", checkpoint.lost}};
}

std::string event_text(const ProviderEvent& event) {
  std::string line = time_text(event.time_filetime) + "  " + severity_text(event.severity) + "  " +
                     shown(event.name);
  if (event.event_id != 0) line += " (" + std::to_string(event.event_id) + ")";
  if (!event.volume.empty()) line += "  " + shown(event.volume);
  if (!event.snapshot_id.is_nil()) line += "  copy " + event.snapshot_id.to_string();
  if (!event.cause.empty()) line += "  " + shown(event.cause);
  if (!event.who.empty()) line += " by " + shown(event.who);
  if (!event.text.empty()) line += "  " + shown(event.text);
  return line;
}

}  // namespace umbra::cli
