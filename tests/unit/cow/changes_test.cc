// SPDX-License-Identifier: Apache-2.0
//
// Changed blocks of a volume and its checkpoints: told exactly where nothing was forgotten, told at
// least under any load, and what happens when something cannot be noted.
#include "tests/support/change_watch.h"
#include "tests/support/seed.h"

using namespace umbra;
using namespace umbra::test;

namespace {

constexpr std::uint64_t kChunk = 16U << 10U;
using Ranges = std::vector<cow::ChangedRange>;

// Jobs of the volume run as steps of the machine, so a write that waits for one is not waited for.
int write_and_settle(CowWorld& world, std::uint64_t offset_bytes, std::uint64_t size_bytes) {
  struct Write {
    block::Request request;
    Image buffer;
    bool done = false;
  } write;
  write.buffer.resize(size_bytes);
  stamp(write.buffer, offset_bytes, ++world.sequence);
  write.request.op = block::Op::write;
  write.request.offset_bytes = offset_bytes;
  write.request.size_bytes = size_bytes;
  write.request.buffer = write.buffer.data();
  write.request.owner = &write;
  write.request.complete = [](block::Request& request) noexcept {
    static_cast<Write*>(request.owner)->done = true;
  };
  world.volume->live().submit(write.request);
  world.machine.run_until_idle();
  if (!write.done) {  // Held: it fails when the volume goes.
    world.volume.reset();
    REQUIRE(write.done);
    return EINPROGRESS;
  }
  if (write.request.error == 0) {
    std::copy(write.buffer.begin(), write.buffer.end(),
              world.twin.begin() + static_cast<std::ptrdiff_t>(offset_bytes));
  }
  return write.request.error;
}

Ranges changed(cow::Volume& volume, const Guid& from, const std::optional<SnapshotId>& to) {
  Ranges all;
  const Status listed =
      volume.changed_blocks(from, to, [&](std::span<const cow::ChangedRange> ranges) {
        all.insert(all.end(), ranges.begin(), ranges.end());
        return true;
      });
  INFO((listed ? std::string() : listed.error().to_string()));
  REQUIRE(listed);
  return all;
}

Errc why_not(cow::Volume& volume, const Guid& from, const std::optional<SnapshotId>& to) {
  const Status listed = volume.changed_blocks(from, to, [](auto) { return true; });
  return listed ? Errc::ok : listed.error().code;
}

CheckpointId checkpoint(CowWorld& world, const SnapshotId& snapshot, const std::string& name) {
  cow::CheckpointRequest request;
  request.id = CheckpointId{world.next_id()};
  request.snapshot = snapshot;
  request.name = name;
  const SimMachine::Inline waits(world.machine);
  const Status made = world.volume->create_checkpoint(request);
  INFO((made ? std::string() : made.error().to_string()));
  REQUIRE(made);
  return request.id;
}

void reopen(CowWorld& world, bool in_order) {
  if (in_order) {
    const SimMachine::Inline waits(world.machine);
    REQUIRE(world.volume->close());
  }
  world.volume.reset();
  if (!in_order) {
    world.machine.kill();
    world.machine.power_on();
  }
  world.open();
}

class Lost final : public cow::LostStore {
 public:
  Status add(const VolumeId& volume, std::span<const SnapshotId> snapshots) override {
    (void)volume;
    if (broken) return fail(Errc::io_error, "broken");
    ids.insert(ids.end(), snapshots.begin(), snapshots.end());
    return {};
  }
  Result<std::vector<SnapshotId>> list(const VolumeId& volume) override {
    (void)volume;
    return ids;
  }
  std::vector<SnapshotId> ids;
  bool broken = false;
};

}  // namespace

