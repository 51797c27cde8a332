// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "engine/documents/vss_names.h"

#include <algorithm>
#include <array>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/platform/wire_text.h"

namespace umbra::documents {
namespace {

// A word of an enumeration becomes ours by lower case and hyphens, but for those in kWords.
enum class Kind : std::uint8_t { text, word };

struct Attribute {
  std::string_view theirs;
  const char* ours;
  Kind kind = Kind::text;
};

struct Element {
  std::string_view theirs;
  const char* ours;
  std::span<const Attribute> attributes;
  const char* type = nullptr;  // Said by the element's name.
};

struct Word {
  std::string_view theirs;
  const char* ours;
};
constexpr std::array kWords{
    Word{"TRANSACTION_DB", "transacted-db"},
    Word{"NONTRANSACTEDDB", "nontransacted-db"},  // Ours.
    Word{"RESTORE_IF_CAN_BE_REPLACED", "restore-if-can-replace"},
    Word{"REPLACE_AT_REBOOT", "restore-at-reboot"},
    Word{"REPLACE_AT_REBOOT_IF_CANNOT_REPLACE", "restore-at-reboot-if-cannot-replace"},
    Word{"filegroup", "file-group"},
};

constexpr std::array kMetadata{Attribute{"backupSchema", "backup-schema"}};
constexpr std::array kIdentification{
    Attribute{"writerId", "class-id"},          Attribute{"instanceId", "instance-id"},
    Attribute{"instanceName", "instance-name"}, Attribute{"friendlyName", "name"},
    Attribute{"usage", "usage", Kind::word},    Attribute{"dataSource", "source", Kind::word},
    Attribute{"majorVersion", "version-major"}, Attribute{"minorVersion", "version-minor"},
};
constexpr std::array kRestoreMethod{
    Attribute{"method", "method", Kind::word},
    Attribute{"service", "service"},
    Attribute{"userProcedure", "user-procedure"},
    Attribute{"writerRestore", "writer-restore", Kind::word},
    Attribute{"rebootRequired", "reboot-required"},
};
constexpr std::array kMapping{
    Attribute{"path", "path"},
    Attribute{"filespec", "pattern"},
    Attribute{"recursive", "recursive"},
    Attribute{"alternatePath", "destination"},
};
constexpr std::array kGroup{
    Attribute{"logicalPath", "logical-path"},
    Attribute{"componentName", "name"},
    Attribute{"caption", "caption"},
    Attribute{"icon", "icon"},
    Attribute{"restoreMetadata", "restore-metadata"},
    Attribute{"notifyOnBackupComplete", "notify-on-backup-complete"},
    Attribute{"selectable", "selectable"},
    Attribute{"selectableForRestore", "selectable-for-restore"},
    Attribute{"componentFlags", "flags"},
};
constexpr std::array kFiles{
    Attribute{"path", "path"},
    Attribute{"filespec", "pattern"},
    Attribute{"recursive", "recursive"},
    Attribute{"alternatePath", "alternate-path"},
    Attribute{"filespecBackupType", "backup-type-mask"},
};
constexpr std::array kDependency{
    Attribute{"writerId", "writer"},
    Attribute{"logicalPath", "logical-path"},
    Attribute{"componentName", "component"},
};
constexpr std::array kBackup{
    Attribute{"bootableSystemStateBackup", "bootable-system-state"},
    Attribute{"selectComponents", "component-mode"},
    Attribute{"backupType", "backup-type", Kind::word},
    Attribute{"partialFileSupport", "partial-file-support"},
    Attribute{"snapshotSetId", "snapshot-set-id"},
    Attribute{"restoreType", "restore-type", Kind::word},
};
constexpr std::array kWriter{
    Attribute{"instanceId", "instance-id"},
    Attribute{"writerId", "class-id"},
    Attribute{"instanceName", "instance-name"},
    Attribute{"backupSchema", "backup-schema"},
};
constexpr std::array kComponent{
    Attribute{"logicalPath", "logical-path"},
    Attribute{"componentName", "name"},
    Attribute{"componentType", "type", Kind::word},
    Attribute{"componentCaption", "caption"},
    Attribute{"backupStamp", "backup-stamp"},
    // From here on ours.
    Attribute{"previousBackupStamp", "previous-backup-stamp"},
    Attribute{"backupOptions", "backup-options"},
    Attribute{"restoreOptions", "restore-options"},
    Attribute{"backupSucceeded", "succeeded"},
    Attribute{"selectedForRestore", "selected-for-restore"},
    Attribute{"additionalRestores", "additional-restores"},
    Attribute{"restoreTarget", "restore-target", Kind::word},
    Attribute{"fileRestoreStatus", "file-restore-status", Kind::word},
    Attribute{"prepareForBackupFailureMsg", "prepare-for-backup-failure"},
    Attribute{"postSnapshotFailureMsg", "post-snapshot-failure"},
    Attribute{"preRestoreFailureMsg", "pre-restore-failure"},
    Attribute{"postRestoreFailureMsg", "post-restore-failure"},
    Attribute{"authoritativeRestore", "authoritative-restore"},
    Attribute{"restoreName", "restore-name"},
};
constexpr std::array kPartial{
    Attribute{"path", "path"},
    Attribute{"filespec", "file-name"},
    Attribute{"ranges", "ranges"},
    Attribute{"metadata", "metadata"},
};
constexpr std::array kDifferenced{
    Attribute{"path", "path"},
    Attribute{"filespec", "pattern"},
    Attribute{"recursive", "recursive"},
    Attribute{"lastModifyTime", "last-modify-filetime"},
};
constexpr std::array kDirected{
    Attribute{"sourcePath", "source-path"},
    Attribute{"sourceFilename", "source-file"},
    Attribute{"sourceRangeList", "source-ranges"},
    Attribute{"destinationPath", "destination-path"},
    Attribute{"destinationFilename", "destination-file"},
    Attribute{"destinationRangeList", "destination-ranges"},
};
constexpr std::array kSubcomponent{
    Attribute{"logicalPath", "logical-path"},
    Attribute{"componentName", "name"},
    Attribute{"repair", "repair"},
};
constexpr std::array kFailure{
    Attribute{"hr", "code"},
    Attribute{"hrApplication", "application-code"},
    Attribute{"applicationMessage", "message"},
};

constexpr std::array kRoots{
    Element{"WRITER_METADATA", "writer-metadata", kMetadata},
    Element{"BACKUP_COMPONENTS", "backup-components", kBackup},
    Element{"WRITER_COMPONENTS", "writer-components", kWriter},
};
constexpr std::array kElements{
    Element{"IDENTIFICATION", "identity", kIdentification},
    Element{"RESTORE_METHOD", "restore", kRestoreMethod},
    Element{"ALTERNATE_LOCATION_MAPPING", "alternate-location", kMapping},  // Ours.
    Element{"FILE_GROUP", "component", kGroup, "file-group"},
    Element{"DATABASE", "component", kGroup, "database"},
    Element{"FILE_LIST", "files", kFiles},
    Element{"DATABASE_FILES", "files", kFiles},
    Element{"DATABASE_LOGFILES", "log-files", kFiles},
    Element{"DEPENDENCY", "dependency", kDependency},  // Ours.
    Element{"EXCLUDE_FILES", "exclude", kFiles},
    Element{"EXCLUDE_FILES_FROM_SNAPSHOT", "exclude-from-snapshot", kFiles},
    Element{"WRITER_COMPONENTS", "writer-components", kWriter},
    Element{"COMPONENT", "component", kComponent},
    // From here on ours.
    Element{"PARTIAL_FILE", "partial-file", kPartial},
    Element{"DIFFERENCED_FILE", "differenced-file", kDifferenced},
    Element{"NEW_TARGET", "new-target", kMapping},
    Element{"DIRECTED_TARGET", "directed-target", kDirected},
    Element{"RESTORE_SUBCOMPONENT", "restore-subcomponent", kSubcomponent},
    Element{"FAILURE", "failure", kFailure},
};

std::string our_word(std::string_view theirs) {
  for (const Word& word : kWords)
    if (word.theirs == theirs) return word.ours;
  std::string text(theirs);
  for (char& letter : text) {
    if (letter >= 'A' && letter <= 'Z') letter = static_cast<char>(letter - 'A' + 'a');
    if (letter == '_') letter = '-';
  }
  return text;
}

void rename(pugi::xml_node node, const Element& element) {
  node.set_name(element.ours);
  node.remove_attribute("xmlns");
  for (pugi::xml_attribute attribute : node.attributes()) {
    for (const Attribute& known : element.attributes) {
      if (known.theirs != attribute.name()) continue;
      const std::string_view value = attribute.value();
      attribute.set_name(known.ours);
      // Our text has an escape of its own; theirs has not.
      attribute.set_value(
          (known.kind == Kind::word ? our_word(value) : escape_bytes(value)).c_str());
      break;
    }
  }
  if (element.type != nullptr) node.append_attribute("type").set_value(element.type);
}

// Nothing if it is no base64.
std::optional<std::string> from_base64(std::string_view text) {
  constexpr std::string_view kLetters =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  while (text.ends_with('=')) text.remove_suffix(1);
  std::string bytes;
  std::uint32_t bits = 0;
  unsigned count = 0;
  for (const char letter : text) {
    const std::size_t value = kLetters.find(letter);
    if (value == std::string_view::npos) return std::nullopt;
    bits = (bits << 6U) | static_cast<std::uint32_t>(value);
    count += 6;
    if (count < 8) continue;
    count -= 8;
    bytes.push_back(static_cast<char>((bits >> count) & 0xFFU));
  }
  return bytes;
}

void decode_icon(pugi::xml_node component) {
  pugi::xml_attribute icon = component.attribute("icon");
  if (!icon) return;
  if (const auto bytes = from_base64(icon.value())) icon.set_value(escape_bytes(*bytes).c_str());
}

// What are attributes here and elements there, and the other way round.
void move_members(pugi::xml_node component) {
  struct Lifted {
    const char* theirs;
    const char* ours;
  };
  constexpr std::array kLifted{Lifted{"BACKUP_METADATA", "backup-metadata"},
                               Lifted{"RESTORE_METADATA", "restore-metadata"}};
  for (const Lifted& one : kLifted) {
    const pugi::xml_node node = component.child(one.theirs);
    if (!node) continue;
    component.append_attribute(one.ours).set_value(
        escape_bytes(node.attribute("metadata").value()).c_str());
    component.remove_child(node);
  }
  const pugi::xml_attribute type = component.attribute("rollForwardType");
  if (!type) return;
  pugi::xml_node to = component.append_child("roll-forward");
  to.append_attribute("type").set_value(our_word(type.value()).c_str());
  const std::string point = component.attribute("rollForwardPoint").value();
  to.append_attribute("point").set_value(escape_bytes(point).c_str());
  component.remove_attribute("rollForwardType");
  component.remove_attribute("rollForwardPoint");
}

void translate_children(pugi::xml_node parent, int depth) {
  constexpr int kDepthMax = 8;  // As deep as documents go.
  if (depth > kDepthMax) return;
  for (const pugi::xml_node node : parent.children()) {
    const auto known =
        std::find_if(kElements.begin(), kElements.end(),
                     [&](const Element& element) { return element.theirs == node.name(); });
    if (known == kElements.end()) continue;
    rename(node, *known);
    if (known->theirs == "COMPONENT") move_members(node);
    if (known->type != nullptr) decode_icon(node);
    translate_children(node, depth + 1);
  }
}

// Ours has no such container.
void unwrap(pugi::xml_node root, const char* container) {
  const pugi::xml_node node = root.child(container);
  if (!node) return;
  std::vector<pugi::xml_node> children(node.begin(), node.end());
  for (const pugi::xml_node child : children) root.append_move(child);
  if (!node.first_attribute()) root.remove_child(node);
}

}  // namespace

bool translate_vss_names(pugi::xml_node root) {
  const auto known = std::find_if(kRoots.begin(), kRoots.end(), [&](const Element& element) {
    return element.theirs == root.name();
  });
  if (known == kRoots.end()) return false;
  rename(root, *known);
  unwrap(root, "BACKUP_LOCATIONS");
  translate_children(root, 1);
  return true;
}

}  // namespace umbra::documents
