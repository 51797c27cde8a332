// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// One members() per message serves both directions: the visitor either writes the fields into an
// object or reads them from one, so that names cannot differ between the two.
#include "engine/rpc/codec.h"

#include <array>
#include <atomic>
#include <boost/json/memory_resource.hpp>
#include <boost/json/parser.hpp>
#include <boost/json/serialize.hpp>
#include <charconv>
#include <cstddef>
#include <cstdio>
#include <limits>
#include <new>
#include <type_traits>

#include "engine/platform/log.h"
#include "engine/platform/wire_text.h"
#include "engine/rpc/codec_management.h"
#include "engine/rpc/codec_visit.h"

namespace umbra::rpc {
namespace {

namespace json = boost::json;

constexpr std::size_t kPeerTextMax = 4096;  // Bytes of a peer's words kept in an Error.

// --- every message, member by member ----------------------------------------------------------

template <class V>
void members(V&, Ref<V, Nothing>) {}
template <class V>
void members(V&, Ref<V, InitializeForBackup>) {}

template <class V>
void members(V& v, Ref<V, HelloRequest> m) {
  v("major", m.major), v("minor", m.minor), v("features", m.features);
  v("role", m.role), v("program", m.program);
}
template <class V>
void members(V& v, Ref<V, HelloReply> m) {
  v("major", m.major), v("minor", m.minor), v("features", m.features);
  v("program", m.program), v("roles", m.roles);
}
template <class V>
void members(V& v, Ref<V, RegisterWriter> m) {
  v("class_id", m.class_id), v("name", m.name), v("instance_name", m.instance_name);
  v("version_major", m.version_major), v("version_minor", m.version_minor);
  v("usage", m.usage), v("source", m.source), v("level", m.level);
  v("freeze_window_ms", m.freeze_window_ms);
}
template <class V>
void members(V& v, Ref<V, RegisterWriterReply> m) {
  v("instance_id", m.instance_id);
}
template <class V>
void members(V& v, Ref<V, AffectedVolume> m) {
  v("volume_id", m.volume_id), v("name", m.name), v("device", decimal(m.device));
  v("snapshot_id", m.snapshot_id), v("snapshot_device", path(m.snapshot_device));
}
template <class V>
void members(V& v, Ref<V, WriterEvent> m) {
  v("session_id", m.session_id), v("set_id", m.set_id), v("context", m.context);
  v("backup_type", m.backup_type), v("component_mode", m.component_mode);
  v("bootable_system_state", m.bootable_system_state);
  v("partial_file_support", m.partial_file_support), v("restore_type", m.restore_type);
  v("time_limit_ms", m.time_limit_ms);
  v("volumes", m.volumes), v("components", m.components);
}
template <class V>
void members(V& v, Ref<V, ComponentEdit> m) {
  v("op", m.op), v("logical_path", m.logical_path), v("component", m.component);
  v("values", m.values);
}
template <class V>
void members(V& v, Ref<V, WriterReply> m) {
  v("ok", m.ok), v("failure", m.failure), v("application_code", m.application_code);
  v("message", m.message), v("metadata", m.metadata), v("edits", m.edits);
}
template <class V>
void members(V& v, Ref<V, WindowExpired> m) {
  v("session_id", m.session_id);
}
template <class V>
void members(V& v, Ref<V, SessionInfo> m) {
  v("session_id", m.session_id);
}
template <class V>
void members(V& v, Ref<V, SetContext> m) {
  v("context", m.context);
}
template <class V>
void members(V& v, Ref<V, SetBackupState> m) {
  v("component_mode", m.component_mode), v("bootable_system_state", m.bootable_system_state);
  v("backup_type", m.backup_type), v("partial_file_support", m.partial_file_support);
}
template <class V>
void members(V& v, Ref<V, WriterSelection> m) {
  v("ids", m.ids);
}
template <class V>
void members(V& v, Ref<V, WriterMetadata> m) {
  v("instance_id", m.instance_id), v("class_id", m.class_id), v("name", m.name);
  v("metadata", m.metadata);
}
template <class V>
void members(V& v, Ref<V, WriterMetadataList> m) {
  v("writers", m.writers);
}
template <class V>
void members(V& v, Ref<V, ComponentRef> m) {
  v("instance_id", m.instance_id), v("class_id", m.class_id), v("type", m.type);
  v("logical_path", m.logical_path), v("name", m.name);
}
template <class V>
void members(V& v, Ref<V, SetBackupSucceeded> m) {
  v("component", m.component), v("succeeded", m.succeeded);
}
template <class V>
void members(V& v, Ref<V, StartSnapshotSet> m) {
  v("queue_limit_ms", m.queue_limit_ms);
}
template <class V>
void members(V& v, Ref<V, StartedSet> m) {
  v("set_id", m.set_id);
}
template <class V>
void members(V& v, Ref<V, VolumeRef> m) {
  v("id", m.id), v("name", m.name), v("device", decimal(m.device)), v("path", path(m.path));
}
template <class V>
void members(V& v, Ref<V, AddToSnapshotSet> m) {
  v("volume", m.volume), v("provider_id", m.provider_id);
}
template <class V>
void members(V& v, Ref<V, AddedSnapshot> m) {
  v("snapshot_id", m.snapshot_id), v("volume_id", m.volume_id);
}
template <class V>
void members(V& v, Ref<V, DoSnapshotSet> m) {
  v("policy", m.policy), v("policy_list", m.policy_list);
}
template <class V>
void members(V& v, Ref<V, InitializeForRestore> m) {
  v("components", m.components);
}
template <class V>
void members(V& v, Ref<V, SetRestoreState> m) {
  v("restore_type", m.restore_type);
}
template <class V>
void members(V& v, Ref<V, SetSelectedForRestore> m) {
  v("component", m.component), v("selected", m.selected);
}
template <class V>
void members(V& v, Ref<V, AddRestoreSubcomponent> m) {
  v("component", m.component), v("logical_path", m.logical_path), v("name", m.name);
}
template <class V>
void members(V& v, Ref<V, SetRestoreText> m) {
  v("component", m.component), v("text", m.text);
}
template <class V>
void members(V& v, Ref<V, SetRestoreFlag> m) {
  v("component", m.component), v("value", m.value);
}
template <class V>
void members(V& v, Ref<V, SetRollForward> m) {
  v("component", m.component), v("type", m.type), v("point", m.point);
}
template <class V>
void members(V& v, Ref<V, RestoreLocation> m) {
  v("component", m.component), v("path", path(m.path)), v("pattern", path(m.pattern));
  v("recursive", m.recursive), v("destination", path(m.destination));
}
template <class V>
void members(V& v, Ref<V, SetRangesFilePath> m) {
  v("component", m.component), v("partial_file", m.partial_file), v("path", path(m.path));
}
template <class V>
void members(V& v, Ref<V, SetFileRestoreStatus> m) {
  v("component", m.component), v("status", m.status);
}
template <class V>
void members(V& v, Ref<V, WriterStatus> m) {
  v("instance_id", m.instance_id), v("class_id", m.class_id), v("name", m.name);
  v("state", m.state), v("failure", m.failure), v("application_code", m.application_code);
  v("message", m.message);
}
template <class V>
void members(V& v, Ref<V, WriterStatusList> m) {
  v("writers", m.writers);
}
template <class V>
void members(V& v, Ref<V, Document> m) {
  v("xml", m.xml);
}
template <class V>
void members(V& v, Ref<V, StartedOperation> m) {
  v("operation", m.operation);
}
template <class V>
void members(V& v, Ref<V, WaitOperation> m) {
  v("operation", m.operation), v("time_limit_ms", m.time_limit_ms);
}
template <class V>
void members(V& v, Ref<V, PhaseTime> m) {
  v("phase", m.phase), v("begin_us", m.begin_us), v("end_us", m.end_us);
}
template <class V>
void members(V& v, Ref<V, HoldReport> m) {
  v("flush_us", m.flush), v("freeze_us", m.freeze), v("gate_us", m.gate);
}
template <class V>
void members(V& v, Ref<V, HoldLimits> m) {
  v("flush_ms", m.flush), v("hold_ms", m.hold), v("window_ms", m.window);
}
template <class V>
void members(V& v, Ref<V, OperationStatus> m) {
  v("status", m.status), v("context", m.context), v("phase", m.phase);
  v("timeline", m.timeline), v("hold", m.hold), v("writers", m.writers);
}
template <class V>
void members(V& v, Ref<V, QuerySnapshots> m) {
  v("context", m.context), v("incomplete", m.incomplete);
}
template <class V>
void members(V& v, Ref<V, SnapshotProperties> m) {
  v("snapshot_id", m.snapshot_id), v("set_id", m.set_id), v("volume_id", m.volume_id);
  v("provider_id", m.provider_id), v("snapshots_count", m.snapshots_count);
  v("device_object", path(m.device_object)), v("nbd_uri", path(m.nbd_uri));
  v("original_volume", m.original_volume), v("originating_machine", m.originating_machine);
  v("service_machine", m.service_machine), v("exposed_path", path(m.exposed_path));
  v("attributes", m.attributes), v("creation_filetime", decimal(m.creation_filetime));
  v("state", m.state), v("lost", m.lost);
}
template <class V>
void members(V& v, Ref<V, SnapshotList> m) {
  v("snapshots", m.snapshots), v("absent_providers", m.absent_providers);
}
template <class V>
void members(V& v, Ref<V, DeleteSnapshots> m) {
  v("id", m.id), v("type", m.type), v("force", m.force);
}
template <class V>
void members(V& v, Ref<V, DeletedSnapshots> m) {
  v("deleted", m.deleted), v("not_deleted", m.not_deleted), v("status", m.status);
  v("context", m.context);
}
template <class V>
void members(V& v, Ref<V, ProviderProperties> m) {
  v("provider_id", m.provider_id), v("name", m.name), v("type", m.type);
  v("version", m.version);
}
template <class V>
void members(V& v, Ref<V, ProviderEntry> m) {
  v("properties", m.properties), v("connected", m.connected);
}
template <class V>
void members(V& v, Ref<V, ProviderList> m) {
  v("providers", m.providers);
}
template <class V>
void members(V& v, Ref<V, WriterEntry> m) {
  v("instance_id", m.instance_id), v("class_id", m.class_id), v("name", m.name);
  v("instance_name", m.instance_name), v("level", m.level);
  v("freeze_window_ms", m.freeze_window_ms), v("state", m.state);
  v("last_failure", m.last_failure), v("last_failure_phase", m.last_failure_phase);
  v("last_failure_message", m.last_failure_message);
  v("last_failure_filetime", decimal(m.last_failure_filetime));
}
template <class V>
void members(V& v, Ref<V, WriterEntryList> m) {
  v("writers", m.writers);
}
template <class V>
void members(V& v, Ref<V, MountSnapshot> m) {
  v("snapshot_id", m.snapshot_id), v("directory", path(m.directory));
}
template <class V>
void members(V& v, Ref<V, MountedSnapshot> m) {
  v("path", path(m.path)), v("device_path", path(m.device_path));
}
template <class V>
void members(V& v, Ref<V, UnmountSnapshot> m) {
  v("snapshot_id", m.snapshot_id);
}
template <class V>
void members(V& v, Ref<V, AttachVolume> m) {
  v("origin_path", path(m.origin_path)), v("diff_area_path", path(m.diff_area_path));
  v("name", m.name), v("chunk_bytes", m.chunk_bytes);
  v("diff_initial_bytes", decimal(m.diff_initial_bytes));
  v("diff_maximum_bytes", decimal(m.diff_maximum_bytes));
  v("snapshots_max", m.snapshots_max), v("expose", m.expose), v("cache", m.cache);
  v("accept_changed_origin", m.accept_changed_origin), v("origin_moved", m.origin_moved),
      v("copy_free_blocks", m.copy_free_blocks), v("force", m.force);
}
template <class V>
void members(V& v, Ref<V, VolumeProperties> m) {
  v("volume_id", m.volume_id), v("name", m.name), v("origin_path", path(m.origin_path));
  v("diff_area_path", path(m.diff_area_path)), v("device_path", path(m.device_path));
  v("nbd_uri", path(m.nbd_uri)), v("device", decimal(m.device));
  v("size_bytes", decimal(m.size_bytes)), v("chunk_bytes", m.chunk_bytes);
  v("diff_used_bytes", decimal(m.diff_used_bytes));
  v("diff_allocated_bytes", decimal(m.diff_allocated_bytes));
  v("diff_maximum_bytes", decimal(m.diff_maximum_bytes));
  v("free_bytes_not_copied", decimal(m.free_bytes_not_copied));
  v("snapshot_count", m.snapshot_count), v("state", m.state);
}
template <class V>
void members(V& v, Ref<V, AttachedVolume> m) {
  v("volume", m.volume), v("notes", m.notes);
}
template <class V>
void members(V& v, Ref<V, DetachVolume> m) {
  v("volume", m.volume);
}
template <class V>
void members(V& v, Ref<V, VolumeList> m) {
  v("volumes", m.volumes), v("absent_providers", m.absent_providers);
}
template <class V>
void members(V& v, Ref<V, CoordinatorStatus> m) {
  v("program", m.program), v("uptime_s", m.uptime_s), v("writers", m.writers);
  v("sessions", m.sessions), v("providers_connected", m.providers_connected);
  v("set_in_progress", m.set_in_progress), v("set_phase", m.set_phase);
  v("set_holder", m.set_holder), v("set_age_ms", m.set_age_ms);
}
template <class V>
void members(V& v, Ref<V, AbortSet> m) {
  v("reason", m.reason);
}
template <class V>
void members(V& v, Ref<V, AbortedSet> m) {
  v("set_id", m.set_id), v("holder", m.holder);
}
template <class V>
void members(V& v, Ref<V, RegisterProvider> m) {
  v("properties", m.properties), v("event_stream", m.event_stream);
}
template <class V>
void members(V& v, Ref<V, RegisteredProvider> m) {
  v("alive", m.alive), v("events_after", decimal(m.events_after));
}
template <class V>
void members(V& v, Ref<V, SetRequest> m) {
  v("set_id", m.set_id), v("limits", m.limits), v("members", m.members);
}
template <class V>
void members(V& v, Ref<V, VolumeSupportRequest> m) {
  v("volume", m.volume), v("attributes", m.attributes);
}
template <class V>
void members(V& v, Ref<V, SupportReply> m) {
  v("supported", m.supported);
}
template <class V>
void members(V& v, Ref<V, SetFateReply> m) {
  v("fate", m.fate);
}
template <class V>
void members(V& v, Ref<V, SessionRequest> m) {
  v("session_id", m.session_id);
}
template <class V>
void members(V& v, Ref<V, RetainSessions> m) {
  v("alive", m.alive);
}
template <class V>
void members(V& v, Ref<V, VolumeRequest> m) {
  v("volume", m.volume);
}
template <class V>
void members(V& v, Ref<V, PrepareSnapshot> m) {
  v("set_id", m.set_id), v("snapshot_id", m.snapshot_id), v("volume", m.volume);
  v("attributes", m.attributes), v("session_id", m.session_id);
}

// --- enumerations: the largest enumerator; all of VSS's are contiguous from 0 -------------------

constexpr int largest(WriterState) { return 15; }
constexpr int largest(ApplicationLevel) { return 3; }
constexpr int largest(UsageType) { return 4; }
constexpr int largest(SourceType) { return 3; }
constexpr int largest(ComponentType) { return 2; }
constexpr int largest(BackupType) { return 6; }
constexpr int largest(ProviderType) { return 4; }
constexpr int largest(SnapshotState) { return 15; }
constexpr int largest(ObjectType) { return 4; }
constexpr int largest(SetFate) { return 3; }
constexpr int largest(WriterPolicy) { return 3; }
constexpr int largest(RestoreType) { return 3; }
constexpr int largest(FileRestoreStatus) { return 3; }
constexpr int largest(RollForwardType) { return 3; }

std::string hex_code(Errc code) {
  std::array<char, 16> text{};
  // The buffer holds any 32-bit number in this form, so truncation cannot happen.
  (void)std::snprintf(text.data(), text.size(), "0x%08X", static_cast<unsigned>(code));
  return text.data();
}

// --- writing ------------------------------------------------------------------------------------

class Writer {
 public:
  static constexpr bool kWrites = true;

