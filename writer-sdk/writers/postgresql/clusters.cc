// SPDX-License-Identifier: Apache-2.0

#include "writer-sdk/writers/postgresql/clusters.h"

#include <algorithm>
#include <set>
#include <utility>

#include "writer-sdk/writers/postgresql/connection.h"
#include "writer-sdk/writers/postgresql/data_directory.h"
#include "writer-sdk/writers/postgresql/facts.h"

namespace umbra::postgresql {

Clusters::Clusters(Options options, Log log) : options_(std::move(options)), log_(std::move(log)) {
  for (const auto& cluster : options_.clusters) states_[cluster.name].cluster.options = cluster;
}

Clusters::~Clusters() {
  {
    const std::lock_guard lock(mutex_);
    end_ = true;
  }
  ended_.notify_all();
  if (watcher_.joinable()) watcher_.join();
}

void Clusters::watch() {
  watcher_ = std::thread([this] {
    std::unique_lock lock(mutex_);
    while (!end_) {
      lock.unlock();
      (void)refresh();
      lock.lock();
      ended_.wait_for(lock, options_.watch_interval, [this] { return end_; });
    }
  });
}

std::vector<KnownCluster> Clusters::known() const {
  const std::lock_guard lock(mutex_);
  std::vector<KnownCluster> clusters;
  for (const auto& [name, state] : states_) clusters.push_back(state.cluster);
  return clusters;
}

std::vector<KnownCluster> Clusters::refresh() {
  {
    const std::lock_guard one(refresh_mutex_);
    discover();
    std::vector<State> seen;
    {
      const std::lock_guard lock(mutex_);
      for (const auto& [name, state] : states_) seen.push_back(state);
    }
    for_all(seen.size(), [&](std::size_t i) {
      const bool was_up = seen[i].cluster.is_up;
      look(seen[i]);
      report(seen[i], was_up);
    });
    const std::lock_guard lock(mutex_);
    for (auto& state : seen) states_[state.cluster.options.name] = state;
  }
  return known();
}

// Only under refresh_mutex_: nobody else adds or removes.
void Clusters::discover() {
  std::set<std::string> present;
  for (const auto& directory : options_.discover) {
    for (const auto& port : socket_ports(directory)) {
      auto target = parse_target(directory + ":" + port, options_.user, options_.database);
      if (!target) continue;
      const auto name = target->address();
      present.insert(name);
      const std::lock_guard lock(mutex_);
      const bool listed = std::any_of(states_.begin(), states_.end(), [&](const auto& entry) {
        return entry.second.cluster.options.target.address() == name;
      });
      if (listed) continue;
      if (states_.size() >= kClustersMax) {
        log_(LogLevel::warning,
             "more than " + std::to_string(kClustersMax) + " clusters; " + name + " is left out");
        continue;
      }
      State& state = states_[name];
      state.is_discovered = true;
      state.cluster.options.name = name;
      state.cluster.options.target = std::move(*target);
    }
  }
  const std::lock_guard lock(mutex_);
  std::erase_if(states_, [&](const auto& entry) {
    const bool gone = entry.second.is_discovered && !present.contains(entry.first);
    if (gone)
      log_(LogLevel::warning,
           "cluster " + entry.first + ": its socket is gone; no longer backed up");
    return gone;
  });
}

void Clusters::look(State& state) const {
  auto& cluster = state.cluster;
  const auto facts = [&]() -> Result<Facts> {
    const auto limit = Limit::in(options_.answer_wait);
    auto connection = Connection::open(cluster.options.target, limit, options_.answer_wait * 2);
    if (!connection) return fail(std::move(connection.error()));
    return ask_facts(*connection, limit);
  }();
  cluster.is_up = facts.has_value();
  if (facts) {
    cluster.layout = facts->layout;
    cluster.why_down.clear();
    return;
  }
  cluster.why_down = facts.error().context;
  if (cluster.layout || cluster.options.data_directory.empty()) return;
  if (auto layout = read_layout(cluster.options.data_directory)) cluster.layout = *layout;
}

void Clusters::report(State& state, bool was_up) const {
  const auto& cluster = state.cluster;
  if (state.is_reported && cluster.is_up == was_up) return;
  state.is_reported = true;
  if (cluster.is_up) {
    log_(LogLevel::info, "cluster " + cluster.options.name + " is up: data in " +
                             cluster.layout->data + ", WAL in " + cluster.layout->wal + ", " +
                             std::to_string(cluster.layout->tablespaces.size()) +
                             " tablespaces elsewhere");
  } else {
    log_(LogLevel::warning, "cluster " + cluster.options.name + " cannot be asked: " +
                                cluster.why_down + "; backups of it fail until it can");
  }
}

void for_all(std::size_t count, const std::function<void(std::size_t index)>& action) {
  std::vector<std::jthread> others;  // Joined also when one of them cannot be started.
  for (std::size_t i = 1; i < count; ++i) others.emplace_back(action, i);
  if (count > 0) action(0);
}

}  // namespace umbra::postgresql
