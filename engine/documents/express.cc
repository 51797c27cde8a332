// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "engine/documents/express.h"

#include "engine/documents/rules.h"

namespace umbra::documents {
namespace {

constexpr std::uint32_t kFullMask = file_spec::kFullBackup | file_spec::kFullSnapshot;
constexpr std::uint32_t kRecoveryFlags =
    component_flag::kBackupRecovery | component_flag::kAppRollbackRecovery;
constexpr std::uint32_t kSchema = backup_schema::kCopy | backup_schema::kIndependentSystemState;

Status refuse(const std::string& why) {
  return fail(Errc::not_supported, "express writer: " + why);
}

Status check_identity(const WriterIdentity& identity) {
  if (identity.class_id.is_nil()) {
    return fail(Errc::invalid_argument, "express writer: no class id; make one with uuidgen");
  }
  if (identity.name.empty()) return fail(Errc::invalid_argument, "express writer: no name");
  switch (identity.usage) {
    case UsageType::bootable_system_state:
    case UsageType::system_service:
    case UsageType::user_data: return {};
    case UsageType::undefined:
    case UsageType::other: break;
  }
  return fail(Errc::invalid_argument,
              "express writer: usage must be bootable-system-state, system-service or user-data");
}

Status check_component_of_express(const ComponentInfo& component) {
  const std::string what = "component '" + component.name + "'";
  if (component.type != ComponentType::file_group) return refuse(what + " must be a file group");
  if ((component.flags & kRecoveryFlags) != 0) {
    return refuse(what + " asks for recovery in the copy, and nobody is there to do it");
  }
  for (const FileSet& files : component.files) {
    if (!files.alternate_path.empty()) return refuse(what + ": files have no alternate path");
    // Every document that Windows ships has the default mask, whatever the reference says.
    const bool full_only = (files.backup_type_mask & ~kFullMask) == 0;
    if (!full_only && files.backup_type_mask != file_spec::kDefault) {
      return refuse(what + ": files are for full backups (0x101), or have the mask 0xF0F");
    }
  }
  return {};
}

Status check_restore(const RestoreRules& rules) {
  if (rules.writer_restore != WriterRestore::never) {
    return refuse("writer-restore must be never: nobody is there to take part");
  }
  switch (rules.method) {
    case RestoreMethod::undefined:
    case RestoreMethod::custom:
    case RestoreMethod::restore_to_alternate_location:
      return refuse("the restore method must not be undefined, custom or to another location");
    default: break;
  }
  if (!rules.alternate_locations.empty()) return refuse("there are no alternate locations");
  return {};
}

}  // namespace

Status check_express(const WriterMetadataDocument& document) {
  if (Status sound = check_identity(document.identity); !sound) return sound;
  if ((document.backup_schema & ~kSchema) != 0) {
    return refuse("the backup schema is 0, copy (0x10) or independent system state (0x400)");
  }
  if (document.restore) {
    if (Status sound = check_restore(*document.restore); !sound) return sound;
  }
  for (const ComponentInfo& component : document.components) {
    if (Status sound = check_component_of_express(component); !sound) return sound;
  }
  if (!document.excludes_from_snapshot.empty()) {
    return refuse("files cannot be excluded from the copy, since nobody deletes them there");
  }
  return check(document);
}

void settle_express_identity(WriterMetadataDocument& document) {
  if (document.identity.instance_id.is_nil()) {
    document.identity.instance_id = WriterInstanceId{Guid{document.identity.class_id}};
  }
}

WriterClassId metadata_store_class() noexcept {
  return WriterClassId{{{0x75, 0xdf, 0xb2, 0x25, 0xe2, 0xe4, 0x4d, 0x39, 0x9a, 0xc9, 0xff, 0xaf,
                         0xf6, 0x5d, 0xdf, 0x06}}};
}

WriterMetadataDocument metadata_store_writer(const std::string& directory) {
  WriterMetadataDocument document;
  document.identity.class_id = metadata_store_class();
  document.identity.name = "Umbra Metadata Store Writer";
  document.identity.usage = UsageType::bootable_system_state;
  settle_express_identity(document);
  document.restore = RestoreRules{.method = RestoreMethod::restore_if_can_replace};
  ComponentInfo& store = document.components.emplace_back();
  store.name = "WriterMetadataStore";
  store.files.push_back({.path = directory, .pattern = "*.xml"});
  return document;
}

}  // namespace umbra::documents
