// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// Every error code of Umbra, in one table: number, name, what is wrong, and what to do about it.
//
// A code exists only if some caller would act differently on it; the rest of the story travels in
// Error::context. Where VSS has a code for the situation, the number is VSS's HRESULT and the name
// in the table is VSS's. Codes of our own lie in the HRESULT space reserved for non-Microsoft
// software (bit 29 set): 0xA004xxxx, grouped by who must act: 1xx the caller, 2xx the transport,
// 3xx storage, 4xx the machine. Numbers are on the wire and in logs: they never change.

#pragma once

#include <cstdint>
#include <string_view>

namespace umbra {

/// What a caller can usefully do next. Every code belongs to exactly one class.
enum class Remedy : std::uint8_t {
  none,          ///< Not an error.
  fix_the_call,  ///< The request was wrong; repeating it unchanged cannot work.
  retry_later,   ///< Something else was in the way; the same request may work in a while.
  reconnect,     ///< The peer is gone; a new connection or session is needed.
  give_up,       ///< Something is broken or lost; a person has to look.
};

// X(enumerator, number, VSS or own name, remedy, text)
#define UMBRA_ERRC_TABLE(X)                                                                        \
  X(ok, 0x00000000U, "S_OK", none, "success")                                                      \
  X(async_pending, 0x00042309U, "VSS_S_ASYNC_PENDING", none, "the operation is still running")     \
  X(async_finished, 0x0004230AU, "VSS_S_ASYNC_FINISHED", none, "the operation has finished")       \
  X(async_cancelled, 0x0004230BU, "VSS_S_ASYNC_CANCELLED", retry_later,                            \
    "the operation was cancelled")                                                                 \
  X(not_implemented, 0x80004001U, "E_NOTIMPL", fix_the_call, "this call is not offered here")      \
  X(unexpected, 0x8000FFFFU, "E_UNEXPECTED", give_up, "an internal error; see the log")            \
  X(access_denied, 0x80070005U, "E_ACCESSDENIED", fix_the_call,                                    \
    "the caller may not do this: for its role (docs/wire.md), or for a lock on the copy")          \
  X(out_of_memory, 0x8007000EU, "E_OUTOFMEMORY", retry_later, "not enough memory")                 \
  X(invalid_argument, 0x80070057U, "E_INVALIDARG", fix_the_call, "an argument is not valid")       \
  X(bad_state, 0x80042301U, "VSS_E_BAD_STATE", fix_the_call, "not allowed at this point")          \
  X(provider_already_registered, 0x80042303U, "VSS_E_PROVIDER_ALREADY_REGISTERED", fix_the_call,   \
    "a provider with this id is already registered")                                               \
  X(provider_not_registered, 0x80042304U, "VSS_E_PROVIDER_NOT_REGISTERED", reconnect,              \
    "no such provider is connected; start it and try again")                                       \
  X(provider_veto, 0x80042306U, "VSS_E_PROVIDER_VETO", give_up,                                    \
    "the provider failed; its log says why")                                                       \
  X(provider_in_use, 0x80042307U, "VSS_E_PROVIDER_IN_USE", retry_later, "the provider is in use")  \
  X(object_not_found, 0x80042308U, "VSS_E_OBJECT_NOT_FOUND", fix_the_call, "no such object")       \
  X(volume_not_supported, 0x8004230CU, "VSS_E_VOLUME_NOT_SUPPORTED", fix_the_call,                 \
    "no provider can snapshot this volume with these attributes; attach it first")                 \
  X(object_already_exists, 0x8004230DU, "VSS_E_OBJECT_ALREADY_EXISTS", fix_the_call,               \
    "the object already exists")                                                                   \
  X(volume_not_supported_by_provider, 0x8004230EU, "VSS_E_VOLUME_NOT_SUPPORTED_BY_PROVIDER",       \
    fix_the_call, "the named provider does not support this volume")                               \
  X(unexpected_provider_error, 0x8004230FU, "VSS_E_UNEXPECTED_PROVIDER_ERROR", give_up,            \
    "the provider answered with an error it may not use; see the log")                             \
  X(invalid_xml_document, 0x80042311U, "VSS_E_INVALID_XML_DOCUMENT", fix_the_call,                 \
    "the document is malformed or of another kind")                                                \
  X(maximum_number_of_volumes_reached, 0x80042312U, "VSS_E_MAXIMUM_NUMBER_OF_VOLUMES_REACHED",     \
    fix_the_call, "a snapshot set holds at most 64 volumes")                                       \
  X(flush_writes_timeout, 0x80042313U, "VSS_E_FLUSH_WRITES_TIMEOUT", retry_later,                  \
    "flushing the file systems took too long")                                                     \
  X(hold_writes_timeout, 0x80042314U, "VSS_E_HOLD_WRITES_TIMEOUT", retry_later,                    \
    "the snapshot could not be committed within the write hold")                                   \
  X(unexpected_writer_error, 0x80042315U, "VSS_E_UNEXPECTED_WRITER_ERROR", give_up,                \
    "events could not be delivered to the writers")                                                \
  X(snapshot_set_in_progress, 0x80042316U, "VSS_E_SNAPSHOT_SET_IN_PROGRESS", retry_later,          \
    "another snapshot set is being created")                                                       \
  X(maximum_number_of_snapshots_reached, 0x80042317U, "VSS_E_MAXIMUM_NUMBER_OF_SNAPSHOTS_REACHED", \
    fix_the_call, "the volume has as many snapshots as it may have; delete one first")             \
  X(writer_infrastructure, 0x80042318U, "VSS_E_WRITER_INFRASTRUCTURE", give_up,                    \
    "writers cannot be reached")                                                                   \
  X(writer_not_responding, 0x80042319U, "VSS_E_WRITER_NOT_RESPONDING", give_up,                    \
    "the writer is gone or did not answer in time")                                                \
  X(writer_already_subscribed, 0x8004231AU, "VSS_E_WRITER_ALREADY_SUBSCRIBED", fix_the_call,       \
    "this writer is already registered")                                                           \
  X(unsupported_context, 0x8004231BU, "VSS_E_UNSUPPORTED_CONTEXT", fix_the_call,                   \
    "the context or its attributes are not offered")                                               \
  X(volume_in_use, 0x8004231DU, "VSS_E_VOLUME_IN_USE", retry_later,                                \
    "the volume or snapshot is in use; close or unmount it first")                                 \
  X(maximum_diffarea_associations_reached, 0x8004231EU,                                            \
    "VSS_E_MAXIMUM_DIFFAREA_ASSOCIATIONS_REACHED", fix_the_call,                                   \
    "no further diff area can be kept there; detach a volume or use another place")                \
  X(insufficient_storage, 0x8004231FU, "VSS_E_INSUFFICIENT_STORAGE", give_up,                      \
    "the diff area is full; enlarge it or delete snapshots")                                       \
  X(some_snapshots_not_imported, 0x00042321U, "VSS_S_SOME_SNAPSHOTS_NOT_IMPORTED", give_up,        \
    "some copies were imported, the LUNs of others did not arrive")                                \
  X(no_snapshots_imported, 0x80042320U, "VSS_E_NO_SNAPSHOTS_IMPORTED", give_up,                    \
    "not one copy could be imported; look at the array")                                           \
  X(error_some_snapshots_not_imported, 0x80042321U, "VSS_E_SOME_SNAPSHOTS_NOT_IMPORTED", give_up,  \
    "some copies were imported, at others their provider failed")                                  \
  X(revert_in_progress, 0x80042325U, "VSS_E_REVERT_IN_PROGRESS", retry_later,                      \
    "the volume is being reverted; wait until that has finished")                                  \
  X(revert_volume_lost, 0x80042326U, "VSS_E_REVERT_VOLUME_LOST", give_up,                          \
    "the volume was lost while it was reverted; attach it again, and the revert goes on")          \
  X(reboot_required, 0x80042327U, "VSS_E_REBOOT_REQUIRED", give_up, "a reboot is needed first")    \
  X(unselected_volume, 0x8004232AU, "VSS_E_UNSELECTED_VOLUME", fix_the_call,                       \
    "a volume that was not selected lies on a LUN that would be written over")                     \
  X(snapshot_not_in_set, 0x8004232BU, "VSS_E_SNAPSHOT_NOT_IN_SET", fix_the_call,                   \
    "the snapshot is not in this set")                                                             \
  X(nested_volume_limit, 0x8004232CU, "VSS_E_NESTED_VOLUME_LIMIT", fix_the_call,                   \
    "volumes lie on each other in a circle; move an origin or a diff area")                        \
  X(not_supported, 0x8004232FU, "VSS_E_NOT_SUPPORTED", fix_the_call, "not supported")              \
  X(writererror_partial_failure, 0x80042336U, "VSS_E_WRITERERROR_PARTIAL_FAILURE", give_up,        \
    "some components of the writer failed")                                                        \
  X(writererror_inconsistentsnapshot, 0x800423F0U, "VSS_E_WRITERERROR_INCONSISTENTSNAPSHOT",       \
    fix_the_call, "the set lacks volumes that the writer needs; add them")                         \
  X(writererror_outofresources, 0x800423F1U, "VSS_E_WRITERERROR_OUTOFRESOURCES", retry_later,      \
    "the writer ran out of resources")                                                             \
  X(writererror_timeout, 0x800423F2U, "VSS_E_WRITERERROR_TIMEOUT", retry_later,                    \
    "the writer's freeze window or an answer's time limit expired")                                \
  X(writererror_retryable, 0x800423F3U, "VSS_E_WRITERERROR_RETRYABLE", retry_later,                \
    "the writer failed; it may work the next time")                                                \
  X(writererror_nonretryable, 0x800423F4U, "VSS_E_WRITERERROR_NONRETRYABLE", give_up,              \
    "the writer failed and will fail again; its log says why")                                     \
  X(writererror_recovery_failed, 0x800423F5U, "VSS_E_WRITERERROR_RECOVERY_FAILED", give_up,        \
    "the writer could not recover its data on the snapshot")                                       \
  X(break_revert_id_failed, 0x800423F6U, "VSS_E_BREAK_REVERT_ID_FAILED", fix_the_call,             \
    "identities cannot be given back while an original LUN is visible; mask it first")             \
  X(legacy_provider, 0x800423F7U, "VSS_E_LEGACY_PROVIDER", fix_the_call,                           \
    "the snapshot's provider cannot do this; use revert_to_snapshot or copy the files")            \
  X(missing_disk, 0x800423F8U, "VSS_E_MISSING_DISK", give_up,                                      \
    "a disk that is needed is not visible here")                                                   \
  X(missing_volume, 0x800423FAU, "VSS_E_MISSING_VOLUME", give_up,                                  \
    "a volume did not come back on its disk")                                                      \
  X(autorecovery_failed, 0x800423FBU, "VSS_E_AUTORECOVERY_FAILED", give_up,                        \
    "auto-recovery of the snapshot did not complete")                                              \
  X(nontransportable_bcd, 0x800423FDU, "VSS_E_NONTRANSPORTABLE_BCD", fix_the_call,                 \
    "the document describes no transportable snapshot set")                                        \
  X(cannot_revert_diskid, 0x800423FEU, "VSS_E_CANNOT_REVERT_DISKID", fix_the_call,                 \
    "the disk cannot get the identity of the original")                                            \
  X(resync_in_progress, 0x800423FFU, "VSS_E_RESYNC_IN_PROGRESS", retry_later,                      \
    "the LUN is being written over already")                                                       \
  X(writer_status_not_available, 0x80042409U, "VSS_E_WRITER_STATUS_NOT_AVAILABLE", retry_later,    \
    "the writer has too many open sessions")                                                       \
  X(fss_timeout, 0x80042417U, "VSS_E_FSS_TIMEOUT", retry_later,                                    \
    "preparing a copy of a share took too long")                                                   \
  X(limit_reached, 0xA0040101U, "UMBRA_E_LIMIT_REACHED", retry_later,                              \
    "a limit of the service is reached")                                                           \
  X(volume_attached, 0xA0040102U, "UMBRA_E_VOLUME_ATTACHED", fix_the_call,                         \
    "already attached by this or another umbra-cowd; detach it first")                             \
  X(coordinator_lost, 0xA0040201U, "UMBRA_E_COORDINATOR_LOST", reconnect,                          \
    "umbrad is not running, or the connection to it broke")                                        \
  X(protocol_violation, 0xA0040202U, "UMBRA_E_PROTOCOL_VIOLATION", give_up,                        \
    "the peer sent what docs/wire.md does not allow")                                              \
  X(version_mismatch, 0xA0040203U, "UMBRA_E_VERSION_MISMATCH", give_up,                            \
    "the two programs speak different versions; upgrade the older one")                            \
  X(io_error, 0xA0040301U, "UMBRA_E_IO", give_up, "reading or writing failed")                     \
  X(snapshot_lost, 0xA0040302U, "UMBRA_E_SNAPSHOT_LOST", give_up,                                  \
    "the snapshot is lost: its old data could not be kept; delete it")                             \
  X(diff_area_foreign, 0xA0040303U, "UMBRA_E_DIFF_AREA_FOREIGN", fix_the_call,                     \
    "not an Umbra diff area; name another file, or --force to overwrite it")                       \
  X(diff_area_version, 0xA0040304U, "UMBRA_E_DIFF_AREA_VERSION", give_up,                          \
    "the diff area was written by another format version of Umbra")                                \
  X(diff_area_corrupt, 0xA0040305U, "UMBRA_E_DIFF_AREA_CORRUPT", give_up,                          \
    "the diff area is damaged; its snapshots cannot be trusted")                                   \
  X(diff_area_wrong_origin, 0xA0040306U, "UMBRA_E_DIFF_AREA_WRONG_ORIGIN", fix_the_call,           \
    "this diff area belongs to another volume")                                                    \
  X(origin_changed, 0xA0040307U, "UMBRA_E_ORIGIN_CHANGED", give_up,                                \
    "the origin was written while it was detached; its snapshots are no longer true")              \
  X(changes_unknown, 0xA0040308U, "UMBRA_E_CHANGES_UNKNOWN", fix_the_call,                         \
    "what changed since then is not known any more; make a full backup and a new checkpoint")      \
  X(freeze_failed, 0xA0040401U, "UMBRA_E_FREEZE_FAILED", retry_later,                              \
    "a file system could not be frozen")                                                           \
  X(missing_privilege, 0xA0040402U, "UMBRA_E_MISSING_PRIVILEGE", fix_the_call, "this needs root")  \
  X(missing_kernel_feature, 0xA0040403U, "UMBRA_E_MISSING_KERNEL_FEATURE", give_up,                \
    "the running kernel lacks what this needs")

enum class Errc : std::uint32_t {
#define UMBRA_ERRC_ENUMERATOR(name, number, text_name, remedy_class, text) name = number,
  UMBRA_ERRC_TABLE(UMBRA_ERRC_ENUMERATOR)
#undef UMBRA_ERRC_ENUMERATOR
};

/// The name in the table, e.g. "VSS_E_BAD_STATE"; "unknown" for a number that is not in it (a newer
/// peer's). Never null, static storage. Threads: any.
[[nodiscard]] std::string_view code_name(Errc code) noexcept;

/// One sentence for people, without a final stop. Threads: any.
[[nodiscard]] std::string_view describe(Errc code) noexcept;

/// What to do about it; give_up for numbers that are not in the table. Threads: any.
[[nodiscard]] Remedy remedy(Errc code) noexcept;

}  // namespace umbra