  template <class T>
  void operator()(std::string_view name, const T& field) {
    if constexpr (requires { field.has_value(); }) {
      if (field) object[name] = value_of(*field);
    } else {
      object[name] = value_of(field);
    }
  }
  // An optional device number is the only optional decimal.
  void operator()(std::string_view name, AsDecimal<const std::optional<std::uint64_t>> field) {
    if (field.number) object[name] = std::to_string(*field.number);
  }

  json::object object;

 private:
  static Json value_of(const std::string& text) { return json::string(to_utf8(text)); }
  static Json value_of(bool flag) { return flag; }
  static Json value_of(Errc code) { return json::string(hex_code(code)); }
  static Json value_of(const Guid& guid) { return json::string(guid.to_string()); }
  template <class T>
  static Json value_of(AsPath<T> field) {
    return json::string(escape_bytes(field.text));
  }
  template <class T>
  static Json value_of(AsDecimal<T> field) {
    return json::string(std::to_string(field.number));
  }
  template <class Rep, class Period>
  static Json value_of(std::chrono::duration<Rep, Period> duration) {
    return static_cast<std::int64_t>(duration.count());
  }
  template <class T>
  static Json value_of(const std::vector<T>& items) {
    json::array array;
    array.reserve(items.size());
    for (const T& item : items) array.push_back(value_of(item));
    return array;
  }
  template <class T>
  static Json value_of(const T& field) {
    if constexpr (std::is_base_of_v<Guid, T>) {
      return value_of(static_cast<const Guid&>(field));
    } else if constexpr (std::is_enum_v<T>) {
      return static_cast<std::int64_t>(field);
    } else if constexpr (std::is_integral_v<T>) {
      return field;
    } else {
      Writer nested;
      members(nested, field);
      return std::move(nested.object);
    }
  }
};

// --- reading ------------------------------------------------------------------------------------

class Reader {
 public:
  static constexpr bool kWrites = false;

