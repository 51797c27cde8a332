// SPDX-License-Identifier: Apache-2.0
//
// What umbrad was told: the command line, and a TOML file for what is seldom changed.
//
//   [roles]
//   writers = "umbra-writer"      # group, by name or number
//   requesters = "umbra"
//   [limits]                      # milliseconds; the names of engine/coordinator/limits.h
//   post_snapshot = 1800000
//   connections = 512

#pragma once

#include <cstddef>
#include <optional>
#include <string>

#include "engine/coordinator/limits.h"
#include "engine/platform/log.h"
#include "umbra/result.h"

namespace umbra::daemon {

inline constexpr std::size_t kConnectionsDefault = 512;
inline constexpr std::size_t kConnectionsMax = 16'384;

struct Config {
  std::string run_dir;      // Empty: the platform's default.
  std::string socket;       // Empty: umbrad.sock in the run directory.
  std::string state_dir;    // Empty: the run directory.
  std::string writers_dir;  // Of express writers. Empty: that of the run directory.
  std::string config_file;
  std::string log_level = "info";
  std::string log_file;  // Empty: standard error.
  bool with_system_provider = false;
  std::string writer_group = "umbra-writer";
  std::string requester_group = "umbra";
  std::size_t connections = kConnectionsDefault;
  coord::Limits limits;
};

/// What a command line asks for: a configuration, or (after --help, --version or a mistake, which
/// have been printed) the exit code to end with.
struct CommandLine {
  Config config;
  std::optional<int> exit_code;
};
[[nodiscard]] CommandLine parse_command_line(int argc, const char* const* argv);

/// Applies the TOML text. Errors: invalid_argument (names line or key, and what would be right);
/// `config` is then as it was.
[[nodiscard]] Status apply_toml(Config& config, const std::string& text);
/// The same from a file. Errors: also io_error (cannot be read).
[[nodiscard]] Status apply_toml_file(Config& config, const std::string& path);

}  // namespace umbra::daemon
