// SPDX-License-Identifier: Apache-2.0
//
// The system provider over the real store passes the suite.

#include <future>

#include "tests/conformance/provider_suite.h"
#include "tests/support/catch.h"
#include "tests/support/seed.h"
#include "tests/support/store_world.h"

namespace {

using namespace umbra;
using namespace umbra::test;

class SystemWorld final : public ProviderWorld {
 public:
  Provider& provider() override { return *world_.provider; }
  VolumeRef add_volume(const std::string& name) override {
    VolumeRef ref;
    ref.id = world_.add(name).id;
    return ref;
  }
  void write(const VolumeRef& volume, std::size_t offset, std::string_view bytes) override {
    auto* disks = world_.find(*volume.id);
    // Checked only where the suite may assert: a write may come from a thread of the suite's own.
    if (disks == nullptr || world_.write(*disks, offset, bytes) != 0) std::abort();
  }
  Result<std::string> read_snapshot(const SnapshotId& snapshot, std::size_t offset,
                                    std::size_t size) override {
    return world_.surfaces.read(snapshot, offset, size);
  }
  void pass(std::chrono::milliseconds time) override {
    (void)std::promise<void>().get_future().wait_for(time);  // The real clock.
  }
  bool block_end_prepare() override {
    world_.freezer.block();
    return true;
  }
  bool end_prepare_is_blocked() override { return world_.freezer.wait_blocked(); }
  void let_end_prepare() override { world_.freezer.let(); }
  bool restart() override {
    world_.die_and_restart(false);
    return true;
  }
  bool set_in_use(const SnapshotId& snapshot, bool in_use) override {
    world_.surfaces.set_mounted(snapshot, in_use);
    return true;
  }

 private:
  StoreWorld world_{seed()};
};

TEST_CASE("the system provider over the store is a provider", "[conformance]") {
  for (const auto& fact : provider_facts()) {
    DYNAMIC_SECTION(fact.name) {
      SystemWorld world;
      fact.check(world);
    }
  }
}

}  // namespace
