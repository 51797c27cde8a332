// SPDX-License-Identifier: Apache-2.0
//
// A block device in memory whose behaviour a test decides: completes inside submit(), or holds
// requests until the test lets them go (in the order they came, or the other way round); fails the
// next request of a kind. It checks what the seam asks of a submitter (ranges, alignment) and
// answers EINVAL, ENOSPC or EROFS as a device should.
#pragma once

#include <condition_variable>
#include <map>
#include <mutex>
#include <vector>

#include "engine/platform/block.h"

namespace umbra::test {

class RamDevice final : public block::Device {
 public:
  explicit RamDevice(std::uint64_t size_bytes, std::uint32_t block_bytes = 512);

  block::Geometry& shape() { return geometry_; }  // Before anybody uses the device.

  /// The content, as a request would see it: a client's reply may come through the kernel, where no
  /// lock orders it before what the test looks at.
  std::vector<std::byte> bytes(std::uint64_t offset_bytes, std::size_t size_bytes) const;
  std::byte byte(std::uint64_t offset_bytes) const;
  void fill(std::byte value, std::uint64_t offset_bytes, std::uint64_t size_bytes);

  /// From now on requests wait; release() completes those that do, and goes on holding.
  void hold();
  void release(bool newest_first = false);
  /// Completes what waits, and no longer holds.
  void let_go();
  /// Blocks until `count` requests wait; false after 10 s.
  bool wait_for_held(std::size_t count);
  void fail_next(block::Op op, int error);
  /// How many requests of a kind were submitted, and how many with fua.
  std::size_t count(block::Op op) const;
  std::size_t fua_count() const;

  block::Geometry geometry() const noexcept override { return geometry_; }
  void submit(block::Request& first) noexcept override;
  std::size_t extents(std::uint64_t offset_bytes, std::uint64_t size_bytes,
                      std::span<block::Extent> out) const noexcept override;

 private:
  int perform(block::Request& request);
  void finish(block::Request& request);

  block::Geometry geometry_;
  std::vector<std::byte> bytes_;
  mutable std::mutex mutex_;
  std::condition_variable held_changed_;
  bool holding_ = false;
  std::vector<block::Request*> held_;
  std::map<block::Op, int> failures_;
  std::map<block::Op, std::size_t> counts_;
  std::size_t fua_count_ = 0;
};

}  // namespace umbra::test
