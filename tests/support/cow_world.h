// SPDX-License-Identifier: Apache-2.0
//
// The vocabulary of the store's tests: a volume on two simulated disks, and a naive twin that keeps
// a full copy per snapshot.
#pragma once

#include <cerrno>
#include <cstring>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "provider/cow/volume.h"
#include "tests/support/catch.h"
#include "tests/support/manual_clock.h"
#include "tests/support/sim_disk.h"

namespace umbra::test {

using Image = std::vector<std::byte>;

inline constexpr std::uint64_t kSector = 512;

/// Every sector says where it belongs and which write it comes from, so that a misplaced or stale
/// one names its origin.
inline void stamp(std::span<std::byte> bytes, std::uint64_t offset_bytes, std::uint64_t sequence) {
  for (std::uint64_t at = 0; at < bytes.size(); at += kSector) {
    const std::uint64_t words[2] = {offset_bytes + at, sequence};
    for (std::uint64_t k = 0; k < kSector; k += sizeof words) {
      std::memcpy(bytes.data() + at + k, words, sizeof words);
    }
  }
}
inline std::string sector_text(const std::byte* sector) {
  std::uint64_t words[2] = {};
  std::memcpy(words, sector, sizeof words);
  return "offset " + std::to_string(words[0]) + " sequence " + std::to_string(words[1]);
}

/// Runs the volume's rare jobs as steps of the simulated machine.
class SimExecutor final : public cow::Executor {
 public:
  explicit SimExecutor(SimMachine& machine) : machine_(machine) {}
  void post(std::function<void()> job) override { machine_.post(std::move(job)); }
  void post_after(Duration /*delay*/, std::function<void()> job) override {
    later_.push_back(std::move(job));
  }
  /// Timers go off, however long they had to wait.
  void elapse() {
    for (auto& job : std::exchange(later_, {})) machine_.post(std::move(job));
  }

 private:
  SimMachine& machine_;
  std::vector<std::function<void()>> later_;
};

struct CowWorldOptions {
  std::uint64_t origin_bytes = 1U << 20U;
  std::uint32_t chunk_bytes = 16U << 10U;
  std::uint64_t segments = 4;      // At first.
  std::uint64_t segments_max = 8;  // The diff area grows to this.
  bool reflink = false;            // Old content is shared, not copied.
};

class CowWorld {
 public:
  explicit CowWorld(std::uint64_t seed, const CowWorldOptions& options_ = {})
      : options(options_),
        machine(seed),
        executor(machine),
        origin(machine, options.origin_bytes),
        diff(machine, diff_bytes(options.segments)),
        boot_id(Guid::random()) {
    diff.size_bytes_max = diff_bytes(options.segments_max);
    origin.can_share = diff.can_share = options.reflink;
    stamp(origin.bytes(), 0, 0);
    origin.settle();
    twin = origin.bytes();
    cow::FormatOptions format;
    format.volume_id = volume_id;
    format.chunk_bytes = options.chunk_bytes;
    format.diff_bytes_initial = diff_bytes(options.segments);
    format.diff_bytes_max = diff_bytes(options.segments_max);
    REQUIRE(cow::format_diff_area(origin, diff, format));
  }

  ~CowWorld() {
    // A failed test may leave requests in flight, for which the volume would wait.
    machine.cut_power();
  }
  CowWorld(const CowWorld&) = delete;
  CowWorld& operator=(const CowWorld&) = delete;

  /// Counted up, not random: a run with the same seed does the same.
  [[nodiscard]] SnapshotId next_id() {
    SnapshotId id;
    ++ids_;
    for (std::size_t i = 0; i < 8; ++i) id.bytes[i] = static_cast<std::uint8_t>(ids_ >> (8 * i));
    return id;
  }

  [[nodiscard]] std::uint64_t diff_bytes(std::uint64_t segments) const {
    const std::uint64_t two = cow::diff_bytes_min(options.chunk_bytes);
    const std::uint64_t none = (128U << 10U) + std::uint64_t{512} * 2 * 4096;
    return none + (two - none) / 2 * segments;
  }