  explicit Reader(const json::object& object) : object_(&object) {}

  template <class T>
  void operator()(std::string_view name, T&& field) {
    if (!problem.empty()) return;
    const Json* value = object_->if_contains(name);
    if (value == nullptr || value->is_null()) return;
    const std::string wrong = read(*value, field);
    if (wrong.empty()) return;
    problem.assign(name);
    if (wrong.front() != '[' && wrong.front() != '.') problem.append(": ");
    problem.append(wrong);
  }

  std::string problem;  // Empty, or "member: what was expected".

 private:
  // Each read() returns what is wrong, or nothing. A leading '.' or '[' continues the member's
  // name.
  static std::string read(const Json& value, std::string& text) {
    if (!value.is_string()) return "expected text";
    text.assign(value.get_string());
    return {};
  }
  static std::string read(const Json& value, bool& flag) {
    if (!value.is_bool()) return "expected true or false";
    flag = value.get_bool();
    return {};
  }
  static std::string read(const Json& value, Errc& code) {
    if (!value.is_string()) return "expected a code such as \"0x80042301\"";
    const std::string_view text = value.get_string();
    std::uint32_t number = 0;
    const bool prefixed = text.size() == 10 && text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
    if (!prefixed) return "expected a code such as \"0x80042301\"";
    const auto parsed = std::from_chars(text.data() + 2, text.data() + text.size(), number, 16);
    if (parsed.ec != std::errc{} || parsed.ptr != text.data() + text.size()) {
      return "expected a code such as \"0x80042301\"";
    }
    code = static_cast<Errc>(number);
    return {};
  }
  static std::string read(const Json& value, Guid& guid) {
    if (!value.is_string()) return "expected the text form of a GUID";
    const Result<Guid> parsed = Guid::parse(std::string_view(value.get_string()));
    if (!parsed) return "expected the text form of a GUID";
    guid = *parsed;
    return {};
  }
  static std::string read(const Json& value, AsPath<std::string> field) {
    if (!value.is_string()) return "expected a path";
    std::optional<std::string> bytes = unescape_bytes(value.get_string());
    if (!bytes) return "U+241B is not followed by two hexadecimal digits";
    if (bytes->find('\0') != std::string::npos) return "a path holds no NUL";
    field.text = std::move(*bytes);
    return {};
  }
  template <std::integral T>
  static std::string read(const Json& value, AsDecimal<T> field) {
    if (!value.is_string()) return "expected decimal text";
    const std::string_view text = value.get_string();
    T number = 0;
    const auto parsed = std::from_chars(text.data(), text.data() + text.size(), number);
    if (parsed.ec != std::errc{} || parsed.ptr != text.data() + text.size()) {
      return "expected decimal text";
    }
    field.number = number;
    return {};
  }
  static std::string read(const Json& value, AsDecimal<std::optional<std::uint64_t>> field) {
    std::uint64_t number = 0;
    std::string wrong = read(value, AsDecimal<std::uint64_t>{number});
    if (wrong.empty()) field.number = number;
    return wrong;
  }
  template <class Rep, class Period>
  static std::string read(const Json& value, std::chrono::duration<Rep, Period>& duration) {
    // Bounded so that no unit conversion of a peer's number overflows.
    constexpr std::int64_t kDurationMax = 1'000'000'000'000;
    std::int64_t count = 0;
    std::string wrong = read(value, count);
    if (!wrong.empty()) return wrong;
    if (count < 0 || count > kDurationMax) return "expected a duration of 0 to 10^12";
    duration = std::chrono::duration<Rep, Period>(count);
    return {};
  }
  template <class T>
  static std::string read(const Json& value, std::optional<T>& field) {
    T present{};
    std::string wrong = read(value, present);
    if (wrong.empty()) field = std::move(present);
    return wrong;
  }
  template <class T>
  static std::string read(const Json& value, std::vector<T>& items) {
    if (!value.is_array()) return "expected an array";
    const json::array& array = value.get_array();
    items.clear();
    items.reserve(array.size());
    for (std::size_t i = 0; i < array.size(); ++i) {
      T item{};
      const std::string wrong = read(array[i], item);
      if (!wrong.empty()) {
        const bool continues = wrong.front() == '[' || wrong.front() == '.';
        return "[" + std::to_string(i) + "]" + (continues ? "" : ": ") + wrong;
      }
      items.push_back(std::move(item));
    }
    return {};
  }
  template <class T>
  static std::string read(const Json& value, T& field) {
    if constexpr (std::is_base_of_v<Guid, T>) {
      return read(value, static_cast<Guid&>(field));
    } else if constexpr (std::is_enum_v<T>) {
      std::int64_t number = -1;
      const std::string wrong = read(value, number);
      if (!wrong.empty() || number < 0 || number > largest(T{})) {
        return "expected a number from 0 to " + std::to_string(largest(T{}));
      }
      field = static_cast<T>(number);
      return {};
    } else if constexpr (std::is_integral_v<T>) {
      return read_integer(value, field);
    } else {
      if (!value.is_object()) return "expected an object";
      Reader nested(value.get_object());
      members(nested, field);
      return nested.problem.empty() ? std::string{} : "." + nested.problem;
    }
  }
  template <class T>
  static std::string read_integer(const Json& value, T& field) {
    using Limits = std::numeric_limits<T>;
    if (value.is_int64() && std::in_range<T>(value.get_int64())) {
      field = static_cast<T>(value.get_int64());
      return {};
    }
    if (value.is_uint64() && std::in_range<T>(value.get_uint64())) {
      field = static_cast<T>(value.get_uint64());
      return {};
    }
    return "expected an integer from " + std::to_string(Limits::min()) + " to " +
           std::to_string(Limits::max());
  }

