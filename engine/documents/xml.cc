// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// As in rpc/codec.cc, each element is described once and the description serves both directions.
// Data is in attributes only; a member that has its default is left out. The description also says
// what is known: whatever else a reader finds goes into the element's `unknown`.
#include "engine/documents/xml.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <pugixml.hpp>
#include <type_traits>

#include "engine/documents/rules.h"
#include "engine/documents/vss_names.h"
#include "engine/documents/xml_unknown.h"
#include "engine/platform/wire_text.h"

namespace umbra::documents {
namespace {

constexpr int kVersionMajor = 1;
constexpr const char* kVersion = "1.0";

constexpr const char* kWriterMetadata = "writer-metadata";
constexpr const char* kBackupComponents = "backup-components";
constexpr const char* kBundle = "umbra-backup";
constexpr const char* kWriterComponents = "writer-components";

// --- enumerations as words -----------------------------------------------------------------------

constexpr std::array kUsage{"undefined", "bootable-system-state", "system-service", "user-data",
                            "other"};
constexpr std::array kSource{"undefined", "transacted-db", "nontransacted-db", "other"};
constexpr std::array kComponentType{"undefined", "database", "file-group"};
constexpr std::array kBackupType{"undefined", "full", "incremental", "differential",
                                 "log",       "copy", "other"};
constexpr std::array kRestoreMethod{"undefined",
                                    "restore-if-not-there",
                                    "restore-if-can-replace",
                                    "stop-restore-start",
                                    "restore-to-alternate-location",
                                    "restore-at-reboot",
                                    "restore-at-reboot-if-cannot-replace",
                                    "custom",
                                    "restore-stop-start"};
constexpr std::array kWriterRestore{"undefined", "never", "if-replace-fails", "always"};

constexpr std::array kRestoreType{"undefined", "by-copy", "import", "other"};
constexpr std::array kRestoreTarget{"undefined", "original", "alternate", "directed",
                                    "original-location"};
constexpr std::array kFileRestoreStatus{"undefined", "none", "all", "failed"};
constexpr std::array kRollForward{"undefined", "none", "all", "partial"};
constexpr std::array kLunIdentifier{"vendor-specific", "t10",           "eui64",      "naa",
                                    "relative-port",   "port-group",    "unit-group", "md5",
                                    "scsi-name",       "protocol-port", "uuid"};

constexpr const auto& words(RestoreType) { return kRestoreType; }
constexpr const auto& words(LunIdentifierType) { return kLunIdentifier; }
constexpr const auto& words(RestoreTarget) { return kRestoreTarget; }
constexpr const auto& words(FileRestoreStatus) { return kFileRestoreStatus; }
constexpr const auto& words(RollForwardType) { return kRollForward; }
constexpr const auto& words(UsageType) { return kUsage; }
constexpr const auto& words(SourceType) { return kSource; }
constexpr const auto& words(ComponentType) { return kComponentType; }
constexpr const auto& words(BackupType) { return kBackupType; }
constexpr const auto& words(RestoreMethod) { return kRestoreMethod; }
constexpr const auto& words(WriterRestore) { return kWriterRestore; }

// --- the elements, member by member --------------------------------------------------------------

template <class Visitor, class T>
using Ref = std::conditional_t<Visitor::kWrites, const T&, T&>;

template <class V>
void members(V& v, Ref<V, FileSet> m) {
  v("path", m.path), v("pattern", m.pattern), v("recursive", m.recursive);
  v("alternate-path", m.alternate_path), v("backup-type-mask", m.backup_type_mask);
}
template <class V>
void members(V& v, Ref<V, ComponentDependency> m) {
  v("writer", m.writer), v("logical-path", m.logical_path), v("component", m.component);
}
template <class V>
void members(V& v, Ref<V, ComponentInfo> m) {
  v("type", m.type), v("logical-path", m.logical_path), v("name", m.name);
  v("caption", m.caption), v("notify-on-backup-complete", m.notify_on_backup_complete);
  v("selectable", m.selectable), v("selectable-for-restore", m.selectable_for_restore);
  v("flags", m.flags), v("icon", m.icon);
  v.sparse("restore-metadata", m.restore_metadata, false);
  v.children("files", m.files), v.children("log-files", m.log_files);
  v.children("dependency", m.dependencies);
}
template <class V>
void members(V& v, Ref<V, WriterIdentity> m) {
  v("class-id", m.class_id), v("instance-id", m.instance_id), v("name", m.name);
  v("instance-name", m.instance_name), v("usage", m.usage), v("source", m.source);
  v("version-major", m.version_major), v("version-minor", m.version_minor);
}
template <class V>
void members(V& v, Ref<V, AlternateLocation> m) {
  v("path", m.path), v("pattern", m.pattern), v("recursive", m.recursive);
  v("destination", m.destination);
}
template <class V>
void members(V& v, Ref<V, RestoreRules> m) {
  v("method", m.method), v("service", m.service), v("writer-restore", m.writer_restore);
  v("reboot-required", m.reboot_required), v("user-procedure", m.user_procedure);
  v.children("alternate-location", m.alternate_locations);
}
template <class V>
void members(V& v, Ref<V, WriterMetadataDocument> m) {
  v("backup-schema", m.backup_schema);
  v.child("identity", m.identity), v.child("restore", m.restore);
  v.children("component", m.components), v.children("exclude", m.excludes);
  v.children("exclude-from-snapshot", m.excludes_from_snapshot);
}
template <class V>
void members(V& v, Ref<V, PartialFile> m) {
  v("path", m.path), v("file-name", m.file_name), v("ranges", m.ranges);
  v("metadata", m.metadata);
}
template <class V>
void members(V& v, Ref<V, DifferencedFile> m) {
  v("path", m.path), v("pattern", m.pattern), v("recursive", m.recursive);
  v("last-modify-filetime", m.last_modify_filetime);
}
template <class V>
void members(V& v, Ref<V, ComponentFailure> m) {
  v("code", m.code), v("application-code", m.application_code), v("message", m.message);
}
template <class V>
void members(V& v, Ref<V, RestoreSubcomponent> m) {
  v("logical-path", m.logical_path), v("name", m.name);
  v.sparse("repair", m.repair, false);
}
template <class V>
void members(V& v, Ref<V, DirectedTarget> m) {
  v("source-path", m.source_path), v("source-file", m.source_file);
  v("source-ranges", m.source_ranges), v("destination-path", m.destination_path);
  v("destination-file", m.destination_file), v("destination-ranges", m.destination_ranges);
}
template <class V>
void members(V& v, Ref<V, RollForward> m) {
  v("type", m.type), v("point", m.point);
}
// A backup has none of these: what is as in a new component is left out.
template <class V>
void restore_members(V& v, Ref<V, BackupComponent> m) {
  v.sparse("selected-for-restore", m.selected_for_restore, false);
  v.sparse("additional-restores", m.additional_restores, false);
  v.sparse("authoritative-restore", m.authoritative_restore, false);
  v("restore-options", m.restore_options), v("restore-name", m.restore_name);
  v.sparse("file-restore-status", m.file_restore_status, FileRestoreStatus::undefined);
  v.sparse("restore-target", m.restore_target, RestoreTarget::original);
  v("restore-metadata", m.restore_metadata);
  v("pre-restore-failure", m.pre_restore_failure);
  v("post-restore-failure", m.post_restore_failure);
  v.child("roll-forward", m.roll_forward);
  v.children("restore-subcomponent", m.restore_subcomponents);
  v.children("new-target", m.new_targets);
  v.children("alternate-location", m.alternate_locations);
  v.children("directed-target", m.directed_targets);
}
template <class V>
void members(V& v, Ref<V, BackupComponent> m) {
  v("type", m.type), v("logical-path", m.logical_path), v("name", m.name);
  v("caption", m.caption), v("succeeded", m.succeeded),
      v("previous-backup-stamp", m.previous_backup_stamp);
  v("backup-options", m.backup_options), v("backup-metadata", m.backup_metadata);
  v("backup-stamp", m.backup_stamp);
  v("prepare-for-backup-failure", m.prepare_for_backup_failure);
  v("post-snapshot-failure", m.post_snapshot_failure);
  v.child("failure", m.failure);
  v.children("partial-file", m.partial_files);
  v.children("differenced-file", m.differenced_files);
  restore_members<V>(v, m);
}
template <class V>
void members(V& v, Ref<V, WriterComponents> m) {
  v("instance-id", m.instance_id), v("class-id", m.class_id);
  v("instance-name", m.instance_name), v("backup-schema", m.backup_schema);
  v.children("component", m.components);
}
template <class V>
void members(V& v, Ref<V, LunIdentifier> m) {
  v("type", m.type), v("value", m.value);
}
template <class V>
void members(V& v, Ref<V, LunInformation> m) {
  v("vendor", m.vendor), v("product", m.product), v("revision", m.revision);
  v("serial", m.serial), v("size-bytes", m.size_bytes), v("device-path", m.device_path);
  v.children("identifier", m.identifiers);
}
template <class V>
void members(V& v, Ref<V, LunMapping> m) {
  v.child("source", m.source), v.child("target", m.target);
}
template <class V>
void members(V& v, Ref<V, TransportedSnapshot> m) {
  v("snapshot-id", m.snapshot_id), v("set-id", m.set_id), v("provider-id", m.provider_id);
  v("volume-id", m.volume_id), v("volume-name", m.volume_name);
  v("originating-machine", m.originating_machine), v("snapshots-count", m.snapshots_count);
  v("attributes", m.attributes), v("creation-filetime", m.creation_filetime);
  v.children("lun", m.luns);
}
template <class V>
void members(V& v, Ref<V, BackupComponentsDocument> m) {
  v("component-mode", m.component_mode), v("bootable-system-state", m.bootable_system_state);
  v("partial-file-support", m.partial_file_support), v("backup-type", m.backup_type);
  v.sparse("restore-type", m.restore_type, RestoreType::undefined);
  v("snapshot-set-id", m.set_id);
  v.children("snapshot", m.snapshots);
  v.children(kWriterComponents, m.writers);
}

template <class V>
void members(V& v, Ref<V, MountPoint> m) {
  v("point", m.point), v("root", m.root);
}
template <class V>
void members(V& v, Ref<V, BundleVolume> m) {
  v("volume-id", m.volume_id), v("snapshot-id", m.snapshot_id), v("name", m.name);
  v.children("mount", m.mounts);
}
template <class V>
void members(V& v, Ref<V, ResolvedPath> m) {
  v("path", m.path), v("real", m.real);
}
template <class V>
void members(V& v, Ref<V, BackupBundle> m) {
  v("created-filetime", m.created_filetime), v("machine", m.machine);
  v.children("volume", m.volumes), v.children("resolved-path", m.resolved_paths);
  v.child(kBackupComponents, m.components), v.children(kWriterMetadata, m.writers);
}

// --- writing -------------------------------------------------------------------------------------

class Writer {
 public:
  static constexpr bool kWrites = true;
  explicit Writer(pugi::xml_node node) : node_(node) {}

