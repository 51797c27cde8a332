// SPDX-License-Identifier: Apache-2.0
//
// Opening, checking, repairing and scrubbing a damaged diff area never crashes, takes bounded time,
// and serves nothing wrong. The areas are real ones, made here by the store itself, one of each
// kind (see Kind): so the corpus has only what is changed in them, and stays a few bytes a file.
//
// Input: the kind; flags; then changes, each: which structure, its number, offset (2 bytes), how
// many bytes, the bytes to flip. With kSeal the checksums are made right again, so that the fuzzer
// gets past them. Without it, and with only one structure changed, every snapshot that can be read
// must show what it showed before: all metadata is there twice, and all data has checksums.
#include <algorithm>
#include <array>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "engine/platform/assert.h"
#include "engine/platform/crc32c.h"
#include "provider/cow/check.h"
#include "provider/cow/migrate.h"
#include "provider/cow/volume.h"
#include "provider/format/diff_area.h"
#include "tests/support/paged_disk.h"

namespace {

using namespace umbra;
using Image = std::vector<std::byte>;

constexpr std::uint32_t kChunk = 16U << 10U;
constexpr std::uint64_t kOriginBytes = 16 * std::uint64_t{kChunk};
constexpr unsigned kSeal = 1;       // Checksums are made right.
constexpr unsigned kOtherBoot = 2;  // The power failed, not only the process.
constexpr unsigned kCheck = 4;      // check() first, with repair.
constexpr unsigned kScrub = 8;      // And scrub() of what is open.
constexpr std::size_t kRounds = 3;  // Snapshots in most kinds.

enum class Kind : std::uint8_t {
  empty,      // Just formatted.
  closed,     // Several snapshots, one removed, closed in order.
  killed,     // The same, left by kill -9.
  recovered,  // Writes to a snapshot.
  blobs,      // Checkpoints, exemptions.
  reverting,  // A revert under way.
  grown,      // More segments than at first, several uses.
  moved,      // A target of a move that was cut before its end.
};
constexpr std::size_t kKinds = 8;

class Jobs final : public cow::Executor {
 public:
  void post(std::function<void()> job) override { jobs_.push_back(std::move(job)); }
  void post_after(Duration /*delay*/, std::function<void()> /*job*/) override {}
  void run() {
    while (!jobs_.empty()) {
      const auto job = std::move(jobs_.front());
      jobs_.pop_front();
      job();
    }
  }
  void drop() { jobs_.clear(); }

 private:
  std::deque<std::function<void()>> jobs_;
};

struct Area {
  std::shared_ptr<const Image> origin;
  std::shared_ptr<const Image> diff;
  std::uint64_t size_bytes_max = 0;
  std::map<SnapshotId, Image> shown;
  bool judged = false;  // Only these can be held against what they showed.
};

// A volume on disks that start as `origin` and `diff`.
struct World {
  World(std::shared_ptr<const Image> origin_, std::shared_ptr<const Image> diff_,
        std::uint64_t diff_max, bool other_boot)
      : origin(std::move(origin_)), diff(std::move(diff_)) {
    diff.size_bytes_max = diff_max;
    if (other_boot) boot_id.bytes[0] = 1;
  }
  ~World() {
    volume.reset();
    jobs.drop();
  }
  bool open() {
    cow::OpenOptions options;
    options.executor = &jobs;
    options.boot_id = boot_id;
    options.grow_step_bytes = 1;
    auto opened = cow::Volume::open(origin, diff, options);
    if (opened) volume = std::move(*opened);
    return opened.has_value();
  }
  SnapshotId next_id() {
    SnapshotId id;
    id.bytes[0] = ++ids;
    return id;
  }
  bool hold_and_commit(const SnapshotId& id) {
    volume->hold();
    const bool drained = volume->drain(Duration::zero());
    if (drained) volume->commit(id, ids);
    volume->release();
    jobs.run();
    return drained && volume->post_commit(id, {id}).has_value();
  }
  SnapshotId take(const std::function<void(const SnapshotId&)>& before_confirm = {}) {
    cow::PrepareRequest request;
    request.id = next_id();
    request.persistent = true;
    if (!volume->prepare(request) || !hold_and_commit(request.id)) return {};
    if (before_confirm) before_confirm(request.id);
    (void)volume->confirm(request.id);
    return request.id;
  }
  // Completes when jobs have run, or not at all: then the volume is closed, which fails it.
  void write(block::Device& device, std::uint64_t offset_bytes, std::uint64_t size_bytes) {
    Image bytes(size_bytes, static_cast<std::byte>(++ids));
    bool done = false;
    block::Request request;
    request.op = block::Op::write;
    request.offset_bytes = offset_bytes;
    request.size_bytes = size_bytes;
    request.buffer = bytes.data();
    request.owner = &done;
    request.complete = [](block::Request& finished) noexcept {
      *static_cast<bool*>(finished.owner) = true;
    };
    device.submit(request);
    jobs.run();
    if (!done) (void)volume->close();
  }
  void write(std::uint64_t offset_bytes, std::uint64_t size_bytes) {
    write(volume->live(), offset_bytes, size_bytes);
  }
  // Empty: it cannot be read.
  [[nodiscard]] Image read(const SnapshotId& id) const {
    const auto device = volume->open_snapshot(id);
    if (!device) return {};
    Image bytes(kOriginBytes);
    block::Request request;
    request.size_bytes = bytes.size();
    request.buffer = bytes.data();
    return block::run(**device, request) == 0 ? bytes : Image();
  }