  [[nodiscard]] cow::OpenOptions open_options() {
    cow::OpenOptions open;
    open.volume_id = volume_id;
    open.boot_id = boot_id;
    open.grow_step_bytes = 1;  // As little as possible at a time.
    open.executor = &executor;
    open.lost_store = lost_store;
    open.snapshots_max = snapshots_max;
    open.grow_ahead_seconds = 0;
    open.clock = &clock;
    open.events = events;
    open.host_space = host_space;
    open.reflink = options.reflink;
    if (adjust) adjust(open);
    return open;
  }
  [[nodiscard]] Status try_open() {
    const SimMachine::Inline waits(machine);
    auto opened = cow::Volume::open(origin, *area, open_options());
    if (!opened) return fail(opened.error());
    volume = std::move(*opened);
    return {};
  }
  void open() {
    const Status opened = try_open();
    INFO((opened ? std::string() : opened.error().to_string()));
    REQUIRE(opened);
  }

  /// Writes stamped sectors through the live volume, into the twin too. Immediate mode.
  int write(std::uint64_t offset_bytes, std::uint64_t size_bytes, bool fua = false) {
    buffer.resize(size_bytes);
    stamp(buffer, offset_bytes, ++sequence);
    block::Request request;
    request.op = block::Op::write;
    request.fua = fua;
    request.offset_bytes = offset_bytes;
    request.size_bytes = size_bytes;
    request.buffer = buffer.data();
    const int error = block::run(volume->live(), request);
    if (error == 0) {
      std::copy(buffer.begin(), buffer.end(),
                twin.begin() + static_cast<std::ptrdiff_t>(offset_bytes));
    }
    return error;
  }
  int run(block::Op op, std::uint64_t offset_bytes = 0, std::uint64_t size_bytes = 0) {
    block::Request request;
    request.op = op;
    request.offset_bytes = offset_bytes;
    request.size_bytes = size_bytes;
    return block::run(volume->live(), request);
  }

  /// Runs a request that may have to wait for the volume's rare jobs, and those jobs. 0 or errno;
  /// EIO if the power failed and nobody has answered.
  int run_posted(block::Device& device, block::Op op, std::uint64_t offset_bytes,
                 std::uint64_t size_bytes, Image bytes = {}) {
    Posted& one = unanswered.emplace_back();
    one.bytes = std::move(bytes);
    one.request.op = op;
    one.request.offset_bytes = offset_bytes;
    one.request.size_bytes = size_bytes;
    one.request.buffer = one.bytes.data();
    one.request.owner = &one;
    one.request.complete = [](block::Request& done) noexcept {
      static_cast<Posted*>(done.owner)->completed = true;
    };
    device.submit(one.request);
    while (!one.completed && machine.step()) {
    }
    REQUIRE((one.completed || !machine.powered()));
    if (!one.completed) return EIO;  // Kept: the volume may still answer.
    const int error = one.request.error;
    unanswered.pop_back();
    return error;
  }
  /// Writes stamped sectors to `device`, and into `image` where that succeeds.
  int write_posted(block::Device& device, Image& image, std::uint64_t offset_bytes,
                   std::uint64_t size_bytes) {
    Image bytes(size_bytes);
    stamp(bytes, offset_bytes, ++sequence);
    const int error = run_posted(device, block::Op::write, offset_bytes, size_bytes, bytes);
    if (error == 0) {
      std::copy(bytes.begin(), bytes.end(),
                image.begin() + static_cast<std::ptrdiff_t>(offset_bytes));
    }
    return error;
  }

