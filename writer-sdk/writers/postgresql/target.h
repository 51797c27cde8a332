// SPDX-License-Identifier: Apache-2.0
//
// Where a cluster answers. Written as a socket directory, "/run/postgresql:5433", or as a
// connection string of libpq, "host=/run/postgresql port=5433 user=umbra".
//
// A host name is refused: looking one up has no time limit, and a writer waits for nothing without
// one. A local cluster has a socket directory, or an address (hostaddr=127.0.0.1).

#pragma once

#include <string>
#include <utility>
#include <vector>

#include "umbra/result.h"

namespace umbra::postgresql {

struct Target {
  /// Of libpq, in order; complete but for what connecting adds.
  std::vector<std::pair<std::string, std::string>> parameters{};

  /// "/run/postgresql:5433": how people know it.
  [[nodiscard]] std::string address() const;
  /// Empty if not given.
  [[nodiscard]] std::string value(const std::string& keyword) const;
};

/// Reads either form; `user` and `database` stand in where it names none (empty: libpq's own).
/// Errors: invalid_argument (says what to write instead).
[[nodiscard]] Result<Target> parse_target(const std::string& text, const std::string& user,
                                          const std::string& database);

}  // namespace umbra::postgresql