  const json::object* object_;
};

// --- error objects and lines --------------------------------------------------------------------

// JSON-RPC 2.0's own numbers.
constexpr std::int64_t kParseError = -32700;
constexpr std::int64_t kInvalidRequest = -32600;
constexpr std::int64_t kMethodNotFound = -32601;
constexpr std::int64_t kInvalidParams = -32602;
constexpr std::int64_t kServerError = -32000;

std::int64_t json_rpc_code(Errc code) {
  switch (code) {
    case Errc::not_implemented: return kMethodNotFound;
    case Errc::invalid_argument: return kInvalidParams;
    case Errc::protocol_violation: return kInvalidRequest;
    default: return kServerError;
  }
}

// Counts what a document takes in memory and refuses beyond a limit: a short line can make a tree
// thirty times its size.
class BoundedMemory final : public json::memory_resource {
 public:
  explicit BoundedMemory(std::size_t limit_bytes) : left_bytes_(limit_bytes) {}

 private:
  void* do_allocate(std::size_t bytes, std::size_t alignment) override {
    if (alignment > alignof(std::max_align_t)) throw std::bad_alloc{};
    std::size_t left = left_bytes_.load(std::memory_order_relaxed);
    do {
      if (bytes > left) throw std::bad_alloc{};
    } while (!left_bytes_.compare_exchange_weak(left, left - bytes, std::memory_order_relaxed));
    return ::operator new(bytes);
  }
  // Boost.JSON frees strings with another alignment than it asked for; no type of its needs more
  // than operator new gives, so that alignment plays no part here.
  void do_deallocate(void* memory, std::size_t bytes, std::size_t) override {
    left_bytes_.fetch_add(bytes, std::memory_order_relaxed);
    ::operator delete(memory);
  }
  bool do_is_equal(const json::memory_resource& other) const noexcept override {
    return this == &other;
  }