  template <class T>
  void operator()(const char* name, const T& field) {
    if constexpr (requires { field.has_value(); }) {
      if (field) node_.append_attribute(name).set_value(text_of(*field).c_str());
    } else {
      node_.append_attribute(name).set_value(text_of(field).c_str());
    }
  }
  void operator()(const char* name, const std::string& text) {
    if (!text.empty()) node_.append_attribute(name).set_value(text_of(text).c_str());
  }
  template <class T>
  void sparse(const char* name, const T& field, const T& usual) {
    if (field != usual) (*this)(name, field);
  }
  template <class T>
  void child(const char* name, const T& element) {
    const pugi::xml_node node = node_.append_child(name);
    Writer nested(node);
    members(nested, element);
    put_unknown(node, element.unknown);
  }
  template <class T>
  void child(const char* name, const std::optional<T>& element) {
    if (element) child(name, *element);
  }
  template <class T>
  void children(const char* name, const std::vector<T>& elements) {
    for (const T& element : elements) child(name, element);
  }

 private:
  static std::string text_of(const std::string& text) { return escape_bytes(text); }
  static std::string text_of(bool flag) { return flag ? "yes" : "no"; }
  static std::string text_of(Errc code) {
    std::array<char, 16> text{};
    // The buffer holds any 32-bit number in this form, so truncation cannot happen.
    (void)std::snprintf(text.data(), text.size(), "0x%08X", static_cast<unsigned>(code));
    return text.data();
  }
  static std::string text_of(const Guid& guid) { return guid.to_string(); }
  template <class T>
  static std::string text_of(const T& field) {
    if constexpr (std::is_base_of_v<Guid, T>) {
      return field.to_string();
    } else if constexpr (std::is_enum_v<T>) {
      return words(field)[static_cast<std::size_t>(field)];
    } else {
      return std::to_string(field);
    }
  }