  /// Prepare to confirm, in one go. Immediate mode, or idle.
  SnapshotId take(bool persistent) {
    const SnapshotId id = begin(persistent);
    volume->hold();
    REQUIRE(volume->drain(Duration::zero()));
    commit(id);
    volume->release();
    finish(id);
    return id;
  }
  SnapshotId begin(bool persistent) {
    const SimMachine::Inline waits(machine);
    cow::PrepareRequest request;
    request.id = next_id();
    request.set_id = SnapshotSetId::random();
    request.persistent = persistent;
    const Status prepared = volume->prepare(request);
    INFO((prepared ? std::string() : prepared.error().to_string()));
    REQUIRE(prepared);
    return request.id;
  }
  /// Prepare to post_commit.
  SnapshotId take_unconfirmed(bool persistent) {
    const SnapshotId id = begin(persistent);
    volume->hold();
    REQUIRE(volume->drain(Duration::zero()));
    commit(id);
    volume->release();
    const SimMachine::Inline waits(machine);
    REQUIRE(volume->post_commit(id, {id}));
    return id;
  }
  void reopen() {
    {
      const SimMachine::Inline waits(machine);
      REQUIRE(volume->close());
    }
    volume.reset();
    open();
  }
  void commit(const SnapshotId& id) {
    volume->commit(id, 1);
    images[id] = twin;
  }
  void finish(const SnapshotId& id) {
    const SimMachine::Inline waits(machine);
    REQUIRE(volume->post_commit(id, {id}));
    REQUIRE(volume->confirm(id));
  }
  void remove(const SnapshotId& id, bool force = false) {
    const SimMachine::Inline waits(machine);
    REQUIRE(volume->remove(id, force));
    images.erase(id);
  }

  /// Reads all of it in one request, or a part. 0 or errno.
  [[nodiscard]] int read(block::Device& device, Image& out, std::uint64_t offset_bytes = 0,
                         std::uint64_t size_bytes = 0) {
    if (size_bytes == 0) size_bytes = options.origin_bytes - offset_bytes;
    out.resize(size_bytes);
    block::Request request;
    request.offset_bytes = offset_bytes;
    request.size_bytes = size_bytes;
    request.buffer = out.data();
    const SimMachine::Inline waits(machine);
    return block::run(device, request);
  }
  [[nodiscard]] int read_snapshot(const SnapshotId& id, Image& out) {
    const auto device = volume->open_snapshot(id);
    REQUIRE(device);
    return read(**device, out);
  }
  void check_snapshot(const SnapshotId& id) {
    Image seen;
    REQUIRE(read_snapshot(id, seen) == 0);
    check_same(seen, images.at(id), "snapshot");
  }
  void check_all() {
    Image seen;
    REQUIRE(read(volume->live(), seen) == 0);
    check_same(seen, twin, "live");
    for (const auto& [id, image] : images) check_snapshot(id);
  }
  static void check_same(const Image& seen, const Image& wanted, const char* what) {
    if (const std::string wrong = difference(seen, wanted, what); !wrong.empty()) FAIL(wrong);
  }
  /// The first sector that is not as wanted, in words. Empty: there is none.
  [[nodiscard]] static std::string difference(std::span<const std::byte> seen,
                                              std::span<const std::byte> wanted, const char* what) {
    for (std::uint64_t at = 0; at < wanted.size(); at += kSector) {
      if (std::memcmp(seen.data() + at, wanted.data() + at, kSector) == 0) continue;
      return what + (" at " + std::to_string(at)) + ": is " + sector_text(seen.data() + at) +
             ", should be " + sector_text(wanted.data() + at);
    }
    return {};
  }

  CowWorldOptions options;
  SimMachine machine;
  SimExecutor executor;
  SimDisk origin;
  SimDisk diff;
  SimDisk spare{machine, 0};  // For moves.
  SimDisk* area = &diff;      // What is opened; another one after a move.
  VolumeId volume_id = VolumeId::random();
  Guid boot_id;
  ManualClock clock;
  cow::LostStore* lost_store = nullptr;
  cow::EventSink* events = nullptr;
  cow::HostSpace* host_space = nullptr;
  std::uint32_t snapshots_max = cow::kSnapshotsMax;
  struct Posted {
    block::Request request;
    Image bytes;
    bool completed = false;
  };
  std::list<Posted> unanswered;                   // Outlives the volume, which may still answer.
  std::function<void(cow::OpenOptions&)> adjust;  // Of open_options().
  std::unique_ptr<cow::Volume> volume;
  Image twin;
  Image buffer;
  std::map<SnapshotId, Image> images;
  std::uint64_t sequence = 0;

 private:
  std::uint64_t ids_ = 0;
};

}  // namespace umbra::test
