// SPDX-License-Identifier: Apache-2.0
//
// Chunks that the file system had free: which are exempt, what their first write costs, what the
// snapshot shows of them, and who else has to know.
#include "provider/cow/exempt.h"

#include "provider/cow/check.h"
#include "provider/cow/migrate.h"
#include "tests/support/change_watch.h"
#include "tests/support/seed.h"
#include "tests/support/volume_inside.h"

using namespace umbra;
using namespace umbra::test;

namespace {

constexpr std::uint64_t kChunk = 16U << 10U;
using Ranges = std::vector<cow::ChangedRange>;

Status exempt(CowWorld& world, const SnapshotId& id, const Ranges& free) {
  const SimMachine::Inline waits(world.machine);
  return world.volume->exempt_free(id, free);
}

void confirm(CowWorld& world, const SnapshotId& id) {
  const SimMachine::Inline waits(world.machine);
  REQUIRE(world.volume->confirm(id));
}

void zero(Image& image, std::uint64_t offset_bytes, std::uint64_t size_bytes) {
  const auto begin = image.begin() + static_cast<std::ptrdiff_t>(offset_bytes);
  std::fill(begin, begin + static_cast<std::ptrdiff_t>(size_bytes), std::byte{0});
}

// A confirmed snapshot of which `free` is exempt; its image says so.
SnapshotId take(CowWorld& world, bool persistent, const Ranges& free) {
  const SnapshotId id = world.take_unconfirmed(persistent);
  REQUIRE(exempt(world, id, free));
  for (const cow::ChangedRange& range : free) {
    zero(world.images.at(id), range.offset_bytes, range.size_bytes);
  }
  confirm(world, id);
  return id;
}

std::uint64_t exempt_bytes(CowWorld& world, const SnapshotId& id) {
  const auto record = world.volume->find(id);
  REQUIRE(record);
  return record->exempt_bytes;
}

std::uint64_t records(CowWorld& world) { return world.volume->statistics().records; }

void reopen_after_kill(CowWorld& world) {
  world.volume.reset();
  world.machine.run_until_idle();
  world.open();
}

std::vector<std::uint64_t> chunks_of(const Ranges& free, std::uint64_t volume_bytes) {
  std::vector<std::uint64_t> chunks;
  cow::wholly_free_chunks(free, kChunk, volume_bytes).for_each([&](std::uint64_t chunk) {
    chunks.push_back(chunk);
  });
  return chunks;
}

}  // namespace

TEST_CASE("a chunk is free if all of its bytes are, in ranges of any order", "[cow][exempt]") {
  constexpr std::uint64_t kVolume = 8 * kChunk + 512;  // The last chunk is a part.
  using Chunks = std::vector<std::uint64_t>;
  CHECK(chunks_of({}, kVolume).empty());
  CHECK(chunks_of({{0, kChunk}}, kVolume) == Chunks{0});
  CHECK(chunks_of({{512, kChunk}}, kVolume).empty());
  CHECK(chunks_of({{512, 2 * kChunk}}, kVolume) == Chunks{1});
  CHECK(chunks_of({{2 * kChunk, 512}, {kChunk, kChunk}, {2 * kChunk + 512, kChunk - 512}},
                  kVolume) == Chunks{1, 2});
  CHECK(chunks_of({{0, 3 * kChunk}, {kChunk, 512}}, kVolume) == Chunks{0, 1, 2});
  CHECK(chunks_of({{8 * kChunk, 512}}, kVolume) == Chunks{8});
  CHECK(chunks_of({{8 * kChunk, 256}}, kVolume).empty());
  CHECK(chunks_of({{7 * kChunk, ~std::uint64_t{0}}}, kVolume) == Chunks{7, 8});
  CHECK(chunks_of({{~std::uint64_t{0} - 5, 100}, {kVolume, 5}}, kVolume).empty());
}

TEST_CASE("bytes that are no exemption are refused", "[cow][exempt]") {
  cow::Exemption exemption;
  exemption.free.insert_range(5, 100);
  const auto good = exemption.encode();
  const auto back = cow::Exemption::decode(good, 4096);
  REQUIRE(back);
  CHECK(back->free == exemption.free);
  CHECK(back->chunks == 100);
  for (std::size_t size = 0; size + 1 < good.size(); ++size) {
    const auto cut = cow::Exemption::decode(std::span(good).first(size), 4096);
    CHECK((cut == nullptr || cut->free.empty()));
  }
  auto other = good;
  other[0] = std::byte{2};
  CHECK(cow::Exemption::decode(other, 4096) == nullptr);
  CHECK(cow::Exemption::decode(good, 0) == nullptr);
}

