// SPDX-License-Identifier: Apache-2.0
//
// VSS's numbers, written out once more from its documentation: a value that is renumbered here by
// mistake would still agree with itself everywhere else. And each value arrives as itself where it
// is meant to be read: in a document, or on the wire.

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include "engine/documents/xml.h"
#include "engine/rpc/codec.h"
#include "tests/support/catch.h"
#include "umbra/documents.h"
#include "umbra/errc.h"
#include "umbra/vss.h"

namespace {

using namespace umbra;

struct Code {
  std::uint32_t number;
  std::string_view name;
};

// Umbra has some of them; none has another number or name.
constexpr Code kCodes[]{
    {0x00000000, "S_OK"},
    {0x00000001, "S_FALSE"},
    {0x80004005, "E_FAIL"},
    {0x80004001, "E_NOTIMPL"},
    {0x8000FFFF, "E_UNEXPECTED"},
    {0x80070005, "E_ACCESSDENIED"},
    {0x8007000E, "E_OUTOFMEMORY"},
    {0x80070057, "E_INVALIDARG"},
    {0x80042301, "VSS_E_BAD_STATE"},
    {0x80042302, "VSS_E_UNEXPECTED"},
    {0x80042303, "VSS_E_PROVIDER_ALREADY_REGISTERED"},
    {0x80042304, "VSS_E_PROVIDER_NOT_REGISTERED"},
    {0x80042306, "VSS_E_PROVIDER_VETO"},
    {0x80042307, "VSS_E_PROVIDER_IN_USE"},
    {0x80042308, "VSS_E_OBJECT_NOT_FOUND"},
    {0x00042309, "VSS_S_ASYNC_PENDING"},
    {0x0004230A, "VSS_S_ASYNC_FINISHED"},
    {0x0004230B, "VSS_S_ASYNC_CANCELLED"},
    {0x8004230C, "VSS_E_VOLUME_NOT_SUPPORTED"},
    {0x8004230D, "VSS_E_OBJECT_ALREADY_EXISTS"},
    {0x8004230E, "VSS_E_VOLUME_NOT_SUPPORTED_BY_PROVIDER"},
    {0x8004230F, "VSS_E_UNEXPECTED_PROVIDER_ERROR"},
    {0x80042311, "VSS_E_INVALID_XML_DOCUMENT"},
    {0x80042312, "VSS_E_MAXIMUM_NUMBER_OF_VOLUMES_REACHED"},
    {0x80042313, "VSS_E_FLUSH_WRITES_TIMEOUT"},
    {0x80042314, "VSS_E_HOLD_WRITES_TIMEOUT"},
    {0x80042315, "VSS_E_UNEXPECTED_WRITER_ERROR"},
    {0x80042316, "VSS_E_SNAPSHOT_SET_IN_PROGRESS"},
    {0x80042317, "VSS_E_MAXIMUM_NUMBER_OF_SNAPSHOTS_REACHED"},
    {0x80042318, "VSS_E_WRITER_INFRASTRUCTURE"},
    {0x80042319, "VSS_E_WRITER_NOT_RESPONDING"},
    {0x8004231A, "VSS_E_WRITER_ALREADY_SUBSCRIBED"},
    {0x8004231B, "VSS_E_UNSUPPORTED_CONTEXT"},
    {0x8004231D, "VSS_E_VOLUME_IN_USE"},
    {0x8004231E, "VSS_E_MAXIMUM_DIFFAREA_ASSOCIATIONS_REACHED"},
    {0x8004231F, "VSS_E_INSUFFICIENT_STORAGE"},
    {0x80042320, "VSS_E_NO_SNAPSHOTS_IMPORTED"},
    {0x00042321, "VSS_S_SOME_SNAPSHOTS_NOT_IMPORTED"},
    {0x80042321, "VSS_E_SOME_SNAPSHOTS_NOT_IMPORTED"},
    {0x80042322, "VSS_E_MAXIMUM_NUMBER_OF_REMOTE_MACHINES_REACHED"},
    {0x80042323, "VSS_E_REMOTE_SERVER_UNAVAILABLE"},
    {0x80042324, "VSS_E_REMOTE_SERVER_UNSUPPORTED"},
    {0x80042325, "VSS_E_REVERT_IN_PROGRESS"},
    {0x80042326, "VSS_E_REVERT_VOLUME_LOST"},
    {0x80042327, "VSS_E_REBOOT_REQUIRED"},
    {0x80042328, "VSS_E_TRANSACTION_FREEZE_TIMEOUT"},
    {0x80042329, "VSS_E_TRANSACTION_THAW_TIMEOUT"},
    {0x8004232A, "VSS_E_UNSELECTED_VOLUME"},
    {0x8004232B, "VSS_E_SNAPSHOT_NOT_IN_SET"},
    {0x8004232C, "VSS_E_NESTED_VOLUME_LIMIT"},
    {0x8004232D, "VSS_E_VOLUME_NOT_LOCAL"},
    {0x8004232E, "VSS_E_CLUSTER_TIMEOUT"},
    {0x8004232F, "VSS_E_NOT_SUPPORTED"},
    {0x80042336, "VSS_E_WRITERERROR_PARTIAL_FAILURE"},
    {0x800423F0, "VSS_E_WRITERERROR_INCONSISTENTSNAPSHOT"},
    {0x800423F1, "VSS_E_WRITERERROR_OUTOFRESOURCES"},
    {0x800423F2, "VSS_E_WRITERERROR_TIMEOUT"},
    {0x800423F3, "VSS_E_WRITERERROR_RETRYABLE"},
    {0x800423F4, "VSS_E_WRITERERROR_NONRETRYABLE"},
    {0x800423F5, "VSS_E_WRITERERROR_RECOVERY_FAILED"},
    {0x800423F6, "VSS_E_BREAK_REVERT_ID_FAILED"},
    {0x800423F7, "VSS_E_LEGACY_PROVIDER"},
    {0x800423F8, "VSS_E_MISSING_DISK"},
    {0x800423F9, "VSS_E_MISSING_HIDDEN_VOLUME"},
    {0x800423FA, "VSS_E_MISSING_VOLUME"},
    {0x800423FB, "VSS_E_AUTORECOVERY_FAILED"},
    {0x800423FC, "VSS_E_DYNAMIC_DISK_ERROR"},
    {0x800423FD, "VSS_E_NONTRANSPORTABLE_BCD"},
    {0x800423FE, "VSS_E_CANNOT_REVERT_DISKID"},
    {0x800423FF, "VSS_E_RESYNC_IN_PROGRESS"},
    {0x80042400, "VSS_E_CLUSTER_ERROR"},
    {0x80042409, "VSS_E_WRITER_STATUS_NOT_AVAILABLE"},
    {0x80042417, "VSS_E_FSS_TIMEOUT"},
};

TEST_CASE("every code of VSS has VSS's number and name", "[vss:S_OK]") {
  for (const auto& row : {
#define UMBRA_TEST_ROW(name, number, text_name, remedy_class, text) Code{number, text_name},
           UMBRA_ERRC_TABLE(UMBRA_TEST_ROW)
#undef UMBRA_TEST_ROW
       }) {
    if (row.name.starts_with("UMBRA_")) continue;
    CAPTURE(row.name);
    const auto* const found =
        std::find_if(std::begin(kCodes), std::end(kCodes),
                     [&](const Code& one) { return one.number == row.number; });
    REQUIRE(found != std::end(kCodes));
    CHECK(found->name == row.name);
  }
  CHECK(code_name(Errc::ok) == "S_OK");
}

// The enumerators of `Enum` from 0 on, named as VSS names them.
template <class Enum>
void check_names(const std::vector<std::string_view>& names) {
  for (std::size_t i = 0; i < names.size(); ++i) {
    CAPTURE(names[i]);
    CHECK(vss_name(static_cast<Enum>(i)) == names[i]);
  }
}

TEST_CASE("states, levels and kinds have VSS's numbers",
          "[vss:VSS_WS.UNKNOWN][vss:VSS_PROV.FILESHARE][vss:VSS_WS.STABLE]"
          "[vss:VSS_WS.WAITING_FOR_FREEZE][vss:VSS_WS.WAITING_FOR_THAW]"
          "[vss:VSS_WS.WAITING_FOR_POST_SNAPSHOT][vss:VSS_WS.WAITING_FOR_BACKUP_COMPLETE]"
          "[vss:VSS_WS.FAILED_AT_IDENTIFY][vss:VSS_WS.FAILED_AT_PREPARE_BACKUP]"
          "[vss:VSS_WS.FAILED_AT_PREPARE_SNAPSHOT][vss:VSS_WS.FAILED_AT_FREEZE]"
          "[vss:VSS_WS.FAILED_AT_THAW][vss:VSS_WS.FAILED_AT_POST_SNAPSHOT]"
          "[vss:VSS_WS.FAILED_AT_BACKUP_COMPLETE][vss:VSS_WS.FAILED_AT_PRE_RESTORE]"
          "[vss:VSS_WS.FAILED_AT_POST_RESTORE][vss:VSS_WS.FAILED_AT_BACKUPSHUTDOWN]"
          "[vss:VSS_PROV.SYSTEM][vss:VSS_PROV.SOFTWARE][vss:VSS_PROV.HARDWARE]") {
  check_names<WriterState>({"VSS_WS_UNKNOWN", "VSS_WS_STABLE", "VSS_WS_WAITING_FOR_FREEZE",
                            "VSS_WS_WAITING_FOR_THAW", "VSS_WS_WAITING_FOR_POST_SNAPSHOT",
                            "VSS_WS_WAITING_FOR_BACKUP_COMPLETE", "VSS_WS_FAILED_AT_IDENTIFY",
                            "VSS_WS_FAILED_AT_PREPARE_BACKUP", "VSS_WS_FAILED_AT_PREPARE_SNAPSHOT",
                            "VSS_WS_FAILED_AT_FREEZE", "VSS_WS_FAILED_AT_THAW",
                            "VSS_WS_FAILED_AT_POST_SNAPSHOT", "VSS_WS_FAILED_AT_BACKUP_COMPLETE",
                            "VSS_WS_FAILED_AT_PRE_RESTORE", "VSS_WS_FAILED_AT_POST_RESTORE",
                            "VSS_WS_FAILED_AT_BACKUPSHUTDOWN"});
  check_names<SnapshotState>(
      {"VSS_SS_UNKNOWN", "VSS_SS_PREPARING", "VSS_SS_PROCESSING_PREPARE", "VSS_SS_PREPARED",
       "VSS_SS_PROCESSING_PRECOMMIT", "VSS_SS_PRECOMMITTED", "VSS_SS_PROCESSING_COMMIT",
       "VSS_SS_COMMITTED", "VSS_SS_PROCESSING_POSTCOMMIT", "VSS_SS_PROCESSING_PREFINALCOMMIT",
       "VSS_SS_PREFINALCOMMITTED", "VSS_SS_PROCESSING_POSTFINALCOMMIT", "VSS_SS_CREATED",
       "VSS_SS_ABORTED", "VSS_SS_DELETED", "VSS_SS_POSTCOMMITTED"});
  check_names<ApplicationLevel>(
      {"VSS_APP_UNKNOWN", "VSS_APP_SYSTEM", "VSS_APP_BACK_END", "VSS_APP_FRONT_END"});
  check_names<ProviderType>({"VSS_PROV_UNKNOWN", "VSS_PROV_SYSTEM", "VSS_PROV_SOFTWARE",
                             "VSS_PROV_HARDWARE", "VSS_PROV_FILESHARE"});
  check_names<BackupType>({"VSS_BT_UNDEFINED", "VSS_BT_FULL", "VSS_BT_INCREMENTAL",
                           "VSS_BT_DIFFERENTIAL", "VSS_BT_LOG", "VSS_BT_COPY", "VSS_BT_OTHER"});
  check_names<ProtectionLevel>(
      {"VSS_PROTECTION_LEVEL_ORIGINAL_VOLUME", "VSS_PROTECTION_LEVEL_SNAPSHOT"});
  for (std::uint32_t number = 0; number < 16; ++number) {
    rpc::WriterStatus status;
    status.state = static_cast<WriterState>(number);
    const auto back = rpc::decode<rpc::WriterStatus>(rpc::encode(status));
    REQUIRE(back);
    CHECK(static_cast<std::uint32_t>(back->state) == number);
  }
  rpc::RegisterProvider share;
  share.properties.type = ProviderType::file_share;
  CHECK(rpc::decode<rpc::RegisterProvider>(rpc::encode(share))->properties.type ==
        ProviderType::file_share);
}

TEST_CASE("contexts and attributes have VSS's bits",
          "[vss:VSS_CTX.BACKUP][vss:VSS_CTX.FILE_SHARE_BACKUP][vss:VSS_CTX.NAS_ROLLBACK]"
          "[vss:VSS_CTX.APP_ROLLBACK][vss:VSS_CTX.CLIENT_ACCESSIBLE]"
          "[vss:VSS_CTX.CLIENT_ACCESSIBLE_WRITERS][vss:VSS_CTX.ALL]") {
  CHECK(context::kBackup == 0x00);
  CHECK(context::kFileShareBackup == 0x10);
  CHECK(context::kNasRollback == 0x19);
  CHECK(context::kAppRollback == 0x09);
  CHECK(context::kClientAccessible == 0x1D);
  CHECK(context::kClientAccessibleWriters == 0x0D);
  CHECK(context::kAll == 0xFFFFFFFF);
  CHECK(context_name(0x19) == "VSS_CTX_NAS_ROLLBACK");
  using namespace attribute;
  const std::vector<std::uint32_t> low{kPersistent,    kNoAutorecovery, kClientAccessible,
                                       kNoAutoRelease, kNoWriters,      kTransportable,
                                       kNotSurfaced,   kNotTransacted};
  for (std::size_t i = 0; i < low.size(); ++i) CHECK(low[i] == 1U << i);
  const std::vector<std::uint32_t> high{kHardwareAssisted, kDifferential,     kPlex,
                                        kImported,         kExposedLocally,   kExposedRemotely,
                                        kAutorecover,      kRollbackRecovery, kDelayedPostSnapshot,
                                        kTxfRecovery,      kFileShare};
  for (std::size_t i = 0; i < high.size(); ++i) CHECK(high[i] == 0x10000U << i);
}

// --- values in documents
// --------------------------------------------------------------------------

WriterMetadataDocument through_text(const WriterMetadataDocument& document) {
  const auto back = documents::parse_writer_metadata(documents::to_xml(document));
  INFO((back ? std::string() : back.error().to_string()));
  REQUIRE(back);
  CHECK(*back == document);
  return *back;
}

BackupComponentsDocument through_text(const BackupComponentsDocument& document) {
  const auto back = documents::parse_backup_components(documents::to_xml(document));
  INFO((back ? std::string() : back.error().to_string()));
  REQUIRE(back);
  CHECK(*back == document);
  return *back;
}

template <class Enum>
bool numbered(const std::vector<Enum>& values, std::uint32_t first = 0) {
  for (const Enum value : values)
    if (static_cast<std::uint32_t>(value) != first++) return false;
  return true;
}

TEST_CASE("what becomes of LUNs has VSS's bits",
          "[vss:VSS_BREAKEX_FLAG.MASK_LUNS][vss:VSS_BREAKEX_FLAG.MAKE_READ_WRITE]"
          "[vss:VSS_BREAKEX_FLAG.REVERT_IDENTITY_ALL][vss:VSS_BREAKEX_FLAG.REVERT_IDENTITY_NONE]"
          "[vss:VSS_ONLUNSTATECHANGE.NOTIFY_READ_WRITE]"
          "[vss:VSS_ONLUNSTATECHANGE.NOTIFY_LUN_PRE_RECOVERY]"
          "[vss:VSS_ONLUNSTATECHANGE.NOTIFY_LUN_POST_RECOVERY]"
          "[vss:VSS_ONLUNSTATECHANGE.DO_MASK_LUNS][vss:VSS_RECOVERY.REVERT_IDENTITY_ALL]"
          "[vss:VSS_RECOVERY.NO_VOLUME_CHECK]") {
  CHECK(break_flag::kMaskLuns == 0x1);
  CHECK(break_flag::kMakeReadWrite == 0x2);
  CHECK(break_flag::kRevertIdentityAll == 0x4);
  CHECK(break_flag::kRevertIdentityNone == 0x8);
  CHECK(lun_state::kNotifyReadWrite == 0x100);
  CHECK(lun_state::kNotifyLunPreRecovery == 0x200);
  CHECK(lun_state::kNotifyLunPostRecovery == 0x400);
  CHECK(lun_state::kDoMaskLuns == 0x800);
  CHECK(recovery_option::kRevertIdentityAll == 0x100);
  CHECK(recovery_option::kNoVolumeCheck == 0x200);
}

TEST_CASE("what a writer says of itself arrives, every value of it",
          "[vss:VSS_UT.UNDEFINED][vss:VSS_UT.BOOTABLESYSTEMSTATE][vss:VSS_UT.SYSTEMSERVICE]"
          "[vss:VSS_UT.USERDATA][vss:VSS_UT.OTHER][vss:VSS_ST.UNDEFINED]"
          "[vss:VSS_ST.TRANSACTEDDB][vss:VSS_ST.NONTRANSACTEDDB][vss:VSS_ST.OTHER]"
          "[vss:VSS_RME.UNDEFINED][vss:VSS_RME.RESTORE_IF_NOT_THERE]"
          "[vss:VSS_RME.RESTORE_IF_CAN_REPLACE][vss:VSS_RME.STOP_RESTORE_START]"
          "[vss:VSS_RME.RESTORE_TO_ALTERNATE_LOCATION][vss:VSS_RME.RESTORE_AT_REBOOT]"
          "[vss:VSS_RME.RESTORE_AT_REBOOT_IF_CANNOT_REPLACE][vss:VSS_RME.CUSTOM]"
          "[vss:VSS_RME.RESTORE_STOP_START][vss:VSS_WRE.UNDEFINED][vss:VSS_WRE.NEVER]"
          "[vss:VSS_WRE.IF_REPLACE_FAILS][vss:VSS_WRE.ALWAYS]") {
  using U = UsageType;
  const std::vector usages{U::undefined, U::bootable_system_state, U::system_service, U::user_data,
                           U::other};
  CHECK(numbered(usages));
  using S = SourceType;
  const std::vector sources{S::undefined, S::transacted_db, S::nontransacted_db, S::other};
  CHECK(numbered(sources));
  using M = RestoreMethod;
  const std::vector methods{M::undefined,
                            M::restore_if_not_there,
                            M::restore_if_can_replace,
                            M::stop_restore_start,
                            M::restore_to_alternate_location,
                            M::restore_at_reboot,
                            M::restore_at_reboot_if_cannot_replace,
                            M::custom,
                            M::restore_stop_start};
  CHECK(numbered(methods));
  using R = WriterRestore;
  const std::vector restores{R::undefined, R::never, R::if_replace_fails, R::always};
  CHECK(numbered(restores));
  for (std::size_t i = 0; i < methods.size(); ++i) {
    WriterMetadataDocument document;
    document.identity.name = "w";
    document.identity.usage = usages[i % usages.size()];
    document.identity.source = sources[i % sources.size()];
    document.restore = RestoreRules{.method = methods[i],
                                    .service = "s",
                                    .writer_restore = restores[i % restores.size()],
                                    .reboot_required = i % 2 == 0};
    through_text(document);
  }
}

TEST_CASE("masks have VSS's bits, and each arrives",
          "[vss:VSS_FSBT.FULL_BACKUP_REQUIRED][vss:VSS_FSBT.DIFFERENTIAL_BACKUP_REQUIRED]"
          "[vss:VSS_FSBT.INCREMENTAL_BACKUP_REQUIRED][vss:VSS_FSBT.LOG_BACKUP_REQUIRED]"
          "[vss:VSS_FSBT.FULL_SNAPSHOT_REQUIRED][vss:VSS_FSBT.DIFFERENTIAL_SNAPSHOT_REQUIRED]"
          "[vss:VSS_FSBT.INCREMENTAL_SNAPSHOT_REQUIRED][vss:VSS_FSBT.LOG_SNAPSHOT_REQUIRED]"
          "[vss:VSS_FSBT.CREATED_DURING_BACKUP]"
          "[vss:VSS_BS.UNDEFINED][vss:VSS_BS.DIFFERENTIAL][vss:VSS_BS.INCREMENTAL]"
          "[vss:VSS_BS.EXCLUSIVE_INCREMENTAL_DIFFERENTIAL][vss:VSS_BS.LOG][vss:VSS_BS.COPY]"
          "[vss:VSS_BS.TIMESTAMPED][vss:VSS_BS.LAST_MODIFY]"
          "[vss:VSS_BS.WRITER_SUPPORTS_NEW_TARGET]"
          "[vss:VSS_BS.WRITER_SUPPORTS_RESTORE_WITH_MOVE][vss:VSS_BS.INDEPENDENT_SYSTEM_STATE]"
          "[vss:VSS_BS.ROLLFORWARD_RESTORE][vss:VSS_BS.RESTORE_RENAME]"
          "[vss:VSS_BS.AUTHORITATIVE_RESTORE][vss:VSS_BS.WRITER_SUPPORTS_PARALLEL_RESTORES]"
          "[vss:VSS_CF.BACKUP_RECOVERY][vss:VSS_CF.APP_ROLLBACK_RECOVERY]"
          "[vss:VSS_CF.NOT_SYSTEM_STATE]") {
  using namespace file_spec;
  const std::vector<std::uint32_t> specs{
      kFullBackup,          kDifferentialBackup, kIncrementalBackup,
      kLogBackup,           kFullSnapshot,       kDifferentialSnapshot,
      kIncrementalSnapshot, kLogSnapshot,        kCreatedDuringBackup};
  CHECK(specs ==
        std::vector<std::uint32_t>{0x1, 0x2, 0x4, 0x8, 0x100, 0x200, 0x400, 0x800, 0x10000});
  CHECK(kDefault == 0xF0F);
  namespace bs = backup_schema;
  const std::vector<std::uint32_t> schemas{bs::kDifferential,
                                           bs::kIncremental,
                                           bs::kExclusiveIncrementalDifferential,
                                           bs::kLog,
                                           bs::kCopy,
                                           bs::kTimestamped,
                                           bs::kLastModify,
                                           bs::kNewTarget,
                                           bs::kRestoreWithMove,
                                           bs::kIndependentSystemState,
                                           bs::kRollForwardRestore,
                                           bs::kRestoreRename,
                                           bs::kAuthoritativeRestore,
                                           bs::kParallelRestores};
  CHECK(schemas == std::vector<std::uint32_t>{0x1, 0x2, 0x4, 0x8, 0x10, 0x20, 0x40, 0x100, 0x200,
                                              0x400, 0x1000, 0x2000, 0x4000, 0x8000});
  using namespace component_flag;
  const std::vector<std::uint32_t> flags{kBackupRecovery, kAppRollbackRecovery, kNotSystemState};
  CHECK(flags == std::vector<std::uint32_t>{1, 2, 4});
  CHECK(WriterMetadataDocument{}.backup_schema == 0);
  for (std::size_t i = 0; i < schemas.size(); ++i) {
    WriterMetadataDocument document;
    document.identity.name = "w";
    document.backup_schema = schemas[i];
    auto& component = document.components.emplace_back();
    component.name = "c";
    component.flags = flags[i % flags.size()];
    auto& files = component.files.emplace_back();
    files.path = "/x";
    files.backup_type_mask = specs[i % specs.size()];
    through_text(document);
  }
}

TEST_CASE("what a backup and a restore are arrives, every value of it",
          "[vss:VSS_BT.UNDEFINED][vss:VSS_BT.FULL][vss:VSS_BT.INCREMENTAL]"
          "[vss:VSS_BT.DIFFERENTIAL][vss:VSS_BT.LOG][vss:VSS_BT.COPY][vss:VSS_BT.OTHER]"
          "[vss:VSS_RTYPE.UNDEFINED][vss:VSS_RTYPE.BY_COPY][vss:VSS_RTYPE.IMPORT]"
          "[vss:VSS_RTYPE.OTHER][vss:VSS_RF.UNDEFINED][vss:VSS_RF.NONE][vss:VSS_RF.ALL]"
          "[vss:VSS_RF.PARTIAL][vss:VSS_CT.DATABASE][vss:VSS_CT.FILEGROUP]"
          "[vss:VSS_RT.UNDEFINED][vss:VSS_RT.ORIGINAL][vss:VSS_RT.ALTERNATE]"
          "[vss:VSS_RT.DIRECTED][vss:VSS_RT.ORIGINAL_LOCATION][vss:VSS_RS.UNDEFINED]"
          "[vss:VSS_RS.NONE][vss:VSS_RS.ALL][vss:VSS_RS.FAILED]") {
  using B = BackupType;
  const std::vector backups{B::undefined, B::full, B::incremental, B::differential,
                            B::log,       B::copy, B::other};
  CHECK(numbered(backups));
  using R = RestoreType;
  const std::vector restores{R::undefined, R::by_copy, R::import, R::other};
  CHECK(numbered(restores));
  using F = RollForwardType;
  const std::vector forwards{F::undefined, F::none, F::all, F::partial};
  CHECK(numbered(forwards));
  using T = RestoreTarget;
  const std::vector targets{T::undefined, T::original, T::alternate, T::directed,
                            T::original_location};
  CHECK(numbered(targets));
  using S = FileRestoreStatus;
  const std::vector statuses{S::undefined, S::none, S::all, S::failed};
  CHECK(numbered(statuses));
  const std::vector types{ComponentType::database, ComponentType::file_group};
  CHECK(numbered(types, 1));
  for (std::size_t i = 0; i < backups.size(); ++i) {
    BackupComponentsDocument document;
    document.backup_type = backups[i];
    document.restore_type = restores[i % restores.size()];
    auto& component = document.writers.emplace_back().components.emplace_back();
    component.name = "c";
    component.type = types[i % types.size()];
    component.restore_target = targets[i % targets.size()];
    component.file_restore_status = statuses[i % statuses.size()];
    component.roll_forward = RollForward{forwards[i % forwards.size()], "here"};
    through_text(document);
  }
}

}  // namespace
