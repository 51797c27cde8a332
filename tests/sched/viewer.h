// SPDX-License-Identifier: Apache-2.0
//
// A reader of a snapshot by its view, under the scheduler: the production reader and writer of
// views over the rig's disks, with others going on around each read.
#pragma once

#include <memory>

#include "engine/platform/aligned.h"
#include "engine/shm/view_reader.h"
#include "provider/frontend/shm/view_writer.h"
#include "tests/sched/rig.h"

namespace umbra::test::sched {

class Viewer final : public shm::Storage {
 public:
  Viewer(Rig& rig, const SnapshotId& snapshot);

  /// Compares with the oracle; complains to the rig. `may_end`: being told so is right as well.
  void read_back(bool may_end = false);

  int read_origin(std::uint64_t offset_bytes, std::span<std::byte> out) noexcept override;
  int read_diff_area(std::uint64_t offset_bytes, std::span<std::byte> out) noexcept override;
  bool is_alive() noexcept override { return true; }

 private:
  Rig& rig_;
  Image wanted_;
  AlignedBuffer memory_;
  std::shared_ptr<shm::ViewWriter> writer_;
  std::unique_ptr<cow::HomeWatch> watch_;
};

}  // namespace umbra::test::sched