TEST_CASE("the first write to a free chunk copies nothing, and the copy shows zeroes there",
          "[cow][exempt]") {
  const bool persistent = GENERATE(true, false);
  CowWorld world(seed());
  world.open();
  const SnapshotId id = take(world, persistent, {{4 * kChunk, 8 * kChunk}});
  CHECK(exempt_bytes(world, id) == 8 * kChunk);
  world.check_all();  // Before anything is written.
  const std::uint64_t flushes = world.volume->statistics().diff_flushes;
  REQUIRE(world.write(5 * kChunk, 3 * kChunk) == 0);
  REQUIRE(world.write(5 * kChunk, 512) == 0);
  CHECK(records(world) == 0);
  CHECK(world.volume->statistics().diff_flushes == flushes);
  CHECK(world.volume->statistics().free_bytes_not_copied == 3 * kChunk);
  REQUIRE(world.write(3 * kChunk, 2 * kChunk) == 0);  // Over the border.
  CHECK(records(world) == 1);
  world.check_all();

  SECTION("after kill -9") { reopen_after_kill(world); }
  SECTION("after a stop") { world.reopen(); }
  CHECK(exempt_bytes(world, id) == 8 * kChunk);
  world.check_all();
  REQUIRE(world.write(6 * kChunk, 6 * kChunk) == 0);
  CHECK(records(world) == 1);
  world.check_all();
}

TEST_CASE("what an older copy needs is copied all the same", "[cow][exempt]") {
  CowWorld world(seed());
  world.open();
  const SnapshotId oldest = world.take(true);
  REQUIRE(world.write(4 * kChunk, 2 * kChunk) == 0);  // The oldest has these.
  const Ranges free{{4 * kChunk, 2 * kChunk}};
  const SnapshotId middle = world.take_unconfirmed(true);
  REQUIRE(exempt(world, middle, {{4 * kChunk, 4 * kChunk}}));
  CHECK(exempt_bytes(world, middle) == 2 * kChunk);  // 6 and 7 are the oldest's.
  zero(world.images.at(middle), 4 * kChunk, 2 * kChunk);
  confirm(world, middle);
  const SnapshotId newest = take(world, false, free);  // Exempt before, exempt again.

  const std::uint64_t before = records(world);
  REQUIRE(world.write(4 * kChunk, 4 * kChunk) == 0);
  CHECK(records(world) == before + 2);
  world.check_all();
  world.remove(newest);
  REQUIRE(world.write(4 * kChunk, 4 * kChunk) == 0);
  CHECK(records(world) == before + 2);
  world.check_all();
  world.remove(oldest);
  world.machine.run_until_idle();
  world.check_all();
  world.reopen();
  world.check_all();
}

TEST_CASE("a copy that keeps free blocks needs what the one before had exempt", "[cow][exempt]") {
  CowWorld world(seed());
  world.open();
  const SnapshotId lean = take(world, true, {{4 * kChunk, 4 * kChunk}});
  const SnapshotId whole = world.take(true);
  REQUIRE(world.write(4 * kChunk, 2 * kChunk) == 0);
  CHECK(records(world) == 2);
  world.check_all();
  world.remove(whole);
  REQUIRE(world.write(4 * kChunk, 4 * kChunk) == 0);
  world.check_all();
  world.remove(lean);
  world.check_all();
}