  pugi::xml_node node_;
};

template <class T>
std::string write(const char* root, const T& value) {
  pugi::xml_document document;
  pugi::xml_node node = document.append_child(root);
  node.append_attribute("version").set_value(kVersion);
  Writer writer(node);
  members(writer, value);
  put_unknown(node, value.unknown);
  StringWriter out;
  document.save(out, " ", pugi::format_indent | pugi::format_no_declaration, pugi::encoding_utf8);
  return std::move(out.text);
}

// --- reading -------------------------------------------------------------------------------------

class Reader {
 public:
  static constexpr bool kWrites = false;
  explicit Reader(pugi::xml_node node) : node_(node) {}

  template <class T>
  void operator()(const char* name, T& field) {
    known.push_back(name);
    if (!problem.empty()) return;
    const pugi::xml_attribute attribute = node_.attribute(name);
    if (attribute && !read(attribute.value(), field)) {
      problem = std::string(node_.name()) + "@" + name + ": '" +
                std::string(attribute.value()).substr(0, 64) + "' is not a valid value";
    }
  }
  template <class T>
  void sparse(const char* name, T& field, const T&) {
    (*this)(name, field);
  }
  template <class T>
  void child(const char* name, T& element) {
    const pugi::xml_node node = only(name);
    if (!problem.empty()) return;
    if (!node) {
      problem = std::string(node_.name()) + " lacks the element " + name;
      return;
    }
    take(node, element);
  }
  template <class T>
  void child(const char* name, std::optional<T>& element) {
    const pugi::xml_node node = only(name);
    if (node && problem.empty()) take(node, element.emplace());
  }
  template <class T>
  void children(const char* name, std::vector<T>& elements) {
    known.push_back(name);
    for (const pugi::xml_node node : node_.children(name)) {
      if (!problem.empty()) return;
      take(node, elements.emplace_back());
    }
  }

