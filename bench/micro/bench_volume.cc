// SPDX-License-Identifier: Apache-2.0
#include "bench/micro/bench_volume.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <filesystem>
#include <new>
#include <numeric>

#include "bench/harness/pairs.h"
#include "bench/micro/disks.h"
#include "engine/platform/crc32c.h"
#include "engine/platform/file_device.h"

namespace umbra::bench {
namespace {

constexpr std::uint64_t kGranule = 4096;
constexpr std::align_val_t kAlignment{4096};

struct AlignedDelete {
  void operator()(std::byte* memory) const noexcept { ::operator delete[](memory, kAlignment); }
};
using Buffer = std::unique_ptr<std::byte[], AlignedDelete>;

Buffer make_buffer(std::uint64_t size_bytes) {
  Buffer buffer(static_cast<std::byte*>(::operator new[](size_bytes, kAlignment)));
  std::memset(buffer.get(), 0, size_bytes);
  return buffer;
}

// Each granule begins with the chunk and the number of the write.
void mark(std::byte* bytes, std::uint64_t size_bytes, std::uint32_t chunk, std::uint32_t version) {
  const std::uint32_t words[2] = {chunk, version};
  for (std::uint64_t at = 0; at < size_bytes; at += kGranule) {
    std::memcpy(bytes + at, words, sizeof words);
  }
}

std::unique_ptr<block::ResizableDevice> make_disk(const std::string& path, std::uint64_t size) {
  if (path.empty()) return std::make_unique<RamDisk>(size);
  FileDeviceOptions options;
  options.create = true;
  auto opened = open_file_device(path, options);
  if (!opened) give_up(path + ": " + opened.error().to_string());
  must((*opened)->resize(size), "making a file");
  return std::move(*opened);
}

}  // namespace

// Requests that are submitted as one chain, and what waits for them.
struct BenchVolume::Batch {
  std::vector<block::Request> requests;
  std::vector<Buffer> buffers;
  std::atomic<std::size_t> left = 0;
  std::atomic<int> error = 0;
};

BenchVolume::BenchVolume(const Medium& medium, const StoreShape& shape, std::uint64_t seed)
    : shape_(shape), prng_(seed), batch_(std::make_unique<Batch>()), versions_(shape.chunks) {
  const std::uint64_t origin_bytes = shape.chunks * shape.chunk_bytes;
  // Index and checksums beside the data, and room for segments that are only partly in use.
  const std::uint64_t diff_bytes =
      cow::diff_bytes_min(shape.chunk_bytes) * 2 + origin_bytes * shape.copies * 5 / 4;
  if (!medium.directory.empty()) {
    const std::string base = medium.directory + "/umbra-bench." + std::to_string(seed);
    origin_path_ = base + ".origin";
    diff_path_ = base + ".diff";
  }
  origin_ = make_disk(origin_path_, origin_bytes);
  diff_ = make_disk(diff_path_, diff_bytes);
  cow::FormatOptions format;
  format.chunk_bytes = shape.chunk_bytes;
  format.diff_bytes_initial = diff_bytes;
  format.force = true;
  must(cow::format_diff_area(*origin_, *diff_, format), "formatting");
  cow::OpenOptions open;
  open.reflink = shape.share;
  auto opened = cow::Volume::open(*origin_, *diff_, open);
  if (!opened) give_up("opening: " + opened.error().to_string());
  volume_ = std::move(*opened);
  batch_->requests.resize(shape.depth);
  for (std::size_t i = 0; i < shape.depth; ++i) {
    batch_->buffers.push_back(make_buffer(shape.chunk_bytes));
  }
  (void)write(shape.chunks);
}

BenchVolume::~BenchVolume() {
  volume_.reset();
  origin_.reset();
  diff_.reset();
  std::error_code ignored;
  if (!origin_path_.empty()) (void)std::filesystem::remove(origin_path_, ignored);
  if (!diff_path_.empty()) (void)std::filesystem::remove(diff_path_, ignored);
}

void BenchVolume::take(bool persistent) {
  cow::PrepareRequest request;
  ++ids_;
  std::memcpy(request.id.bytes.data(), &ids_, sizeof ids_);
  request.persistent = persistent;
  must(volume_->prepare(request), "prepare");
  volume_->hold();
  if (!volume_->drain(std::chrono::seconds(10))) give_up("the volume does not drain");
  volume_->commit(request.id, 1);
  volume_->release();
  must(volume_->post_commit(request.id, {request.id}), "post_commit");
  must(volume_->confirm(request.id), "confirm");
  taken_.push_back({request.id, {}});
  // Thousands of snapshots need no list each: what is verified is the oldest and the newest.
  if (taken_.size() > 2) taken_[taken_.size() - 2].versions = {};
  taken_.back().versions = versions_;
}

void BenchVolume::remove_newest() {
  must(volume_->remove(taken_.back().id, true), "remove");
  taken_.pop_back();
}

std::vector<std::uint32_t> BenchVolume::draw(std::uint64_t count) {
  std::vector<std::uint32_t> order(shape_.chunks);
  std::iota(order.begin(), order.end(), 0U);
  for (std::uint64_t i = 0; i < count; ++i) {
    std::swap(order[i], order[i + prng_.below(order.size() - i)]);
  }
  order.resize(count);
  return order;
}

void BenchVolume::run_batch(block::Device& device, std::size_t count) {
  Batch& batch = *batch_;
  batch.left.store(count);
  for (std::size_t i = 0; i < count; ++i) {
    block::Request& request = batch.requests[i];
    request.owner = &batch;
    request.next = i + 1 < count ? &batch.requests[i + 1] : nullptr;
    request.complete = [](block::Request& done) noexcept {
      auto& owner = *static_cast<Batch*>(done.owner);
      if (done.error != 0) owner.error.store(done.error);
      if (owner.left.fetch_sub(1) == 1) owner.left.notify_one();
    };
  }
  device.submit(batch.requests[0]);
  for (std::size_t left = batch.left.load(); left != 0; left = batch.left.load()) {
    batch.left.wait(left);
  }
  if (batch.error.load() != 0) give_up("a request failed: errno " + std::to_string(batch.error));
}

double BenchVolume::write(std::uint64_t count, std::size_t flush_every) {
  const std::vector<std::uint32_t> order = draw(count);
  ++version_;
  std::size_t since_flush = 0;
  const double start = now_seconds();
  for (std::uint64_t done = 0; done < count;) {
    const std::size_t batch = std::min<std::uint64_t>(shape_.depth, count - done);
    for (std::size_t i = 0; i < batch; ++i) {
      block::Request& request = batch_->requests[i];
      const std::uint32_t chunk = order[done + i];
      mark(batch_->buffers[i].get(), shape_.request_bytes, chunk, version_);
      request = {};
      request.op = block::Op::write;
      request.offset_bytes = std::uint64_t{chunk} * shape_.chunk_bytes;
      request.size_bytes = shape_.request_bytes;
      request.buffer = batch_->buffers[i].get();
      versions_[chunk] = version_;
    }
    run_batch(volume_->live(), batch);
    done += batch;
    since_flush += batch;
    if (flush_every == 0 || since_flush < flush_every) continue;
    since_flush = 0;
    batch_->requests[0] = {};
    batch_->requests[0].op = block::Op::flush;
    run_batch(volume_->live(), 1);
  }
  return (now_seconds() - start) / static_cast<double>(count);
}

void BenchVolume::set_request(std::uint32_t bytes, std::size_t depth) {
  shape_.request_bytes = bytes;
  shape_.depth = std::min(depth, shape_.depth);
}

double BenchVolume::read(block::Device& device, std::uint64_t count) {
  const std::uint64_t places = shape_.chunks * shape_.chunk_bytes / shape_.request_bytes;
  std::vector<std::uint64_t> order(count);
  for (auto& place : order) place = prng_.below(places) * shape_.request_bytes;
  const double start = now_seconds();
  for (std::uint64_t done = 0; done < count;) {
    const std::size_t batch = std::min<std::uint64_t>(shape_.depth, count - done);
    for (std::size_t i = 0; i < batch; ++i) {
      block::Request& request = batch_->requests[i];
      request = {};
      request.offset_bytes = order[done + i];
      request.size_bytes = shape_.request_bytes;
      request.buffer = batch_->buffers[i].get();
    }
    run_batch(device, batch);
    done += batch;
  }
  return (now_seconds() - start) / static_cast<double>(count);
}

double BenchVolume::read_oldest(std::uint64_t count) {
  const auto device = volume_->open_snapshot(taken_.front().id);
  if (!device) give_up("opening a snapshot: " + device.error().to_string());
  return read(**device, count);
}

void BenchVolume::verify_one(block::Device& device, const std::vector<std::uint32_t>& versions,
                             std::uint32_t& digest, const std::string& what) {
  for (std::uint32_t chunk = 0; chunk < shape_.chunks; ++chunk) {
    block::Request& request = batch_->requests[0];
    request = {};
    request.offset_bytes = std::uint64_t{chunk} * shape_.chunk_bytes;
    request.size_bytes = shape_.chunk_bytes;
    request.buffer = batch_->buffers[0].get();
    run_batch(device, 1);
    std::uint32_t seen[2] = {};
    std::memcpy(seen, request.buffer, sizeof seen);
    if (seen[0] != chunk || seen[1] != versions[chunk]) {
      give_up(what + " is wrong in chunk " + std::to_string(chunk) + ": write " +
              std::to_string(seen[1]) + " of chunk " + std::to_string(seen[0]) + " where write " +
              std::to_string(versions[chunk]) + " should be");
    }
    digest = crc32c({request.buffer, shape_.chunk_bytes}, digest);
  }
}

std::uint32_t BenchVolume::verify() {
  std::uint32_t digest = 0;
  verify_one(volume_->live(), versions_, digest, "the live volume");
  for (const Taken* taken :
       {taken_.empty() ? nullptr : &taken_.front(), taken_.size() < 2 ? nullptr : &taken_.back()}) {
    if (taken == nullptr || taken->versions.empty()) continue;
    const auto device = volume_->open_snapshot(taken->id);
    if (!device) give_up("opening a snapshot: " + device.error().to_string());
    verify_one(**device, taken->versions, digest, "a snapshot");
  }
  const cow::Statistics statistics = volume_->statistics();
  if (statistics.snapshots_lost != 0 || statistics.state != "ok") {
    give_up("snapshots were lost: " + statistics.state);
  }
  return digest;
}

}  // namespace umbra::bench
