// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// What a LUN is (VDS_LUN_INFORMATION), and how a copy on LUNs is described so that another machine
// can find it: by identifiers that the array gives out, never by the name of a device, which is
// another one on every machine and after every boot.
//
// On Linux a LUN is a whole disk. Its identifiers are those of SCSI's inquiry page 83, as
// /sys/block/*/device/vpd_pg83 and `wwid` show them; NVMe's EUI-64 and NGUID count as eui64, its
// UUID as uuid. Only some kinds of them are unique in the world (is_unique).
//
// `unknown`, in each of them: see umbra/documents.h, of which these are elements.

#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "umbra/ids.h"

namespace umbra {

/// VDS_STORAGE_IDENTIFIER_TYPE: the numbers of SCSI's page 83. They are on the wire.
enum class LunIdentifierType : std::uint8_t {
  vendor_specific = 0,
  t10 = 1,
  eui64 = 2,
  naa = 3,
  relative_port = 4,
  port_group = 5,
  unit_group = 6,
  md5 = 7,
  scsi_name = 8,
  protocol_port = 9,
  uuid = 10,
};

/// VDS_STORAGE_IDENTIFIER.
struct LunIdentifier {
  LunIdentifierType type = LunIdentifierType::vendor_specific;
  std::string value{};  ///< As sysfs writes it after the type, e.g. "600508b1001c..." of an naa.
  std::string unknown{};

  friend bool operator==(const LunIdentifier&, const LunIdentifier&) = default;
};

/// VDS_LUN_INFORMATION.
struct LunInformation {
  std::string vendor{};
  std::string product{};
  std::string revision{};
  std::string serial{};
  std::uint64_t size_bytes = 0;
  std::vector<LunIdentifier> identifiers{};
  /// The block device on the machine that says so ("/dev/sdc"); empty: it does not see the LUN.
  std::string device_path{};
  std::string unknown{};

  friend bool operator==(const LunInformation&, const LunInformation&) = default;
};

/// VSS_LUN_MAPPING: a LUN of the original, and that of the copy.
struct LunMapping {
  LunInformation source{};
  LunInformation target{};
  std::string unknown{};

  friend bool operator==(const LunMapping&, const LunMapping&) = default;
};

/// A copy of a transportable set, as a document carries it to another machine.
struct TransportedSnapshot {
  SnapshotId snapshot_id{};
  SnapshotSetId set_id{};
  ProviderId provider_id{};
  VolumeId volume_id{};
  std::string volume_name{};
  std::string originating_machine{};
  std::uint32_t snapshots_count = 0;  ///< Members of the set at creation.
  std::uint32_t attributes = 0;       ///< Context and attributes, VSS_VOLSNAP_ATTR_*.
  std::int64_t creation_filetime = 0;
  std::vector<LunMapping> luns{};  ///< All LUNs that the volume lies on.
  std::string unknown{};

  friend bool operator==(const TransportedSnapshot&, const TransportedSnapshot&) = default;
};

/// Whether no two LUNs in the world have the same identifier of this kind. Threads: any.
[[nodiscard]] bool is_unique(LunIdentifierType type) noexcept;
/// Whether the LUN can be told from any other: it has such an identifier. Threads: any.
[[nodiscard]] bool has_unique_identifier(const LunInformation& lun) noexcept;
/// Whether both name one LUN: they share a unique identifier. Threads: any.
[[nodiscard]] bool is_same_lun(const LunInformation& one, const LunInformation& other) noexcept;
/// Whether both say the same of it, but for the device: VSS's test of a LUN that has arrived.
/// Threads: any.
[[nodiscard]] bool is_same_description(const LunInformation& one, const LunInformation& other);

}  // namespace umbra
