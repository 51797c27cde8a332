// SPDX-License-Identifier: Apache-2.0
//
// One instant, in one process: a thread writes n to A, waits, writes n to B; in every set that the
// system provider makes meanwhile, A >= B >= A - 1. Over simulated disks and over real files. The
// control takes the two copies one after the other and must see them disagree, or the load could
// not tell one instant from two. Meant for the thread sanitizer as much as for itself.

#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "engine/platform/file_device.h"
#include "provider/contract/system_provider.h"
#include "provider/cow/volume.h"
#include "tests/support/catch.h"
#include "tests/support/contract_doubles.h"
#include "tests/support/seed.h"
#include "tests/support/sim_disk.h"
#include "tests/support/temp_dir.h"

namespace {

using namespace umbra;
using namespace umbra::test;

constexpr std::uint64_t kOriginBytes = 256U << 10U;
constexpr std::size_t kBlock = 512;
constexpr std::uint64_t kStride = cow::kChunkBytesMin;
constexpr std::uint64_t kSlots = kOriginBytes / kStride;
constexpr int kControlsMax = 200;

int sets_to_make() { return long_run() ? 500 : 60; }

/// Two volumes of a kind, the provider over them, and the game on them.
class Table {
 public:
  Table() {
    contract::SystemProviderOptions options;
    options.machine_name = "host";
    provider_ = std::make_unique<contract::SystemProvider>(freezer_, surfaces_, log_,
                                                           system_clock(), options);
  }
  ~Table() {
    stop();
    provider_.reset();
  }
  Table(const Table&) = delete;
  Table& operator=(const Table&) = delete;

  void add(block::Device& origin, block::ResizableDevice& diff) {
    cow::FormatOptions format;
    format.volume_id = VolumeId::random();
    format.chunk_bytes = cow::kChunkBytesMin;
    format.diff_bytes_initial = cow::diff_bytes_min(cow::kChunkBytesMin);
    REQUIRE(cow::format_diff_area(origin, diff, format));
    cow::OpenOptions open;
    open.volume_id = format.volume_id;
    auto volume = cow::Volume::open(origin, diff, open);
    REQUIRE(volume);
    volumes_.push_back(std::move(*volume));
    contract::VolumeDescription description;
    description.name = "v" + std::to_string(volumes_.size());
    REQUIRE(provider_->add_volume(volumes_.back(), std::move(description)));
  }

  void play() {
    player_ = std::thread([this] {
      for (std::uint64_t n = 1; !stopping_.load() && !failed_.load(); ++n) {
        for (const auto& volume : volumes_) write(*volume, n);
        rounds_.store(n);
      }
    });
    // Every slot has been played: from now on each write is the first of its chunk after a set.
    while (rounds_.load() < kSlots && !failed_.load()) std::this_thread::yield();
  }
  void stop() {
    stopping_.store(true);
    if (player_.joinable()) player_.join();
  }

  /// What the copies of the volumes hold; one set for all, or one after the other.
  std::vector<std::uint64_t> look(bool at_once) {
    std::vector<std::pair<SnapshotSetId, std::vector<SnapshotId>>> sets;
    if (at_once) {
      sets.push_back(make(volumes_));
    } else {
      for (const auto& volume : volumes_) sets.push_back(make({volume}));
    }
    std::vector<std::uint64_t> numbers;
    for (const auto& [set, copies] : sets) {
      for (const auto& copy : copies) numbers.push_back(number_in(copy));
      REQUIRE(provider_->delete_snapshots(set, ObjectType::snapshot_set, true).status);
    }
    return numbers;
  }
  [[nodiscard]] bool failed() const { return failed_.load(); }

 private:
  using Volumes = std::vector<std::shared_ptr<cow::Volume>>;

  void write(cow::Volume& to, std::uint64_t n) {
    std::byte bytes[kBlock] = {};
    std::memcpy(bytes, &n, sizeof n);
    block::Request request;
    request.op = block::Op::write;
    request.offset_bytes = n % kSlots * kStride;
    request.size_bytes = kBlock;
    request.buffer = bytes;
    if (block::run(to.live(), request) != 0) failed_.store(true);
  }

