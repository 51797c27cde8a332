// SPDX-License-Identifier: Apache-2.0
//
// A data directory as its files show it, whether or not a server runs on it. Reads only.

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "umbra/result.h"
#include "writer-sdk/writers/postgresql/layout.h"

namespace umbra::postgresql {

/// Of global/pg_control: what is at the same place in every version.
struct ControlFile {
  std::string system_identifier{};
  std::string catalog_version{};  ///< "202209061".
};

/// Errors: writererror_nonretryable (missing, not readable for this user, too short, or of a
/// machine of the other byte order).
[[nodiscard]] Result<ControlFile> read_control_file(const std::string& data_directory);
/// "15". Errors: as above.
[[nodiscard]] Result<std::string> read_major_version(const std::string& data_directory);

/// The layout from links and directory entries alone; tablespaces have no names but their OIDs.
/// Errors: writererror_nonretryable (the context says what is missing or not readable).
[[nodiscard]] Result<Layout> read_layout(const std::string& data_directory);

/// The process of postmaster.pid if it is alive and works in this directory, or may do so.
[[nodiscard]] std::optional<std::int64_t> running_postmaster(const std::string& data_directory);

/// Ports of the sockets ".s.PGSQL.PORT" in a directory, sorted; none if it cannot be read.
[[nodiscard]] std::vector<std::string> socket_ports(const std::string& directory);

}  // namespace umbra::postgresql
