// SPDX-License-Identifier: Apache-2.0

#include "writer-sdk/writers/sqlite/options.h"

#include <toml++/toml.h>
#include <algorithm>
#include <cctype>
#include <cstdint>
#include <filesystem>
#include <system_error>
#include <utility>

namespace umbra::sqlite {

namespace fs = std::filesystem;

namespace {

tl::unexpected<Error> wrong(const toml::node& node, const std::string& text) {
  return fail(Errc::invalid_argument,
              "line " + std::to_string(node.source().begin.line) + ": " + text);
}

Status read_text(const toml::node& node, std::string_view key, std::string& value) {
  const auto text = node.value<std::string>();
  if (!node.is_string() || !text) return wrong(node, std::string(key) + " must be a string");
  value = *text;
  return {};
}

Status read_milliseconds(const toml::node& node, std::string_view key,
                         std::chrono::milliseconds& value) {
  const auto number = node.value<std::int64_t>();
  if (!node.is_integer() || !number) {
    return wrong(node, std::string(key) + " must be a whole number of milliseconds");
  }
  value = std::chrono::milliseconds(*number);
  return {};
}

Status read_databases(const toml::node& node, std::vector<std::string>& databases) {
  const auto* list = node.as_array();
  if (list == nullptr) return wrong(node, "databases must be a list of file names");
  for (const auto& entry : *list) {
    std::string path;
    if (auto read = read_text(entry, "each of databases", path); !read) return read;
    databases.push_back(std::move(path));
  }
  return {};
}

Status read_entry(std::string_view key, const toml::node& node, Options& options) {
  if (key == "databases") return read_databases(node, options.databases);
  if (key == "socket") return read_text(node, key, options.socket_path);
  if (key == "instance_name") return read_text(node, key, options.instance_name);
  if (key == "log_level") return read_text(node, key, options.log_level);
  if (key == "lock_wait_ms") return read_milliseconds(node, key, options.lock_wait);
  if (key == "freeze_window_ms") return read_milliseconds(node, key, options.freeze_window);
  return wrong(node, "unknown key '" + std::string(key) +
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

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(c < 0x80 ? std::tolower(c) : c); });
  return text;
}

Status check_times(const Options& options) {
  using namespace std::chrono_literals;
  if (options.freeze_window < 1ms || options.freeze_window > kFreezeWindowMax) {
    return fail(Errc::invalid_argument, "the freeze window must be 1 to " +
                                            std::to_string(kFreezeWindowMax.count()) + " ms");
  }
  if (options.lock_wait < 0ms || options.lock_wait * 2 > options.freeze_window) {
    return fail(Errc::invalid_argument,
                "the lock wait may be at most half of the freeze window, which is " +
                    std::to_string(options.freeze_window.count()) + " ms");
  }
  return {};
}

}  // namespace

Status read_config(std::string_view text, Options& options) {
  toml::table table;
  try {
    table = toml::parse(text);
  } catch (const toml::parse_error& error) {
    return fail(Errc::invalid_argument, "line " + std::to_string(error.source().begin.line) + ": " +
                                            std::string(error.description()));
  }
  for (const auto& [key, node] : table) {
    if (auto read = read_entry(key.str(), node, options); !read) return read;
  }
  return {};
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
  for (const auto& path : databases) names.push_back(lower(path));
  std::sort(names.begin(), names.end());
  if (const auto twin = std::adjacent_find(names.begin(), names.end()); twin != names.end()) {
    return fail(Errc::invalid_argument,
                "two databases differ only in case: '" + *twin +
                    "'; run a second writer with another instance name for one of them");
  }
  const auto levels = {"debug", "info", "warning", "error"};
  if (std::find(levels.begin(), levels.end(), options.log_level) == levels.end()) {
    return fail(Errc::invalid_argument,
                "log level '" + options.log_level + "'; there are debug, info, warning, error");
  }
  return check_times(options);
}

}  // namespace umbra::sqlite
