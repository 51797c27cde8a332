// SPDX-License-Identifier: Apache-2.0

#include "engine/daemon/config.h"

#include <CLI/CLI.hpp>
#include <array>
#include <fstream>
#include <sstream>
#include <string_view>
#include <utility>

#include <toml++/toml.h>

namespace umbra::daemon {
namespace {

constexpr std::int64_t kCallsPerSecondMax = 1'000'000;
constexpr std::int64_t kLimitMsMax = 24LL * 60 * 60 * 1000;  // A day: no wait is longer.

using coord::Limits;
using coord::milliseconds;

struct LimitKey {
  std::string_view name;
  milliseconds Limits::*member;
};
constexpr std::array kLimitKeys{
    LimitKey{"identify", &Limits::identify},
    LimitKey{"prepare_for_backup", &Limits::prepare_for_backup},
    LimitKey{"prepare_for_snapshot", &Limits::prepare_for_snapshot},
    LimitKey{"freeze_window", &Limits::freeze_window},
    LimitKey{"thaw", &Limits::thaw},
    LimitKey{"post_snapshot", &Limits::post_snapshot},
    LimitKey{"backup_complete", &Limits::backup_complete},
    LimitKey{"backup_shutdown", &Limits::backup_shutdown},
    LimitKey{"abort", &Limits::abort},
    LimitKey{"pre_restore", &Limits::pre_restore},
    LimitKey{"post_restore", &Limits::post_restore},
    LimitKey{"thaw_level", &Limits::thaw_level},
    LimitKey{"abort_wait", &Limits::abort_wait},
    LimitKey{"end_prepare", &Limits::end_prepare},
    LimitKey{"pre_commit", &Limits::pre_commit},
    LimitKey{"hold_flush", &Limits::hold_flush},
    LimitKey{"hold_lease", &Limits::hold_lease},
    LimitKey{"post_commit", &Limits::post_commit},
    LimitKey{"final_commit", &Limits::final_commit},
    LimitKey{"confirm", &Limits::confirm},
    LimitKey{"provider_query", &Limits::provider_query},
    LimitKey{"provider_delete", &Limits::provider_delete},
    LimitKey{"lun_arrival", &Limits::lun_arrival},
    LimitKey{"settle_wait", &Limits::settle_wait},
    LimitKey{"provider_admin", &Limits::provider_admin},
    LimitKey{"sequence", &Limits::sequence},
    LimitKey{"sequence_long", &Limits::sequence_long},
};

// VSS's own limits: a file may make them shorter, never longer.
std::int64_t longest(std::string_view name) {
  if (name == "freeze_window") return coord::kFreezeWindowMax.count();
  if (name == "hold_lease") return Limits{}.hold_lease.count();
  return kLimitMsMax;
}

Status apply_limit(Config& config, std::string_view key, const toml::node& node) {
  const auto value = node.value<std::int64_t>();
  const auto refuse = [&](std::int64_t max) {
    return fail(Errc::invalid_argument,
                "limits." + std::string(key) + ": a whole number from 1 to " + std::to_string(max));
  };
  if (key == "connections" || key == "connections_per_user") {
    if (!value || *value < 1 || *value > static_cast<std::int64_t>(kConnectionsMax))
      return refuse(static_cast<std::int64_t>(kConnectionsMax));
    (key == "connections" ? config.connections : config.connections_per_user) =
        static_cast<std::size_t>(*value);
    return {};
  }
  if (key == "calls_per_second") {
    if (!value || *value < 1 || *value > kCallsPerSecondMax) return refuse(kCallsPerSecondMax);
    config.calls_per_second = static_cast<std::uint32_t>(*value);
    return {};
  }
  for (const auto& limit : kLimitKeys) {
    if (limit.name != key) continue;
    if (!value || *value < 1 || *value > longest(key)) return refuse(longest(key));
    config.limits.*limit.member = milliseconds{*value};
    return {};
  }
  return fail(Errc::invalid_argument, "limits." + std::string(key) + ": there is no such limit");
}

Status refuse_entry(std::string_view table, std::string_view key, std::string_view why) {
  return fail(Errc::invalid_argument,
              std::string(table) + "." + std::string(key) + ": " + std::string(why));
}

Status apply_access(Config& config, std::string_view key, const toml::node& node) {
  constexpr std::string_view kGroup = "group:";
  const auto value = node.value_exact<std::int64_t>();
  if (!value || *value < 0 || *value > 3)
    return refuse_entry("access", key, "0 deny, 1 writer, 2 requester, 3 both");
  const bool is_group = key.starts_with(kGroup);
  if (is_group) key.remove_prefix(kGroup.size());
  if (key.empty()) return refuse_entry("access", key, "an account is a user, or group:NAME");
  config.access.push_back({is_group, std::string(key), static_cast<std::uint8_t>(*value)});
  return {};
}

Status apply_writer_class(Config& config, std::string_view key, const toml::node& node) {
  const auto id = WriterClassId::parse(key);
  if (!id) return refuse_entry("writer_classes", key, "a writer's class id is needed");
  if (const auto name = node.value_exact<std::string>(); name && !name->empty())
    config.writer_accounts[*id] = *name;
  else if (const auto uid = node.value_exact<std::int64_t>(); uid && *uid >= 0)
    config.writer_accounts[*id] = std::to_string(*uid);
  else
    return refuse_entry("writer_classes", key, "a user's name or number is needed");
  return {};
}

Status apply_files(std::vector<rpc::NamedFiles>& list, std::string_view table, std::string_view key,
                   const toml::node& node) {
  const auto* files = node.as_array();
  rpc::NamedFiles named{std::string(key), {}};
  for (std::size_t i = 0; files != nullptr && i < files->size(); ++i)
    if (const auto path = (*files)[i].value_exact<std::string>(); path && path->starts_with('/'))
      named.files.push_back(*path);
  if (files == nullptr || named.files.size() != files->size() ||
      files->size() > kConfigEntriesMax || list.size() >= kConfigEntriesMax)
    return refuse_entry(
        table, key,
        "a list of at most " + std::to_string(kConfigEntriesMax) + " absolute paths is needed");
  list.push_back(std::move(named));
  return {};
}

Status apply_revert(Config& config, std::string_view key, const toml::node& node) {
  if (key != "writers_blocking")
    return refuse_entry("revert", key, "only writers_blocking is configurable");
  const auto* ids = node.as_array();
  auto& list = config.settings.writers_blocking_revert;
  list.clear();
  for (std::size_t i = 0; ids != nullptr && i < ids->size(); ++i)
    if (const auto text = (*ids)[i].value_exact<std::string>())
      if (const auto id = WriterClassId::parse(*text)) list.push_back(*id);
  if (ids == nullptr || list.size() != ids->size() || ids->size() > kConfigEntriesMax)
    return refuse_entry("revert", key, "a list of writers' class ids is needed");
  return {};
}

Status apply_role(Config& config, std::string_view key, const toml::node& node) {
  auto* group = key == "writers"      ? &config.writer_group
                : key == "requesters" ? &config.requester_group
                                      : nullptr;
  if (group == nullptr)
    return fail(Errc::invalid_argument,
                "roles." + std::string(key) + ": only writers and requesters are configurable");
  if (const auto text = node.value_exact<std::string>(); text && !text->empty()) {
    *group = *text;
  } else if (const auto number = node.value_exact<std::int64_t>(); number && *number >= 0) {
    *group = std::to_string(*number);
  } else {
    return fail(Errc::invalid_argument,
                "roles." + std::string(key) + ": a group's name or number is needed");
  }
  return {};
}

using Apply = Status (*)(Config& config, std::string_view key, const toml::node& node);

Status apply_not_to_snapshot(Config& config, std::string_view key, const toml::node& node) {
  return apply_files(config.settings.files_not_to_snapshot, "files_not_to_snapshot", key, node);
}
Status apply_not_to_backup(Config& config, std::string_view key, const toml::node& node) {
  return apply_files(config.settings.files_not_to_backup, "files_not_to_backup", key, node);
}

Apply table_named(std::string_view name) {
  if (name == "limits") return apply_limit;
  if (name == "roles") return apply_role;
  if (name == "access") return apply_access;
  if (name == "writer_classes") return apply_writer_class;
  if (name == "files_not_to_snapshot") return apply_not_to_snapshot;
  if (name == "files_not_to_backup") return apply_not_to_backup;
  if (name == "revert") return apply_revert;
  return nullptr;
}

}  // namespace

// The library reports mistakes by throwing; this is where that ends.
Status apply_toml(Config& config, const std::string& text) {
  toml::table tables;
  try {
    tables = toml::parse(text);
  } catch (const toml::parse_error& error) {
    return fail(Errc::invalid_argument, "line " + std::to_string(error.source().begin.line) + ": " +
                                            std::string(error.description()));
  }
  Config changed = config;
  for (const auto& [section, node] : tables) {
    const auto* table = node.as_table();
    const auto apply = table_named(section.str());
    if (table == nullptr || apply == nullptr)
      return fail(Errc::invalid_argument,
                  std::string(section.str()) +
                      ": there are the tables [limits], [roles], [access], [writer_classes], "
                      "[files_not_to_snapshot], [files_not_to_backup] and [revert] only");
    for (const auto& [key, value] : *table)
      if (const auto status = apply(changed, key.str(), value); !status) return status;
  }
  config = std::move(changed);
  return {};
}

Status apply_toml_file(Config& config, const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  if (!file) return fail(Errc::io_error, path + " cannot be read");
  if (auto status = apply_toml(config, text.str()); !status) return fail(status.error(), path);
  return {};
}

CommandLine parse_command_line(int argc, const char* const* argv) {
  CommandLine line;
  auto& config = line.config;
  CLI::App app{"umbrad: coordinates writers, requesters and providers of snapshots."};
  app.set_version_flag("--version", "umbrad " UMBRA_VERSION);
  app.add_option("--run-dir", config.run_dir,
                 "Directory of the socket and the lock (default: UMBRA_RUN_DIR, else /run/umbra as "
                 "root, else a private one of this user)");
  app.add_option("--socket", config.socket, "Socket (default: umbrad.sock in the run directory)");
  app.add_option("--state-dir", config.state_dir,
                 "Directory of what outlives umbrad: which providers are known (default: the run "
                 "directory)");
  app.add_option("--writers-dir", config.writers_dir,
                 "Directory of express writers (default: /etc/umbra/writers.d with the run "
                 "directory /run/umbra, else writers.d in the run directory)");
  app.add_option("--config", config.config_file,
                 "TOML file with limits, roles and lists (docs/umbrad.md)")
      ->check(CLI::ExistingFile);
  app.add_option("--log-level", config.log_level, "debug, info, warning or error")
      ->check(CLI::IsMember({"debug", "info", "warning", "error"}))
      ->capture_default_str();
  app.add_option("--log-file", config.log_file, "Append to this file instead of standard error");
  app.add_flag("--with-system-provider", config.with_system_provider,
               "Also start umbra-cowd, in a process group of its own (demo and tests)");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    line.exit_code = app.exit(error);
    return line;
  }
  if (config.config_file.empty()) return line;
  if (const auto status = apply_toml_file(config, config.config_file); !status) {
    std::cerr << "umbrad: " << status.error().to_string() << '\n';
    line.exit_code = 2;
  }
  return line;
}

}  // namespace umbra::daemon
