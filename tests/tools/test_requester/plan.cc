// SPDX-License-Identifier: Apache-2.0

#include "tests/tools/test_requester/plan.h"

#include <algorithm>
#include <array>
#include <fstream>
#include <functional>
#include <map>
#include <set>
#include <sstream>
#include <utility>

#include <toml++/toml.h>

namespace umbra::test_requester {
namespace {

// A key of a table: what to do with its node. False: of the wrong kind.
using Take = std::function<bool(const toml::node&)>;
using Keys = std::map<std::string, Take, std::less<>>;

Status read(const toml::table& table, const std::string& place, const Keys& keys) {
  for (const auto& [key, node] : table) {
    const std::string name = place + std::string(key.str());
    const auto found = keys.find(key.str());
    if (found == keys.end()) return fail(Errc::invalid_argument, name + ": there is no such key");
    if (!found->second(node)) return fail(Errc::invalid_argument, name + ": no such value");
  }
  return {};
}

template <class T>
Take into(T& value) {
  return [&value](const toml::node& node) {
    const auto read = node.value_exact<T>();
    if (read) value = *read;
    return read.has_value();
  };
}

template <class T>
Take into(std::optional<T>& value) {
  return [&value](const toml::node& node) {
    const auto read = node.value_exact<T>();
    if (read) value = *read;
    return read.has_value();
  };
}

template <class T>
Take number(std::optional<T>& value) {
  return [&value](const toml::node& node) {
    const auto read = node.value_exact<std::int64_t>();
    if (!read || *read < 0 || *read > 0xFFFF'FFFFLL) return false;
    value = static_cast<T>(*read);
    return true;
  };
}

// Each text of an array.
Take each(std::function<bool(const std::string&)> take) {
  return [take = std::move(take)](const toml::node& node) {
    const auto* const array = node.as_array();
    if (array == nullptr) return false;
    for (const auto& one : *array) {
      const auto text = one.value_exact<std::string>();
      if (!text || !take(*text)) return false;
    }
    return true;
  };
}

// One of VSS's names, without what all of them begin with.
template <class Enum, class Set>
Take named(std::string_view prefix, int count, Set set) {
  return [=](const toml::node& node) {
    const auto text = node.value_exact<std::string>();
    for (int i = 0; text && i < count; ++i) {
      const auto value = static_cast<Enum>(i);
      const auto name = vss_name(value);
      if (name.substr(std::min(prefix.size(), name.size())) == *text) {
        set(value);
        return true;
      }
    }
    return false;
  };
}

// One of some words, which stand for 0, 1, ...
template <class Enum, std::size_t Count>
bool word(const toml::node& node, const std::array<std::string_view, Count>& words, Enum& value) {
  const auto text = node.value_exact<std::string>();
  for (std::size_t i = 0; text && i < Count; ++i) {
    if (words[i] != *text) continue;
    value = static_cast<Enum>(i);
    return true;
  }
  return false;
}

bool code_named(const toml::node& node, Errc& code) {
  const auto text = node.value_exact<std::string>();
  const std::array codes{
#define UMBRA_CODE(name, number, text_name, remedy_class, text) Errc::name,
      UMBRA_ERRC_TABLE(UMBRA_CODE)
#undef UMBRA_CODE
  };
  for (const Errc one : codes) {
    if (!text || code_name(one) != *text) continue;
    code = one;
    return true;
  }
  return false;
}

bool take_context(const std::string& name, std::uint32_t& bits) {
  constexpr std::array kContexts{
      context::kBackup,      context::kFileShareBackup,  context::kNasRollback,
      context::kAppRollback, context::kClientAccessible, context::kClientAccessibleWriters,
      context::kAll};
  for (const auto one : kContexts) {
    if (context_name(one) != "VSS_CTX_" + name) continue;
    bits = one;
    return true;
  }
  return false;
}

bool take_attribute(const std::string& name, std::uint32_t& bits) {
  static const std::map<std::string_view, std::uint32_t> kAttributes{
      {"NO_AUTORECOVERY", attribute::kNoAutorecovery},
      {"TRANSPORTABLE", attribute::kTransportable},
      {"NOT_SURFACED", attribute::kNotSurfaced},
      {"NOT_TRANSACTED", attribute::kNotTransacted},
      {"DIFFERENTIAL", attribute::kDifferential},
      {"PLEX", attribute::kPlex},
      {"AUTORECOVER", attribute::kAutorecover},
      {"ROLLBACK_RECOVERY", attribute::kRollbackRecovery},
      {"DELAYED_POSTSNAPSHOT", attribute::kDelayedPostSnapshot},
      {"TXF_RECOVERY", attribute::kTxfRecovery}};
  const auto found = kAttributes.find(name);
  if (found == kAttributes.end()) return false;
  bits |= found->second;
  return true;
}

// "accounts\db": logical path and name.
void split(const std::string& path, std::string& logical_path, std::string& name) {
  const std::size_t cut = path.rfind('\\');
  logical_path = cut == std::string::npos ? "" : path.substr(0, cut);
  name = cut == std::string::npos ? path : path.substr(cut + 1);
}

Take path_into(std::string& logical_path, std::string& name) {
  return [&](const toml::node& node) {
    const auto text = node.value_exact<std::string>();
    if (text) split(*text, logical_path, name);
    return text && !name.empty();
  };
}

Take classes_into(std::vector<WriterClassId>& classes) {
  return each([&classes](const std::string& text) {
    const auto id = WriterClassId::parse(text);
    if (id) classes.push_back(*id);
    return id.has_value();
  });
}

// An array of tables, each read by `one`. `problem` keeps the first error.
Take tables(const std::string& place, Status& problem,
            std::function<Status(const toml::table&, const std::string&)> one) {
  return [=, &problem](const toml::node& node) {
    const auto* const array = node.as_array();
    if (array == nullptr) return false;
    std::size_t index = 0;
    for (const auto& element : *array) {
      if (!element.is_table()) return false;
      const auto here = place + "[" + std::to_string(index++) + "].";
      if (problem) problem = one(*element.as_table(), here);
    }
    return true;
  };
}

Take locations(const std::string& place, Status& problem, std::vector<AlternateLocation>& list) {
  return tables(place, problem, [&list](const toml::table& table, const std::string& here) {
    auto& location = list.emplace_back();
    location.pattern = "*";
    return read(table, here,
                {{"path", into(location.path)},
                 {"pattern", into(location.pattern)},
                 {"recursive", into(location.recursive)},
                 {"to", into(location.destination)}});
  });
}

Take roll_forward_into(std::optional<RollForward>& value) {
  return [&value](const toml::node& node) {
    const auto text = node.value_exact<std::string>();
    if (!text) return false;
    if (*text == "none") value = RollForward{RollForwardType::none, ""};
    if (*text == "all") value = RollForward{RollForwardType::all, ""};
    if (text->starts_with("partial:"))
      value = RollForward{RollForwardType::partial, text->substr(8)};
    return value.has_value();
  };
}

constexpr std::array<std::string_view, 4> kStatuses{"undefined", "none", "all", "failed"};
constexpr std::array<std::string_view, 5> kTargets{"undefined", "original", "alternate", "directed",
                                                   "original-location"};
constexpr std::array<std::string_view, 4> kRestoreTypes{"UNDEFINED", "BY_COPY", "IMPORT", "OTHER"};
constexpr std::array<std::string_view, 3> kPolicies{"none", "involved", "all"};

Status read_component(const toml::table& table, const std::string& here, ComponentPlan& part) {
  Status inner;
  auto done = read(
      table, here,
      {{"writer", into(part.writer)},
       {"path", path_into(part.logical_path, part.name)},
       {"succeeded", into(part.succeeded)},
       {"backup_options", into(part.backup_options)},
       {"previous_stamp", into(part.previous_stamp)},
       {"previous_stamp_from", into(part.previous_stamp_from)},
       {"restore_options", into(part.restore_options)},
       {"subcomponents", each([&](const std::string& path) {
          auto& sub = part.subcomponents.emplace_back();
          split(path, sub.logical_path, sub.name);
          return !sub.name.empty();
        })},
       {"authoritative", into(part.authoritative)},
       {"roll_forward", roll_forward_into(part.roll_forward)},
       {"restore_name", into(part.restore_name)},
       {"more_follow", into(part.more_follow)},
       {"new_targets", locations(here + "new_targets", inner, part.new_targets)},
       {"alternate_locations",
        locations(here + "alternate_locations", inner, part.alternate_locations)},
       {"status", [&](const toml::node& node) { return word(node, kStatuses, part.status); }}});
  if (!inner) return inner;
  if (done && (part.writer.empty() || part.name.empty()))
    return fail(Errc::invalid_argument, here + "writer and path are both needed");
  return done;
}

Status read_writer(const toml::table& table, const std::string& here, WriterExpected& wanted) {
  auto done = read(table, here,
                   {{"name", into(wanted.name)},
                    {"after", into(wanted.after)},
                    {"state", named<WriterState>("VSS_WS_", 16,
                                                 [&](WriterState state) { wanted.state = state; })},
                    {"failure",
                     [&](const toml::node& node) {
                       Errc code = Errc::ok;
                       const bool known = code_named(node, code);
                       if (known) wanted.failure = code;
                       return known;
                     }},
                    {"application_code", number(wanted.application_code)},
                    {"message", into(wanted.message)},
                    {"absent", into(wanted.absent)}});
  if (done && wanted.name.empty()) return fail(Errc::invalid_argument, here + "name is needed");
  return done;
}

Status read_document(const toml::table& table, const std::string& here, ComponentExpected& wanted) {
  auto done = read(table, here,
                   {{"writer", into(wanted.writer)},
                    {"path", path_into(wanted.logical_path, wanted.name)},
                    {"stamp", into(wanted.stamp)},
                    {"metadata", into(wanted.metadata)},
                    {"restore_metadata", into(wanted.restore_metadata)},
                    {"target",
                     [&](const toml::node& node) {
                       auto target = RestoreTarget::undefined;
                       const bool known = word(node, kTargets, target);
                       if (known) wanted.target = target;
                       return known;
                     }},
                    {"failure_message", into(wanted.failure_message)},
                    {"partial_files", number(wanted.partial_files)},
                    {"differenced_files", number(wanted.differenced_files)}});
  if (done && (wanted.writer.empty() || wanted.name.empty()))
    return fail(Errc::invalid_argument, here + "writer and path are both needed");
  return done;
}

// A table inside another one.
Take table_into(Status& problem, std::function<Status(const toml::table&)> take) {
  return [=, &problem](const toml::node& node) {
    if (!node.is_table()) return false;
    if (problem) problem = take(*node.as_table());
    return true;
  };
}

Status read_backup(const toml::table& table, Plan& plan) {
  std::uint32_t attributes = 0;
  const auto done = read(
      table, "backup.",
      {{"context",
        [&](const toml::node& node) {
          const auto text = node.value_exact<std::string>();
          return text && take_context(*text, plan.context);
        }},
       {"attributes",
        each([&](const std::string& name) { return take_attribute(name, attributes); })},
       {"type",
        named<BackupType>("VSS_BT_", 7, [&](BackupType type) { plan.state.backup_type = type; })},
       {"components", into(plan.state.component_mode)},
       {"bootable_system_state", into(plan.state.bootable_system_state)},
       {"partial_files", into(plan.state.partial_file_support)},
       {"volumes", each([&](const std::string& name) {
          plan.volumes.push_back(name);
          return true;
        })},
       {"policy", [&](const toml::node& node) { return word(node, kPolicies, plan.policy); }},
       {"save_to", into(plan.save_to)}});
  plan.context |= attributes;
  return done;
}

Status read_restore(const toml::table& table, Plan& plan) {
  plan.restore = true;
  const auto done =
      read(table, "restore.", {{"from", into(plan.from)}, {"type", [&](const toml::node& node) {
                                                             return word(node, kRestoreTypes,
                                                                         plan.restore_type);
                                                           }}});
  if (done && plan.from.empty())
    return fail(Errc::invalid_argument, "restore.from: the bundle to be restored");
  return done;
}

Status read_expect(const toml::table& table, Plan& plan) {
  Status inner;
  const auto done = read(
      table, "expect.",
      {{"result", [&](const toml::node& node) { return code_named(node, plan.result); }},
       {"fails_at", into(plan.fails_at)},
       {"writer", tables("expect.writer", inner,
                         [&](const toml::table& one, const std::string& here) {
                           return read_writer(one, here, plan.writers.emplace_back());
                         })},
       {"component",
        tables("expect.component", inner, [&](const toml::table& one, const std::string& here) {
          return read_document(one, here, plan.documents.emplace_back());
        })}});
  if (!inner) return inner;
  return done;
}

}  // namespace

Result<Plan> parse_plan(std::string_view text) {
  toml::table table;
  try {
    table = toml::parse(text);
  } catch (const toml::parse_error& error) {
    return fail(Errc::invalid_argument, "line " + std::to_string(error.source().begin.line) + ": " +
                                            std::string(error.description()));
  }
  Plan plan;
  Status inner;
  const auto done =
      read(table, "",
           {{"backup",
             table_into(inner, [&](const toml::table& one) { return read_backup(one, plan); })},
            {"restore",
             table_into(inner, [&](const toml::table& one) { return read_restore(one, plan); })},
            {"enable_writer_classes", classes_into(plan.enable)},
            {"disable_writer_classes", classes_into(plan.disable)},
            {"component", tables("component", inner,
                                 [&](const toml::table& one, const std::string& here) {
                                   return read_component(one, here, plan.components.emplace_back());
                                 })},
            {"expect",
             table_into(inner, [&](const toml::table& one) { return read_expect(one, plan); })}});
  if (!inner) return fail(inner.error());
  if (!done) return fail(done.error());
  if (table.contains("backup") == table.contains("restore"))
    return fail(Errc::invalid_argument, "either a table [backup] or a table [restore] is needed");
  return plan;
}

Result<Plan> load_plan(const std::string& path) {
  std::ifstream file(path);
  if (!file) return fail(Errc::object_not_found, path + " cannot be read");
  std::ostringstream text;
  text << file.rdbuf();
  auto plan = parse_plan(text.str());
  if (!plan) return fail(plan.error(), path);
  return plan;
}

}  // namespace umbra::test_requester
