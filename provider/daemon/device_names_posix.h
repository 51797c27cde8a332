// SPDX-License-Identifier: Apache-2.0
//
// A lasting name for the block device of a live volume: RUN/dev/NAME, a link to it. What goes into
// /etc/fstab, since the device's own number changes with every start; it needs no udev.

#pragma once

#include <set>
#include <string>

#include "umbra/result.h"

namespace umbra::cowd {

/// Threads: one call at a time.
class DeviceNames {
 public:
  explicit DeviceNames(std::string run_dir) : directory_(std::move(run_dir) + "/dev") {}
  /// The name leads to the device, and to nothing else in between. Errors: io_error.
  [[nodiscard]] Status set(const std::string& name, const std::string& device_path) const;
  /// A missing one is no error.
  void remove(const std::string& name) const;
  /// What a former process left goes.
  void keep_only(const std::set<std::string>& names) const;

 private:
  std::string directory_;
};

}  // namespace umbra::cowd
