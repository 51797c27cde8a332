// SPDX-License-Identifier: Apache-2.0
//
// A volume of the store to be measured: batches of writes and reads with a queue depth, snapshots
// in between, and a memory of what every snapshot has to show, so that no speed is reported of a
// volume that lost data.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bench/harness/failure.h"
#include "engine/platform/prng.h"
#include "provider/cow/volume.h"

namespace umbra::bench {

struct Medium {
  std::string directory;  // Files there, through the page cache; empty: RAM of this process.
};

struct StoreShape {
  std::uint32_t chunk_bytes = 16U << 10U;
  std::uint64_t chunks = 4096;
  std::uint64_t copies = 3;                  // How often all chunks fit into the diff area.
  std::uint32_t request_bytes = 16U << 10U;  // Not more than a chunk.
  std::size_t depth = 16;
  bool share = false;  // Old content is shared with the origin, if the medium can.
};

/// Threads: one at a time. Anything that fails throws Failed.
class BenchVolume {
 public:
  BenchVolume(const Medium& medium, const StoreShape& shape, std::uint64_t seed);
  ~BenchVolume();
  BenchVolume(const BenchVolume&) = delete;
  BenchVolume& operator=(const BenchVolume&) = delete;

  [[nodiscard]] std::uint64_t chunks() const noexcept { return shape_.chunks; }
  void take(bool persistent);
  /// The newest, or the oldest, of those that exist.
  void remove_newest();
  [[nodiscard]] std::size_t snapshots() const noexcept { return taken_.size(); }

  /// One request at the beginning of each of `count` chunks, in a random order that is drawn before
  /// the clock starts. Seconds per request. `flush_every`: 0 for never.
  double write(std::uint64_t count, std::size_t flush_every = 0);
  /// For what follows; a multiple of 512, not more than a chunk, and not more in flight than
  /// before.
  void set_request(std::uint32_t bytes, std::size_t depth);
  /// `count` reads of request_bytes at random places, of the live volume or of the oldest snapshot.
  double read_live(std::uint64_t count) { return read(volume_->live(), count); }
  double read_oldest(std::uint64_t count);

  /// Reads the live volume and the oldest and the newest snapshot; a digest of all that was seen.
  [[nodiscard]] std::uint32_t verify();
  [[nodiscard]] cow::Volume& volume() noexcept { return *volume_; }

 private:
  struct Batch;
  struct Taken {
    SnapshotId id;
    std::vector<std::uint32_t> versions;  // By chunk.
  };
  double read(block::Device& device, std::uint64_t count);
  void verify_one(block::Device& device, const std::vector<std::uint32_t>& versions,
                  std::uint32_t& digest, const std::string& what);
  [[nodiscard]] std::vector<std::uint32_t> draw(std::uint64_t count);
  void run_batch(block::Device& device, std::size_t count);

  StoreShape shape_;
  Prng prng_;
  std::string origin_path_;
  std::string diff_path_;
  std::unique_ptr<block::ResizableDevice> origin_;
  std::unique_ptr<block::ResizableDevice> diff_;
  std::unique_ptr<cow::Volume> volume_;
  std::unique_ptr<Batch> batch_;
  std::deque<Taken> taken_;
  std::vector<std::uint32_t> versions_;  // Live: the number of the newest write to each chunk.
  std::uint32_t version_ = 0;
  std::uint64_t ids_ = 0;
};

}  // namespace umbra::bench