TEST_CASE("a list that comes late, twice, or for another copy is refused", "[cow][exempt]") {
  CowWorld world(seed());
  world.open();
  const Ranges free{{4 * kChunk, 4 * kChunk}};
  const SnapshotId first = world.take_unconfirmed(true);
  // What was written before the list came was copied, and is exempt all the same.
  REQUIRE(world.write(4 * kChunk, kChunk) == 0);
  CHECK(records(world) == 1);
  REQUIRE(exempt(world, first, free));
  CHECK(exempt(world, first, free).error().code == Errc::bad_state);
  zero(world.images.at(first), 4 * kChunk, 4 * kChunk);
  confirm(world, first);
  world.check_all();

  const SnapshotId confirmed = world.take(true);
  CHECK(exempt(world, confirmed, free).error().code == Errc::bad_state);
  CHECK(exempt(world, world.next_id(), free).error().code == Errc::object_not_found);
  const SnapshotId older = world.take_unconfirmed(true);
  const SnapshotId newer = world.take_unconfirmed(true);
  CHECK(exempt(world, older, free).error().code == Errc::bad_state);
  confirm(world, older);
  {
    const SimMachine::Inline waits(world.machine);
    REQUIRE(world.volume->begin_recovery(newer));
  }
  CHECK(exempt(world, newer, free).error().code == Errc::bad_state);
  world.remove(newer);
  const SnapshotId prepared = world.begin(true);
  CHECK(exempt(world, prepared, free).error().code == Errc::bad_state);
  world.remove(prepared);
  world.check_all();
}

// Two writes to a chunk that becomes free between them. Whether the first one's copy was still on
// its way then, which the order of the disks' operations decides.
bool met_the_copy(std::uint64_t seed) {
  CowWorld world(seed);
  world.open();
  const SnapshotId id = world.take_unconfirmed(true);
  world.machine.set_scheduled(true);
  struct Write {
    block::Request request;
    Image bytes = Image(kChunk);
    bool done = false;
  };
  std::array<Write, 2> writes;
  for (Write& write : writes) {
    write.request.op = block::Op::write;
    write.request.offset_bytes = 4 * kChunk;
    write.request.size_bytes = kChunk;
    write.request.buffer = write.bytes.data();
    write.request.owner = &write;
    write.request.complete = [](block::Request& request) noexcept {
      static_cast<Write*>(request.owner)->done = true;
    };
  }
  std::uint64_t issued = 0;
  world.origin.fault = [&issued](const block::Request& request) {
    if (request.op == block::Op::write) ++issued;
    return 0;
  };
  world.volume->live().submit(writes[0].request);  // Claims a copy, which reads the origin.
  REQUIRE(exempt(world, id, {{4 * kChunk, kChunk}}));
  const bool on_its_way = issued == 0;
  world.volume->live().submit(writes[1].request);
  if (on_its_way) CHECK(issued == 0);  // Nothing overtakes the copy.
  world.machine.run_until_idle();
  CHECK(writes[0].done);
  CHECK(writes[1].done);
  CHECK(issued == 2);
  CHECK(records(world) == 1);
  world.origin.fault = nullptr;
  world.machine.set_scheduled(false);
  return on_its_way;
}

TEST_CASE("a copy that is on its way when the list comes is waited for", "[cow][exempt]") {
  bool met = false;
  for (std::uint64_t attempt = 0; attempt < 64 && !met; ++attempt) {
    met = met_the_copy(seed() + attempt);
  }
  CHECK(met);
}

TEST_CASE("what is written to a copy in its recovery window is shown before its free blocks",
          "[cow][exempt][overlay]") {
  CowWorld world(seed());
  world.open();
  const SnapshotId id = world.take_unconfirmed(true);
  REQUIRE(exempt(world, id, {{4 * kChunk, 4 * kChunk}}));
  Image& image = world.images.at(id);
  zero(image, 4 * kChunk, 4 * kChunk);
  {
    const SimMachine::Inline waits(world.machine);
    REQUIRE(world.volume->begin_recovery(id));
  }
  const auto device = world.volume->open_for_recovery(id);
  REQUIRE(device);
  REQUIRE(world.write_posted(**device, image, 5 * kChunk + 512, 1024) == 0);
  REQUIRE(world.write(4 * kChunk, 4 * kChunk) == 0);
  {
    const SimMachine::Inline waits(world.machine);
    REQUIRE(world.volume->end_recovery(id));
  }
  confirm(world, id);
  world.check_all();
  world.reopen();
  world.check_all();
}

