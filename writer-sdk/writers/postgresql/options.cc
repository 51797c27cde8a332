// SPDX-License-Identifier: Apache-2.0

#include "writer-sdk/writers/postgresql/options.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "writer-sdk/writers/common/config_file.h"

namespace umbra::postgresql {

namespace {

using writers::check_range;
using writers::lower;
using writers::read_milliseconds;
using writers::read_text;
using writers::read_texts;
using writers::wrong;

Status read_slots(const toml::node& node, bool& keep) {
  std::string text;
  if (auto read = read_text(node, "replication_slots", text); !read) return read;
  if (text != "keep" && text != "leave out") {
    return wrong(node, "replication_slots must be \"keep\" or \"leave out\"");
  }
  keep = text == "keep";
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
  if (key == "discover") return read_texts(node, key, "directories", options.discover);
  if (key == "user") return read_text(node, key, options.user);
  if (key == "database") return read_text(node, key, options.database);
  if (key == "replication_slots") return read_slots(node, options.keep_replication_slots);
  if (key == "restore_command") return read_text(node, key, options.restore_command);
  if (key == "log_file") return read_text(node, key, options.log_file);
  if (key == "answer_wait_ms") return read_milliseconds(node, key, options.answer_wait);
  if (key == "checkpoint_wait_ms") return read_milliseconds(node, key, options.checkpoint_wait);
  if (key == "watch_interval_ms") return read_milliseconds(node, key, options.watch_interval);
  if (auto read = writers::read_program_entry(key, node, options)) return *std::move(read);
  return wrong(node,
               "unknown key '" + std::string(key) +
                   "'; there are cluster, discover, user, database, replication_slots, "
                   "restore_command, socket, instance_name, log_level, log_file, answer_wait_ms, "
                   "checkpoint_wait_ms, watch_interval_ms, freeze_window_ms");
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

Status check_times(const Options& options) {
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
  return writers::read_entries(text, [&options](std::string_view key, const toml::node& node) {
    return read_entry(key, node, options);
  });
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
  if (auto checked = writers::check_program_options(options); !checked) return checked;
  return check_times(options);
}

}  // namespace umbra::postgresql
