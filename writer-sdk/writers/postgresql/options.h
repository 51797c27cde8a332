// SPDX-License-Identifier: Apache-2.0
//
// What umbra-writer-postgresql was told: arguments, and a TOML file whose keys are the long options
// with '_' for '-'. An argument wins over the file; clusters of both are added up.
//
//   discover = ["/var/run/postgresql"]
//   user = "umbra"
//   [[cluster]]
//   name = "shop"
//   connection = "host=/run/shop port=5433"
//   data_directory = "/srv/shop/15/main"
//
// Every mistake is an error that names the key or argument and what to write instead.

#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "umbra/result.h"
#include "writer-sdk/writers/common/options.h"
#include "writer-sdk/writers/postgresql/target.h"

namespace umbra::postgresql {

inline constexpr std::size_t kClustersMax = 64;

struct ClusterOptions {
  std::string name{};            ///< Of its component, for all time. Empty: its address.
  std::string connection{};      ///< See target.h.
  std::string data_directory{};  ///< Not needed; tells where the files are while it is down.
  Target target{};               ///< From `connection`, by check_options().
};

struct Options : writers::ProgramOptions {
  std::vector<ClusterOptions> clusters;
  std::vector<std::string> discover;  ///< Directories in which sockets are looked for.
  std::string user;                   ///< Role, where a connection names none.
  std::string database = "postgres";  ///< The same.
  bool keep_replication_slots = false;
  /// For restores to a point in time: PostgreSQL's setting. The server runs it.
  std::string restore_command;
  std::string log_file;  ///< Empty: standard error.
  /// For connecting and for each short question to a cluster.
  std::chrono::milliseconds answer_wait{3'000};
  /// For the checkpoint in PrepareForSnapshot; 0: none is asked for.
  std::chrono::milliseconds checkpoint_wait{60'000};
  /// How often each cluster is looked at, to report what is up and what is down.
  std::chrono::milliseconds watch_interval{10'000};
};

/// Reads the text of a configuration file into `options`. Errors: invalid_argument (not TOML, an
/// unknown key, a value of the wrong kind; with the line).
[[nodiscard]] Status read_config(std::string_view text, Options& options);

/// Reads the connections, completes the names and checks the whole. Errors: invalid_argument.
[[nodiscard]] Status check_options(Options& options);

}  // namespace umbra::postgresql
