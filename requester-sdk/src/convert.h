// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// Wire messages to the SDK's public values. They are kept apart so that the wire can grow without
// breaking those who compile against us.

#pragma once

#include "engine/rpc/messages.h"
#include "umbra/requester/types.h"

namespace umbra::requester {

[[nodiscard]] SnapshotList from_wire(rpc::SnapshotList list);
[[nodiscard]] VolumeList from_wire(rpc::VolumeList list);
[[nodiscard]] std::vector<WriterInfo> from_wire(rpc::WriterEntryList list);
[[nodiscard]] std::vector<ProviderInfo> from_wire(rpc::ProviderList list);
/// Errors: invalid_xml_document (names the writer).
[[nodiscard]] Result<std::vector<WriterMetadata>> from_wire(rpc::WriterMetadataList list);
[[nodiscard]] std::vector<WriterStatus> from_wire(std::vector<rpc::WriterStatus> list);
[[nodiscard]] CoordinatorStatus from_wire(rpc::CoordinatorStatus status);
[[nodiscard]] SetTrace from_wire(rpc::SetTrace trace);
[[nodiscard]] CoordinatorSettings from_wire(rpc::CoordinatorSettings settings);
[[nodiscard]] DeletedSnapshots from_wire(rpc::DeletedSnapshots report);
[[nodiscard]] SetReport from_wire(rpc::OperationStatus status);
[[nodiscard]] rpc::ComponentRef to_wire(const ComponentRef& component);
[[nodiscard]] rpc::AttachVolume to_wire(const AttachOptions& options);

/// The snapshot in a listing, or object_not_found, which names who is away.
[[nodiscard]] Result<SnapshotProperties> find_snapshot(const SnapshotList& list,
                                                       const SnapshotId& id);

}  // namespace umbra::requester
