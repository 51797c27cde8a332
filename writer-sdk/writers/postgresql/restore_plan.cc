// SPDX-License-Identifier: Apache-2.0

#include "writer-sdk/writers/postgresql/restore_plan.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <optional>

namespace umbra::postgresql {

namespace {

constexpr std::array<std::string_view, 8> kSettings = {
    "recovery_target",          "recovery_target_time",  "recovery_target_lsn",
    "recovery_target_xid",      "recovery_target_name",  "recovery_target_inclusive",
    "recovery_target_timeline", "recovery_target_action"};

std::string_view trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(' ');
  if (first == text.npos) return {};
  return text.substr(first, text.find_last_not_of(' ') - first + 1);
}

// One word of the list, in quotes or up to one of `ends`; takes it off `rest`.
Result<std::string> take_word(std::string_view& rest, std::string_view ends) {
  rest.remove_prefix(std::min(rest.find_first_not_of(' '), rest.size()));
  std::string word;
  if (rest.empty() || rest.front() != '"') {
    const auto length = std::min(rest.find_first_of(ends), rest.size());
    word = trimmed(rest.substr(0, length));
    rest.remove_prefix(length);
    return word;
  }
  rest.remove_prefix(1);
  while (!rest.empty() && rest.front() != '"') {
    if (rest.front() == '\\' && rest.size() > 1) rest.remove_prefix(1);
    word.push_back(rest.front());
    rest.remove_prefix(1);
  }
  if (rest.empty()) return fail(Errc::invalid_argument, "a quote that does not end");
  rest.remove_prefix(1);
  rest.remove_prefix(std::min(rest.find_first_not_of(' '), rest.size()));
  return word;
}

std::optional<std::uint64_t> parse_lsn(std::string_view text) {
  const auto slash = text.find('/');
  if (slash == text.npos) return std::nullopt;
  std::array<std::uint32_t, 2> halves{};
  const std::array<std::string_view, 2> parts{text.substr(0, slash), text.substr(slash + 1)};
  for (std::size_t i = 0; i < 2; ++i) {
    const auto* end = parts.at(i).data() + parts.at(i).size();
    const auto parsed = std::from_chars(parts.at(i).data(), end, halves.at(i), 16);
    if (parsed.ec != std::errc{} || parsed.ptr != end) return std::nullopt;
  }
  return (std::uint64_t{halves[0]} << 32) | halves[1];
}

Status read_option(const std::string& name, const std::string& value, RestorePlan& plan) {
  if (name == "existing") {
    if (value != "refuse" && value != "replace") {
      return fail(Errc::invalid_argument, "existing must be refuse or replace");
    }
    plan.replace_existing = value == "replace";
    return {};
  }
  if (name == "restore_command") {
    return fail(
        Errc::invalid_argument,
        "restore_command is run by the server and is set in the writer's configuration only");
  }
  if (std::find(kSettings.begin(), kSettings.end(), name) == kSettings.end()) {
    return fail(Errc::invalid_argument,
                "there is no restore option '" + name +
                    "'; there are existing and recovery_target, with _time, _lsn, _xid, _name, "
                    "_inclusive, _timeline, _action");
  }
  const bool sound =
      std::none_of(value.begin(), value.end(), [](unsigned char c) { return c < 0x20; });
  if (!sound) return fail(Errc::invalid_argument, name + ": a control character");
  plan.settings.emplace_back(name, value);
  plan.recover_to_target = true;
  return {};
}

Status read_roll_forward(const RollForward& wish, RestorePlan& plan) {
  if (wish.type == RollForwardType::all) plan.recover_to_target = true;
  if (wish.type != RollForwardType::partial) return {};
  for (const char* kind : {"lsn", "xid", "name", "time"}) {
    const std::string prefix = std::string(kind) + ":";
    if (!wish.point.starts_with(prefix)) continue;
    return read_option("recovery_target_" + std::string(kind), wish.point.substr(prefix.size()),
                       plan);
  }
  return read_option("recovery_target_time", wish.point, plan);
}

// Before the end of what the copy itself holds there is no stopping: its WAL is replayed whole.
Status check_target(const BackupRecord& record, const RestorePlan& plan) {
  for (const auto& [name, value] : plan.settings) {
    if (name != "recovery_target_lsn") continue;
    const auto target = parse_lsn(value);
    if (!target) return fail(Errc::invalid_argument, "'" + value + "' is no WAL position");
    const auto earliest = parse_lsn(record.freeze_flush_lsn);
    if (earliest && *target < *earliest) {
      return fail(Errc::writererror_nonretryable,
                  "recovery cannot stop at " + value + ": the backup is of " +
                      record.freeze_flush_lsn + "; restore an earlier backup");
    }
  }
  return {};
}

// Follows the requester's new targets, which name directories of file sets.
Status relocate(const BackupRecord& record, const BackupComponent& component, RestorePlan& plan) {
  for (const AlternateLocation& target : component.new_targets) {
    if (target.path == record.data_directory) plan.data = target.destination;
    if (target.path == record.wal_directory) plan.wal = target.destination;
    for (auto& tablespace : plan.tablespaces) {
      const auto suffix = "/" + record.tablespace_directory;
      if (target.path != tablespace.location + suffix) continue;
      if (!target.destination.ends_with(suffix)) {
        return fail(Errc::invalid_argument,
                    "the new place of tablespace " + tablespace.name + " must end in " + suffix);
      }
      tablespace.location = target.destination.substr(0, target.destination.size() - suffix.size());
      break;
    }
  }
  // What lies in the data directory stays in it.
  const auto below = record.data_directory + "/";
  for (const AlternateLocation& target : component.new_targets) {
    if (!target.path.starts_with(below) || target.path == record.wal_directory) continue;
    if (target.path.starts_with(record.wal_directory + "/")) continue;
    const auto expected = plan.data + "/" + target.path.substr(below.size());
    if (target.destination != expected) {
      return fail(Errc::invalid_argument, target.path + " must go to " + expected +
                                              ", with the rest of the data directory");
    }
  }
  return {};
}

}  // namespace

