// SPDX-License-Identifier: Apache-2.0
//
// Is this a provider? The facts that any umbra::Provider must show, each checked in a fresh world.
// A provider's own test gives a world and runs them:
//
//   TEST_CASE("the store is a provider", "[conformance]") {
//     for (const auto& fact : provider_facts())
//       DYNAMIC_SECTION(fact.name) { StoreWorld world; fact.check(world); }
//   }

#pragma once

#include <chrono>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include "umbra/provider.h"

namespace umbra::test {

/// What a fact needs of the provider's surroundings.
class ProviderWorld {
 public:
  virtual ~ProviderWorld() = default;

  [[nodiscard]] virtual Provider& provider() = 0;
  /// A new volume of at least 64 KiB, full of zeroes.
  [[nodiscard]] virtual VolumeRef add_volume(const std::string& name) = 0;
  /// Writes to the live volume; blocks while its writes are held. 512-byte aligned, up to 16 KiB.
  virtual void write(const VolumeRef& volume, std::size_t offset, std::string_view bytes) = 0;
  [[nodiscard]] virtual Result<std::string> read_snapshot(const SnapshotId& snapshot,
                                                          std::size_t offset, std::size_t size) = 0;
  /// Time passes for leases and windows: a moved clock, or waiting.
  virtual void pass(std::chrono::milliseconds time) = 0;

  // What not every world can do; false means it cannot, and the fact is skipped.
  /// end_prepare_snapshots blocks from now on, until let_end_prepare().
  [[nodiscard]] virtual bool block_end_prepare() { return false; }
  /// Waits, with a bound, until somebody blocks there.
  [[nodiscard]] virtual bool end_prepare_is_blocked() { return false; }
  virtual void let_end_prepare() {}
  /// The provider's process is killed and started again; provider() is then another object.
  [[nodiscard]] virtual bool restart() { return false; }
  /// The snapshot is open or mounted, or no longer.
  [[nodiscard]] virtual bool set_in_use(const SnapshotId&, bool) { return false; }
};

struct ProviderFact {
  std::string_view name;
  void (*check)(ProviderWorld& world);
};

[[nodiscard]] std::span<const ProviderFact> provider_facts();

}  // namespace umbra::test
