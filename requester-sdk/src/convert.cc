// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "requester-sdk/src/convert.h"

#include <algorithm>
#include <utility>

#include "engine/documents/xml.h"

namespace umbra::requester {
namespace {

const char* text_of(FrontEnd front_end) noexcept {
  switch (front_end) {
    case FrontEnd::ublk: return "ublk";
    case FrontEnd::fuse: return "fuse";
    case FrontEnd::nbd: return "nbd";
    case FrontEnd::none: return "none";
    case FrontEnd::automatic: break;
  }
  return "auto";
}

}  // namespace

SnapshotList from_wire(rpc::SnapshotList list) {
  return {std::move(list.snapshots), std::move(list.absent_providers)};
}

VolumeList from_wire(rpc::VolumeList list) {
  return {std::move(list.volumes), std::move(list.absent_providers)};
}

std::vector<WriterInfo> from_wire(rpc::WriterEntryList list) {
  std::vector<WriterInfo> writers;
  for (rpc::WriterEntry& entry : list.writers) {
    WriterInfo& writer = writers.emplace_back();
    writer.instance_id = entry.instance_id;
    writer.class_id = entry.class_id;
    writer.name = std::move(entry.name);
    writer.instance_name = std::move(entry.instance_name);
    writer.level = entry.level;
    writer.freeze_window = std::chrono::milliseconds(entry.freeze_window_ms);
    writer.state = entry.state;
    writer.last_failure = entry.last_failure;
    writer.last_failure_phase = std::move(entry.last_failure_phase);
    writer.last_failure_message = std::move(entry.last_failure_message);
    writer.last_failure_filetime = entry.last_failure_filetime;
  }
  return writers;
}

std::vector<ProviderInfo> from_wire(rpc::ProviderList list) {
  std::vector<ProviderInfo> providers;
  for (rpc::ProviderEntry& entry : list.providers) {
    providers.push_back({std::move(entry.properties), entry.connected});
  }
  return providers;
}

Result<std::vector<WriterMetadata>> from_wire(rpc::WriterMetadataList list) {
  std::vector<WriterMetadata> writers;
  for (rpc::WriterMetadata& entry : list.writers) {
    auto document = documents::parse_writer_metadata(entry.metadata);
    if (!document) return fail(document.error(), "metadata of writer '" + entry.name + "'");
    writers.push_back({entry.instance_id, entry.class_id, std::move(entry.name),
                       std::move(*document), std::move(entry.metadata)});
  }
  return writers;
}

std::vector<WriterStatus> from_wire(std::vector<rpc::WriterStatus> list) {
  std::vector<WriterStatus> writers;
  for (rpc::WriterStatus& status : list) {
    writers.push_back({status.instance_id, status.class_id, std::move(status.name), status.state,
                       status.failure, status.application_code, std::move(status.message)});
  }
  return writers;
}

CoordinatorStatus from_wire(rpc::CoordinatorStatus status) {
  CoordinatorStatus result;
  result.program = std::move(status.program);
  // Bounded so that a peer's number fits the type.
  constexpr std::uint64_t kSecondsMax = 1U << 31U;
  result.uptime = std::chrono::seconds(std::min(status.uptime_s, kSecondsMax));
  result.writers = status.writers;
  result.sessions = status.sessions;
  result.providers_connected = status.providers_connected;
  result.set_in_progress = status.set_in_progress;
  result.set_phase = std::move(status.set_phase);
  result.set_holder = std::move(status.set_holder);
  result.set_age = std::chrono::milliseconds(std::min(status.set_age_ms, 1000 * kSecondsMax));
  return result;
}

SetTrace from_wire(rpc::SetTrace trace) {
  static constexpr std::uint64_t kMicrosecondsMax = std::uint64_t{1} << 50U;
  const auto us = [](std::uint64_t count) {
    return std::chrono::microseconds(std::min(count, kMicrosecondsMax));
  };
  SetTrace result;
  result.set_id = trace.set_id;
  result.session_id = trace.session_id;
  result.requester = std::move(trace.requester);
  result.begin_filetime = trace.begin_filetime;
  result.ended = trace.ended;
  result.code = trace.code;
  result.context = std::move(trace.context);
  result.dropped = trace.dropped;
  for (rpc::TraceSpan& span : trace.spans)
    result.spans.push_back({std::move(span.actor), std::move(span.what), us(span.begin_us),
                            us(span.end_us), span.ended, span.code, std::move(span.text)});
  return result;
}

CoordinatorSettings from_wire(rpc::CoordinatorSettings settings) {
  const auto files = [](std::vector<rpc::NamedFiles>& list) {
    std::vector<NamedFiles> named;
    for (rpc::NamedFiles& one : list)
      named.push_back({std::move(one.application), std::move(one.files)});
    return named;
  };
  return {files(settings.files_not_to_snapshot), files(settings.files_not_to_backup),
          std::move(settings.writers_blocking_revert)};
}

DeletedSnapshots from_wire(rpc::DeletedSnapshots report) {
  DeletedSnapshots deleted{
      .deleted = report.deleted, .not_deleted = report.not_deleted, .status = {}};
  if (report.status != Errc::ok) deleted.status = fail(report.status, std::move(report.context));
  return deleted;
}

SetReport from_wire(rpc::OperationStatus status) {
  SetReport report;
  constexpr std::uint64_t kMicrosecondsMax = std::uint64_t{1} << 50U;
  for (rpc::PhaseTime& phase : status.timeline) {
    report.timeline.push_back(
        {std::move(phase.phase),
         std::chrono::microseconds(std::min(phase.begin_us, kMicrosecondsMax)),
         std::chrono::microseconds(std::min(phase.end_us, kMicrosecondsMax))});
  }
  report.hold = status.hold;
  report.writers = from_wire(std::move(status.writers));
  return report;
}

rpc::ComponentRef to_wire(const ComponentRef& component) {
  return {component.instance_id, component.class_id, component.type, component.logical_path,
          component.name};
}

rpc::AttachVolume to_wire(const AttachOptions& options) {
  rpc::AttachVolume message;
  message.origin_path = options.origin_path;
  message.diff_area_path = options.diff_area_path;
  message.name = options.name;
  message.chunk_bytes = options.chunk_bytes;
  message.diff_initial_bytes = options.diff_initial_bytes;
  message.diff_maximum_bytes = options.diff_maximum_bytes;
  message.snapshots_max = options.snapshots_max;
  message.expose = text_of(options.front_end);
  message.cache = options.cache == OriginCache::none ? "none" : "buffered";
  message.preserve = options.preserve == Preservation::reflink ? "reflink" : "copy";
  message.accept_changed_origin = options.accept_changed_origin;
  message.origin_moved = options.origin_moved;
  message.copy_free_blocks = options.copy_free_blocks;
  message.force = options.force;
  return message;
}

Result<SnapshotProperties> find_snapshot(const SnapshotList& list, const SnapshotId& id) {
  for (const SnapshotProperties& snapshot : list.snapshots) {
    if (snapshot.snapshot_id == id) return snapshot;
  }
  std::string context = "snapshot " + id.to_string();
  if (!list.absent_providers.empty()) context += "; these providers are away:";
  for (const std::string& name : list.absent_providers) context.append(" ").append(name);
  return fail(Errc::object_not_found, std::move(context));
}

}  // namespace umbra::requester
