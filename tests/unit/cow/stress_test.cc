// SPDX-License-Identifier: Apache-2.0
//
// Real files, real threads: writers on the live volume while snapshots are made, read twice and
// removed. Method: every sector carries a sequence number; in a snapshot it lies between the last
// one acknowledged before the hold and the last one issued before the release, and a second read of
// the snapshot shows the same. Meant for the thread sanitizer as much as for itself.
#include <atomic>
#include <chrono>
#include <thread>

#include "engine/platform/file_device.h"
#include "tests/support/cow_world.h"
#include "tests/support/seed.h"
#include "tests/support/temp_dir.h"

using namespace umbra;
using namespace umbra::test;

namespace {

constexpr std::uint64_t kOriginBytes = 4U << 20U;
constexpr std::uint64_t kSectors = kOriginBytes / kSector;
constexpr std::size_t kWriters = 3;
constexpr std::uint64_t kSectorsPerWrite = 64;
constexpr Duration kDrainLimit = std::chrono::seconds(30);

struct Stress {
  Stress() : issued(kSectors), acknowledged(kSectors) {
    FileDeviceOptions options;
    options.create = true;
    auto origin_opened = open_file_device(dir / "origin", options);
    auto diff_opened = open_file_device(dir / "diff", options);
    REQUIRE((origin_opened && diff_opened));
    origin = std::move(*origin_opened);
    diff = std::move(*diff_opened);
    REQUIRE(origin->resize(kOriginBytes));
    Image bytes(kOriginBytes);
    stamp(bytes, 0, 0);
    block::Request request;
    request.op = block::Op::write;
    request.size_bytes = bytes.size();
    request.buffer = bytes.data();
    REQUIRE(block::run(*origin, request) == 0);
    cow::FormatOptions format;
    format.volume_id = VolumeId::random();
    format.diff_bytes_initial = 0;  // Has to grow under load.
    REQUIRE(cow::format_diff_area(*origin, *diff, format));
    open();
  }

  void open() {
    cow::OpenOptions options;
    options.boot_id = boot_id;
    options.grow_step_bytes = 8U << 20U;
    auto opened = cow::Volume::open(*origin, *diff, options);
    REQUIRE(opened);
    volume = std::move(*opened);
  }

  // Each writer has sectors of its own: runs of kSectorsPerWrite, dealt in turn.
  void write_for_ever(std::size_t writer) {
    Prng prng(seed() + writer);
    Image bytes(kSectorsPerWrite * kSector);
    for (std::uint64_t sequence = 1; !stop.load(); ++sequence) {
      const std::uint64_t run =
          prng.below(kSectors / kSectorsPerWrite / kWriters) * kWriters + writer;
      const std::uint64_t first = run * kSectorsPerWrite + prng.below(8);
      const std::uint64_t count = 1 + prng.below(kSectorsPerWrite - 8);
      for (std::uint64_t i = 0; i < count; ++i) issued[first + i].store(sequence);
      block::Request request;
      request.op = block::Op::write;
      request.offset_bytes = first * kSector;
      request.size_bytes = count * kSector;
      request.buffer = bytes.data();
      stamp(std::span(bytes).first(request.size_bytes), request.offset_bytes, sequence);
      if (block::run(volume->live(), request) != 0) failed.store(true);
      for (std::uint64_t i = 0; i < count; ++i) acknowledged[first + i].store(sequence);
      if (prng.chance(1, 64)) {
        request.op = block::Op::flush;
        if (block::run(volume->live(), request) != 0) failed.store(true);
      }
    }
  }

  SnapshotId take(bool persistent, std::vector<std::uint64_t>& low,
                  std::vector<std::uint64_t>& high) {
    cow::PrepareRequest request;
    request.id = SnapshotId::random();
    request.persistent = persistent;
    REQUIRE(volume->prepare(request));
    low.assign(acknowledged.begin(), acknowledged.end());
    volume->hold();
    REQUIRE(volume->drain(kDrainLimit));
    volume->commit(request.id, 1);
    volume->release();
    high.assign(issued.begin(), issued.end());
    REQUIRE(volume->post_commit(request.id, {request.id}));
    REQUIRE(volume->confirm(request.id));
    return request.id;
  }

  Image read(const SnapshotId& id) {
    const auto device = volume->open_snapshot(id);
    REQUIRE(device);
    Image bytes(kOriginBytes);
    block::Request request;
    request.size_bytes = bytes.size();
    request.buffer = bytes.data();
    REQUIRE(block::run(**device, request) == 0);
    return bytes;
  }

  static void check(const Image& seen, const std::vector<std::uint64_t>& low,
                    const std::vector<std::uint64_t>& high) {
    for (std::uint64_t sector = 0; sector < kSectors; ++sector) {
      std::uint64_t words[2] = {};
      std::memcpy(words, seen.data() + sector * kSector, sizeof words);
      if (words[0] != sector * kSector || words[1] < low[sector] || words[1] > high[sector]) {
        FAIL("sector " << sector << " shows " << sector_text(seen.data() + sector * kSector)
                       << ", should be of sequence " << low[sector] << " to " << high[sector]);
      }
    }
  }

  TempDir dir{TempDir::memory()};
  Guid boot_id = Guid::random();
  std::unique_ptr<FileDevice> origin;
  std::unique_ptr<FileDevice> diff;
  std::unique_ptr<cow::Volume> volume;
  std::vector<std::atomic<std::uint64_t>> issued;
  std::vector<std::atomic<std::uint64_t>> acknowledged;
  std::atomic<bool> stop = false;
  std::atomic<bool> failed = false;
};

struct StopAndJoin {
  std::atomic<bool>& stop;
  std::vector<std::thread>& threads;
  ~StopAndJoin() {
    stop.store(true);
    for (std::thread& thread : threads) thread.join();
    threads.clear();
  }
};

}  // namespace

TEST_CASE("snapshots under load by several threads are of one instant and stay so", "[cow]") {
  Stress stress;
  Prng prng(seed());
  std::vector<SnapshotId> kept;
  std::vector<Image> images;
  {
    std::vector<std::thread> writers;
    const StopAndJoin joined{stress.stop, writers};
    for (std::size_t i = 0; i < kWriters; ++i) {
      writers.emplace_back([&stress, i] { stress.write_for_ever(i); });
    }
    const int rounds = long_run() ? 500 : 30;
    std::vector<std::uint64_t> low;
    std::vector<std::uint64_t> high;
    for (int round = 0; round < rounds; ++round) {
      const SnapshotId id = stress.take(prng.chance(1, 3), low, high);
      const Image seen = stress.read(id);
      Stress::check(seen, low, high);
      kept.push_back(id);
      images.push_back(seen);
      if (kept.size() > 4) {
        const auto victim = static_cast<std::ptrdiff_t>(prng.below(kept.size()));
        REQUIRE(stress.read(kept[static_cast<std::size_t>(victim)]) ==
                images[static_cast<std::size_t>(victim)]);
        REQUIRE(stress.volume->remove(kept[static_cast<std::size_t>(victim)], false));
        kept.erase(kept.begin() + victim);
        images.erase(images.begin() + victim);
      }
    }
  }
  CHECK_FALSE(stress.failed.load());
  CHECK(stress.volume->statistics().snapshots_lost == 0);
  for (std::size_t i = 0; i < kept.size(); ++i) CHECK(stress.read(kept[i]) == images[i]);
  REQUIRE(stress.volume->close());
  stress.volume.reset();
  stress.open();
  for (std::size_t i = 0; i < kept.size(); ++i) CHECK(stress.read(kept[i]) == images[i]);
}
