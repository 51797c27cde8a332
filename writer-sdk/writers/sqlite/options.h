// SPDX-License-Identifier: Apache-2.0
//
// What umbra-writer-sqlite was told: arguments, and a TOML file whose keys are the long options
// with '_' for '-'. An argument wins over the file; databases of both are added up.
//
//   databases = ["/srv/shop/orders.db", "/srv/shop/stock.db"]
//   lock_wait_ms = 10000
//
// Every mistake is an error that names the key or argument and what to write instead: a database
// that is left out because of a typing error would be missed only when it is needed.

#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "umbra/result.h"
#include "writer-sdk/writers/common/options.h"

namespace umbra::sqlite {

inline constexpr std::size_t kDatabasesMax = 256;

struct Options : writers::ProgramOptions {
  std::vector<std::string> databases;  ///< Absolute, normal, sorted, each once.
  /// For the locks of all databases together; below the window.
  std::chrono::milliseconds lock_wait{10'000};
};

/// Reads the text of a configuration file into `options`. Errors: invalid_argument (not TOML, an
/// unknown key, a value of the wrong kind; with the line).
[[nodiscard]] Status read_config(std::string_view text, Options& options);

/// Makes every database path absolute and normal, and checks the whole. Errors: invalid_argument.
[[nodiscard]] Status check_options(Options& options);

}  // namespace umbra::sqlite