TEST_CASE("between two snapshots, and to now, exactly the chunks that were written are told",
          "[cow][changes]") {
  CowWorld world(seed());
  world.open();
  const SnapshotId first = world.take(true);
  REQUIRE(world.write(0, kSector) == 0);
  REQUIRE(world.write(5 * kChunk - kSector, 2 * kSector) == 0);  // Over a border.
  const SnapshotId second = world.take(false);
  REQUIRE(world.write(5 * kChunk, kSector) == 0);
  REQUIRE(world.write(63 * kChunk, kChunk) == 0);
  const SnapshotId third = world.take(true);

  cow::Volume& volume = *world.volume;
  CHECK(changed(volume, first, second) == Ranges{{0, kChunk}, {4 * kChunk, 2 * kChunk}});
  CHECK(changed(volume, second, third) == Ranges{{5 * kChunk, kChunk}, {63 * kChunk, kChunk}});
  const Ranges all{{0, kChunk}, {4 * kChunk, 2 * kChunk}, {63 * kChunk, kChunk}};
  CHECK(changed(volume, first, third) == all);
  CHECK(changed(volume, first, std::nullopt) == all);
  CHECK(changed(volume, third, std::nullopt).empty());
  Ranges rest;
  REQUIRE(volume.changed_blocks(
      first, third,
      [&](const auto& ranges) {
        rest.insert(rest.end(), ranges.begin(), ranges.end());
        return true;
      },
      5 * kChunk + 1));
  CHECK(rest == Ranges{{5 * kChunk, kChunk}, {63 * kChunk, kChunk}});
  const auto part = [&](std::uint64_t begin, std::uint64_t end) {
    Ranges told;
    REQUIRE(volume.changed_blocks(
        first, third,
        [&](const auto& ranges) {
          told.insert(told.end(), ranges.begin(), ranges.end());
          return true;
        },
        begin, end));
    return told;
  };
  CHECK(part(kChunk, 5 * kChunk) == Ranges{{4 * kChunk, kChunk}});
  CHECK(part(kChunk, 5 * kChunk + 1) == Ranges{{4 * kChunk, 2 * kChunk}});
  CHECK(part(6 * kChunk, 63 * kChunk).empty());
  CHECK(part(63 * kChunk, 64 * kChunk) == Ranges{{63 * kChunk, kChunk}});
  CHECK(part(5 * kChunk, 5 * kChunk).empty());
  CHECK(changed(volume, first, first).empty());

  world.remove(second);  // Its records stay for the first, or are not the only ones.
  CHECK(changed(volume, first, third) == all);
  reopen(world, false);
  CHECK(changed(*world.volume, first, third) == all);
}

TEST_CASE("an end that is not there, not made yet, lost or the younger one is refused",
          "[cow][changes]") {
  CowWorld world(seed());
  world.open();
  const SnapshotId first = world.take(true);
  const SnapshotId second = world.take(true);
  const SnapshotId prepared = world.begin(true);
  cow::Volume& volume = *world.volume;
  CHECK(why_not(volume, second, first) == Errc::invalid_argument);
  CHECK(why_not(volume, world.next_id(), first) == Errc::object_not_found);
  CHECK(why_not(volume, first, world.next_id()) == Errc::object_not_found);
  CHECK(why_not(volume, first, prepared) == Errc::bad_state);
  CHECK(why_not(volume, prepared, std::nullopt) == Errc::bad_state);

  world.origin.fault = [](const block::Request& request) {
    return request.op == block::Op::read ? EIO : 0;
  };
  REQUIRE(write_and_settle(world, 0, kSector) == 0);
  world.origin.fault = nullptr;
  CHECK(why_not(volume, second, std::nullopt) == Errc::snapshot_lost);
}

TEST_CASE("ranges come in pieces, and the sink may have enough", "[cow][changes]") {
  CowWorldOptions options;
  options.origin_bytes = std::uint64_t{4100} * 2 * 4096 + 1536;  // The last chunk is a part.
  options.chunk_bytes = 4096;
  options.segments_max = 32;
  CowWorld world(seed(), options);
  world.open();
  const SnapshotId first = world.take(false);
  for (std::uint64_t chunk = 0; chunk <= 4100; ++chunk) {
    REQUIRE(world.write(chunk * 2 * 4096, kSector) == 0);
    world.machine.run_until_idle();
  }
  std::size_t calls = 0;
  Ranges all;
  REQUIRE(world.volume->changed_blocks(first, std::nullopt, [&](const auto& ranges) {
    ++calls;
    all.insert(all.end(), ranges.begin(), ranges.end());
    return true;
  }));
  CHECK(calls == 5);
  REQUIRE(all.size() == 4101);
  CHECK(all.back() == cow::ChangedRange{std::uint64_t{4100} * 2 * 4096, 1536});
  calls = 0;
  REQUIRE(world.volume->changed_blocks(first, std::nullopt, [&](const auto& ranges) {
    calls += ranges.size();
    return false;
  }));
  CHECK(calls == 1024);
}

TEST_CASE("a snapshot that goes while its changes are listed makes the list an error",
          "[cow][changes]") {
  CowWorld world(seed());
  world.open();
  const SnapshotId first = world.take(true);
  REQUIRE(world.write(0, kSector) == 0);
  const Status listed = world.volume->changed_blocks(first, std::nullopt, [&](const auto&) {
    world.remove(first);
    return true;
  });
  REQUIRE_FALSE(listed);
  CHECK(listed.error().code == Errc::object_not_found);
}

