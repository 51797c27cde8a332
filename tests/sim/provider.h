// SPDX-License-Identifier: Apache-2.0
//
// A provider of the simulated machine: the provider in memory, served over a line as
// rpc::ProviderServer does it (registration, retain_sessions before any call, calls that run while
// others do). It answers late or never, fails, loses its connection, and is killed.

#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/rpc/passed_calls.h"
#include "tests/sim/world.h"
#include "tests/support/memory_provider.h"

namespace umbra::sim {

class SimProvider {
 public:
  /// `on_commit`: the instant of a set, as it happens.
  SimProvider(World& world, std::string name, int chaos,
              std::function<void(const SnapshotSetId&)> on_commit);
  void connect();
  void calm() { chaos_ = 0; }
  /// Its process ends, and stays away until connect().
  void take_down();
  [[nodiscard]] bool is_registered() const noexcept { return registered_; }
  [[nodiscard]] test::MemoryProvider& memory() noexcept { return memory_; }
  [[nodiscard]] const std::vector<std::string>& volumes() const noexcept { return volumes_; }

 private:
  void closed();
  void die();
  void serve(const rpc::IncomingRequest& request);
  void carry_out(const rpc::IncomingRequest& request);
  [[nodiscard]] bool is_odd() {
    return world_.prng.chance(static_cast<std::uint64_t>(chaos_), 100);
  }

  World& world_;
  std::string name_;
  int chaos_;
  std::function<void(const SnapshotSetId&)> on_commit_;
  test::MemoryProvider memory_;
  rpc::PassedCalls passed_;
  std::vector<std::string> volumes_;
  std::shared_ptr<Line> line_;
  rpc::CallId hello_ = 0;
  rpc::CallId register_ = 0;
  bool registered_ = false;
  int process_ = 0;
};

}  // namespace umbra::sim
