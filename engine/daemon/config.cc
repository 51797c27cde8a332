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
  if (key == "connections") {
    if (!value || *value < 1 || *value > static_cast<std::int64_t>(kConnectionsMax))
      return refuse(static_cast<std::int64_t>(kConnectionsMax));
    config.connections = static_cast<std::size_t>(*value);
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
    const bool is_limits = section == "limits";
    if (table == nullptr || (!is_limits && section != "roles"))
      return fail(Errc::invalid_argument,
                  std::string(section.str()) + ": there are the tables [limits] and [roles] only");
    for (const auto& [key, value] : *table) {
      const auto status = is_limits ? apply_limit(changed, key.str(), value)
                                    : apply_role(changed, key.str(), value);
      if (!status) return status;
    }
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
  app.add_option("--config", config.config_file, "TOML file with [limits] and [roles]")
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