TEST_CASE("changed blocks compare what copies show of free chunks", "[cow][exempt][changes]") {
  CowWorld world(seed());
  world.open();
  const Ranges free{{4 * kChunk, 4 * kChunk}};
  const SnapshotId first = take(world, true, free);
  REQUIRE(world.write(5 * kChunk, kChunk) == 0);  // Free in both: not a change.
  const SnapshotId second = take(world, true, free);
  REQUIRE(world.write(6 * kChunk, kChunk) == 0);
  const SnapshotId whole = world.take(true);

  const auto changed = [&](const Guid& from, const std::optional<SnapshotId>& to) {
    std::vector<std::uint64_t> chunks;
    const auto flags = changed_chunks(*world.volume, world.options, from, to);
    for (std::uint64_t chunk = 0; chunk < flags.size(); ++chunk) {
      if (flags[chunk]) chunks.push_back(chunk);
    }
    return chunks;
  };
  using Chunks = std::vector<std::uint64_t>;
  CHECK(changed(first, second).empty());
  CHECK(changed(first, whole) == Chunks{4, 5, 6, 7});
  CHECK(changed(second, std::nullopt) == Chunks{4, 5, 6, 7});

  cow::CheckpointRequest request;
  request.id = CheckpointId{world.next_id()};
  request.snapshot = first;
  request.name = "first";
  {
    const SimMachine::Inline waits(world.machine);
    REQUIRE(world.volume->create_checkpoint(request));
  }
  world.remove(first);
  CHECK(changed(request.id, whole) == Chunks{4, 5, 6, 7});
  world.remove(second);
  world.remove(whole);
  // Nobody needs it, so it may be exempt although it was not at the checkpoint.
  REQUIRE(world.run_posted(world.volume->live(), block::Op::write_zeroes, 512, 512) == 0);
  const SnapshotId last = take(world, true, {{10 * kChunk, kChunk}});
  CHECK(changed(request.id, last) == Chunks{0, 4, 5, 6, 7, 10});
}

TEST_CASE("a revert leaves alone what was free", "[cow][exempt][revert]") {
  CowWorld world(seed());
  world.open();
  const SnapshotId id = take(world, true, {{4 * kChunk, 4 * kChunk}});
  const SnapshotId whole = world.take(true);  // Makes records of the free chunks too.
  REQUIRE(world.write(2 * kChunk, 4 * kChunk) == 0);
  Image wanted = world.images.at(id);
  std::copy_n(world.twin.begin() + 4 * kChunk, 4 * kChunk, wanted.begin() + 4 * kChunk);
  world.machine.run_until_idle();
  {
    const SimMachine::Inline waits(world.machine);
    REQUIRE(world.volume->begin_revert(id));
  }
  world.images.erase(whole);
  world.machine.run_until_idle();
  CHECK_FALSE(world.volume->revert_status().under_way);
  world.twin = wanted;
  world.check_all();
}

TEST_CASE("samples of free chunks say nothing of who has written", "[cow][exempt][fingerprint]") {
  CowWorld world(seed());
  world.open();
  (void)take(world, true, {{0, 1U << 20U}});
  for (std::uint64_t chunk = 1; chunk < 64; ++chunk) {
    REQUIRE(world.write(chunk * kChunk, kChunk) == 0);
  }
  reopen_after_kill(world);  // Would be refused as written by somebody else.
  world.check_all();
}

TEST_CASE("the exemption goes with its copy, and a damaged one costs the copy", "[cow][exempt]") {
  CowWorld world(seed());
  world.open();
  const SnapshotId id = take(world, true, {{4 * kChunk, 4 * kChunk}});
  cow::Volume& volume = *world.volume;
  CHECK(cow::VolumeInside::list(volume, cow::BlobKind::exemption) == std::vector<Guid>{id});

  SECTION("removed") {
    world.remove(id);
    CHECK(cow::VolumeInside::list(volume, cow::BlobKind::exemption).empty());
  }
  SECTION("not removed with it, by a cut") {
    const Guid orphan = world.next_id();
    const std::array<std::byte, 4> bytes{std::byte{1}};
    {
      const SimMachine::Inline waits(world.machine);
      REQUIRE(cow::VolumeInside::put(volume, cow::BlobKind::exemption, orphan, bytes));
      REQUIRE(volume.close());
    }
    world.volume.reset();
    {
      const SimMachine::Inline waits(world.machine);
      const auto report = cow::check(world.diff, {});
      REQUIRE(report);
      CHECK(report->findings.size() == 1);
    }
    world.open();
    CHECK(cow::VolumeInside::list(*world.volume, cow::BlobKind::exemption) ==
          std::vector<Guid>{id});
    world.check_all();
  }
  SECTION("damaged") {
    const std::array<std::byte, 3> bytes{};
    {
      const SimMachine::Inline waits(world.machine);
      REQUIRE(cow::VolumeInside::put(volume, cow::BlobKind::exemption, id, bytes));
    }
    world.reopen();
    const auto record = world.volume->find(id);
    REQUIRE(record);
    CHECK(record->lost);
    Image seen;
    CHECK(world.read_snapshot(id, seen) == EIO);
  }
}

