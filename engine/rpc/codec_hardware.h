// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// Private to codec.cc: the members of the messages about hardware copies.

#pragma once

#include "engine/rpc/codec_visit.h"
#include "engine/rpc/hardware_messages.h"

namespace umbra::rpc {
namespace {

template <class V>
void members(V& v, Ref<V, LunIdentifier> m) {
  v("type", m.type), v("value", m.value);
}
template <class V>
void members(V& v, Ref<V, LunInformation> m) {
  v("vendor", m.vendor), v("product", m.product), v("revision", m.revision);
  v("serial", m.serial), v("size_bytes", decimal(m.size_bytes));
  v("identifiers", m.identifiers), v("device_path", path(m.device_path));
}
template <class V>
void members(V& v, Ref<V, LunMapping> m) {
  v("source", m.source), v("target", m.target);
}
template <class V>
void members(V& v, Ref<V, TransportedSnapshot> m) {
  v("snapshot_id", m.snapshot_id), v("set_id", m.set_id), v("provider_id", m.provider_id);
  v("volume_id", m.volume_id), v("volume_name", bytes(m.volume_name));
  v("originating_machine", m.originating_machine), v("snapshots_count", m.snapshots_count);
  v("attributes", m.attributes), v("creation_filetime", decimal(m.creation_filetime));
  v("luns", m.luns);
}
template <class V>
void members(V& v, Ref<V, LunSupport> m) {
  v("supported", m.supported), v("luns", m.luns);
}
template <class V>
void members(V& v, Ref<V, SnapshotLuns> m) {
  v("snapshot_id", m.snapshot_id), v("luns", m.luns);
}
template <class V>
void members(V& v, Ref<V, ImportedSet> m) {
  v("set_id", m.set_id), v("session_id", m.session_id), v("snapshots", m.snapshots);
}
template <class V>
void members(V& v, Ref<V, SnapshotLunsList> m) {
  v("snapshots", m.snapshots);
}
template <class V>
void members(V& v, Ref<V, LunList> m) {
  v("luns", m.luns);
}
template <class V>
void members(V& v, Ref<V, BreakLuns> m) {
  v("set_id", m.set_id), v("flags", m.flags);
}
template <class V>
void members(V& v, Ref<V, LunStateChange> m) {
  v("luns", m.luns), v("flags", m.flags);
}
template <class V>
void members(V& v, Ref<V, ResyncLuns> m) {
  v("luns", m.luns), v("options", m.options);
}
template <class V>
void members(V& v, Ref<V, VolumeIdList> m) {
  v("volume_ids", m.volume_ids);
}

constexpr int largest(LunIdentifierType) { return 10; }

}  // namespace
}  // namespace umbra::rpc