  // The whole of an element: its members, and what is none.
  template <class T>
  void all(T& element) {
    members(*this, element);
    if (problem.empty()) element.unknown = take_unknown(node_, known);
  }

  std::string problem;             // Empty, or what is wrong and where.
  std::vector<const char*> known;  // Names of attributes and elements.

 private:
  template <class T>
  void take(pugi::xml_node node, T& element) {
    Reader nested(node);
    nested.all(element);
    problem = std::move(nested.problem);
  }
  pugi::xml_node only(const char* name) {
    known.push_back(name);
    const pugi::xml_node node = node_.child(name);
    if (problem.empty() && node.next_sibling(name))
      problem = std::string(node_.name()) + " has the element " + name + " more than once";
    return node;
  }
  static bool read(std::string_view text, std::string& field) {
    std::optional<std::string> bytes = unescape_bytes(text);
    if (!bytes || bytes->size() > kStringBytesMax) return false;
    field = std::move(*bytes);
    return true;
  }
  static bool read(std::string_view text, bool& field) {
    field = text == "yes";
    return text == "yes" || text == "no";
  }
  static bool read(std::string_view text, Errc& code) {
    std::uint32_t number = 0;
    if (!text.starts_with("0x") || !read_number(text.substr(2), number, 16)) return false;
    code = static_cast<Errc>(number);
    return true;
  }
  template <class T>
  static bool read(std::string_view text, std::optional<T>& field) {
    return read(text, field.emplace());
  }
  template <class T>
  static bool read(std::string_view text, T& field) {
    if constexpr (std::is_base_of_v<Guid, T>) {
      const Result<Guid> parsed = Guid::parse(text);
      if (parsed) static_cast<Guid&>(field) = *parsed;
      return parsed.has_value();
    } else if constexpr (std::is_enum_v<T>) {
      const auto& list = words(field);
      const auto found = std::find(list.begin(), list.end(), text);
      field = static_cast<T>(found - list.begin());
      return found != list.end();
    } else {
      return read_number(text, field, 10);
    }
  }
  template <class T>
  static bool read_number(std::string_view text, T& number, int base) {
    const auto parsed = std::from_chars(text.data(), text.data() + text.size(), number, base);
    return parsed.ec == std::errc{} && parsed.ptr == text.data() + text.size();
  }