  test::PagedDisk origin;
  test::PagedDisk diff;
  Guid boot_id;
  Jobs jobs;
  std::unique_ptr<cow::Volume> volume;
  std::uint8_t ids = 0;
};

// --- the areas -------------------------------------------------------------------------------

void fill(World& world, Kind kind) {
  cow::Volume& volume = *world.volume;
  std::vector<SnapshotId> taken;
  for (std::uint64_t i = 0; i < kRounds; ++i) {
    taken.push_back(world.take([&](const SnapshotId& id) {
      const std::array<cow::ChangedRange, 1> free = {{{8 * kChunk, 2 * kChunk}}};
      if (kind == Kind::blobs && i == 0) UMBRA_ASSERT(volume.exempt_free(id, free).has_value());
      if (kind != Kind::recovered || i != 1) return;
      UMBRA_ASSERT(volume.begin_recovery(id).has_value());
      const auto device = volume.open_for_recovery(id);
      UMBRA_ASSERT(device.has_value());
      world.write(**device, 5 * kChunk + 512, kChunk);
      UMBRA_ASSERT(volume.end_recovery(id).has_value());
    }));
    world.write(i * kChunk, 2 * kChunk);
    world.write((12 - i) * kChunk, 512);
  }
  if (kind == Kind::blobs) {
    UMBRA_ASSERT(volume.create_checkpoint({CheckpointId{world.next_id()}, taken[0], "a"}));
    world.write(7 * kChunk, kChunk);
    UMBRA_ASSERT(volume.create_checkpoint({CheckpointId{world.next_id()}, taken[2], "b"}));
  }
  if (kind == Kind::reverting) {
    UMBRA_ASSERT(volume.begin_revert(taken[0]).has_value());  // The jobs that go on are dropped.
    return;
  }
  UMBRA_ASSERT(volume.remove(taken[1], true).has_value() || kind == Kind::recovered);
  world.jobs.run();
}

Area make(Kind kind) {
  const std::uint64_t two = cow::diff_bytes_min(kChunk);
  const std::uint64_t diff_bytes = kind == Kind::grown ? two : 2 * two;
  World world(std::make_shared<Image>(kOriginBytes, std::byte{0x11}),
              std::make_shared<Image>(diff_bytes), 2 * two, false);
  cow::FormatOptions format;
  format.chunk_bytes = kChunk;
  format.diff_bytes_initial = diff_bytes;
  UMBRA_ASSERT(cow::format_diff_area(world.origin, world.diff, format).has_value());
  Area area;
  area.size_bytes_max = 2 * two;
  area.judged = kind != Kind::reverting && kind != Kind::moved;
  Image arrived;
  if (kind != Kind::empty) {
    UMBRA_ASSERT(world.open());
    fill(world, kind);
    for (int use = 0; kind == Kind::grown && use < 2; ++use) {  // Each open begins a segment.
      UMBRA_ASSERT(world.volume->close().has_value());
      world.volume.reset();
      UMBRA_ASSERT(world.open());
      (void)world.take();
      world.write(3 * kChunk, kChunk);
    }
    for (const cow::SnapshotRecord& record : world.volume->list()) {
      area.shown[record.id] = world.read(record.id);
    }
    if (kind == Kind::moved) {
      test::PagedDisk target(std::make_shared<Image>(diff_bytes));
      int steps = 0;
      (void)world.volume->migrate(target, {}, [&](const auto&) {
        constexpr int kCut = 25;  // In the first segment. Given up, it would be erased.
        if (++steps == kCut) arrived = target.bytes();
        return steps < kCut;
      });
      UMBRA_ASSERT(!arrived.empty());
    }
    const bool killed = kind == Kind::killed || kind == Kind::reverting;
    if (!killed) UMBRA_ASSERT(world.volume->close().has_value());
    world.volume.reset();
    world.jobs.drop();
  }
  area.origin = std::make_shared<Image>(world.origin.bytes());
  area.diff = std::make_shared<Image>(arrived.empty() ? world.diff.bytes() : arrived);
  return area;
}

// --- the input -------------------------------------------------------------------------------

const format::Layout kLayout = format::Layout::of(kChunk, 512);

// Where a structure begins, and how long it is.
std::pair<std::uint64_t, std::uint64_t> place_of(std::uint8_t what, std::uint8_t number) {
  const std::uint32_t copy = number & 1U;
  const std::uint32_t index = number >> 1U;
  switch (what % 4) {
    case 0: return {format::kSuperblockOffsets[copy], format::kBlockBytes};
    case 1: return {kLayout.table_offset({}, index % 16, copy), format::kBlockBytes};
    case 2: return {kLayout.unit_offset(index / 32 % 4, index % 32, copy), 512};
    default: return {kLayout.slot_offset(number / 64, number % 64), kChunk};
  }
}

void seal(Image& bytes, std::uint64_t at, std::uint64_t size) {
  std::byte* const begin = bytes.data() + at;
  if (size == format::kBlockBytes) {
    const std::uint32_t crc = crc32c({begin, format::kBlockBytes - 4});
    std::memcpy(begin + format::kBlockBytes - 4, &crc, 4);
  } else if (size == 512) {  // Of a group it depends on its count.
    std::uint16_t count = 0;
    std::memcpy(&count, begin + 66, 2);
    const std::size_t used =
        format::kGroupHeaderBytes + std::size_t{count % 16U} * kLayout.entry_bytes;
    std::memset(begin + 68, 0, 4);
    const std::uint32_t crc = crc32c({begin, used});
    std::memcpy(begin + 68, &crc, 4);
  }
}

// Returns how many structures were changed.
std::size_t change(Image& bytes, const std::uint8_t* input, std::size_t size, bool seals) {
  std::set<std::uint64_t> changed;
  for (std::size_t at = 0; at + 5 <= size;) {
    const auto [place, length] = place_of(input[at], input[at + 1]);
    const std::size_t offset = (input[at + 2] | std::size_t{input[at + 3]} << 8U) % length;
    const std::size_t most = std::min<std::size_t>(input[at + 4] % 32U, size - at - 5);
    at += 5;
    for (std::size_t i = 0; i < most && offset + i < length; ++i) {
      bytes[place + offset + i] ^= static_cast<std::byte>(input[at + i]);
    }
    at += most;
    changed.insert(place);
    if (seals) seal(bytes, place, length);
  }
  return changed.size();
}

void look(World& world, const Area& area, bool judged) {
  for (const cow::SnapshotRecord& record : world.volume->list()) {
    const Image seen = world.read(record.id);
    const auto known = area.shown.find(record.id);
    if (!judged || seen.empty()) continue;
    UMBRA_ASSERT(known != area.shown.end() && seen == known->second);
  }
}

void use(World& world) {
  world.ids = 200;
  const auto ignore = [](std::span<const cow::ChangedRange>) { return true; };
  for (const cow::CheckpointRecord& checkpoint : world.volume->list_checkpoints()) {
    (void)world.volume->changed_blocks(checkpoint.id, std::nullopt, ignore);
  }
  world.write(9 * kChunk, 512);
  (void)world.take();
  world.write(9 * kChunk, 512);
  const auto records = world.volume->list();
  if (!records.empty()) (void)world.volume->remove(records.front().id, true);
  world.jobs.run();
  (void)world.volume->close();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* input, std::size_t size) {
  static std::array<Area, kKinds> areas;
  if (size < 2) return 0;
  const std::size_t kind = input[0] % kKinds;
  if (!areas[kind].diff) areas[kind] = make(static_cast<Kind>(kind));
  const Area& area = areas[kind];
  const unsigned flags = input[1];
  auto bytes = std::make_shared<Image>(*area.diff);
  const std::size_t changed = change(*bytes, input + 2, size - 2, (flags & kSeal) != 0);
  const bool judged = area.judged && (flags & kSeal) == 0 && changed <= 1;
  World world(area.origin, bytes, area.size_bytes_max, (flags & kOtherBoot) != 0);
  if ((flags & kCheck) != 0) {
    cow::CheckOptions options;
    options.repair = options.data = true;
    options.boot_id = world.boot_id;
    (void)cow::check(world.diff, options);
  }
  const bool open = world.open();
  UMBRA_ASSERT(open || !judged);
  if (!open) return 0;
  look(world, area, judged);
  if ((flags & kScrub) != 0) {
    (void)world.volume->scrub({});
    world.jobs.run();
    look(world, area, judged);
  }
  use(world);
  return 0;
}
