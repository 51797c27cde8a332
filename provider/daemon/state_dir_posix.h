// SPDX-License-Identifier: Apache-2.0
//
// The state directory: what must survive a restart of the machine and is not in a diff area.
//
//   volumes/ID.json   one attached volume (volume_config.h)
//   lost/ID.json      its snapshots that are lost although the diff area could not say so
//
// A file is replaced as a whole: written beside, synced, renamed over, directory synced. So it has
// the old content or the new one after any crash; what a crash leaves beside (*.new) is removed at
// the next start. Files that are not understood are reported and never touched.

#pragma once

#include <memory>
#include <mutex>
#include <string>

#include "provider/cow/volume.h"
#include "provider/daemon/ports.h"

namespace umbra::cowd {

/// Threads: every member from any thread; calls block for the disk.
class StateDir final : public ConfigStore, public cow::LostStore {
 public:
  /// Makes the directory (mode 0700) and its folders if they are missing. Errors: access_denied;
  /// io_error.
  [[nodiscard]] static Result<std::unique_ptr<StateDir>> open(const std::string& directory);

  [[nodiscard]] Result<Loaded> load() override;
  [[nodiscard]] Status save(const VolumeConfig& config) override;
  [[nodiscard]] Status forget(const VolumeId& volume) override;

  [[nodiscard]] Status add(const VolumeId& volume, std::span<const SnapshotId> snapshots) override;
  [[nodiscard]] Result<std::vector<SnapshotId>> list(const VolumeId& volume) override;

 private:
  explicit StateDir(std::string directory) : directory_(std::move(directory)) {}
  [[nodiscard]] std::string config_path(const VolumeId& volume) const;
  [[nodiscard]] std::string lost_path(const VolumeId& volume) const;
  [[nodiscard]] Result<std::vector<SnapshotId>> read_lost(const VolumeId& volume) const;

  std::string directory_;
  std::mutex mutex_;
};

}  // namespace umbra::cowd
