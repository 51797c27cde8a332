// SPDX-License-Identifier: Apache-2.0

#include "writer-sdk/writers/sqlite/options.h"

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include "writer-sdk/writers/common/config_file.h"

namespace umbra::sqlite {

namespace fs = std::filesystem;

namespace {

Status read_entry(std::string_view key, const toml::node& node, Options& options) {
  if (key == "databases") {
    return writers::read_texts(node, key, "file names", options.databases);
  }
  if (key == "lock_wait_ms") return writers::read_milliseconds(node, key, options.lock_wait);
  if (auto read = writers::read_program_entry(key, node, options)) return *std::move(read);
  return writers::wrong(
      node, "unknown key '" + std::string(key) +
                "'; there are databases, socket, instance_name, log_level, lock_wait_ms, "
                "freeze_window_ms");
}

// Component names and file patterns cannot carry every name a file may have.
Status check_name(const std::string& path) {
  const auto name = fs::path(path).filename().string();
  if (name.empty()) return fail(Errc::invalid_argument, "'" + path + "' names no file");
  if (path.find('\\') != std::string::npos || name.find_first_of("*?") != std::string::npos) {
    return fail(Errc::invalid_argument,
                "'" + path +
                    "': a path with \\, or a file name with * or ?, cannot be named in a backup's "
                    "documents; rename it or list a link to it in another directory");
  }
  return {};
}

Status check_lock_wait(const Options& options) {
  using namespace std::chrono_literals;
  if (options.lock_wait >= 0ms && options.lock_wait * 2 <= options.freeze_window) return {};
  return fail(Errc::invalid_argument,
              "the lock wait may be at most half of the freeze window, which is " +
                  std::to_string(options.freeze_window.count()) + " ms");
}

}  // namespace

Status read_config(std::string_view text, Options& options) {
  return writers::read_entries(text, [&options](std::string_view key, const toml::node& node) {
    return read_entry(key, node, options);
  });
}

Status check_options(Options& options) {
  if (options.databases.empty()) {
    return fail(Errc::invalid_argument,
                "no database given; name files, or list them as databases in --config");
  }
  for (auto& path : options.databases) {
    if (path.empty()) return fail(Errc::invalid_argument, "a database has an empty name");
    std::error_code error;
    path = fs::absolute(path, error).lexically_normal().string();
    if (error) return fail(Errc::invalid_argument, "'" + path + "': " + error.message());
    if (auto named = check_name(path); !named) return named;
  }
  auto& databases = options.databases;
  std::sort(databases.begin(), databases.end());
  databases.erase(std::unique(databases.begin(), databases.end()), databases.end());
  if (databases.size() > kDatabasesMax) {
    return fail(Errc::invalid_argument,
                "more than " + std::to_string(kDatabasesMax) +
                    " databases; run a second writer with another instance name");
  }
  // Names of components do not tell upper from lower case.
  std::vector<std::string> names;
  for (const auto& path : databases) names.push_back(writers::lower(path));
  std::sort(names.begin(), names.end());
  if (const auto twin = std::adjacent_find(names.begin(), names.end()); twin != names.end()) {
    return fail(Errc::invalid_argument,
                "two databases differ only in case: '" + *twin +
                    "'; run a second writer with another instance name for one of them");
  }
  if (auto checked = writers::check_program_options(options); !checked) return checked;
  return check_lock_wait(options);
}

}  // namespace umbra::sqlite
