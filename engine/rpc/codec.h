// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// Messages to JSON and back. Decoding is total: any JSON value gives the message or
// invalid_argument that names the member ("volume.device: expected decimal text"); nothing a peer
// can send throws or asserts. Unknown members are ignored, absent and null ones have the default of
// messages.h, numbers out of range and enumerators that VSS does not have are refused.
//
// Encoding is total too: messages for people are repaired (U+FFFD), all else escaped.

#pragma once

#include <boost/json/value.hpp>

#include "engine/rpc/hardware_messages.h"
#include "engine/rpc/management_messages.h"
#include "engine/rpc/messages.h"
#include "umbra/result.h"

namespace umbra::rpc {

using Json = boost::json::value;

/// Every message that can be encoded and decoded; codec.cc instantiates the templates for these.
// The formatter would indent each line of this table further than the one before.
// clang-format off
#define UMBRA_RPC_MESSAGES(X) \
  X(Nothing) X(HelloRequest) X(HelloReply) X(RegisterWriter) X(RegisterWriterReply) \
  X(AffectedVolume) X(WriterEvent) X(ComponentEdit) X(WriterReply) X(WindowExpired) \
  X(InitializeForBackup) X(SessionInfo) X(SetContext) X(SetBackupState) X(WriterSelection) \
  X(WriterMetadata) X(WriterMetadataList) X(ComponentRef) X(SetBackupSucceeded) \
  X(StartSnapshotSet) X(StartedSet) X(AddToSnapshotSet) X(AddedSnapshot) X(DoSnapshotSet) \
  X(InitializeForRestore) X(SetRestoreState) X(SetSelectedForRestore) X(AddRestoreSubcomponent) \
  X(SetRestoreText) X(SetRestoreFlag) X(SetRollForward) X(RestoreLocation) X(SetRangesFilePath) \
  X(SetFileRestoreStatus) X(SetComponentText) X(IsVolumeSupported) X(BreakSnapshotSet) \
  X(AddSnapshotToRecoverySet) X(RecoverSet) \
  X(WriterStatus) X(WriterStatusList) X(Document) X(StartedOperation) X(WaitOperation) \
  X(PhaseTime) X(OperationStatus) X(QuerySnapshots) X(SnapshotList) X(DeleteSnapshots) \
  X(DeletedSnapshots) X(ProviderEntry) X(ProviderList) X(WriterEntry) X(WriterEntryList) \
  X(NamedFiles) X(CoordinatorSettings) X(TraceSpan) X(SetTrace) X(QueryTrace) X(TraceList) \
  X(MountSnapshot) X(MountedSnapshot) X(UnmountSnapshot) X(AttachVolume) X(AttachedVolume) \
  X(DetachVolume) X(VolumeList) X(CoordinatorStatus) X(AbortSet) X(AbortedSet) \
  X(UnregisterProvider) \
  X(RegisterProvider) X(RegisteredProvider) X(SetRequest) X(VolumeSupportRequest) \
  X(SupportReply) X(SetFateReply) X(SessionRequest) X(RetainSessions) X(VolumeRequest) \
  X(ProviderProperties) \
  X(VolumeRef) X(VolumeProperties) X(SnapshotProperties) X(PrepareSnapshot) X(HoldLimits) \
  X(HoldReport) UMBRA_RPC_MANAGEMENT_MESSAGES(X) UMBRA_RPC_HARDWARE_MESSAGES(X)
// clang-format on

/// The JSON object of `message`. Threads: any.
template <class Message>
[[nodiscard]] Json encode(const Message& message);

/// Errors: invalid_argument (names the member). Threads: any.
template <class Message>
[[nodiscard]] Result<Message> decode(const Json& value);

/// The `error` member of a JSON-RPC reply: {code, message, data: {code, context}}.
[[nodiscard]] Json encode_error(const Error& error);
/// What an `error` member means here; total. A peer without our `data` is understood by JSON-RPC's
/// own codes, else as `unexpected`. Its text is cut and made printable.
[[nodiscard]] Error decode_error(const Json& value);

/// One line of JSON without its end.
[[nodiscard]] std::string serialize(const Json& value);
/// Errors: protocol_violation (not JSON, nested more than kDepthMax deep, or it would take more
/// than `memory_bytes_max` in memory).
[[nodiscard]] Result<Json> parse(std::string_view line, std::size_t memory_bytes_max);

inline constexpr std::size_t kDepthMax = 32;

}  // namespace umbra::rpc
