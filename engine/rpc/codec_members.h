// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// Private to codec.cc: the members of the other messages, in the order of messages.h.
//
// One members() per message serves both directions: the visitor either writes the fields into an
// object or reads them from one, so that names cannot differ between the two.

#pragma once

#include "engine/rpc/codec_visit.h"
#include "engine/rpc/messages.h"

namespace umbra::rpc {
namespace {

template <class V>
void members(V&, Ref<V, Nothing>) {}
template <class V>
void members(V& v, Ref<V, InitializeForBackup> m) {
  v("components", m.components);
}

template <class V>
void members(V& v, Ref<V, HelloRequest> m) {
  v("major", m.major), v("minor", m.minor), v("features", m.features);
  v("role", m.role), v("program", m.program);
}
template <class V>
void members(V& v, Ref<V, HelloReply> m) {
  v("major", m.major), v("minor", m.minor), v("features", m.features);
  v("program", m.program), v("roles", m.roles);
}
template <class V>
void members(V& v, Ref<V, RegisterWriter> m) {
  v("class_id", m.class_id), v("name", bytes(m.name)), v("instance_name", bytes(m.instance_name));
  v("version_major", m.version_major), v("version_minor", m.version_minor);
  v("usage", m.usage), v("source", m.source), v("level", m.level);
  v("freeze_window_ms", m.freeze_window_ms), v("subscription", m.subscription);
}
template <class V>
void members(V& v, Ref<V, RegisterWriterReply> m) {
  v("instance_id", m.instance_id);
}
template <class V>
void members(V& v, Ref<V, AffectedVolume> m) {
  v("volume_id", m.volume_id), v("name", bytes(m.name)), v("device", decimal(m.device));
  v("snapshot_id", m.snapshot_id), v("snapshot_device", path(m.snapshot_device));
}
template <class V>
void members(V& v, Ref<V, WriterEvent> m) {
  v("session_id", m.session_id), v("set_id", m.set_id), v("context", m.context);
  v("backup_type", m.backup_type), v("component_mode", m.component_mode);
  v("bootable_system_state", m.bootable_system_state);
  v("partial_file_support", m.partial_file_support), v("restore_type", m.restore_type);
  v("time_limit_ms", m.time_limit_ms);
  v("volumes", m.volumes), v("components", m.components);
}
template <class V>
void members(V& v, Ref<V, ComponentEdit> m) {
  v("op", m.op), v("logical_path", bytes(m.logical_path)), v("component", bytes(m.component));
  v("values", bytes(m.values));
}
template <class V>
void members(V& v, Ref<V, WriterReply> m) {
  v("ok", m.ok), v("failure", m.failure), v("application_code", m.application_code);
  v("message", m.message), v("metadata", m.metadata), v("edits", m.edits);
}
template <class V>
void members(V& v, Ref<V, WindowExpired> m) {
  v("session_id", m.session_id);
}
template <class V>
void members(V& v, Ref<V, SessionInfo> m) {
  v("session_id", m.session_id);
}
template <class V>
void members(V& v, Ref<V, SetContext> m) {
  v("context", m.context);
}
template <class V>
void members(V& v, Ref<V, SetBackupState> m) {
  v("component_mode", m.component_mode), v("bootable_system_state", m.bootable_system_state);
  v("backup_type", m.backup_type), v("partial_file_support", m.partial_file_support);
}
template <class V>
void members(V& v, Ref<V, WriterSelection> m) {
  v("ids", m.ids);
}
template <class V>
void members(V& v, Ref<V, WriterMetadata> m) {
  v("instance_id", m.instance_id), v("class_id", m.class_id), v("name", bytes(m.name));
  v("metadata", m.metadata);
}
template <class V>
void members(V& v, Ref<V, WriterMetadataList> m) {
  v("writers", m.writers);
}
template <class V>
void members(V& v, Ref<V, ComponentRef> m) {
  v("instance_id", m.instance_id), v("class_id", m.class_id), v("type", m.type);
  v("logical_path", bytes(m.logical_path)), v("name", bytes(m.name));
}
template <class V>
void members(V& v, Ref<V, SetBackupSucceeded> m) {
  v("component", m.component), v("succeeded", m.succeeded);
}
template <class V>
void members(V& v, Ref<V, StartSnapshotSet> m) {
  v("queue_limit_ms", m.queue_limit_ms);
}
template <class V>
void members(V& v, Ref<V, StartedSet> m) {
  v("set_id", m.set_id);
}
template <class V>
void members(V& v, Ref<V, VolumeRef> m) {
  v("id", m.id), v("name", bytes(m.name)), v("device", decimal(m.device)), v("path", path(m.path));
}
template <class V>
void members(V& v, Ref<V, AddToSnapshotSet> m) {
  v("volume", m.volume), v("provider_id", m.provider_id);
}
template <class V>
void members(V& v, Ref<V, AddedSnapshot> m) {
  v("snapshot_id", m.snapshot_id), v("volume_id", m.volume_id);
}
template <class V>
void members(V& v, Ref<V, DoSnapshotSet> m) {
  v("policy", m.policy), v("policy_list", m.policy_list);
}
template <class V>
void members(V& v, Ref<V, SetComponentText> m) {
  v("component", m.component), v("text", bytes(m.text));
}
template <class V>
void members(V& v, Ref<V, IsVolumeSupported> m) {
  v("volume", m.volume), v("provider_id", m.provider_id);
}
template <class V>
void members(V& v, Ref<V, BreakSnapshotSet> m) {
  v("set_id", m.set_id), v("flags", m.flags);
}
template <class V>
void members(V& v, Ref<V, AddSnapshotToRecoverySet> m) {
  v("snapshot_id", m.snapshot_id), v("flags", m.flags), v("destination", m.destination);
}
template <class V>
void members(V& v, Ref<V, RecoverSet> m) {
  v("flags", m.flags);
}
template <class V>
void members(V& v, Ref<V, InitializeForRestore> m) {
  v("components", m.components);
}
template <class V>
void members(V& v, Ref<V, SetRestoreState> m) {
  v("restore_type", m.restore_type);
}
template <class V>
void members(V& v, Ref<V, SetSelectedForRestore> m) {
  v("component", m.component), v("selected", m.selected);
}
template <class V>
void members(V& v, Ref<V, AddRestoreSubcomponent> m) {
  v("component", m.component), v("logical_path", bytes(m.logical_path)), v("name", bytes(m.name));
}
template <class V>
void members(V& v, Ref<V, SetRestoreText> m) {
  v("component", m.component), v("text", bytes(m.text));
}
template <class V>
void members(V& v, Ref<V, SetRestoreFlag> m) {
  v("component", m.component), v("value", m.value);
}
template <class V>
void members(V& v, Ref<V, SetRollForward> m) {
  v("component", m.component), v("type", m.type), v("point", bytes(m.point));
}
template <class V>
void members(V& v, Ref<V, RestoreLocation> m) {
  v("component", m.component), v("path", path(m.path)), v("pattern", path(m.pattern));
  v("recursive", m.recursive), v("destination", path(m.destination));
}
template <class V>
void members(V& v, Ref<V, SetRangesFilePath> m) {
  v("component", m.component), v("partial_file", m.partial_file), v("path", path(m.path));
}
template <class V>
void members(V& v, Ref<V, SetFileRestoreStatus> m) {
  v("component", m.component), v("status", m.status);
}
template <class V>
void members(V& v, Ref<V, WriterStatus> m) {
  v("instance_id", m.instance_id), v("class_id", m.class_id), v("name", bytes(m.name));
  v("state", m.state), v("failure", m.failure), v("application_code", m.application_code);
  v("message", m.message);
}
template <class V>
void members(V& v, Ref<V, WriterStatusList> m) {
  v("writers", m.writers);
}
template <class V>
void members(V& v, Ref<V, Document> m) {
  v("xml", m.xml);
}
template <class V>
void members(V& v, Ref<V, StartedOperation> m) {
  v("operation", m.operation);
}
template <class V>
void members(V& v, Ref<V, WaitOperation> m) {
  v("operation", m.operation), v("time_limit_ms", m.time_limit_ms);
}
template <class V>
void members(V& v, Ref<V, PhaseTime> m) {
  v("phase", m.phase), v("begin_us", m.begin_us), v("end_us", m.end_us);
}
template <class V>
void members(V& v, Ref<V, HoldReport> m) {
  v("flush_us", m.flush), v("freeze_us", m.freeze), v("gate_us", m.gate);
}
template <class V>
void members(V& v, Ref<V, HoldLimits> m) {
  v("flush_ms", m.flush), v("hold_ms", m.hold), v("window_ms", m.window);
}
template <class V>
void members(V& v, Ref<V, OperationStatus> m) {
  v("status", m.status), v("context", m.context), v("phase", m.phase);
  v("timeline", m.timeline), v("hold", m.hold), v("writers", m.writers);
}
template <class V>
void members(V& v, Ref<V, QuerySnapshots> m) {
  v("context", m.context), v("incomplete", m.incomplete);
}
template <class V>
void members(V& v, Ref<V, SnapshotProperties> m) {
  v("snapshot_id", m.snapshot_id), v("set_id", m.set_id), v("volume_id", m.volume_id);
  v("provider_id", m.provider_id), v("snapshots_count", m.snapshots_count);
  v("device_object", path(m.device_object)), v("nbd_uri", path(m.nbd_uri));
  v("original_volume", bytes(m.original_volume)), v("originating_machine", m.originating_machine);
  v("service_machine", m.service_machine), v("exposed_path", path(m.exposed_path));
  v("attributes", m.attributes), v("creation_filetime", decimal(m.creation_filetime));
  v("state", m.state), v("lost", m.lost);
}
template <class V>
void members(V& v, Ref<V, SnapshotList> m) {
  v("snapshots", m.snapshots), v("absent_providers", m.absent_providers);
}
template <class V>
void members(V& v, Ref<V, DeleteSnapshots> m) {
  v("id", m.id), v("type", m.type), v("force", m.force);
}
template <class V>
void members(V& v, Ref<V, DeletedSnapshots> m) {
  v("deleted", m.deleted), v("not_deleted", m.not_deleted), v("status", m.status);
  v("context", m.context);
}
template <class V>
void members(V& v, Ref<V, ProviderProperties> m) {
  v("provider_id", m.provider_id), v("name", m.name), v("type", m.type);
  v("version", m.version);
}
template <class V>
void members(V& v, Ref<V, ProviderEntry> m) {
  v("properties", m.properties), v("connected", m.connected);
  v("registered", m.registered);
}
template <class V>
void members(V& v, Ref<V, ProviderList> m) {
  v("providers", m.providers);
}
template <class V>
void members(V& v, Ref<V, WriterEntry> m) {
  v("instance_id", m.instance_id), v("class_id", m.class_id), v("name", bytes(m.name));
  v("instance_name", bytes(m.instance_name)), v("level", m.level);
  v("freeze_window_ms", m.freeze_window_ms), v("state", m.state);
  v("last_failure", m.last_failure), v("last_failure_phase", m.last_failure_phase);
  v("last_failure_message", m.last_failure_message);
  v("last_failure_filetime", decimal(m.last_failure_filetime));
}
template <class V>
void members(V& v, Ref<V, WriterEntryList> m) {
  v("writers", m.writers);
}
template <class V>
void members(V& v, Ref<V, NamedFiles> m) {
  v("application", bytes(m.application)), v("files", bytes(m.files));
}
template <class V>
void members(V& v, Ref<V, CoordinatorSettings> m) {
  v("files_not_to_snapshot", m.files_not_to_snapshot);
  v("files_not_to_backup", m.files_not_to_backup);
  v("writers_blocking_revert", m.writers_blocking_revert);
}
template <class V>
void members(V& v, Ref<V, TraceSpan> m) {
  v("actor", m.actor), v("what", m.what), v("begin_us", m.begin_us), v("end_us", m.end_us);
  v("ended", m.ended), v("code", m.code), v("text", m.text);
}
template <class V>
void members(V& v, Ref<V, SetTrace> m) {
  v("set_id", m.set_id), v("session_id", m.session_id), v("requester", m.requester);
  v("uid", m.uid), v("begin_filetime", decimal(m.begin_filetime)), v("ended", m.ended);
  v("code", m.code), v("context", m.context), v("dropped", m.dropped), v("spans", m.spans);
}
template <class V>
void members(V& v, Ref<V, QueryTrace> m) {
  v("set_id", m.set_id);
}
template <class V>
void members(V& v, Ref<V, TraceList> m) {
  v("traces", m.traces);
}
template <class V>
void members(V& v, Ref<V, MountSnapshot> m) {
  v("snapshot_id", m.snapshot_id), v("directory", path(m.directory));
  v("recover", m.recover), v("write", m.write);
}
template <class V>
void members(V& v, Ref<V, MountedSnapshot> m) {
  v("path", path(m.path)), v("device_path", path(m.device_path)), v("notes", m.notes);
}
template <class V>
void members(V& v, Ref<V, UnmountSnapshot> m) {
  v("snapshot_id", m.snapshot_id);
}
template <class V>
void members(V& v, Ref<V, AttachVolume> m) {
  v("origin_path", path(m.origin_path)), v("diff_area_path", path(m.diff_area_path));
  v("name", bytes(m.name)), v("chunk_bytes", m.chunk_bytes);
  v("diff_initial_bytes", decimal(m.diff_initial_bytes));
  v("diff_maximum_bytes", decimal(m.diff_maximum_bytes));
  v("snapshots_max", m.snapshots_max), v("expose", m.expose), v("cache", m.cache);
  v("preserve", m.preserve);
  v("accept_changed_origin", m.accept_changed_origin), v("origin_moved", m.origin_moved),
      v("copy_free_blocks", m.copy_free_blocks), v("force", m.force);
}
template <class V>
void members(V& v, Ref<V, VolumeProperties> m) {
  v("volume_id", m.volume_id), v("name", bytes(m.name)), v("origin_path", path(m.origin_path));
  v("diff_area_path", path(m.diff_area_path)), v("device_path", path(m.device_path));
  v("nbd_uri", path(m.nbd_uri)), v("device", decimal(m.device));
  v("front_end", m.front_end), v("front_end_why", m.front_end_why);
  v("size_bytes", decimal(m.size_bytes)), v("chunk_bytes", m.chunk_bytes);
  v("diff_used_bytes", decimal(m.diff_used_bytes));
  v("diff_allocated_bytes", decimal(m.diff_allocated_bytes));
  v("diff_maximum_bytes", decimal(m.diff_maximum_bytes));
  v("free_bytes_not_copied", decimal(m.free_bytes_not_copied));
  v("snapshot_count", m.snapshot_count), v("state", m.state);
}
template <class V>
void members(V& v, Ref<V, AttachedVolume> m) {
  v("volume", m.volume), v("notes", m.notes);
}
template <class V>
void members(V& v, Ref<V, DetachVolume> m) {
  v("volume", m.volume);
}
template <class V>
void members(V& v, Ref<V, VolumeList> m) {
  v("volumes", m.volumes), v("absent_providers", m.absent_providers);
}
template <class V>
void members(V& v, Ref<V, CoordinatorStatus> m) {
  v("program", m.program), v("uptime_s", m.uptime_s), v("writers", m.writers);
  v("sessions", m.sessions), v("providers_connected", m.providers_connected);
  v("set_in_progress", m.set_in_progress), v("set_phase", m.set_phase);
  v("set_holder", m.set_holder), v("set_age_ms", m.set_age_ms);
}
template <class V>
void members(V& v, Ref<V, AbortSet> m) {
  v("reason", m.reason);
}
template <class V>
void members(V& v, Ref<V, AbortedSet> m) {
  v("set_id", m.set_id), v("holder", m.holder);
}
template <class V>
void members(V& v, Ref<V, UnregisterProvider> m) {
  v("provider_id", m.provider_id), v("force", m.force);
}
template <class V>
void members(V& v, Ref<V, RegisterProvider> m) {
  v("properties", m.properties), v("event_stream", m.event_stream);
}
template <class V>
void members(V& v, Ref<V, RegisteredProvider> m) {
  v("alive", m.alive), v("events_after", decimal(m.events_after));
}
template <class V>
void members(V& v, Ref<V, SetRequest> m) {
  v("set_id", m.set_id), v("limits", m.limits), v("members", m.members);
}
template <class V>
void members(V& v, Ref<V, VolumeSupportRequest> m) {
  v("volume", m.volume), v("attributes", m.attributes);
}
template <class V>
void members(V& v, Ref<V, SupportReply> m) {
  v("supported", m.supported);
}
template <class V>
void members(V& v, Ref<V, SetFateReply> m) {
  v("fate", m.fate);
}
template <class V>
void members(V& v, Ref<V, SessionRequest> m) {
  v("session_id", m.session_id);
}
template <class V>
void members(V& v, Ref<V, RetainSessions> m) {
  v("alive", m.alive);
}
template <class V>
void members(V& v, Ref<V, VolumeRequest> m) {
  v("volume", m.volume);
}
template <class V>
void members(V& v, Ref<V, PrepareSnapshot> m) {
  v("set_id", m.set_id), v("snapshot_id", m.snapshot_id), v("volume", m.volume);
  v("attributes", m.attributes), v("session_id", m.session_id);
}

}  // namespace
}  // namespace umbra::rpc