TEST_CASE("a checkpoint knows what changed when every snapshot is gone", "[cow][changes]") {
  CowWorld world(seed());
  world.open();
  REQUIRE(write_and_settle(world, 9 * kChunk, kSector) == 0);  // Before it: not told.
  const SnapshotId first = world.take(false);
  REQUIRE(write_and_settle(world, 0, kSector) == 0);  // Before it is made, after its instant.
  const CheckpointId weekly = checkpoint(world, first, "weekly");
  REQUIRE(write_and_settle(world, 2 * kChunk, kSector) == 0);
  world.remove(first);
  REQUIRE(write_and_settle(world, 4 * kChunk, kSector) == 0);
  const Ranges until_now{{0, kChunk}, {2 * kChunk, kChunk}, {4 * kChunk, kChunk}};
  CHECK(changed(*world.volume, weekly, std::nullopt) == until_now);

  reopen(world, true);
  CHECK(changed(*world.volume, weekly, std::nullopt) == until_now);
  const SnapshotId second = world.take(true);
  REQUIRE(write_and_settle(world, 6 * kChunk, kSector) == 0);
  REQUIRE(write_and_settle(world, 0, kSector) == 0);
  CHECK(changed(*world.volume, weekly, second) == until_now);
  const CheckpointId later = checkpoint(world, second, "later");
  CHECK(changed(*world.volume, later, std::nullopt) == Ranges{{0, kChunk}, {6 * kChunk, kChunk}});
  world.remove(second);
  reopen(world, true);

  const auto records = world.volume->list_checkpoints();
  REQUIRE(records.size() == 2);
  CHECK(records[0].id == weekly);
  CHECK(records[0].name == "weekly");
  CHECK(records[0].snapshot == first);
  CHECK(records[0].creation_filetime == 1);
  CHECK(records[1].id == later);
  REQUIRE(world.volume->remove_checkpoint(later));
  CHECK(changed(*world.volume, weekly, std::nullopt) ==
        Ranges{{0, kChunk}, {2 * kChunk, kChunk}, {4 * kChunk, kChunk}, {6 * kChunk, kChunk}});
  REQUIRE(world.volume->remove_checkpoint(weekly));
  CHECK(world.volume->list_checkpoints().empty());
  CHECK(why_not(*world.volume, weekly, std::nullopt) == Errc::object_not_found);
}

TEST_CASE("after a crash a checkpoint tells regions, and chunks again once it was saved",
          "[cow][changes]") {
  CowWorld world(seed());
  world.open();
  const SnapshotId first = world.take(true);
  const CheckpointId id = checkpoint(world, first, "c");
  world.remove(first);
  REQUIRE(write_and_settle(world, 20 * kChunk, kSector) == 0);
  reopen(world, false);
  CHECK(changed(*world.volume, id, std::nullopt) == Ranges{{16 * kChunk, 16 * kChunk}});
  // The region is noted already: no flush is needed for its other chunks.
  const std::uint64_t before = world.machine.operations();
  REQUIRE(write_and_settle(world, 21 * kChunk, kSector) == 0);
  CHECK(world.machine.operations() == before + 1);
  REQUIRE(write_and_settle(world, 21 * kChunk + kSector, kSector) == 0);
  CHECK(world.machine.operations() == before + 2);
}

TEST_CASE("with a checkpoint and no snapshot a discard is applied, and told", "[cow][changes]") {
  CowWorld world(seed());
  world.open();
  const SnapshotId first = world.take(true);
  const CheckpointId id = checkpoint(world, first, "c");
  world.remove(first);
  int discards = 0;
  world.origin.fault = [&](const block::Request& seen) {
    if (seen.op == block::Op::discard) ++discards;
    return 0;
  };
  block::Request request;
  request.op = block::Op::discard;
  request.offset_bytes = 3 * kChunk;
  request.size_bytes = kChunk;
  request.complete = [](block::Request&) noexcept {};
  world.volume->live().submit(request);
  world.machine.run_until_idle();
  CHECK(request.error == 0);
  CHECK(changed(*world.volume, id, std::nullopt) == Ranges{{3 * kChunk, kChunk}});
  CHECK(discards == 1);
}

TEST_CASE("what a checkpoint cannot be made of is refused", "[cow][changes]") {
  CowWorld world(seed());
  world.open();
  const SnapshotId first = world.take(true);
  const SnapshotId prepared = world.begin(true);
  const auto why = [&](const SnapshotId& snapshot, const std::string& name) {
    const Status made =
        world.volume->create_checkpoint({CheckpointId{world.next_id()}, snapshot, name});
    return made ? Errc::ok : made.error().code;
  };
  CHECK(why(first, "") == Errc::invalid_argument);
  CHECK(why(first, "a\nb") == Errc::invalid_argument);
  CHECK(why(first, std::string(256, 'x')) == Errc::invalid_argument);
  CHECK(why(prepared, "a") == Errc::bad_state);
  CHECK(why(world.next_id(), "a") == Errc::object_not_found);
  CHECK(why(first, "a") == Errc::ok);
  CHECK(why(first, "a") == Errc::object_already_exists);
  for (std::size_t i = 1; i < cow::kCheckpointsMax; ++i) {
    REQUIRE(why(first, "a" + std::to_string(i)) == Errc::ok);
  }
  CHECK(why(first, "one more") == Errc::limit_reached);
  const Status gone = world.volume->remove_checkpoint(CheckpointId{world.next_id()});
  REQUIRE_FALSE(gone);
  CHECK(gone.error().code == Errc::object_not_found);
}