  std::pair<SnapshotSetId, std::vector<SnapshotId>> make(const Volumes& volumes) {
    const auto set = SnapshotSetId::random();
    const auto session = SessionId::random();
    std::vector<SnapshotId> copies;
    for (const auto& volume : volumes) {
      VolumeRef ref;
      ref.id = volume->id();
      copies.push_back(SnapshotId::random());
      REQUIRE(provider_->begin_prepare_snapshot(
          {set, copies.back(), ref, context::kAppRollback, session}));
    }
    REQUIRE(provider_->end_prepare_snapshots(set));
    REQUIRE(provider_->pre_commit_snapshots(set));
    REQUIRE(provider_->flush_commit_release(set, {}));
    REQUIRE(provider_->post_commit_snapshots(set, copies));
    REQUIRE(provider_->pre_final_commit_snapshots(set));
    REQUIRE(provider_->post_final_commit_snapshots(set));
    REQUIRE(provider_->confirm_set(set));
    return {set, copies};
  }

  std::uint64_t number_in(const SnapshotId& copy) {
    const auto bytes = surfaces_.read(copy, 0, kOriginBytes);
    REQUIRE(bytes);
    std::uint64_t largest = 0;
    for (std::uint64_t slot = 0; slot < kSlots; ++slot) {
      std::uint64_t number = 0;
      std::memcpy(&number, bytes->data() + slot * kStride, sizeof number);
      largest = std::max(largest, number);
    }
    return largest;
  }

  Events events_;
  FakeFreezer freezer_{events_};
  FakeSurfaces surfaces_{events_};
  EventLog log_{events_};
  Volumes volumes_;
  std::unique_ptr<contract::SystemProvider> provider_;
  std::atomic<bool> stopping_ = false;
  std::atomic<bool> failed_ = false;
  std::atomic<std::uint64_t> rounds_ = 0;
  std::thread player_;
};

bool is_one_instant(const std::vector<std::uint64_t>& numbers) {
  return numbers[0] >= numbers[1] && numbers[1] + 1 >= numbers[0];
}

void prove_one_instant(Table& table) {
  table.play();
  std::uint64_t before = 0;
  for (int set = 0; set < sets_to_make(); ++set) {
    const auto numbers = table.look(true);
    INFO("set " << set << ": A = " << numbers[0] << ", B = " << numbers[1]);
    CHECK(is_one_instant(numbers));
    CHECK(numbers[0] >= before);
    before = numbers[0];
  }
  CHECK(before > kSlots);
  int tries = 0;
  int violations = 0;
  while (violations == 0 && tries < kControlsMax) {
    ++tries;
    if (!is_one_instant(table.look(false))) ++violations;
  }
  INFO("control: " << violations << " of " << tries);
  CHECK(violations > 0);
  table.stop();
  CHECK(!table.failed());
}

TEST_CASE("a set shows one instant of a ping-pong over simulated disks", "[stress]") {
  SimMachine machine(seed());
  std::vector<std::unique_ptr<SimDisk>> disks;
  Table table;
  for (int v = 0; v < 2; ++v) {
    disks.push_back(std::make_unique<SimDisk>(machine, kOriginBytes));
    disks.push_back(std::make_unique<SimDisk>(machine, cow::diff_bytes_min(cow::kChunkBytesMin)));
    table.add(*disks[disks.size() - 2], *disks.back());
  }
  prove_one_instant(table);
}

TEST_CASE("a set shows one instant of a ping-pong over files", "[stress]") {
  const TempDir dir;
  std::vector<std::unique_ptr<FileDevice>> files;
  Table table;
  const auto open = [&](const std::string& name) -> FileDevice& {
    FileDeviceOptions options;
    options.create = true;
    auto file = open_file_device(dir / name, options);
    REQUIRE(file);
    files.push_back(std::move(*file));
    return *files.back();
  };
  for (const auto* const name : {"a", "b"}) {
    auto& origin = open(name + std::string(".origin"));
    REQUIRE(origin.resize(kOriginBytes));
    table.add(origin, open(name + std::string(".diff")));
  }
  prove_one_instant(table);
}

}  // namespace
