// SPDX-License-Identifier: Apache-2.0
//
// The clusters that this writer speaks for, and what was last known of each. A cluster that is down
// stays in the list: it is looked at again at every occasion, and its last known files are told.
//
// A discovered cluster is one that has a socket in a directory; it is dropped when its socket goes,
// which an orderly stop does and a crash does not. Those in the configuration are never dropped.

#pragma once

#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "umbra/log_sink.h"
#include "writer-sdk/writers/postgresql/layout.h"
#include "writer-sdk/writers/postgresql/limit.h"
#include "writer-sdk/writers/postgresql/options.h"

namespace umbra::postgresql {

/// Threads: any.
using Log = std::function<void(LogLevel level, const std::string& text)>;

struct KnownCluster {
  ClusterOptions options{};
  bool is_up = false;
  std::string why_down{};
  std::optional<Layout> layout{};  ///< As of the last time it was up, or from its files.
};

/// Threads: any.
class Clusters {
 public:
  Clusters(Options options, Log log);
  /// Ends watching.
  ~Clusters();
  Clusters(const Clusters&) = delete;
  Clusters& operator=(const Clusters&) = delete;

  /// Looks at every cluster, all at once, and logs what changed. Blocks for the answer wait and a
  /// little more at most. Then known().
  std::vector<KnownCluster> refresh();
  [[nodiscard]] std::vector<KnownCluster> known() const;
  /// refresh() every so often, in a thread of its own, so that the log tells when a cluster is
  /// down.
  void watch();

 private:
  struct State {
    KnownCluster cluster;
    bool is_discovered = false;
    bool is_reported = false;
  };

  void discover();
  void look(State& state) const;
  void report(State& state, bool was_up) const;

  const Options options_;
  const Log log_;
  std::mutex refresh_mutex_;  // One refresh at a time.
  mutable std::mutex mutex_;  // Guards what follows; never held while waiting for a server.
  std::map<std::string, State> states_;  // By name.
  std::set<std::string> left_out_;       // Named in the log already.
  std::condition_variable ended_;
  bool end_ = false;
  std::thread watcher_;
};

/// Calls `action(i)` for 0 <= i < count, all at once, and waits for all.
void for_all(std::size_t count, const std::function<void(std::size_t index)>& action);

}  // namespace umbra::postgresql