TEST_CASE("a change that cannot be noted makes everything count as changed, for good",
          "[cow][changes]") {
  Lost lost;
  CowWorld world(seed());
  world.lost_store = &lost;
  world.open();
  const SnapshotId first = world.take(true);
  const CheckpointId id = checkpoint(world, first, "c");
  world.remove(first);
  world.diff.fault = [](const block::Request& request) {
    return request.op == block::Op::write ? EIO : 0;
  };
  REQUIRE(write_and_settle(world, 0, kSector) == 0);
  REQUIRE(lost.ids == std::vector<SnapshotId>{SnapshotId{id}});
  const Ranges whole{{0, world.options.origin_bytes}};
  CHECK(changed(*world.volume, id, std::nullopt) == whole);
  world.diff.fault = nullptr;
  reopen(world, false);
  CHECK(world.volume->list_checkpoints().front().everything);
  CHECK(changed(*world.volume, id, std::nullopt) == whole);
}

TEST_CASE("a change that can be noted nowhere is held", "[cow][changes]") {
  Lost lost;
  CowWorld world(seed());
  world.lost_store = &lost;
  world.open();
  const CheckpointId id = checkpoint(world, world.take(true), "c");
  for (const auto& record : world.volume->list()) world.remove(record.id);
  world.diff.fault = [](const block::Request& request) {
    return request.op == block::Op::write ? EIO : 0;
  };
  lost.broken = true;
  const Image before = world.origin.bytes();
  REQUIRE(write_and_settle(world, 0, kSector) == EINPROGRESS);
  REQUIRE(world.origin.bytes() == before);
  world.diff.fault = nullptr;
  world.open();
  CHECK(changed(*world.volume, id, std::nullopt).empty());
}

TEST_CASE("under any load no change is missed, between snapshots or since a checkpoint",
          "[cow][changes][model]") {
  CowWorldOptions options;
  options.segments_max = 24;
  options.origin_bytes = 4U << 20U;  // 256 chunks, 16 regions.
  CowLoadOptions load_options;
  load_options.write_bytes_max = 40U << 10U;
  load_options.free_blocks = true;
  CowWorld world(seed(), options);
  CowLoad load(world, seed() + 1, load_options);
  ChangeWatch watch(world, load, seed() + 2);
  world.open();
  const int rounds = long_run() ? 600 : 10;
  for (int round = 0; round < rounds; ++round) {
    for (int i = 0; i < 400; ++i) {
      load.act();
      watch.act();
    }
    load.settle();
    watch.check(world.twin);
    if (world.machine.prng().chance(1, 3)) {
      const SimMachine::Inline waits(world.machine);
      REQUIRE(world.volume->close());
    }
    world.volume.reset();
    world.machine.run_until_idle();
    world.open();
    load.crashed();
    watch.check(world.twin);
  }
  CHECK(watch.pairs > 200);
  CHECK(watch.told > 1000);
}

TEST_CASE("while a volume is reverted, what was written to the target has changed", "[cow]") {
  CowWorld world(seed());
  world.open();
  const SnapshotId before = world.take(true);
  const SnapshotId target = world.take_unconfirmed(true);
  REQUIRE(world.volume->begin_recovery(target));
  {
    const auto device = world.volume->open_for_recovery(target);
    REQUIRE(device);
    REQUIRE(world.write_posted(**device, world.images.at(target), 5 * kChunk, kSector) == 0);
  }
  REQUIRE(world.volume->end_recovery(target));
  REQUIRE(world.volume->confirm(target));
  world.machine.run_until_idle();  // It waits for jobs, which nobody else runs.
  REQUIRE(world.volume->begin_revert(target));
  REQUIRE(world.volume->revert_status().under_way);
  for (const bool ended : {false, true}) {
    if (ended) world.machine.run_until_idle();
    const auto changed = changed_chunks(*world.volume, world.options, before, std::nullopt);
    CHECK(changed[5]);
    CHECK(std::count(changed.begin(), changed.end(), true) == 1);
  }
  CHECK_FALSE(world.volume->revert_status().under_way);
}
