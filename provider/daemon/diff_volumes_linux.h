// SPDX-License-Identifier: Apache-2.0
//
// What diff areas lie on, and where one could be made: mounted file systems and block devices.
//
// Nothing that a FUSE server may serve is touched (system_view_linux.h says why): of() reads the
// mount table only, and all() leaves out file systems that stand on a volume of ours or on a file
// in a FUSE mount. File systems without a block device are left out too, but for overlay, which
// containers have as their root.

#pragma once

#include <string>
#include <utility>
#include <vector>

#include "provider/contract/ports.h"

namespace umbra::cowd {

class LinuxDiffVolumes final : public contract::DiffVolumes {
 public:
  /// `own_directory`: the run directory, from which our volumes are served.
  explicit LinuxDiffVolumes(std::string own_directory) : own_directory_(std::move(own_directory)) {}

  [[nodiscard]] Result<contract::DiffVolume> of(const std::string& path) const override;
  [[nodiscard]] Result<std::vector<contract::DiffVolume>> all() const override;

 private:
  std::string own_directory_;
};

}  // namespace umbra::cowd