  std::atomic<std::size_t> left_bytes_;  // Parts of a document may be freed on another thread.
};

}  // namespace

template <class Message>
Json encode(const Message& message) {
  Writer writer;
  members(writer, message);
  return std::move(writer.object);
}

template <class Message>
Result<Message> decode(const Json& value) {
  Message message{};
  if (value.is_null()) return message;  // Absent params.
  if (!value.is_object()) return fail(Errc::invalid_argument, "expected an object");
  Reader reader(value.get_object());
  members(reader, message);
  if (!reader.problem.empty()) return fail(Errc::invalid_argument, std::move(reader.problem));
  return message;
}

#define UMBRA_RPC_INSTANTIATE(Message)           \
  template Json encode<Message>(const Message&); \
  template Result<Message> decode<Message>(const Json&);
UMBRA_RPC_MESSAGES(UMBRA_RPC_INSTANTIATE)
#undef UMBRA_RPC_INSTANTIATE

Json encode_error(const Error& error) {
  json::object data;
  data["code"] = hex_code(error.code);
  data["context"] = to_utf8(std::string_view(error.context).substr(0, kPeerTextMax));
  json::object object;
  object["code"] = json_rpc_code(error.code);
  object["message"] = describe(error.code);
  object["data"] = std::move(data);
  return object;
}

Error decode_error(const Json& value) {
  Error error{Errc::unexpected, {}};
  if (!value.is_object()) return {Errc::protocol_violation, "the error of a reply is no object"};
  const json::object& object = value.get_object();
  if (const Json* code = object.if_contains("code"); code != nullptr && code->is_int64()) {
    const std::int64_t number = code->get_int64();
    if (number == kMethodNotFound) error.code = Errc::not_implemented;
    if (number == kInvalidParams) error.code = Errc::invalid_argument;
    if (number == kInvalidRequest || number == kParseError) error.code = Errc::protocol_violation;
  }
  if (const Json* message = object.if_contains("message");
      message != nullptr && message->is_string()) {
    error.context = printable(message->get_string(), kPeerTextMax);
  }
  const Json* data = object.if_contains("data");
  if (data == nullptr || !data->is_object()) return error;
  Errc code = Errc::unexpected;
  std::string context;
  Reader reader(data->get_object());
  reader("code", code);
  reader("context", context);
  const bool says_ok = code == Errc::ok;  // An error that claims success is none we can pass on.
  if (!reader.problem.empty() || says_ok) return error;
  return {code, to_utf8(std::string_view(context).substr(0, kPeerTextMax))};
}

std::string serialize(const Json& value) { return json::serialize(value); }

Result<Json> parse(std::string_view line, std::size_t memory_bytes_max) {
  json::parse_options options;
  options.max_depth = kDepthMax;
  try {
    const auto memory = json::make_shared_resource<BoundedMemory>(memory_bytes_max);
    // The parser's own stack is bounded by depth and by the line; only the tree is counted.
    json::parser parser({}, options);
    parser.reset(memory);
    json::error_code error;
    parser.write(line.data(), line.size(), error);
    if (error) return fail(Errc::protocol_violation, "not JSON: " + error.message());
    return parser.release();
  } catch (const std::bad_alloc&) {
    return fail(Errc::protocol_violation, "a line takes more memory than a peer may use");
  }
}

}  // namespace umbra::rpc