TEST_CASE("without room for the list everything is copied", "[cow][exempt]") {
  CowWorldOptions options;
  options.chunk_bytes = 4U << 10U;
  options.origin_bytes = 256U << 20U;  // Each second chunk free: more than a table slot holds.
  options.segments = 2;
  options.segments_max = 2;
  CowWorld world(seed(), options);
  world.open();
  const SnapshotId id = world.take_unconfirmed(true);
  std::uint64_t filled = options.origin_bytes / 2;
  for (; cow::VolumeInside::free_segments(*world.volume) > 1; filled += kChunk) {
    REQUIRE(world.write(filled, kChunk) == 0);
  }
  const std::uint64_t before = records(world);
  Ranges free;
  for (std::uint64_t at = 0; at < options.origin_bytes; at += 8192) free.push_back({at, 4096});
  CHECK(exempt(world, id, free).error().code == Errc::insufficient_storage);
  CHECK(exempt_bytes(world, id) == 0);
  confirm(world, id);
  REQUIRE(world.write(8192, 4096) == 0);
  CHECK(records(world) == before + 1);
  const auto device = world.volume->open_snapshot(id);
  REQUIRE(device);
  Image seen;
  REQUIRE(world.read(**device, seen, 0, 1U << 20U) == 0);
  CHECK(std::equal(seen.begin(), seen.end(), world.images.at(id).begin()));
}

TEST_CASE("a list that fills chunks moves with its diff area", "[cow][exempt]") {
  CowWorldOptions options;
  options.chunk_bytes = 4U << 10U;
  options.origin_bytes = 160U << 20U;
  CowWorld world(seed(), options);
  SimDisk target(world.machine, world.diff_bytes(options.segments));
  target.size_bytes_max = world.diff_bytes(options.segments_max);
  world.open();
  const SnapshotId id = world.take_unconfirmed(true);
  Ranges free;
  for (std::uint64_t at = 0; at < options.origin_bytes; at += 8192) free.push_back({at, 4096});
  REQUIRE(exempt(world, id, free));
  confirm(world, id);
  const auto kept = cow::VolumeInside::get(*world.volume, cow::BlobKind::exemption, id);
  REQUIRE(kept);
  CHECK(kept->size() > 3972);
  cow::MigrateOptions move;
  move.hold_max = std::chrono::seconds(30);
  move.from_path = "/from";
  move.to_path = "/to";
  const auto moved = world.volume->migrate(target, move, [](const auto&) { return true; });
  INFO((moved ? std::string() : moved.error().to_string()));
  REQUIRE(moved);
  world.volume.reset();
  auto opened = cow::Volume::open(world.origin, target, world.open_options());
  REQUIRE(opened);
  CHECK(cow::VolumeInside::get(**opened, cow::BlobKind::exemption, id).value() == *kept);
  CHECK((*opened)->find(id)->exempt_bytes == options.origin_bytes / 2);
  opened->reset();
}

TEST_CASE("who cannot have a copy made loses only copies that need it", "[cow][exempt]") {
  CowWorld world(seed());
  world.open();
  const SnapshotId lean = take(world, true, {{4 * kChunk, 4 * kChunk}});
  const SnapshotId whole = world.take(true);
  world.origin.fault = [](const block::Request& request) {
    return request.op == block::Op::read ? EIO : 0;
  };
  REQUIRE(world.run_posted(world.volume->live(), block::Op::write_zeroes, 4 * kChunk, 512) == 0);
  world.origin.fault = nullptr;
  CHECK(world.volume->find(whole)->lost);
  CHECK_FALSE(world.volume->find(lean)->lost);
  world.check_snapshot(lean);
}
