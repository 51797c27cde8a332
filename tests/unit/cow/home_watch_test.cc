// SPDX-License-Identifier: Apache-2.0
//
// Somebody outside reads a snapshot by what the volume tells him: whether it is all, in time, and
// over in time.
#include "provider/cow/home_watch.h"

#include "engine/shm/view_reader.h"
#include "provider/cow/migrate.h"
#include "provider/frontend/shm/view_writer.h"
#include "tests/support/cow_world.h"
#include "tests/support/memory_lost_store.h"
#include "tests/support/seed.h"

using namespace umbra;
using namespace umbra::test;

namespace {

// Reads the disks of a world, which must not be done through the volume.
class Viewer final : public shm::Storage {
 public:
  Viewer(CowWorld& world, const SnapshotId& snapshot) : world_(world) {
    const cow::HomeLayout homes = world.volume->home_layout();
    shm::Layout layout;
    layout.snapshot = snapshot;
    layout.volume_bytes = homes.volume_bytes;
    layout.chunk_bytes = homes.chunk_bytes;
    REQUIRE(layout.chunk_count() == homes.chunk_count);
    REQUIRE(layout.checksums_per_chunk() == homes.checksums_per_chunk);
    memory = std::make_shared<Memory>(layout.total_bytes() / sizeof(std::uint64_t));
    writer = std::make_shared<shm::ViewWriter>(layout, std::as_writable_bytes(std::span(*memory)));
    const SimMachine::Inline waits(world.machine);
    auto begun = world.volume->watch_homes(snapshot, writer);
    INFO((begun ? std::string() : begun.error().to_string()));
    REQUIRE(begun);
    watch = std::move(*begun);
  }

  [[nodiscard]] Status read(Image& out) {
    out.resize(writer->view().layout().volume_bytes);
    return shm::read_view(writer->view(), *this, 0, out);
  }
  [[nodiscard]] shm::Home home(std::uint64_t chunk) const {
    return shm::Home::of(writer->view().home(chunk).load());
  }

  int read_origin(std::uint64_t at, std::span<std::byte> out) noexcept override {
    return copy(world_.origin, at, out);
  }
  int read_diff_area(std::uint64_t at, std::span<std::byte> out) noexcept override {
    return copy(*world_.area, at, out);
  }
  bool is_alive() noexcept override { return true; }

  using Memory = std::vector<std::uint64_t>;
  std::shared_ptr<Memory> memory;
  std::shared_ptr<shm::ViewWriter> writer;  // Into it.
  std::unique_ptr<cow::HomeWatch> watch;

 private:
  static int copy(SimDisk& disk, std::uint64_t at, std::span<std::byte> out) {
    const auto& bytes = disk.bytes();
    if (at + out.size() > bytes.size()) return EIO;
    std::memcpy(out.data(), bytes.data() + at, out.size());
    return 0;
  }
  CowWorld& world_;
};

void check_shows(Viewer& viewer, const Image& wanted) {
  Image seen;
  const Status read = viewer.read(seen);
  INFO((read ? std::string() : read.error().to_string()));
  REQUIRE(read);
  CowWorld::check_same(seen, wanted, "view");
}

constexpr std::uint64_t kChunk = 16U << 10U;

}  // namespace

TEST_CASE("a view shows its snapshot, whatever is where and whatever is written", "[cow][view]") {
  CowWorldOptions options;
  options.reflink = GENERATE(false, true);
  CowWorld world(seed(), options);
  world.open();
  Prng random(seed() + 1);
  const auto write = [&] {
    const std::uint64_t at = random.below(64) * kChunk + random.below(4) * 4096;
    REQUIRE(world.write(at, 512 + random.below(4) * 512) == 0);
  };
  std::map<SnapshotId, std::unique_ptr<Viewer>> viewers;
  for (int round = 0; round < 60; ++round) {
    write();
    if (round % 12 == 3) {
      const SnapshotId id = world.take(round % 24 == 3);
      for (std::uint64_t i = random.below(4); i > 0; --i) write();
      viewers.emplace(id, std::make_unique<Viewer>(world, id));
    }
    if (round % 20 == 19) world.machine.run_until_idle();  // Checksums of what is shared.
    for (const auto& [id, viewer] : viewers) check_shows(*viewer, world.images.at(id));
  }
  viewers.clear();
  world.check_all();
}

TEST_CASE("zeroes, free chunks and what was written to the snapshot are told", "[cow][view]") {
  CowWorld world(seed());
  world.open();
  REQUIRE(world.run(block::Op::write_zeroes, 2 * kChunk, kChunk) == 0);
  std::fill_n(world.twin.begin() + 2 * kChunk, kChunk, std::byte{0});
  const SnapshotId id = world.take_unconfirmed(true);
  Image& shown = world.images.at(id);
  {
    const SimMachine::Inline waits(world.machine);
    const cow::ChangedRange free{5 * kChunk, 2 * kChunk};
    REQUIRE(world.volume->exempt_free(id, {&free, 1}));
    std::fill_n(shown.begin() + 5 * kChunk, 2 * kChunk, std::byte{0});
    REQUIRE(world.volume->begin_recovery(id));
  }
  for (const std::uint64_t at : {3 * kChunk, 6 * kChunk + 512}) {
    const auto device = world.volume->open_for_recovery(id);
    REQUIRE(device);
    REQUIRE(world.write_posted(**device, shown, at, 1024) == 0);
  }
  {
    const SimMachine::Inline waits(world.machine);
    REQUIRE(world.volume->end_recovery(id));
    REQUIRE(world.volume->confirm(id));
  }
  for (const std::uint64_t chunk : {2U, 3U, 5U}) REQUIRE(world.write(chunk * kChunk, 512) == 0);
  Viewer viewer(world, id);
  check_shows(viewer, shown);
  CHECK(viewer.home(2).kind == shm::Home::Kind::zeroes);
  CHECK(viewer.home(3).kind == shm::Home::Kind::data);
  CHECK(viewer.home(5).kind == shm::Home::Kind::zeroes);
  CHECK(viewer.home(7).kind == shm::Home::Kind::origin);
}

