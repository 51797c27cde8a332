// SPDX-License-Identifier: Apache-2.0

#include "writer-sdk/writers/postgresql/options.h"

#include <toml++/toml.h>
#include <algorithm>
#include <cctype>
#include <cstdint>
#include <filesystem>
#include <utility>

namespace umbra::postgresql {

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

Status read_slots(const toml::node& node, bool& keep) {
  std::string text;
  if (auto read = read_text(node, "replication_slots", text); !read) return read;
  if (text != "keep" && text != "leave out") {
    return wrong(node, "replication_slots must be \"keep\" or \"leave out\"");
  }
  keep = text == "keep";
  return {};
}

Status read_directories(const toml::node& node, std::vector<std::string>& directories) {
  const auto* list = node.as_array();
  if (list == nullptr) return wrong(node, "discover must be a list of directories");
  for (const auto& entry : *list) {
    std::string path;
    if (auto read = read_text(entry, "each of discover", path); !read) return read;
    directories.push_back(std::move(path));
  }
  return {};
}

Status read_cluster(const toml::node& node, ClusterOptions& cluster) {
  const auto* table = node.as_table();
  if (table == nullptr) return wrong(node, "write each cluster as [[cluster]]");
  for (const auto& [key, value] : *table) {
    Status read;
    if (key.str() == "name") {
      read = read_text(value, key.str(), cluster.name);
    } else if (key.str() == "connection") {
      read = read_text(value, key.str(), cluster.connection);
    } else if (key.str() == "data_directory") {
      read = read_text(value, key.str(), cluster.data_directory);
    } else {
      read = wrong(value, "unknown key '" + std::string(key.str()) +
                              "'; a cluster has name, connection, data_directory");
    }
    if (!read) return read;
  }
  if (cluster.connection.empty()) {
    return wrong(node,
                 "a cluster without connection; write its socket directory and port, for "
                 "example connection = \"/var/run/postgresql:5432\"");
  }
  return {};
}

Status read_clusters(const toml::node& node, std::vector<ClusterOptions>& clusters) {
  const auto* list = node.as_array();
  if (list == nullptr) return wrong(node, "write each cluster as [[cluster]]");
  for (const auto& entry : *list) {
    ClusterOptions cluster;
    if (auto read = read_cluster(entry, cluster); !read) return read;
    clusters.push_back(std::move(cluster));
  }
  return {};
}

Status read_entry(std::string_view key, const toml::node& node, Options& options) {
  if (key == "cluster") return read_clusters(node, options.clusters);
  if (key == "discover") return read_directories(node, options.discover);
  if (key == "user") return read_text(node, key, options.user);
  if (key == "database") return read_text(node, key, options.database);
  if (key == "replication_slots") return read_slots(node, options.keep_replication_slots);
  if (key == "restore_command") return read_text(node, key, options.restore_command);
  if (key == "socket") return read_text(node, key, options.socket_path);
  if (key == "instance_name") return read_text(node, key, options.instance_name);
  if (key == "log_level") return read_text(node, key, options.log_level);
  if (key == "log_file") return read_text(node, key, options.log_file);
  if (key == "answer_wait_ms") return read_milliseconds(node, key, options.answer_wait);
  if (key == "checkpoint_wait_ms") return read_milliseconds(node, key, options.checkpoint_wait);
  if (key == "watch_interval_ms") return read_milliseconds(node, key, options.watch_interval);
  if (key == "freeze_window_ms") return read_milliseconds(node, key, options.freeze_window);
  return wrong(node,
               "unknown key '" + std::string(key) +
                   "'; there are cluster, discover, user, database, replication_slots, "
                   "restore_command, socket, instance_name, log_level, log_file, answer_wait_ms, "
                   "checkpoint_wait_ms, watch_interval_ms, freeze_window_ms");
}

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(c < 0x80 ? std::tolower(c) : c); });
  return text;
}

Status check_name(const std::string& name) {
  const bool sound = std::none_of(
      name.begin(), name.end(), [](unsigned char c) { return c == '\\' || c < 0x20 || c == 0x7f; });
  if (sound && name.size() <= 200) return {};
  return fail(
      Errc::invalid_argument,
      "cluster name '" + name + "': up to 200 characters without \\ and control characters");
}

Status check_clusters(Options& options) {
  std::vector<std::string> names;
  for (auto& cluster : options.clusters) {
    auto target = parse_target(cluster.connection, options.user, options.database);
    if (!target) return fail(std::move(target.error()), "cluster " + cluster.name);
    cluster.target = std::move(*target);
    if (cluster.name.empty()) cluster.name = cluster.target.address();
    if (auto named = check_name(cluster.name); !named) return named;
    if (!cluster.data_directory.empty() && cluster.data_directory.front() != '/') {
      return fail(Errc::invalid_argument,
                  "cluster " + cluster.name + ": data_directory must be absolute");
    }
    names.push_back(lower(cluster.name));
  }
  std::sort(names.begin(), names.end());
  if (const auto twin = std::adjacent_find(names.begin(), names.end()); twin != names.end()) {
    return fail(Errc::invalid_argument, "two clusters are called '" + *twin +
                                            "' (names do not tell upper from lower case); give "
                                            "each a name of its own");
  }
  return {};
}

Status check_range(const char* what, std::chrono::milliseconds value, std::int64_t least,
                   std::int64_t most) {
  if (value.count() >= least && value.count() <= most) return {};
  return fail(Errc::invalid_argument, std::string(what) + " must be " + std::to_string(least) +
                                          " to " + std::to_string(most) + " ms");
}

Status check_times(const Options& options) {
  if (auto checked =
          check_range("the freeze window", options.freeze_window, 1, kFreezeWindowMax.count());
      !checked) {
    return checked;
  }
  if (auto checked = check_range("the answer wait", options.answer_wait, 100, 60'000); !checked) {
    return checked;
  }
  if (auto checked = check_range("the checkpoint wait", options.checkpoint_wait, 0, 600'000);
      !checked) {
    return checked;
  }
  return check_range("the watch interval", options.watch_interval, 100, 3'600'000);
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
  if (options.clusters.empty() && options.discover.empty()) {
    return fail(Errc::invalid_argument,
                "no cluster given; name socket directories such as /var/run/postgresql:5432, or "
                "list [[cluster]] in --config, or look for them with --discover DIR");
  }
  if (options.clusters.size() > kClustersMax) {
    return fail(Errc::invalid_argument, "more than " + std::to_string(kClustersMax) +
                                            " clusters; run a second writer with another instance "
                                            "name");
  }
  for (const auto& directory : options.discover) {
    if (!directory.empty() && directory.front() == '/') continue;
    return fail(Errc::invalid_argument, "discover: '" + directory + "' must be absolute");
  }
  if (auto checked = check_clusters(options); !checked) return checked;
  const auto levels = {"debug", "info", "warning", "error"};
  if (std::find(levels.begin(), levels.end(), options.log_level) == levels.end()) {
    return fail(Errc::invalid_argument,
                "log level '" + options.log_level + "'; there are debug, info, warning, error");
  }
  return check_times(options);
}

}  // namespace umbra::postgresql
