// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// Writing and reading of whatever members() (codec_members.h, codec_management.h, codec_hardware.h)
// names.
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
#include "engine/rpc/codec_hardware.h"
#include "engine/rpc/codec_management.h"
#include "engine/rpc/codec_members.h"
#include "engine/rpc/codec_visit.h"

namespace umbra::rpc {
namespace {

namespace json = boost::json;

constexpr std::size_t kPeerTextMax = 4096;  // Bytes of a peer's words kept in an Error.

// --- enumerations: the largest enumerator; all of VSS's are contiguous from 0 -------------------

constexpr int largest(WriterState) { return 15; }
constexpr int largest(ApplicationLevel) { return 4; }
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
  static Json value_of(AsBytes<const std::string> field) {
    return json::string(escape_bytes(field.text));
  }
  static Json value_of(AsBytes<const std::vector<std::string>> field) {
    json::array array;
    array.reserve(field.text.size());
    for (const std::string& text : field.text) array.push_back(value_of(bytes(text)));
    return array;
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
  struct Escaped {
    std::string text;
  };

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
    std::string text;
    std::string wrong = read(value, bytes(text));
    if (!wrong.empty()) return wrong;
    if (text.find('\0') != std::string::npos) return "a path holds no NUL";
    field.text = std::move(text);
    return {};
  }
  static std::string read(const Json& value, AsBytes<std::string> field) {
    if (!value.is_string()) return "expected text";
    std::optional<std::string> unescaped = unescape_bytes(value.get_string());
    if (!unescaped) return "U+241B is not followed by two hexadecimal digits";
    field.text = std::move(*unescaped);
    return {};
  }
  static std::string read(const Json& value, AsBytes<std::vector<std::string>> field) {
    std::vector<Escaped> items;  // So that it is read as every other list is.
    std::string wrong = read(value, items);
    field.text.clear();
    for (Escaped& item : items) field.text.push_back(std::move(item.text));
    return wrong;
  }
  static std::string read(const Json& value, Escaped& item) {
    return read(value, bytes(item.text));
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