TEST_CASE("a home is told before the origin is written, and its place is left alone",
          "[cow][view]") {
  CowWorld world(seed());
  world.open();
  Prng random(seed() + 2);
  world.take(true);  // Its records keep segments in use.
  std::unique_ptr<Viewer> viewer;
  world.origin.fault = [&](const block::Request& request) {
    if (!viewer || viewer->writer->has_ended() || request.op != block::Op::write) return 0;
    const std::uint64_t end = request.offset_bytes + request.size_bytes;
    for (std::uint64_t at = request.offset_bytes / kChunk; at * kChunk < end; ++at) {
      CHECK(viewer->home(at).kind != shm::Home::Kind::origin);
    }
    return 0;
  };
  world.diff.fault = [&](const block::Request& request) {
    if (!viewer || viewer->writer->has_ended() || request.op == block::Op::flush) return 0;
    if (request.op == block::Op::read) return 0;
    for (std::uint64_t chunk = 0; chunk < 64; ++chunk) {
      const shm::Home home = viewer->home(chunk);
      if (home.kind != shm::Home::Kind::data) continue;
      const bool apart = request.offset_bytes + request.size_bytes <= home.offset_bytes ||
                         home.offset_bytes + kChunk <= request.offset_bytes;
      CHECK(apart);
    }
    return 0;
  };
  for (int round = 0; round < 6; ++round) {
    const SnapshotId id = world.take(round % 2 == 0);
    REQUIRE(world.write(random.below(64) * kChunk, kChunk) == 0);
    viewer = std::make_unique<Viewer>(world, id);
    for (int i = 0; i < 40; ++i) REQUIRE(world.write(random.below(64) * kChunk, kChunk) == 0);
    check_shows(*viewer, world.images.at(id));
    world.remove(id, true);
    CHECK(viewer->writer->has_ended());
    for (int i = 0; i < 10; ++i) REQUIRE(world.write(random.below(64) * kChunk, kChunk) == 0);
  }
  world.origin.fault = world.diff.fault = nullptr;
  viewer.reset();
  world.check_all();
}

TEST_CASE("a snapshot that is viewed is open", "[cow][view]") {
  CowWorld world(seed());
  world.open();
  const SnapshotId id = world.take(true);
  auto viewer = std::make_unique<Viewer>(world, id);
  const SimMachine::Inline waits(world.machine);
  CHECK(world.volume->remove(id, false).error().code == Errc::volume_in_use);
  CHECK_FALSE(viewer->writer->has_ended());
  const auto memory = viewer->memory;
  const auto writer = viewer->writer;
  viewer.reset();
  CHECK(writer->has_ended());  // Nobody tells it any more.
  CHECK(world.volume->remove(id, false));
}

TEST_CASE("a view ends with what it stands on", "[cow][view]") {
  MemoryLostStore lost;
  CowWorld world(seed());
  world.lost_store = &lost;
  world.open();
  const SnapshotId id = world.take(true);
  REQUIRE(world.write(0, kChunk) == 0);
  Viewer viewer(world, id);
  check_shows(viewer, world.images.at(id));
  SECTION("the snapshot is lost") {
    world.diff.fault = [](const block::Request& request) {
      return request.op == block::Op::write ? EIO : 0;
    };
    (void)world.run_posted(world.volume->live(), block::Op::write, kChunk, kChunk,
                           Image(kChunk, std::byte{7}));
    world.diff.fault = nullptr;
    world.machine.run_until_idle();
  }
  SECTION("the diff area is on another device") {
    world.spare.size_bytes_max = world.diff.size_bytes_max;
    const SimMachine::Inline waits(world.machine);
    REQUIRE(world.spare.resize(world.diff.geometry().size_bytes));
    REQUIRE(
        world.volume->migrate(world.spare, {}, [](const cow::MigrateProgress&) { return true; }));
  }
  SECTION("the volume is closed") {
    const SimMachine::Inline waits(world.machine);
    REQUIRE(world.volume->close());
  }
  SECTION("the volume goes as a crash leaves it") { world.volume.reset(); }
  CHECK(viewer.writer->has_ended());
  Image seen;
  CHECK(viewer.read(seen).error().code == Errc::snapshot_lost);
  if (world.volume) viewer.watch.reset();
}

TEST_CASE("what cannot be viewed", "[cow][view]") {
  CowWorld world(seed());
  world.open();
  shm::Layout layout;
  layout.volume_bytes = world.options.origin_bytes;
  layout.chunk_bytes = kChunk;
  std::vector<std::uint64_t> memory(layout.total_bytes() / sizeof(std::uint64_t));
  const auto sink =
      std::make_shared<shm::ViewWriter>(layout, std::as_writable_bytes(std::span(memory)));
  CHECK(world.volume->watch_homes(world.next_id(), sink).error().code == Errc::object_not_found);
  const SnapshotId id = world.take_unconfirmed(true);
  CHECK(world.volume->watch_homes(id, sink).error().code == Errc::bad_state);
  const SimMachine::Inline waits(world.machine);
  REQUIRE(world.volume->close());
  CHECK(world.volume->watch_homes(id, sink).error().code == Errc::bad_state);
}
