// SPDX-License-Identifier: Apache-2.0
#include "bench/micro/empty_volume.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <memory>
#include <string>
#include <thread>

#include "bench/harness/failure.h"
#include "bench/harness/memory.h"
#include "bench/harness/pairs.h"
#include "bench/micro/disks.h"
#include "provider/cow/volume.h"

namespace umbra::bench {
namespace {

struct Empty {
  Empty(std::uint64_t chunks, std::uint32_t chunk_bytes)
      : origin(chunks * chunk_bytes),
        diff(cow::diff_bytes_min(chunk_bytes) * 2 + chunks * chunk_bytes * 5 / 4),
        size_bytes(chunk_bytes) {
    cow::FormatOptions format;
    format.chunk_bytes = chunk_bytes;
    format.diff_bytes_initial = diff.geometry().size_bytes;
    must(cow::format_diff_area(origin, diff, format), "formatting");
    open();
  }
  void open() {
    auto opened = cow::Volume::open(origin, diff, {});
    if (!opened) give_up("opening: " + opened.error().to_string());
    volume = std::move(*opened);
  }
  void take() {
    cow::PrepareRequest request;
    request.id.bytes[0] = 1;
    request.persistent = true;
    must(volume->prepare(request), "prepare");
    volume->hold();
    if (!volume->drain(std::chrono::seconds(10))) give_up("the volume does not drain");
    volume->commit(request.id, 1);
    volume->release();
    must(volume->post_commit(request.id, {request.id}), "post_commit");
    must(volume->confirm(request.id), "confirm");
  }
  // A write of a block to each of the first `count` chunks of a random order.
  void touch(std::uint64_t count, std::uint64_t seed) {
    const std::uint64_t chunks = origin.geometry().size_bytes / size_bytes;
    std::array<block::Request, 64> requests;
    std::vector<std::byte> zeroes(512);
    // A full period over a power of two: every chunk once, in no order.
    const std::uint64_t step = (chunks * 5 / 8) | 1U;
    std::uint64_t at = seed % chunks;
    for (std::uint64_t done = 0; done < count;) {
      const std::size_t batch = std::min<std::uint64_t>(requests.size(), count - done);
      // The disks complete at once, the volume not always: a write may wait for the diff area to
      // grow, which a thread of the volume's does.
      struct {
        std::atomic<int> error{0};
        std::atomic<std::size_t> left{0};
      } outcome;
      using Outcome = decltype(outcome);
      outcome.left = batch;
      for (std::size_t i = 0; i < batch; ++i, at = (at + step) % chunks) {
        requests[i] = {};
        requests[i].op = block::Op::write;
        requests[i].offset_bytes = at * size_bytes;
        requests[i].size_bytes = zeroes.size();
        requests[i].buffer = zeroes.data();
        requests[i].owner = &outcome;
        requests[i].complete = [](block::Request& request) noexcept {
          auto& all = *static_cast<Outcome*>(request.owner);
          if (request.error != 0) all.error = request.error;
          --all.left;
        };
        if (i > 0) requests[i - 1].next = &requests[i];
      }
      volume->live().submit(requests[0]);
      while (outcome.left != 0) std::this_thread::yield();
      if (outcome.error != 0) give_up("a write failed: errno " + std::to_string(outcome.error));
      done += batch;
    }
    if (volume->statistics().records != count) give_up("not every chunk was preserved");
  }
  SparseDisk origin;
  SparseDisk diff;
  std::uint64_t size_bytes;
  std::unique_ptr<cow::Volume> volume;
};

std::uint64_t power_of_two_above(std::uint64_t count) {
  std::uint64_t chunks = 1;
  while (chunks < count) chunks *= 2;
  return chunks;
}

}  // namespace

double ram_bytes_per_chunk(std::uint64_t count, std::uint64_t seed) {
  const std::uint64_t chunks = 2 * power_of_two_above(count);
  Empty empty(chunks, 16U << 10U);
  const std::uint64_t before = resident_bytes() - empty.diff.kept_bytes();
  empty.take();
  empty.diff.forgets = true;
  empty.touch(count, seed);
  const std::uint64_t after = resident_bytes() - empty.diff.kept_bytes();
  return static_cast<double>(after - before) / static_cast<double>(count);
}

std::vector<double> reopen_seconds_per_10m(std::uint64_t count, std::size_t rounds,
                                           std::uint64_t seed) {
  Empty empty(power_of_two_above(count), 4096);
  empty.take();
  empty.touch(count, seed);
  std::vector<double> seconds;
  for (std::size_t round = 0; round < rounds; ++round) {
    empty.volume.reset();  // As kill -9 leaves it.
    const double start = now_seconds();
    empty.open();
    seconds.push_back((now_seconds() - start) * 1e7 / static_cast<double>(count));
    if (empty.volume->statistics().records != count) give_up("records were lost");
  }
  return seconds;
}

}  // namespace umbra::bench
