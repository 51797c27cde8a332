// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// Private to codec.cc: the members of the messages about management.

#pragma once

#include "engine/rpc/codec_visit.h"
#include "engine/rpc/management_messages.h"

namespace umbra::rpc {
namespace {

template <class V>
void members(V& v, Ref<V, ManagementQuery> m) {
  v("provider_id", m.provider_id), v("context", m.context);
}
template <class V>
void members(V& v, Ref<V, ManagementVolume> m) {
  v("provider_id", m.provider_id), v("volume", m.volume);
}
template <class V>
void members(V& v, Ref<V, ManagementDiffVolume> m) {
  v("provider_id", m.provider_id), v("diff_volume", path(m.diff_volume));
}
template <class V>
void members(V& v, Ref<V, ManagementSnapshot> m) {
  v("provider_id", m.provider_id), v("snapshot_id", m.snapshot_id), v("priority", m.priority);
  v("until_filetime", decimal(m.until_filetime));
}
template <class V>
void members(V& v, Ref<V, ManagementDiffArea> m) {
  v("provider_id", m.provider_id), v("volume", m.volume), v("diff_volume", path(m.diff_volume));
  v("maximum_bytes", decimal(m.maximum_bytes)), v("is_volatile", m.is_volatile);
  v("new_diff_volume", path(m.new_diff_volume));
  v("bytes_per_second", decimal(m.bytes_per_second));
}
template <class V>
void members(V& v, Ref<V, SetProtectLevel> m) {
  v("provider_id", m.provider_id), v("volume", m.volume), v("level", m.level);
}
template <class V>
void members(V& v, Ref<V, QueryDelta> m) {
  v("provider_id", m.provider_id), v("older", m.older), v("younger", m.younger);
  v("first_block", decimal(m.first_block));
}
template <class V>
void members(V& v, Ref<V, ScrubDiffArea> m) {
  v("provider_id", m.provider_id), v("volume", m.volume);
  v("bytes_per_second", decimal(m.bytes_per_second));
}
template <class V>
void members(V& v, Ref<V, RevertToSnapshot> m) {
  v("provider_id", m.provider_id), v("snapshot_id", m.snapshot_id);
  v("force_dismount", m.force_dismount);
}
template <class V>
void members(V& v, Ref<V, RevertInfo> m) {
  v("volume_id", m.volume_id), v("volume_name", bytes(m.volume_name)),
      v("snapshot_id", m.snapshot_id);
  v("total_bytes", decimal(m.total_bytes)), v("done_bytes", decimal(m.done_bytes));
  v("stopped", m.stopped), v("trouble", m.trouble);
}
template <class V>
void members(V& v, Ref<V, RevertList> m) {
  v("reverts", m.reverts);
}
template <class V>
void members(V& v, Ref<V, CreateCheckpoint> m) {
  v("provider_id", m.provider_id), v("snapshot_id", m.snapshot_id), v("name", bytes(m.name));
}
template <class V>
void members(V& v, Ref<V, DeleteCheckpoint> m) {
  v("provider_id", m.provider_id), v("checkpoint_id", m.checkpoint_id);
}
template <class V>
void members(V& v, Ref<V, QueryChanges> m) {
  v("provider_id", m.provider_id), v("since", m.since), v("until", m.until);
  v("first_block", decimal(m.first_block));
}
template <class V>
void members(V& v, Ref<V, CheckpointProperties> m) {
  v("checkpoint_id", m.checkpoint_id), v("volume_id", m.volume_id);
  v("volume_name", bytes(m.volume_name)), v("name", bytes(m.name)), v("snapshot_id", m.snapshot_id);
  v("creation_filetime", decimal(m.creation_filetime)), v("lost", m.lost);
}
template <class V>
void members(V& v, Ref<V, CheckpointList> m) {
  v("checkpoints", m.checkpoints);
}
template <class V>
void members(V& v, Ref<V, ProviderOperation> m) {
  v("provider_id", m.provider_id), v("operation_id", m.operation_id);
  v("time_limit_ms", m.time_limit_ms);
}
template <class V>
void members(V& v, Ref<V, SupportedVolume> m) {
  v("volume_id", m.volume_id), v("display_name", bytes(m.display_name));
}
template <class V>
void members(V& v, Ref<V, DiffVolumeProperties> m) {
  v("diff_volume", path(m.diff_volume)), v("display_name", path(m.display_name));
  v("free_bytes", decimal(m.free_bytes)), v("total_bytes", decimal(m.total_bytes));
}
template <class V>
void members(V& v, Ref<V, DiffAreaProperties> m) {
  v("volume_id", m.volume_id), v("volume_name", bytes(m.volume_name));
  v("diff_area_path", path(m.diff_area_path)), v("diff_volume", path(m.diff_volume));
  v("maximum_bytes", decimal(m.maximum_bytes));
  v("allocated_bytes", decimal(m.allocated_bytes)), v("used_bytes", decimal(m.used_bytes));
  v("explicit_association", m.explicit_association), v("volatile_maximum", m.volatile_maximum);
  v("reflink", m.reflink), v("snapshots", m.snapshots), v("snapshots_lost", m.snapshots_lost);
  v("state", m.state);
}
template <class V>
void members(V& v, Ref<V, VolumeProtectionInfo> m) {
  v("level", m.level), v("volume_is_offline", m.volume_is_offline), v("fault", m.fault);
  v("failure", m.failure), v("fault_filetime", decimal(m.fault_filetime));
  v("has_unused_diff_area", m.has_unused_diff_area);
}
template <class V>
void members(V& v, Ref<V, SnapshotDelta::Run> m) {
  v("first_block", decimal(m.first_block)), v("blocks", decimal(m.blocks));
}
template <class V>
void members(V& v, Ref<V, SnapshotDelta> m) {
  v("block_bytes", m.block_bytes), v("volume_blocks", decimal(m.volume_blocks));
  v("runs", m.runs), v("next_block", decimal(m.next_block));
}
template <class V>
void members(V& v, Ref<V, OperationFact> m) {
  v("name", m.name), v("value", bytes(m.value));
}
template <class V>
void members(V& v, Ref<V, OperationInfo> m) {
  v("operation_id", m.operation_id), v("kind", m.kind), v("subject", m.subject);
  v("done", decimal(m.done)), v("total", decimal(m.total)), v("text", m.text);
  v("status", m.status), v("context", m.context), v("cancelling", m.cancelling);
  v("facts", m.facts), v("begun_filetime", decimal(m.begun_filetime));
  v("ended_filetime", decimal(m.ended_filetime));
}
template <class V>
void members(V& v, Ref<V, SupportedVolumeList> m) {
  v("volumes", m.volumes);
}
template <class V>
void members(V& v, Ref<V, DiffVolumeList> m) {
  v("diff_volumes", m.diff_volumes);
}
template <class V>
void members(V& v, Ref<V, DiffAreaList> m) {
  v("diff_areas", m.diff_areas);
}
template <class V>
void members(V& v, Ref<V, MinDiffAreaSize> m) {
  v("minimum_bytes", decimal(m.minimum_bytes));
}
template <class V>
void members(V& v, Ref<V, StartedProviderOperation> m) {
  v("operation_id", m.operation_id);
}
template <class V>
void members(V& v, Ref<V, OperationList> m) {
  v("operations", m.operations);
}

template <class V>
void members(V& v, Ref<V, ProviderEvent> m) {
  v("sequence", decimal(m.sequence)), v("name", m.name), v("event_id", m.event_id);
  v("severity", m.severity), v("time_filetime", decimal(m.time_filetime));
  v("provider_id", m.provider_id), v("volume_id", m.volume_id), v("volume", bytes(m.volume));
  v("snapshot_id", m.snapshot_id), v("set_id", m.set_id), v("cause", m.cause), v("who", m.who);
  v("percent", m.percent), v("fault", m.fault), v("used_bytes", decimal(m.used_bytes));
  v("limit_bytes", decimal(m.limit_bytes)), v("text", m.text);
}
template <class V>
void members(V& v, Ref<V, QueryEvents> m) {
  v("after", decimal(m.after)), v("count", m.count), v("time_limit_ms", m.time_limit_ms);
}
template <class V>
void members(V& v, Ref<V, EventList> m) {
  v("events", m.events), v("next", decimal(m.next)), v("lost", decimal(m.lost));
}

constexpr int largest(EventSeverity) { return 2; }
constexpr int largest(ProtectionLevel) { return 1; }
constexpr int largest(ProtectionFault) { return 16; }

}  // namespace
}  // namespace umbra::rpc
