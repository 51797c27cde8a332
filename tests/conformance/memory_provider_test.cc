// SPDX-License-Identifier: Apache-2.0
//
// The provider in memory passes the suite, and its faults do what they say.

#include "tests/support/memory_provider.h"
#include "engine/platform/assert.h"
#include "tests/conformance/hardware_suite.h"
#include "tests/support/catch.h"
#include "tests/support/manual_clock.h"
#include "tests/support/memory_array.h"

namespace {

using namespace umbra;
using namespace umbra::test;

template <class Base>
class MemoryWorldOf : public Base {
 public:
  Provider& provider() override { return provider_; }
  VolumeRef add_volume(const std::string& name) override {
    VolumeRef ref;
    ref.id = provider_.add_volume(name);
    return ref;
  }
  void write(const VolumeRef& volume, std::size_t offset, std::string_view bytes) override {
    // The suite writes from threads of its own, where the test framework may not be used.
    UMBRA_ASSERT(provider_.write(*volume.id, offset, bytes).has_value());
  }
  Result<std::string> read_snapshot(const SnapshotId& snapshot, std::size_t offset,
                                    std::size_t size) override {
    return provider_.read_snapshot(snapshot, offset, size);
  }
  void pass(std::chrono::milliseconds time) override { clock_.advance(time); }
  bool block_end_prepare() override {
    provider_.block("end_prepare_snapshots");
    return true;
  }
  bool end_prepare_is_blocked() override {
    return provider_.wait_blocked("end_prepare_snapshots", std::chrono::seconds{20});
  }
  void let_end_prepare() override { provider_.unblock("end_prepare_snapshots"); }
  bool restart() override {
    provider_.restart();
    return true;
  }
  bool set_in_use(const SnapshotId& snapshot, bool in_use) override {
    provider_.set_in_use(snapshot, in_use);
    return true;
  }

 protected:
  ManualClock clock_;
  MemoryProvider provider_{clock_};
};
using MemoryWorld = MemoryWorldOf<ProviderWorld>;

// Two machines at one array.
class ArrayWorld final : public MemoryWorldOf<HardwareWorld> {
 public:
  ArrayWorld() {
    provider_.pose_as_hardware(array_);
    other_.pose_as_hardware(array_, provider_.properties().provider_id);
  }
  Provider& other() override { return other_; }
  Result<std::string> read_other(const SnapshotId& snapshot, std::size_t offset,
                                 std::size_t size) override {
    return other_.read_snapshot(snapshot, offset, size);
  }
  std::string read_volume(const VolumeRef& volume, std::size_t offset, std::size_t size) override {
    return provider_.read_volume(*volume.id).substr(offset, size);
  }

 private:
  MemoryArray array_;
  MemoryProvider other_{clock_};
};

TEST_CASE("the provider in memory is a provider", "[conformance]") {
  for (const auto& fact : provider_facts()) {
    DYNAMIC_SECTION(fact.name) {
      MemoryWorld world;
      fact.check(world);
    }
  }
}

TEST_CASE("the provider in memory is one of hardware, when it poses as one", "[conformance]") {
  for (const auto& fact : hardware_facts()) {
    DYNAMIC_SECTION(fact.name) {
      ArrayWorld world;
      fact.check(world);
    }
  }
  for (const auto& fact : provider_facts()) {
    DYNAMIC_SECTION(fact.name) {
      ArrayWorld world;
      fact.check(world);
    }
  }
}

TEST_CASE("a failure inside a set discards the set", "[conformance]") {
  const ManualClock clock;
  MemoryProvider provider{clock};
  VolumeRef volume;
  volume.id = provider.add_volume("a");
  const auto set = SnapshotSetId::random();
  REQUIRE(provider.begin_prepare_snapshot({set, SnapshotId::random(), volume, 0, {}}));
  REQUIRE(provider.end_prepare_snapshots(set));
  provider.fail_next("pre_commit_snapshots", {Errc::insufficient_storage, "as told"});
  const auto status = provider.pre_commit_snapshots(set);
  REQUIRE(!status);
  CHECK(status.error().code == Errc::insufficient_storage);
  CHECK(provider.unfinished_sets() == 0);
}

}  // namespace
