// SPDX-License-Identifier: Apache-2.0
//
// Where "this snapshot is lost" goes when the diff area cannot take it: durable at once, unless it
// is told to fail.
#pragma once

#include <map>
#include <vector>

#include "provider/cow/volume.h"
#include "tests/support/sim_disk.h"

namespace umbra::test {

class MemoryLostStore final : public cow::LostStore {
 public:
  Status add(const VolumeId& volume, std::span<const SnapshotId> snapshots) override {
    if (failing || (machine != nullptr && !machine->powered()))
      return fail(Errc::io_error, "as asked");
    lost[volume].insert(lost[volume].end(), snapshots.begin(), snapshots.end());
    return {};
  }
  Result<std::vector<SnapshotId>> list(const VolumeId& volume) override { return lost[volume]; }

  std::map<VolumeId, std::vector<SnapshotId>> lost;
  bool failing = false;
  const SimMachine* machine = nullptr;  // Without power nothing is recorded either.
};

}  // namespace umbra::test