  pugi::xml_node node_;
};

Status check_version(pugi::xml_node node) {
  const std::string_view version = node.attribute("version").value();
  int major = 0;
  const auto parsed = std::from_chars(version.data(), version.data() + version.size(), major);
  const bool ends = parsed.ptr == version.data() + version.size() || *parsed.ptr == '.';
  if (parsed.ec != std::errc{} || !ends) return invalid("the version is missing or malformed");
  if (major != kVersionMajor) {
    return invalid("version " + std::string(version.substr(0, 16)) +
                   " of the document is not known here; only " + kVersion + " is");
  }
  return {};
}

template <class T>
Result<T> parse(const char* root, std::string_view xml) {
  if (const Status cheap = check_text(xml); !cheap) return fail(cheap.error());
  pugi::xml_document document;
  constexpr unsigned kOptions = pugi::parse_escapes | pugi::parse_wconv_attribute |
                                pugi::parse_eol | pugi::parse_cdata | pugi::parse_doctype;
  const pugi::xml_parse_result parsed =
      document.load_buffer(xml.data(), xml.size(), kOptions, pugi::encoding_utf8);
  if (!parsed) {
    return invalid(std::string(parsed.description()) + " at byte " + std::to_string(parsed.offset));
  }
  for (const pugi::xml_node node : document.children()) {
    if (node.type() == pugi::node_doctype) return invalid("a document type is not allowed");
  }
  const pugi::xml_node node = document.document_element();
  translate_vss_names(node);
  if (std::string_view(node.name()) != root || node.next_sibling()) {
    return invalid("expected one element " + std::string(root) + ", found '" +
                   std::string(node.name()).substr(0, 64) + "'");
  }
  if (const Status shape = check_tree(node); !shape) return fail(shape.error());
  if (const Status known = check_version(node); !known) return fail(known.error());
  T value;
  Reader reader(node);
  reader.known.push_back("version");
  reader.all(value);
  if (!reader.problem.empty()) return invalid(std::move(reader.problem));
  return value;
}

Status check_part(const WriterComponents& part) {
  if (part.components.size() > kComponentsPerWriterMax) return invalid("too many components");
  for (const BackupComponent& component : part.components) {
    if (component.name.empty()) return invalid("component@name: missing");
  }
  return {};
}

Status check_backup(const BackupComponentsDocument& document) {
  for (const WriterComponents& part : document.writers)
    if (const Status sound = check_part(part); !sound) return sound;
  if (document.snapshots.size() > kTransportedMax) return invalid("too many snapshots");
  for (const TransportedSnapshot& snapshot : document.snapshots) {
    if (snapshot.snapshot_id.is_nil() || snapshot.provider_id.is_nil())
      return invalid("snapshot: lacks its id or its provider's");
    if (snapshot.luns.empty() || snapshot.luns.size() > kTransportedMax)
      return invalid("snapshot: lies on no LUN, or on too many");
    for (const LunMapping& lun : snapshot.luns)
      if (!has_unique_identifier(lun.source) || !has_unique_identifier(lun.target))
        return invalid("snapshot/lun: has no identifier that is unique in the world");
  }
  return {};
}

}  // namespace

std::string to_xml(const WriterMetadataDocument& document) {
  return write(kWriterMetadata, document);
}
std::string to_xml(const BackupComponentsDocument& document) {
  return write(kBackupComponents, document);
}
std::string to_xml(const WriterComponents& components) {
  return write(kWriterComponents, components);
}

std::string to_xml(const BackupBundle& bundle) { return write(kBundle, bundle); }

Result<WriterMetadataDocument> parse_writer_metadata(std::string_view xml) {
  Result<WriterMetadataDocument> document = parse<WriterMetadataDocument>(kWriterMetadata, xml);
  if (!document) return document;
  if (const Status sound = check(*document, Paths::any); !sound)
    return invalid(sound.error().context);
  return document;
}

Result<BackupComponentsDocument> parse_backup_components(std::string_view xml) {
  auto document = parse<BackupComponentsDocument>(kBackupComponents, xml);
  if (!document) return document;
  if (const Status sound = check_backup(*document); !sound) return fail(sound.error());
  return document;
}

Result<BackupBundle> parse_bundle(std::string_view xml) {
  auto bundle = parse<BackupBundle>(kBundle, xml);
  if (!bundle) return bundle;
  if (const Status sound = check_backup(bundle->components); !sound) return fail(sound.error());
  for (const WriterMetadataDocument& writer : bundle->writers) {
    if (const Status sound = check(writer); !sound) return invalid(sound.error().context);
  }
  for (const BundleVolume& volume : bundle->volumes) {
    for (const MountPoint& mount : volume.mounts) {
      if (!mount.point.starts_with('/') || !mount.root.starts_with('/'))
        return invalid("mount: paths must be absolute");
    }
  }
  return bundle;
}

Result<WriterComponents> parse_writer_components(std::string_view xml) {
  auto part = parse<WriterComponents>(kWriterComponents, xml);
  if (!part) return part;
  if (const Status sound = check_part(*part); !sound) return fail(sound.error());
  return part;
}

}  // namespace umbra::documents
