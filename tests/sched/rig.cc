// SPDX-License-Identifier: Apache-2.0
#include "tests/sched/rig.h"

namespace umbra::test::sched {
namespace {

constexpr std::uint64_t kOriginBytes = kChunks * kChunk;

[[nodiscard]] VolumeId volume_id() {
  VolumeId id;
  id.bytes[0] = 7;
  return id;
}

[[nodiscard]] std::uint64_t diff_bytes(std::uint64_t segments) {
  const std::uint64_t two = cow::diff_bytes_min(kChunk);
  const std::uint64_t none = (128U << 10U) + std::uint64_t{512} * 2 * 4096;
  return none + (two - none) / 2 * segments;
}

void fill(std::byte* bytes, std::uint64_t chunk, std::uint64_t value) {
  const std::uint64_t words[2] = {value, chunk};
  for (std::uint64_t at = 0; at < kChunk; at += sizeof words) {
    std::memcpy(bytes + at, words, sizeof words);
  }
}

std::shared_ptr<const Image> first_origin() {
  Image image(kOriginBytes);
  for (std::uint64_t chunk = 0; chunk < kChunks; ++chunk) {
    fill(image.data() + chunk * kChunk, chunk, 1);
  }
  return std::make_shared<const Image>(std::move(image));
}

std::shared_ptr<const Image> formatted(std::uint64_t segments) {
  static std::map<std::uint64_t, std::shared_ptr<const Image>> known;
  auto& image = known[segments];
  if (image) return image;
  PagedDisk origin(first_origin());
  PagedDisk diff(std::make_shared<const Image>(diff_bytes(segments)));
  diff.size_bytes_max = diff_bytes(segments);
  cow::FormatOptions options;
  options.volume_id = volume_id();
  options.chunk_bytes = kChunk;
  options.diff_bytes_initial = diff_bytes(segments);
  REQUIRE(cow::format_diff_area(origin, diff, options));
  image = std::make_shared<const Image>(diff.bytes());
  return image;
}

}  // namespace

std::uint64_t value_of(const Image& image, std::uint64_t chunk) {
  std::uint64_t value = 0;
  std::memcpy(&value, image.data() + chunk * kChunk, sizeof value);
  return value;
}

Rig::Rig(const RigOptions& options)
    : origin(first_origin()), diff(formatted(options.segments)), shares_(options.shares) {
  origin.can_share = diff.can_share = shares_;
  diff.size_bytes_max = diff_bytes(options.segments_max);
  origin.around = diff.around = point;
  for (std::uint64_t chunk = 0; chunk < kChunks; ++chunk) last_[chunk] = {1};
  open();
}

Rig::~Rig() { executor.drain(); }

void Rig::open() {
  cow::OpenOptions options;
  options.volume_id = volume_id();
  options.executor = &executor;
  options.reflink = shares_;
  options.grow_step_bytes = 1;
  options.grow_ahead_seconds = 0;  // What happens does not depend on the machine's clock.
  auto opened = cow::Volume::open(origin, diff, options);
  INFO((opened ? std::string() : opened.error().to_string()));
  REQUIRE(opened);
  volume = std::move(*opened);
}

void Rig::complain(const std::string& what) {
  if (trouble.empty()) trouble = what;
}

// block::run() would wait where the scheduler does not see it.
void Rig::submit(block::Request& request) {
  bool done = false;
  request.owner = &done;
  request.complete = [](block::Request& completed) noexcept {
    *static_cast<bool*>(completed.owner) = true;
  };
  volume->live().submit(request);
  wait_until([&]() noexcept { return done; });
  if (request.error != 0) complain("a live request failed: " + std::to_string(request.error));
}

void Rig::write(std::uint64_t chunk, std::uint64_t value) {
  Image bytes(kChunk);
  fill(bytes.data(), chunk, value);
  block::Request request;
  request.op = block::Op::write;
  request.offset_bytes = chunk * kChunk;
  request.size_bytes = kChunk;
  request.buffer = bytes.data();
  // Writes of several threads to one chunk may take effect in any order.
  last_[chunk].push_back(value);
  submit(request);
}

void Rig::zero(std::uint64_t chunk) {
  block::Request request;
  request.op = block::Op::write_zeroes;
  request.offset_bytes = chunk * kChunk;
  request.size_bytes = kChunk;
  last_[chunk].push_back(0);
  submit(request);
}

SnapshotId Rig::prepare(bool persistent) {
  cow::PrepareRequest request;
  request.id.bytes[0] = static_cast<std::uint8_t>(++ids_);
  request.persistent = persistent;
  if (const Status prepared = volume->prepare(request); !prepared) {
    complain(prepared.error().to_string());
  }
  return request.id;
}

void Rig::commit(const SnapshotId& id) {
  volume->hold();
  if (!volume->drain(std::chrono::seconds(1))) complain("the volume did not drain");
  volume->commit(id, 1);
  images[id] = origin.bytes();
  unfinished_.insert(id);
  point();
  if (origin.bytes() != images[id]) complain("the origin changed behind a shut gate");
  volume->release();
}

void Rig::finish(const SnapshotId& id) {
  unfinished_.erase(id);
  if (!volume->post_commit(id, {id}) || !volume->confirm(id)) complain("not confirmed");
}

void Rig::remove(const SnapshotId& id, bool force) {
  if (!volume->remove(id, force)) complain("not removed");
  images.erase(id);
  unfinished_.erase(id);
}

void Rig::compare(const SnapshotId& id, const char* when) {
  Image seen(kOriginBytes);
  const auto device = volume->open_snapshot(id);
  if (!device) {
    complain(device.error().to_string());
    return;
  }
  block::Request request;
  request.size_bytes = seen.size();
  request.buffer = seen.data();
  bool done = false;
  request.owner = &done;
  request.complete = [](block::Request& completed) noexcept {
    *static_cast<bool*>(completed.owner) = true;
  };
  (*device)->submit(request);
  wait_until([&]() noexcept { return done; });
  const Image& wanted = images.at(id);
  if (request.error != 0) {
    complain(std::string(when) + ": reading a snapshot failed: " + std::to_string(request.error));
  } else if (seen != wanted) {
    std::string text = std::string(when) + ": snapshot " + std::to_string(id.bytes[0]) + " shows";
    for (std::uint64_t chunk = 0; chunk < kChunks; ++chunk) {
      text += " " + std::to_string(value_of(seen, chunk)) + "/" +
              std::to_string(value_of(wanted, chunk));
    }
    complain(text + " (seen/wanted by chunk)");
  }
}

void Rig::read_back(const SnapshotId& id) { compare(id, "during the load"); }

void Rig::check() {
  executor.drain();
  for (const auto& [id, image] : images) compare(id, "after the load");
  for (const SnapshotId& id : std::exchange(unfinished_, {})) finish(id);
  const Image now = origin.bytes();
  for (const auto& [chunk, values] : last_) {
    const std::uint64_t value = value_of(now, chunk);
    if (std::find(values.begin(), values.end(), value) == values.end() ||
        (values.size() > 1 && value == values.front())) {
      complain("chunk " + std::to_string(chunk) + " lost its writes");
    }
  }
  if (volume->statistics().snapshots_lost != 0) complain("a snapshot was lost");
  if (shares_ && volume->statistics().chunks_shared == 0) complain("nothing was shared");
  const std::uint64_t records = volume->statistics().records;
  // As kill -9 leaves it: what is in memory and what is in the diff area have to say the same.
  volume.reset();
  open();
  for (const auto& [id, image] : images) compare(id, "after reopening");
  if (volume->list().size() != images.size()) complain("snapshots came or went");
  // Opening keeps what a snapshot needs, so whatever was there beyond that nobody would have freed.
  if (volume->statistics().records != records) complain("records were kept that nobody needs");
  volume.reset();
  INFO(trouble);
  REQUIRE(trouble.empty());
}

}  // namespace umbra::test::sched
