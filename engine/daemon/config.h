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
//   [access]                      # VSS's VssAccessControl: 0 deny, 1 writer, 2 requester, 3 both
//   backup = 2
//   "group:contractors" = 0
//   [writer_classes]              # only this user's writers may be of this class
//   "a65faa63-5ea8-4ebc-9dbd-a0c4db26912a" = "mssql"
//   [files_not_to_snapshot]       # by application
//   Mail = ["/var/spool/mail/tmp/*"]
//   [files_not_to_backup]
//   Page = ["/swapfile"]
//   [revert]
//   writers_blocking = ["b2014c9e-8711-4c5c-a5a9-3cf384484757"]

#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "engine/coordinator/limits.h"
#include "engine/coordinator/peer_accounts.h"
#include "engine/platform/log.h"
#include "engine/rpc/messages.h"
#include "umbra/result.h"

namespace umbra::daemon {

inline constexpr std::size_t kConnectionsDefault = 512;
inline constexpr std::size_t kConnectionsMax = 16'384;

/// Entries of each table that is a list.
inline constexpr std::size_t kConfigEntriesMax = 1024;

struct AccessEntry {
  bool is_group = false;
  std::string account;  // Name or number.
  std::uint8_t value = 0;
};

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
  std::size_t connections_per_user = coord::kConnectionsPerUserDefault;
  std::uint32_t calls_per_second = coord::kCallsPerSecondDefault;
  coord::Limits limits;
  std::vector<AccessEntry> access;
  std::map<WriterClassId, std::string> writer_accounts;
  std::map<WriterClassId, std::uint32_t> writer_users;  // The same once names were looked up.
  rpc::CoordinatorSettings settings;
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