Result<Settings> parse_restore_options(std::string_view text) {
  Settings options;
  text = trimmed(text);
  while (!text.empty()) {
    auto name = take_word(text, "=,:");
    if (!name) return fail(std::move(name.error()), "restore options");
    if (!text.empty() && text.front() == ':') {
      return fail(Errc::invalid_argument,
                  "restore options: '" + *name + ":' names a part, but a cluster is one unit");
    }
    if (name->empty() || text.empty() || text.front() != '=') {
      return fail(Errc::invalid_argument,
                  "restore options: write Option=Value, not '" + *name + "'");
    }
    text.remove_prefix(1);
    auto value = take_word(text, ",");
    if (!value) return fail(std::move(value.error()), "restore options");
    if (!text.empty() && text.front() != ',') {
      return fail(Errc::invalid_argument,
                  "restore options: a comma is missing after '" + *name + "'");
    }
    if (!text.empty()) text.remove_prefix(1);
    options.emplace_back(std::move(*name), std::move(*value));
  }
  return options;
}

Result<RestorePlan> plan_restore(const BackupRecord& record, const BackupComponent& component,
                                 const std::string& restore_command) {
  if (!component.restore_subcomponents.empty()) {
    return fail(Errc::bad_state, "a part of a cluster cannot be restored alone");
  }
  RestorePlan plan;
  plan.cluster = record.cluster;
  plan.system_identifier = record.system_identifier;
  // 150018 is 15.18.
  plan.major_version = record.server_version.substr(
      0, record.server_version.size() - std::min<std::size_t>(4, record.server_version.size()));
  plan.data = record.data_directory;
  plan.wal = record.wal_directory;
  plan.tablespaces = record.tablespaces;
  plan.tablespace_directory = record.tablespace_directory;
  if (component.restore_options) {
    auto options = parse_restore_options(*component.restore_options);
    if (!options) return fail(std::move(options.error()));
    for (const auto& [name, value] : *options) {
      if (auto read = read_option(name, value, plan); !read) return fail(std::move(read.error()));
    }
  }
  if (component.roll_forward) {
    if (auto read = read_roll_forward(*component.roll_forward, plan); !read) {
      return fail(std::move(read.error()));
    }
  }
  if (plan.recover_to_target && !restore_command.empty()) {
    plan.settings.emplace_back("restore_command", restore_command);
  }
  if (auto checked = check_target(record, plan); !checked) return fail(std::move(checked.error()));
  if (auto moved = relocate(record, component, plan); !moved) return fail(std::move(moved.error()));
  return plan;
}

std::string settings_text(const Settings& settings) {
  std::string text;
  for (const auto& [name, value] : settings) {
    text += name + " = '";
    for (const char c : value) {
      if (c == '\'' || c == '\\') text.push_back(c);
      text.push_back(c);
    }
    text += "'\n";
  }
  return text;
}

}  // namespace umbra::postgresql
