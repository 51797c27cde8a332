// SPDX-License-Identifier: Apache-2.0
//
// What the file system of a diff area's file can still give, less what a sparse origin on the same
// file system may still want.

#pragma once

#include <string>

#include "provider/cow/volume.h"

namespace umbra::cowd {

/// Threads: any. Not for what lies on a volume that this process serves: asking may wait for it.
class FileHostSpace final : public cow::HostSpace {
 public:
  FileHostSpace(std::string diff_path, std::string origin_path)
      : diff_path_(std::move(diff_path)), origin_path_(std::move(origin_path)) {}
  /// Errors: io_error (also for a diff area that is a block device: there is no host to ask).
  [[nodiscard]] Result<cow::HostRoom> room() override;

 private:
  const std::string diff_path_;
  const std::string origin_path_;
};

}  // namespace umbra::cowd
