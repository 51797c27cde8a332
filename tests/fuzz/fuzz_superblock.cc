// SPDX-License-Identifier: Apache-2.0
//
// Opening a diff area from arbitrary bytes never crashes and takes bounded time. The input is a
// list of changes to a well-formed area: which structure (superblocks, the first snapshot slots,
// groups of the index), where in it, how many bytes, the bytes to flip. An even first byte repairs
// the checksums, so that the fuzzer gets past them; what opens is then used: listed, read, written,
// snapshotted, closed.
#include <algorithm>
#include <cstring>
#include <iterator>
#include <memory>
#include <vector>

#include "engine/platform/assert.h"
#include "engine/platform/crc32c.h"
#include "provider/cow/volume.h"
#include "provider/format/diff_area.h"
#include "tests/support/sim_disk.h"

namespace {

using namespace umbra;

constexpr std::uint64_t kOriginBytes = 256U << 10U;
constexpr std::uint64_t kDiffBytes = 24U << 20U;
constexpr std::size_t kOffsetMax = 160;  // Of a change, in its structure.

class NowExecutor final : public cow::Executor {
 public:
  explicit NowExecutor(test::SimMachine& machine) : machine_(machine) {}
  void post(std::function<void()> job) override { machine_.post(std::move(job)); }
  void post_after(umbra::Duration /*delay*/, std::function<void()> /*job*/) override {}

 private:
  test::SimMachine& machine_;
};

// One world for all inputs: its bytes are put back from a template.
struct World {
  World()
      : machine(1), executor(machine), origin(machine, kOriginBytes), diff(machine, kDiffBytes) {
    cow::FormatOptions format;
    format.diff_bytes_initial = kDiffBytes;
    format.chunk_bytes = 16U << 10U;
    UMBRA_ASSERT(cow::format_diff_area(origin, diff, format).has_value());
    const auto volume = open();
    UMBRA_ASSERT(volume != nullptr);
    snapshot(*volume);
    write(*volume, 0);
    write(*volume, 20U << 10U);
    snapshot(*volume);
    UMBRA_ASSERT(volume->list().size() == 2);
    machine.run_until_idle();
    pristine = diff.bytes();
  }

  std::unique_ptr<cow::Volume> open() {
    cow::OpenOptions options;
    options.executor = &executor;
    auto opened = cow::Volume::open(origin, diff, options);
    return opened ? std::move(*opened) : nullptr;
  }
  static void snapshot(cow::Volume& volume) {
    cow::PrepareRequest request;
    request.id = SnapshotId::random();
    request.persistent = true;
    if (!volume.prepare(request)) return;
    volume.hold();
    if (volume.drain(Duration::zero())) volume.commit(request.id, 1);
    volume.release();
    if (volume.post_commit(request.id, {request.id})) (void)volume.confirm(request.id);
  }
  void write(cow::Volume& volume, std::uint64_t offset_bytes) {
    block::Request request;
    request.op = block::Op::write;
    request.offset_bytes = offset_bytes;
    request.size_bytes = sector.size();
    request.buffer = sector.data();
    // Completes only when jobs have run: not waited for with run().
    bool done = false;
    request.owner = &done;
    request.complete = [](block::Request& finished) noexcept {
      *static_cast<bool*>(finished.owner) = true;
    };
    volume.live().submit(request);
    machine.run_until_idle();
    if (!done) (void)volume.close();
  }

  test::SimMachine machine;
  NowExecutor executor;
  test::SimDisk origin;
  test::SimDisk diff;
  std::vector<std::byte> sector = std::vector<std::byte>(512);
  std::vector<std::byte> pristine;
};

void seal(std::byte* block) {
  const std::uint32_t crc = crc32c({block, format::kBlockBytes - 4});
  std::memcpy(block + format::kBlockBytes - 4, &crc, 4);
}

// The checksum of a group depends on its own count; recompute it as the decoder will.
void seal_group(std::byte* group, std::uint32_t entry_bytes) {
  std::uint16_t count = 0;
  std::memcpy(&count, group + 66, 2);
  const std::size_t used = format::kGroupHeaderBytes + std::size_t{count % 16U} * entry_bytes;
  std::memset(group + 68, 0, 4);
  const std::uint32_t crc = crc32c({group, used});
  std::memcpy(group + 68, &crc, 4);
}

void use(World& world, cow::Volume& volume) {
  std::vector<std::byte> bytes(kOriginBytes);
  for (const cow::SnapshotRecord& record : volume.list()) {
    const auto device = volume.open_snapshot(record.id);
    if (!device) continue;
    block::Request request;
    request.size_bytes = bytes.size();
    request.buffer = bytes.data();
    (void)block::run(**device, request);
  }
  world.write(volume, 40U << 10U);
  World::snapshot(volume);
  world.write(volume, 40U << 10U);
  const auto records = volume.list();
  if (!records.empty()) (void)volume.remove(records.front().id, true);
  world.machine.run_until_idle();
  (void)volume.close();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* input, std::size_t size) {
  static World world;
  if (size == 0) return 0;
  auto& bytes = world.diff.bytes();
  bytes = world.pristine;
  const bool repair = input[0] % 2 == 0;
  const format::Layout layout = format::Layout::of(16U << 10U, 512);
  const std::uint64_t places[] = {0,
                                  format::kSuperblockOffsets[1],
                                  layout.table_offset({}, 0, 0),
                                  layout.table_offset({}, 0, 1),
                                  layout.table_offset({}, 1, 0),
                                  layout.unit_offset(0, 0, 0),
                                  layout.unit_offset(0, 1, 0),
                                  layout.unit_offset(1, 0, 0),
                                  layout.table_offset({}, 1, 1),
                                  layout.unit_offset(0, 0, 1),
                                  layout.unit_offset(0, 1, 1)};
  for (std::size_t at = 1; at + 3 <= size;) {
    const std::size_t place = input[at] % std::size(places);
    const std::size_t offset = input[at + 1] % kOffsetMax;
    const std::size_t count = std::min<std::size_t>(input[at + 2] % 32U, size - at - 3);
    at += 3;
    for (std::size_t i = 0; i < count; ++i) {
      bytes[places[place] + offset + i] ^= static_cast<std::byte>(input[at + i]);
    }
    at += count;
  }
  for (const std::uint64_t place : places) {
    if (!repair) break;
    if (place >= format::kSegmentsOffset) {
      seal_group(bytes.data() + place, layout.entry_bytes);
    } else if (!format::is_zero({bytes.data() + place, format::kBlockBytes})) {
      seal(bytes.data() + place);
    }
  }
  if (auto volume = world.open()) use(world, *volume);
  world.machine.run_until_idle();
  return 0;
}
